"""Options and set-up that commands share. Imports are inside, so that help stays light."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from harness.workbench import Workbench


BUNDLE_KEY = "harness.bundle"  # in the click context, from the option to bench_for


def _keep_bundle(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    context.meta[BUNDLE_KEY] = value


bundle_option = click.option(
    "--bundle",
    type=click.Choice(["script", "dataset"]),
    callback=_keep_bundle,
    expose_value=False,
    help="dataset: a thin script that imports the published code dataset. Default: all in the script.",
)


def complete_strategies(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """Names of the workspace's strategies for the shell; files are looked at, nothing is imported."""
    from harness.errors import ConfigError
    from harness.settings import find_workspace

    try:
        files = sorted((find_workspace(Path.cwd()) / "kernels" / "strategies").glob("[a-z]*.py"))
    except (ConfigError, OSError):
        return []
    return [path.stem for path in files if path.stem.startswith(begun)]


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

    context = click.get_current_context(silent=True)
    bundle = context.meta.get(BUNDLE_KEY) if context is not None else None
    settings = load_settings(remote=remote, profile=profile, bundle=bundle)
    with open_workbench(settings, progress) as bench:
        try:
            yield bench
        except KeyboardInterrupt:
            tell_reached(bench)
            raise


def tell_reached(bench: "Workbench") -> None:
    """After Ctrl-C: what is on its way, from the ledger alone."""
    from harness.records import RunState
    from harness.terminal import progress

    progress("")
    for run in bench.ledger.open_runs(bench.settings.remote):
        if run.state is RunState.INTENT:
            progress(f"{run.run_id}: its push was under way; the next push or watch asks for it")
        else:
            progress(f"{run.run_id}: {run.state.lower()} as {run.kernel}")
    for item in bench.ledger.submissions(bench.settings.remote):
        if item.status == "INTENT":
            progress(f"{item.csv.name}: its submission was under way; the next one asks for it")
        elif item.status == "PENDING":
            progress(f"{item.csv.name}: submitted as {item.ref}, not scored yet")
