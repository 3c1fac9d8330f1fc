"""The rules that every notebook keeps, so that it reads well in the book, Jupyter and Colab."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci"))

import notebooks  # noqa: E402
import strip  # noqa: E402

WORDS = [path.relative_to(ROOT / "book").with_suffix("").as_posix() for path in notebooks.paths()]
PAGES = sorted(path.stem for path in (ROOT / "book").glob("*.md"))
LONGEST_CELL = 15
every_notebook = pytest.mark.parametrize("word", WORDS)


def path_of(word):
    return ROOT / "book" / f"{word}.ipynb"


def cells_of(word):
    return code_cells(path_of(word))


def code_cells(path):
    return [cell for cell in notebooks.read(path)["cells"] if cell["cell_type"] == "code"]


def code_of(word):
    """All the code of a notebook but its set-up, as a syntax tree."""
    lines = "\n".join(notebooks.source(cell) for cell in cells_of(word)[1:]).splitlines()
    return ast.parse("\n".join(line for line in lines if not line.lstrip().startswith(("%", "!"))))


def test_the_contents_name_every_page_once():
    text = (ROOT / "_toc.yml").read_text()
    parts = yaml.safe_load(text)
    listed = [chapter["file"] for part in parts["parts"] for chapter in part["chapters"]]
    there = [f"book/{word}" for word in WORDS + PAGES]
    assert sorted([parts["root"], *listed]) == sorted(there)


@every_notebook
def test_stored_without_results_and_as_jupyter_stores_it(word):
    text = path_of(word).read_text(encoding="utf-8")
    clean = notebooks.written(strip.stripped(notebooks.read(path_of(word))))
    assert text == clean, "run `make strip`"


@every_notebook
def test_cell_ids_are_words(word):
    ids = [cell["id"] for cell in notebooks.read(path_of(word))["cells"]]
    assert len(set(ids)) == len(ids)
    strange = [each for each in ids if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", each)]
    random = [each for each in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]{27})?", each)]
    assert not strange + random, "give each cell a name that says what it is for"


@every_notebook
def test_first_cell_is_the_set_up_for_colab(word):
    first = notebooks.read(path_of(word))["cells"][0]
    assert (first["cell_type"], first["id"]) == ("code", "setup")
    assert first["metadata"] == {"tags": ["remove-cell"]}
    assert notebooks.source(first) == notebooks.setup_source(), "run .ci/repository.py"


@every_notebook
def test_cells_are_short(word):
    if word == "complete_implementation":
        pytest.skip("shows a whole program, which is its purpose")
    long = {cell["id"]: len(cell["source"]) for cell in cells_of(word)}
    longest = 2 * LONGEST_CELL if word.startswith("solutions/") else LONGEST_CELL
    assert not {name: size for name, size in long.items() if size > longest}


def package_names():
    """The public functions and classes of the package, with the module of each."""
    for path in sorted((ROOT / "vae_lessons").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name, path.stem


@every_notebook
def test_no_notebook_types_the_package_a_second_time(word):
    if "/" in word:
        pytest.skip("an exercise may ask for a function of the package")
    taught = {name for name, module in package_names() if module != "complete_implementation"}
    nodes = ast.walk(code_of(word))
    here = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not here & taught, "import it and show(...) it, so that the text cannot drift"


def draws(cell):
    """Whether a code cell puts a figure into the page."""
    return re.search(r"\bplt\.show\(|\bplots\.show_|^show_\w+\(", notebooks.source(cell), re.M)


@every_notebook
def test_figures_have_words_for_those_who_cannot_see_them(word):
    for cell in cells_of(word):
        about = cell["metadata"].get("mystnb", {})
        if draws(cell) or "figure" in about:
            assert about.get("image", {}).get("alt"), f"{cell['id']}: mystnb.image.alt is missing"


@every_notebook
def test_executed_figures_have_words_too(word):
    executed = ROOT / "_executed" / f"{word}.ipynb"
    if not executed.exists():
        pytest.skip("not executed yet")
    for cell, run in zip(cells_of(word), code_cells(executed)):
        data = [output.get("data", {}) for output in run["outputs"]]
        shown = [each for each in data if "image/png" in each]
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt")
        assert alt or not shown, f"{cell['id']}: mystnb.image.alt is missing"
        assert len(shown) <= 1, f"{cell['id']}: one figure a cell"


def test_the_address_is_none_or_one_on_github():
    address = notebooks.address()
    assert not address or re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address)
