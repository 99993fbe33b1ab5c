"""A code competition from training to a scored kernel submission: three commands, a hidden test, a bad film."""

import json
import shutil

import pytest

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
