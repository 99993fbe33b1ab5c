"""Drawn competitions of other kinds: the same bytes from the same seed, labels that agree, lines that show."""

import csv

import cv2
import numpy as np
import pytest

from harness.synthetic_kinds import (
    CLASSES,
    LINE_TARGETS,
    draw_class_film,
    draw_classes_competition,
    draw_lines_competition,
    draw_lines_film,
)

NONE = dict.fromkeys(LINE_TARGETS, False)


def rows_of(path):
    with path.open() as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("draw", [draw_lines_competition, draw_classes_competition])
def test_a_seed_gives_the_same_bytes_and_patients_stay_in_one_split(draw, tmp_path):
    first, second = (draw(tmp_path / name, 3, n_labelled=12, n_test=6, size=48) for name in "ab")
    files = sorted(path.relative_to(first.data_folder) for path in first.data_folder.rglob("*.*"))
    assert len(files) == 18 + 2
    for path in files:
        assert (first.data_folder / path).read_bytes() == (second.data_folder / path).read_bytes()
    train, test = rows_of(first.data_folder / "train.csv"), rows_of(first.solution_csv)
    assert not {first.patients[r["image_id"]] for r in train} & {
        first.patients[r["image_id"]] for r in test
    }
    sample = rows_of(first.data_folder / "sample_submission.csv")
    assert [row["image_id"] for row in sample] == [row["image_id"] for row in test]


def test_a_tip_needs_its_line_and_every_film_is_of_one_class(tmp_path):
    lines = draw_lines_competition(tmp_path, 1, n_labelled=30, n_test=4, size=40)
    for row in rows_of(lines.data_folder / "train.csv"):
        assert row["tube"] >= row["tube_deep"]
        assert row["central_line"] >= row["central_line_high"]
    classes = draw_classes_competition(tmp_path, 1, n_labelled=30, n_test=4, size=40)
    assert all(
        sum(int(row[name]) for name in CLASSES) == 1
        for row in rows_of(classes.data_folder / "train.csv")
    )


@pytest.mark.parametrize("name", ["tube", "feeding_line", "central_line"])
def test_a_line_brightens_where_it_lies_and_nothing_else(name):
    without, with_line = draw_lines_film(5, NONE), draw_lines_film(5, {**NONE, name: True})
    change = with_line.astype(int) - without
    share = (change > 20).mean()
    assert 0.001 < share < 0.06
    assert change.min() >= -1


def test_a_deep_tube_ends_lower():
    def lowest(deep):
        flags = {**NONE, "tube": True, "tube_deep": deep}
        change = draw_lines_film(6, flags).astype(int) - draw_lines_film(6, NONE)
        return np.flatnonzero((change > 30).any(axis=1)).max()

    assert lowest(deep=True) > lowest(deep=False) + 20


def test_a_haze_brightens_both_lungs():
    clear, diffuse = (
        cv2.blur(draw_class_film(7, name), (15, 15)).astype(int) for name in ("clear", "diffuse")
    )
    change = diffuse - clear
    assert change[112, 67] > 5
    assert change[112, 157] > 5
