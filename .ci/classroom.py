"""Write one archive for a classroom without a network: dist/vae_classroom.zip

It holds the built book without the solutions, the notebooks, wheels for this machine's Python
and system (without PyTorch), MNIST if it is here, and the scripts of .ci/classroom/.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import build

from vae_lessons.mnist import data_folder

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / ".ci" / "classroom"
ARCHIVE = ROOT / "dist" / "vae_classroom"
LEFT_TO_THE_TEACHER = ("torch", "torchvision")


def main():
    """Build the pages without solutions, pack everything; the exit status is 0 if all is well."""
    os.environ["SOLUTIONS"] = "no"
    if status := build.main():
        return status
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder) / "vae_classroom"
        shutil.copytree(build.HTML, room / "book")
        shutil.copytree(SCRIPTS, room, dirs_exist_ok=True)
        copy_notebooks(room / "notebooks")
        copy_data(room / "data")
        collect_wheels(room / "wheels")
        made_for = {"python": f"{sys.version_info.major}.{sys.version_info.minor}",
                    "platform": sysconfig.get_platform()}
        (room / "made_for.json").write_text(json.dumps(made_for))
        archive = shutil.make_archive(str(ARCHIVE), "zip", folder, room.name)
    print(f"{archive}: {Path(archive).stat().st_size / 1e6:.0f} MB, without PyTorch and solutions.")
    print("The pages in _build/html have no solutions now; `make book` brings them back.")
    return 0


def copy_notebooks(target):
    """The chapters and the students' exercises, in the folders that their links know."""
    for path in (ROOT / "book").glob("*.ipynb"):
        target.mkdir(exist_ok=True)
        shutil.copy(path, target)
    shutil.copytree(ROOT / "book" / "exercises", target / "exercises")


def copy_data(target):
    """The archives of MNIST, as far as the cache has them."""
    for path in sorted((data_folder() / "MNIST" / "raw").glob("*.gz")):
        (target / "MNIST" / "raw").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / "MNIST" / "raw")
    if not target.exists():
        target.mkdir()
        print("MNIST is not in the cache, so the classroom will use drawn digits.")


def collect_wheels(target):
    """The package's own wheel, Jupyter, and all that both need but PyTorch."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(target), str(ROOT)], check=True)
    command = [*pip, "download", "--only-binary=:all:", "--dest", str(target)]
    subprocess.run([*command, "jupyterlab", "ipykernel", *needed()], check=True)


def needed():
    """What the package asks for, without PyTorch."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)[1]
    wanted = re.findall(r'"(.+)"', listed)
    return [each for each in wanted if re.split(r"[<>=]", each)[0] not in LEFT_TO_THE_TEACHER]


if __name__ == "__main__":
    sys.exit(main())
