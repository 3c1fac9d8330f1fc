"""Build the pages from notebooks that have been run (.ci/execute.py), and check what came out."""

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
    return subprocess.run([str(program), "build", ".", "--all", *strict], cwd=ROOT, **streams)


if __name__ == "__main__":
    sys.exit(main())
