"""Shells complete commands and the workspace's strategies, with scripts that they accept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [("harness pus", "plain,push"), ("harness push linear", "plain,linear_probe")],
)
def test_bash_is_given_commands_and_strategies(words, expected):
    done = run(
        [], _HARNESS_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
    )
    assert done.stdout.splitlines() == [expected], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_can_read(shell):
    done = run(["completion", shell])
    assert "_HARNESS_COMPLETE" in done.stdout
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
