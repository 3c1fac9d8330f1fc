"""Set this folder up, without a network: python install.py

It installs the package of the book and Jupyter from the folder wheels/. PyTorch is not among
them: install torch and torchvision first, or put their wheels into that folder.
"""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / "environment"
CHECK = (
    "import torch; from vae_lessons import checks; from vae_lessons.data import load_digits; "
    "load_digits('test'); assert checks.kl_to_prior(lambda mu, log_var: "
    "0.5 * (mu**2 + log_var.exp() - log_var - 1).sum(1)).passed; "
    "print('PyTorch', torch.__version__, 'and the checks work.')"
)


def main():
    """Install and try; the exit status is 0 if all works."""
    fault = wrong_python() or no_torch()
    if fault:
        print(fault)
        return 2
    python = environment()
    wheels = ["--no-index", "--find-links", str(HERE / "wheels")]
    names = ["vae_lessons", "jupyterlab", *torch_in_wheels()]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wheels, *names], check=True)
    subprocess.run([python, "-c", CHECK], check=True, env=settings())
    print("Ready. Start Jupyter with: python start.py")
    return 0


def wrong_python():
    """What is wrong with this Python; the wheels fit one version and one kind of machine."""
    made_for = json.loads((HERE / "made_for.json").read_text())
    here = this_python()
    if here != made_for:
        return (f"The wheels are for Python {made_for['python']} on {made_for['platform']}; this "
                f"is Python {here['python']} on {here['platform']}. Use that Python, or make the "
                "archive anew on a machine like this one: make classroom.")


def this_python():
    """The version of this Python and the kind of machine."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": version, "platform": sysconfig.get_platform()}


def torch_in_wheels():
    """The names of torch and torchvision where their wheels lie in the folder."""
    names = ("torch", "torchvision")
    return [name for name in names if list((HERE / "wheels").glob(f"{name}-*.whl"))]


def no_torch():
    """What to do where PyTorch is neither installed nor among the wheels."""
    missing = [name for name in ("torch", "torchvision")
               if importlib.util.find_spec(name) is None and name not in torch_in_wheels()]
    if missing:
        return (f"{' and '.join(missing)} cannot be found. Install PyTorch for this Python first "
                "(https://pytorch.org/get-started), or put its wheels into the folder wheels/, on "
                "a machine with a network: pip download torch torchvision -d wheels")


def environment():
    """The Python to install into: the running environment, or one made beside this file."""
    if sys.prefix != sys.base_prefix:
        return sys.executable
    if not ENVIRONMENT.exists():
        venv.create(ENVIRONMENT, with_pip=True, system_site_packages=True)
    return str(python_of(ENVIRONMENT))


def python_of(folder):
    """The Python program of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def settings():
    """The environment variables with which the notebooks find the data in this folder."""
    return os.environ | {"VAE_LESSONS_DATA": str(HERE / "data")}


if __name__ == "__main__":
    sys.exit(main())
