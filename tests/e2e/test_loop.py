"""The loop as a user runs it: each command in a process of its own, on the local Kaggle, really running kernels."""

import csv
import hashlib
import json
import time

import pytest
from e2e_tools import PLANTED, QUICK_PIPELINE


@pytest.fixture(scope="module")
def scored(joined):
    """A workspace in which the loop has run once, with what each step printed."""
    steps = {"push": joined.json("push", "features_lr", "quick", "--profile", "small")}
    steps["watch"] = joined.run("watch", "--follow")
    steps["pull"] = joined.json("pull")
    steps["blend"] = joined.json("blend-and-submit", "--profile", "small", "--message", "first")
    return joined, steps


def test_the_loop_ends_in_a_public_score(scored):
    _, steps = scored
    assert [item["run"]["state"] for item in steps["push"]] == ["QUEUED", "QUEUED"]
    assert all(item["error"] is None for item in steps["pull"])
    submission = steps["blend"]["submission"]
    assert submission["status"] == "COMPLETE"
    assert 0.0 <= float(submission["public_score"]) <= 1.0


def test_watch_shows_states_and_log_lines(scored):
    _, steps = scored
    assert "features_lr-small-1: complete" in steps["watch"].stdout
    assert "out-of-fold auc" in steps["watch"].stderr


def test_the_file_covers_the_sample_submission(scored):
    workspace, steps = scored
    with open(steps["blend"]["csv"]) as handle:
        rows = list(csv.DictReader(handle))
    with (workspace.drawn.data_folder / "sample_submission.csv").open() as handle:
        wanted = [row["image_id"] for row in csv.DictReader(handle)]
    assert [row["image_id"] for row in rows] == wanted


def test_the_record_tells_where_the_file_came_from(scored):
    _, steps = scored
    record = json.loads(open(steps["blend"]["record"]).read())
    data = open(steps["blend"]["csv"], "rb").read()
    assert record["file"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert record["submission"]["ref"] == steps["blend"]["submission"]["ref"]
    for member in record["members"]:
        assert member["kernel"].endswith("/versions/1")
        assert len(member["manifest_sha256"]) == 64
    assert sum(member["weight"] for member in record["members"]) == pytest.approx(1)


def test_pushing_the_same_bytes_again_is_already_there(scored):
    workspace, steps = scored
    again = workspace.json("push", "quick", "--profile", "small")
    assert again[0]["already_there"] is True
    assert again[0]["run"]["run_id"] == steps["push"][1]["run"]["run_id"]


def test_force_makes_a_new_version_of_the_same_kernel(scored):
    workspace, _ = scored
    forced = workspace.json("push", "quick", "--profile", "small", "--force")
    assert forced[0]["already_there"] is False
    assert forced[0]["run"]["kernel"]["version"] == 2
    workspace.run("watch", "--follow")


def test_submitting_the_same_file_again_submits_nothing(scored):
    workspace, steps = scored
    names = [member["run_id"] for member in steps["blend"]["members"]]
    again = workspace.json("blend-and-submit", "--runs", ",".join(names))
    assert again["submission"]["ref"] == steps["blend"]["submission"]["ref"]


def test_a_dry_blend_submits_nothing(scored):
    workspace, _ = scored
    before = len(workspace.json("status")["submissions"])
    result = workspace.json("blend-and-submit", "--dry-run", "--profile", "small", "--floor", "0")
    assert result["submission"] is None
    assert len(workspace.json("status")["submissions"]) == before


def test_checkpoints_come_only_when_asked(scored):
    workspace, _ = scored
    folder = workspace.folder / ".harness" / "runs" / "quick-small-1" / "outputs" / "checkpoints"
    assert not folder.exists()
    workspace.run("pull", "quick-small-1", "--checkpoints")
    assert (folder / "quick.bin").read_bytes() == b"w" * 1000


def test_pull_mends_a_file_that_was_damaged_here(scored):
    workspace, _ = scored
    path = (
        workspace.folder
        / ".harness"
        / "runs"
        / "quick-small-1"
        / "outputs"
        / "test_predictions.csv"
    )
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    damaged = workspace.run("blend-and-submit", "--runs", "quick-small-1", "--dry-run", ok=False)
    assert damaged.returncode == 1
    assert "test_predictions.csv" in damaged.stderr
    workspace.run("pull", "quick-small-1")
    assert path.read_bytes() == good


def test_secrets_of_home_never_reach_the_local_kaggle_or_its_kernels(scored):
    workspace, _ = scored
    for path in (workspace.folder / ".harness").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert PLANTED.encode() not in data, path
            assert b"planted-key" not in data, path


def test_home_is_left_as_it_was(scored):
    workspace, _ = scored
    from pathlib import Path

    home = Path(workspace.environment["HOME"])
    assert sorted(path.relative_to(home).as_posix() for path in home.rglob("*")) == [
        ".kaggle",
        ".kaggle/access_token",
        ".kaggle/kaggle.json",
    ]


def test_a_crash_gives_the_last_lines_and_the_logs_path(joined):
    joined.add_strategy(
        "crashing", "print('one step before')\nraise RuntimeError('CUDA out of memory')"
    )
    joined.run("push", "crashing", "--profile", "small")
    joined.run("watch", "--follow")
    failed = joined.run("pull", ok=False)
    assert failed.returncode == 1
    assert "CUDA out of memory" in failed.stderr
    assert "one step before" in failed.stderr
    assert ".harness/runs/crashing-small-1" in failed.stderr
    assert joined.run("pull").stdout.startswith("Nothing new")


def test_a_crashed_strategy_may_be_pushed_again_unchanged(joined):
    joined.add_strategy("flaky", "raise RuntimeError('no luck')")
    joined.run("push", "flaky", "--profile", "small")
    joined.run("watch", "--follow")
    again = joined.json("push", "flaky", "--profile", "small")
    assert again[0]["already_there"] is False
    joined.run("watch", "--follow")


def test_a_kernel_that_skips_the_contract_is_refused_at_pull(joined):
    joined.add_strategy("silent", "import sys\nprint('leaving early', flush=True)\nsys.exit(0)")
    joined.run("push", "silent", "--profile", "small")
    joined.run("watch", "--follow")
    refused = joined.run("pull", "silent", ok=False)
    assert refused.returncode == 1
    assert "manifest.json" in refused.stderr


def test_a_kernel_outlives_the_command_that_pushed_it(joined):
    joined.add_strategy("slow", "import time\ntime.sleep(3)\n" + QUICK_PIPELINE)
    joined.run("push", "slow", "--profile", "small")
    seen = joined.json("watch")
    assert seen[0]["state"] in ("QUEUED", "RUNNING")
    deadline = time.monotonic() + 60
    while joined.json("watch") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert joined.json("pull", "slow")[0]["error"] is None


def test_a_dry_run_passes_for_the_bytes_that_push_sends(joined):
    rehearsed = joined.json("dry-run", "quick", "--profile", "cpu")
    pushed = joined.json("push", "quick", "--profile", "cpu")
    assert pushed[0]["run"]["digest"] == rehearsed["digest"]
    assert pushed[0]["rehearsed_at"] is not None
    joined.run("watch", "--follow")


def test_a_failing_dry_run_says_why(joined):
    joined.add_strategy("wrong", "writer.add_oof(['x'], 0, 0, np.array([1]), np.array([np.nan]))")
    failed = joined.run("dry-run", "wrong", ok=False)
    assert failed.returncode == 1
    assert "NaN" in failed.stderr


def test_fold_and_set_make_experiments_of_their_own(joined):
    build = joined.json(
        "render",
        "features_lr",
        "--profile",
        "small",
        "--fold",
        "1",
        "--set",
        "glcm_levels=16",
        "--tag",
        "coarse",
    )
    assert "glcm_levels=16" in build["source"]
    assert "run_folds=(1,)" in build["source"]
    assert "f1" in build["handle"]["slug"]
    assert build["handle"]["slug"].endswith("coarse")
