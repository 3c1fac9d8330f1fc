"""A student's notebook: what is read of it and which exercises it holds."""

import json

import pytest

from vae_lessons.checks.verdict import WRONG
from vae_lessons.submission import CHECKS, Limits, answer_all, code_cells, exercises_in, not_graded


def test_code_cells_in_their_order(tmp_path):
    kinds = [("code", ["a\n", "b"]), ("markdown", "x"), ("code", "c")]
    cells = [{"cell_type": kind, "source": source} for kind, source in kinds]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    assert code_cells(tmp_path / "a.ipynb") == ["a\nb", "c"]


def test_a_huge_file_is_refused(tmp_path):
    with open(tmp_path / "a.ipynb", "wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(ValueError, match="50 MB"):
        code_cells(tmp_path / "a.ipynb")


def test_the_group_that_most_names_belong_to():
    group = exercises_in(["x = 1", "def kl_to_prior(mu):\n    pass", "checks.kl_to_prior(3)"])
    modules = {CHECKS[name].__module__ for name in group}
    assert "kl_to_prior" in group and modules == {"vae_lessons.checks.kl_and_likelihoods"}
    assert group == [name for name in CHECKS if CHECKS[name].__module__ in modules]


@pytest.mark.parametrize("cells", [[], ["def other(): pass"], ["x.checks_of"]])
def test_a_notebook_without_exercises_is_refused(cells):
    with pytest.raises(ValueError, match="No exercise"):
        exercises_in(cells)


def test_what_could_not_be_graded_has_no_points():
    result = not_graded("kl_to_prior", "why")
    assert (result.points, result.out_of, result.status, result.hint) == (0, 2, WRONG, "why")


def test_answer_all_is_run_in_a_child():
    assert callable(answer_all) and Limits().seconds > Limits().step_seconds  # see test_grade
