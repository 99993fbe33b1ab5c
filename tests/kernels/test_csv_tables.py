"""The usual layout is read with its faults named, and classes are scored and written as classes."""

import csv
import math

import numpy as np
import pytest

from kernels.blocks.csv_tables import read_csv_tables
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import KagglePaths
from kernels.config import Competition
from kernels.stats.metrics import score_metric

CLASSES = Competition(
    slug="kinds", title="Kinds", id_column="id", target_columns=("x", "y", "z"), metric="multiclass_log_loss"
)  # fmt: skip
SEVERAL = Competition(
    slug="lines", title="Lines", id_column="id", target_columns=("x", "y"), metric="macro_auc", group_column="who"
)  # fmt: skip


def write_csv(path, header, rows):
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path):
    for name, count in (("train", 4), ("test", 2), ("more", 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{name}{number}.png").touch()
    (tmp_path / "more" / "train0.png").touch()  # known already: not one without a label
    write_csv(tmp_path / "sample_submission.csv", ["id", "x"], [["test0.png", 0], ["test1.png", 0]])
    write_csv(
        tmp_path / "train.csv", ["id", "x", "y", "who"], [[f"train{n}", n % 2, n // 2, f"p{n // 2}"] for n in range(4)]
    )  # fmt: skip
    return tmp_path


def test_groups_and_unlabelled_images_are_read_and_ids_may_carry_a_suffix(folder):
    tables = read_csv_tables(folder, SEVERAL, unlabelled_folder="more")
    assert list(tables.labelled["group"]) == ["p0", "p0", "p1", "p1"]
    assert list(tables.unlabelled["id"]) == ["more0", "more1", "more2"]
    assert tables.test["path"].str.endswith("test0.png").iloc[0]


def test_names_of_classes_become_a_column_each(folder):
    write_csv(folder / "train.csv", ["id", "kind"], [[f"train{n}", "xyzx"[n]] for n in range(4)])
    tables = read_csv_tables(folder, CLASSES, class_column="kind")
    assert tables.labelled[["x", "y", "z"]].to_numpy().tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 0, 0],
    ]
    write_csv(folder / "train.csv", ["id", "kind"], [["train0", "w"]])
    with pytest.raises(ValueError, match="'w' is none of"):
        read_csv_tables(folder, CLASSES, class_column="kind")


def test_rows_of_two_classes_and_missing_columns_are_named(folder):
    write_csv(
        folder / "train.csv", ["id", "x", "y", "z"], [[f"train{n}", 1, n % 2, 0] for n in range(4)]
    )
    with pytest.raises(ValueError, match="first: train1"):
        read_csv_tables(folder, CLASSES)
    with pytest.raises(ValueError, match="no column 'who'"):
        read_csv_tables(folder, SEVERAL)


def test_the_multiclass_loss_is_the_textbooks_and_rows_are_scaled():
    targets = np.array([[1, 0, 0], [0, 0, 1]])
    probs = np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.4]])
    expected = -(math.log(0.5) + math.log(0.5)) / 2
    assert score_metric("multiclass_log_loss", targets, probs) == pytest.approx(expected)
    with pytest.raises(ValueError, match="exactly one class"):
        score_metric("multiclass_log_loss", np.array([[1, 1], [0, 1]]), probs[:, :2])


def test_a_competition_of_classes_needs_several_targets():
    with pytest.raises(ValueError, match="column for each class"):
        Competition(
            slug="s", title="t", id_column="id", target_columns=("x",), metric="multiclass_log_loss"
        )


def test_rows_of_classes_are_written_with_sum_one_and_a_row_of_zeros_says_nothing(tmp_path):
    writer = OutputWriter(CLASSES, KagglePaths(tmp_path, tmp_path, tmp_path))
    targets = np.eye(3, dtype=int)[np.arange(12) % 3]
    guess = np.where(targets == 1, 0.6, 0.3)
    guess[0] = 0.0
    for fold in range(2):
        rows = np.arange(fold, 12, 2)
        writer.add_oof([f"a{n}" for n in rows], 0, fold, targets[rows], guess[rows])
        writer.add_test(["t0", "t1"], 0, fold, np.array([[0.2, 0.2, 0.4], [0.9, 0.9, 0.9]]))
    writer.finish({"strategy": "toy"}, None, {}, "0" * 64)
    with (tmp_path / "submission.csv").open() as handle:
        rows = [[float(row[name]) for name in "xyz"] for row in csv.DictReader(handle)]
    assert np.array(rows) == pytest.approx(np.array([[0.25, 0.25, 0.5], [1 / 3] * 3]))
    with (tmp_path / "oof_predictions.csv").open() as handle:
        first = next(row for row in csv.DictReader(handle) if row["id"] == "a0")
    assert [float(first[f"pred_{name}"]) for name in "xyz"] == pytest.approx([1 / 3] * 3)
