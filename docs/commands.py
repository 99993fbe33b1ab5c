"""Writes reference/commands.md from the command line itself: python docs/commands.py

The page is committed, so that it can be read without building anything; a test compares the two.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from harness.cli import main

PAGE = Path(__file__).parent / "reference" / "commands.md"
WIDTH = 90
HEAD = """# Commands

<!-- Made by `python docs/commands.py`; do not edit. -->

What `harness COMMAND --help` prints. Every command that sends, fetches or reads takes `--remote` and `--profile`
(see [configuration](configuration.md)); with `--json` records go to stdout for other programs, and everything meant
for people goes to stderr.
"""


def every_command(
    group: click.Group, path: tuple[str, ...] = ("harness",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Commands below a group, parents first, in the order of its help."""
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


def help_text(path: tuple[str, ...], command: click.Command) -> str:
    """What --help prints, at a fixed width."""
    settings = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(
        command, info_name=" ".join(path), help_option_names=["-h", "--help"], **settings
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, command in (("harness",), main), *every_command(main):
        level = "#" * min(len(path) + (len(path) == 1), 3)
        parts.append(f"{level} {' '.join(path)}\n\n```text\n{help_text(path, command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {sum(1 for _ in every_command(main))} commands")
