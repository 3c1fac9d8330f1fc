"""Run every notebook whose result is out of date, once, and fill the book's cache with the results.

A result is out of date when the notebook's code, the package, the Python environment or the data
has changed since; prose can be edited without running anything. The executed copies lie in
_executed/, at the depth of book/, so that paths in them mean the same. They go into the cache that
`jupyter-book build .` reads, which alone would not notice a change in the package.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import nbformat
import notebooks
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from vae_lessons.data import load_digits
from vae_lessons.mnist import MnistUnavailable

ROOT = Path(__file__).resolve().parents[1]
BOOK, EXECUTED = ROOT / "book", ROOT / "_executed"
RECORD = EXECUTED / "keys.json"
CACHE = ROOT / "_build" / ".jupyter_cache"
WORKERS = 2
SECONDS_PER_CELL = 1200  # far more than any needs, so that a slow machine does not fail
# How warnings begin that Jupyter's own kernel causes when it starts, on Python 3.12 and later.
KERNEL_WARNINGS = ["There is no current event loop", "'asyncio."]
# These train models: started first, they do not keep one worker busy when the other is done.
LONGEST = [
    "compression", "anomaly_detection", "evaluation", "image_generation", "training", "conv_vae",
    "conditional_vae", "text", "hierarchical_vae", "vq_vae", "music", "beta_vae", "autoencoder",
    "iwae", "debugging",
]


def main():
    """Bring all results up to date; the exit status is that of pytest."""
    os.environ["VAE_LESSONS_SOURCE"] = source = data_source()
    keys = all_keys(sorted(notebooks.paths(), key=starting_order), source)
    remove_strangers(keys)
    stale = [name for name in keys if name not in finished(keys)]
    print(f"{len(stale)} of {len(keys)} notebooks have to be run with this code and data.")
    status = run(stale, keys) if stale else 0
    fill_cache(finished(keys))
    return status


def data_source():
    """The data that all notebooks use: found or fetched here, so that none of them waits for it."""
    try:
        return "mnist" if load_digits("train").source == "MNIST" else "drawn"
    except (MnistUnavailable, ValueError) as error:  # the reader asked for what cannot be had
        sys.exit(str(error))


def starting_order(path):
    """A sort key: the longest notebooks first, the others by name."""
    rank = LONGEST.index(path.stem) if path.stem in LONGEST else len(LONGEST)
    return rank, path.stem


def all_keys(paths, source):
    """A key for each notebook's name; it changes with all that the result depends on."""
    files = sorted(path for path in (ROOT / "vae_lessons").rglob("*.*") if path.suffix != ".pyc")
    package = [path.read_bytes() for path in files]
    versions = sorted({f"{each.name}=={each.version}" for each in distributions()})
    around = [platform.python_version(), source, *versions]
    shared = digest(*package, *(text.encode() for text in around))
    return {name_of(path): digest(code_text(path), shared.encode()) for path in paths}


def name_of(path):
    """Where a notebook lies in book/, as text."""
    return path.relative_to(BOOK).as_posix()


def code_text(path):
    """All code of a notebook, and the tags of its cells, as one byte string."""
    cells = [(cell.source, cell.metadata.get("tags")) for cell in code_cells(read(path))]
    return json.dumps(cells).encode()


def digest(*parts):
    """The SHA-256 of some byte strings, which cannot run into each other."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def finished(keys):
    """The names and keys of the results in _executed/ that are up to date."""
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return {name: key for name, key in recorded.items() if keys.get(name) == key}


def remove_strangers(keys):
    """Remove the results of notebooks that are gone."""
    EXECUTED.mkdir(exist_ok=True)
    for path in EXECUTED.rglob("*.ipynb"):
        if path.relative_to(EXECUTED).as_posix() not in keys:
            path.unlink()


def run(stale, keys):
    """Run these notebooks under pytest and record those that ran to their end."""
    print(f"Running them, {WORKERS} at a time. All of them take about 13 minutes.", flush=True)
    copies = {name: copied(name) for name in stale}
    try:
        command = pytest_command(copies.values())
        return subprocess.run(command, cwd=ROOT, env=strict_environment()).returncode
    finally:
        done = {name: keys[name] for name, path in copies.items() if ran_to_its_end(path)}
        RECORD.write_text(json.dumps(finished(keys) | done, indent=1, sort_keys=True))


def copied(name):
    """A copy of a notebook in _executed/, at the same depth."""
    (EXECUTED / name).parent.mkdir(exist_ok=True)
    return Path(shutil.copy(BOOK / name, EXECUTED / name))


def pytest_command(copies):
    """The command that executes the copies in place."""
    options = ["--nbmake", "--overwrite", f"--nbmake-timeout={SECONDS_PER_CELL}"]
    parallel = [f"-n{WORKERS}", "--dist=worksteal", "--durations=0", "--durations-min=1"]
    return [sys.executable, "-m", "pytest", *options, *parallel, *map(str, copies)]


def strict_environment():
    """The environment of a notebook: one thread, and warnings that would date the book fail."""
    kinds = ["DeprecationWarning", "FutureWarning", "UserWarning"]
    strict = [f"error::{kind}" for kind in kinds]
    filters = ",".join(strict + [f"ignore:{start}:DeprecationWarning" for start in KERNEL_WARNINGS])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": filters}


def ran_to_its_end(path):
    """Whether every code cell of an executed notebook has run."""
    cells = [cell for cell in code_cells(read(path)) if cell.source]
    return all(cell.execution_count for cell in cells) and not any(map(failed, cells))


def failed(cell):
    """Whether a cell ended in an error that it does not announce."""
    announced = "raises-exception" in cell.metadata.get("tags", [])
    return not announced and any(output.output_type == "error" for output in cell.outputs)


def fill_cache(names):
    """Put these results, and nothing else, into the cache of the book."""
    cache = get_cache(CACHE)
    cache.clear_cache()
    for name in sorted(names):
        bundle = CacheBundleIn(with_results(name), uri=str(BOOK / name))
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def with_results(name):
    """The notebook as it stands in book/, with the outputs of its executed copy."""
    notebook = read(BOOK / name)
    for cell, executed in zip(code_cells(notebook), code_cells(read(EXECUTED / name))):
        cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
    return notebook


def code_cells(notebook):
    """The code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def read(path):
    """The notebook in a file."""
    return nbformat.read(path, as_version=4)


if __name__ == "__main__":
    sys.exit(main())
