"""The first cell of every notebook: what it does in Colab, and how its address is set."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci"))

import notebooks  # noqa: E402
import repository  # noqa: E402

ADDRESS = "https://github.com/someone/a-fork.of_it"


@pytest.fixture
def run_cell(monkeypatch, tmp_path):
    """Run the set-up cell in an empty folder; what it asked pip for, and the error it raised."""
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    asked = []
    shell.register_magic_function(asked.append, "line", "pip")

    def run(address, installed=False):
        found = object() if installed else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
        return asked, shell.run_cell(notebooks.SETUP.format(address=address)).error_in_exec

    return run


def test_does_nothing_where_the_package_is(run_cell):
    assert run_cell(ADDRESS, installed=True) == ([], None)


def test_installs_from_the_address(run_cell):
    assert run_cell(ADDRESS) == ([f"install --quiet git+{ADDRESS}"], None)


def test_installs_an_uploaded_wheel(run_cell):
    wheel = "vae_lessons-0.1.0-py3-none-any.whl"
    Path(wheel).touch()
    assert run_cell("") == ([f"install --quiet {wheel}"], None)


def test_says_what_to_do_where_there_is_neither(run_cell):
    asked, error = run_cell("")
    assert not asked and isinstance(error, ModuleNotFoundError)
    assert "make wheel" in str(error) and "make repository" in str(error)


@pytest.fixture
def copy_of_the_book(monkeypatch, tmp_path):
    """The settings and the notebooks, in a folder where they may be changed."""
    for path in [notebooks.CONFIG, *notebooks.paths()]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "CONFIG", tmp_path / "_config.yml")


def first_cells():
    return {notebooks.source(notebooks.read(path)["cells"][0]) for path in notebooks.paths()}


@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_an_address_is_set_everywhere(copy_of_the_book, ending):
    assert repository.main([ADDRESS + ending]) == 0
    assert notebooks.address() == ADDRESS
    assert first_cells() == {notebooks.SETUP.format(address=ADDRESS)}


@pytest.mark.parametrize("wrong", [[], [""], ["github.com/a/b"], ["https://example.org/a/b"]])
def test_what_is_no_address_changes_nothing(copy_of_the_book, wrong, capsys):
    before = notebooks.CONFIG.read_text(), first_cells()
    assert repository.main(wrong) != 0
    assert "URL=https://github.com/owner/name" in capsys.readouterr().out
    assert before == (notebooks.CONFIG.read_text(), first_cells())


def test_check_compares_and_advises(copy_of_the_book, capsys):
    assert repository.main([ADDRESS]) == 0
    assert repository.main(["--check", ADDRESS.upper()]) == 0
    assert repository.main(["--check", "https://github.com/else/where"]) == 1
    assert "make repository URL=https://github.com/else/where" in capsys.readouterr().out


def test_the_package_asks_for_lower_bounds_only():
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)[1]
    wanted = re.findall(r'"(.+)"', listed)
    assert wanted and all(re.fullmatch(r"[\w-]+>=[\d.]+", each) for each in wanted)
