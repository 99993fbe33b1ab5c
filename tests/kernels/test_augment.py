"""Random views: what each step does to a film, and that equal generators give equal views."""

import numpy as np
import pytest

from kernels.blocks.augment import (
    DRAWS_PER_VIEW,
    augment_batch,
    corner_homographies,
    geometry_of_views,
)
from kernels.config import AugmentConfig

OFF = AugmentConfig(hflip=0.0)
EVERYTHING = AugmentConfig(
    crop_scale_min=0.5, rotation_deg=40, translate=0.1, scale=0.2, perspective=0.3,
    brightness=0.3, contrast=0.3,
)  # fmt: skip


def films(count: int = 4, size: int = 48) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, size, size), dtype=np.uint8)


def smooth_film(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    return (127 + 60 * np.sin(5 * x) + 60 * np.cos(4 * y)).astype(np.uint8)[None]


def test_every_step_off_gives_the_same_pixels():
    images = films()
    assert np.array_equal(augment_batch(images, OFF, 48, np.random.default_rng(0)), images)


def test_every_step_off_resizes_like_opencv():
    import cv2

    images = films(size=96)
    views = augment_batch(images, OFF, 48, np.random.default_rng(0))
    wanted = [cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA) for image in images]
    assert np.array_equal(views, wanted)


def test_flip_mirrors_left_and_right_exactly():
    images = films()
    views = augment_batch(images, AugmentConfig(hflip=1.0), 48, np.random.default_rng(0))
    assert np.array_equal(views, images[:, :, ::-1])


def test_equal_generators_give_equal_views_and_the_next_batch_differs():
    images = films()
    rng = np.random.default_rng(5)
    first, second = (augment_batch(images, EVERYTHING, 40, rng) for _ in range(2))
    again = augment_batch(images, EVERYTHING, 40, np.random.default_rng(5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_views_do_not_depend_on_the_batch_they_are_drawn_in():
    images = films()
    rng = np.random.default_rng(5)
    parts = [augment_batch(images[i : i + 2], EVERYTHING, 40, rng) for i in (0, 2)]
    whole = augment_batch(images, EVERYTHING, 40, np.random.default_rng(5))
    assert np.array_equal(np.concatenate(parts), whole)


def test_turned_bright_film_keeps_bright_corners():
    images = np.full((8, 32, 32), 200, np.uint8)
    config = AugmentConfig(rotation_deg=40, perspective=0.5, perspective_p=1.0, translate=0.2)
    assert augment_batch(images, config, 32, np.random.default_rng(1)).min() == 200


def test_crop_keeps_a_share_of_the_area_inside_the_film():
    draws = np.random.default_rng(2).random((500, DRAWS_PER_VIEW))
    moves = geometry_of_views(draws, AugmentConfig(crop_scale_min=0.4, hflip=0.5))
    areas = np.abs(np.linalg.det(moves[:, :2, :2]))
    assert 0.4 <= areas.min() < 0.42 and 0.98 < areas.max() <= 1.0
    corners = moves @ np.array([[1, -1, 1], [-1, 1, 1], [1, 1, 1], [-1, -1, 1]]).T
    assert np.abs(corners[:, :2]).max() <= 1 + 1e-12


def test_rotation_is_bounded_and_keeps_lengths():
    draws = np.random.default_rng(2).random((500, DRAWS_PER_VIEW))
    moves = geometry_of_views(draws, AugmentConfig(rotation_deg=40, hflip=0.0))
    angles = np.rad2deg(np.arctan2(moves[:, 0, 1], moves[:, 0, 0]))
    assert 38 < np.abs(angles).max() <= 40 and abs(angles.mean()) < 3
    assert np.allclose(np.linalg.det(moves), 1.0)


def test_perspective_takes_moved_corners_to_the_films_corners():
    draws = np.random.default_rng(4).random((20, 8))
    matrices = corner_homographies(draws, 0.5)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    moved = signs * (1 - 0.5 * draws.reshape(-1, 4, 2))
    points = np.concatenate([moved, np.ones((20, 4, 1))], axis=2) @ matrices.transpose(0, 2, 1)
    assert np.allclose(points[..., :2] / points[..., 2:], signs)
    assert np.allclose(corner_homographies(np.zeros((1, 8)), 0.5), np.eye(3))


def test_switching_a_step_off_leaves_the_other_draws_alone():
    draws = np.random.default_rng(2).random((50, DRAWS_PER_VIEW))
    both = geometry_of_views(draws, AugmentConfig(hflip=0.5, perspective=0.3, perspective_p=0.5))
    flips = geometry_of_views(draws, AugmentConfig(hflip=0.5))
    straight = np.all(both == flips, axis=(1, 2))
    assert 10 < straight.sum() < 40  # the share that perspective left out is untouched


def test_a_zoomed_view_is_the_centre_of_the_film():
    import cv2

    image = smooth_film(64)
    draws = np.full((1, DRAWS_PER_VIEW), 0.5)
    draws[0, 0] = 0.0  # the smallest crop, in the middle
    move = geometry_of_views(draws, AugmentConfig(crop_scale_min=0.25, hflip=0.0))[0]
    assert np.allclose(move, np.diag([0.5, 0.5, 1]))
    from kernels.blocks.augment import warp_view

    wanted = cv2.resize(image[0, 16:48, 16:48], (64, 64), interpolation=cv2.INTER_LINEAR)
    inner = (
        slice(2, -2),
        slice(2, -2),
    )  # at the rim the crop repeats its edge, the view sees beyond
    got = warp_view(image[0], move, 64)
    assert np.abs(got[inner].astype(int) - wanted[inner]).max() <= 1


def test_brightness_scales_and_contrast_spreads_about_the_mean():
    from kernels.blocks.augment import retone

    image = np.array([[50, 100], [100, 150]], np.uint8)
    assert retone(image, 1.2, 1.0).tolist() == [[60, 120], [120, 180]]
    assert retone(image, 1.0, 0.5).tolist() == [[75, 100], [100, 125]]
    assert retone(image, 2.0, 2.0).tolist() == [[0, 200], [200, 255]]


def test_a_much_larger_film_is_averaged_before_it_is_sampled():
    stripes = np.zeros((1, 256, 256), np.uint8)
    stripes[:, :, ::2] = 255  # finer than the view can show: it must come out grey, not striped
    view = augment_batch(
        stripes, AugmentConfig(hflip=1.0, rotation_deg=5), 32, np.random.default_rng(0)
    )
    assert view.min() >= 120 and view.max() <= 135


def test_colour_or_float_images_are_refused():
    for wrong in (np.zeros((2, 8, 8)), np.zeros((8, 8), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            augment_batch(wrong, OFF, 8, np.random.default_rng(0))
