"""Options and set-up that commands share. Imports are inside, so that help stays light."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from harness.workbench import Workbench


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--remote, --profile and --json, the same everywhere."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print records as JSON."),
        click.option(
            "--profile",
            type=click.Choice(["small", "cpu", "full"]),
            help="Size of the run: a rehearsal in seconds, a CPU result in minutes, or Kaggle's GPUs.",
        ),
        click.option(
            "--remote",
            type=click.Choice(["local", "kaggle"]),
            help="Where kernels run. local needs no account; it is the default of a fresh clone.",
        ),
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def bench_for(remote: str | None, profile: str | None) -> "Iterator[Workbench]":
    """Settings, ledger and remote for one command."""
    from harness.settings import load_settings
    from harness.terminal import progress
    from harness.workbench import open_workbench

    with open_workbench(load_settings(remote=remote, profile=profile), progress) as bench:
        yield bench
