"""What people see: tables and lines. Results go to stdout, everything else to stderr."""

import json
import re
import sys
from collections.abc import Sequence
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
