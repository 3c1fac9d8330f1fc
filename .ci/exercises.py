"""Make the students' exercises from the solutions: book/solutions/ -> book/exercises/.

The solutions are the source, in the format of nbgrader. As its `generate_assignment` does, this
puts a stub in the place of each solution and leaves the hidden tests out.
"""

import copy
import re
import sys

import notebooks

SOLUTION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION$.*?^ *### END SOLUTION$", re.MULTILINE | re.DOTALL
)
HIDDEN_TESTS = re.compile(
    r"^ *### BEGIN HIDDEN TESTS$.*?^ *### END HIDDEN TESTS$\n?", re.MULTILINE | re.DOTALL
)
STUB = r"\g<indent># YOUR CODE HERE\n\g<indent>raise NotImplementedError()"


def main():
    """Write the student's version of every solution, and remove those that have none."""
    folder = notebooks.ROOT / "book" / "exercises"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.ipynb"):
        if not source_of(path).exists():
            path.unlink()
    for path in sources():
        notebooks.write(folder / path.name, student_version(notebooks.read(path)))
    print(f"{len(sources())} exercise notebooks are in step with book/solutions/.")


def sources():
    """The notebooks with solutions."""
    return sorted((notebooks.ROOT / "book" / "solutions").glob("*.ipynb"))


def source_of(path):
    """The notebook with the solutions of an exercise notebook."""
    return notebooks.ROOT / "book" / "solutions" / path.name


def student_version(notebook):
    """The notebook with stubs for solutions and without hidden tests."""
    student = copy.deepcopy(notebook)
    for cell in student["cells"]:
        if cell["cell_type"] == "code":
            text = SOLUTION.sub(STUB, notebooks.source(cell))
            text = HIDDEN_TESTS.sub("", text).rstrip("\n")
            cell["source"] = text.splitlines(keepends=True)
    return student


if __name__ == "__main__":
    sys.exit(main())
