"""The 22 hand-crafted features of strategy 1, in one fixed order: 10 intensity, 9 GLCM, 3 Sobel.

Definitions are scikit-image's and numpy's (ml-notes 1.2), computed from integer counts: one histogram
gives the ten intensity features exactly, twelve tables of pixel pairs give the GLCM, an integer
Sobel the edges. Equal to the libraries' own to rounding, some twenty times faster.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from kernels.blocks.images import single_threaded_cv2
from kernels.blocks.seed import worker_count

GLCM_DISTANCES = (1, 3, 5)
GLCM_ANGLES_DEG = (0, 45, 90, 135)
GLCM_PROPERTIES = ("contrast", "homogeneity", "energy")
INTENSITY_NAMES = (
    "mean",
    "std",
    "median",
    "min",
    "max",
    "p25",
    "p75",
    "p90",
    "entropy",
    "variance",
)
GLCM_NAMES = tuple(
    f"glcm_{prop}_d{distance}" for prop in GLCM_PROPERTIES for distance in GLCM_DISTANCES
)
SOBEL_NAMES = ("sobel_mean", "sobel_std", "sobel_max")
FEATURE_NAMES = INTENSITY_NAMES + GLCM_NAMES + SOBEL_NAMES

# calcHist counts in float32, which holds whole numbers up to here.
MOST_EXACT_PIXELS = 1 << 24
FEATURE_CHUNK = 32  # images a thread takes at once


def extract_features(
    images: np.ndarray, glcm_levels: int = 32, workers: int | None = None
) -> np.ndarray:
    """The 22 features of every image, columns as in FEATURE_NAMES.

    Compute them at one fixed size: at native size they encode the scanner's resolution, which predicts
    the label. GLCM contrast grows with levels squared, so store the levels with the features.

    Args:
        images: uint8, shape (N, H, W).
        glcm_levels: Grey levels the GLCM sees, 2 to 256: level = value x levels // 256.
        workers: Threads; the result does not depend on them. None: every core.

    Returns:
        float64, shape (N, 22), finite. Distances that do not fit into the image give zeros.

    Raises:
        ValueError: For another dtype or shape, empty images, or levels out of range.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}; uint8 (N, H, W) was expected")
    if not 1 <= images.shape[1] * images.shape[2] <= MOST_EXACT_PIXELS:
        raise ValueError(
            f"images of {images.shape[1:]} pixels; 1 to {MOST_EXACT_PIXELS:,} are counted"
        )
    if not 2 <= glcm_levels <= 256:
        raise ValueError(f"glcm_levels is {glcm_levels}, not in 2..256")
    features = np.empty((len(images), len(FEATURE_NAMES)))

    def fill(start: int) -> None:
        rows = slice(start, start + FEATURE_CHUNK)
        features[rows] = features_of_chunk(images[rows], glcm_levels)

    with single_threaded_cv2(), ThreadPoolExecutor(workers or worker_count()) as pool:
        for _ in pool.map(fill, range(0, len(images), FEATURE_CHUNK)):
            pass
    return features


def features_of_chunk(images: np.ndarray, glcm_levels: int) -> np.ndarray:
    """Features of a few images on one thread: uint8 (N, H, W) -> float64 (N, 22)."""
    to_level = (np.arange(256) * glcm_levels // 256).astype(np.uint8)
    texture, edges = GlcmCounter(glcm_levels), SobelMeter(images.shape[1], images.shape[2])
    histograms = np.empty((len(images), 256))
    rest = np.empty((len(images), len(GLCM_NAMES) + len(SOBEL_NAMES)))
    for row, image in enumerate(images):
        histograms[row] = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel()
        levels = image if glcm_levels == 256 else cv2.LUT(image, to_level)
        rest[row, : len(GLCM_NAMES)] = texture.properties(levels).ravel()
        rest[row, len(GLCM_NAMES) :] = edges.features(image)
    return np.concatenate([intensity_features(histograms), rest], axis=1)


def intensity_features(histograms: np.ndarray) -> np.ndarray:
    """Ten statistics of grey values, exactly, from histograms.

    Args:
        histograms: Pixels per grey value 0..255, shape (N, 256); no row is empty.

    Returns:
        float64 (N, 10), columns as in INTENSITY_NAMES: ddof 0, percentiles linear between order
        statistics as in ``numpy.percentile``, entropy in bits without an epsilon.
    """
    values = np.arange(256.0)
    total = histograms.sum(axis=1, keepdims=True)
    mean = (histograms * values).sum(axis=1) / total[:, 0]
    # Two passes: mean of squares less squared mean would cancel on flat images.
    variance = (histograms * (values - mean[:, None]) ** 2).sum(axis=1) / total[:, 0]
    cumulative = histograms.cumsum(axis=1)

    def order_statistic(rank: np.ndarray) -> np.ndarray:
        """The value at a 0-based rank: the first whose cumulative count exceeds it."""
        first: np.ndarray = (cumulative <= rank[:, None]).sum(axis=1)
        return first.astype(np.float64)

    def percentile(share: float) -> np.ndarray:
        place = (total[:, 0] - 1) * share
        below = np.floor(place)
        low = order_statistic(below)
        high = order_statistic(np.minimum(below + 1, total[:, 0] - 1))
        between: np.ndarray = low + (high - low) * (place - below)
        return between

    shares = histograms / total
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.stack(
        [
            mean,
            np.sqrt(variance),
            percentile(0.5),
            percentile(0.0),
            percentile(1.0),
            percentile(0.25),
            percentile(0.75),
            percentile(0.9),
            -(shares * logs).sum(axis=1) + 0.0,  # + 0.0: a flat image has 0 bits, not -0
            variance,
        ],
        axis=1,
    )


def glcm_offsets(distance: int) -> list[tuple[int, int]]:
    """(rows, columns) from a pixel to its partner for each of GLCM_ANGLES_DEG, rounded as skimage does.

    Not Chebyshev: 45 degrees at distance 3 is (2, 2), at distance 5 (4, 4).
    """
    angles = np.deg2rad(GLCM_ANGLES_DEG)
    rows = np.rint(np.sin(angles) * distance).astype(int).tolist()
    columns = np.rint(np.cos(angles) * distance).astype(int).tolist()
    return list(zip(rows, columns, strict=True))


class GlcmCounter:
    """GLCM properties of images of so many grey levels; keeps its table from image to image."""

    def __init__(self, levels: int, distances: Sequence[int] = GLCM_DISTANCES) -> None:
        self.levels = levels
        self.offsets = [glcm_offsets(distance) for distance in distances]
        self._squared_gaps = np.arange(float(levels)) ** 2
        self._table = np.zeros((levels, levels), np.float32)

    def pair_counts(self, image: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """How often two levels lie so far apart.

        Args:
            image: Levels, uint8 (H, W), every value below ``levels``.
            rows: From a pixel down to its partner, at least 0.
            columns: From a pixel right to its partner; negative is left.

        Returns:
            float32 (levels, levels), whole numbers: how many pairs have this lower level (row) and so
            many levels between them (column). Valid until the next call.
        """
        height, width = image.shape
        if rows >= height or abs(columns) >= width:
            self._table[:] = 0
            return self._table
        left, right = max(-columns, 0), max(columns, 0)
        here = image[: height - rows, left : width - right]
        there = image[rows:, right : width - left]
        cv2.calcHist(
            [cv2.min(here, there), cv2.absdiff(here, there)],
            [0, 1],
            None,
            [self.levels, self.levels],
            [0, self.levels, 0, self.levels],
            hist=self._table,
        )
        return self._table

    def properties(self, image: np.ndarray) -> np.ndarray:
        """Contrast, homogeneity and energy (rows) at each distance (columns), means over four angles.

        The property of each angle is averaged, not the matrix; energy is the root of the sum of squares.

        Args:
            image: Levels, uint8 (H, W), every value below ``levels``.

        Returns:
            float64 (3, distances). A distance no pair fits gives 0, as in scikit-image.
        """
        result = np.zeros((len(GLCM_PROPERTIES), len(self.offsets)))
        gaps = np.zeros((len(GLCM_ANGLES_DEG), self.levels))  # share of pairs so many levels apart
        for column, offsets in enumerate(self.offsets):
            gaps[:] = 0
            for angle, (rows, columns) in enumerate(offsets):
                pairs = max(image.shape[0] - rows, 0) * max(image.shape[1] - abs(columns), 0)
                if not pairs:
                    continue
                table = self.pair_counts(image, rows, columns)
                gaps[angle] = cv2.reduce(table, 0, cv2.REDUCE_SUM)
                gaps[angle] /= pairs
                # Of the symmetric matrix: an entry off the diagonal counts twice with half its weight,
                # and the diagonal is the column of no gap. Summed in float64, so exact.
                squares = cv2.norm(table, cv2.NORM_L2SQR) + cv2.norm(table[:, :1], cv2.NORM_L2SQR)
                result[2, column] += np.sqrt(squares / 2) / pairs
            # einsum, not @: BLAS may bring threads of its own, and with them other last bits.
            result[0, column] = np.einsum("ij,j->", gaps, self._squared_gaps)
            result[1, column] = np.einsum("ij,j->", gaps, 1.0 / (1.0 + self._squared_gaps))
        return result / len(GLCM_ANGLES_DEG)


class SobelMeter:
    """Edge statistics of images of one shape.

    Keeps its buffers: fresh ones cost more in page faults than the arithmetic does.
    """

    def __init__(self, height: int, width: int) -> None:
        self._across = np.empty((height, width), np.int16)
        self._down = np.empty((height, width), np.int16)
        self._dx, self._dy, self._magnitude = np.empty((3, height, width))

    def features(self, image: np.ndarray) -> tuple[float, float, float]:
        """Mean, std (ddof 0) and maximum of the gradient magnitude of ``skimage.filters.sobel``.

        That is the kernel over 4, both directions over the root of 2, grey values as 0..1, edges
        mirrored (which for one pixel is to repeat them).

        Args:
            image: uint8, of the shape this was made for.
        """
        cv2.spatialGradient(image, self._across, self._down, 3, cv2.BORDER_REPLICATE)
        np.copyto(self._dx, self._across)
        np.copyto(self._dy, self._down)
        magnitude = cv2.magnitude(self._dx, self._dy, self._magnitude)
        scale = 255.0 * 4.0 * np.sqrt(2.0)
        mean = float(magnitude.mean())
        largest = float(magnitude.max())
        magnitude -= mean
        std = float(np.sqrt(cv2.norm(magnitude, cv2.NORM_L2SQR) / magnitude.size))
        return mean / scale, std / scale, largest / scale
