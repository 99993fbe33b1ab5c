"""What people see: tables and lines. Results go to stdout, everything else to stderr."""

import json
import re
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import click

from harness.records import to_json

TERMINAL_ESCAPES = re.compile(
    r"\x1b[\]P^_X][^\x07\x1b]*(\x07|\x1b\\)|\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    "|[\u202a-\u202e\u2066-\u2069]"  # what turns the direction of text, and with it its meaning
)


def plain(text: str) -> str:
    """Somebody else's text without what a terminal would obey. Line ends and tabs stay."""
    return TERMINAL_ESCAPES.sub("", text)


def print_json(value: Any) -> None:
    """Records as JSON on stdout."""
    click.echo(json.dumps(to_json(value), indent=2))


def progress(text: str) -> None:
    """A line about what is going on, on stderr."""
    click.echo(plain(text), err=True)


def log_line(prefix: str, text: str) -> None:
    """A kernel's log line, told apart from ours. What it holds for terminals is left out."""
    click.echo(click.style(f"  {prefix} | ", dim=True) + plain(text), err=True)


def terminal_width() -> int:
    """Columns of the terminal, at least 40."""
    return max(40, shutil.get_terminal_size((100, 24)).columns)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()
) -> None:
    """A table on stdout: drawn for people, tab-separated when it goes into a pipe."""
    rows = [[plain(cell) for cell in row] for row in rows]  # names come from everywhere
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(row))
        return
    _draw(columns, rows, numeric, bold=True)


def print_aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table with aligned columns, in a file as on a terminal that is wide enough."""
    _draw(columns, rows, (), bold=False, rule=True, fits=not sys.stdout.isatty())


def _draw(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[str],
    *,
    bold: bool,
    rule: bool = False,
    fits: bool = False,
) -> None:
    """Aligned columns where they fit, else a block for each row: a folded word is worse than a long page."""
    widths = [max(cell_width(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    if not fits and sum(widths) + 2 * (len(widths) - 1) > terminal_width():
        _draw_blocks(columns, rows, bold=bold)
        return
    for line, row in enumerate((columns, *rows)):
        cells = []
        for name, cell, width in zip(columns, row, widths, strict=True):
            space = " " * (width - cell_width(cell))
            cells.append(space + cell if name in numeric else cell + space)
        text = "  ".join(cells).rstrip()
        click.echo(click.style(text, bold=True) if bold and line == 0 else text)
        if rule and line == 0:
            click.echo("  ".join("-" * width for width in widths))


def _draw_blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], *, bold: bool) -> None:
    """A heading and a line for each value; what is empty is left out."""
    label = min(24, max((cell_width(name) for name in columns[1:]), default=0))
    for row in rows:
        click.echo(click.style(row[0], bold=True) if bold else row[0])
        for name, cell in zip(columns[1:], row[1:], strict=True):
            if cell not in ("", "-"):
                shown = name if name else " "
                wrapped(f"  {shown.ljust(label)}  {cell}", indent=label + 4)


def wrapped(text: str, indent: int, hidden: int = 0) -> None:
    """A line that goes on below its own text where the terminal ends; in a pipe it stays one line.

    Args:
        indent: Blanks before the lines that follow.
        hidden: Characters of the first line that take no place: colours.
    """
    if not sys.stdout.isatty():
        click.echo(text)
        return
    width = terminal_width()
    lines = textwrap.wrap(
        text,
        width + hidden,
        subsequent_indent=" " * min(indent, width // 3),
        break_on_hyphens=False,
        break_long_words=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
    for line in lines or [""]:
        click.echo(line)


def cell_width(text: str) -> int:
    """Columns that a text takes on a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def number(value: float | None, digits: int = 4) -> str:
    """A number for a table, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


class Transfer:
    """Bytes on their way: redrawn in place on a terminal, a line every few seconds elsewhere."""

    EVERY_S = 5.0

    def __init__(self, say: Callable[[str], None], label: str, total: int) -> None:
        """Count towards ``total`` bytes.

        Args:
            say: Gets the lines where stderr is no terminal.
        """
        self.total = total
        self.done = 0
        self.sent = 0  # without what the other side had already
        self._say, self._label = say, label
        self._live = sys.stderr.isatty()
        self._started = self._told = time.monotonic()

    def add(self, count: int) -> None:
        """So many bytes went out. More than the total when a piece is sent again."""
        self.done += count
        self.sent += count
        now = time.monotonic()
        if now - self._told > (0.2 if self._live else self.EVERY_S):
            self._told = now
            self._show(now)

    def skip(self, count: int) -> None:
        """So many bytes need not be sent (negative: were sent more than once)."""
        self.done += count

    def end(self) -> None:
        """Wipe the line that is redrawn."""
        if self._live:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _show(self, now: float) -> None:
        rate = self.sent / max(now - self._started, 1e-3)
        share = min(100.0, 100.0 * self.done / max(self.total, 1))
        text = f"{self._label}: {self.done / 1e6:,.1f} of {self.total / 1e6:,.1f} MB ({share:.0f} %), {rate / 1e6:.1f} MB/s"
        if share >= 1.0:  # before that it is a guess from nothing
            text += f", {max(self.total - self.done, 0) / max(rate, 1.0):.0f} s left"
        if self._live:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        else:
            self._say(text)
