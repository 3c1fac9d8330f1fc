"""Make the book's environment in .venv: python .ci/environment.py [--torch=cpu]

It is run by whatever Python the reader has, so it must start on an old one too, to say so.
"""

import os
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
READY = os.path.join(VENV, "ready")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main(arguments):
    """Make the environment or bring it up to date; the exit status is 0 if it is ready."""
    check_python()
    if not os.path.exists(READY):
        make_anew()
    else:
        os.remove(READY)  # until all is installed again
    print("Installing what the book needs. This takes 2 to 10 minutes and up to 6 GB, once.")
    sys.stdout.flush()
    if "--torch=cpu" in arguments:
        install("--index-url", CPU_INDEX, *torch_requirements())
    install("--requirement", "requirements.txt", "--editable", ".")
    open(READY, "w").close()


def check_python():
    """Stop with a sentence where this Python is not one that the book was tried on."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(
            "The book needs Python 3.11 to 3.14, and this one is %d.%d. If you have another, name "
            "it, for example: make book PYTHON=python3.12" % sys.version_info[:2]
        )


def make_anew():
    """Make an empty environment, also where an earlier attempt was interrupted."""
    print("Making the environment .venv with Python %d.%d." % sys.version_info[:2])
    sys.stdout.flush()
    shutil.rmtree(VENV, ignore_errors=True)
    if subprocess.call([sys.executable, "-m", "venv", VENV]):
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(
            "This Python cannot make a virtual environment. On Debian and Ubuntu, install what is "
            "missing with: sudo apt install python%d.%d-venv" % sys.version_info[:2]
        )


def install(*what):
    """Install with the environment's own pip, quietly."""
    folder = "Scripts" if os.name == "nt" else "bin"
    python = os.path.join(VENV, folder, "python")
    if subprocess.call([python, "-m", "pip", "install", "--quiet"] + list(what), cwd=ROOT):
        sys.exit("The installation failed, as said above. Run the same command again to go on.")


def torch_requirements():
    """The lines of requirements.txt that name torch and torchvision."""
    with open(os.path.join(ROOT, "requirements.txt")) as lines:
        return [line.strip() for line in lines if line.startswith("torch")]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("Interrupted. Run the same command again to go on.")
