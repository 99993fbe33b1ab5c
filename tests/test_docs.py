"""What the documents say exists: links, files of the structure listing, and commands."""

import re
from pathlib import Path

import click
import pytest

from harness.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "datasets/README.md",
    "submissions/README.md",
]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_somewhere(name):
    text = (ROOT / name).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target


def command_of(words):
    """The command that words name, as deep as they go."""
    command, used = main, []
    for word in words:
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        command = command.commands[word]
        used.append(word)
    return command, used


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_the_documents_exist(name):
    text = (ROOT / name).read_text("utf-8")
    found = re.findall(
        r"(?:^|[`(\s$])harness ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)*)", text, re.MULTILINE
    )
    assert found
    for words in found:
        if words.split()[0] in ("moves", "imports", "uses", "raises", "and"):
            continue  # the word in a sentence, not on a command line
        _, used = command_of(words.split())
        assert used, f"harness {words}"


def all_commands(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(all_commands(main)), ids=lambda v: str(v)[:40])
def test_every_command_has_help_with_examples(path, command):
    assert command.help
    assert "Examples:" in command.help or "Example:" in command.help, path
    assert f"harness {' '.join(path)}" in command.help, path


def test_the_structure_listing_names_real_files():
    text = (ROOT / "README.md").read_text("utf-8")
    block = text[text.index("kernels/                what") :]
    block = block[: block.index("```")]
    for line in block.splitlines():
        for name in re.findall(r"\b([a-z_]+\.py)\b", line):
            places = [ROOT / "kernels" / name, ROOT / "harness" / name]
            assert any(place.is_file() for place in places), name
