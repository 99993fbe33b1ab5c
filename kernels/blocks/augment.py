"""Random views of grey films: every geometric step of one image fused into one homography.

Crop, flip, rotation, shift, zoom and perspective are 3x3 matrices, so an image is interpolated once
instead of six times; brightness and contrast are one look-up table. What lies outside the film is its
edge repeated: black corners would tell a network how far a view was turned.
"""

import cv2
import numpy as np

from kernels.config import AugmentConfig

# Random numbers an image takes, whether a step is on or off: switching one step off leaves the draws of
# the others as they were, so that an ablation changes one thing.
DRAWS_PER_VIEW = 19

CORNERS_OF_VIEW = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def augment_batch(
    images: np.ndarray, config: AugmentConfig, out_size: int, rng: np.random.Generator
) -> np.ndarray:
    """One random view of each image.

    Args:
        images: uint8, shape (B, H, W); H and W may differ from out_size (the film is squashed to a square).
        config: Sizes of the steps; zero (and crop_scale_min 1) switches a step off.
        out_size: Side of the views in pixels.
        rng: Moves on by DRAWS_PER_VIEW numbers an image; equal states give equal views.

    Returns:
        uint8, shape (B, out_size, out_size). With every step off: the images, resized when they must be.

    Raises:
        ValueError: If images are not uint8 of shape (B, H, W).
    """
    check_grey_batch(images)
    draws = rng.random((len(images), DRAWS_PER_VIEW))
    moves = geometry_of_views(draws, config)
    gains, contrasts = tone_of_views(draws, config)
    views = np.empty((len(images), out_size, out_size), dtype=np.uint8)
    still = np.eye(3)
    for index, image in enumerate(images):
        if np.array_equal(moves[index], still):
            views[index] = shrink_or_grow(image, out_size)
        else:
            views[index] = warp_view(image, moves[index], out_size)
        if gains[index] != 1.0 or contrasts[index] != 1.0:
            views[index] = retone(views[index], float(gains[index]), float(contrasts[index]))
    return views


def geometry_of_views(draws: np.ndarray, config: AugmentConfig) -> np.ndarray:
    """Matrices from view to film, both spanning [-1, 1] in x and y.

    Args:
        draws: Uniform in [0, 1), shape (B, DRAWS_PER_VIEW).

    Returns:
        float64, shape (B, 3, 3). The film is cropped, flipped, then turned, zoomed and shifted about the
        crop's centre, then distorted; the matrices run that chain backwards.
    """
    count = len(draws)
    share = np.sqrt(config.crop_scale_min + (1.0 - config.crop_scale_min) * draws[:, 0])
    crop = np.tile(np.eye(3), (count, 1, 1))
    crop[:, 0, 0] = crop[:, 1, 1] = share
    crop[:, :2, 2] = (2.0 * draws[:, 1:3] - 1.0) * (1.0 - share)[:, None]
    flip = np.tile(np.eye(3), (count, 1, 1))
    flip[:, 0, 0] = np.where(draws[:, 3] < config.hflip, -1.0, 1.0)
    angle = np.deg2rad(config.rotation_deg) * (2.0 * draws[:, 4] - 1.0)
    zoom = 1.0 + config.scale * (2.0 * draws[:, 5] - 1.0)
    turn = np.tile(np.eye(3), (count, 1, 1))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle) / zoom
    turn[:, 0, 1] = np.sin(angle) / zoom
    turn[:, 1, 0] = -turn[:, 0, 1]
    turn[:, :2, 2] = 2.0 * config.translate * (2.0 * draws[:, 6:8] - 1.0)
    moves = crop @ flip @ turn
    if config.perspective:
        bent = draws[:, 8] < config.perspective_p
        moves[bent] = moves[bent] @ corner_homographies(draws[bent, 9:17], config.perspective)
    return moves


def corner_homographies(draws: np.ndarray, distortion: float) -> np.ndarray:
    """Homographies that take four inward-moved corners back to the corners of [-1, 1]^2.

    Args:
        draws: Uniform, shape (B, 8); a corner moves by up to ``distortion`` of half the side.

    Returns:
        Shape (B, 3, 3), lower right element 1.

    Source: torchvision's RandomPerspective, for the meaning of the distortion.
    """
    inward = draws.reshape(-1, 4, 2) * distortion * np.sign(CORNERS_OF_VIEW)
    moved = CORNERS_OF_VIEW - inward
    x, y = moved[..., 0], moved[..., 1]
    one, none = np.ones_like(x), np.zeros_like(x)
    rows = []
    for axis, values in enumerate(
        np.moveaxis(np.broadcast_to(CORNERS_OF_VIEW, moved.shape), -1, 0)
    ):
        own = [x, y, one]
        other = [none, none, none]
        linear = own + other if axis == 0 else other + own
        rows.append(np.stack([*linear, -x * values, -y * values], axis=-1))
    system = np.concatenate(rows, axis=1)  # (B, 8, 8): four equations in x, four in y
    wanted = np.concatenate([CORNERS_OF_VIEW[:, 0], CORNERS_OF_VIEW[:, 1]])
    solved = np.linalg.solve(system, np.broadcast_to(wanted, (len(draws), 8))[..., None])[..., 0]
    return np.concatenate([solved, np.ones((len(draws), 1))], axis=1).reshape(-1, 3, 3)


def tone_of_views(draws: np.ndarray, config: AugmentConfig) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and contrast factors, each of shape (B,), uniform in 1 - strength .. 1 + strength."""
    gains = 1.0 + config.brightness * (2.0 * draws[:, 17] - 1.0)
    contrasts = 1.0 + config.contrast * (2.0 * draws[:, 18] - 1.0)
    return np.maximum(gains, 0.0), np.maximum(contrasts, 0.0)


def warp_view(image: np.ndarray, move: np.ndarray, out_size: int) -> np.ndarray:
    """One view of one film.

    Args:
        image: uint8, shape (H, W).
        move: View to film in [-1, 1] coordinates, shape (3, 3).

    Returns:
        uint8, shape (out_size, out_size); bilinear, edges repeated outside the film.
    """
    if min(image.shape) > 2 * out_size:
        # A bilinear sample sees 2x2 pixels: beyond a factor of two it skips some, and ribs become moire.
        image = cv2.resize(image, (2 * out_size, 2 * out_size), interpolation=cv2.INTER_AREA)
    height, width = image.shape
    # Pixel centres sit at half-integers: without the halves a plain resize would shift the film.
    to_unit = np.array(
        [
            [2.0 / out_size, 0, 1.0 / out_size - 1],
            [0, 2.0 / out_size, 1.0 / out_size - 1],
            [0, 0, 1],
        ]
    )
    to_pixels = np.array(
        [[width / 2.0, 0, (width - 1) / 2.0], [0, height / 2.0, (height - 1) / 2.0], [0, 0, 1]]
    )
    return cv2.warpPerspective(
        image,
        to_pixels @ move @ to_unit,
        (out_size, out_size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def retone(image: np.ndarray, gain: float, contrast: float) -> np.ndarray:
    """Grey levels times ``gain``, then spread about their mean by ``contrast``; uint8 in and out."""
    middle = gain * cv2.mean(image)[0]
    levels = (np.arange(256) * gain - middle) * contrast + middle
    return cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def shrink_or_grow(image: np.ndarray, size: int) -> np.ndarray:
    """A film of shape (H, W) as (size, size): area averaging when it shrinks, bilinear when it grows."""
    if image.shape == (size, size):
        return image
    shrinks = min(image.shape) >= size
    return cv2.resize(
        image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def check_grey_batch(images: np.ndarray) -> None:
    """Refuse anything but uint8 of shape (B, H, W) (ValueError)."""
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}; uint8 (B, H, W) is needed"
        )
