"""Scores of many candidate blends on the rows that weights may see. Numpy only, no files.

For an AUC, the sums of predictions that a hill climb compares are kept as sortable integers: (seed,
fold) and target in the highest bits, the sum below, the label in the lowest. One integer sort then
puts every fold of every candidate in order, and adding a member is adding integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.members import Floats
from kernels.stats.auc import auc_scores
from kernels.stats.metrics import find_metric, score_metric
from kernels.stats.thresholds import best_decision_score, wants_decisions

QUANTUM = 1e12  # sums are of predictions rounded to 1e-12: exact in any order, and ties stay ties
BLOCK_KEYS = 1_000_000  # sorted at a time: 8 MB

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class FitRows:
    """Rows that weights may see: M members in a method's space, T targets, C cells (seed, fold)."""

    metric: str
    targets: np.ndarray  # (n, T)
    predictions: Floats  # (M, n, T)
    cells: tuple[slice, ...]

    @property
    def is_auc(self) -> bool:
        """Whether only the order of predictions counts, fold by fold."""
        return self.metric in ("auc", "macro_auc")


def candidate_scores(
    metric: str, targets: np.ndarray, candidates: Floats, cells: Sequence[slice]
) -> np.ndarray:
    """Mean-fold score of each of (K, n, T) candidates, shape (K,), higher is better.

    AUCs of all candidates of a fold are found in one sort; other metrics one by one. Where decisions are
    wanted, a candidate counts by its best thresholds over all cells.
    """
    if wants_decisions(metric):
        inside = np.concatenate([np.arange(cell.start, cell.stop) for cell in cells])
        truth = targets[inside]
        return np.array([best_decision_score(metric, truth, item[inside]) for item in candidates])
    total = np.zeros(len(candidates))
    width = targets.shape[1]
    for cell in cells:
        if metric in ("auc", "macro_auc"):
            for column in range(width):
                total += auc_scores(targets[cell, column], candidates[:, cell, column].T) / width
        else:
            truth = targets[cell]
            for index, candidate in enumerate(candidates):
                total[index] += score_metric(metric, truth, candidate[cell])
    mean: np.ndarray = total / len(cells)
    return mean if find_metric(metric).greater_is_better else -mean


def is_scorable(metric: str, targets: np.ndarray) -> bool:
    """Whether a metric is defined: an AUC needs both classes of every target."""
    if metric in ("auc", "macro_auc"):
        return bool((targets.min(axis=0) < targets.max(axis=0)).all())
    return metric != "average_precision" or bool(targets.any(axis=0).all())


# ---- sums of members -----------------------------------------------------------------------------
#
# What hill climbs add up and score, for B bags of rows or members at once. Both classes have
# ``members`` (B, M, ...), ``empty`` (B, ...), and a ``score`` of sums (b, K, ...) of some bags.


class SumsOfPredictions:
    """Sums of members' predictions as floats, scored as means: any metric, one bag."""

    def __init__(self, rows: FitRows) -> None:
        self._rows = rows
        self.members: np.ndarray = np.rint(
            rows.predictions[np.newaxis].astype(np.float64) * QUANTUM
        )
        self.empty: np.ndarray = np.zeros_like(self.members[:, 0])

    def score(self, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Scores (1, K) of sums (1, K, n, T) of so many members each (1, K)."""
        means = sums[0] / (QUANTUM * sizes[0, :, np.newaxis, np.newaxis])
        rows = self._rows
        return candidate_scores(rows.metric, rows.targets, means, rows.cells)[np.newaxis]


class SumsInOrder:
    """Sums of members' predictions in [0, 1] as sortable integers, scored by mean AUC."""

    def __init__(self, bags: Sequence[FitRows]) -> None:
        """Bags of one shape_of."""
        flat = [_flatten(rows) for rows in bags]
        _, labels, sizes = flat[0]
        self._starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        self._segment = np.repeat(np.arange(sizes.size), sizes)
        self._place = np.arange(labels.size) - self._starts[self._segment]  # in its segment
        self._n_positive: Integers = np.add.reduceat(labels, self._starts)
        self._pairs = self._n_positive * (sizes - self._n_positive)
        self.members: Integers = np.stack([values for values, _, _ in flat])
        base = self._segment << SEGMENT_SHIFT
        self.empty: Integers = np.stack([base + labels for _, labels, _ in flat])

    def score(self, sums: Integers, sizes: np.ndarray) -> np.ndarray:  # noqa: ARG002  (order has no size)
        """Scores (b, K) of sums (b, K, n T), each ``empty`` of its bag plus some members."""
        rows = sums.reshape(-1, sums.shape[-1])
        step = max(1, BLOCK_KEYS // rows.shape[1])
        parts = [self._score(rows[start : start + step]) for start in range(0, len(rows), step)]
        return np.concatenate(parts).reshape(sums.shape[:2])

    def _score(self, sums: Integers) -> np.ndarray:
        keys = np.sort(sums, axis=1)
        # A positive at place p of its segment is above p others; less those that are positive.
        above = np.add.reduceat((keys & 1) * self._place, self._starts, axis=1)
        doubled = 2 * above - self._n_positive * (self._n_positive - 1)
        # Tied positives sort after their negatives and were counted as wins: take half of each back.
        flat = keys.reshape(-1)
        steps = flat[1:] ^ flat[:-1]
        if (steps == 1).any():
            width = keys.shape[1]
            steps[width - 1 :: width] = 2  # between two candidates
            seams = np.flatnonzero(steps == 1)  # the last of the tied negatives
            ends = np.concatenate(([-1], np.flatnonzero(steps != 0), [flat.size - 1]))
            run = ends.searchsorted(seams)
            tied = (seams - ends[run - 1]) * (ends[run + 1] - seams)
            where = seams // width * self._pairs.size + self._segment[seams % width]
            taken = np.bincount(where, weights=tied, minlength=doubled.size)
            doubled -= taken.astype(np.int64).reshape(doubled.shape)
        aucs: np.ndarray = (doubled / (2 * self._pairs)).mean(axis=1)
        return aucs


SEGMENT_SHIFT = 48  # below it the sum: 2 * 100 * 1e12 < 2 ** 48
MOST_IN_A_SUM = 100
MOST_SEGMENTS = 2 ** (62 - SEGMENT_SHIFT)


def _flatten(rows: FitRows) -> tuple[Integers, Integers, np.ndarray]:
    """Members (M, n T) shifted by the label's bit, labels (n T,), rows of every segment: cells of
    one target after the other.
    """
    inside = np.concatenate([np.arange(cell.start, cell.stop) for cell in rows.cells])
    labels = rows.targets[inside].T.reshape(-1).astype(np.int64)
    sizes = np.tile([cell.stop - cell.start for cell in rows.cells], rows.targets.shape[1])
    values = np.rint(rows.predictions[:, inside].astype(np.float64) * QUANTUM)
    flat = values.transpose(0, 2, 1).reshape(len(values), -1)
    return flat.astype(np.int64) << 1, labels, sizes


def can_be_ordered(rows: FitRows, most: int) -> bool:
    """Whether sums of so many members fit into sortable integers, and only their order counts."""
    few = most <= MOST_IN_A_SUM and len(rows.cells) * rows.targets.shape[1] < MOST_SEGMENTS
    inside = rows.predictions.min() >= 0.0 and rows.predictions.max() <= 1.0
    return rows.is_auc and few and bool(inside)


def shape_of(rows: FitRows) -> tuple[Any, ...]:
    """What bags that climb together have in common: members, cells, and positives of each."""
    positives = tuple(
        tuple(int(count) for count in rows.targets[cell].sum(axis=0)) for cell in rows.cells
    )
    return len(rows.predictions), tuple(cell.stop - cell.start for cell in rows.cells), positives
