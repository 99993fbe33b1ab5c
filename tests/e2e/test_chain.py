"""Kernels that start from another one's output, and tick, which carries everything one step further."""

import json
import signal
import time

import pytest
from e2e_tools import QUICK_PIPELINE

from harness.emulator import State, faults

# Reads a checkpoint of the run it starts from, and says so in its own.
SECOND = (
    'found = (writer.datasets["quick"] / "checkpoints" / "quick.bin").read_bytes()\n'
    "assert found == b'w' * 1000\n" + QUICK_PIPELINE
).replace('"quick.bin").write_bytes(b"w" * 1000)', '"second.bin").write_bytes(found + b"2")')


# Stops at its time budget once, half-way, and goes on from what it left.
HALVES = (
    "if writer.session.number == 1:\n"
    "    writer.session.path('half.txt').write_text('the first half')\n"
    "    writer.session.worked()\n"
    "    writer.session.check('its first half')\n"
    "assert writer.session.path('half.txt').read_text() == 'the first half'\n" + QUICK_PIPELINE
)


@pytest.fixture(scope="module")
def chained(joined):
    joined.environment["HARNESS_PROFILE"] = "small"
    joined.add_strategy("second", SECOND, needs=("quick",))
    return joined


@pytest.fixture
def local_kaggle(chained):
    state = State(chained.folder / ".harness" / "local-kaggle")
    yield state
    faults.clear(state)
    state.close()


def kinds(report):
    return [(action["what"], action["item"]) for action in report["actions"]]


def test_a_push_brings_along_what_it_starts_from_and_tick_carries_it_to_the_end(chained):
    results = chained.json("push", "second")
    assert results[0]["run"]["run_id"] == "quick-small-1"
    assert "quick-small-1 is queued" in results[1]["queued"]["reason"]
    assert [item["spec"]["strategy"] for item in chained.json("queue")] == ["second"]
    assert chained.json("status")["next_step"] == "harness tick --follow"
    report = chained.json("tick", "--follow")
    done = kinds(report)
    assert done.index(("pulled", "quick-small-1")) < done.index(("pushed", "second-small-1"))
    assert ("pulled", "second-small-1") in done
    assert (report["left"], report["waiting"], report["open_runs"]) == (False, [], [])
    # The ledger says from which run, by the hash of its manifest.
    (second,) = [run for run in chained.json("runs") if run["spec"]["strategy"] == "second"]
    start = second["datasets"]["upstream quick"]
    assert start["run"] == "quick-small-1"
    script = (chained.folder / ".harness/runs/second-small-1/script.py").read_text()
    assert start["digest"] in script
    metadata = json.loads(
        (chained.folder / ".harness/runs/second-small-1/kernel-metadata.json").read_text()
    )
    assert metadata["kernel_sources"] == ["local/masked-xray-quick-small"]


def test_pushing_again_uses_the_finished_run_and_nothing_is_left_to_do(chained):
    (result,) = chained.json("push", "second")
    assert result["already_there"] is True
    assert chained.json("tick")["actions"] == []


def test_the_output_comes_as_a_dataset_where_the_setting_says_so(chained, local_kaggle):
    local_kaggle.configure(mount_layout="old")
    try:
        chained.run("push", "second", "--tag", "packed", HARNESS_CHAIN="dataset")
        report = chained.json("tick", "--follow", HARNESS_CHAIN="dataset")
    finally:
        local_kaggle.configure(mount_layout="new")
    assert ("pulled", "second-small-packed-1") in kinds(report)
    folder = chained.folder / ".harness" / "runs" / "second-small-packed-1"
    metadata = json.loads((folder / "kernel-metadata.json").read_text())
    assert metadata["kernel_sources"] == []
    assert metadata["dataset_sources"] == ["local/checkpoints-of-masked-xray-quick-small"]


def test_a_dry_run_needs_the_run_it_starts_from_and_rehearses_with_its_output(chained):
    rehearsed = chained.json("dry-run", "second", "--tag", "rehearsed")
    pushed = chained.json("push", "second", "--tag", "rehearsed")
    assert pushed[0]["run"]["digest"] == rehearsed["digest"]
    chained.run("tick", "--follow")
    early = chained.run("render", "second", "--profile", "cpu", ok=False)
    assert "harness push quick --profile cpu" in early.stderr


def test_what_finds_no_free_session_is_queued_and_leaves_no_trace(chained, local_kaggle):
    local_kaggle.configure(cpu_sessions=1)
    chained.add_strategy("slow", "import time\ntime.sleep(2)\n" + QUICK_PIPELINE)
    before = len(chained.json("runs"))
    results = chained.json("push", "slow", "quick", "second", "--tag", "crowd")
    assert "pushed_at" in results[0]["run"]
    assert "session count of 1 reached" in results[1]["queued"]["reason"]
    assert "session count of 1 reached" in results[2]["queued"]["reason"]
    assert len(chained.json("runs")) == before + 1
    done = kinds(chained.json("tick", "--follow"))
    for name in ("slow", "quick", "second"):
        assert ("pulled", f"{name}-small-crowd-1") in done
    assert chained.json("queue") == []
    local_kaggle.configure(cpu_sessions=5)


def test_a_run_that_hit_its_time_budget_is_taken_up_again(chained, local_kaggle):
    chained.add_strategy("halves", HALVES)
    local_kaggle.configure(extra_env={"HARNESS_BUDGET_MINUTES": "0"})
    try:
        chained.run("push", "halves")
        report = chained.json("tick", "--follow")
    finally:
        local_kaggle.configure(extra_env={})
    assert ("resumes", "halves-small-1") in kinds(report)
    first, second = [r for r in chained.json("runs") if r["spec"]["strategy"] == "halves"]
    assert "its first half" in first["unfinished"]
    assert (second["unfinished"], second["kernel"]["version"]) == (None, 2)
    assert second["score_mean_fold"] is not None
    folder = chained.folder / ".harness" / "runs" / "halves-small-2"
    metadata = json.loads((folder / "kernel-metadata.json").read_text())
    assert metadata["kernel_sources"] == ["local/masked-xray-halves-small"]


def test_a_notebook_predicts_what_its_script_predicts(chained):
    chained.run("push", "quick", "--notebook")
    report = chained.json("tick", "--follow")
    assert ("pulled", "quick-small-notebook-1") in kinds(report)
    runs = chained.folder / ".harness" / "runs"
    script, notebook = (
        (runs / name / "outputs" / "test_predictions.csv").read_bytes()
        for name in ("quick-small-1", "quick-small-notebook-1")
    )
    assert script == notebook
    cells = json.loads((runs / "quick-small-notebook-1" / "notebook.ipynb").read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown"


def test_a_failed_upstream_is_told_once_and_what_needs_it_stays_queued(chained):
    chained.add_strategy("broken", "raise RuntimeError('no luck')")
    chained.add_strategy("third", QUICK_PIPELINE, needs=("broken",))
    chained.run("push", "third")
    failed = chained.run("tick", "--follow", ok=False)
    assert failed.returncode == 1
    assert "no luck" in failed.stderr
    assert "third-small starts from broken" in failed.stderr
    assert [item["spec"]["strategy"] for item in chained.json("queue")] == ["third"]
    chained.run("queue", "--drop", "third-small")
    assert "Nothing is queued" in chained.run("queue").stdout


def test_a_second_tick_leaves_and_ctrl_c_ends_a_following_one_cleanly(chained):
    chained.add_strategy("longer", "import time\ntime.sleep(20)\n" + QUICK_PIPELINE)
    chained.run("push", "longer")
    follow = chained.start("tick", "--follow")
    assert "running" in follow.stdout.readline() or follow.poll() is None
    report = chained.json("tick")
    assert report["busy"] or report["open_runs"] == ["longer-small-1"]
    follow.send_signal(signal.SIGINT)
    _, said = follow.communicate(timeout=60)
    assert follow.returncode == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
    state = State(chained.folder / ".harness" / "local-kaggle")
    for session in state.sessions(active=True):
        state.cancel(int(session["id"]))
    state.close()
    time.sleep(0.5)
    ended = chained.run("tick", "--follow", ok=False)
    assert "longer-small-1" in ended.stderr


def test_a_push_that_was_cut_off_is_settled_by_the_next_tick(chained, local_kaggle):
    faults.switch(local_kaggle, "push-lost-ack")
    cut = chained.run("push", "quick", "--tag", "cut", ok=False)
    assert cut.returncode == 1
    faults.clear(local_kaggle)
    done = kinds(chained.json("tick", "--follow"))
    assert ("settled", "quick-small-cut-1") in done
    assert ("pulled", "quick-small-cut-1") in done
    assert len([run for run in chained.json("runs") if run["spec"]["tag"] == "cut"]) == 1
