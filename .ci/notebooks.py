"""How the book's notebooks are stored, and the set-up cell that each begins with."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "_config.yml"
ADDRESS = re.compile(r'^  url: "(.*)"$', re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# %pip leaves alone whatever is new enough already, so Colab keeps the torch that it ships.
SETUP = """\
# Set-up for Colab: installs vae_lessons where it is missing, and changes nothing else.
import importlib.util
from pathlib import Path

if importlib.util.find_spec("vae_lessons") is None:
    address = "{address}"
    wheels = [str(path) for path in Path().glob("vae_lessons-*.whl")]
    if not (wheels or address):
        raise ModuleNotFoundError(
            "This copy of the book has no public address yet, so vae_lessons cannot be fetched. "
            "Run `make wheel` where the book lies, upload the file it names here (Colab: Files), "
            "and run this cell again. Or set the address: `make repository URL=...`."
        )
    %pip install --quiet {{wheels[-1] if wheels else "git+" + address}}"""


def paths():
    """The book's notebooks: chapters, exercises and solutions."""
    folders = [ROOT / "book" / each for each in (".", "exercises", "solutions")]
    return sorted(path for folder in folders for path in folder.glob("*.ipynb"))


def read(path):
    """The content of a notebook file."""
    return json.loads(path.read_text(encoding="utf-8"))


def written(notebook):
    """The text of a notebook file, as Jupyter itself would store it."""
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def write(path, notebook):
    """Store a notebook where its text has changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != written(notebook):
        path.write_text(written(notebook), encoding="utf-8", newline="\n")


def address():
    """The public address of the book, from _config.yml; empty while there is none."""
    return ADDRESS.search(CONFIG.read_text(encoding="utf-8"))[1]


def setup_source():
    """The text of the set-up cell, with the book's address."""
    return SETUP.format(address=address())


def source(cell):
    """The text of a cell."""
    return "".join(cell["source"])
