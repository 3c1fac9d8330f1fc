"""Listings without docstrings, sentences, and claims that are checked."""

import ast
import inspect

import pytest

from vae_lessons import complete_implementation, kl, show, training, vae
from vae_lessons.show import claim, say, source_without_docstring


def plain(a, b=2):
    """One line."""
    # why it adds
    return a + b  # what it returns


def long(a):
    """A sentence that

    goes on for a while.
    """

    def inner(b):
        """An inner one."""
        return "\"\"\"no docstring\"\"\"" + b

    text = """a string, not

    a docstring"""

    return inner(a), text


class Both:
    """A class."""

    value = 1

    def method(self):
        """A method."""
        return self.value

    class Inside:
        """A class in a class."""

        def deep(self):
            """Deep."""


def no_docstring(a):
    return a


def nothing_else():
    """A docstring is all there is."""


@pytest.fixture
def shown(monkeypatch):
    cells = []
    monkeypatch.setattr(show, "display", lambda thing: cells.append(thing.data))
    return cells


def docstrings(source):
    kinds = ast.Module | ast.FunctionDef | ast.ClassDef
    return [ast.get_docstring(node) for node in ast.walk(ast.parse(source))
            if isinstance(node, kinds) and ast.get_docstring(node)]


def test_a_function_with_its_comments():
    assert source_without_docstring(plain) == (
        "def plain(a, b=2):\n    # why it adds\n    return a + b  # what it returns\n")


def test_only_docstrings_go():
    source = source_without_docstring(long)
    assert "goes on" not in source and "An inner one" not in source
    assert "no docstring" in source
    assert source.endswith('''
    text = """a string, not

    a docstring"""

    return inner(a), text
''')


def test_without_a_docstring_nothing_goes():
    assert source_without_docstring(no_docstring) == "def no_docstring(a):\n    return a\n"


def test_where_the_docstring_is_all_dots_remain():
    assert source_without_docstring(nothing_else) == "def nothing_else():\n    ...\n"


def test_a_class_and_what_it_holds():
    source = source_without_docstring(Both)
    assert [line.strip() for line in source.splitlines() if line.strip()] == [
        "class Both:", "value = 1", "def method(self):", "return self.value",
        "class Inside:", "def deep(self):", "..."]


def test_a_method_is_moved_to_the_margin():
    assert source_without_docstring(Both.method) == "def method(self):\n    return self.value\n"


PUBLIC = [thing for module in (complete_implementation, kl, show, training, vae)
          for name, thing in vars(module).items()
          if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__]


@pytest.mark.parametrize("thing", [long, Both, *PUBLIC], ids=lambda thing: thing.__name__)
def test_a_listing_is_the_code_without_docstrings(thing):
    """It parses, and differs from the original by its docstrings alone."""
    source = source_without_docstring(thing)
    assert docstrings(source) == []
    original = ast.parse(inspect.getsource(thing))
    for node in ast.walk(original):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            del node.body[0]
            node.body = node.body or [ast.Expr(ast.Constant(...))]
    assert ast.dump(ast.parse(source)) == ast.dump(original)


def test_show_makes_one_listing(shown):
    show.show(plain, no_docstring)
    (cell,) = shown
    assert cell.startswith("```python\ndef plain") and cell.endswith("    return a\n```")
    assert "\n\n\ndef no_docstring" in cell
    assert source_without_docstring(plain) in cell


def test_say(shown):
    say("The KL is **3.2** nats.")
    assert shown == ["The KL is **3.2** nats."]


def test_a_claim_that_holds(shown):
    claim("Water is wet.", True)
    claim("Fire is hot.", True, source="MNIST")
    assert shown == ["✓ *Checked:* Water is wet.", "✓ *Checked:* Fire is hot."]


def test_a_claim_that_does_not_hold(shown):
    with pytest.raises(AssertionError, match="Water is dry"):
        claim("Water is dry.", False)
    assert shown == []


@pytest.mark.parametrize("holds", [True, False])
def test_a_claim_about_other_data(shown, holds):
    claim("The error is 105 nats.", holds, source="drawn digits")
    (cell,) = shown
    assert cell.startswith("*Not checked, because these are drawn digits and not MNIST:*")
    assert cell.endswith("The error is 105 nats.")
