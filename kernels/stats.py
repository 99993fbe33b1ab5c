"""Scores, and how far they can be trusted.

Exact AUC with ties, DeLong, stratified and group bootstrap, mean-fold scores, rank transforms,
calibration, thresholds, and a registry of metrics by name. Numpy and the standard library only,
because kernels and harness both use it; no files, no plots. Blending, folds and gates live
elsewhere and call this.

Vocabulary: N rows, M members (columns of scores), B resamples, U units of resampling (rows, ids or
groups). "k independent pairs" are k (positive, negative) pairs that share no unit: they carry the
bounds that stay honest when an estimated variance is zero.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

ScoreArray: TypeAlias = NDArray[np.float64]
IndexArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
MetricFunction: TypeAlias = Callable[[ScoreArray, ScoreArray], float]
ResampledScorer: TypeAlias = Callable[[NDArray[np.int32]], ScoreArray]

STATS_BLOCK_ELEMENTS = 1_000_000
"""Elements of one temporary array (8 MB as float64): what bounds memory at a million rows."""

RESAMPLE_BATCH_ELEMENTS = 250_000
"""Counts drawn at a time, 1 MB: they stay in cache. Another value gives a seed other resamples."""

RESAMPLING_ROUNDING = 1e-14
"""Draws that spread less than this (relative to values above 1) are equal but for rounding."""

SMALLEST_P_VALUE = sys.float_info.min
"""No test here answers p = 0: what underflows is reported as this, the smallest normal double."""


# ---- results -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreInterval:
    """A score with a confidence interval, in the metric's own units."""

    estimate: float
    low: float
    high: float
    standard_error: float
    level: float
    method: str  # delong-logit | delong-wald | bootstrap | group bootstrap | ... or "exact bound"
    n_resamples: int = 0  # resamples on which the metric was defined; 0 when none were drawn
    degenerate: bool = False  # the estimated variance is zero; note says what low and high are
    note: str = ""  # why, in a sentence; empty unless degenerate


@dataclass(frozen=True)
class ScoreDifference:
    """Paired difference a - b of two members on the same rows, in the metric's own units."""

    score_a: float
    score_b: float
    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float  # two-sided, never 0
    level: float
    method: str
    n_resamples: int = 0
    degenerate: bool = False
    note: str = ""


@dataclass(frozen=True)
class DeLongResult:
    """Paired DeLong comparison of two AUCs."""

    auc_a: float
    auc_b: float
    difference: float
    variance: float  # of the difference
    z: float  # 0 for a difference of 0, NaN when the variance is 0 and the difference is not
    p_value: float  # two-sided, never 0
    low: float
    high: float
    level: float = 0.95
    degenerate: bool = False
    note: str = ""


@dataclass(frozen=True)
class ConfusionMetrics:
    """Counts and rates at one threshold; a ratio over 0 is 0.0, as in scikit-learn."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    accuracy: float
    precision: float
    recall: float
    specificity: float
    negative_predictive_value: float
    f1: float
    balanced_accuracy: float
    mcc: float
    kappa: float


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold (positive: score >= threshold) and what it reaches on the rows given."""

    threshold: float
    value: float
    criterion: str


@dataclass(frozen=True)
class Metric:
    """What a competition's metric is called, which way is up, and what it wants to be fed."""

    name: str
    greater_is_better: bool
    needs: str  # scores: any order; probs: numbers in [0, 1]; values: the target's own units


# ---- checking what comes in ----------------------------------------------------------------------


def _binary_mask(targets: ArrayLike) -> BoolArray:
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


def _mask_with_both_classes(targets: ArrayLike) -> tuple[BoolArray, int, int]:
    """The mask of positives and the size of each class; ValueError if one is empty."""
    positive = _binary_mask(targets)
    n_positive = int(np.count_nonzero(positive))
    n_negative = positive.size - n_positive
    if n_positive == 0 or n_negative == 0:
        only = 1 if n_negative == 0 else 0
        raise ValueError(
            f"targets hold one class only (all {positive.size} are {only}); both are needed to rank"
        )
    return positive, n_positive, n_negative


def _score_vector(scores: ArrayLike, n_rows: int, name: str = "scores") -> ScoreArray:
    """Scores as float64 (N,), NaN unchecked; ValueError when the shape differs."""
    array = np.asarray(scores, dtype=np.float64)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} have shape {array.shape}, targets have {n_rows} rows")
    return array


def _score_table(score_matrix: ArrayLike, n_rows: int) -> NDArray[np.generic]:
    """A table of scores (N, M) in its own dtype: a float32 file is not copied whole."""
    table: NDArray[np.generic] = np.asarray(score_matrix)
    if table.ndim != 2 or table.shape[0] != n_rows:
        raise ValueError(f"score_matrix has shape {table.shape}, targets have {n_rows} rows")
    return table


def _refuse_nan(values: ScoreArray, name: str = "scores") -> None:
    """ValueError naming the first row that holds NaN, and how many do."""
    if values.size and math.isnan(float(values.max())):  # max hands NaN on: one fast pass
        missing = np.isnan(values)
        where = np.argwhere(missing)[0]
        spot = f"row {where[0]}" + (f", column {where[1]}" if where.size > 1 else "")
        raise ValueError(f"{name} hold {int(np.count_nonzero(missing))} NaN (first: {spot})")


def _probability_array(probs: ArrayLike, name: str = "probs") -> ScoreArray:
    """Probabilities as float64, any shape; ValueError for NaN or values outside [0, 1]."""
    array = np.asarray(probs, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} are empty")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # written so that NaN fails too
        _refuse_nan(array, name)
        raise ValueError(f"{name} run from {low:g} to {high:g}; probabilities lie in [0, 1]")
    return array


def _normal_quantile(level: float) -> float:
    """The z for which [-z, z] holds `level` of a standard normal; ValueError outside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level!r}; it lies between 0 and 1, for instance 0.95")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _label_codes(labels: ArrayLike, n_rows: int, name: str) -> IndexArray:
    """Labels of any sortable kind as 0..K-1 in sorted order, shape (N,)."""
    array = np.asarray(labels)
    if array.shape != (n_rows,):
        raise ValueError(f"{name} have shape {array.shape}, targets have {n_rows} rows")
    codes: IndexArray = np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(-1)
    return codes


def _count_distinct(codes: IndexArray) -> int:
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
        inner = _label_codes(key, n_rows, name)
        codes = codes * (int(inner.max()) + 1) + inner
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _cell_names(keys: ArrayLike | tuple[ArrayLike, ...], cells: Sequence[IndexArray]) -> list[str]:
    """The labels of every cell, for messages: "0, 3" for seed 0, fold 3."""
    arrays = [np.asarray(key) for key in _key_tuple(keys)]
    return [", ".join(str(array[rows[0]]) for array in arrays) for rows in cells]


def _key_tuple(keys: ArrayLike | tuple[ArrayLike, ...]) -> tuple[ArrayLike, ...]:
    """One key, or a tuple of them such as (seeds, folds)."""
    return keys if isinstance(keys, tuple) else (keys,)


# ---- AUC -----------------------------------------------------------------------------------------


def _doubled_wins_by_search(positive: BoolArray, rows: ScoreArray) -> IndexArray:
    """2 x wins + ties as _doubled_wins, for any float64, by binary search."""
    doubled = np.empty(len(rows), dtype=np.int64)
    for index, row in enumerate(rows):
        negatives = np.sort(row[~positive])
        positives = np.sort(row[positive])  # sorted queries keep the search in cache
        below = int(negatives.searchsorted(positives, "left").sum())
        doubled[index] = below + int(negatives.searchsorted(positives, "right").sum())
    return doubled


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
        _refuse_nan(rows.T if n_members > 1 else rows[0], name)
        # Two signs need a bit of their own. Counting magnitudes from just under the smallest one
        # frees it, unless they span half of all exponents (1e-160 beside 1e160).
        magnitudes = bits & (2**63 - 1)
        origin = int(magnitudes.min(initial=2**63 - 1, where=magnitudes > 0)) - 1
        if int(magnitudes.max()) - origin >= 2**62:
            return _doubled_wins_by_search(positive, rows)
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
    positive, n_positive, n_negative = _mask_with_both_classes(targets)
    values = _score_vector(scores, positive.size)
    doubled = int(_doubled_wins(positive, n_positive, values[np.newaxis])[0])
    return doubled / (2 * n_positive * n_negative)


def auc_scores(targets: ArrayLike, score_matrix: ArrayLike) -> ScoreArray:
    """AUC of every column, (N,) and (N, M) -> (M,); see auc_score for ranges and errors.

    Works through the columns in blocks, so a float32 table of 64 members x 1,000,000 rows needs
    about 60 MB beside itself. The transpose of a C-ordered (M, N) array is the fastest input.
    """
    positive, n_positive, n_negative = _mask_with_both_classes(targets)
    table = _score_table(score_matrix, positive.size)
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


def hanley_mcneil_se(auc: float, n_positive: int, n_negative: int) -> float:
    """Standard error of an AUC from its value and the class sizes alone, for published numbers.

    Raises:
        ValueError: If auc is not in [0, 1] or a class is empty.

    Source: Hanley & McNeil 1982, eq. 1 (exponential approximation of Q1 and Q2).
    """
    if not 0.0 <= auc <= 1.0:
        raise ValueError(f"auc is {auc!r}; it lies in [0, 1]")
    if n_positive < 1 or n_negative < 1:
        raise ValueError(f"n_positive={n_positive}, n_negative={n_negative}; both at least 1")
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = (n_positive - 1) * (q1 - auc * auc) + (n_negative - 1) * (q2 - auc * auc)
    variance = (auc * (1 - auc) + spread) / (n_positive * n_negative)
    return math.sqrt(max(0.0, variance))


# ---- what can be said when the variance is zero --------------------------------------------------


def perfect_auc_bound(pairs: int | Sequence[int], level: float = 0.95) -> float:
    """Lower confidence bound, one-sided, for an AUC (or a mean of AUCs) measured as exactly 1.

    Args:
        pairs: Independent (positive, negative) pairs behind the AUC: the size of the smaller class,
            when rows are independent. Several numbers: a mean over disjoint folds, each at 1.
        level: Confidence, 0.95 by default.

    Returns:
        (1 - level) ** (1 / pairs) for one AUC: 0.9874 for 237 negatives and 641 positives.

    Why it holds: with true AUC t, k disjoint pairs are all in order with probability t ** k, and
    perfect separation implies that they are. No bound is sharper without assumptions: constant
    scores in the larger class reach it. For a mean it is the least mean of t_f whose product of
    t_f ** k_f is still 1 - level (Lagrange: t_f proportional to k_f, cut at 1).

    Raises:
        ValueError: If a number of pairs is below 1 or level is not between 0 and 1.
    """
    _normal_quantile(level)
    counts = sorted(int(count) for count in np.atleast_1d(np.asarray(pairs)))
    if not counts or counts[0] < 1:
        raise ValueError(f"pairs are {pairs!r}; at least one independent pair is needed")
    budget = math.log(1.0 - level)
    below_one = counts  # folds whose t_f is under 1: those with the fewest pairs
    while True:
        log_scale = (budget - sum(k * math.log(k) for k in below_one)) / sum(below_one)
        if len(below_one) == 1 or log_scale + math.log(below_one[-1]) <= 0.0:
            break
        below_one = below_one[:-1]
    low = sum(math.exp(log_scale + math.log(k)) for k in below_one)
    return (low + len(counts) - len(below_one)) / len(counts)


def _independent_pairs(positive: BoolArray, units: IndexArray) -> int:
    """Most pairs of a positive and a negative unit of which no two share a unit."""
    has_positive = np.zeros(int(units.max()) + 1, dtype=np.bool_)
    has_negative = has_positive.copy()
    has_positive[units[positive]] = True
    has_negative[units[~positive]] = True
    with_positive, with_negative = int(has_positive.sum()), int(has_negative.sum())
    in_use = int((has_positive | has_negative).sum())
    return max(1, min(with_positive, with_negative, in_use // 2))


@dataclass(frozen=True)
class _PairBudget:
    """Independent pairs in each (seed, fold), one tuple per seed; pooled: ((k,),)."""

    seeds: tuple[tuple[int, ...], ...]
    disjoint: bool = True  # no unit lies in two folds of a seed, so that folds are independent

    def perfect_bound(self, level: float) -> float:
        """Lower bound for the mean AUC when every fold is perfect; holds seed by seed."""
        lows: list[float] = []
        for pairs in self.seeds:
            if self.disjoint:
                lows.append(perfect_auc_bound(pairs, level))
            else:
                lows.append(sum(perfect_auc_bound(k, level) for k in pairs) / len(pairs))
        return sum(lows) / len(lows)

    def hoeffding_scale(self) -> float:
        """The s for which P(|mean - truth| >= t) <= 2 exp(-t^2 / (2 s^2)), pair values of range 1.

        Source: Hoeffding 1963, section 5 (two-sample U-statistics). Dependent folds average s.
        """
        scales: list[float] = []
        for pairs in self.seeds:
            if self.disjoint:
                scales.append(math.sqrt(sum(0.25 / k for k in pairs)) / len(pairs))
            else:
                scales.append(sum(0.5 / math.sqrt(k) for k in pairs) / len(pairs))
        return sum(scales) / len(scales)

    def describe(self) -> str:
        """How much evidence there is, for notes."""
        return f"{sum(self.seeds[0])} independent (positive, negative) pairs"


def _flat_auc_bounds(
    auc: float, constant: bool, budget: _PairBudget, level: float
) -> ScoreInterval:
    """The interval of a (mean) AUC whose variance estimate is zero."""
    slack = 1.0 - budget.perfect_bound(level)
    evidence = f"the interval is a bound from {budget.describe()}"
    if auc == 1.0:
        low, high, why = 1.0 - slack, 1.0, "Perfect separation"
    elif auc == 0.0:
        low, high, why = 0.0, slack, "Perfectly reversed"
    elif constant:
        low, high, why = 0.5 - slack / 2, 0.5 + slack / 2, "Every pair is tied (constant scores)"
    else:
        reach = budget.hoeffding_scale() * math.sqrt(2 * math.log(2 / (1 - level)))
        low, high, why = max(0.0, auc - reach), min(1.0, auc + reach), "No spread between rows"
    note = f"{why}: the variance estimate is 0, which is not certainty; {evidence}."
    return ScoreInterval(auc, low, high, 0.0, level, "exact bound", degenerate=True, note=note)


def _flat_difference_bounds(
    difference: float, identical: bool, budget: _PairBudget, level: float
) -> tuple[float, float, float, str]:
    """(low, high, p_value, note) of a paired AUC difference whose variance estimate is zero."""
    if identical:
        reach, p_value = 1.0 - budget.perfect_bound(level), 1.0
        why = "Both order every (positive, negative) pair alike"
    else:
        scale = 2 * budget.hoeffding_scale()  # pair values of a difference run from -1 to 1
        reach = scale * math.sqrt(2 * math.log(2 / (1 - level)))
        bound = 2 * math.exp(-0.5 * (difference / scale) ** 2)
        p_value = min(1.0, max(SMALLEST_P_VALUE, bound))
        why = "The difference does not vary between rows"
    note = (
        f"{why}: the variance estimate is 0, which is not certainty; "
        f"interval and p are bounds from {budget.describe()}."
    )
    return max(-1.0, difference - reach), min(1.0, difference + reach), p_value, note


# ---- DeLong --------------------------------------------------------------------------------------


def _placement_counts(positive: BoolArray, values: ScoreArray) -> IndexArray:
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


def _mask_for_variance(targets: ArrayLike) -> tuple[BoolArray, int, int]:
    """As _mask_with_both_classes, and at least two rows of each: a variance needs them."""
    positive, n_positive, n_negative = _mask_with_both_classes(targets)
    if min(n_positive, n_negative) < 2:
        raise ValueError(
            f"targets hold {n_positive} positives and {n_negative} negatives; "
            "a DeLong variance needs at least 2 of each"
        )
    return positive, n_positive, n_negative


def _checked_scores(scores: ArrayLike, n_rows: int, name: str = "scores") -> ScoreArray:
    """As _score_vector, and no NaN."""
    values = _score_vector(scores, n_rows, name)
    _refuse_nan(values, name)
    return values


def _doubled_placements(
    positive: BoolArray, counts: IndexArray
) -> tuple[ScoreArray, ScoreArray, int]:
    """Twice the placements of positives and of negatives, each less its first, and 2 x wins + ties.

    Subtracting the first in integers makes the variance of equal placements exactly 0.
    """
    doubled = counts[0] + counts[1]
    up, down = doubled[positive], doubled[~positive]
    wins = int(up.sum())
    return (up - up[0]).astype(np.float64), (down - down[0]).astype(np.float64), wins


def delong_covariance(targets: ArrayLike, score_matrix: ArrayLike) -> tuple[ScoreArray, ScoreArray]:
    """AUCs (M,) of the columns of an (N, M) table and their DeLong covariance (M, M).

    Raises:
        ValueError: For fewer than two rows of a class, NaN, or shapes that differ.

    Source: DeLong, DeLong & Clarke-Pearson 1988, eq. 4-6; O(N log N) form of Sun & Xu 2014.
    """
    positive, n_positive, n_negative = _mask_for_variance(targets)
    table = _score_table(score_matrix, positive.size)
    n_members = table.shape[1]
    aucs = np.empty(n_members)
    up, down = np.empty((n_members, n_positive)), np.empty((n_members, n_negative))
    for column in range(n_members):
        values = _checked_scores(table[:, column], positive.size, f"score_matrix[:, {column}]")
        counts = _placement_counts(positive, values)
        up[column], down[column], wins = _doubled_placements(positive, counts)
        aucs[column] = wins / (2 * n_positive * n_negative)
    up = (up - up.mean(axis=1, keepdims=True)) / (2 * n_negative)
    down = (down - down.mean(axis=1, keepdims=True)) / (2 * n_positive)
    covariance: ScoreArray = up @ up.T / (n_positive * (n_positive - 1))
    covariance += down @ down.T / (n_negative * (n_negative - 1))
    return aucs, covariance


def delong_variance(targets: ArrayLike, scores: ArrayLike) -> float:
    """DeLong variance of one AUC; exactly 0 for perfect separation and for constant scores.

    Zero then means "cannot be estimated", not "certain": delong_interval gives a bound instead.

    Raises:
        ValueError: As delong_covariance.
    """
    positive, _, _ = _mask_for_variance(targets)
    values = _checked_scores(scores, positive.size)
    return float(delong_covariance(positive, values[:, np.newaxis])[1][0, 0])


def delong_interval(
    targets: ArrayLike, scores: ArrayLike, level: float = 0.95, method: str = "logit"
) -> ScoreInterval:
    """Confidence interval of one AUC for independent rows; clustered ones need a group bootstrap.

    Args:
        targets: 0 and 1, shape (N,), at least two of each.
        scores: Real numbers, shape (N,).
        level: Confidence, between 0 and 1.
        method: "logit" (stays inside (0, 1), better near 1) or "wald" (symmetric, clipped).

    Returns:
        The interval. When the variance is 0 (perfect separation, constant scores) it is
        `degenerate` and carries the bound of perfect_auc_bound instead.

    Raises:
        ValueError: As delong_covariance, or for an unknown method or level.

    Source: DeLong 1988; logit interval as in Pepe 2003, section 5.2.
    """
    if method not in ("logit", "wald"):
        raise ValueError(f"method is {method!r}; known: logit, wald")
    z = _normal_quantile(level)
    positive, n_positive, n_negative = _mask_for_variance(targets)
    values = _checked_scores(scores, positive.size)
    aucs, covariance = delong_covariance(positive, values[:, np.newaxis])
    auc, variance = float(aucs[0]), float(covariance[0, 0])
    if variance == 0.0:
        budget = _PairBudget(((min(n_positive, n_negative),),))
        return _flat_auc_bounds(auc, auc == 0.5, budget, level)
    error = math.sqrt(variance)
    if method == "wald":
        low, high = max(0.0, auc - z * error), min(1.0, auc + z * error)
    else:
        centre, reach = math.log(auc / (1 - auc)), z * error / (auc * (1 - auc))
        # In this form exp cannot overflow to an error: a huge reach gives 0 or 1.
        low = 0.5 + 0.5 * math.tanh(0.5 * (centre - reach))
        high = 0.5 + 0.5 * math.tanh(0.5 * (centre + reach))
    return ScoreInterval(auc, low, high, error, level, f"delong-{method}")


def delong_test(
    targets: ArrayLike, a: ArrayLike, b: ArrayLike, level: float = 0.95
) -> DeLongResult:
    """Paired DeLong test of AUC(a) - AUC(b) on the same rows, two-sided, with a Wald interval.

    Args:
        targets: 0 and 1, shape (N,), at least two of each.
        a: Scores of one member, shape (N,).
        b: Scores of the other, shape (N,).
        level: Confidence of the interval.

    Returns:
        The result. With zero variance of the difference it is `degenerate`: p is 1 for members that
        order every pair alike, else a Hoeffding bound; never 0.

    Raises:
        ValueError: As delong_covariance.

    Source: DeLong, DeLong & Clarke-Pearson 1988.
    """
    z_level = _normal_quantile(level)
    positive, n_positive, n_negative = _mask_for_variance(targets)
    counts_a = _placement_counts(positive, _checked_scores(a, positive.size, "a"))
    counts_b = _placement_counts(positive, _checked_scores(b, positive.size, "b"))
    up_a, down_a, wins_a = _doubled_placements(positive, counts_a)
    up_b, down_b, wins_b = _doubled_placements(positive, counts_b)
    scale = 2 * n_positive * n_negative
    auc_a, auc_b, difference = wins_a / scale, wins_b / scale, (wins_a - wins_b) / scale
    variance = float((up_a - up_b).var(ddof=1)) / (4 * n_negative**2 * n_positive)
    variance += float((down_a - down_b).var(ddof=1)) / (4 * n_positive**2 * n_negative)
    if variance == 0.0:
        budget = _PairBudget(((min(n_positive, n_negative),),))
        identical = bool(np.array_equal(counts_a, counts_b))
        low, high, p_value, note = _flat_difference_bounds(difference, identical, budget, level)
        z = 0.0 if wins_a == wins_b else math.nan
        return DeLongResult(
            auc_a, auc_b, difference, 0.0, z, p_value, low, high, level, degenerate=True, note=note
        )
    error = math.sqrt(variance)
    z = difference / error
    p_value = max(SMALLEST_P_VALUE, math.erfc(abs(z) / math.sqrt(2)))
    low, high = max(-1.0, difference - z_level * error), min(1.0, difference + z_level * error)
    return DeLongResult(auc_a, auc_b, difference, variance, z, p_value, low, high, level)


# ---- ranks ---------------------------------------------------------------------------------------


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
    _refuse_nan(values)
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
        values = _checked_scores(table[:, column], n_rows, f"score_matrix[:, {column}]")
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


# ---- other metrics -------------------------------------------------------------------------------


def _descending_runs(values: ScoreArray) -> tuple[IndexArray, IndexArray]:
    """Rows from the highest score down, and the last position of every run of equal scores."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    ends = np.flatnonzero(np.concatenate((ordered[1:] != ordered[:-1], [True])))
    return order, ends


def average_precision(targets: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: sum of precision x step in recall over distinct scores, no interpolation.

    Raises:
        ValueError: Without a positive, for NaN, or shapes that differ.
    """
    positive = _binary_mask(targets)
    values = _checked_scores(scores, positive.size)
    if not positive.any():
        raise ValueError("targets hold no positive row; average precision needs one")
    order, ends = _descending_runs(values)
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    return float(np.dot(np.diff(hits, prepend=0.0), hits / (ends + 1)) / hits[-1])


def _class_codes(targets: ArrayLike, n_rows: int, n_classes: int) -> IndexArray:
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


def _log_loss_rows(targets: ArrayLike, probs: ArrayLike, clip: float) -> ScoreArray:
    """Cross-entropy of every row, shape (N,); see log_loss."""
    table = _probability_array(probs)
    if table.ndim == 1:
        positive = _binary_mask(targets)
        chosen = np.where(positive, table, 1.0 - _score_vector(table, positive.size, "probs"))
    elif table.ndim == 2:
        codes = _class_codes(targets, *table.shape)
        totals = table.sum(axis=1)
        if not totals.all():
            raise ValueError(f"probs of row {int(np.argmin(totals))} sum to 0")
        chosen = table[np.arange(len(codes)), codes] / totals
    else:
        raise ValueError(f"probs have shape {table.shape}, not (N,) or (N, K)")
    rows: ScoreArray = -np.log(np.clip(chosen, clip, 1.0 - clip))
    return rows


def log_loss(targets: ArrayLike, probs: ArrayLike, clip: float = 1e-15) -> float:
    """Mean cross-entropy in nats.

    Args:
        targets: 0 and 1, shape (N,); or class numbers 0..K-1 when probs have K columns.
        probs: Probability of class 1, shape (N,); or of every class, shape (N, K): rows are divided
            by their sum, as Kaggle does.
        clip: The probability of the true class is kept inside [clip, 1 - clip].

    Raises:
        ValueError: For probabilities outside [0, 1], NaN, unknown targets or shapes that differ.
    """
    return float(_log_loss_rows(targets, probs, clip).mean())


def brier_score(targets: ArrayLike, probs: ArrayLike) -> float:
    """Mean squared distance of the probability of class 1 from the target, both (N,); 0 is best.

    Raises:
        ValueError: For probabilities outside [0, 1], NaN, or shapes that differ.
    """
    return score_metric("brier", targets, probs)


def expected_calibration_error(
    targets: ArrayLike, probs: ArrayLike, n_bins: int = 10, kind: str = "positive"
) -> float:
    """Mean gap between predicted and observed frequency over equal-width bins, weighted by rows.

    Args:
        targets: 0 and 1, shape (N,); or class numbers when probs have K columns.
        probs: Probability of class 1, shape (N,); or of every class, shape (N, K), with kind "top".
        n_bins: Bins ((i - 1) / n_bins, i / n_bins]; 0 falls into the first.
        kind: "positive" compares P(class 1) with the share of positives; "top" the confidence in
            the predicted class with its accuracy (what deep-learning papers call ECE).

    Raises:
        ValueError: For probabilities outside [0, 1], an unknown kind, or shapes that differ.

    Source: Naeini et al. 2015; Guo et al. 2017, eq. 3 (kind "top").
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; at least 1")
    if kind not in ("positive", "top"):
        raise ValueError(f"kind is {kind!r}; known: positive, top")
    table = _probability_array(probs)
    if table.ndim == 2:
        if kind != "top":
            raise ValueError("probs have several columns; only kind 'top' is defined for them")
        hits = table.argmax(axis=1) == _class_codes(targets, *table.shape)
        confidence: ScoreArray = table.max(axis=1)
    else:
        positive = _binary_mask(targets)
        confidence = _score_vector(table, positive.size, "probs")
        hits = positive
        if kind == "top":
            hits = positive == (confidence >= 0.5)
            confidence = np.maximum(confidence, 1.0 - confidence)
    edges = np.arange(1, n_bins) / n_bins
    bins = edges.searchsorted(confidence, "left")
    gaps = np.bincount(bins, weights=confidence - hits, minlength=n_bins)
    return float(np.abs(gaps).sum() / confidence.size)


def _confusion_rate(
    name: str, tp: ScoreArray, fp: ScoreArray, tn: ScoreArray, fn: ScoreArray
) -> ScoreArray:
    """One rate by name from counts of any common shape; 0 where its denominator is 0."""

    def ratio(part: ScoreArray, whole: ScoreArray) -> ScoreArray:
        return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)

    if name == "accuracy":
        return ratio(tp + tn, tp + fp + tn + fn)
    if name == "precision":
        return ratio(tp, tp + fp)
    if name == "recall":
        return ratio(tp, tp + fn)
    if name == "specificity":
        return ratio(tn, tn + fp)
    if name == "negative_predictive_value":
        return ratio(tn, tn + fn)
    if name == "f1":
        return ratio(2 * tp, 2 * tp + fp + fn)
    if name == "balanced_accuracy":
        return (ratio(tp, tp + fn) + ratio(tn, tn + fp)) / 2
    if name == "youden":
        return ratio(tp, tp + fn) + ratio(tn, tn + fp) - 1
    if name == "mcc":
        return ratio(
            tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
        )
    if name == "kappa":
        return ratio(2 * (tp * tn - fp * fn), (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))
    raise ValueError(f"unknown rate {name!r}")


def _confusion_cells(positive: BoolArray, flagged: BoolArray) -> list[BoolArray]:
    """Masks of true positives, false positives, true negatives, false negatives."""
    return [positive & flagged, ~positive & flagged, ~positive & ~flagged, positive & ~flagged]


def confusion_metrics(
    targets: ArrayLike, scores: ArrayLike, threshold: float = 0.5
) -> ConfusionMetrics:
    """Everything a 2 x 2 table tells at one threshold; positive means score >= threshold.

    Raises:
        ValueError: For NaN, targets other than 0 and 1, or shapes that differ.
    """
    positive = _binary_mask(targets)
    values = _checked_scores(scores, positive.size)
    cells = _confusion_cells(positive, values >= threshold)
    tp, fp, tn, fn = (int(np.count_nonzero(cell)) for cell in cells)
    counts = [np.array(float(count)) for count in (tp, fp, tn, fn)]

    def rate(name: str) -> float:
        return float(_confusion_rate(name, *counts))

    return ConfusionMetrics(
        threshold=float(threshold),
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
        accuracy=rate("accuracy"),
        precision=rate("precision"),
        recall=rate("recall"),
        specificity=rate("specificity"),
        negative_predictive_value=rate("negative_predictive_value"),
        f1=rate("f1"),
        balanced_accuracy=rate("balanced_accuracy"),
        mcc=rate("mcc"),
        kappa=rate("kappa"),
    )


def best_threshold(
    targets: ArrayLike, scores: ArrayLike, criterion: str = "youden"
) -> ThresholdChoice:
    """The threshold that is best on these rows: choose it on others than those it is scored on.

    Thresholds lie midway between neighbouring scores. Among equally good ones the widest gap wins
    (the least likely to flip a new row), then the lowest.

    Args:
        targets: 0 and 1, shape (N,), both present.
        scores: Finite numbers, shape (N,).
        criterion: youden (recall + specificity - 1), f1, accuracy, balanced_accuracy or mcc.

    Raises:
        ValueError: For one class only, scores that are not finite, or an unknown criterion.
    """
    known = ("youden", "f1", "accuracy", "balanced_accuracy", "mcc")
    if criterion not in known:
        raise ValueError(f"criterion is {criterion!r}; known: {', '.join(known)}")
    positive, n_positive, n_negative = _mask_with_both_classes(targets)
    values = _checked_scores(scores, positive.size)
    if not np.isfinite(values).all():
        raise ValueError(f"scores are infinite at row {int(np.argmin(np.isfinite(values)))}")
    order, ends = _descending_runs(values)
    # Candidate c calls the c highest distinct scores positive, c = 0 .. all.
    levels = values[order][ends]
    hits = np.concatenate(([0], np.cumsum(positive[order])[ends])).astype(np.float64)
    false_alarms = np.concatenate(([0], ends + 1)) - hits
    value = _confusion_rate(
        criterion, hits, false_alarms, n_negative - false_alarms, n_positive - hits
    )
    middles = levels[1:] + (levels[:-1] - levels[1:]) / 2
    middles = np.where(middles > levels[1:], middles, levels[:-1])  # neighbouring floats
    thresholds = np.concatenate(([np.nextafter(levels[0], np.inf)], middles, levels[-1:]))
    gaps = np.concatenate(([0.0], levels[:-1] - levels[1:], [0.0]))
    best = np.flatnonzero(value >= value.max() - 1e-12)  # equal in exact arithmetic
    pick = int(best[np.lexsort((thresholds[best], -gaps[best]))[0]])
    return ThresholdChoice(float(thresholds[pick]), float(value[pick]), criterion)


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval of a proportion, (low, high) in [0, 1].

    Raises:
        ValueError: Unless 0 <= successes <= trials and trials >= 1.

    Source: Clopper & Pearson 1934.
    """
    _normal_quantile(level)
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} successes of {trials} trials; 0 <= successes <= trials, 1 <= trials"
        )
    tail = math.log((1.0 - level) / 2)
    low = _binomial_tail_root(successes, trials, tail) if successes else 0.0
    missed = trials - successes
    high = 1.0 - _binomial_tail_root(missed, trials, tail) if missed else 1.0
    return low, high


def _binomial_tail_root(successes: int, trials: int, log_tail: float) -> float:
    """The p <= successes / trials with log P(X >= successes) = log_tail; successes >= 1."""
    # For such p the terms fall like a Gaussian's of deviation at most sqrt(trials) / 2, so those
    # past 40 sqrt(trials) are lost to rounding anyway.
    last = min(trials, successes + 40 * math.isqrt(trials) + 40)
    above = np.arange(successes, last, dtype=np.float64)
    first = (
        math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    )
    choose = first + np.concatenate(([0.0], np.cumsum(np.log((trials - above) / (above + 1)))))
    counts = np.arange(successes, last + 1, dtype=np.float64)
    low, high = 0.0, successes / trials
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        terms = choose + counts * math.log(middle) + (trials - counts) * math.log1p(-middle)
        peak = float(terms.max())
        if peak + math.log(float(np.exp(terms - peak).sum())) < log_tail:
            low = middle
        else:
            high = middle


# ---- metrics by name -----------------------------------------------------------------------------


KNOWN_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", greater_is_better=True, needs="scores"),
        Metric("macro_auc", greater_is_better=True, needs="scores"),
        Metric("average_precision", greater_is_better=True, needs="scores"),
        Metric("log_loss", greater_is_better=False, needs="probs"),
        Metric("brier", greater_is_better=False, needs="probs"),
        Metric("accuracy", greater_is_better=True, needs="probs"),
        Metric("f1", greater_is_better=True, needs="probs"),
        Metric("balanced_accuracy", greater_is_better=True, needs="probs"),
        Metric("mcc", greater_is_better=True, needs="probs"),
        Metric("rmse", greater_is_better=False, needs="values"),
        Metric("mae", greater_is_better=False, needs="values"),
    )
}


def find_metric(name: str) -> Metric:
    """The metric of that name; ValueError lists the known ones."""
    if name not in KNOWN_METRICS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(KNOWN_METRICS)}")
    return KNOWN_METRICS[name]


def _single_column(array: ArrayLike) -> NDArray[np.generic]:
    """(N, 1) as (N,): a table of one target is that target. Other shapes pass."""
    values: NDArray[np.generic] = np.asarray(array)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _metric_rows(
    name: str, targets: ArrayLike, predictions: ArrayLike, threshold: float
) -> ScoreArray | None:
    """What a metric averages over rows, shape (N,); None for metrics that are no such mean."""
    if name == "log_loss":
        return _log_loss_rows(targets, predictions, 1e-15)
    if name == "brier":
        positive = _binary_mask(targets)
        probs = _score_vector(_probability_array(predictions), positive.size, "predictions")
        gaps: ScoreArray = probs - positive
        return gaps * gaps
    if name == "accuracy":
        table = _probability_array(predictions, "predictions")
        hits: BoolArray
        if table.ndim == 2:
            hits = table.argmax(axis=1) == _class_codes(targets, *table.shape)
        else:
            positive = _binary_mask(targets)
            hits = (_score_vector(table, positive.size, "predictions") >= threshold) == positive
        return hits.astype(np.float64)
    if name in ("rmse", "mae"):
        truth = np.asarray(targets, dtype=np.float64)
        guess = np.asarray(predictions, dtype=np.float64)
        if truth.ndim != 1 or truth.size == 0 or truth.shape != guess.shape:
            raise ValueError(
                f"targets have shape {truth.shape}, predictions {guess.shape}; both are (N,)"
            )
        _refuse_nan(truth, "targets")
        _refuse_nan(guess, "predictions")
        sizes: ScoreArray = np.abs(guess - truth)
        return sizes * sizes if name == "rmse" else sizes
    return None


def _mean_over_columns(
    name: str, truth: NDArray[np.generic], guess: NDArray[np.generic], threshold: float
) -> float:
    """Mean over T target columns of a metric, both (N, T); ValueError names a column it fails on."""
    if truth.shape != guess.shape:
        raise ValueError(f"targets have shape {truth.shape}, predictions {guess.shape}")
    total = 0.0
    for column in range(truth.shape[1]):
        try:
            total += score_metric(name, truth[:, column], guess[:, column], threshold)
        except ValueError as error:
            raise ValueError(f"target column {column}: {error}") from error
    return float(total / truth.shape[1])


def score_metric(
    name: str, targets: ArrayLike, predictions: ArrayLike, threshold: float = 0.5
) -> float:
    """A metric by name: auc, macro_auc, log_loss, f1, accuracy, ... (KNOWN_METRICS lists them all).

    Args:
        name: A name that find_metric knows.
        targets: 0 and 1, shape (N,) or (N, 1); class numbers for log_loss and accuracy of K columns;
            real numbers for rmse and mae; (N, T) for the mean over T targets of any metric.
        predictions: Same rows; columns as the targets, or K for K classes.
        threshold: Where f1, accuracy, balanced_accuracy and mcc cut one column of probabilities.

    Raises:
        ValueError: For an unknown name, or as the metric's own function.
    """
    find_metric(name)
    truth, guess = _single_column(targets), _single_column(predictions)
    if truth.ndim == 2 and name != "macro_auc":
        return _mean_over_columns(name, truth, guess, threshold)
    if name == "auc":
        return auc_score(truth, guess)
    if name == "macro_auc":
        return macro_auc(truth, guess)
    if name == "average_precision":
        return average_precision(truth, guess)
    rows = _metric_rows(name, truth, guess, threshold)
    if rows is not None:
        mean = float(rows.mean())
        return math.sqrt(mean) if name == "rmse" else mean
    table = confusion_metrics(truth, _probability_array(guess, "predictions"), threshold)
    return float(getattr(table, name))


# ---- resampling ----------------------------------------------------------------------------------
#
# A resample is a count for every unit: how often it was drawn. Rows are sorted once, and scoring
# under counts is exact, vectorised over resamples, and equal to scoring the repeated rows.


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
    order, ends = _descending_runs(values)
    row_units, is_hit = units[order], positive[order].astype(np.int32)

    def score(counts: NDArray[np.int32]) -> ScoreArray:
        drawn = counts.take(row_units, axis=1)
        total = np.cumsum(drawn, axis=1)[:, ends].astype(np.float64)
        hits = np.cumsum(drawn * is_hit, axis=1)[:, ends].astype(np.float64)
        precision = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
        gained = np.einsum("bi,bi->b", np.diff(hits, axis=1, prepend=0.0), precision)
        return _undefined_as_nan(gained, hits[:, -1])

    return score


def _resampled_scorer(
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

    if targets.ndim == 2:
        inner = "auc" if metric == "macro_auc" else metric
        columns = [
            _resampled_scorer(inner, targets[:, j], predictions[:, j], units, threshold)
            for j in range(targets.shape[1])
        ]

        def score_columns(counts: NDArray[np.int32]) -> ScoreArray:
            mean: ScoreArray = np.mean([column(counts) for column in columns], axis=0)
            return mean

        return score_columns

    if metric in ("auc", "average_precision", "macro_auc"):
        positive = _binary_mask(targets)
        values = _checked_scores(predictions, positive.size, "predictions")
        if metric == "average_precision":
            return _resampled_average_precision(positive, values, units)
        return _resampled_auc(positive, values, units)

    losses = _metric_rows(metric, targets, predictions, threshold)
    if losses is None:
        positive = _binary_mask(targets)
        flagged = _score_vector(_probability_array(predictions), positive.size) >= threshold
        totals = np.stack(_confusion_cells(positive, flagged), axis=1).astype(np.float64)
    else:
        totals = np.stack((losses, np.ones_like(losses)), axis=1)
    # Sums per unit first: a resample then costs one small matrix product.
    per_unit = np.zeros((int(units.max()) + 1, totals.shape[1]))
    for column in range(totals.shape[1]):
        per_unit[:, column] = np.bincount(units, weights=totals[:, column])

    def score_sums(counts: NDArray[np.int32]) -> ScoreArray:
        sums = counts[:, : len(per_unit)].astype(np.float64) @ per_unit
        if losses is None:
            return _confusion_rate(str(metric), sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3])
        means = _undefined_as_nan(sums[:, 0], sums[:, 1])
        return np.sqrt(means) if metric == "rmse" else means

    return score_sums


def _stratum_labels(
    metric: str | MetricFunction, targets: NDArray[np.generic]
) -> IndexArray | None:
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
    return _label_codes(targets, len(targets), "targets")


def _stratified_units(
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


def _scores_by_cell(
    metric: str | MetricFunction,
    targets: NDArray[np.generic],
    predictions: NDArray[np.generic],
    cells: Sequence[IndexArray],
    names: Sequence[str],
    threshold: float,
) -> list[float]:
    """The score of every cell; a ValueError says in which fold it arose, when there are several."""
    scores: list[float] = []
    for rows, name in zip(cells, names, strict=True):
        try:
            if callable(metric):
                truth, guess = targets[rows].astype(np.float64), predictions[rows]
                scores.append(float(metric(truth, guess.astype(np.float64))))
            else:
                scores.append(score_metric(metric, targets[rows], predictions[rows], threshold))
        except ValueError as error:
            if len(cells) == 1:
                raise
            raise ValueError(f"fold {name}: {error}") from error
    return scores


@dataclass(frozen=True)
class _ResamplingPlan:
    """What is scored, which rows are scored together, and which of them are drawn together."""

    metric: str | MetricFunction
    targets: NDArray[np.generic]
    threshold: float
    cells: list[IndexArray]  # rows of every (seed, fold); all rows for a pooled score
    names: list[str]  # of the cells, for messages
    units: IndexArray  # (N,), strata side by side
    strata_sizes: list[int]
    budget: _PairBudget
    grouped: bool

    def score(self, member: NDArray[np.generic]) -> float:
        """The score itself: the mean over cells."""
        scores = _scores_by_cell(
            self.metric, self.targets, member, self.cells, self.names, self.threshold
        )
        return sum(scores) / len(scores)

    def draw(
        self, members: Sequence[NDArray[np.generic]], n_resamples: int, seed: int
    ) -> ScoreArray:
        """Resampled means over cells, (members, B), NaN where a cell's score is undefined."""
        if n_resamples < 2:
            raise ValueError(f"n_resamples is {n_resamples}; at least 2")
        scorers = [
            [
                _resampled_scorer(
                    self.metric, self.targets[c], member[c], self.units[c], self.threshold
                )
                for c in self.cells
            ]
            for member in members
        ]
        draws = np.zeros((len(members), n_resamples))
        done = 0
        for counts in resample_counts(self.strata_sizes, n_resamples, seed):
            for index, cells in enumerate(scorers):
                for scorer in cells:
                    draws[index, done : done + len(counts)] += scorer(counts)
            done += len(counts)
        return draws / len(self.cells)

    def interval(
        self, member: NDArray[np.generic], n_resamples: int, seed: int, level: float
    ) -> ScoreInterval:
        """Percentile interval of one member, or the bound when nothing varies."""
        _normal_quantile(level)
        estimate = self.score(member)
        draws = _defined_draws(self.draw([member], n_resamples, seed)[0])
        method = "group bootstrap" if self.grouped else "bootstrap"
        if _draws_vary(draws):
            low, high = _percentile_bounds(draws, level)
            error = float(draws.std(ddof=1))
            return ScoreInterval(estimate, low, high, error, level, method, draws.size)
        if self.metric == "auc" and self.targets.ndim == 1:
            constant = all(np.ptp(member[c].astype(np.float64)) == 0.0 for c in self.cells)
            return _flat_auc_bounds(estimate, constant, self.budget, level)
        note = "Every resample scores the same: a width of 0 is lack of variety, not certainty."
        kept = draws.size
        return ScoreInterval(
            estimate, estimate, estimate, 0.0, level, method, kept, degenerate=True, note=note
        )

    def difference(
        self,
        a: NDArray[np.generic],
        b: NDArray[np.generic],
        n_resamples: int,
        seed: int,
        level: float,
    ) -> ScoreDifference:
        """Percentile interval of a - b, or bounds when nothing varies."""
        _normal_quantile(level)
        score_a, score_b = self.score(a), self.score(b)
        both = self.draw([a, b], n_resamples, seed)
        draws = _defined_draws(both[0] - both[1])
        gap, kept = score_a - score_b, draws.size
        method = "paired group bootstrap" if self.grouped else "paired bootstrap"
        error, note = 0.0, ""
        if _draws_vary(draws):
            low, high = _percentile_bounds(draws, level)
            side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
            p_value = min(1.0, 2 * (side + 1) / (kept + 1))  # + 1: B resamples cannot show less
            error = float(draws.std(ddof=1))
        elif self.metric == "auc" and self.targets.ndim == 1:
            alike = self._order_alike(a.astype(np.float64), b.astype(np.float64))
            low, high, p_value, note = _flat_difference_bounds(gap, alike, self.budget, level)
            method = "exact bound"
        else:
            low = high = gap
            p_value = 1.0 if gap == 0.0 else 2 / (kept + 1)
            note = "Every resample gives the same difference: a width of 0 is not certainty."
        return ScoreDifference(
            score_a, score_b, gap, low, high, error, p_value, level, method, kept, bool(note), note
        )

    def _order_alike(self, a: ScoreArray, b: ScoreArray) -> bool:
        """Whether both order every (positive, negative) pair of every cell alike."""
        positive = _binary_mask(self.targets)
        return all(
            np.array_equal(
                _placement_counts(positive[c], a[c]), _placement_counts(positive[c], b[c])
            )
            for c in self.cells
        )


def _pooled_plan(
    metric: str | MetricFunction,
    targets: NDArray[np.generic],
    groups: ArrayLike | None,
    stratify: bool,
    threshold: float,
) -> _ResamplingPlan:
    """Rows, or groups of rows, drawn for one score over all rows."""
    n_rows = len(targets)
    plain = np.arange(n_rows) if groups is None else _label_codes(groups, n_rows, "groups")
    labels = _stratum_labels(metric, targets) if stratify else None
    units, sizes = _stratified_units(plain, labels, None)
    is_auc = metric == "auc" and targets.ndim == 1
    pairs = _independent_pairs(_binary_mask(targets), plain) if is_auc else 1
    return _ResamplingPlan(
        metric=metric,
        targets=targets,
        threshold=threshold,
        cells=[np.arange(n_rows)],
        names=["all"],
        units=units,
        strata_sizes=sizes,
        budget=_PairBudget(((pairs,),)),
        grouped=groups is not None,
    )


def _fold_plan(
    metric: str | MetricFunction,
    targets: NDArray[np.generic],
    keys: tuple[ArrayLike, ArrayLike],
    ids: ArrayLike | None,
    groups: ArrayLike | None,
    stratify: bool,
    threshold: float,
) -> _ResamplingPlan:
    """Ids, or groups of them, drawn for a mean over (seed, fold), the same draw in every seed."""
    n_rows = len(targets)
    by_seed = cell_rows(keys[0], n_rows, "seeds")
    fold_codes = _label_codes(keys[1], n_rows, "folds")
    if groups is not None:
        plain = _label_codes(groups, n_rows, "groups")
    elif ids is not None:
        plain = _label_codes(ids, n_rows, "ids")
    elif len(by_seed) == 1:
        plain = np.arange(n_rows)
    else:
        raise ValueError(
            f"ids are missing: {len(by_seed)} seeds score the same rows again, "
            "and a resample has to draw them together"
        )
    cells: list[IndexArray] = []
    pairs: list[tuple[int, ...]] = []
    disjoint = True
    for seed_rows in by_seed:
        inner = cell_rows(fold_codes[seed_rows], seed_rows.size)
        inside = [seed_rows[rows] for rows in inner]
        cells += inside
        present = sum(_count_distinct(plain[rows]) for rows in inside)
        disjoint = disjoint and present == _count_distinct(plain[seed_rows])
        if metric == "auc" and targets.ndim == 1:
            mask = _binary_mask(targets)
            pairs.append(tuple(_independent_pairs(mask[rows], plain[rows]) for rows in inside))
    labels = _stratum_labels(metric, targets) if stratify else None
    within = fold_codes if stratify and len(by_seed) == 1 and disjoint else None
    units, sizes = _stratified_units(plain, labels, within)
    return _ResamplingPlan(
        metric=metric,
        targets=targets,
        threshold=threshold,
        cells=cells,
        names=_cell_names(keys, cells),
        units=units,
        strata_sizes=sizes,
        budget=_PairBudget(tuple(pairs), disjoint),
        grouped=groups is not None,
    )


def _defined_draws(draws: ScoreArray) -> ScoreArray:
    """Draws without undefined ones; ValueError when more than half are undefined."""
    kept: ScoreArray = draws[~np.isnan(draws)]
    if 2 * kept.size < draws.size or kept.size < 2:
        raise ValueError(
            f"the metric is undefined on {draws.size - kept.size} of {draws.size} resamples; "
            "stratify, or gather more rows of the rare class"
        )
    return kept


def _draws_vary(draws: ScoreArray) -> bool:
    """Whether draws differ by more than rounding."""
    lowest, highest = float(draws.min()), float(draws.max())
    return highest - lowest > RESAMPLING_ROUNDING * max(1.0, abs(lowest), abs(highest))


def _percentile_bounds(draws: ScoreArray, level: float) -> tuple[float, float]:
    """Percentile interval: the middle `level` of the draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked_tables(
    targets: ArrayLike, *members: ArrayLike
) -> tuple[NDArray[np.generic], list[NDArray[np.generic]]]:
    """Targets and predictions as arrays with equal numbers of rows, (N, 1) as (N,)."""
    truth = _single_column(targets)
    tables = [_single_column(member) for member in members]
    for table in tables:
        if truth.ndim == 0 or table.ndim == 0 or len(table) != len(truth):
            raise ValueError(f"predictions have shape {table.shape}, targets {truth.shape}")
    if len(truth) == 0:
        raise ValueError("targets are empty")
    return truth, tables


def bootstrap_scores(
    metric: str | MetricFunction,
    targets: ArrayLike,
    predictions: ArrayLike,
    groups: ArrayLike | None = None,
    stratify: bool = True,
    n_resamples: int = 2000,
    seed: int = 0,
    threshold: float = 0.5,
) -> ScoreArray:
    """The metric on B bootstrap resamples, shape (B,), NaN where it is undefined.

    Members scored with equal targets, groups, stratify, n_resamples and seed see the same
    resamples, so their draws may be subtracted. Arguments and errors as bootstrap_interval.
    """
    truth, (table,) = _checked_tables(targets, predictions)
    plan = _pooled_plan(metric, truth, groups, stratify, threshold)
    draws: ScoreArray = plan.draw([table], n_resamples, seed)[0]
    return draws


def bootstrap_interval(
    metric: str | MetricFunction,
    targets: ArrayLike,
    predictions: ArrayLike,
    groups: ArrayLike | None = None,
    stratify: bool = True,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    threshold: float = 0.5,
) -> ScoreInterval:
    """Percentile bootstrap interval of a metric on pooled rows.

    Args:
        metric: A name of KNOWN_METRICS (vectorised), or a function of (targets, predictions) as
            float64 arrays (called once per resample).
        targets: As score_metric.
        predictions: As score_metric.
        groups: Label of every row, shape (N,): rows of a group (a patient's films, an id's
            predictions by several seeds) are drawn together.
        stratify: Keep the number of rows of each class; with groups, the number of pure negative,
            pure positive and mixed groups. Several target columns and real-valued targets are not
            stratified.
        n_resamples: B; resamples on which the metric is undefined are left out and not counted.
        seed: Equal seeds give equal resamples.
        level: Confidence, between 0 and 1.
        threshold: As score_metric; it is not chosen again in every resample.

    Returns:
        The interval. An AUC without any spread (perfect separation) is `degenerate` and carries the
        bound of perfect_auc_bound, since a percentile interval would claim [1, 1].

    Raises:
        ValueError: As score_metric, or when more than half of the resamples are undefined.

    Source: Efron 1979; groups as in Field & Welsh 2007 (cluster bootstrap).
    """
    truth, (table,) = _checked_tables(targets, predictions)
    plan = _pooled_plan(metric, truth, groups, stratify, threshold)
    return plan.interval(table, n_resamples, seed, level)


def paired_bootstrap_difference(
    metric: str | MetricFunction,
    targets: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    groups: ArrayLike | None = None,
    stratify: bool = True,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    threshold: float = 0.5,
) -> ScoreDifference:
    """Percentile interval and two-sided p of metric(a) - metric(b), both scored on every resample.

    The sign is the metric's own: for log_loss a negative difference means that a is better. p
    counts the draws on the far side of 0 (at least 1 of B + 1, so never 0). Arguments and errors as
    bootstrap_interval.
    """
    truth, (left, right) = _checked_tables(targets, a, b)
    plan = _pooled_plan(metric, truth, groups, stratify, threshold)
    return plan.difference(left, right, n_resamples, seed, level)


# ---- means over (seed, fold) ---------------------------------------------------------------------


def fold_auc_scores(
    targets: ArrayLike, scores: ArrayLike, folds: ArrayLike | tuple[ArrayLike, ...]
) -> ScoreArray:
    """AUC inside every fold, shape (folds,), in the sorted order of the labels.

    Args:
        targets: 0 and 1, shape (N,).
        scores: Real numbers, shape (N,).
        folds: Label of every row, or a tuple of label arrays: (seeds, folds).

    Raises:
        ValueError: Naming the fold that holds one class only; as auc_score.
    """
    return fold_scores("auc", targets, scores, folds)


def fold_scores(
    metric: str | MetricFunction,
    targets: ArrayLike,
    predictions: ArrayLike,
    folds: ArrayLike | tuple[ArrayLike, ...],
    threshold: float = 0.5,
) -> ScoreArray:
    """Any metric (name or function) inside every fold; see fold_auc_scores and score_metric."""
    truth, (table,) = _checked_tables(targets, predictions)
    cells = cell_rows(folds, len(truth), "folds")
    names = _cell_names(folds, cells)
    return np.array(_scores_by_cell(metric, truth, table, cells, names, threshold))


def mean_fold_auc(
    targets: ArrayLike, scores: ArrayLike, seeds: ArrayLike, folds: ArrayLike
) -> float:
    """Mean over (seed, fold) of the fold's AUC: the headline, free of offsets between folds.

    All shapes (N,), one row for each (id, seed). Raises as fold_auc_scores.
    """
    return float(fold_auc_scores(targets, scores, (seeds, folds)).mean())


def mean_fold_aucs(
    targets: ArrayLike, score_matrix: ArrayLike, seeds: ArrayLike, folds: ArrayLike
) -> ScoreArray:
    """mean_fold_auc of every column of (N, M), shape (M,), all columns of a fold at once."""
    positive = _binary_mask(targets)
    table = _score_table(score_matrix, positive.size)
    cells = cell_rows((seeds, folds), positive.size, "seeds and folds")
    total = np.zeros(table.shape[1])
    for rows, name in zip(cells, _cell_names((seeds, folds), cells), strict=True):
        try:
            total += auc_scores(positive[rows], table[rows])
        except ValueError as error:
            raise ValueError(f"fold {name}: {error}") from error
    return total / len(cells)


def mean_fold_score(
    metric: str | MetricFunction,
    targets: ArrayLike,
    predictions: ArrayLike,
    seeds: ArrayLike,
    folds: ArrayLike,
    threshold: float = 0.5,
) -> float:
    """Mean over (seed, fold) of any metric, name or function; see mean_fold_auc, score_metric."""
    return float(fold_scores(metric, targets, predictions, (seeds, folds), threshold).mean())


def mean_fold_interval(
    targets: ArrayLike,
    scores: ArrayLike,
    seeds: ArrayLike,
    folds: ArrayLike,
    ids: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    metric: str | MetricFunction = "auc",
    stratify: bool = True,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    threshold: float = 0.5,
) -> ScoreInterval:
    """Bootstrap interval of the mean over (seed, fold), for the models as trained.

    Resamples stay inside folds; what another training run would have given is not part of it. Seeds
    score the same ids again and so are not independent: an id (or group) is drawn equally often in
    all of them. With one seed, the draw is stratified by fold too.

    Args:
        targets: As score_metric, one row for each (id, seed).
        scores: Predictions, same rows.
        seeds: Seed of every row, shape (N,).
        folds: Fold of every row, shape (N,).
        ids: Id of every row; needed as soon as there are several seeds, unless groups are given.
        groups: Group of every row, the same in all seeds; drawn instead of ids.
        metric: Name or function; this and all that follows as in bootstrap_interval.
        stratify: As there.
        n_resamples: As there.
        seed: As there.
        level: As there.
        threshold: As there.

    Raises:
        ValueError: As bootstrap_interval, or for several seeds without ids.
    """
    truth, (table,) = _checked_tables(targets, scores)
    plan = _fold_plan(metric, truth, (seeds, folds), ids, groups, stratify, threshold)
    return plan.interval(table, n_resamples, seed, level)


def paired_mean_fold_difference(
    targets: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    seeds: ArrayLike,
    folds: ArrayLike,
    ids: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    metric: str | MetricFunction = "auc",
    stratify: bool = True,
    n_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    threshold: float = 0.5,
) -> ScoreDifference:
    """Mean-fold score of a minus that of b, on aligned rows, with interval and two-sided p.

    Both members are scored on every resample; see mean_fold_interval for what is drawn and
    paired_bootstrap_difference for the sign and p.
    """
    truth, (left, right) = _checked_tables(targets, a, b)
    plan = _fold_plan(metric, truth, (seeds, folds), ids, groups, stratify, threshold)
    return plan.difference(left, right, n_resamples, seed, level)


def mean_fold_bootstrap_scores(
    targets: ArrayLike,
    scores: ArrayLike,
    seeds: ArrayLike,
    folds: ArrayLike,
    ids: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    metric: str | MetricFunction = "auc",
    stratify: bool = True,
    n_resamples: int = 2000,
    seed: int = 0,
    threshold: float = 0.5,
) -> ScoreArray:
    """The mean-fold score on B resamples, shape (B,), NaN where it is undefined.

    Members scored with equal arguments but `scores` see the same resamples: draws may be subtracted,
    and one call a member serves every pair. Arguments and errors as mean_fold_interval.
    """
    truth, (table,) = _checked_tables(targets, scores)
    plan = _fold_plan(metric, truth, (seeds, folds), ids, groups, stratify, threshold)
    draws: ScoreArray = plan.draw([table], n_resamples, seed)[0]
    return draws


def mean_fold_auc_influence(
    targets: ArrayLike,
    scores: ArrayLike,
    seeds: ArrayLike,
    folds: ArrayLike,
    units: ArrayLike | None = None,
) -> tuple[float, ScoreArray]:
    """Mean-fold AUC and what every unit adds to its error, shape (U,): DeLong for clusters.

    The variance is the sum of squares. Subtract two members' influences for their paired
    difference. Costs one sort of each fold: for tables on which a bootstrap would take minutes.

    Args:
        targets: 0 and 1, shape (N,).
        scores: Real numbers, shape (N,).
        seeds: Seed of every row, shape (N,).
        folds: Fold of every row, shape (N,).
        units: Id or group of every row, shape (N,): rows of a unit vary together. None: every row
            by itself.

    Raises:
        ValueError: As mean_fold_auc.

    Source: Obuchowski 1997 (clustered placements); DeLong 1988 when every unit is one row.
    """
    positive = _binary_mask(targets)
    values = _checked_scores(scores, positive.size)
    plain = (
        np.arange(positive.size) if units is None else _label_codes(units, positive.size, "units")
    )
    cells = cell_rows((seeds, folds), positive.size, "seeds and folds")
    row_influence = np.zeros(positive.size)
    total = 0.0
    for rows, name in zip(cells, _cell_names((seeds, folds), cells), strict=True):
        mask = positive[rows]
        n_up = int(np.count_nonzero(mask))
        n_down = mask.size - n_up
        if n_up == 0 or n_down == 0:
            raise ValueError(f"fold {name}: targets hold one class only")
        doubled = _placement_counts(mask, values[rows]).sum(axis=0)
        auc = int(doubled[mask].sum()) / (2 * n_up * n_down)
        placed = np.where(mask, doubled / (2 * n_down), doubled / (2 * n_up))
        row_influence[rows] = (placed - auc) / np.where(mask, n_up, n_down)
        total += auc
    influence: ScoreArray = np.bincount(plain, weights=row_influence) / len(cells)
    return total / len(cells), influence
