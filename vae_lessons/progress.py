"""A line that moves while something long runs, and the tidy table that it leaves behind."""

import sys
import time

SECONDS_BETWEEN_UPDATES = 0.5


def in_notebook():
    """Whether a Jupyter front end shows what this process displays."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


def time_left(seconds):
    """Seconds as ``2 min 05 s left`` or ``41 s left``."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s left" if minutes else f"{seconds} s left"


def markdown_table(header, rows):
    """A Markdown table of already formatted cells, numbers to the right."""
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text_table(header, rows):
    """The same table for a terminal, columns aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
             for line in [header, *rows]]
    return "\n".join(lines)


class Progress:
    """Shows one moving line; ``finish`` puts what is to stay in its place.

    In Jupyter both share one output, in a terminal the line is overwritten, and into a file or
    a pipe goes the end alone.
    """

    def __init__(self, total_steps):
        self.total_steps = total_steps
        self.started = self.shown = time.perf_counter()
        self.display = None
        if in_notebook():
            from IPython.display import Markdown, display

            self.display = display(Markdown("starting"), display_id=True)

    def due(self):
        """Whether it is time to show the line again: asking costs nothing, showing does."""
        return time.perf_counter() - self.shown > SECONDS_BETWEEN_UPDATES

    def show(self, step, text):
        """Shows the text and the time left after ``step`` of the steps."""
        self.shown = time.perf_counter()
        left = (self.shown - self.started) * (self.total_steps - step) / max(step, 1)
        line = f"{text}, {time_left(left)}"
        if self.display:
            from IPython.display import Markdown

            self.display.update(Markdown(line))
        elif sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)

    def finish(self, text, markdown=None):
        """Leaves the text in place of the line; in Jupyter its Markdown form, if there is one."""
        if self.display:
            from IPython.display import Markdown

            self.display.update(Markdown(markdown or text))
            return
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(clear + text)
