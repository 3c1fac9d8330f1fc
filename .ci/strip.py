"""Store the notebooks without outputs, counts and what Jupyter or Colab added; cell ids stay."""

import exercises
import notebooks

KEPT = ("tags", "mystnb", "nbgrader")


def main():
    """Strip every notebook of the book."""
    for path in notebooks.paths():
        notebooks.write(path, stripped(notebooks.read(path)))
    exercises.main()
    print(f"{len(notebooks.paths())} notebooks hold no outputs and no run metadata.")


def stripped(notebook):
    """The notebook with nothing in it but what its author wrote."""
    for cell in notebook["cells"]:
        cell["metadata"] = {key: cell["metadata"][key] for key in KEPT if key in cell["metadata"]}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    notebook["metadata"] = notebooks.METADATA
    return notebook


if __name__ == "__main__":
    main()
