"""Reads shell blocks and commands out of the documents, for the tests that check and run them.

Every block of shell commands says in a comment on the line above what is done with it:

- ``<!-- run -->``: a test runs it as it stands, in a workspace of its own for each page.
- ``<!-- run: slow -->``: the same, in the tests that take minutes.
- ``<!-- not run: reason -->``: it needs something that tests do not have. Its commands are still parsed.

A comment ``<!-- setup`` ... ``-->`` holds commands that are run at its place without being shown, and
``<!-- write: PATH -->`` above a block of any language puts the block into that file of the workspace.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
SHELL_LANGUAGES = ("sh", "bash", "console", "shell")
FENCE = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->$|"
    r"^(?:<!-- (?P<marker>(?:(?:not )?run|write)(?:: [^\n]+)?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
INLINE = re.compile(r"(?<!`)`(harness(?: [^`\n]+)?)`(?!`)")
SEPARATORS = re.compile(r"&&|\|\||[;|()]")


@dataclass(frozen=True)
class Block:
    """Commands of a document: where, what, and what is to be done with them."""

    document: str
    line: int
    text: str
    marker: (
        str  # "run", "run: slow", "not run: ...", "write: ...", "setup", or "" when there is none
    )

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[str]:
    """Every Markdown file that people read, relative to the project."""
    pages = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    pages = [page for page in pages if not page.startswith("docs/_build/")]
    return ["README.md", "CONTRIBUTING.md", *pages]


def blocks_of(document: str) -> list[Block]:
    """The shell blocks, hidden set-ups and files to write of a document, in order."""
    text = (ROOT / document).read_text("utf-8")
    blocks: list[Block] = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["setup"] is not None:
            blocks.append(Block(document, line, match["setup"], "setup"))
        elif match["language"] in SHELL_LANGUAGES or (match["marker"] or "").startswith("write"):
            blocks.append(Block(document, line, match["text"], match["marker"] or ""))
    return blocks


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of every call of ``harness`` in shell text, without the program's name."""
    for line in text.replace("\\\n", " ").splitlines():
        if "harness " not in line:
            continue
        words = shlex.split(line.replace("$(", " ; ").replace('"', " "), comments=True)
        for part in SEPARATORS.split(" ".join(word or "''" for word in words)):
            found = part.split()
            if found[:1] == ["harness"]:
                yield [word for word in found[1:] if word not in (">", "&")]


def inline_commands(document: str) -> Iterator[list[str]]:
    """Commands in running text, as `harness push ssl`."""
    text = (ROOT / document).read_text("utf-8")
    for match in INLINE.finditer(text):
        yield match[1].split()[1:]


def faults(program: click.Group, words: list[str]) -> list[str]:
    """Why the program would not take these words: an unknown command, option or choice."""
    command: click.Command = program
    names = ["-h", "--help"]  # click keeps the first help option it makes
    context = click.Context(program, info_name="harness", help_option_names=names)
    rest = list(words)
    while isinstance(command, click.Group):
        while rest and rest[0].startswith("-"):
            rest.pop(0)
        if not rest:
            return []
        name = rest.pop(0)
        if name not in command.commands:
            return [f"{context.command_path} has no command {name!r}"]
        command = command.commands[name]
        context = click.Context(command, parent=context, info_name=name)
    try:
        values, _, _ = command.make_parser(context).parse_args(rest)
    except click.UsageError as error:
        return [f"{context.command_path}: {error.format_message()}"]
    found = []
    for parameter in command.params:
        given = values.get(parameter.name or "")
        choices = parameter.type.choices if isinstance(parameter.type, click.Choice) else ()
        if choices and isinstance(given, str) and given not in choices and not given.isupper():
            found.append(f"{context.command_path}: {parameter.name} cannot be {given!r}")
    return found
