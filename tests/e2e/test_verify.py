"""verify believes nothing: it reads the files and asks the remote, and names what is not as the ledger says."""

import json

import pytest

from harness.emulator import State


@pytest.fixture(scope="module")
def looped(joined):
    joined.run("push", "quick", "--profile", "small")
    joined.run("watch", "--follow")
    joined.run("pull", "--checkpoints")
    joined.run("blend-and-submit", "--profile", "small")
    joined.run(
        "push", "quick", "--profile", "small"
    )  # the code dataset is confirmed by the next push
    return joined


def wrong_claims(workspace, *options):
    done = workspace.run("verify", *options, "--json", ok=False)
    said = json.loads(done.stdout)
    wrong = [claim for claim in said["claims"] if claim["status"] in ("wrong", "missing")]
    assert done.returncode == (1 if wrong else 0)
    assert said["wrong"] == len(wrong)
    assert all(claim["next_step"] for claim in wrong)
    return {(claim["kind"], claim["what"].split(": ")[-1]): claim["status"] for claim in wrong}


def test_a_whole_loop_is_as_the_ledger_says(looped):
    done = looped.run("verify")
    assert ", 0 wrong, 0 open" in done.stdout


def test_what_changed_on_this_disk_is_named_and_mended_by_its_next_step(looped):
    run = looped.folder / ".harness" / "runs" / "quick-small-1"
    oof = run / "outputs" / "oof_predictions.csv"
    oof.write_bytes(oof.read_bytes().replace(b"0.", b"1.", 1))
    (run / "outputs" / "checkpoints" / "quick.bin").unlink()
    (run / "script.py").write_text("print('another')\n")
    (csv,) = (looped.folder / "submissions").rglob("*.csv")
    csv.write_text(csv.read_text() + "\n")
    assert wrong_claims(looped, "--local-only") == {
        ("output", "oof_predictions.csv"): "wrong",
        ("output", "checkpoints/quick.bin"): "missing",
        ("script", "script.py"): "wrong",
        ("submission", "the file"): "wrong",
    }
    looped.run("pull", "quick-small-1", "--checkpoints")
    looped.run("rebuild", str(csv), "-o", str(csv))
    assert wrong_claims(looped, "--local-only") == {}


def test_what_changed_on_the_remote_is_named(looped):
    state = State(looped.folder / ".harness" / "local-kaggle")
    with state.write() as db:
        kept = db.execute("SELECT * FROM kernel_versions").fetchone()
        db.execute("UPDATE kernel_versions SET source = 'print(1)'")
        db.execute("UPDATE submissions SET description = 'of somebody else'")
        db.execute("UPDATE dataset_files SET size = size + 1 WHERE path LIKE 'kernels/config%'")
    names = {kind for kind, _ in wrong_claims(looped)}
    # A second version with the bytes of the first: what a blind retry would have made.
    with state.write() as db:
        columns = [name for name in kept.keys() if name != "id"]  # noqa: SIM118 (sqlite3.Row)
        marks = ",".join("?" * len(columns))
        values = [2 if name == "number" else kept[name] for name in columns]
        db.execute(f"INSERT INTO kernel_versions({','.join(columns)}) VALUES ({marks})", values)
    twice = [what for kind, what in wrong_claims(looped) if what.endswith("versions/2")]
    state.close()
    assert names == {"kernel", "submission", "dataset"}
    assert len(twice) == 1
