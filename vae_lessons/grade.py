"""Grades every notebook in a folder: ``python -m vae_lessons.grade FOLDER``.

Each notebook runs in a child process with limits on time, memory and files. That protects
against accidents: endless loops, crashes, full memories. It is not a sandbox: the code of a
student can read your files and use your network. For code that you do not trust, run the whole
command in a container without a network; the help text gives the command.
"""

import argparse
import contextlib
import csv
import hashlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from vae_lessons.checks.verdict import RIGHT, WRONG
from vae_lessons.progress import Progress, text_table
from vae_lessons.submission import (
    CHECKS,
    Limits,
    answer_all,
    code_cells,
    exercises_in,
    not_graded,
)

LOOK = "Look at this notebook"
MOST_CHILDREN = 12  # for one notebook: each cell or check that hangs or dies costs one
# A server that has imported everything once makes the children; Windows starts each anew.
CONTEXT = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
CONTEXT.set_forkserver_preload(["vae_lessons.submission"])
CONTAINER = """\
The limits are not a sandbox. For code that you do not trust, build an image with the package in
it and run, for example:

  docker run --rm --network none --memory 8g --cpus 4 --pids-limit 512 \\
    --mount type=bind,src=/path/to/FOLDER,dst=/submissions,readonly \\
    --mount type=bind,src=/path/to/RESULTS,dst=/results \\
    IMAGE python -m vae_lessons.grade /submissions --out /results/grades.csv
"""


class Row(NamedTuple):
    """One line of the table of grades."""

    student: str
    exercise: str
    points: int
    out_of: int
    status: str
    hint: str
    notebook: str
    digest: str


def find_notebooks(folder):
    """The notebooks in a folder and below, but for hidden ones and Jupyter's checkpoints.

    Raises: ValueError if there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Give the folder with the notebooks.")
    found = sorted(path for path in folder.rglob("*.ipynb") if path.is_file())
    found = [p for p in found if not any(x.startswith(".") for x in p.relative_to(folder).parts)]
    if not found:
        raise ValueError(f"{folder} holds no notebooks (files that end in .ipynb).")
    return found


def student_of(path, folder):
    """The first folder on the way to a notebook, or the notebook's own name."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else path.stem


def grade_notebook(path, limits, stop=None):
    """The results of one notebook's exercises, whatever its code does.

    ``stop`` is an event that ends the work early.
    Raises: ValueError if the file is no notebook with exercises of the book; Stopped.
    """
    cells = code_cells(path)
    exercises = exercises_in(cells)
    results, skip, changed = {}, {}, []
    end = time.monotonic() + limits.seconds
    for _ in range(MOST_CHILDREN):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
            child = _Child(cells, exercises, skip | results, limits, empty)
            step, why = child.follow(results, changed, end, stop or threading.Event())
        if step is None or time.monotonic() > end:
            break
        skip[step] = why
        if step in exercises:
            results[step] = not_graded(step, why)
    late = f"Not graded: the notebook crashed too often, or took over {limits.seconds:.0f} s."
    names = ", ".join(dict.fromkeys(changed))
    remark = f" [{LOOK}: it replaces {names}.]" if changed else ""
    ordered = [results.get(name) or not_graded(name, late) for name in exercises]
    return [result._replace(hint=(result.hint + remark).strip()) for result in ordered]


class Stopped(Exception):
    """The grading was stopped before this notebook was done."""


class _Child:
    """A process that runs a notebook, followed until it ends, hangs or dies."""

    def __init__(self, cells, exercises, skip, limits, empty):
        self.limits = limits
        self.news, theirs = CONTEXT.Pipe(duplex=False)
        work = (cells, exercises, skip, limits, empty, theirs)
        self.process = CONTEXT.Process(target=_run, args=work, daemon=True)
        self.process.start()
        theirs.close()

    def follow(self, results, changed, end, stop):
        """Collects the results; the step at which the child hangs or dies and why, or None."""
        step, late = None, end
        try:
            while True:
                kind, *about = self._next(late, stop)
                if kind == "end":
                    return None, ""
                if kind == "begins":
                    step, late = about[0], min(end, time.monotonic() + self.limits.step_seconds)
                elif kind == "result":
                    results[about[0]] = about[1]
                elif kind == "changed":
                    changed.extend(about[0])
        except TimeoutError:
            return step, f"It did not end in {self.limits.step_seconds:.0f} s. An endless loop?"
        except (EOFError, OSError):
            self.process.join()
            return step, f"The process ended here ({_ending(self.process.exitcode)})."
        finally:
            self._kill()

    def _next(self, late, stop):
        while not self.news.poll(0.1):
            if stop.is_set():
                raise Stopped
            if time.monotonic() > late:
                raise TimeoutError
        return self.news.recv()

    def _kill(self):
        """Ends the child and all processes that it has started."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.news.close()


def _run(cells, exercises, skip, limits, empty, connection):
    os.chdir(empty)
    answer_all(cells, exercises, skip, limits, connection.send)


def _ending(exitcode):
    if exitcode is not None and exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}; out of memory or time?"
    return f"exit status {exitcode}"


# The table


def grade_file(path, folder, limits, stop):
    """The rows of one notebook; a single one without an exercise if it holds none."""
    about = str(path.relative_to(folder)), digest_of(path)
    student = student_of(path, folder)
    try:
        results = grade_notebook(path, limits, stop)
    except ValueError as error:
        return [Row(student, "", 0, 0, "not graded", str(error), *about)]
    return [
        Row(student, result.exercise, result.points, result.out_of, result.status, result.hint,
            *about)
        for result in results
    ]


def digest_of(path):
    """A digest of a file, by which a changed notebook is known."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def read_table(path):
    """The rows of a table of grades; none if there is no such file.

    Raises: ValueError if the file is another table.
    """
    if not path.exists():
        return []
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = list(csv.reader(file))
    if not lines or tuple(lines[0]) != Row._fields or len(set(map(len, lines))) > 1:
        raise ValueError(f"{path} is there and is no table of grades. Name another with --out.")
    return [Row(*line)._replace(points=int(line[2]), out_of=int(line[3])) for line in lines[1:]]


def write_table(path, rows):
    """Stores the rows, sorted; the file is put in place when it is whole."""
    unfinished = path.with_name(path.name + ".unfinished")
    with open(unfinished, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows([_as_text(value) for value in row] for row in sort_rows(rows))
    unfinished.replace(path)


def sort_rows(rows):
    """By student and notebook; the exercises of one notebook keep their order."""
    return sorted(rows, key=lambda row: (row.student, row.notebook))


def _as_text(value):
    """A text that no spreadsheet takes for a formula."""
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
    return "'" + value if formula else value


def summary(rows):
    """What the table says in short, as text: each exercise, and the notebooks to look at."""
    exercises = [name for name in CHECKS if any(row.exercise == name for row in rows)]
    header = ["exercise", "attempted", "right", "points", "most common hint"]
    lines = []
    for name in exercises:
        mine = [row for row in rows if row.exercise == name]
        tried = [row for row in mine if row.status != "not attempted"]
        hints = Counter(row.hint for row in mine if row.status == WRONG)
        common = hints.most_common(1)[0][0][:60] if hints else ""
        lines.append([name, str(len(tried)), str(sum(row.status == RIGHT for row in mine)),
                      f"{mean(row.points for row in mine):.1f} of {mine[0].out_of}", common])
    look = [f"  {row.notebook}: {row.hint[max(0, row.hint.find(LOOK)):].rstrip(']')}"
            for row in rows if not row.exercise or LOOK in row.hint]
    parts = [f"{len({row.student for row in rows})} students, "
             f"{len({row.notebook for row in rows})} notebooks."]
    parts += [text_table(header, lines)] if lines else []
    parts += ["Look at these:", *dict.fromkeys(look)] if look else []
    return "\n".join(parts)


# The command


def grade_folder(folder, out, jobs, limits):
    """Grades what is not yet in the table ``out``, several at once; returns all its rows.

    The table is stored after every notebook, so that a stopped run goes on where it was.
    Raises: ValueError as ``find_notebooks`` and ``read_table`` do; KeyboardInterrupt.
    """
    rows = read_table(out)
    paths = find_notebooks(folder)
    there = {(str(path.relative_to(folder)), digest_of(path)): path for path in paths}
    rows = [row for row in rows if (row.notebook, row.digest) in there]
    done = {(row.notebook, row.digest) for row in rows}
    left = [path for key, path in there.items() if key not in done]
    print(f"{len(left)} of {len(paths)} notebooks have to be graded.", flush=True)
    stop, progress = threading.Event(), Progress(max(1, len(left)))
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(grade_file, path, folder, limits, stop) for path in left]
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                rows += future.result()
                write_table(out, rows)
                progress.show(number, f"{_bar(number, len(left))} {number} of {len(left)}")
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    write_table(out, rows)
    progress.finish(f"{_bar(1, 1)} all {len(paths)} notebooks are graded.")
    return sort_rows(rows)


def _bar(done, total, width=30):
    filled = round(width * done / max(1, total))
    return "[" + "#" * filled + "." * (width - filled) + "]"


def main(arguments=None):
    """The command; its exit status is 0 if all is well, 2 if there is nothing to grade."""
    chosen = _parser().parse_args(arguments)
    limits = Limits(chosen.step_seconds, chosen.seconds, chosen.memory)
    try:
        rows = grade_folder(chosen.folder, chosen.out, chosen.jobs, limits)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nStopped. What is graded is in {chosen.out}; the same command goes on from there.")
        return 130
    text, short = summary(rows), chosen.out.with_suffix(".txt")
    short.write_text(text + "\n", encoding="utf-8")
    print(f"{text}\nThe grades are in {chosen.out}, this summary in {short}.")
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m vae_lessons.grade", description=__doc__, epilog=CONTAINER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cores, usual = os.cpu_count() or 1, Limits()
    parser.add_argument("folder", type=Path, help="notebooks, or a folder for each student")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="the table (CSV)")
    parser.add_argument("--jobs", type=_positive(int), default=cores, help="notebooks at once")
    parser.add_argument("--step-seconds", type=_positive(float), default=usual.step_seconds,
                        help="for one cell or check (%(default)s)")
    parser.add_argument("--seconds", type=_positive(float), default=usual.seconds,
                        help="for one notebook in all (%(default)s)")
    parser.add_argument("--memory", type=_positive(float), default=usual.memory,
                        help="GiB for one notebook (%(default)s)")
    return parser


def _positive(kind):
    def read(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError("must be above 0")
        return value
    return read


if __name__ == "__main__":
    sys.exit(main())
