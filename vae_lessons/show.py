"""What a page says beside its figures: listings, sentences with numbers, checked claims."""

import ast
import inspect
import textwrap

from IPython.display import Markdown, display


def source_without_docstring(thing):
    """The source of a function or class as it stands in its file, docstrings left out."""
    source = textwrap.dedent(inspect.getsource(thing))
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            docstring, *rest = node.body
            for number in range(docstring.lineno - 1, docstring.end_lineno):
                lines[number] = None
            if not rest:  # a body must not be empty
                lines[docstring.lineno - 1] = " " * docstring.col_offset + "..."
    kept = [line for line in lines if line is not None]
    return "\n".join(kept).strip() + "\n"


def show(*things):
    """Displays the source of functions and classes as one highlighted listing."""
    listing = "\n\n".join(source_without_docstring(thing) for thing in things)
    display(Markdown(f"```python\n{listing}```"))


def say(text):
    """Displays a sentence in Markdown, with the numbers that a cell has just computed."""
    display(Markdown(text))


def claim(sentence, holds, *, source="MNIST"):
    """Displays a claim that the numbers bear out; raises AssertionError if they do not.

    Claims about MNIST are not asserted of other data: give ``source=digits.source``, and for
    anything but "MNIST" the claim is reported as not applicable.
    """
    if source != "MNIST":
        say(f"*Not checked, because these are {source} and not MNIST:* {sentence}")
        return
    assert holds, f"the chapter claims what its numbers do not show: {sentence}"
    say(f"✓ *Checked:* {sentence}")
