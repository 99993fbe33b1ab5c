"""A competition is read off its folder, and what was written works at once: read, listed, rendered, tested."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands.init import init, kernels_source
from harness.commands.new import check_name, new_test, read_layout
from harness.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def write_csv(path, header, rows):
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


def lay(folder, header, rows, targets, labels="train.csv", images="train"):
    """A competition's folder with empty image files: telling a layout opens none."""
    for name in (images, "test", "more"):
        (folder / name).mkdir(parents=True)
    for row in rows:
        (folder / images / f"{row[0]}.jpg").touch()
    for number in range(3):
        (folder / "test" / f"t{number}.jpg").touch()
        (folder / "more" / f"u{number}.jpg").touch()
    write_csv(folder / labels, header, rows)
    write_csv(
        folder / "sample_submission.csv",
        [header[0], *targets],
        [[f"t{n}", *[0.5] * len(targets)] for n in range(3)],
    )
    return folder


def test_several_targets_that_occur_together_are_no_classes(tmp_path):
    rows = [[f"a{n}", n % 2, 1, f"p{n}"] for n in range(6)]
    found = read_layout(lay(tmp_path / "d", ["id", "x", "y", "patient_id"], rows, ["x", "y"]))
    assert (found.id_column, found.targets, found.exclusive) == ("id", ("x", "y"), False)
    assert (found.labels_csv, found.labelled, found.test, found.unlabelled) == (
        "train.csv",
        "train",
        "test",
        "more",
    )
    assert found.group == "patient_id"
    assert found.notes == ()


def test_of_columns_that_could_be_the_class_the_one_with_most_targets_is_taken_and_said(tmp_path):
    rows = [[f"a{n}", n % 2, n % 2, n % 3] for n in range(9)]
    found = read_layout(lay(tmp_path / "d", ["id", "fold", "view", "label"], rows, ["0", "1", "2"]))
    assert found.class_column == "label"
    assert any("view would fit as well" in note for note in found.notes)
    rows = [[f"a{n}", n % 2] for n in range(9)]
    found = read_layout(lay(tmp_path / "few", ["id", "label"], rows, ["0", "1", "2"]))
    assert any("2 of 3 targets occur" in note for note in found.notes)


def test_a_patient_goes_before_a_study_and_a_date_is_neither(tmp_path):
    rows = [[f"a{n}", n % 2, "c", "2020", f"s{n}", f"p{n}"] for n in range(6)]
    columns = ["id", "y", "case_control", "study_date", "study_id", "patient_id"]
    found = read_layout(lay(tmp_path / "d", columns, rows, ["y"]))
    assert found.group == "patient_id"
    assert any("so could be study_id" in note for note in found.notes)


def test_a_test_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text("MINE")
    with pytest.raises(ConfigError, match="exists already"):
        new_test(tmp_path, "test_mine.py")
    assert new_test(tmp_path, "test_other.py").parent.is_dir()


def test_one_target_a_row_makes_classes(tmp_path):
    rows = [[f"a{n}", int(n % 3 == 0), int(n % 3 == 1), int(n % 3 == 2)] for n in range(6)]
    assert read_layout(lay(tmp_path / "d", ["id", "x", "y", "z"], rows, ["x", "y", "z"])).exclusive


def test_a_column_of_class_names_is_found_in_a_table_of_any_name(tmp_path):
    rows = [[f"a{n}", "xy"[n % 2]] for n in range(6)]
    found = read_layout(
        lay(tmp_path / "d", ["id", "kind"], rows, ["x", "y"], "labels.csv", "pictures")
    )
    assert (found.class_column, found.labels_csv, found.labelled) == (
        "kind",
        "labels.csv",
        "pictures",
    )
    assert found.exclusive


def test_labels_that_are_nowhere_are_told_and_a_missing_sample_is_refused(tmp_path):
    folder = lay(tmp_path / "d", ["id", "x"], [["a0", 1]], ["x"])
    (folder / "train.csv").unlink()
    assert "set labels_csv" in read_layout(folder).notes[0]
    (folder / "sample_submission.csv").write_text("id\n")
    with pytest.raises(ConfigError, match="leave --from away"):
        read_layout(folder)


@pytest.mark.parametrize("name", ["Lines", "1st", "my-comp", "class", "", "../up", "x" * 60, "a b"])
def test_names_that_cannot_be_modules_are_refused_with_one_that_can(name):
    with pytest.raises(ConfigError) as refused:
        check_name(name, "competition", [])
    suggestion = refused.value.hint.removeprefix("Try: ")
    if len(name) < 40 and name != "class":
        check_name(suggestion, "competition", [])


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ConfigError, match="already"):
        check_name("lines", "competition", ["lines"])


def test_a_workspace_is_made_once_and_what_is_there_is_kept(tmp_path):
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("# mine\n")
    (folder / ".kernels.part").mkdir()  # of one that was cut off
    made = init(folder)
    assert made.files == ("kernels/", ".gitignore")
    assert (folder / "pyproject.toml").read_text() == "# mine\n"
    assert (folder / "kernels" / "config.py").read_bytes() == (
        kernels_source() / "config.py"
    ).read_bytes()
    assert not list(folder.rglob("__pycache__"))
    with pytest.raises(ConfigError, match="already"):
        init(folder)
    (tmp_path / "x" / "kernels").mkdir(parents=True)
    with pytest.raises(ConfigError, match="something else"):
        init(tmp_path / "x")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh")
    home = tmp_path_factory.mktemp("home")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
    }

    def run(*arguments, ok=True, module="harness"):
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=folder, env=environment, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    run("init")
    return folder, run


def test_from_an_empty_folder_to_a_strategy_of_another_kind_that_renders(workspace):
    folder, run = workspace
    rows = [
        [f"a{n}", int(n % 3 == 0), int(n % 3 == 1), int(n % 3 == 2), f"p{n // 2}"] for n in range(9)
    ]
    odd = 'y - "odd" \\name'  # a column's name is other people's text
    lay(folder / "data", ["id", "x", odd, "z", "patient"], rows, ["x", odd, "z"])
    made = json.loads(run("new", "competition", "kinds", "--from", "data", "--json").stdout)
    assert made["facts"] == {
        "slug": "kinds", "metric": "multiclass_log_loss", "kind": "csv", "targets": ["x", odd, "z"],
        "labelled": 9, "test": 3, "unlabelled": 3,
    }  # fmt: skip
    run("new", "strategy", "kinds_probe", "--like", "linear_probe", "--competition", "kinds")
    listed = run("strategies", "--json").stdout
    assert '"kinds_probe"' in listed
    script = run("render", "kinds_probe", "--set", "weights=random").stdout
    assert "slug='kinds'" in script or 'slug="kinds"' in script
    assert " passed" in run("-q", "tests", module="pytest").stdout
    again = run("new", "competition", "kinds", ok=False)
    assert "already" in again.stderr


def test_a_folder_of_the_local_kaggle_gives_its_slug_and_kind_and_classes_their_metric(workspace):
    folder, run = workspace
    rows = [[f"a{n}", "xyz"[n % 3]] for n in range(9)]
    lay(folder / "films", ["id", "shape"], rows, ["x", "y", "z"])
    run("local", "competition", "add", "films", "--slug", "shapes-2026", "--kind", "code", "--metric", "log_loss")  # fmt: skip
    done = run("new", "competition", "shapes", "--from", "films", "--metric", "log_loss")
    assert "shapes-2026: 3 targets" in done.stdout
    assert "--slug shapes-2026" in done.stdout
    assert "its slug is 'shapes-2026'" in done.stderr
    assert "for classes it is multiclass_log_loss" in done.stderr
    assert 'kind="code"' in (folder / "kernels" / "competitions" / "shapes.py").read_text()
    # A second file about the same data is of another competition.
    again = run("new", "competition", "shapes_again", "--from", "films")
    assert "shapes-again: 3 targets" in again.stdout
    assert "multiclass_log_loss" not in again.stderr


def test_what_cannot_be_made_leaves_no_file_and_says_why(workspace):
    folder, run = workspace
    for arguments, words in (
        (("competition", "other", "--from", "nowhere"), "has no competition"),
        (("competition", "other", "--metric", "wishes"), "Unknown metric"),
        (("strategy", "inference", "--like", "linear_probe"), "already"),
        (("strategy", "other", "--like", "linear_prob"), "Did you mean 'linear_probe'"),
        (("strategy", "other", "--like", "ssl", "--competition", "nobody"), "Unknown competition"),
    ):
        assert words in run("new", *arguments, ok=False).stderr
    assert not list(folder.rglob("*other*.py"))
