"""Tables fit the terminal they are on: no word is folded, a pipe gets tabs, and colours can be off."""

import io
import sys

import pytest

from harness import terminal
from harness.terminal import cell_width, print_aligned, print_table, wrapped

COLUMNS = ["run", "state", "oof AUC", "kernel"]
ROWS = [["effnetv2_s-cpu-1", "complete", "0.9921", "me/masked-xray-effnetv2-s-cpu/versions/12"],
        ["ssl-cpu-1", "running", "-", "me/masked-xray-ssl-cpu/versions/3"]]  # fmt: skip


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """Call a printer on a terminal of a width; gives the lines."""

    def show(width, printer, *arguments, **options):
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(terminal, "terminal_width", lambda: width)
        printer(*arguments, **options)
        return screen.getvalue().splitlines()

    return show


def test_a_wide_terminal_gets_aligned_columns(shown):
    lines = shown(120, print_table, COLUMNS, ROWS, numeric=["oof AUC"])
    assert len(lines) == 3
    ends = [
        line.index(text) + len(text)
        for line, text in zip(lines[1:], ["0.9921", "-  me"], strict=True)
    ]
    assert ends[0] == ends[1] - len("  me")  # numbers end in one column
    assert lines[1].index("me/") == lines[2].index("me/")


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_gets_a_block_for_each_row_and_whole_words(shown, width):
    lines = shown(width, print_table, COLUMNS, ROWS)
    assert (
        max(map(cell_width, (line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in lines)))
        <= width
    )
    text = "\n".join(lines)
    for row in ROWS:
        assert all(cell in text for cell in row)
    assert not [line for line in lines if line.strip().startswith("oof AUC") and line.endswith("-")]


def test_a_pipe_gets_tabs_and_one_line_for_each_text(capsys):
    print_table(COLUMNS, ROWS)
    wrapped("word " * 80, indent=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "\t".join(COLUMNS)
    assert len(lines) == 4


def test_a_plain_table_in_a_file_is_aligned_whatever_its_width(capsys):
    print_aligned(COLUMNS, [[cell * 5 for cell in row] for row in ROWS])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("---")
    assert lines[2].index("complete") == lines[3].index("running")


def test_long_lines_go_on_below_their_own_text(shown):
    lines = shown(
        40,
        wrapped,
        "ok    credentials: token from somewhere far away, the only one there is",
        indent=6,
    )
    assert len(lines) > 1
    assert all(line.startswith("      ") for line in lines[1:])
    assert max(map(len, lines)) <= 40


def test_wide_characters_take_two_columns(shown):
    assert cell_width("胸部") == 4
    assert cell_width("e\u0301") == 1
    lines = shown(80, print_table, ["a", "b"], [["胸部", "x"], ["abcd", "y"]])
    assert cell_width(lines[1]) == cell_width(lines[2])
