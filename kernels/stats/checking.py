"""Array types and checks that every score shares: shapes, classes, NaN, labels as codes.

Nothing is repaired: what does not fit is a ValueError that names the row or the shape.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

ScoreArray: TypeAlias = NDArray[np.float64]

IndexArray: TypeAlias = NDArray[np.int64]

BoolArray: TypeAlias = NDArray[np.bool_]

MetricFunction: TypeAlias = Callable[[ScoreArray, ScoreArray], float]

STATS_BLOCK_ELEMENTS = 1_000_000
"""Elements of one temporary array (8 MB as float64): what bounds memory at a million rows."""


def binary_mask(targets: ArrayLike) -> BoolArray:
    """True where the target is 1, shape (N,); ValueError unless all are 0 or 1."""
    array = np.asarray(targets)
    if array.ndim != 1:
        raise ValueError(f"targets have shape {array.shape}, not (N,)")
    if array.size == 0:
        raise ValueError("targets are empty")
    if array.dtype == np.bool_:
        return array
    positive: BoolArray = array == 1
    negative: BoolArray = array == 0
    if np.count_nonzero(positive) + np.count_nonzero(negative) != array.size:
        row = int(np.flatnonzero(~(positive | negative))[0])
        raise ValueError(f"targets hold {array[row]!r} (row {row}); only 0 and 1 are understood")
    return positive


def mask_with_both_classes(targets: ArrayLike) -> tuple[BoolArray, int, int]:
    """The mask of positives and the size of each class; ValueError if one is empty."""
    positive = binary_mask(targets)
    n_positive = int(np.count_nonzero(positive))
    n_negative = positive.size - n_positive
    if n_positive == 0 or n_negative == 0:
        only = 1 if n_negative == 0 else 0
        raise ValueError(
            f"targets hold one class only (all {positive.size} are {only}); both are needed to rank"
        )
    return positive, n_positive, n_negative


def score_vector(scores: ArrayLike, n_rows: int, name: str = "scores") -> ScoreArray:
    """Scores as float64 (N,), NaN unchecked; ValueError when the shape differs."""
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} have shape {array.shape}, targets have {n_rows} rows")
    return array


def score_table(score_matrix: ArrayLike, n_rows: int) -> NDArray[np.generic]:
    """A table of scores (N, M) in its own dtype: a float32 file is not copied whole."""
    table: NDArray[np.generic] = np.asarray(score_matrix)
    if table.ndim != 2 or table.shape[0] != n_rows:
        raise ValueError(f"score_matrix has shape {table.shape}, targets have {n_rows} rows")
    return table


def refuse_nan(values: ScoreArray, name: str = "scores") -> None:
    """ValueError naming the first row that holds NaN, and how many do."""
    if values.size and math.isnan(float(values.max())):  # max hands NaN on: one fast pass
        missing = np.isnan(values)
        where = np.argwhere(missing)[0]
        spot = f"row {where[0]}" + (f", column {where[1]}" if where.size > 1 else "")
        raise ValueError(f"{name} hold {int(np.count_nonzero(missing))} NaN (first: {spot})")


def probability_array(probs: ArrayLike, name: str = "probs") -> ScoreArray:
    """Probabilities as float64, any shape; ValueError for NaN or values outside [0, 1]."""
    array = np.asarray(probs, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} are empty")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # written so that NaN fails too
        refuse_nan(array, name)
        raise ValueError(f"{name} run from {low:g} to {high:g}; probabilities lie in [0, 1]")
    return array


def normal_quantile(level: float) -> float:
    """The z for which [-z, z] holds `level` of a standard normal; ValueError outside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level!r}; it lies between 0 and 1, for instance 0.95")
    return NormalDist().inv_cdf(0.5 + level / 2)


def label_codes(labels: ArrayLike, n_rows: int, name: str) -> IndexArray:
    """Labels of any sortable kind as 0..K-1 in sorted order, shape (N,)."""
    array = np.asarray(labels)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} have shape {array.shape}, targets have {n_rows} rows")
    codes: IndexArray = np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(-1)
    return codes


def count_distinct(codes: IndexArray) -> int:
    """How many different codes occur: np.unique hashes, and is 50 times slower at a million."""
    seen = np.zeros(int(codes.max()) + 1, dtype=np.bool_)
    seen[codes] = True
    return int(np.count_nonzero(seen))


def cell_rows(
    keys: ArrayLike | tuple[ArrayLike, ...], n_rows: int, name: str = "keys"
) -> list[IndexArray]:
    """Row numbers of every combination of keys that occurs, in the keys' sorted order.

    Args:
        keys: One label per row, shape (N,), or a tuple of such arrays: (seeds, folds).
        n_rows: N.
        name: What errors call the keys.

    Raises:
        ValueError: If a key has another length.
    """
    codes = np.zeros(n_rows, dtype=np.int64)
    for key in _key_tuple(keys):
        inner = label_codes(key, n_rows, name)
        codes = codes * (int(inner.max()) + 1) + inner
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def cell_names(keys: ArrayLike | tuple[ArrayLike, ...], cells: Sequence[IndexArray]) -> list[str]:
    """The labels of every cell, for messages: "0, 3" for seed 0, fold 3."""
    arrays = [np.asarray(key) for key in _key_tuple(keys)]
    return [", ".join(str(array[rows[0]]) for array in arrays) for rows in cells]


def _key_tuple(keys: ArrayLike | tuple[ArrayLike, ...]) -> tuple[ArrayLike, ...]:
    """One key, or a tuple of them such as (seeds, folds)."""
    return keys if isinstance(keys, tuple) else (keys,)


def checked_scores(scores: ArrayLike, n_rows: int, name: str = "scores") -> ScoreArray:
    """As score_vector, and no NaN."""
    values = score_vector(scores, n_rows, name)
    refuse_nan(values, name)
    return values


def class_codes(targets: ArrayLike, n_rows: int, n_classes: int) -> IndexArray:
    """Class numbers 0..K-1, shape (N,); ValueError for others."""
    array = np.asarray(targets)
    if array.shape != (n_rows,):
        raise ValueError(f"targets have shape {array.shape}, probs have {n_rows} rows")
    codes: IndexArray = array.astype(np.int64)
    if not np.array_equal(codes, array) or codes.min() < 0 or codes.max() >= n_classes:
        raise ValueError(
            f"targets are not class numbers 0..{n_classes - 1}, one per column of probs"
        )
    return codes


def single_column(array: ArrayLike) -> NDArray[np.generic]:
    """(N, 1) as (N,): a table of one target is that target. Other shapes pass."""
    values: NDArray[np.generic] = np.asarray(array)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def checked_tables(
    targets: ArrayLike, *members: ArrayLike
) -> tuple[NDArray[np.generic], list[NDArray[np.generic]]]:
    """Targets and predictions as arrays with equal numbers of rows, (N, 1) as (N,)."""
    truth = single_column(targets)
    tables = [single_column(member) for member in members]
    for table in tables:
        if truth.ndim == 0 or table.ndim == 0 or len(table) != len(truth):
            raise ValueError(f"predictions have shape {table.shape}, targets {truth.shape}")
    if len(truth) == 0:
        raise ValueError("targets are empty")
    return truth, tables
