"""Test-time views: fixed ones by name, random ones by seed."""

import numpy as np
import pytest

from kernels.blocks.tta import random_tta_views, tta_views
from kernels.config import AugmentConfig


def squares(count: int = 3, size: int = 40) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size), dtype=np.uint8)


def test_plain_and_flip_are_exact():
    images = squares()
    plain, flipped = tta_views(images, ("plain", "hflip"))
    assert np.array_equal(plain, images)
    assert np.array_equal(flipped, images[:, :, ::-1])


def test_rotation_is_counter_clockwise_in_degrees():
    images = squares()
    (turned,) = tta_views(images, ("rot+90",))
    assert np.array_equal(turned, np.rot90(images, axes=(1, 2)))


def test_opposite_rotations_are_mirror_images():
    images = squares()
    left, right_of_mirrored = tta_views(images, ("rot+5",))[0], tta_views(
        np.ascontiguousarray(images[:, :, ::-1]), ("rot-5",)
    )[0]  # fmt: skip
    assert np.abs(left.astype(int) - right_of_mirrored[:, :, ::-1]).max() <= 1
    assert not np.array_equal(left, images)


def test_crop_enlarges_the_centre():
    images = np.zeros((1, 40, 40), np.uint8)
    images[:, 4:36, 4:36] = 200  # 0.8 of the side: fills a crop of 0.8
    assert tta_views(images, ("crop0.7",))[0].min() == 200
    assert tta_views(images, ("crop1.0",))[0].min() == 0


def test_rotation_leaves_no_black_corners():
    assert tta_views(np.full((1, 32, 32), 90, np.uint8), ("rot-5",))[0].min() == 90


@pytest.mark.parametrize("name", ["vflip", "rot", "rotx", "crop0", "crop1.5", "crop"])
def test_unknown_views_are_named(name):
    with pytest.raises(ValueError, match=name):
        tta_views(squares(), ("plain", name))


def test_no_views_and_oblong_images_are_refused():
    with pytest.raises(ValueError, match="plain"):
        tta_views(squares(), ())
    with pytest.raises(ValueError, match="squares"):
        tta_views(np.zeros((1, 8, 9), np.uint8), ("plain",))
    with pytest.raises(ValueError, match="at least 1"):
        random_tta_views(squares(), AugmentConfig(), 0, 1)


def test_random_views_start_plain_and_follow_the_seed():
    images, config = squares(), AugmentConfig(crop_scale_min=0.8, rotation_deg=10)
    views = list(random_tta_views(images, config, 5, seed=4))
    assert len(views) == 5 and np.array_equal(views[0], images)
    assert all(not np.array_equal(view, images) for view in views[1:])
    again = list(random_tta_views(images, config, 5, seed=4))
    assert all(np.array_equal(one, other) for one, other in zip(views, again, strict=True))
    other_seed = list(random_tta_views(images, config, 5, seed=5))
    assert not np.array_equal(views[1], other_seed[1])
