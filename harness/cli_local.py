"""``harness local``: the local Kaggle from the command line. Parse, call, print, as in harness/cli.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.commands.local import Where

SHELLS = ("bash", "fish", "powershell")


class Ordered(click.Group):
    """Lists commands in the order of use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Names in the order of definition."""
        return list(self.commands)


state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State folder; by default the workspace's own. With it no workspace is needed.",
)


@click.group(cls=Ordered)
def local() -> None:
    """The local Kaggle: a server that the official kaggle client can talk to.

    \b
    Examples:
      harness local competition add ../xray
      harness local serve
      eval "$(harness local env)" && kaggle kernels list -m
    """


def _settings(state: Path | None) -> "Where":
    """The workspace's settings, or just a state folder."""
    from harness.commands.local import settings_for

    return settings_for(state)


@local.command("serve")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="0 takes the last one used, or a free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Another address than loopback lets others in, with the token that is printed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print address and state as a line of JSON.")
@state_option
def local_serve(port: int, host: str, as_json: bool, state: Path | None) -> None:
    """Run the local Kaggle in the foreground until Ctrl-C. Its page for people is at the address.

    \b
    Examples:
      harness local serve
      harness local serve --port 8765
      harness local serve --state /tmp/kaggle --host 0.0.0.0
    """
    import json
    import signal
    import threading

    from harness.commands.local import is_loopback, open_server

    settings = _settings(state)
    try:
        server = open_server(settings, port, host)
        server.start()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The local Kaggle cannot start: {error}.", "Choose another --port or --host."
        ) from error
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        token = None if is_loopback(host) else server.state.key_for({})
        if as_json:
            about = {"url": server.url, "state": str(settings.local_folder), "token": token}
            click.echo(json.dumps(about))  # one line, so that a program may read on while it runs
        else:
            click.echo(f"Local Kaggle at {server.url}  (state: {settings.local_folder})")
            if token:
                click.echo(f"Others reach it too, with the token {token}")
        if token:
            click.echo("Kernels run programs on this machine: give the token only to whom you trust.", err=True)  # fmt: skip
        click.echo(
            'For the kaggle client, in another terminal: eval "$(harness local env)"', err=True
        )
        stop.wait()
    finally:
        server.stop()


@local.command("env")
@click.option("--json", "as_json", is_flag=True, help="Print the variables as JSON.")
@click.option("--shell", type=click.Choice(SHELLS), default="bash", show_default=True)
@state_option
def local_env(as_json: bool, shell: str, state: Path | None) -> None:
    """Print the environment that points the official client at the running local Kaggle.

    \b
    Examples:
      eval "$(harness local env)"                                      bash, zsh
      harness local env --shell fish | source
      harness local env --shell powershell | Out-String | Invoke-Expression
      kaggle kernels list -m
    """
    from harness.commands.local import client_environment, shell_lines
    from harness.emulator import UNSET

    _, variables = client_environment(_settings(state))
    if as_json:
        from harness.terminal import print_json

        print_json({"set": variables, "unset": list(UNSET)})
        return
    for line in shell_lines(shell, variables, UNSET):
        click.echo(line)


@local.group("competition", cls=Ordered)
def local_competition() -> None:
    """Competitions on the local Kaggle.

    \b
    Examples:
      harness local competition add ../xray
      harness local competition list
    """


@local_competition.command("add")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--slug",
    help="Its name. One of the workspace's competitions, or a new one read off sample_submission.csv.",
)
@click.option(
    "--solution", type=click.Path(path_type=Path), help="Private answers: ids and targets."
)
@click.option(
    "--hidden-test",
    type=click.Path(path_type=Path),
    help="Folder whose entries replace the data's when a submitted kernel is run again.",
)
@click.option("--metric", help="auc, log_loss, accuracy, f1 or rmse.")
@click.option("--kind", type=click.Choice(["csv", "code"]), help="code takes kernels, not files.")
@click.option("--deadline", help="ISO date, UTC; private scores show after it.")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@state_option
def local_competition_add(
    folder: Path,
    slug: str | None,
    solution: Path | None,
    hidden_test: Path | None,
    metric: str | None,
    kind: str | None,
    deadline: str | None,
    as_json: bool,
    state: Path | None,
) -> None:
    """Give the local Kaggle a competition's data; kernels mount it read-only.

    Without a solution, submissions are taken but not scored.

    \b
    Examples:
      harness local competition add ../xray
      harness local competition add ../xray --solution answers.csv
      harness local competition add ../cats --slug cats --metric log_loss --solution answers.csv
      harness local competition add ../xray --kind code --hidden-test ../hidden --solution answers.csv
    """
    from harness.commands.local import add_competition, describe_competition

    settings = _settings(state)
    changes: dict[str, Any] = {"metric": metric, "kind": kind, "deadline": deadline}
    changes = {name: value for name, value in changes.items() if value is not None}
    if hidden_test is not None:
        changes.setdefault("kind", "code")
    spec = describe_competition(settings, folder, slug, changes, workspace=state is None)
    added = add_competition(settings, spec, folder, solution, hidden_test)
    if as_json:
        _json({"competition": spec, "folder": added, "scored": solution is not None})
        return
    click.echo(f"{spec.slug}: {added}" + ("" if solution else " (not scored: no --solution)"))


@local_competition.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@state_option
def local_competition_list(as_json: bool, state: Path | None) -> None:
    """List the competitions of the local Kaggle.

    \b
    Examples:
      harness local competition list
    """
    from harness.commands.local import open_state

    with open_state(_settings(state)) as opened:
        if as_json:
            _json(list(opened.competitions()))
            return
        for spec in opened.competitions():
            click.echo(f"{spec.slug}  {spec.kind}  {spec.metric}  {spec.title}")


@local.group("faults", cls=Ordered)
def local_faults() -> None:
    """Misbehaviour on demand: rate limits, lost answers, cut downloads, stale states.

    \b
    Examples:
      harness local faults list
      harness local faults arm rate-limit --times 3
      harness local faults clear
    """


@local_faults.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@state_option
def local_faults_list(as_json: bool, state: Path | None) -> None:
    """Show the switches there are, and what is armed.

    \b
    Examples:
      harness local faults list
    """
    from harness.commands.local import open_state
    from harness.emulator import faults

    with open_state(_settings(state)) as opened:
        armed = faults.listed(opened)
    if as_json:
        from harness.terminal import print_json

        print_json({"armed": armed, "switches": sorted(faults.SWITCHES)})
        return
    for name, (pattern, kind, _) in sorted(faults.SWITCHES.items()):
        click.echo(f"{name:24} {kind:9} {pattern}")
    for item in armed:
        times = "always" if item["times"] < 0 else f"{item['times']} more times"
        click.echo(f"armed: {item['kind']} on {item['pattern']}, {times}")
    if not armed:
        click.echo("Nothing is armed.")


@local_faults.command("arm")
@click.argument("name")
@click.option("--times", default=1, show_default=True, help="How many requests; -1 means all.")
@click.option("--skip", default=0, help="How many matching requests pass first.")
@click.option("--set", "changes", multiple=True, help="key=value, as status=503 or seconds=2.")
@click.option("--on", "pattern", help="Which requests; then NAME is a kind, as error or slow.")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@state_option
def local_faults_arm(
    name: str,
    times: int,
    skip: int,
    changes: tuple[str, ...],
    pattern: str | None,
    as_json: bool,
    state: Path | None,
) -> None:
    """Arm a switch, or a fault of your own; every server on the folder plays it.

    \b
    Examples:
      harness local faults arm push-lost-ack
      harness local faults arm rate-limit --times 5 --set retry_after=2
      harness local faults arm slow --on '*/GetKernelSessionStatus' --set seconds=3 --times -1
    """
    from harness.commands.local import arm_fault

    arm_fault(_settings(state), name, pattern, times, skip, changes)
    if as_json:
        _json({"armed": name, "times": times, "skip": skip, "on": pattern})
        return
    click.echo(f"Armed: {name}")


@local_faults.command("clear")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@state_option
def local_faults_clear(as_json: bool, state: Path | None) -> None:
    """Disarm everything.

    \b
    Examples:
      harness local faults clear
    """
    from harness.commands.local import open_state
    from harness.emulator import faults

    with open_state(_settings(state)) as opened:
        faults.clear(opened)
    if as_json:
        _json({"armed": []})
        return
    click.echo("Nothing is armed.")


def _json(value: Any) -> None:
    from harness.terminal import print_json

    print_json(value)


@local.command("gc")
@click.option("--now", is_flag=True, help="Also files younger than a day.")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@state_option
def local_gc(now: bool, as_json: bool, state: Path | None) -> None:
    """Give back the disk of deleted datasets, deleted kernels and abandoned uploads.

    \b
    Examples:
      harness local gc
    """
    from harness.commands.local import open_state

    with open_state(_settings(state)) as opened:
        found = opened.collect_garbage(0.0) if now else opened.collect_garbage()
    if as_json:
        _json(found)
        return
    click.echo(
        f"Freed {found.bytes / 1e6:.1f} MB: {found.blobs} files, {found.runs} runs, "
        f"{found.mounts} mounts, {found.uploads} uploads."
    )


@local.command("reset")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print records as JSON.")
@state_option
def local_reset(yes: bool, as_json: bool, state: Path | None) -> None:
    """Delete the local Kaggle's kernels, datasets, competitions and submissions. The ledger stays.

    \b
    Examples:
      harness local reset
      harness local reset --yes
    """
    from harness.commands.local import reset

    settings = _settings(state)
    if not yes:
        click.confirm(f"Delete {settings.local_folder}?", abort=True, err=True)
    deleted = reset(settings)
    if as_json:
        _json({"folder": settings.local_folder, "deleted": deleted})
        return
    click.echo("Deleted." if deleted else "There was nothing to delete.")
