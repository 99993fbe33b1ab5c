"""Commands that carry work from one kernel to the next: parse, call, print. ``cli.py`` adds them.

Imports are inside the commands, so that ``harness --help`` loads neither numpy, pandas nor kaggle.
"""

from typing import TYPE_CHECKING

import click

from harness.cli_common import bench_for, common_options
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.commands.tick import Action
    from harness.records import QueuedSpec


@click.command()
@click.option("--follow", is_flag=True, help="Go on until nothing is left that moves by itself.")
@common_options
def tick(follow: bool, remote: str | None, profile: str | None, as_json: bool) -> None:
    """One step of everything, then out: fit for cron.

    Asks for states, settles pushes and submissions that were cut off, fetches scores, pulls what has
    finished, takes up runs that stopped at their time budget, and pushes what is queued within the session
    limits. The exit code is 1 when something failed. A second tick at the same time leaves at once.

    \b
    Examples:
      harness tick
      harness tick --follow
      */10 * * * * cd WORKSPACE && harness tick --remote kaggle      (a line for crontab)
    """
    from harness.commands.tick import follow_ticks
    from harness.commands.tick import tick as run_tick
    from harness.terminal import print_json

    def told(action: "Action") -> None:
        if not as_json and action.what != "failed":
            click.echo(f"{action.item}: {action.what} {action.text}".rstrip())
        if action.what == "failed":
            click.echo(f"{action.item}: {action.text}", err=True)

    def waits(item: "QueuedSpec") -> None:
        if not as_json:
            click.echo(f"{item.spec.label()}: queued. {item.reason}")

    with bench_for(remote, profile) as bench:
        if follow:
            report = follow_ticks(bench, told, waits)
        else:
            report = run_tick(bench, told)
            for item in report.waiting:
                waits(item)
        if as_json:
            print_json({**vars(report), "failed": report.failed})
        elif report.busy:
            click.echo("Another tick is at work here.", err=True)
        elif not report.left and not report.waiting:
            click.echo(
                "Nothing is left to do by itself. Where things stand: harness status", err=True
            )
        if report.failed:
            click.get_current_context().exit(1)


@click.command()
@click.option(
    "--drop", "dropped", multiple=True, metavar="NAME", help="Take it out; may be repeated."
)
@common_options
def queue(dropped: tuple[str, ...], remote: str | None, profile: str | None, as_json: bool) -> None:
    """List what waits to be pushed, with the reason: for another run, or for a free session.

    \b
    Examples:
      harness queue
      harness queue --drop ssl_finetune-cpu
    """
    from harness.registry import did_you_mean
    from harness.terminal import print_json, print_table

    with bench_for(remote, profile) as bench:
        known = {item.spec.label(): item for item in bench.ledger.queue(bench.settings.remote)}
        for name in dropped:
            if name not in known:
                if not known:
                    raise ConfigError("Nothing is queued.")
                raise did_you_mean("queued push", name, known)
        for name in dropped:
            bench.ledger.dequeue(bench.settings.remote, known.pop(name).spec)
        if as_json:
            print_json(list(known.values()))
        elif not known:
            click.echo("Nothing is queued.")
        else:
            rows = [[name, item.created_at[:16], item.reason] for name, item in known.items()]
            print_table(["push", "since", "reason"], rows)


CHAIN_COMMANDS = (tick, queue)
