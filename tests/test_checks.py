"""Every check, put to right answers of all kinds, to wrong ones, and to answers that misbehave."""

import importlib
from pathlib import Path

import pytest
import torch

from vae_lessons import checks
from vae_lessons.checks.verdict import NOT_ATTEMPTED, RIGHT, WRONG, Result

TABLES = {
    path.stem: importlib.import_module(f"mutants.{path.stem}")
    for path in sorted((Path(__file__).parent / "mutants").glob("*.py"))
}
KINDS = {
    "sign", "sum or mean", "axis", "shape", "gradient", "σ or variance", "scale", "term",
    "randomness", "stability", "order", "type", "value", "side effect",
}
CHECKS = {name: each for name, each in vars(checks).items() if hasattr(each, "out_of")}
RIGHT_ONES = [
    (name, each) for table in TABLES.values() for name, ways in table.RIGHT.items() for each in ways
]
WRONG_ONES = [
    (name, *row) for table in TABLES.values() for name, rows in table.WRONG.items() for row in rows
]
every_check = pytest.mark.parametrize("name", CHECKS)


@every_check
def test_has_right_answers_and_at_least_four_wrong_ones_of_different_kinds(name):
    assert name in {exercise for exercise, _ in RIGHT_ONES}, "give one written differently"
    kinds = [kind for exercise, kind, *_ in WRONG_ONES if exercise == name]
    assert len(kinds) >= 4 and len(set(kinds)) >= 2
    assert set(kinds) <= KINDS


def test_the_tables_name_no_check_that_is_not_there():
    assert {row[0] for row in RIGHT_ONES + WRONG_ONES} <= set(CHECKS)


@pytest.mark.parametrize("name, answer", RIGHT_ONES)
def test_lets_every_right_answer_through(name, answer):
    result = CHECKS[name](answer)
    assert result == Result(name, RIGHT, "", CHECKS[name].out_of, CHECKS[name].out_of), result


@pytest.mark.parametrize("name, kind, words, answer", WRONG_ONES)
def test_catches_every_wrong_answer_and_the_hint_fits(name, kind, words, answer):
    result = CHECKS[name](answer)
    assert result.status == WRONG and not result.passed and result.points == 0
    assert words in result.hint, result.hint


class Unfriendly:
    """Has no text, no truth value and no length."""

    def __repr__(self):
        raise RuntimeError("no text")

    __bool__ = __len__ = __repr__


def raises(error):
    def answer(*inputs, **named):
        raise error
    return answer


@every_check
@pytest.mark.parametrize("answer", [None, ..., raises(NotImplementedError())])
def test_an_empty_stub_is_not_attempted(name, answer):
    result = CHECKS[name](answer)
    assert (result.status, result.points) == (NOT_ATTEMPTED, 0) and result.hint


HOSTILE = {
    "a number": 3, "a text": "x", "no text": Unfriendly(), "a module": torch,
    "returns nothing": lambda *inputs, **named: None,
    "returns a text": lambda *inputs, **named: "x",
    "returns no text": lambda *inputs, **named: Unfriendly(),
    "returns its inputs": lambda *inputs, **named: inputs,
    "returns a nan": lambda *inputs, **named: torch.tensor(float("nan")),
    "returns nothing at all": lambda *inputs, **named: torch.zeros(0),
    "wants no arguments": lambda: 0,
    "divides by zero": lambda *inputs, **named: 1 / 0,
    "leaves": raises(SystemExit(0)),
    "runs out of memory": raises(MemoryError()),
    "calls itself": lambda *inputs, **named: HOSTILE["calls itself"](*inputs, **named),
}


@every_check
@pytest.mark.parametrize("kind", HOSTILE)
def test_never_raises(name, kind):
    result = CHECKS[name](HOSTILE[kind])
    assert result.status == WRONG and result.hint


@every_check
def test_leaves_the_random_state_and_gives_one_answer(name):
    answer = [each for exercise, each in RIGHT_ONES if exercise == name][0]
    before = torch.get_rng_state()
    assert CHECKS[name](answer) == CHECKS[name](answer)
    assert before.equal(torch.get_rng_state())


@every_check
def test_says_what_the_exercise_is(name):
    assert CHECKS[name].__doc__.startswith("Exercise: ") and CHECKS[name].__name__ == name
