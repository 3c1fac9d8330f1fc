"""Grading a folder: every kind of submission, the table, and going on after a stop."""

import csv
import json
import threading

import pytest

from vae_lessons import grade
from vae_lessons.checks.verdict import RIGHT, WRONG
from vae_lessons.grade import (
    LOOK,
    Row,
    Stopped,
    digest_of,
    find_notebooks,
    grade_file,
    grade_folder,
    grade_notebook,
    main,
    read_table,
    sort_rows,
    student_of,
    summary,
    write_table,
)
from vae_lessons.submission import Limits

LIMITS = Limits(step_seconds=20, seconds=60, memory=3)
HASTY = LIMITS._replace(step_seconds=2)  # for what never ends
HEAD = "def kl_to_prior(mu, log_var):\n    "
GOOD = HEAD + "return 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum(1)"


def notebook(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    code = [{"cell_type": "code", "source": text, "metadata": {}, "outputs": []} for text in cells]
    path.write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4}))
    return path


def graded(tmp_path, *cells):
    """The result of kl_to_prior in a notebook with these cells."""
    given = "import torch\nfrom vae_lessons import checks"
    path = notebook(tmp_path / "student.ipynb", given, *cells)
    limits = HASTY if "while True" in "".join(cells) else LIMITS
    results = {each.exercise: each for each in grade_notebook(path, limits)}
    return results["kl_to_prior"]


@pytest.mark.parametrize("cells", [
    [GOOD],
    ["1 / 0", GOOD],                                        # a cell that fails
    ["while True: pass", GOOD],                             # one that never ends
    ["exit()", GOOD, "raise SystemExit"],
    ["%matplotlib inline\n!false", "%%time\n" + GOOD],      # what only IPython understands
    ["for _ in range(1000): print('x' * 10_000)", GOOD],    # 10 MB
    [GOOD + "\nchecks = None"],                             # its own name, not ours
    ["torch.optim.Adam([torch.zeros(1, requires_grad=True)])", GOOD],  # makes torch wrap functions
    ["import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()\ndisplay(1)", GOOD],
])
def test_a_right_answer_counts_whatever_stands_around_it(tmp_path, cells):
    result = graded(tmp_path, *cells)
    assert (result.status, result.points, result.hint) == (RIGHT, 2, ""), result.hint


@pytest.mark.parametrize("cells, words", [
    (["checks.kl_to_prior(None)"], "no `kl_to_prior` in the notebook"),
    ([GOOD.replace("kl_to_prior", "my_kl"), "checks.kl_to_prior(1)"], "renamed or removed"),
    ([GOOD.replace("1)", "1")], "did not run: SyntaxError"),
    ([HEAD + "return -(mu**2 + log_var.exp() - log_var - 1).sum(1) / 2"], "negative"),
    ([HEAD + "while True: pass"], "did not end in 2 s"),
    ([HEAD + "import os; os._exit(3)"], "exit status 3"),
    ([HEAD + "import ctypes; ctypes.string_at(0)"], "SIGSEGV"),
    ([HEAD + "return bytearray(8 << 30)"], "MemoryError"),
    ([HEAD + "return input('x')"], "EOFError"),
    ([HEAD + "open('big', 'wb').write(bytes(200_000_000))"], "File too large"),
])
def test_a_wrong_one_costs_only_its_own_points(tmp_path, cells, words):
    result = graded(tmp_path, *cells)
    assert (result.status, result.points) == (WRONG, 0) and words in result.hint


@pytest.mark.parametrize("cells, name", [
    (["checks.kl_to_prior = lambda answer: True", HEAD + "return 1"], "checks.kl_to_prior"),
    (["from vae_lessons.checks import verdict as v",
      "v.compare.__code__ = (lambda a, b, c=None, *, tolerance=1, what='': None).__code__",
      HEAD + "return mu.sum(1)"], "verdict.compare"),
    ([HEAD + "import vae_lessons.checks.verdict as v\n    v.agree = lambda *a: True\n"
      "    return mu.sum(1)"], "verdict.agree"),
    ([HEAD + "torch.allclose = lambda *a, **k: True\n    return mu.sum(1)"], "torch.allclose"),
])
def test_who_rebinds_the_checks_gets_no_points_and_a_remark(tmp_path, cells, name):
    result = graded(tmp_path, *cells)
    assert (result.status, result.points) == (WRONG, 0)
    assert LOOK in result.hint and name in result.hint


def test_a_process_that_hangs_is_stopped_with_all_that_it_started(tmp_path):
    mark = tmp_path / "mark"
    graded(tmp_path, HEAD + f"""import subprocess, time
    subprocess.Popen(["sh", "-c", "sleep 4; touch {mark}"])
    while True: time.sleep(1)""")
    threading.Event().wait(3)
    assert not mark.exists()


def test_a_notebook_that_crashes_again_and_again_comes_to_an_end(tmp_path):
    cells = ["import os; os._exit(1)"] * 20 + [GOOD]
    result = graded(tmp_path, *cells)
    assert "crashed too often" in result.hint


def test_stops_at_once_when_asked(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "import time\ntime.sleep(60)", GOOD)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        grade_notebook(path, LIMITS, stop)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"cells": 3}', '{"cells": []}', "\xff"])
def test_what_is_no_notebook_has_one_row_that_says_so(tmp_path, content):
    path = tmp_path / "x.ipynb"
    path.write_text(content, encoding="latin-1")
    row, = grade_file(path, tmp_path, LIMITS, threading.Event())
    assert (row.student, row.exercise, row.status, row.out_of) == ("x", "", "not graded", 0)
    assert "hand it in again" in row.hint or "No exercise" in row.hint


def test_who_the_student_is(tmp_path):
    assert student_of(tmp_path / "ann.ipynb", tmp_path) == "ann"
    assert student_of(tmp_path / "bob" / "vae" / "kl.ipynb", tmp_path) == "bob"


def test_finds_notebooks_but_no_hidden_ones(tmp_path):
    for name in ("b.ipynb", "a/c.ipynb", "a/.ipynb_checkpoints/c.ipynb", "note.txt"):
        notebook(tmp_path / name)
    assert find_notebooks(tmp_path) == [tmp_path / "a/c.ipynb", tmp_path / "b.ipynb"]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_grade_is_said(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / name), "--out", str(tmp_path / "grades.csv")]) == 2
    assert name in capsys.readouterr().err and not (tmp_path / "grades.csv").exists()


def row(student="ann", points=2, hint="", exercise="kl_to_prior"):
    status = RIGHT if points else WRONG
    return Row(student, exercise, points, 2, status, hint, f"{student}.ipynb", "0123")


def test_the_table_comes_back_as_it_was_written(tmp_path):
    rows = [row("zoe"), row("ann", 0, 'a "hint", with σ\nand two lines')]
    write_table(tmp_path / "grades.csv", rows)
    assert read_table(tmp_path / "grades.csv") == sort_rows(rows) == rows[::-1]
    assert read_table(tmp_path / "none.csv") == []


def test_no_spreadsheet_takes_a_text_for_a_formula(tmp_path):
    write_table(tmp_path / "grades.csv", [row("=1+1", 0, "@x")])
    with open(tmp_path / "grades.csv", encoding="utf-8-sig", newline="") as file:
        line = list(csv.reader(file))[1]
    assert line[0] == "'=1+1" and line[5] == "'@x"


def test_another_table_is_not_overwritten(tmp_path):
    (tmp_path / "grades.csv").write_text("a,b\n1,2\n")
    notebook(tmp_path / "ann.ipynb", GOOD)
    assert main([str(tmp_path), "--out", str(tmp_path / "grades.csv")]) == 2
    assert (tmp_path / "grades.csv").read_text() == "a,b\n1,2\n"


def test_goes_on_where_it_was_and_grades_a_changed_notebook_again(tmp_path, monkeypatch, capsys):
    folder, out, asked = tmp_path / "in", tmp_path / "grades.csv", []
    for student in ("ann", "bob", "carl"):
        notebook(folder / f"{student}.ipynb", GOOD)

    def counted(path, folder, limits, stop):
        if path.stem == "bob" and not asked:
            raise KeyboardInterrupt
        asked.append(path.stem)
        return [row(path.stem)._replace(notebook=path.name, digest=digest_of(path))]

    monkeypatch.setattr(grade, "grade_file", counted)
    asked.append("carl")
    assert len(grade_folder(folder, out, 1, LIMITS)) == 3
    asked.clear()
    notebook(folder / "bob.ipynb", GOOD, "changed = 1")
    assert main([str(folder), "--out", str(out), "--jobs", "1"]) == 130  # stopped at bob
    assert "goes on" in capsys.readouterr().out
    asked.append("nobody")
    assert main([str(folder), "--out", str(out), "--jobs", "1"]) == 0
    assert asked == ["nobody", "bob"] and len(read_table(out)) == 3


def test_the_command_writes_table_and_summary(tmp_path, capsys):
    notebook(tmp_path / "in" / "ann" / "kl.ipynb", GOOD)
    (tmp_path / "in" / "bob.ipynb").write_text("no")
    out = tmp_path / "grades.csv"
    assert main([str(tmp_path / "in"), "--out", str(out), "--seconds", "30"]) == 0
    rows = read_table(out)
    assert [each for each in rows if each.exercise == "kl_to_prior"][0].points == 2
    assert out.with_suffix(".txt").read_text().strip() in capsys.readouterr().out


def test_the_summary_counts():
    rows = [row("ann"), row("bob", 0, "sign"), row("carl", 0, "sign"), row("dora", 0, "mean"),
            row("emil", 0, "stub")._replace(status="not attempted"),
            Row("fay", "", 0, 0, "not graded", "no notebook", "fay.ipynb", "1")]
    rows += [row("gus", 0, f"sign [{LOOK}: it replaces x.]")] * 2
    text = summary(rows)
    line = next(line for line in text.splitlines() if "kl_to_prior" in line)
    assert line.split() == ["kl_to_prior", "6", "1", "0.3", "of", "2", "sign"]
    assert text.startswith("7 students, 7 notebooks.") and "fay.ipynb: no notebook" in text
    assert text.count(f"  gus.ipynb: {LOOK}: it replaces x.") == 1


@pytest.mark.parametrize("option", ["--jobs", "--seconds", "--step-seconds", "--memory"])
def test_limits_are_above_zero(tmp_path, option):
    with pytest.raises(SystemExit):
        main([str(tmp_path), option, "0"])


def test_says_that_limits_are_no_sandbox(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "not a sandbox" in text and "docker run --rm --network none" in text
