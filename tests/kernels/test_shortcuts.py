"""Shortcuts planted in files are found, absent ones are not invented, JPEG quality is read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from kernels.blocks.folds import assign_folds
from kernels.blocks.shortcuts import (
    METADATA_NAMES,
    STANDARD_LUMINANCE,
    adversarial_auc,
    jpeg_quality,
    metadata_auc,
    read_metadata,
    shallow_auc,
)

Image = pytest.importorskip("PIL.Image")
TARGETS = np.arange(40) % 2
FOLDS = assign_folds(TARGETS, np.arange(40), 4, seed=0)


def noise(rng: np.random.Generator, width: int = 32, height: int = 32) -> np.ndarray:
    return rng.integers(0, 256, (height, width)).astype(np.uint8)


def test_standard_table_is_complete() -> None:
    assert len(STANDARD_LUMINANCE) == 64
    assert (min(STANDARD_LUMINANCE), max(STANDARD_LUMINANCE)) == (10, 121)


@pytest.mark.parametrize("quality", [5, 25, 50, 75, 85, 92, 95, 100])
def test_jpeg_quality_is_read_back(tmp_path: Path, quality: int) -> None:
    path = tmp_path / "film.jpg"
    Image.fromarray(noise(np.random.default_rng(0))).save(path, quality=quality)
    assert read_metadata([str(path)])[0, METADATA_NAMES.index("jpeg_quality")] == quality


def test_quality_of_the_standard_table_itself_is_50() -> None:
    assert jpeg_quality(STANDARD_LUMINANCE) == 50


def test_header_facts(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(np.random.default_rng(0), width=30, height=20))
    picture.save(tmp_path / "grey.png")
    picture.convert("RGBA").save(tmp_path / "rgba.png")
    picture.convert("P").save(tmp_path / "palette.png")
    table = read_metadata(
        [str(tmp_path / name) for name in ("grey.png", "rgba.png", "palette.png")]
    )
    facts = [dict(zip(METADATA_NAMES, row, strict=True)) for row in table.tolist()]
    assert [row["width"] for row in facts] == [30] * 3
    assert [row["height"] for row in facts] == [20] * 3
    assert [row["aspect"] for row in facts] == [1.5] * 3
    assert [row["channels"] for row in facts] == [1, 4, 1]
    assert [row["has_alpha_or_palette"] for row in facts] == [0, 1, 1]
    assert [row["jpeg_quality"] for row in facts] == [0] * 3
    assert facts[0]["file_bytes"] == (tmp_path / "grey.png").stat().st_size


def test_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a film")
    with pytest.raises(ValueError, match=r"text\.jpg has no readable header"):
        read_metadata([str(tmp_path / "text.jpg")])


def test_a_planted_width_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for row, target in enumerate(TARGETS):
        paths.append(str(tmp_path / f"{row}.png"))
        width = int(rng.integers(30, 40)) + 8 * int(target)
        Image.fromarray(noise(rng, width=width)).save(paths[-1])
    found = metadata_auc(paths, TARGETS, FOLDS)
    assert found["logistic"] > 0.8
    assert "width" in found["varying"]
    assert "jpeg_quality" not in found["varying"]
    assert json.loads(json.dumps(found))["n"] == 40


def test_equal_files_give_one_half_and_say_that_nothing_varies(tmp_path: Path) -> None:
    path = str(tmp_path / "film.bmp")
    Image.fromarray(noise(np.random.default_rng(0))).save(path)
    found = metadata_auc([path] * 40, TARGETS, FOLDS)
    assert (found["logistic"], found["boosting"], found["varying"]) == (0.5, 0.5, [])


def test_trees_see_a_threshold_in_both_directions_that_a_line_cannot() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(400) % 2
    value = np.where(targets, rng.choice([-2.0, 2.0], 400), 0.0) + 0.2 * rng.normal(size=400)
    folds = assign_folds(targets, np.arange(400), 4, seed=0)
    found = shallow_auc(value[:, None], targets, folds)
    assert found["boosting"] > 0.95
    assert found["logistic"] < 0.75


def test_random_labels_are_not_predicted_out_of_fold() -> None:
    rng = np.random.default_rng(1)
    targets = np.arange(600) % 2
    folds = assign_folds(targets, np.arange(600), 5, seed=0)
    found = shallow_auc(rng.normal(size=(600, 5)), targets, folds)
    assert found["logistic"] == pytest.approx(0.5, abs=0.07)
    assert found["boosting"] == pytest.approx(0.5, abs=0.07)


def test_shift_between_two_sets_is_seen_and_likeness_is_not_called_shift() -> None:
    rng = np.random.default_rng(0)
    here, alike, moved = (rng.normal(size=(300, 4)) for _ in range(3))
    same = adversarial_auc(here, alike)
    other = adversarial_auc(here, moved + [1.5, 0, 0, 0])
    assert same["logistic"] == pytest.approx(0.5, abs=0.08)
    assert not same["shift"]
    assert other["logistic"] > 0.8
    assert other["shift"] is True
    assert other["n"] == [300, 300]
    assert adversarial_auc(here, alike) == same


def test_tiny_sets_get_fewer_folds_or_an_error() -> None:
    rng = np.random.default_rng(0)
    assert "logistic" in adversarial_auc(rng.normal(size=(30, 3)), rng.normal(size=(3, 3)))
    with pytest.raises(ValueError, match="a set of 1 films"):
        adversarial_auc(rng.normal(size=(30, 3)), rng.normal(size=(1, 3)))
    with pytest.raises(ValueError, match="3 and 2 features"):
        adversarial_auc(rng.normal(size=(30, 3)), rng.normal(size=(30, 2)))
