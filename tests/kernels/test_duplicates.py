"""Copies are grouped, strangers are not, and a large group raises an alarm instead of passing for copies."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from kernels.blocks import duplicates as duplicates_module
from kernels.blocks.duplicates import (
    correlation_vectors,
    group_near_duplicates,
    mutual_links,
)
from kernels.blocks.grouping import groups_of, strata_of
from kernels.blocks.patients import patient_key
from kernels.config import FoldsConfig


def films(count: int, seed: int = 0, size: int = 96) -> np.ndarray:
    """Pictures that share a chest-like frame, as films do, and differ inside."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((size, size)) / size
    frame = np.exp(-((columns - 0.5) ** 2) * 20) + np.exp(-((rows - 0.9) ** 2) * 10)
    result = []
    for _ in range(count):
        inside = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), 5)
        picture = frame + 3 * inside
        result.append(cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))
    return np.stack(result)


def saved_again(image: np.ndarray, quality: int = 40) -> np.ndarray:
    """A near-copy: recompressed, brighter, of other contrast."""
    packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.clip(cv2.imdecode(packed, 0) * 0.8 + 30, 0, 255).astype(np.uint8)


# ---- groups --------------------------------------------------------------------------------------


def test_near_copies_share_a_group_and_strangers_do_not() -> None:
    images = films(20)
    images[5] = saved_again(images[2])
    images[19] = saved_again(images[11])
    found = group_near_duplicates(images)
    assert found.groups[5] == found.groups[2]
    assert found.groups[19] == found.groups[11]
    assert len(set(found.groups.tolist())) == 18
    assert (found.n_groups_larger_than_1, found.largest, found.exact_copies) == (2, 2, 0)
    assert found.alarm is None
    assert "2 groups of near-duplicates among 20 films" in found.finding()


def test_exact_copies_are_grouped_however_many() -> None:
    images = films(12)
    images[[3, 4, 5, 6, 7, 8, 9]] = images[1]  # more than CLOSEST_FEW
    found = group_near_duplicates(images)
    assert len(set(found.groups[[1, 3, 4, 5, 6, 7, 8, 9]].tolist())) == 1
    assert found.largest == 8
    assert found.exact_copies == 7


def test_a_copy_of_a_copy_joins_the_same_group() -> None:
    images = films(10)
    images[4] = images[0]  # exact
    images[7] = saved_again(images[4])  # near
    found = group_near_duplicates(images)
    assert found.groups[0] == found.groups[4] == found.groups[7]
    assert found.largest == 3


def test_no_groups_is_a_finding() -> None:
    found = group_near_duplicates(films(15))
    assert found.groups.tolist() == list(range(15))
    assert found.largest == 1
    assert found.finding() == "no near-duplicate groups found among 15 films"
    assert found.as_json()["finding"] == found.finding()


def test_only_mutual_neighbours_are_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    # On an arc, c's nearest is b, but b's nearest is a: with one neighbour each, only a-b is mutual.
    angles = np.deg2rad([0.0, 5.0, 12.0, 90.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    monkeypatch.setattr(duplicates_module, "CLOSEST_FEW", 1)
    assert list(mutual_links(vectors, 0.95)) == [(0, 1)]
    monkeypatch.setattr(duplicates_module, "CLOSEST_FEW", 2)
    assert list(mutual_links(vectors, 0.95)) == [(0, 1), (0, 2), (1, 2)]


def test_links_do_not_depend_on_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images = films(30)
    images[20:25] = [saved_again(image) for image in images[:5]]
    whole = group_near_duplicates(images)
    monkeypatch.setattr(duplicates_module, "THUMBNAIL_ROWS", 7)
    assert group_near_duplicates(images).groups.tolist() == whole.groups.tolist()
    assert whole.n_groups_larger_than_1 == 5


def test_large_group_raises_an_alarm() -> None:
    images = films(40)
    images[:12] = images[0]
    found = group_near_duplicates(images)
    assert found.alarm is not None
    assert "12 of 40 films" in found.alarm
    assert "ALARM" in found.finding()


def test_threshold_too_low_chains_strangers_and_is_reported() -> None:
    found = group_near_duplicates(films(60), threshold=0.05)
    assert found.largest > 20
    assert found.alarm is not None


def test_blank_films_are_alike_only_when_equal() -> None:
    images = films(6)
    images[2], images[3], images[4] = 0, 0, 255
    found = group_near_duplicates(images)
    assert found.groups[2] == found.groups[3]
    assert found.groups[4] not in (found.groups[2], *found.groups[:2])


def test_vectors_give_pearson_correlation() -> None:
    images = films(3, size=64)
    vectors = correlation_vectors(images)
    expected = np.corrcoef(images.reshape(3, -1).astype(float))
    assert np.allclose(vectors @ vectors.T, expected, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_films(count: int) -> None:
    found = group_near_duplicates(films(2)[:count])
    assert found.groups.tolist() == list(range(count))
    assert json.loads(json.dumps(found.as_json()))["films_in_groups"] == 0


@pytest.mark.parametrize(
    ("images", "threshold", "message"),
    [
        (np.zeros((2, 8, 8)), 0.9, "float64"),
        (np.zeros((8, 8), np.uint8), 0.9, "N, H, W"),
        (np.zeros((2, 8, 8), np.uint8), 1.5, "threshold is 1.5"),
    ],
)
def test_bad_input_is_named(images: np.ndarray, threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group_near_duplicates(images, threshold)


# ---- patients: oracle 63 -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("person1_virus_6", "person1_virus"),
        ("person1_bacteria_1", "person1_bacteria"),
        ("IM-0115-0001", "IM-0115"),
        ("NORMAL2-IM-1427-0001", "NORMAL2-IM-1427"),
        ("train/PNEUMONIA/person23_bacteria_104.jpeg", "person23_bacteria"),
        ("IM-0115-0001-0002.jpeg", "IM-0115"),
        ("0a1b2c3d.jpg", None),
        ("person7.jpeg", None),
        ("", None),
    ],
)
def test_patient_key(name: str, key: str | None) -> None:
    assert patient_key(name) == key


# ---- groups of a table, strata -------------------------------------------------------------------


def saved_films(folder: Path, images: np.ndarray) -> list[str]:
    paths = []
    for row, image in enumerate(images):
        paths.append(str(folder / f"{row}.png"))
        assert cv2.imwrite(paths[-1], image)
    return paths


def test_groups_come_from_the_column_where_there_is_one(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["absent"] * 4, "group": ["p2", "p1", "p2", "p3"]})
    groups, report = groups_of(table, FoldsConfig(), tmp_path)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 3
    assert report["source"] == "column"
    assert report["n_groups_larger_than_1"] == 1


def test_an_empty_group_is_refused(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["a", "b"], "group": ["p1", None]})
    with pytest.raises(ValueError, match="1 labelled rows have an empty group"):
        groups_of(table, FoldsConfig(), tmp_path)


def test_groups_come_from_the_films_otherwise(tmp_path: Path) -> None:
    images = films(8)
    images[6] = saved_again(images[1])
    table = pd.DataFrame({"path": saved_films(tmp_path, images)})
    groups, report = groups_of(table, FoldsConfig(), tmp_path / "cache")
    assert groups[6] == groups[1]
    assert len(set(groups.tolist())) == 7
    assert report["source"] == "near_duplicates"
    assert report["correlation"] == 0.965
    json.dumps(report)


def test_groups_can_be_switched_off(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["absent"] * 3})
    groups, report = groups_of(table, FoldsConfig(group_near_duplicates=False), tmp_path)
    assert groups.tolist() == [0, 1, 2]
    assert report["source"] == "none"


def test_strata_are_the_combination_of_targets_while_each_is_frequent_enough() -> None:
    targets = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 3)
    joint = strata_of(targets, 3)
    assert len(set(joint.tolist())) == 4
    assert strata_of(targets, 4).tolist() == targets[:, 0].tolist()
    assert strata_of(targets[:, 0], 3).tolist() == targets[:, 0].tolist()
