"""Films that are nearly the same film, so that folds can keep them together.

Equal bytes first, then correlation of small grey thumbnails, counted only between films that are each
among the other's closest few. Chest films all look alike: correlation alone chains strangers into one
large group, and such a group is an alarm, not a finding.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

THUMBNAIL_SIDE = 64  # pixels; at 32 real films of strangers reach 0.966, at 64 they do not
CLOSEST_FEW = 5  # mutual neighbours are looked for among so many
THUMBNAIL_ROWS = 1024  # correlated at once: 1024 x N float32
ALARM_LEAST = 10  # films in one group that nobody would take ten of
ALARM_SHARE = 0.02  # or this share of all films, whichever is more


@dataclass(frozen=True)
class DuplicateGroups:
    """Groups of near-copies.

    groups: integers (N,), numbered by first appearance; a film without a copy is alone in its group.
    """

    groups: np.ndarray
    n_groups_larger_than_1: int
    largest: int  # films in the largest group
    exact_copies: int  # films equal, byte for byte, to an earlier one
    alarm: str | None

    def as_json(self) -> dict[str, Any]:
        """Plain values for metrics.json, with the finding in words."""
        facts = {key: value for key, value in asdict(self).items() if key != "groups"}
        grouped = int((np.bincount(self.groups)[self.groups] > 1).sum()) if len(self.groups) else 0
        return {**facts, "films_in_groups": grouped, "finding": self.finding()}

    def finding(self) -> str:
        """One sentence for the log; no groups is a finding too."""
        if not self.n_groups_larger_than_1:
            return f"no near-duplicate groups found among {len(self.groups)} films"
        text = (
            f"{self.n_groups_larger_than_1} groups of near-duplicates among {len(self.groups)} films, "
            f"the largest of {self.largest}"
        )
        return f"{text}. ALARM: {self.alarm}" if self.alarm else text


def group_near_duplicates(images: np.ndarray, threshold: float = 0.965) -> DuplicateGroups:
    """Group exact and near copies.

    Args:
        images: uint8, shape (N, H, W); use one size and no CLAHE, so that every strategy that asks
            gets the same groups.
        threshold: Pixel correlation of thumbnails from which two films count as one, in (0, 1].

    Returns:
        Groups; two films share one when a chain of links joins them. A link: equal pixels, or
        correlation >= threshold while each is among the other's CLOSEST_FEW.

    Raises:
        ValueError: For another dtype or shape, or a threshold out of range.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}; uint8 (N, H, W) was expected")
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold is {threshold}, not in (0, 1]")
    first_of_bytes: dict[bytes, int] = {}
    copy_of = np.array(
        [
            first_of_bytes.setdefault(hashlib.sha256(image.tobytes()).digest(), row)
            for row, image in enumerate(images)
        ],
        dtype=np.intp,
    )
    originals = np.flatnonzero(copy_of == np.arange(len(images)))
    thumbnails = correlation_vectors(images[originals])
    parent = copy_of.copy()  # a forest in which every film points towards its group's first
    for one, other in mutual_links(thumbnails, threshold):
        low, high = sorted((find_root(parent, originals[one]), find_root(parent, originals[other])))
        parent[high] = low
    roots = np.array([find_root(parent, row) for row in range(len(images))], dtype=np.intp)
    _, groups = np.unique(
        roots, return_inverse=True
    )  # roots are first rows: numbered by appearance
    groups = groups.reshape(-1)
    sizes = np.bincount(groups) if len(groups) else np.zeros(1, dtype=np.intp)
    largest = int(sizes.max())
    alarm = None
    if largest > max(ALARM_LEAST, ALARM_SHARE * len(images)):
        alarm = (
            f"one group holds {largest} of {len(images)} films: probably not copies but a threshold "
            f"too low ({threshold}) or films that share a frame"
        )
    return DuplicateGroups(
        groups=groups,
        n_groups_larger_than_1=int((sizes > 1).sum()),
        largest=largest,
        exact_copies=len(images) - len(originals),
        alarm=alarm,
    )


def correlation_vectors(images: np.ndarray) -> np.ndarray:
    """Thumbnails as float32 (N, side^2) whose dot products are Pearson correlations; blank ones are 0."""
    small = np.empty((len(images), THUMBNAIL_SIDE**2), dtype=np.float32)
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    for row, image in enumerate(images):
        small[row] = cv2.resize(image, side, interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean(axis=1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    # A film of one grey has no direction: rounding must not give it one.
    small /= np.where(length < 1.0, np.inf, length)
    return small


def mutual_links(vectors: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, correlated enough and each among the other's CLOSEST_FEW, sorted."""
    count = len(vectors)
    few = min(CLOSEST_FEW, count - 1)
    if few < 1:
        return
    wanted: set[tuple[int, int]] = set()
    for start in range(0, count, THUMBNAIL_ROWS):
        table = vectors[start : start + THUMBNAIL_ROWS] @ vectors.T
        rows = np.arange(len(table))
        table[rows, start + rows] = -np.inf
        closest = np.argpartition(table, count - few, axis=1)[:, count - few :]
        close = np.take_along_axis(table, closest, axis=1) >= threshold
        for row, place in zip(*np.nonzero(close), strict=True):
            wanted.add((start + int(row), int(closest[row, place])))
    yield from sorted((i, j) for i, j in wanted if i < j and (j, i) in wanted)


def find_root(parent: np.ndarray, row: int) -> int:
    """The first film of a row's group; paths are halved on the way."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = int(parent[row])
    return int(row)
