"""Area under the ROC curve, exact with ties, one member or a table of them."""

import numpy as np
from numpy.typing import ArrayLike

from kernels.stats.checking import (
    STATS_BLOCK_ELEMENTS,
    BoolArray,
    IndexArray,
    ScoreArray,
    mask_with_both_classes,
    refuse_nan,
    score_table,
    score_vector,
)

# Up to so many rows a search in the larger class is quicker than the sort of both with its bookkeeping:
# two thirds of its time at 878 rows, as long at 2,500.
SEARCHED_ROWS = 2000


def _doubled_wins_by_search(positive: BoolArray, row: ScoreArray, name: str = "scores") -> int:
    """2 x wins + ties as _doubled_wins, for one row of any float64, by binary search."""
    up, down = row[positive], row[~positive]
    up.sort()  # sorted queries keep the search in cache
    down.sort()
    if up[-1] != up[-1] or down[-1] != down[-1]:  # NaN sorts last
        refuse_nan(row, name)
    few, many = (up, down) if up.size <= down.size else (down, up)
    beaten = int(np.add.reduce(many.searchsorted(few, "left")))
    beaten += int(np.add.reduce(many.searchsorted(few, "right")))
    return beaten if few is up else 2 * up.size * down.size - beaten


def _doubled_wins(
    positive: BoolArray, n_positive: int, rows: ScoreArray, name: str = "scores"
) -> IndexArray:
    """2 x wins + ties of positives over negatives for each row of scores, (M, N) -> (M,), exact.

    Floats of one sign order like their bits. With the label as lowest bit, one integer sort
    (vectorised in numpy, many times faster than argsort) puts scores and labels in order together.
    """
    n_members, n_rows = rows.shape
    bits = np.add(rows, 0.0, order="C").view(np.int64)  # + 0.0 copies, and turns -0.0 into 0.0
    if float(rows.min()) >= 0.0:
        keys = bits.view(np.uint64)
        keys <<= np.uint64(1)  # pushes out the sign bit, which is free
        keys |= positive
        keys.sort(axis=-1)
    else:
        refuse_nan(rows.T if n_members > 1 else rows[0], name)
        # Two signs need a bit of their own. Counting magnitudes from just under the smallest one
        # frees it, unless they span half of all exponents (1e-160 beside 1e160).
        magnitudes = bits & (2**63 - 1)
        origin = int(magnitudes.min(initial=2**63 - 1, where=magnitudes > 0)) - 1
        if int(magnitudes.max()) - origin >= 2**62:
            return np.array([_doubled_wins_by_search(positive, row, name) for row in rows])
        np.maximum(magnitudes, origin, out=magnitudes)  # zeros, too, are counted from there
        magnitudes -= origin
        bits >>= 63  # -1 for negative scores, else 0
        magnitudes ^= bits
        magnitudes -= bits  # two's complement: the magnitude with its sign
        magnitudes <<= 1
        magnitudes |= positive
        magnitudes.sort(axis=-1)
        keys = magnitudes.view(np.uint64)
    # Every row has n_positive ones, so flat positions fall into a rectangle.
    is_positive = np.empty(keys.shape, dtype=np.bool_)
    np.bitwise_and(keys, np.uint64(1), out=is_positive, casting="unsafe")
    ranks = np.flatnonzero(is_positive).reshape(n_members, n_positive).sum(axis=1)
    ranks -= np.arange(n_members) * (n_rows * n_positive)
    doubled: IndexArray = 2 * ranks - n_positive * (n_positive - 1)
    # Until here a tied positive counts as a win: it sorts after its negatives. Ties are where
    # neighbouring runs of equal keys differ in the label bit only.
    flat = keys.reshape(-1)
    steps = flat[1:] ^ flat[:-1]
    steps[n_rows - 1 :: n_rows] = 2  # the seam between two members is no tie
    is_tie = steps == 1
    if is_tie.any():
        seams = np.flatnonzero(is_tie)  # last place of the negatives, the positives follow
        run_ends = np.concatenate(([-1], np.flatnonzero(steps != 0), [flat.size - 1]))
        run = run_ends.searchsorted(seams)
        pairs = (seams - run_ends[run - 1]) * (run_ends[run + 1] - seams)
        members = seams // n_rows
        doubled -= np.bincount(members, weights=pairs, minlength=n_members).astype(np.int64)
    return doubled


def auc_score(targets: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: P(positive scores above negative) + P(tie) / 2, exact.

    Args:
        targets: 0 and 1 (or bool), shape (N,), both present.
        scores: Any real numbers, larger meaning more positive, shape (N,); inf is fine.

    Raises:
        ValueError: For one class only, NaN, or shapes that differ.

    Source: Mann & Whitney 1947; Bamber 1975.
    """
    positive, n_positive, n_negative = mask_with_both_classes(targets)
    values = score_vector(scores, positive.size)
    if values.size <= SEARCHED_ROWS:
        doubled = _doubled_wins_by_search(positive, values)
    else:
        doubled = int(_doubled_wins(positive, n_positive, values[np.newaxis])[0])
    return doubled / (2 * n_positive * n_negative)


def auc_scores(targets: ArrayLike, score_matrix: ArrayLike) -> ScoreArray:
    """AUC of every column, (N,) and (N, M) -> (M,); see auc_score for ranges and errors.

    Works through the columns in blocks, so a float32 table of 64 members x 1,000,000 rows needs
    about 60 MB beside itself. The transpose of a C-ordered (M, N) array is the fastest input.
    """
    positive, n_positive, n_negative = mask_with_both_classes(targets)
    table = score_table(score_matrix, positive.size)
    step = max(1, STATS_BLOCK_ELEMENTS // positive.size)
    doubled = np.empty(table.shape[1], dtype=np.int64)
    for start in range(0, table.shape[1], step):
        rows = np.asarray(table[:, start : start + step], dtype=np.float64).T
        name = f"score_matrix[:, {start}:]"
        doubled[start : start + step] = _doubled_wins(positive, n_positive, rows, name)
    result: ScoreArray = doubled / (2.0 * n_positive * n_negative)
    return result


def macro_auc(targets: ArrayLike, scores: ArrayLike) -> float:
    """Mean of the AUCs of T target columns, both (N, T); ValueError names a column of one class."""
    truth = np.asarray(targets)
    table = np.asarray(scores)
    if truth.ndim == 1 and table.ndim == 1:
        return auc_score(truth, table)
    if truth.ndim != 2 or truth.shape != table.shape:
        raise ValueError(f"targets have shape {truth.shape}, scores {table.shape}; both are (N, T)")
    aucs: list[float] = []
    for column in range(truth.shape[1]):
        try:
            aucs.append(auc_score(truth[:, column], table[:, column]))
        except ValueError as error:
            raise ValueError(f"target column {column}: {error}") from error
    return sum(aucs) / len(aucs)


def placement_counts(positive: BoolArray, values: ScoreArray) -> IndexArray:
    """Row by row, how many rows of the other class it beats: strictly, and counting ties as beaten.

    Shape (2, N). A positive beats the negatives below it, a negative is "beaten" by the positives
    above. Half the sum of the two lines is the mid-rank difference of Sun & Xu, as exact integers.
    """
    counts = np.empty((2, values.size), dtype=np.int64)
    rows_up, rows_down = np.flatnonzero(positive), np.flatnonzero(~positive)
    rows_up = rows_up[np.argsort(values[rows_up])]
    rows_down = rows_down[np.argsort(values[rows_down])]
    up, down = values[rows_up], values[rows_down]
    counts[0, rows_up] = down.searchsorted(up, "left")
    counts[1, rows_up] = down.searchsorted(up, "right")
    counts[0, rows_down] = up.size - up.searchsorted(down, "right")
    counts[1, rows_down] = up.size - up.searchsorted(down, "left")
    return counts
