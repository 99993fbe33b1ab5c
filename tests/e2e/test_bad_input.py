"""Mistakes get one clear line with the next step, exit code 1, no traceback, and nothing half-done."""

import pytest

from harness.errors import HarnessError
from harness.ledger import Ledger


def refused(workspace, *arguments, **extra):
    done = workspace.run(*arguments, ok=False, **extra)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error:")]
    return line


def test_an_unknown_strategy_gets_a_guess(workspace):
    line = refused(workspace, "push", "featurs_lr")
    assert "Did you mean 'features_lr'" in line


def test_an_unknown_command_gets_a_guess(workspace):
    done = workspace.run("pusch", ok=False)
    assert done.returncode == 2
    assert "Did you mean" in done.stderr
    assert "'push'" in done.stderr


def test_no_strategy_at_all_says_how_to_list_them(workspace):
    assert "harness strategies" in refused(workspace, "push")


def test_a_competition_that_is_not_there_says_how_to_get_it(workspace):
    line = refused(workspace, "push", "quick", "--profile", "small")
    assert "harness local competition add" in line
    assert workspace.json("runs") == []  # nothing was started that could only fail


def test_no_credentials_for_the_real_remote(workspace, tmp_path):
    line = refused(
        workspace, "push", "quick", "--remote", "kaggle", HOME=str(tmp_path), KAGGLE_API_TOKEN=""
    )
    assert "credentials" in line
    assert "--remote local" in line


def test_an_unreachable_kaggle_is_no_traceback(workspace, tmp_path):
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"username": "u", "key": "k"}')
    (tmp_path / ".kaggle" / "kaggle.json").chmod(0o600)
    # Every request of the official client goes to a proxy that nobody serves.
    line = refused(
        workspace, "push", "quick", "--remote", "kaggle", HOME=str(tmp_path), KAGGLE_API_TOKEN=""
    )
    assert "again" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "image_sise=3"], "image_sise"),
        (["--set", "image_size"], "key=value"),
        (["--set", "image_size=large"], "it takes int"),
        (["--fold", "9"], "fold 9"),
        (["--tag", "My Tag"], "my-tag"),
        (["--tag", "small"], "my-small"),
        (["--tag", "f0-again"], "my-f0-again"),
        (["--variant", "as-writen"], "Variants it has"),
    ],
)
def test_wrong_options_are_named(workspace, arguments, words):
    assert words in refused(workspace, "render", "features_lr", *arguments)


def test_a_file_in_the_place_of_a_rendered_folder_is_named(workspace):
    for place in ("pyproject.toml", "pyproject.toml/below"):
        assert "cannot be written" in refused(workspace, "render", "features_lr", "-o", place)


def test_pulling_before_anything_was_pushed(workspace):
    said = workspace.run("pull").stdout
    assert "Nothing new to pull" in said
    assert "harness push" in said


def test_blending_before_anything_was_pulled(workspace):
    assert "harness push" in refused(workspace, "blend-and-submit")


def test_a_missing_data_folder(workspace, tmp_path):
    assert "does not exist" in refused(workspace, "demo", "--data", str(tmp_path / "nothing"))
    assert "sample_submission.csv" in refused(
        workspace, "local", "competition", "add", str(tmp_path), "--slug", "masked_xray"
    )


def test_a_solution_inside_the_data_is_refused(workspace, tmp_path):
    (tmp_path / "sample_submission.csv").write_text("image_id,label\na,0.5\n")
    (tmp_path / "solution.csv").write_text("image_id,label\na,1\n")
    line = refused(
        workspace, "local", "competition", "add", str(tmp_path), "--slug", "masked_xray",
        "--solution", str(tmp_path / "solution.csv"),
    )  # fmt: skip
    assert "solution" in line


def test_outside_of_a_workspace(workspace, tmp_path):
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "harness", "status"],
        cwd=tmp_path,
        env=workspace.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "No workspace" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("damage", ["missing", "empty", "text"])
def test_a_bad_image_is_named_by_the_kernel(joined, tmp_path, damage):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(joined.drawn.data_folder, data)
    victim = sorted((data / "val").iterdir())[3]
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(b"" if damage == "empty" else b"no picture at all")
    joined.run("local", "competition", "add", str(data), "--slug", "masked_xray")
    joined.run("push", "features_lr", "--profile", "small", "--tag", damage)
    joined.run("watch", "--follow")
    failed = joined.run("pull", ok=False)
    assert failed.returncode == 1
    assert victim.stem in failed.stderr


def test_a_broken_ledger_is_one_line(workspace):
    path = workspace.folder / ".harness" / "ledger.sqlite3"
    good = path.read_bytes()
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    path.write_bytes(b"nothing like a database" * 100)
    try:
        assert "no readable ledger" in refused(workspace, "status")
    finally:
        path.write_bytes(good)
    with pytest.raises(HarnessError):
        Ledger(path).run("nobody")
