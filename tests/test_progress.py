"""The moving line in a terminal, in a pipe and in Jupyter, and the table left behind."""

import io
import sys
import types

import IPython.display
import pytest

from vae_lessons import progress
from vae_lessons.progress import Progress, in_notebook, markdown_table, text_table, time_left


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """A clock that only moves when told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def in_terminal(monkeypatch):
    """A terminal as standard output; a fixture's would be replaced before the test begins."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    return sys.stdout


@pytest.fixture
def outputs(monkeypatch):
    """The displays of a Jupyter front end: a list of what each of them has shown."""
    shown = []

    class Handle:
        def __init__(self, first):
            self.history = [first.data]
            shown.append(self.history)

        def update(self, thing):
            self.history.append(thing.data)

    def display(thing, display_id=False):
        assert display_id, "without an id the output could not be replaced"
        return Handle(thing)

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    return shown


def test_in_a_terminal_the_line_is_overwritten(monkeypatch, clock):
    terminal = in_terminal(monkeypatch)
    line = Progress(10)
    clock.now += 6
    line.show(2, "epoch 1 of 5")
    assert terminal.getvalue() == "\r\033[Kepoch 1 of 5, 24 s left"
    line.show(8, "epoch 4 of 5")
    assert terminal.getvalue().endswith("\r\033[Kepoch 4 of 5, 2 s left")
    assert "\n" not in terminal.getvalue()
    line.finish("done")
    assert terminal.getvalue().endswith("\r\033[Kdone\n")


def test_in_a_pipe_only_the_end_remains(capsys, clock):
    line = Progress(10)
    clock.now += 6
    line.show(2, "epoch 1 of 5")
    line.finish("done", "**done**")
    assert capsys.readouterr().out == "done\n"


def test_in_jupyter_both_share_one_output(outputs, clock, capsys):
    line = Progress(10)
    clock.now += 6
    line.show(2, "epoch 1 of 5")
    line.finish("done", "**done**")
    assert outputs == [["starting", "epoch 1 of 5, 24 s left", "**done**"]]
    assert capsys.readouterr().out == ""


def test_in_jupyter_text_is_good_enough_where_there_is_no_markdown(outputs):
    Progress(1).finish("done")
    assert outputs == [["starting", "done"]]


def test_before_the_first_step_nothing_is_divided_by_zero(monkeypatch, clock):
    terminal = in_terminal(monkeypatch)
    line = Progress(3)
    clock.now += 2
    line.show(0, "loading")
    assert terminal.getvalue().endswith("loading, 6 s left")


def test_due_twice_a_second_at_most(clock):
    line = Progress(3)
    assert not line.due()
    clock.now += 0.4
    assert not line.due()
    clock.now += 0.2
    assert line.due()
    line.show(1, "text")
    assert not line.due()


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 s left"), (41.4, "41 s left"), (59.4, "59 s left"), (59.6, "1 min 00 s left"),
    (125, "2 min 05 s left"), (3600, "60 min 00 s left"),
])
def test_time_left(seconds, text):
    assert time_left(seconds) == text


def fake_ipython(shell):
    return types.SimpleNamespace(get_ipython=lambda: shell)


@pytest.mark.parametrize(("module", "answer"), [
    (None, False),  # IPython was never imported
    (fake_ipython(None), False),  # imported by a plain program
    (fake_ipython(types.SimpleNamespace()), False),  # IPython in a terminal
    (fake_ipython(types.SimpleNamespace(kernel=1)), True),
])
def test_in_notebook(monkeypatch, module, answer):
    monkeypatch.setitem(sys.modules, "IPython", module)
    assert in_notebook() is answer


HEADER, ROWS = ["epoch", "KL"], [["1", "3.25"], ["10", "12.50"]]


def test_markdown_table():
    assert markdown_table(HEADER, ROWS).splitlines() == [
        "| epoch | KL |", "| ---: | ---: |", "| 1 | 3.25 |", "| 10 | 12.50 |"]


def test_text_table():
    assert text_table(HEADER, ROWS).splitlines() == [
        "epoch     KL", "    1   3.25", "   10  12.50"]


def test_tables_without_rows():
    assert text_table(HEADER, []) == "epoch  KL"
    assert markdown_table(HEADER, []).count("\n") == 1
