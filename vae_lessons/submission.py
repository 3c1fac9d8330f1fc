"""One notebook of a student: which exercises it holds, what its cells define, what checks say.

``answer_all`` is what the child process of ``grade`` runs. It executes the code cells in order
and goes on after an error, then puts each answer to its check, and reports every step before it
begins, so that the parent knows which one hangs.
"""

import json
import os
import re
import signal
import sys
import types
from typing import NamedTuple

import torch
from IPython.core.inputtransformer2 import TransformerManager

from vae_lessons import checks
from vae_lessons.checks.verdict import WRONG, Result

CHECKS = {name: each for name, each in vars(checks).items() if hasattr(each, "out_of")}
LARGEST_FILE = 50_000_000  # bytes of a notebook
NAMED = re.compile(r"\bchecks\.(\w+)|^(?:def|class) (\w+)", re.MULTILINE)
GIB = 2**30
# The first optimiser makes torch wrap some of its own functions, which is nobody's tampering.
torch.optim.Adam([torch.zeros(1, requires_grad=True)])


class Limits(NamedTuple):
    """What one notebook may use: seconds for a cell or check and in all, and GiB of memory."""

    step_seconds: float = 20.0
    seconds: float = 120.0
    memory: float = 4.0


def code_cells(path):
    """The text of every code cell of a notebook.

    Raises: ValueError that says what is wrong with the file.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError("The file is above 50 MB. Clear its outputs and hand it in again.")
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return ["".join(source) for source in code]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"This is no valid notebook ({type(error).__name__}). Open it in Jupyter, save it and "
            "hand it in again."
        ) from None


def exercises_in(cells):
    """The exercises of the group that most names in the code belong to, in their order.

    Raises: ValueError if the code names no exercise of the book.
    """
    found = [a or b for a, b in NAMED.findall("\n".join(cells))]
    groups = [CHECKS[name].__module__ for name in found if name in CHECKS]
    if not groups:
        raise ValueError("No exercise of the book is in it. Was another notebook handed in?")
    group = max(groups, key=groups.count)
    return [name for name, each in CHECKS.items() if each.__module__ == group]


def answer_all(cells, exercises, skip, limits, send):
    """Runs the cells and the checks but those in ``skip``; sends what happens to the parent.

    Sent are ("begins", step), ("changed", names) for a cell that alters the checks, ("result",
    exercise, Result) and ("end",); a step is the number of a cell or the name of an exercise.
    """
    _become_small(limits)
    namespace, errors, original = _fresh_namespace(), {}, _fingerprint()
    for number, text in enumerate(cells):
        if number not in skip:
            send(("begins", number))
            errors[number] = _run_cell(text, namespace)
            if changed := _changes(original):
                _restore(original)
                send(("changed", changed))
    for name in exercises:
        if name not in skip:
            send(("begins", name))
            result = _judged(name, namespace, cells, errors | skip)
            if changed := _changes(original):
                _restore(original)
                send(("changed", changed))
                result = not_graded(name, "Your code replaces a part of the checks.")
            send(("result", name, result))
    send(("end",))


def _judged(name, namespace, cells, errors):
    """What the check says of the answer of this name."""
    if name not in namespace:
        return not_graded(name, _why_missing(name, cells, errors))
    return CHECKS[name](namespace[name])


def _why_missing(name, cells, errors):
    for number, text in enumerate(cells):
        if errors.get(number) and re.search(rf"^(def|class) {name}\b", text, re.MULTILINE):
            return f"The cell of `{name}` did not run: {errors[number]}"
    return f"There is no `{name}` in the notebook. Was it renamed or removed?"


def not_graded(name, why):
    """The result of an exercise that no check could look at."""
    return Result(name, WRONG, why, 0, CHECKS[name].out_of)


# The process


def _become_small(limits):
    """A process group of its own, no output, and as little power as the system allows."""
    if hasattr(os, "setsid"):
        os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdin = sys.stdout = sys.stderr = os.fdopen(nowhere, "r+")
    os.environ["MPLBACKEND"] = "Agg"
    torch.set_num_threads(1)
    try:
        import resource
    except ImportError:  # Windows: the parent's clock is the only limit
        return
    cpu = int(limits.seconds) + 1
    for kind, most in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_DATA, int(limits.memory * GIB)),
        (resource.RLIMIT_FSIZE, 100_000_000),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a full file raises OSError instead


class _Shell:
    """Stands for IPython: lines with % or ! do nothing, the body of a %% cell runs."""

    def __init__(self, namespace):
        self.namespace = namespace

    def run_cell_magic(self, name, line, body):
        if name in ("time", "timeit", "capture", "prun"):
            _execute(body, self.namespace)

    def __getattr__(self, name):
        return lambda *inputs, **named: None


def _fresh_namespace():
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = vars(module)
    shell = _Shell(namespace)
    namespace["get_ipython"] = lambda: shell
    exec("from IPython.display import display", namespace)
    return namespace


def _run_cell(text, namespace):
    """None, or the error of the cell in one line."""
    try:
        _execute(text, namespace)
    except BaseException as error:  # exit() and interrupts as well: they are the student's own
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def _execute(text, namespace):
    code = TransformerManager().transform_cell(text)
    exec(compile(code, "the cell", "exec"), namespace)


# Whether the checks are still what they were


def _fingerprint():
    """All that the checks consist of: (place, name) -> (object, code of a function)."""
    places = [module for name, module in sys.modules.items() if name.startswith("vae_lessons.")]
    places += [torch, torch.Tensor, torch.distributions, torch.nn.functional, torch.testing, Result]
    return {
        (place, name): (value, getattr(value, "__code__", None))
        for place in places for name, value in list(vars(place).items())
        if name not in ("__builtins__", "__warningregistry__")
    }


def _changes(original):
    """The names of what is no longer as it was."""
    changed = []
    for (place, name), (value, code) in original.items():
        now = vars(place).get(name)
        if now is not value or getattr(now, "__code__", None) is not code:
            changed.append(f"{getattr(place, '__name__', place)}.{name}")
    return changed[:3]


def _restore(original):
    for (place, name), (value, code) in original.items():
        if vars(place).get(name) is not value:
            setattr(place, name, value)
        if code is not None and getattr(value, "__code__", None) is not code:
            value.__code__ = code
