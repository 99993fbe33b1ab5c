"""DeLong's variance of AUCs: intervals and the paired test, for independent rows.

Rows that belong together (a patient's films, seeds of one id) need the group bootstrap.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kernels.stats.auc import placement_counts
from kernels.stats.bounds import PairBudget, flat_auc_bounds, flat_difference_bounds
from kernels.stats.checking import (
    BoolArray,
    IndexArray,
    ScoreArray,
    checked_scores,
    mask_with_both_classes,
    normal_quantile,
    score_table,
)
from kernels.stats.results import SMALLEST_P_VALUE, ScoreInterval


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


def _mask_for_variance(targets: ArrayLike) -> tuple[BoolArray, int, int]:
    """As mask_with_both_classes, and at least two rows of each: a variance needs them."""
    positive, n_positive, n_negative = mask_with_both_classes(targets)
    if min(n_positive, n_negative) < 2:
        raise ValueError(
            f"targets hold {n_positive} positives and {n_negative} negatives; "
            "a DeLong variance needs at least 2 of each"
        )
    return positive, n_positive, n_negative


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
    table = score_table(score_matrix, positive.size)
    n_members = table.shape[1]
    aucs = np.empty(n_members)
    up, down = np.empty((n_members, n_positive)), np.empty((n_members, n_negative))
    for column in range(n_members):
        values = checked_scores(table[:, column], positive.size, f"score_matrix[:, {column}]")
        counts = placement_counts(positive, values)
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
    values = checked_scores(scores, positive.size)
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
    z = normal_quantile(level)
    positive, n_positive, n_negative = _mask_for_variance(targets)
    values = checked_scores(scores, positive.size)
    aucs, covariance = delong_covariance(positive, values[:, np.newaxis])
    auc, variance = float(aucs[0]), float(covariance[0, 0])
    if variance == 0.0:
        budget = PairBudget(((min(n_positive, n_negative),),))
        return flat_auc_bounds(auc, auc == 0.5, budget, level)
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
    z_level = normal_quantile(level)
    positive, n_positive, n_negative = _mask_for_variance(targets)
    counts_a = placement_counts(positive, checked_scores(a, positive.size, "a"))
    counts_b = placement_counts(positive, checked_scores(b, positive.size, "b"))
    up_a, down_a, wins_a = _doubled_placements(positive, counts_a)
    up_b, down_b, wins_b = _doubled_placements(positive, counts_b)
    scale = 2 * n_positive * n_negative
    auc_a, auc_b, difference = wins_a / scale, wins_b / scale, (wins_a - wins_b) / scale
    variance = float((up_a - up_b).var(ddof=1)) / (4 * n_negative**2 * n_positive)
    variance += float((down_a - down_b).var(ddof=1)) / (4 * n_positive**2 * n_negative)
    if variance == 0.0:
        budget = PairBudget(((min(n_positive, n_negative),),))
        identical = bool(np.array_equal(counts_a, counts_b))
        low, high, p_value, note = flat_difference_bounds(difference, identical, budget, level)
        z = 0.0 if wins_a == wins_b else math.nan
        return DeLongResult(
            auc_a, auc_b, difference, 0.0, z, p_value, low, high, level, degenerate=True, note=note
        )
    error = math.sqrt(variance)
    z = difference / error
    p_value = max(SMALLEST_P_VALUE, math.erfc(abs(z) / math.sqrt(2)))
    low, high = max(-1.0, difference - z_level * error), min(1.0, difference + z_level * error)
    return DeLongResult(auc_a, auc_b, difference, variance, z, p_value, low, high, level)
