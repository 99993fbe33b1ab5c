"""The public folder layout: read whole, grouped by patient, its test labels out of training's reach."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.emulator.grader import check_solution, score
from harness.synthetic import draw_folder_competition
from kernels.blocks.grouping import groups_of
from kernels.blocks.tables import groups_by_id, labels_of_test
from kernels.competitions.chest_pneumonia import COMPETITION, read_tables
from kernels.config import FoldsConfig


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_folder_competition(
        tmp_path_factory.mktemp("drawn"), n_train=30, n_val=4, n_test=12, size=48
    )


@pytest.fixture
def data(drawn, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(drawn.data_folder, tmp_path / "data"))


def test_train_and_val_are_joined_and_test_stays_apart(drawn):
    tables = read_tables(drawn.data_folder)
    splits = tables.labelled["id"].str.partition("/")[0].value_counts().to_dict()
    assert splits == {"train": 30, "val": 4}
    assert tables.labelled["id"].is_monotonic_increasing or set(splits) == {"train", "val"}
    for frame in (tables.labelled, tables.test):
        assert all(Path(path).is_file() for path in frame["path"])
    folders = tables.labelled["path"].map(lambda path: Path(path).parent.name)
    assert (folders.map({"NORMAL": 0, "PNEUMONIA": 1}) == tables.labelled["pneumonia"]).all()
    assert len(tables.unlabelled) == 0


def test_test_labels_are_only_in_their_own_table(drawn):
    tables = read_tables(drawn.data_folder)
    assert list(tables.test.columns) == ["id", "path", "group"]
    solution = pd.read_csv(drawn.solution_csv)
    assert list(tables.test_targets["id"]) == list(tables.test["id"])
    merged = tables.test_targets.merge(solution, on="id", suffixes=("", "_drawn"))
    assert len(merged) == 12
    assert (merged["pneumonia"] == merged["pneumonia_drawn"]).all()
    labels = labels_of_test(tables, COMPETITION.target_columns)
    assert set(labels) == set(tables.test["id"])
    assert set(labels.values()) == {(0,), (1,)}


def test_groups_are_the_patients_that_were_drawn(drawn):
    tables = read_tables(drawn.data_folder)
    groups, report = groups_of(tables.labelled, FoldsConfig(), Path("unused"))
    patients = tables.labelled["id"].map(drawn.patients).to_numpy()
    same_group = groups[:, None] == groups[None, :]
    assert (same_group == (patients[:, None] == patients[None, :])).all()
    assert report["source"] == "column"
    assert len(np.unique(groups)) < len(groups)
    assert set(groups_by_id(tables)) == set(tables.labelled["id"]) | set(tables.test["id"])


def test_local_kaggle_can_score_it(drawn):
    sample = drawn.data_folder / "sample_submission.csv"
    columns = (COMPETITION.id_column, COMPETITION.target_columns, COMPETITION.metric)
    assert COMPETITION.slug == drawn.slug == drawn.data_folder.name
    assert list(pd.read_csv(sample).columns) == [columns[0], *columns[1]]
    assert list(pd.read_csv(sample)["id"]) == list(read_tables(drawn.data_folder).test["id"])
    check_solution(drawn.solution_csv, *columns, "seed", 1.0)
    assert score(sample, drawn.solution_csv, *columns, "seed", 1.0).public == 0.5


def test_wrapping_folders_and_hidden_files_of_the_public_archive_are_passed_over(data, tmp_path):
    outer = tmp_path / "outer" / "chest_xray"
    outer.parent.mkdir()
    shutil.move(data, outer)
    (outer / "train" / "NORMAL" / "._IM-0001-0001.jpeg").write_bytes(b"resource fork")
    (outer / "train" / "PNEUMONIA" / ".DS_Store").write_bytes(b"")
    tables = read_tables(tmp_path / "outer")
    assert len(tables.labelled) == 34


def test_without_patients_in_names_near_copies_are_looked_for(data):
    for number, path in enumerate(sorted(data.rglob("*.jpeg"))):
        path.rename(path.with_name(f"film{number}.jpeg"))
    tables = read_tables(data)
    assert "group" not in tables.labelled.columns
    assert groups_by_id(tables) == {}


def test_one_film_without_a_patient_is_a_patient_of_its_own(data):
    first = sorted((data / "train" / "NORMAL").iterdir())[0]
    first.rename(first.with_name("scan.jpeg"))
    labelled = read_tables(data).labelled.set_index("id")
    assert labelled.loc["train/scan", "group"] == "train/scan"


def test_flat_test_folder_is_one_without_labels(data):
    for path in sorted((data / "test").rglob("*.jpeg")):
        shutil.move(path, data / "test" / path.name)
    for name in ("NORMAL", "PNEUMONIA"):
        (data / "test" / name).rmdir()
    tables = read_tables(data)
    assert len(tables.test) == 12
    assert tables.test_targets is None
    assert labels_of_test(tables, COMPETITION.target_columns) is None


def test_val_may_be_missing(data):
    shutil.rmtree(data / "val")
    assert len(read_tables(data).labelled) == 30


def test_missing_folders_and_repeated_names_are_named(data):
    shutil.rmtree(data / "test" / "NORMAL")
    with pytest.raises(FileNotFoundError, match="NORMAL"):
        read_tables(data)
    shutil.rmtree(data / "test" / "PNEUMONIA")
    with pytest.raises(ValueError, match="no test images"):
        read_tables(data)
    twin = sorted((data / "train" / "NORMAL").iterdir())[0]
    shutil.copy(twin, data / "train" / "PNEUMONIA" / twin.name)
    with pytest.raises(ValueError, match="duplicated ids"):
        read_tables(data)
    shutil.rmtree(data / "train" / "NORMAL")
    with pytest.raises(FileNotFoundError, match="lay the films out"):
        read_tables(data)


def test_drawing_is_repeatable(drawn, tmp_path):
    again = draw_folder_competition(tmp_path, n_train=30, n_val=4, n_test=12, size=48)
    for path in sorted(again.data_folder.rglob("*.*")):
        twin = drawn.data_folder / path.relative_to(again.data_folder)
        assert path.read_bytes() == twin.read_bytes()
