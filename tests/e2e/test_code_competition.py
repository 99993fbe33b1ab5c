"""A code competition from training to a scored kernel submission: three commands, a hidden test, a bad film."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2e_tools import QUICK_PIPELINE

from harness.emulator import State

HIDDEN = 24  # films of the drawn test; a third of them is shown


@pytest.fixture(scope="module")
def code_competition(workspace, tmp_path_factory):
    """The drawn competition takes kernels; most of its test is hidden, and one hidden film is damaged."""
    module = workspace.folder / "kernels" / "competitions" / "masked_xray.py"
    module.write_text(
        module.read_text().replace('metric="auc",', 'metric="auc",\n    kind="code",')
    )
    root = tmp_path_factory.mktemp("code")
    shown, hidden = root / "shown", root / "hidden"
    shutil.copytree(workspace.drawn.data_folder, shown)
    hidden.mkdir()
    shutil.copytree(shown / "test", hidden / "test")
    shutil.copy(shown / "sample_submission.csv", hidden)
    header, *rows = (shown / "sample_submission.csv").read_text().splitlines()
    kept = rows[: HIDDEN // 3]
    (shown / "sample_submission.csv").write_text("\n".join([header, *kept]) + "\n")
    names = {row.split(",")[0] for row in kept}
    for path in (shown / "test").iterdir():
        if path.name not in names and path.stem not in names:
            path.unlink()
    victim = next(
        p
        for p in sorted((hidden / "test").iterdir())
        if p.stem not in names and p.name not in names
    )
    victim.write_bytes(b"no picture at all")
    workspace.run(
        "local", "competition", "add", str(shown), "--slug", "masked_xray",
        "--solution", str(workspace.drawn.solution_csv), "--hidden-test", str(hidden),
    )  # fmt: skip
    workspace.environment["HARNESS_PROFILE"] = "small"
    return workspace


def test_three_commands_lead_from_training_to_a_scored_kernel(code_competition):
    workspace = code_competition
    workspace.run("push", "features_lr")
    workspace.run("tick", "--follow")
    done = workspace.json("push", "--inference", "--submit", "--hidden-rows", "5000")
    assert done["members"] == ["features_lr-small-1"]
    assert done["comparison"]["rows"] == HIDDEN // 3
    assert done["comparison"]["largest"] < 1e-9
    assert all(item["rows"] == 5000 and item["fits"] for item in done["forecasts"])
    assert len(done["forecasts"]) == 2  # rehearsed here, and measured there
    submission = done["submission"]
    assert submission["status"] == "COMPLETE"
    assert 0.0 <= float(submission["public_score"]) <= 1.0
    assert (
        submission["kernel"]
        == "local/masked-xray-inference-small-" + done["blend"][-8:] + "/versions/1"
    )
    # The hidden films were predicted, and the damaged one got the fallback.
    rerun = workspace.folder / ".harness/local-kaggle/runs/rerun-00000001/working"
    metrics = json.loads((rerun / "metrics.json").read_text())
    assert (metrics["n_test"], metrics["n_unreadable"], metrics["rerun"]) == (HIDDEN, 1, True)

    # Once more: rehearsed, pushed and submitted already.
    again = workspace.json("push", "--inference", done["blend"], "--submit")
    assert again["already_there"] is True
    assert again["submission"]["ref"] == submission["ref"]


def test_a_member_of_a_thin_script_is_inferred_by_a_whole_one(code_competition):
    workspace = code_competition
    workspace.run("push", "features_lr", "--bundle", "dataset", "--tag", "thin")
    workspace.run("tick", "--follow")
    blend = workspace.json("blend-and-submit", "--dry-run", "--runs", "features_lr-small-thin-1")
    done = workspace.json("push", "--inference", Path(blend["csv"]).stem, "--bundle", "dataset")
    assert done["members"] == ["features_lr-small-thin-1"]
    assert done["comparison"]["rows"] == HIDDEN // 3
    assert done["comparison"]["largest"] < 1e-9
    folder = workspace.folder / ".harness" / "runs" / done["run"]["run_id"]
    assert json.loads((folder / "kernel-metadata.json").read_text())["dataset_sources"] == []
    assert "def predict_member" in (folder / "script.py").read_text()


def test_a_member_without_a_loadable_model_is_named(code_competition):
    workspace = code_competition
    workspace.run("push", "quick")
    workspace.run("tick", "--follow")
    blend = workspace.json("blend-and-submit", "--dry-run", "--runs", "quick-small-1")
    refused = workspace.run("push", "--inference", blend["csv"], ok=False)
    assert refused.returncode == 1
    assert "quick-small-1 cannot be used" in refused.stderr
    assert "pipeline 'quick'" in refused.stderr


def test_wrong_words_are_told(code_competition):
    refused = code_competition.run("push", "--inference", "no-such-blend", ok=False)
    assert "No blends are called 'no-such-blend'" in refused.stderr
    refused = code_competition.run("push", "features_lr", "--inference", "x", ok=False)
    assert "takes a blend, not strategies" in refused.stderr
    refused = code_competition.run("push", "features_lr", "--submit", ok=False)
    assert "go with --inference" in refused.stderr


@pytest.fixture
def gpu_blend(code_competition):
    """A blend whose member was trained on a GPU, as the ledger has it, and two kernels that never end."""
    workspace = code_competition
    strategies = workspace.folder / "kernels" / "strategies"
    text = (strategies / "features_lr.py").read_text()
    full, small = (text.partition(f"{name}=")[2].partition(",\n")[0] for name in ("full", "small"))
    text = text.replace(full, small).replace(
        'name="features_lr"', 'name="features_gpu",\n    accelerator="gpu"'
    )
    (strategies / "features_gpu.py").write_text(text)
    for name in ("hog_one", "hog_two"):
        workspace.add_strategy(name, "import time\ntime.sleep(600)\n" + QUICK_PIPELINE)
        path = strategies / f"{name}.py"
        path.write_text(path.read_text().replace("profiles=", 'accelerator="gpu", profiles='))
    workspace.environment["HARNESS_PROFILE"] = "full"
    workspace.run("push", "features_gpu")
    workspace.run("tick", "--follow")
    blend = workspace.json("blend-and-submit", "--dry-run", "--runs", "features_gpu-1")
    yield Path(blend["csv"]).stem
    workspace.environment["HARNESS_PROFILE"] = "small"


def end_kernels(workspace):
    state = State(workspace.folder / ".harness" / "local-kaggle")
    for session in state.sessions(active=True):
        state.cancel(int(session["id"]))
    state.close()


def test_with_both_gpu_sessions_busy_the_blend_waits_its_turn(code_competition, gpu_blend):
    workspace, run_id = code_competition, f"inference-{gpu_blend[-8:]}"
    workspace.run("push", "hog_one", "hog_two")
    waits = workspace.json("push", "--inference", gpu_blend, "--no-rehearse")
    assert "GPU session count of 2 reached" in waits["queued"]["reason"]
    assert [item["spec"]["strategy"] for item in workspace.json("queue")] == ["inference"]
    # A tick keeps it in the queue while the sessions are taken, and pushes it afterwards.
    (item,) = workspace.json("tick")["waiting"]
    assert item["reason"] == "hog_one-1 and hog_two-1 use the 2 GPU sessions."
    end_kernels(workspace)
    followed = workspace.run("tick", "--follow", ok=False).stdout  # the two were ended: exit code 1
    assert f"{run_id}-1: pushed as" in followed
    assert workspace.json("queue") == []

    # Asked to submit, a push waits by itself, and goes on when a session is free.
    workspace.run("push", "hog_one", "hog_two", "--force")
    with ThreadPoolExecutor() as pool:
        words = ("push", "--inference", gpu_blend, "--submit", "--force", "--no-rehearse")
        submitted = pool.submit(workspace.run, *words)
        deadline = time.monotonic() + 120
        while not workspace.json("queue") and time.monotonic() < deadline:
            time.sleep(0.5)
        end_kernels(workspace)
    done = submitted.result()
    assert "waiting for a session" in done.stderr
    assert f"{run_id}-2: pushed as" in done.stdout
    assert "public score" in done.stdout
    assert workspace.json("queue") == []
