"""Percentile ranks with ties, and Spearman correlation of members."""

import numpy as np
from numpy.typing import ArrayLike

from kernels.stats.checking import (
    STATS_BLOCK_ELEMENTS,
    ScoreArray,
    cell_rows,
    checked_scores,
    refuse_nan,
)


def _tied_ranks(values: ScoreArray) -> ScoreArray:
    """Ranks 1..N with ties averaged, shape (N,)."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(starts, append=values.size)
    ranks = np.empty(values.size)
    ranks[order] = np.repeat(starts + (lengths + 1) / 2, lengths)
    return ranks


def rank_average(scores: ArrayLike) -> ScoreArray:
    """Ranks divided by N, ties sharing their mean, in (0, 1]; a table (N, M) is ranked by column.

    Raises:
        ValueError: For NaN, an empty array or more than two axes.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"scores have shape {values.shape}, not (N,) or (N, M) with rows")
    refuse_nan(values)
    if values.ndim == 1:
        return _tied_ranks(values) / values.size
    ranks = np.empty(values.shape)
    for column in range(values.shape[1]):
        ranks[:, column] = _tied_ranks(values[:, column]) / values.shape[0]
    return ranks


def ranks_within(scores: ArrayLike, keys: ArrayLike | tuple[ArrayLike, ...]) -> ScoreArray:
    """rank_average taken separately inside every group of rows, (N,) or (N, M) -> the same shape.

    Args:
        scores: Real numbers.
        keys: Group label of every row, shape (N,), or a tuple of such arrays: (seeds, folds).

    Raises:
        ValueError: For NaN or keys of another length.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"scores have shape {values.shape}, not (N,) or (N, M) with rows")
    ranks = np.empty(values.shape)
    for rows in cell_rows(keys, values.shape[0]):
        ranks[rows] = rank_average(values[rows])
    return ranks


def spearman_matrix(score_matrix: ArrayLike) -> ScoreArray:
    """Spearman rank correlations between the columns of (N, M), shape (M, M), ties averaged.

    Rows and columns of a constant member are NaN: it has no order to correlate. Ranks are kept as
    float32 where that is exact (N <= 8,000,000): 256 MB for 64 x 1,000,000.

    Raises:
        ValueError: For NaN, or anything but a table with at least two rows.
    """
    table = np.asarray(score_matrix)
    if table.ndim != 2 or table.shape[0] < 2:
        raise ValueError(f"score_matrix has shape {table.shape}; a table with 2 rows is the least")
    n_rows, n_members = table.shape
    dtype = np.float32 if n_rows <= 8_000_000 else np.float64
    centred = np.empty((n_members, n_rows), dtype=dtype)
    for column in range(n_members):
        values = checked_scores(table[:, column], n_rows, f"score_matrix[:, {column}]")
        centred[column] = 2 * _tied_ranks(values) - (n_rows + 1)  # twice the rank: an integer
    gram = np.zeros((n_members, n_members))
    step = max(1, STATS_BLOCK_ELEMENTS // n_members)
    for start in range(0, n_rows, step):
        block = centred[:, start : start + step].astype(np.float64)
        gram += block @ block.T
    spread = np.sqrt(np.diag(gram))
    spread[spread == 0.0] = np.nan
    correlations: ScoreArray = np.clip(gram / spread[:, np.newaxis] / spread, -1.0, 1.0)
    np.fill_diagonal(correlations, np.where(np.isnan(spread), np.nan, 1.0))
    return correlations


def spearman_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman rank correlation of two arrays (N,), ties averaged; NaN when one is constant.

    Raises:
        ValueError: For NaN, fewer than two rows, or shapes that differ.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(f"a has shape {left.shape}, b {right.shape}; both are (N,)")
    return float(spearman_matrix(np.stack((left, right), axis=1))[0, 1])
