"""The first minute finds what would have cost hours: each fault is named with what to do about it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from kernels.blocks.models import create_backbone
from kernels.blocks.paths import KagglePaths
from kernels.blocks.selftest import (
    MAP_BYTES,
    SAMPLE_SUBMISSION,
    cache_bytes,
    list_folders,
    self_test,
    unused_files,
)
from kernels.blocks.tables import Tables
from kernels.config import Competition, DistilConfig, FeaturesConfig, NetworkConfig, TrainConfig

COMPETITION = Competition(slug="toy", title="Toy", id_column="image_id", target_columns=("label",))


@pytest.fixture
def paths(tmp_path) -> KagglePaths:
    found = KagglePaths(tmp_path / "input", tmp_path / "working", tmp_path / "temp")
    for folder in (found.input, found.working, found.temp):
        folder.mkdir()
    return found


@pytest.fixture
def tables(paths) -> Tables:
    def frame(name: str, count: int) -> pd.DataFrame:
        folder = paths.input / name
        folder.mkdir()
        rows = []
        for number in range(count):
            path = folder / f"{name}{number}.png"
            path.write_bytes(b"x")
            rows.append({"id": path.stem, "path": str(path), "label": number % 2})
        return pd.DataFrame(rows, columns=["id", "path", "label"])

    return Tables(unlabelled=frame("train", 3), labelled=frame("val", 4), test=frame("test", 2))


def run(
    tables: Tables, paths: KagglePaths, sample: str | None = "image_id,label\ntest0,0\ntest1,0\n"
):
    if sample is not None:
        (paths.input / SAMPLE_SUBMISSION).write_text(sample)
    lines: list[str] = []
    self_test(
        COMPETITION, paths.input, tables, FeaturesConfig(), paths, {"w": Path("w")}, lines.append
    )
    return lines


def test_a_sound_start_is_three_lines(tables, paths):
    inputs, disk, submission = run(tables, paths)
    assert inputs == (
        "self-test: inputs: 4 labelled, 3 unlabelled, 2 test images; datasets as rendered for: w"
    )
    assert "free in temp" in disk
    assert "free in working" in disk
    assert submission == f"self-test: submission: 2 rows fit {SAMPLE_SUBMISSION}"
    assert not list(paths.temp.iterdir())  # the dummy is gone


def test_what_lies_beside_the_images_is_counted(tables, paths):
    for name in ("b.gif", ".DS_Store", "val9.png"):
        (paths.input / "val" / name).write_bytes(b"x")
    (paths.input / "train" / "older").mkdir()
    inputs, *_ = run(tables, paths)
    assert "2 files beside them are in no table (first: val/b.gif)" in inputs
    assert unused_files(tables, list_folders(tables)) == ["val/b.gif", "val/val9.png"]


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 6])
def test_the_maps_of_frozen_stages_are_counted_too(tables, stages):
    config = DistilConfig(
        backbone="tf_efficientnet_lite2.in1k", image_size=64, frozen_stages=stages, weights="random",
        labelled_views=8, unlabelled_views=2, student=TrainConfig(),
    )  # fmt: skip
    backbone = create_backbone(config.backbone, "random", 64, {}, frozen_stages=stages)
    with torch.inference_mode():
        one_map = backbone.early(torch.zeros(1, 1, 64, 64)).numel() * 2
    films, maps = 9, 4 * (8 + 2) + 3 * (2 + 1) + 2 * 2
    real = films * (64**2 + 64**2) + maps * one_map
    assert real <= cache_bytes(config, tables) < 2 * real
    teacher = cache_bytes(replace(config, student=None), tables)
    assert cache_bytes(config, tables) - teacher == pytest.approx(9 * 64**2 * MAP_BYTES.get(stages, 1), rel=0.05)  # fmt: skip
    two = replace(config, co_teachers=(NetworkConfig(image_size=32, frozen_stages=stages),))
    assert cache_bytes(two, tables) > cache_bytes(config, tables)


def test_images_without_a_file_are_counted_and_the_first_is_named(tables, paths):
    for number in (1, 3):
        (paths.input / "val" / f"val{number}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 of 4 labelled images .*val1.png.* Mount"):
        run(tables, paths)
    shutil.rmtree(paths.input / "val")
    with pytest.raises(FileNotFoundError, match="4 of 4 labelled"):
        run(tables, paths)


def test_a_full_disk_is_told_with_what_is_needed(tables, paths, monkeypatch):
    usage = shutil.disk_usage(paths.temp)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(OSError, match=r"temp has 0.00 GB free .*--set image_size"):
        run(tables, paths)


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ("image_id,prob\ntest0,0\ntest1,0\n", r"columns \['image_id', 'prob'\]"),
        (
            "image_id,label\ntest0,0\n",
            r"1 ids, .* would write 2: 0 missing, 1 not asked for .*test1",
        ),
        ("image_id,label\ntest0,0\ntest1,0\ntest9,0\n", "1 missing, 0 not asked for .first: test9"),
        ("image_id,label\ntest0,0\ntest1,0\ntest1,0\n", "3 ids"),
        ("", "is empty"),
    ],
)
def test_a_submission_that_would_be_refused_stops_the_run(tables, paths, sample, words):
    with pytest.raises(ValueError, match=words):
        run(tables, paths, sample)


def test_a_competition_without_a_sample_is_told_so(tables, paths):
    assert "there is no sample_submission.csv" in run(tables, paths, None)[2]


def test_where_test_labels_are_published_the_sample_may_be_a_token(tables, paths):
    labelled = Tables(
        tables.unlabelled, tables.labelled, tables.test, test_targets=tables.test[["id", "label"]]
    )
    assert "the report is the result" in run(labelled, paths, "image_id,label\nx,0\n")[2]
