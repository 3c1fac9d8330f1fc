# `make` alone says what there is. Everything is made inside this folder.
PYTHON ?= python3
TORCH ?=
URL ?=
SOLUTIONS ?= yes
RUN = .venv/bin/python

.PHONY: help book test wheel classroom repository strip clean distclean

help:
	@echo 'make book         run the notebooks and build the book: _build/html/index.html'
	@echo 'make test         run the tests and the notebooks'
	@echo 'make wheel        build the package for uploading to Colab: dist/'
	@echo 'make classroom    pack the book, its notebooks and wheels for a room without a network'
	@echo 'make repository URL=https://github.com/owner/name'
	@echo '                  set the public address of this copy of the book'
	@echo 'make strip        remove outputs from the notebooks, after editing them in Jupyter'
	@echo 'make clean        remove what was made, but for the environment'
	@echo 'make distclean    remove the environment as well'
	@echo
	@echo 'The first run of book or test makes the environment .venv (Python 3.11 to 3.14;'
	@echo 'up to 6 GB). Options: PYTHON=python3.12 uses that Python; TORCH=cpu installs the'
	@echo 'smaller PyTorch without GPU support. make book SOLUTIONS=no leaves out the pages with'
	@echo 'the solutions of the exercises.'

book: .venv/ready
	@$(RUN) .ci/execute.py
	@SOLUTIONS=$(SOLUTIONS) $(RUN) .ci/build.py

test: .venv/ready
	@echo 'Running the tests. This takes a minute or two.'
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2
	@$(RUN) .ci/execute.py

wheel: .venv/ready
	@$(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .
	@echo 'Upload this file to Colab:' && ls dist/*.whl

classroom: .venv/ready
	@$(RUN) .ci/execute.py
	@$(RUN) .ci/classroom.py

repository:
	@$(PYTHON) .ci/repository.py $(URL)

strip:
	@$(PYTHON) .ci/strip.py

clean:
	@rm -rf _build _executed build dist *.egg-info .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@echo 'Clean. The environment .venv stays (make distclean removes it too).'

distclean: clean
	@rm -rf .venv .cache
	@echo 'The environment is gone as well.'

.venv/ready: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. The book needs" \
		"Python 3.11 to 3.14; name yours, for example: make book PYTHON=python3.12"; exit 1; }
	@$(PYTHON) .ci/environment.py --torch=$(TORCH)
