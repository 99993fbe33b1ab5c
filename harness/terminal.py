"""What people see: tables and lines. Results go to stdout, everything else to stderr."""

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from harness.records import to_json

TERMINAL_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]"
)


def print_json(value: Any) -> None:
    """Records as JSON on stdout."""
    click.echo(json.dumps(to_json(value), indent=2))


def progress(text: str) -> None:
    """A line about what is going on, on stderr."""
    click.echo(text, err=True)


def log_line(prefix: str, text: str) -> None:
    """A kernel's log line, told apart from ours. What it holds for terminals is left out."""
    shown = TERMINAL_ESCAPES.sub("", text)
    click.echo(click.style(f"  {prefix} | ", dim=True) + shown, err=True)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()
) -> None:
    """A table on stdout: drawn for people, tab-separated when it goes into a pipe."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table with aligned columns, drawn the same on a terminal and in a file."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for number, row in enumerate((columns, *rows)):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
        if number == 0:
            click.echo("  ".join("-" * width for width in widths))


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
        left = max(self.total - self.done, 0) / max(rate, 1.0)
        text = (
            f"{self._label}: {self.done / 1e6:,.1f} of {self.total / 1e6:,.1f} MB ({share:.0f} %), "
            f"{rate / 1e6:.1f} MB/s, {left:.0f} s left"
        )
        if self._live:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        else:
            self._say(text)
