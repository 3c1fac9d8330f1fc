"""What a check says of an answer, and how it finds that out.

A check is a function of one argument, the answer, which is a function or a class that a reader
wrote. It asks the answer about random inputs, compares with an oracle, and tries the usual
mistakes: where the answer agrees with one of them, the hint names it.
"""

import copy
import functools
import inspect
import linecache
import numbers
import traceback
import types
from typing import NamedTuple

import torch

RIGHT, WRONG, NOT_ATTEMPTED = "right", "wrong", "not attempted"


class Result(NamedTuple):
    """What a check says: ``status`` is "right", "wrong" or "not attempted".

    ``points`` are those earned, of ``out_of``.  It shows itself in a notebook.
    """

    exercise: str
    status: str
    hint: str
    points: int
    out_of: int

    @property
    def passed(self):
        """Whether the answer is right."""
        return self.status == RIGHT

    def __repr__(self):
        if self.passed:
            return f"✓ {self.exercise}: right ({self.points} of {self.out_of} points)"
        mark = "✗" if self.status == WRONG else "·"
        return f"{mark} {self.exercise}: {self.status}. {self.hint}"

    def _repr_markdown_(self):
        if self.passed:
            return f"**✓ Right.** `{self.exercise}`, {self.points} of {self.out_of} points."
        mark = "✗ Not yet right." if self.status == WRONG else "· Not attempted."
        return f"**{mark}** `{self.exercise}`: {self.hint}"


class Wrong(Exception):
    """The answer is wrong; the message is the hint."""


def check(points):
    """Makes a check of a function that raises ``Wrong(hint)`` for an answer that is wrong.

    The check returns a ``Result`` whatever the answer does, and leaves the random state of torch
    as it was. Its name is that of the exercise and of the answer.
    """
    def decorate(test):
        @functools.wraps(test)
        def judged(answer):
            status, hint = _status(test, answer)
            earned = points if status == RIGHT else 0
            return Result(test.__name__, status, hint, earned, points)

        judged.out_of = points
        return judged

    return decorate


def _status(test, answer):
    """The status and the hint; never an error, for it is the answer that is at fault."""
    if answer is None or answer is Ellipsis:
        return NOT_ATTEMPTED, "Write your answer in the cell above, then run both cells."
    if not callable(answer):
        return WRONG, f"The check wants a function, and got {_called(answer)}. Give its name only."
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            test(answer)
    except Wrong as wrong:
        return WRONG, str(wrong)
    except (Exception, SystemExit) as error:
        if isinstance(error, NotImplementedError) and not error.args:  # the stub has no message
            return NOT_ATTEMPTED, "Replace `raise NotImplementedError()` by your answer."
        place = _place(answer, error)
        return WRONG, f"Your code raised {type(error).__name__}: {_short(error)}{place}"
    return RIGHT, ""


def _short(error):
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "(without a message)"


def _place(answer, error):
    """The last line of the answer's own code that an error came through, or nothing."""
    parts = vars(answer).values() if isinstance(answer, type) else [answer]
    own = {each.__code__.co_filename for each in parts if isinstance(each, types.FunctionType)}
    lines = [(frame.f_code.co_filename, number) for frame, number in
             traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename in own]
    text = linecache.getline(*lines[-1]).strip() if lines else ""
    return f" (line {lines[-1][1]}: `{text[:80]}`)" if text else ""


def _called(value):
    """A value in words: its type, and what it is if that is a number or a text."""
    shown = f" ({value!r:.30})" if isinstance(value, int | float | str) else ""
    return f"something of type {type(value).__name__}{shown}"


def ask(answer, *inputs, **named):
    """What the answer gives for copies of the inputs, so that it may change them in place."""
    return ask_with(answer, *copy.deepcopy(inputs), **copy.deepcopy(named))


def ask_with(answer, *inputs, **named):
    """What the answer gives for these very inputs: a model that it trains, say, or a generator.

    Raises: Wrong if it gives nothing.
    """
    result = answer(*inputs, **named)
    if result is None:
        raise Wrong("Your function returns None. Is the `return` missing?")
    if result is Ellipsis:
        raise NotImplementedError
    return result


def as_tensor(value, what="the result"):
    """A number, an array, a list of numbers or of tensors, as one tensor.

    Raises: Wrong if it is none of these.
    """
    if isinstance(value, list | tuple) and value and all(map(torch.is_tensor, value)):
        shapes = {tuple(each.shape) for each in value}
        if len(shapes) > 1:
            raise Wrong(f"Return one tensor for {what}, not {len(value)} of different shapes.")
        return torch.stack(list(value))
    try:
        return torch.as_tensor(float(value) if isinstance(value, numbers.Rational) else value)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"A tensor is wanted for {what}, and yours is {_called(value)}.") from None


def as_number(value, what="the result"):
    """A number that may come as a tensor, an array or anything else, as a float.

    Raises: Wrong if it is none.
    """
    try:
        return float(value.detach() if torch.is_tensor(value) else value)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"A number is wanted for {what}, and yours is {_called(value)}.") from None


def as_parts(result, *names):
    """A result that should be several things, as a list of them, whatever they are.

    Raises: Wrong with ``names``, which say what is wanted, if there are more or fewer.
    """
    wanted = f"Return {len(names)} results: {', '.join(names)}."
    try:
        found = list(result)
    except TypeError:
        raise Wrong(wanted) from None
    if len(found) != len(names):
        raise Wrong(f"{wanted} There are {len(found)} in yours.")
    return found


def as_tensors(result, *names):
    """A result that should be several tensors, or numbers, as a list of tensors.

    Raises: Wrong if there are more or fewer than ``names``, or if one is no tensor.
    """
    found = as_parts(result, *names)
    return [as_tensor(each, name) for each, name in zip(found, names, strict=True)]


def expect_seeded(draw):
    """What ``draw`` gives for a new generator, once it is seen to be ruled by generators.

    The same seed gives the same, another seed something else, and so does a second call with the
    same generator, because the first has moved it on.

    Shapes: ``draw(generator)`` gives a tensor.
    Raises: Wrong if one of the three is not so.
    """
    def with_seed(seed):
        generator = torch.Generator().manual_seed(seed)
        return draw(generator), generator

    first, generator = with_seed(1)
    if not torch.equal(first, with_seed(1)[0]):
        raise Wrong("Two calls with the same seed differ. Does every draw come from `generator`?")
    if torch.equal(first, with_seed(2)[0]):
        raise Wrong("Another seed gives the same numbers. Is there a draw, and is it made with "
                    "`generator`, as it comes?")
    if torch.equal(first, draw(generator)):
        raise Wrong("Two calls one after the other with one generator give the same numbers. Draw "
                    "with `generator` itself and not with a copy of it, so that it moves on.")
    return first


def steady(answer, *inputs, hint="There is an exact one."):
    """The result as a tensor, for exercises whose answer should not draw.

    Raises: Wrong, with ``hint`` at its end, if a second call gives another result.
    """
    first, second = (as_tensor(ask(answer, *inputs)).detach() for _ in range(2))
    if first.shape == second.shape and first.isfinite().all() and not torch.equal(first, second):
        raise Wrong(f"Your answer differs from call to call, so it draws. {hint}")
    return first


def expect(answer, inputs, truth, mistakes=None, *, tolerance=1e-4, what="the result"):
    """Compares ``answer(*inputs)`` with ``truth(*inputs)``.

    ``mistakes`` maps a hint to a function that makes that mistake.
    Raises: Wrong with the hint of the mistake that the answer agrees with, or what differs.
    """
    got = as_tensor(ask(answer, *inputs), what)
    usual = {hint: of(*copy.deepcopy(inputs)) for hint, of in (mistakes or {}).items()}
    compare(got, truth(*copy.deepcopy(inputs)), usual, tolerance=tolerance, what=what)


def compare(got, wanted, mistakes=None, *, tolerance=1e-4, what="the result"):
    """Nothing if two results agree within ``tolerance``, relative where they are above 1.

    Shapes: any, but one of both; what has one element only may have any shape.
    ``mistakes`` maps a hint to the result of a mistake.
    Raises: Wrong with a hint.
    """
    got, wanted = as_tensor(got, what).detach(), as_tensor(wanted).detach()
    if agree(got, wanted, tolerance):
        return
    for hint, result in (mistakes or {}).items():
        if _agree_or_nan(got, as_tensor(result).detach(), tolerance):
            raise Wrong(hint)
    raise Wrong(_difference(got, wanted, tolerance, what))


def agree(got, wanted, tolerance=1e-4):
    """Whether two tensors have one shape and, within the tolerance, one content."""
    if got.numel() == wanted.numel() == 1:
        got, wanted = got.flatten(), wanted.flatten()
    if got.shape != wanted.shape or got.is_complex():
        return False
    return torch.allclose(got.double(), wanted.double(), rtol=tolerance, atol=tolerance)


def _agree_or_nan(got, mistake, tolerance):
    """Whether a result is that of a mistake which may give NaN, though not only NaN."""
    lost = mistake.isnan()
    if got.shape != mistake.shape or lost.all() or not torch.equal(got.isnan(), lost):
        return agree(got, mistake, tolerance)
    return agree(got[~lost], mistake[~lost], tolerance)


def _difference(got, wanted, tolerance, what):
    """What can be said of a wrong result without knowing the mistake."""
    if got.is_complex():
        return f"In {what} there are complex numbers; real ones are wanted."
    if got.numel() == wanted.numel() == 1:  # one number is one number
        got, wanted = got.flatten(), wanted.flatten()
    if got.shape != wanted.shape:
        return (f"The shape of {what} is {tuple(got.shape)}, but {tuple(wanted.shape)} is wanted. "
                "Over which axis do you sum, and which do you keep?")
    got, wanted = got.double(), wanted.double()
    if not got.isfinite().all():
        return f"In {what} there are NaN or infinite values, where finite ones are wanted."
    if agree(-got, wanted, tolerance):
        return f"The sign of {what} is wrong."
    if (got == got.flatten()[0]).all() and (wanted == wanted.flatten()[0]).all():
        got, wanted = got.flatten()[0], wanted.flatten()[0]  # one value, if perhaps many times
        return f"For {what} yours is {got.item():.4g}, and {wanted.item():.4g} is wanted."
    if not got.any():
        return f"All values of {what} are zero."
    if agree(got, wanted, min(20 * tolerance, 0.01)):
        return f"Near, but not exact: {what} is rounded, or computed by an approximation."
    if (got - wanted).std(correction=0) < tolerance * (1 + wanted.abs().mean()):
        return f"All values of {what} are off by one constant. Which term is missing, or too much?"
    ratio = (got * wanted).sum() / wanted.square().sum().clamp(min=1e-30)
    if agree(got, ratio * wanted, tolerance):
        return f"All values of {what} are off by one factor. Sum or mean? Is a half missing?"
    right = (got - wanted).abs() <= tolerance * (1 + wanted.abs())
    place = (~right).flatten().nonzero()[0].item()
    return (f"Of {right.numel()} values of {what} {int(right.sum())} are right. The first that is "
            f"not is {got.flatten()[place]:.4g}; {wanted.flatten()[place]:.4g} is wanted.")


def expect_gradient(answer, inputs, truth, tolerance=1e-3):
    """Compares the gradient of the answer's sum with that of the truth, for every input.

    The hints call an input as ``truth`` does.

    Shapes: inputs are floating tensors.
    Raises: Wrong if no gradient arrives, or another than that of ``truth``.
    """
    gradients = []
    for function in (answer, truth):
        leaves = [each.clone().requires_grad_() for each in inputs]
        copies = [leaf * 1 for leaf in leaves]  # the answer may change them in place
        value = as_tensor(function(*copies)).sum()
        if not value.requires_grad:
            raise Wrong("The value is right, but no gradient passes through it. Look for "
                        "`.item()`, `.detach()`, `.tolist()`, numpy, `torch.no_grad()`, "
                        "`torch.tensor(...)`, or a draw that hides its inputs.")
        gradients.append(torch.autograd.grad(value, leaves, allow_unused=True))
    for name, got, wanted in zip(_names(truth, len(inputs)), *gradients, strict=True):
        if wanted is None:
            continue
        if got is None or (got == 0).all() and not (wanted == 0).all():
            raise Wrong(f"The value is right, but no gradient reaches {name}. Look for "
                        "`.detach()`, or a draw that does not depend on it in the eyes of "
                        "autograd.")
        try:
            compare(got, wanted, tolerance=tolerance, what="this gradient")
        except Wrong as wrong:
            raise Wrong(f"The value is right; its gradient for {name} is not. {wrong}") from None


def _names(function, count):
    """What a function calls its first arguments; their numbers where it has no names for them."""
    named = [each.name for each in inspect.signature(function).parameters.values()
             if each.kind == each.POSITIONAL_OR_KEYWORD][:count]
    return named if len(named) == count else [f"argument number {n + 1}" for n in range(count)]
