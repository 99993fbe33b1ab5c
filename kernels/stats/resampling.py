"""Scores of bootstrap resamples, exact and many at a time.

A resample is a count for every unit (row, id or group): how often it was drawn. Rows are sorted
once, and scoring under counts is exact, vectorised over resamples, and equal to scoring the
repeated rows. B are resamples, U units.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kernels.stats.checking import (
    BoolArray,
    IndexArray,
    MetricFunction,
    ScoreArray,
    binary_mask,
    checked_scores,
    label_codes,
    probability_array,
    score_vector,
)
from kernels.stats.decisions import confusion_cells, confusion_rate, descending_runs
from kernels.stats.metrics import ROW_METRICS, find_metric, metric_rows

ResampledScorer: TypeAlias = Callable[[NDArray[np.int32]], ScoreArray]

RESAMPLE_BATCH_ELEMENTS = 250_000
"""Counts drawn at a time, 1 MB: they stay in cache. Another value gives a seed other resamples."""


def resample_counts(
    strata_sizes: Sequence[int], n_resamples: int, seed: int
) -> Iterator[NDArray[np.int32]]:
    """Bootstrap counts: batches (b, U) of how often each unit is drawn, U = sum(strata_sizes).

    Units of one stratum stand side by side, in the order of strata_sizes, and every stratum is
    resampled to its own size. Equal arguments give equal counts, which is what pairs two members'
    bootstraps.
    """
    rng = np.random.default_rng(seed)
    n_units = sum(strata_sizes)
    batch = max(1, min(n_resamples, RESAMPLE_BATCH_ELEMENTS // n_units))
    for done in range(0, n_resamples, batch):
        size = min(batch, n_resamples - done)
        counts = np.empty((size, n_units), dtype=np.int32)
        start = 0
        for width in strata_sizes:
            # Short integers are drawn twice as fast.
            dtype = np.uint16 if width <= 65_536 else np.uint32
            drawn = rng.integers(0, width, size=(size, width), dtype=dtype)
            flat = drawn + np.arange(0, size * width, width)[:, np.newaxis]
            filled = np.bincount(flat.reshape(-1), minlength=size * width)
            counts[:, start : start + width] = filled.reshape(size, width)
            start += width
        yield counts


def _undefined_as_nan(part: ScoreArray, whole: ScoreArray) -> ScoreArray:
    """Division that is NaN where whole is 0."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _resampled_auc(positive: BoolArray, values: ScoreArray, units: IndexArray) -> ResampledScorer:
    """AUC under counts (b, U) of the units that rows belong to; NaN where a class is not drawn."""
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    up, down = up[np.argsort(values[up])], down[np.argsort(values[down])]
    below = values[down].searchsorted(values[up], "left")
    below_or_tied = values[down].searchsorted(values[up], "right")
    ties = not np.array_equal(below, below_or_tied)
    up_units, down_units = units[up], units[down]

    def score(counts: NDArray[np.int32]) -> ScoreArray:
        up_counts = counts.take(up_units, axis=1)
        down_sums = np.zeros((len(counts), down.size + 1), dtype=np.int32)
        np.cumsum(counts.take(down_units, axis=1), axis=1, out=down_sums[:, 1:])
        doubled = down_sums.take(below, axis=1)
        doubled += down_sums.take(below_or_tied, axis=1) if ties else doubled
        wins = np.einsum("bi,bi->b", up_counts, doubled, dtype=np.float64)
        pairs = up_counts.sum(axis=1, dtype=np.float64) * down_sums[:, -1]
        return _undefined_as_nan(wins, 2.0 * pairs)

    return score


def _resampled_average_precision(
    positive: BoolArray, values: ScoreArray, units: IndexArray
) -> ResampledScorer:
    """Average precision under counts (b, U); NaN where no positive is drawn."""
    order, ends = descending_runs(values)
    row_units, is_hit = units[order], positive[order].astype(np.int32)

    def score(counts: NDArray[np.int32]) -> ScoreArray:
        drawn = counts.take(row_units, axis=1)
        total = np.cumsum(drawn, axis=1)[:, ends].astype(np.float64)
        hits = np.cumsum(drawn * is_hit, axis=1)[:, ends].astype(np.float64)
        precision = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
        gained = np.einsum("bi,bi->b", np.diff(hits, axis=1, prepend=0.0), precision)
        return _undefined_as_nan(gained, hits[:, -1])

    return score


def resampled_scorer(
    metric: str | MetricFunction,
    targets: NDArray[np.generic],
    predictions: NDArray[np.generic],
    units: IndexArray,
    threshold: float,
) -> ResampledScorer:
    """A function from counts (b, U) to scores (b,) of the rows these counts stand for."""
    if callable(metric):
        function, truth = metric, targets.astype(np.float64)
        guess, rows = predictions.astype(np.float64), np.arange(len(targets))

        def score_rows(counts: NDArray[np.int32]) -> ScoreArray:
            scores = np.empty(len(counts))
            for index, drawn in enumerate(counts):
                chosen = np.repeat(rows, drawn[units])
                scores[index] = function(truth[chosen], guess[chosen])
            return scores

        return score_rows

    if targets.ndim == 2 and metric not in ROW_METRICS:
        inner = "auc" if metric == "macro_auc" else metric
        columns = [
            resampled_scorer(inner, targets[:, j], predictions[:, j], units, threshold)
            for j in range(targets.shape[1])
        ]

        def score_columns(counts: NDArray[np.int32]) -> ScoreArray:
            mean: ScoreArray = np.mean([column(counts) for column in columns], axis=0)
            return mean

        return score_columns

    if metric in ("auc", "average_precision", "macro_auc"):
        positive = binary_mask(targets)
        values = checked_scores(predictions, positive.size, "predictions")
        if metric == "average_precision":
            return _resampled_average_precision(positive, values, units)
        return _resampled_auc(positive, values, units)

    losses = metric_rows(metric, targets, predictions, threshold)
    if losses is None:
        positive = binary_mask(targets)
        flagged = score_vector(probability_array(predictions), positive.size) >= threshold
        totals = np.stack(confusion_cells(positive, flagged), axis=1).astype(np.float64)
    else:
        totals = np.stack((losses, np.ones_like(losses)), axis=1)
    # Sums per unit first: a resample then costs one small matrix product.
    per_unit = np.zeros((int(units.max()) + 1, totals.shape[1]))
    for column in range(totals.shape[1]):
        per_unit[:, column] = np.bincount(units, weights=totals[:, column])

    def score_sums(counts: NDArray[np.int32]) -> ScoreArray:
        sums = counts[:, : len(per_unit)].astype(np.float64) @ per_unit
        if losses is None:
            return confusion_rate(str(metric), sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3])
        means = _undefined_as_nan(sums[:, 0], sums[:, 1])
        return np.sqrt(means) if metric == "rmse" else means

    return score_sums


def stratum_labels(metric: str | MetricFunction, targets: NDArray[np.generic]) -> IndexArray | None:
    """Classes to stratify by, shape (N,); None for several targets and for real-valued ones.

    A function does not tell what its targets mean, so only 0 and 1 are taken for classes there:
    strata of ages or counts would hold single rows, and nothing would ever vary.
    """
    if targets.ndim != 1 or targets.dtype.kind not in "biuf":
        return None
    if callable(metric):
        if not np.isin(targets, (0, 1)).all():
            return None
    elif find_metric(metric).needs == "values":
        return None
    return label_codes(targets, len(targets), "targets")


def stratified_units(
    units: IndexArray, labels: IndexArray | None, folds: IndexArray | None
) -> tuple[IndexArray, list[int]]:
    """Units renumbered so that strata stand side by side, and the size of every stratum.

    A unit's stratum is the lowest and highest class among its rows (three kinds for two classes:
    pure negative, pure positive, mixed), and its fold where given.
    """
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.concatenate(([True], np.diff(units[order]) != 0)))
    strata = np.zeros(starts.size, dtype=np.int64)
    for row_labels in (labels, folds):
        if row_labels is not None:
            ordered = row_labels[order]
            for edge in (
                np.minimum.reduceat(ordered, starts),
                np.maximum.reduceat(ordered, starts),
            ):
                codes = np.unique(edge, return_inverse=True)[1].reshape(-1)
                strata = strata * (int(codes.max()) + 1) + codes
    by_stratum = np.argsort(strata, kind="stable")
    column = np.empty_like(by_stratum)
    column[by_stratum] = np.arange(by_stratum.size)
    sizes = np.unique(strata, return_counts=True)[1]
    return column[units], [int(size) for size in sizes]
