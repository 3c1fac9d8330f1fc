"""The exercise notebooks: made from the solutions, in nbgrader's format, each with its check."""

import re
import sys
from pathlib import Path

import pytest

from vae_lessons import checks

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci"))

import exercises  # noqa: E402
import notebooks  # noqa: E402

SOURCES = exercises.sources()
CHECKS = {name: each for name, each in vars(checks).items() if hasattr(each, "out_of")}
every_source = pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])


def graded(path):
    """The answer cell and the check cell of each exercise: name -> (source, source)."""
    cells = [cell for cell in notebooks.read(path)["cells"] if "nbgrader" in cell["metadata"]]
    pairs = zip(cells[::2], cells[1::2], strict=True)
    return {answer["metadata"]["nbgrader"]["grade_id"]: (answer, test) for answer, test in pairs}


def all_exercises():
    return [name for path in SOURCES for name in graded(path)]


@every_source
def test_the_students_version_is_in_step(path):
    stored = ROOT / "book" / "exercises" / path.name
    wanted = notebooks.written(exercises.student_version(notebooks.read(path)))
    assert stored.read_text(encoding="utf-8") == wanted, "run `make strip`"


def test_no_exercise_is_without_a_solution():
    stored = sorted((ROOT / "book" / "exercises").glob("*.ipynb"))
    assert [path.name for path in stored] == [path.name for path in SOURCES]


@every_source
def test_the_students_version_gives_nothing_away(path):
    for cell in exercises.student_version(notebooks.read(path))["cells"]:
        text = notebooks.source(cell)
        assert "SOLUTION" not in text and "HIDDEN" not in text, cell["id"]


@every_source
def test_every_exercise_has_an_answer_and_a_check(path):
    for name, (answer, test) in graded(path).items():
        about, of_test = answer["metadata"]["nbgrader"], test["metadata"]["nbgrader"]
        assert (about["solution"], about["grade"], about["locked"]) == (True, False, False)
        assert (of_test["solution"], of_test["grade"], of_test["locked"]) == (False, True, True)
        assert about["schema_version"] == of_test["schema_version"] == 3
        assert of_test["grade_id"] == f"check-{name}" and of_test["points"] == CHECKS[name].out_of
        assert re.search(rf"^(def|class) {name}\b", notebooks.source(answer), re.MULTILINE)
        assert "### BEGIN SOLUTION" in notebooks.source(answer)
        assert notebooks.source(test) == (
            f"### BEGIN HIDDEN TESTS\nassert checks.{name}({name}).passed\n"
            f"### END HIDDEN TESTS\nchecks.{name}({name})"
        )


def test_every_check_has_one_exercise():
    assert sorted(all_exercises()) == sorted(CHECKS)


@every_source
def test_a_notebook_and_its_checks_share_a_name(path):
    modules = {CHECKS[name].__module__ for name in graded(path)}
    assert modules == {f"vae_lessons.checks.{path.stem}"}


def test_the_page_for_teachers_names_exercises_that_are_there():
    text = (ROOT / "book" / "teaching.md").read_text()
    table = text[text.index("## What students get wrong"):text.index("## Grading")]
    named = re.findall(r"`(\w+)`", table)
    assert len(named) >= 15 and set(named) <= set(CHECKS)


def test_solutions_and_tests_are_cut_out_where_they_stand():
    cell = {"cell_type": "code", "source": (
        "def f(x):\n    \"\"\"Doc.\"\"\"\n    ### BEGIN SOLUTION\n    y = x\n    return y\n"
        "    ### END SOLUTION\n\n\ndef g(x):\n    ### BEGIN SOLUTION\n    return 1\n"
        "    ### END SOLUTION"
    )}
    made = exercises.student_version({"cells": [cell]})["cells"][0]
    stub = "    # YOUR CODE HERE\n    raise NotImplementedError()"
    assert "".join(made["source"]) == (
        f"def f(x):\n    \"\"\"Doc.\"\"\"\n{stub}\n\n\ndef g(x):\n{stub}"
    )
