"""What check reads from a script's syntax: unknown names, and paths of somebody's machine."""

import ast
from datetime import UTC, datetime, timedelta

import pytest

from harness.commands.check import FAIL, NOTE, OK, _deadline, _kind, foreign_paths, undefined_names
from kernels.config import Competition


def test_names_that_nobody_binds_are_found_with_their_lines():
    tree = ast.parse(
        "import os\n\n\ndef run():\n    return os.sep + helper(x)\n\nprint(__file__)\n"
    )
    assert undefined_names(tree) == ["line 5: helper", "line 5: x"]


def test_names_in_quoted_annotations_count():
    assert undefined_names(ast.parse('def run(x: "Tensor") -> None: ...\n')) == ["line 1: Tensor"]


@pytest.mark.parametrize(
    "text",
    ["/home/me/films", "/data/xray/train.csv", "/Users/me/x", "/root/a", "/mnt/disk/f.pt", "C:\\\\films\\\\a"],
)  # fmt: skip
def test_paths_of_a_machine_are_found(text):
    assert foreign_paths(ast.parse(f"A = 1\nB = {text!r}\n")) == [f"line 2: {text}"]


@pytest.mark.parametrize(
    "text",
    [
        "/kaggle/input/films", "/tmp/scratch", "/dev/shm", "relative/path", "https://host/a/b", "//host/a", "/", "/x",
        "a / b / c", "and/or",
    ],
)  # fmt: skip
def test_paths_that_kaggle_has_and_prose_pass(text):
    assert foreign_paths(ast.parse(f"B = {text!r}\n")) == []


def test_the_rest_of_a_joined_path_passes():
    text = 'a = f"{folder}/train/images/{name}.png"\nb = str(folder) + "/train/images"\n'
    assert foreign_paths(ast.parse(text)) == []
    assert foreign_paths(ast.parse('a = folder / "/home/me/films"\n')) == ["line 1: /home/me/films"]
    text = 'a = "/home/me/films" + name\nb = f"/home/me/{name}"\n'
    assert foreign_paths(ast.parse(text)) == ["line 1: /home/me/films", "line 2: /home/me/"]


def test_paths_in_docstrings_pass():
    assert foreign_paths(ast.parse('def f():\n    "/home/me/films"\n')) == []


@pytest.mark.parametrize(
    ("hours", "closed", "state", "words"),
    [
        (240, False, OK, "10 days left"),
        (20.5, False, NOTE, "h left"),
        (-5, False, NOTE, "was "),
        (240, True, FAIL, "takes no submissions"),
    ],
)
def test_deadlines(hours, closed, state, words):
    deadline = (datetime.now(UTC) + timedelta(hours=hours, minutes=1)).isoformat()
    line = _deadline("toy", deadline, closed)
    assert line.state == state
    assert words in line.fact


def test_a_competition_without_deadline_says_so():
    assert _deadline("toy", None, False).state == NOTE


@pytest.mark.parametrize(
    ("kernels_only", "kind", "state"),
    [(True, "code", OK), (False, "csv", OK), (True, "csv", FAIL), (False, "code", NOTE)],
)
def test_a_competition_that_takes_something_else_than_its_file_says(kernels_only, kind, state):
    line = _kind(Competition("toy", "Toy", "id", ("x",), kind=kind), kernels_only)
    assert line.state == state
    assert (state == OK) == (line.next == "")
    assert ("kernels" if kernels_only else "files") in line.fact
