"""The demo is the first thing anybody sees: it ends in a table, leaves HOME alone and can be repeated."""

import json
from pathlib import Path

import pytest


def home_files(workspace):
    home = Path(workspace.environment["HOME"])
    return {
        path.relative_to(home).as_posix(): path.read_bytes() if path.is_file() else None
        for path in home.rglob("*")
    }


@pytest.fixture(scope="module")
def shown(workspace):
    before = home_files(workspace)
    done = workspace.run("demo")
    return workspace, done, before


def test_the_table_has_every_strategy_and_the_blend(shown):
    _, done, _ = shown
    lines = done.stdout.splitlines()
    (header,) = [line for line in lines if line.startswith("strategy")]
    assert "95% interval" in header
    assert "public score" in header
    for name in ("linear_probe", "ssl", "effnetv2_s", "blend of 3"):
        (line,) = [text for text in lines if text.startswith(name)]
        public = float(line.split()[-1])
        assert 0.0 <= public <= 1.0


def test_the_table_names_the_backbone_really_used(shown):
    _, done, _ = shown
    assert done.stdout.count("tf_efficientnet_lite0.in1k") == 3


def test_log_lines_of_kernels_are_shown_as_they_come(shown):
    _, done, _ = shown
    for name in ("linear_probe", "ssl", "effnetv2_s"):
        assert f"  {name} | strategy {name}" in done.stderr


def test_home_is_left_as_it_was(shown):
    workspace, _, before = shown
    assert home_files(workspace) == before


def test_only_the_csv_and_its_record_stay_outside_of_the_state_folder(shown):
    workspace, _, _ = shown
    kept = sorted(path.suffix for path in (workspace.folder / "submissions").rglob("*.*"))
    assert kept == [".csv", ".json"]
    record = json.loads(next((workspace.folder / "submissions").rglob("*.json")).read_text())
    assert record["submission"]["status"] == "COMPLETE"


def test_a_second_demo_meets_neither_the_first_nor_the_daily_limit(shown):
    workspace, _, _ = shown
    again = workspace.json("demo", "--strategy", "quick")
    assert again["submission"]["ref"] == 1
    assert again["rows"][0]["submission"]["status"] == "COMPLETE"


def test_without_a_solution_the_leaderboard_says_not_scored_and_why(workspace):
    done = workspace.run(
        "demo", "--data", str(workspace.drawn.data_folder), "--strategy", "quick", "--profile", "small"
    )  # fmt: skip
    assert "not scored" in done.stdout
    assert "no solution file" in done.stdout
