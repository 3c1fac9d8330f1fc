"""What a check says, and the comparisons behind it."""

from fractions import Fraction

import pytest
import torch

from vae_lessons.checks.verdict import (
    NOT_ATTEMPTED,
    RIGHT,
    WRONG,
    Result,
    Wrong,
    agree,
    as_number,
    as_parts,
    as_tensor,
    as_tensors,
    ask,
    ask_with,
    check,
    compare,
    expect,
    expect_gradient,
    expect_seeded,
    steady,
)


def hint_of(got, wanted, *mistakes):
    with pytest.raises(Wrong) as error:
        compare(got, wanted, *mistakes)
    return str(error.value)


@check(points=3)
def double_it(answer):
    """Exercise: twice x."""
    expect(answer, (torch.randn(4),), lambda x: 2 * x, {"You add two.": lambda x: x + 2})


def test_a_result_shows_itself():
    right, wrong, empty = double_it(lambda x: x + x), double_it(lambda x: x), double_it(None)
    assert right == Result("double_it", RIGHT, "", 3, 3) and right.passed
    assert repr(right) == "✓ double_it: right (3 of 3 points)"
    assert "3 of 3 points" in right._repr_markdown_()
    assert (wrong.status, empty.status) == (WRONG, NOT_ATTEMPTED)
    assert repr(wrong) == f"✗ double_it: wrong. {wrong.hint}"
    assert repr(empty).startswith("· double_it: not attempted. Write")
    assert wrong.hint in wrong._repr_markdown_() and "Not attempted" in empty._repr_markdown_()


def test_an_error_of_the_answer_is_told():
    assert double_it({}.__getitem__).hint.startswith("Your code raised KeyError: ")
    assert "(without a message)" in double_it(lambda x: (_ for _ in ()).throw(ValueError())).hint
    assert "int (3)" in double_it(3).hint and "name only" in double_it(3).hint
    assert "`return` missing" in double_it(lambda x: None).hint


def fails_in_a_helper(x):
    keys = {}
    return helper(keys)


def helper(keys):
    return keys["key"]


def test_the_last_line_of_the_answers_own_code_is_named():
    number = helper.__code__.co_firstlineno + 1
    assert double_it(fails_in_a_helper).hint == (
        f"""Your code raised KeyError: 'key' (line {number}: `return keys["key"]`)""")
    assert double_it(lambda x: torch.ones(2) @ x).hint.endswith("`)")  # not a line of torch


def test_a_class_has_lines_of_its_own():
    class Answer:
        def __init__(self, x):
            raise ValueError("no")

    hint = double_it(Answer).hint
    assert hint.startswith("Your code raised ValueError: no (line ") and "raise ValueError" in hint


def test_code_without_lines_is_not_named():
    names = {}
    exec("def answer(x):\n    return 1 / 0", names)
    assert double_it(names["answer"]).hint == "Your code raised ZeroDivisionError: division by zero"


def test_an_error_of_torch_is_not_taken_for_an_empty_stub():
    def answer(x):
        raise NotImplementedError("not implemented for 'Byte'")  # as torch says of some types
    result = double_it(answer)
    assert result.status == WRONG and "NotImplementedError" in result.hint


def test_an_interrupt_is_not_swallowed():
    def answer(x):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        double_it(answer)


def test_an_answer_may_change_its_inputs():
    x = torch.ones(3)
    assert ask(lambda x: x.mul_(2), x).tolist() == [2, 2, 2] and x.tolist() == [1, 1, 1]
    assert double_it(lambda x: x.mul_(2)).passed


def test_an_answer_may_be_given_the_inputs_themselves():
    x = torch.ones(3)
    assert ask_with(lambda x: x.mul_(2), x) is x and x.tolist() == [2, 2, 2]
    with pytest.raises(Wrong, match="`return` missing"):
        ask_with(lambda x: None, x)


@pytest.mark.parametrize("value", [
    0.5, torch.tensor(0.5), torch.tensor([0.5], requires_grad=True), Fraction(1, 2),
    torch.tensor(0.5).numpy(),
])
def test_numbers_of_all_kinds_become_one(value):
    assert as_number(value) == 0.5 and as_tensor(value).numel() == 1


@pytest.mark.parametrize("value", ["x", None, {}, torch.ones(2), object()])
def test_what_is_no_number_is_wrong(value):
    with pytest.raises(Wrong, match="number is wanted for the loss"):
        as_number(value, "the loss")


def test_several_results_are_counted():
    assert as_parts((1, "x"), "a number", "a text") == [1, "x"]
    assert [each.tolist() for each in as_tensors([1.0, [2.0]], "one", "two")] == [1, [2]]
    with pytest.raises(Wrong, match="Return 2 results: mu, log_var. There are 3 in yours."):
        as_parts(torch.ones(3), "mu", "log_var")
    with pytest.raises(Wrong, match="Return 2 results: mu, log_var."):
        as_parts(3.0, "mu", "log_var")
    with pytest.raises(Wrong, match="tensor is wanted for log_var"):
        as_tensors((1.0, "x"), "mu", "log_var")


def test_draws_must_be_ruled_by_the_generator():
    def draws(generator):
        return torch.randn(3, generator=generator)

    def copies(generator):
        return draws(torch.Generator().manual_seed(generator.initial_seed()))

    assert torch.equal(expect_seeded(draws), draws(torch.Generator().manual_seed(1)))
    for draw, words in [
        (lambda generator: torch.randn(3), "same seed differ"),
        (lambda generator: torch.ones(3), "Is there a draw"),
        (copies, "one after the other"),
    ]:
        with pytest.raises(Wrong, match=words):
            expect_seeded(draw)


@pytest.mark.parametrize("value", [
    torch.ones(2), [1.0, 1.0], (1, 1), [torch.tensor(1.0), torch.tensor(1.0)],
    torch.ones(2).double().numpy(),
])
def test_numbers_of_all_kinds_become_a_tensor(value):
    assert as_tensor(value).tolist() == [1, 1]


@pytest.mark.parametrize("value", ["x", None, {}, [torch.ones(2), torch.ones(3)], object()])
def test_what_is_no_tensor_is_wrong(value):
    with pytest.raises(Wrong, match="tensor"):
        as_tensor(value)


def test_an_answer_that_draws_is_told_from_a_steady_one():
    x = torch.ones(3)
    assert steady(lambda x: x.mul_(2), x).tolist() == [2, 2, 2]
    assert steady(lambda x: x / 0 - x / 0, x).isnan().all()  # not random, only wrong
    with pytest.raises(Wrong, match="so it draws. There is an exact one."):
        steady(torch.randn_like, x)
    with pytest.raises(Wrong, match="so it draws. The luck is given."):
        steady(torch.randn_like, x, hint="The luck is given.")


def test_agreement_is_relative_for_large_values_and_absolute_for_small_ones():
    assert agree(torch.tensor([1000.0, 0.0]), torch.tensor([1000.05, 0.00005]))
    assert not agree(torch.tensor([1000.0]), torch.tensor([1000.5]))
    assert not agree(torch.tensor([0.0]), torch.tensor([0.001]))
    assert agree(torch.tensor([[2.0]]), torch.tensor(2.0))  # one number is one number
    assert not agree(torch.ones(1, 3), torch.ones(3))


def test_the_hint_of_a_usual_mistake_comes_first():
    hint = hint_of(torch.ones(3), 2 * torch.ones(3), {"half": torch.ones(3)})
    assert hint == "half"


@pytest.mark.parametrize("got, words", [
    (lambda x: -x, "sign"),
    (lambda x: x + 3, "one constant"),
    (lambda x: 0.5 * x, "one factor"),
    (lambda x: 0 * x, "are zero"),
    (lambda x: x.half(), "Near, but not exact"),
    (lambda x: x + 0.004 * x**2, "0 are right"),  # half a percent is another formula
    (lambda x: x[None], "shape of the result is (1, 6), but (6,)"),
    (lambda x: x / 0, "NaN or infinite"),
    (lambda x: x * (1 + 0j), "complex"),
    (lambda x: torch.cat([x[:4], x[4:] ** 2 + 7]), "4 are right. The first that is not"),
])
def test_what_differs_is_said(got, words):
    x = torch.linspace(0.5, 2, 6)
    assert words in hint_of(got(x), x)


def test_of_one_number_it_is_said_what_is_wanted():
    hint = hint_of(torch.tensor([0.5]), torch.tensor(2.0))
    assert hint == "For the result yours is 0.5, and 2 is wanted."


def test_of_one_number_many_times_no_constant_is_told():
    hint = hint_of(torch.full((5,), 0.5), torch.full((5,), 2.0))
    assert hint == "For the result yours is 0.5, and 2 is wanted."


def test_a_mistake_may_give_nan_in_some_places():
    x = torch.tensor([1.0, -2.0, 3.0])
    assert hint_of(x.log(), x, {"A logarithm too many.": x.log()}) == "A logarithm too many."
    assert "NaN" in hint_of(2 * x.log(), x, {"A logarithm too many.": x.log()})
    assert "NaN" in hint_of(x / 0 - x / 0, x, {"All is lost.": x / 0 - x / 0})


def test_gradients_are_compared():
    inputs = torch.randn(4), torch.randn(4)

    def truth(a, b):
        return a * b

    expect_gradient(lambda a, b: a.mul_(b), inputs, truth)
    with pytest.raises(Wrong, match="no gradient passes"):
        expect_gradient(lambda a, b: (a * b).detach(), inputs, truth)
    with pytest.raises(Wrong, match="value is right, but no gradient reaches b"):
        expect_gradient(lambda a, b: a * b.detach(), inputs, truth)
    with pytest.raises(Wrong, match="value is right; its gradient for a is not. Of 4"):
        expect_gradient(lambda a, b: a.detach() * b + 3 * a - 3 * a.detach(), inputs, truth)
    with pytest.raises(Wrong, match="reaches argument number 2"):
        expect_gradient(lambda a, b: a * b.detach(), inputs, lambda *both: truth(*both))
