"""Test-time augmentation: the same films seen several ways; the caller averages what a model says.

Two lists: named fixed views (strategy 2 of the write-up) and seeded random training views (strategy 1).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from kernels.blocks.augment import augment_batch, check_grey_batch, warp_view
from kernels.config import AugmentConfig


def tta_views(images: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
    """Fixed views by name.

    Args:
        images: uint8, square, shape (B, S, S).
        names: ``plain``; ``hflip``; ``rot+5`` (degrees, counter-clockwise; edges repeated); ``crop0.9``
            (the central 0.9 of each side, enlarged back).

    Returns:
        One uint8 array of the images' shape for each name.

    Raises:
        ValueError: For an unknown or malformed name, or no name at all; for images that are not uint8 squares.
    """
    check_squares(images)
    if not names:
        raise ValueError("no view is named; name at least 'plain'")
    return [fixed_view(images, view_move(name)) for name in names]


def view_move(name: str) -> np.ndarray:
    """The (3, 3) matrix from view to film, in [-1, 1] coordinates, that a view's name stands for."""
    move = np.eye(3)
    try:
        if name == "plain":
            return move
        if name == "hflip":
            move[0, 0] = -1.0
            return move
        if name.startswith("rot"):
            angle = np.deg2rad(float(name.removeprefix("rot")))
            move[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
            return move
        if name.startswith("crop"):
            side = float(name.removeprefix("crop"))
            if 0.0 < side <= 1.0:
                move[0, 0] = move[1, 1] = side
                return move
    except ValueError:
        pass
    raise ValueError(
        f"unknown view {name!r}; views are plain, hflip, rot+5 (degrees) and crop0.9 (share of the side)"
    )


def fixed_view(images: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Every image of (B, S, S) through one matrix; plain and flipped views are exact copies."""
    if np.array_equal(move, np.eye(3)):
        return images
    if np.array_equal(move, np.diag([-1.0, 1.0, 1.0])):
        return np.ascontiguousarray(images[:, :, ::-1])
    return np.stack([warp_view(image, move, len(image)) for image in images])


def check_squares(images: np.ndarray) -> None:
    """Refuse anything but uint8 squares (ValueError): turning a squashed film would shear it."""
    check_grey_batch(images)
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"images of shape {images.shape} are not squares")


def random_tta_views(
    images: np.ndarray, augment: AugmentConfig, count: int, seed: int
) -> Iterator[np.ndarray]:
    """Strategy 1's passes: the first plain, the others training augmentations, made one at a time.

    Args:
        images: uint8, square, shape (B, S, S).
        augment: What training drew its views from.
        count: Number of views, at least 1.
        seed: Equal seeds give equal views, so that a prediction can be made again.

    Returns:
        ``count`` uint8 arrays of shape (B, S, S).

    Raises:
        ValueError: At once, if count is below 1 or the images are not uint8 squares.
    """
    check_squares(images)
    if count < 1:
        raise ValueError(f"{count} views; at least 1 (the plain one)")
    rng = np.random.default_rng(seed)
    size = images.shape[1]
    return (
        images if index == 0 else augment_batch(images, augment, size, rng)
        for index in range(count)
    )
