"""DeLong's variance of AUCs: intervals and the paired test, for independent rows.

Rows that belong together (a patient's films, seeds of one id) need the group bootstrap.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from kernels.stats.auc import placement_counts
from kernels.stats.bounds import PairBudget, flat_auc_bounds
from kernels.stats.checking import (
    BoolArray,
    IndexArray,
    ScoreArray,
    checked_scores,
    mask_with_both_classes,
    normal_quantile,
    score_table,
)
from kernels.stats.results import ScoreInterval


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


def mask_for_variance(targets: ArrayLike) -> tuple[BoolArray, int, int]:
    """As mask_with_both_classes, and at least two rows of each: a variance needs them."""
    positive, n_positive, n_negative = mask_with_both_classes(targets)
    if min(n_positive, n_negative) < 2:
        raise ValueError(
            f"targets hold {n_positive} positives and {n_negative} negatives; "
            "a DeLong variance needs at least 2 of each"
        )
    return positive, n_positive, n_negative


def doubled_placements(
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
    positive, n_positive, n_negative = mask_for_variance(targets)
    table = score_table(score_matrix, positive.size)
    n_members = table.shape[1]
    aucs = np.empty(n_members)
    up, down = np.empty((n_members, n_positive)), np.empty((n_members, n_negative))
    for column in range(n_members):
        values = checked_scores(table[:, column], positive.size, f"score_matrix[:, {column}]")
        counts = placement_counts(positive, values)
        up[column], down[column], wins = doubled_placements(positive, counts)
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
    positive, _, _ = mask_for_variance(targets)
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
    positive, n_positive, n_negative = mask_for_variance(targets)
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
