"""The archive for a room without a network: what it holds, and what its scripts say."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".ci"))
sys.path.insert(0, str(ROOT / ".ci" / "classroom"))

import build  # noqa: E402
import classroom  # noqa: E402
import install  # noqa: E402


@pytest.fixture
def room(tmp_path):
    """An unpacked classroom without wheels."""
    shutil.copytree(ROOT / ".ci" / "classroom", tmp_path, dirs_exist_ok=True)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "made_for.json").write_text(json.dumps(install.this_python()))
    return tmp_path


def run_install(room, *options):
    command = [sys.executable, *options, str(room / "install.py")]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_wrong_python_is_told_before_anything_is_done(room):
    (room / "made_for.json").write_text('{"python": "3.1", "platform": "abacus"}')
    done = run_install(room)
    assert done.returncode == 2 and "for Python 3.1 on abacus" in done.stdout
    assert not (room / "environment").exists()


def test_missing_torch_is_told_before_anything_is_done(room):
    done = run_install(room, "-S")  # without the folder where torch is installed
    assert done.returncode == 2 and "torch and torchvision cannot be found" in done.stdout
    assert "pip download torch torchvision -d wheels" in done.stdout
    assert not (room / "environment").exists()


def test_wheels_of_torch_are_found(monkeypatch, room):
    monkeypatch.setattr(install, "HERE", room)
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    (room / "wheels" / "torch-2.14.0-cp311.whl").touch()
    assert install.torch_in_wheels() == ["torch"]
    assert install.no_torch().startswith("torchvision cannot be found")
    (room / "wheels" / "torchvision-0.29.0-cp311.whl").touch()
    assert install.no_torch() is None


def test_the_data_is_that_of_the_folder(monkeypatch, room):
    monkeypatch.setattr(install, "HERE", room)
    assert install.settings()["VAE_LESSONS_DATA"] == str(room / "data")


def test_torch_is_left_to_the_teacher_and_nothing_else():
    project = (ROOT / "pyproject.toml").read_text()
    wanted = classroom.needed()
    assert wanted and all(f'"{each}"' in project for each in wanted)
    assert not [each for each in wanted if each.startswith("torch")]
    assert {each.split(">=")[0] for each in wanted} >= {"numpy", "constriction", "matplotlib"}


def test_the_archive_has_no_solutions(monkeypatch, tmp_path):
    html = tmp_path / "html"
    html.mkdir()
    (html / "index.html").write_text("the book")
    monkeypatch.setattr(build, "HTML", html)
    monkeypatch.setattr(build, "main", lambda: 0)
    monkeypatch.setattr(classroom, "ARCHIVE", tmp_path / "room")
    monkeypatch.setattr(classroom, "collect_wheels", lambda target: target.mkdir())
    monkeypatch.setenv("SOLUTIONS", "yes")
    monkeypatch.setenv("VAE_LESSONS_DATA", str(tmp_path / "nothing"))
    assert classroom.main() == 0
    names = zipfile.ZipFile(tmp_path / "room.zip").namelist()
    for name in ("README.txt", "install.py", "start.py", "made_for.json", "book/index.html",
                 "notebooks/kl.ipynb", "notebooks/exercises/bugs.ipynb"):
        assert f"vae_classroom/{name}" in names
    assert not [name for name in names if "solutions" in name]


def test_the_contents_without_solutions(monkeypatch, tmp_path):
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setenv("SOLUTIONS", "yes")
    assert build.contents() == tmp_path / "_toc.yml"
    monkeypatch.setenv("SOLUTIONS", "no")
    text = build.contents().read_text()
    assert "solutions/" not in text and "exercises/bugs" in text and "book/glossary" in text
