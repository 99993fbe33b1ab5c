"""The command line of what is around the loop: the machine's state, and shell completion."""

import click

from harness.cli_common import bench_for, common_options

SHELLS = ("bash", "zsh", "fish")
COLOURS = {"ok": "green", "warn": "yellow", "bad": "red"}


@click.command()
@common_options
def doctor(remote: str | None, profile: str | None, as_json: bool) -> None:
    """Check versions, credentials, endpoint, sandbox, disk and the age of what is known of Kaggle's image.

    Ends with exit code 1 when something is broken. With --remote kaggle the credentials are tried.

    \b
    Examples:
      harness doctor
      harness doctor --remote kaggle
    """
    from harness.commands.doctor import doctor as run_doctor
    from harness.terminal import print_json, wrapped

    with bench_for(remote, profile) as bench:
        findings = run_doctor(bench)
    if as_json:
        print_json(findings)
    else:
        for item in findings:
            mark = click.style(f"{item.state:4}", fg=COLOURS[item.state])
            wrapped(f"{mark}  {item.what}: {item.fact}", indent=6, hidden=len(mark) - 4)
            if item.mend:
                wrapped(f"      mend: {item.mend}", indent=12)
    if any(item.state == "bad" for item in findings):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    Examples:
      harness completion bash > ~/.local/share/bash-completion/completions/harness
      harness completion zsh > ~/.zfunc/_harness
      harness completion fish > ~/.config/fish/completions/harness.fish
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(root.command, {}, "harness", "_HARNESS_COMPLETE").source())


DOCTOR_COMMANDS = (doctor, completion)
