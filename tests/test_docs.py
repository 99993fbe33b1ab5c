"""What the documents say exists: links, files of the structure listing, commands, settings, the site.

That documented commands also work is shown by tests/e2e/test_documented_commands.py.
"""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from dataclasses import fields

import click
import pytest

from harness.cli import main
from harness.settings import Settings
from kernels import contract
from tests.documents import ROOT, Block, blocks_of, commands_in, documents, faults, inline_commands

GENERATED = "docs/reference/commands.md"
LISTED = [*documents(), "CHANGELOG.md", "datasets/README.md", "submissions/README.md"]
SOURCES = [
    path
    for folder in ("harness", "kernels", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("name", LISTED)
def test_relative_links_lead_somewhere(name):
    text = (ROOT / name).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target


# ---- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", documents())
def test_every_shell_block_says_whether_a_test_runs_it(name):
    blocks = blocks_of(name)
    for block in blocks:
        assert block.marker, f"{block}: put <!-- run --> or <!-- not run: reason --> above it"
    fences = re.findall(
        r"^\s*```(?:sh|bash|console|shell)\b", (ROOT / name).read_text("utf-8"), re.M
    )
    shell = [block for block in blocks if "run" in block.marker]
    assert len(fences) == len(shell), "an indented block is not found: begin fences at the margin"


@pytest.mark.parametrize("name", documents())
def test_commands_in_the_documents_are_ones_the_program_takes(name):
    blocks = [block for block in blocks_of(name) if not block.marker.startswith("write")]
    found = [(str(block), words) for block in blocks for words in commands_in(block.text)]
    if name != GENERATED:
        found += [(name, words) for words in inline_commands(name)]
    wrong = [f"{place}: {fault}" for place, words in found for fault in faults(main, words)]
    assert not wrong, "\n".join(wrong)


def test_commands_of_workflows_are_ones_the_program_takes():
    text = (ROOT / "docs/how-to/github-actions.md").read_text("utf-8")
    commands = [line.split()[1:] for line in re.findall(r"run: (harness .*)", text)]
    assert len(commands) > 3
    assert not [fault for words in commands for fault in faults(main, words)]


def test_a_misspelt_option_in_a_document_would_be_found():
    block = Block("page.md", 1, "harness pull && harness push ssl --profil cpu | cat", "run")
    problems = [fault for words in commands_in(block.text) for fault in faults(main, words)]
    assert len(problems) == 1
    assert "--profil" in problems[0]


def all_commands(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(all_commands(main)), ids=lambda v: str(v)[:40])
def test_every_command_has_help_with_examples_that_the_program_takes(path, command):
    assert command.help
    _, mark, examples = command.help.partition("Example")
    assert mark, path
    assert f"harness {' '.join(path)}" in examples, path
    lines = re.findall(r"(?:^|&& |\$\()(harness [^\n]*?)(?= &&|\)|  +|$)", examples, re.MULTILINE)
    lines += re.findall(r"^ +(harness [^\n]*?)(?= &&|\)|  +|$)", examples, re.MULTILINE)
    for line in lines:
        for words in commands_in(line):
            assert not faults(main, words), line


def test_every_command_is_in_the_reference_with_its_help(request):
    script = runpy.run_path(str(ROOT / "docs" / "commands.py"))
    page = ROOT / GENERATED
    if request.config.getoption("--update-golden"):
        page.write_text(script["page"](), "utf-8")
    assert page.read_text("utf-8") == script["page"](), "run: python docs/commands.py"


def test_every_command_has_a_line_in_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    for name in main.commands:
        assert f"harness {name}" in text, f"the README does not mention harness {name}"


# ---- reference pages -----------------------------------------------------------------------------


def environment_variables():
    """Every HARNESS_... variable that the code reads or sets."""
    found = set()
    for path in (*SOURCES, ROOT / ".ci" / "run"):
        found |= set(re.findall(r"\bHARNESS_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    settings = {field.name for field in fields(Settings)} - {"workspace"}
    return found | {f"HARNESS_{name.upper()}" for name in settings}


def test_the_configuration_page_knows_every_setting_and_variable():
    text = (ROOT / "docs/reference/configuration.md").read_text("utf-8")
    documented = set(re.findall(r"\bHARNESS_[A-Z_]*[A-Z]\b", text))
    known = environment_variables()
    assert not known - documented, "not documented"
    assert not documented - known, "documented, but not in the code"
    for field in fields(Settings):
        assert field.name == "workspace" or f"| `{field.name}` |" in text, field.name


def test_the_contract_page_knows_every_file_column_and_key():
    text = (ROOT / "docs/reference/run-contract.md").read_text("utf-8")
    for name, value in vars(contract).items():
        if name.endswith(("_FILE", "_COLUMN", "_PREFIX")):
            assert f"`{value}" in text, name
        if name.endswith("_FOLDER"):
            assert f"`{value}/`" in text, name
    for key in (*contract.MANIFEST_KEYS, "complete", *(f.name for f in fields(contract.Resume))):
        assert f"`{key}`" in text, key
    assert f"Schema version {contract.SCHEMA_VERSION}." in text


def test_the_site_shows_the_coverage_list_itself():
    page = ROOT / "docs/reference/coverage.md"
    (target,) = re.findall(r"\{include\} (\S+)", page.read_text("utf-8"))
    assert (page.parent / target).resolve() == ROOT / "harness/emulator/COVERAGE.md"


# ---- the structure listing -----------------------------------------------------------------------


def structure():
    """Lines of the README's listing as (folder, names, text); a folder's own line names no file."""
    text = (ROOT / "README.md").read_text("utf-8")
    block = text[text.index("\nkernels/   ") + 1 :]
    top = ""
    for line in block[: block.index("```")].splitlines():
        names, _, what = re.sub(r"  +", "\t", line.strip()).partition("\t")
        if not line.startswith(" "):
            top = names
        yield top, names.split() if line.startswith(" ") else [], what


def test_the_structure_listing_names_real_files_and_folders():
    for top, names, _ in structure():
        assert (ROOT / top).is_dir(), top
        for name in names:
            assert list((ROOT / top).glob(name)), f"{top}{name}"


def test_the_structure_listing_leaves_no_module_out():
    listed = set()
    for top, names, _ in structure():
        for name in names:
            listed |= set((ROOT / top).glob(name))
    for top in ("kernels", "harness"):
        for path in (ROOT / top).iterdir():
            is_module = path.suffix == ".py" and not path.name.startswith("__")
            is_package = path.is_dir() and (path / "__init__.py").is_file()
            assert not (is_module or is_package) or path in listed, path.relative_to(ROOT)


# ---- the site ------------------------------------------------------------------------------------


def test_the_site_builds_without_a_warning_or_a_foreign_address(tmp_path):
    lacking = [name for name in ("sphinx", "myst_parser", "furo") if not has_module(name)]
    if lacking:
        if os.environ.get("HARNESS_REQUIRE_DOCS") == "1":
            pytest.fail(f"{lacking[0]} is not installed: pip install --group docs", pytrace=False)
        pytest.skip(f"{lacking[0]} is not installed: pip install --group docs")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs"]
        + [str(tmp_path), "-d", str(tmp_path / "doctrees")],
        cwd=ROOT,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    for name in documents()[2:]:
        page = (tmp_path / name.removeprefix("docs/")).with_suffix(".html")
        text = page.read_text("utf-8")
        # What a browser would fetch: not the links that a reader may follow.
        fetched = re.findall(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"(https?:[^\"]+)", text)
        assert not fetched, f"{name}: {fetched}"


def has_module(name):
    return importlib.util.find_spec(name) is not None
