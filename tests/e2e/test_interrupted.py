"""Whatever ends a command, running it again ends where it was meant to: one version, one submission."""

import os
import signal
import time

import pytest
from e2e_tools import QUICK_PIPELINE

from harness.emulator import State, faults


@pytest.fixture
def local_kaggle(joined):
    state = State(joined.folder / ".harness" / "local-kaggle")
    yield state
    faults.clear(state)
    state.close()


def test_a_push_whose_answer_was_lost_is_found_again(joined, local_kaggle):
    faults.switch(local_kaggle, "push-lost-ack")
    lost = joined.run("push", "quick", "--profile", "small", "--tag", "lost", ok=False)
    assert lost.returncode == 1
    assert "asks first" in lost.stderr
    found = joined.json("push", "quick", "--profile", "small", "--tag", "lost")
    assert found[0]["already_there"] is True
    assert found[0]["run"]["kernel"]["version"] == 1
    joined.run("watch", "--follow")
    sessions = [item for item in local_kaggle.sessions() if "lost" in str(item)]
    assert len(sessions) == 1


def test_a_push_that_never_arrived_is_sent_again(joined, local_kaggle):
    faults.add(local_kaggle, "*SaveKernel", "drop")
    failed = joined.run("push", "quick", "--profile", "small", "--tag", "dropped", ok=False)
    assert failed.returncode == 1
    again = joined.json("push", "quick", "--profile", "small", "--tag", "dropped")
    assert again[0]["already_there"] is False
    assert again[0]["run"]["kernel"]["version"] == 1
    joined.run("watch", "--follow")
    assert [run["state"] for run in joined.json("runs") if "dropped" in run["run_id"]] == [
        "REJECTED",
        "COMPLETE",
    ]


def test_a_submission_whose_answer_was_lost_is_not_sent_again(joined, local_kaggle):
    joined.run("push", "quick", "--profile", "small", "--tag", "once")
    joined.run("watch", "--follow")
    joined.run("pull")
    faults.switch(local_kaggle, "submit-lost-ack")
    lost = joined.run("blend-and-submit", "--runs", "quick-small-once-1", ok=False)
    assert lost.returncode == 1
    again = joined.json("blend-and-submit", "--runs", "quick-small-once-1")
    assert again["submission"]["ref"] == 1
    assert len(local_kaggle.submissions("masked-xray-challenge")) == 1


def test_a_killed_pull_is_finished_by_the_next(joined, local_kaggle):
    faults.add(local_kaggle, "GET /files*", "slow", {"seconds": 30.0}, skip=2)
    process = joined.start("pull", "quick-small-once-1", "--checkpoints")
    time.sleep(3)
    process.kill()
    process.wait()
    faults.clear(local_kaggle)
    done = joined.json("pull", "quick-small-once-1", "--checkpoints")
    assert done[0]["error"] is None
    outputs = joined.folder / ".harness" / "runs" / "quick-small-once-1" / "outputs"
    assert (outputs / "checkpoints" / "quick.bin").stat().st_size == 1000
    assert not list(outputs.rglob("*.part"))


def test_ctrl_c_during_watch_says_what_goes_on(joined):
    joined.add_strategy("sleeper", "import time\ntime.sleep(20)")
    joined.run("push", "sleeper", "--profile", "small")
    process = joined.start("watch", "--follow")
    time.sleep(3)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert joined.json("watch")[0]["state"] == "RUNNING"


def test_a_watch_goes_on_by_itself_when_the_local_server_is_killed(joined, local_kaggle):
    joined.add_strategy("dozer", f"import time\ntime.sleep(8)\n{QUICK_PIPELINE}")
    server = joined.start("local", "serve")
    try:
        wait_for((local_kaggle.folder / "server.json").is_file)
        joined.run("push", "dozer", "--profile", "small")
        watch = joined.start("watch", "--follow")
        assert watch.stdout is not None
        while "dozer" not in watch.stdout.readline():  # connected, and told of the run
            assert watch.poll() is None
    finally:
        server.kill()
        server.wait()
    said, errors = watch.communicate(timeout=60)
    assert watch.returncode == 0, errors
    assert "dozer-small-1: complete" in said
    assert "asking again in 1 s" in errors


def wait_for(true, seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lost_push_is_found_although_the_code_has_changed_since(joined, local_kaggle):
    faults.switch(local_kaggle, "push-lost-ack")
    joined.run("push", "quick", "--profile", "small", "--tag", "edited", ok=False)
    pipeline = joined.folder / "kernels" / "pipelines" / "quick.py"
    pipeline.write_text(pipeline.read_text() + "\n# a remark\n")
    joined.run("push", "quick", "--profile", "small", "--tag", "edited")
    joined.run("watch", "--follow")
    runs = [run for run in joined.json("runs") if "edited" in run["run_id"]]
    assert [(run["state"], run["kernel"]["version"]) for run in runs] == [
        ("COMPLETE", 1),
        ("COMPLETE", 2),
    ]


def test_two_pushes_at_once_make_one_version(joined, local_kaggle):
    faults.add(local_kaggle, "*SaveKernel", "slow", {"seconds": 3.0})
    command = ("push", "quick", "--profile", "small", "--tag", "twice", "--json")
    both = [joined.start(*command) for _ in range(2)]
    joined.run("watch")  # must not take the push on its way for one that was cut off
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    runs = [run for run in joined.json("runs") if "twice" in run["run_id"]]
    assert [run["kernel"]["version"] for run in runs] == [1]
    joined.run("watch", "--follow")


def test_an_ignored_source_stays_in_sight(joined, local_kaggle):
    faults.switch(local_kaggle, "invalid-sources")
    refused = joined.run("push", "quick", "--profile", "small", "--tag", "ignored", ok=False)
    assert "runs without it" in refused.stderr
    (run,) = [run for run in joined.json("runs") if "ignored" in run["run_id"]]
    assert run["kernel"]["version"] == 1
    assert run["state"] == "QUEUED"
    joined.run("watch", "--follow")


def test_a_run_that_the_service_refuses_to_tell_about_does_not_stop_the_others(
    joined, local_kaggle
):
    joined.run("push", "quick", "--profile", "small", "--tag", "refused")
    faults.switch(local_kaggle, "unknown-kernel-403", times=1)
    done = joined.run("watch")
    assert "refused to tell" in done.stderr
    joined.run("watch", "--follow")
