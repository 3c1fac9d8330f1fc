"""Build the pages from notebooks that have been run (.ci/execute.py), and check what came out.

SOLUTIONS=no in the environment leaves out the solutions of the exercises.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import check_pages

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"


def main():
    """Build, check and say where the result lies; the exit status is 0 if all is well."""
    start = time.monotonic()
    print("Building the pages, with warnings as errors. This takes about a minute.", flush=True)
    shutil.rmtree(HTML, ignore_errors=True)  # no page of a chapter that is gone
    built = jupyter_book()
    if built.returncode:
        print(built.stdout)
        return built.returncode
    if "Executing notebook" in built.stdout:
        print("A notebook was run a second time: .ci/execute.py and the cache do not agree.")
        return 1
    status = check_pages.main()
    if not status:
        print(f"Built in {time.monotonic() - start:.0f} s. Open this file in a browser:")
        print(HTML / "index.html")
    return status


def jupyter_book():
    """Build all pages; the finished process, with all that it said."""
    program = Path(sys.executable).with_name("jupyter-book")
    strict = ["--warningiserror", "--keep-going", "--nitpick"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [str(program), "build", ".", "--all", "--toc", str(contents()), *strict]
    return subprocess.run(command, cwd=ROOT, **streams)


def contents():
    """The file with the order of the pages: _toc.yml, or a copy of it without the solutions."""
    whole = ROOT / "_toc.yml"
    if os.environ.get("SOLUTIONS") != "no":
        return whole
    text = whole.read_text(encoding="utf-8")
    start, end = (text.index(f"  - caption: {name}\n") for name in ("Solutions", "At the back"))
    shorter = ROOT / "_build" / "toc_without_solutions.yml"
    shorter.parent.mkdir(exist_ok=True)
    shorter.write_text(text[:start] + text[end:], encoding="utf-8")
    return shorter


if __name__ == "__main__":
    sys.exit(main())
