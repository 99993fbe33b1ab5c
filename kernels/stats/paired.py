"""Paired differences of two members on the same rows: DeLong's test and the bootstrap.

The sign of a difference is the metric's own: for log_loss a negative one means that a is better.
"""

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.stats.auc import placement_counts
from kernels.stats.bootstrap import (
    ResamplingPlan,
    defined_draws,
    draws_vary,
    percentile_bounds,
    pooled_plan,
)
from kernels.stats.bounds import PairBudget
from kernels.stats.checking import (
    MetricFunction,
    ScoreArray,
    binary_mask,
    checked_scores,
    checked_tables,
    normal_quantile,
)
from kernels.stats.delong import doubled_placements, mask_for_variance
from kernels.stats.fold_bootstrap import fold_plan

SMALLEST_P_VALUE = sys.float_info.min
"""No test here answers p = 0: what underflows is reported as this, the smallest normal double."""


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


def _flat_difference_bounds(
    difference: float, identical: bool, budget: PairBudget, level: float
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
    positive, n_positive, n_negative = mask_for_variance(targets)
    counts_a = placement_counts(positive, checked_scores(a, positive.size, "a"))
    counts_b = placement_counts(positive, checked_scores(b, positive.size, "b"))
    up_a, down_a, wins_a = doubled_placements(positive, counts_a)
    up_b, down_b, wins_b = doubled_placements(positive, counts_b)
    scale = 2 * n_positive * n_negative
    auc_a, auc_b, difference = wins_a / scale, wins_b / scale, (wins_a - wins_b) / scale
    variance = float((up_a - up_b).var(ddof=1)) / (4 * n_negative**2 * n_positive)
    variance += float((down_a - down_b).var(ddof=1)) / (4 * n_positive**2 * n_negative)
    if variance == 0.0:
        budget = PairBudget(((min(n_positive, n_negative),),))
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


def _plan_difference(
    plan: ResamplingPlan,
    a: NDArray[np.generic],
    b: NDArray[np.generic],
    n_resamples: int,
    seed: int,
    level: float,
) -> ScoreDifference:
    """Percentile interval of a - b, or bounds when nothing varies."""
    normal_quantile(level)
    score_a, score_b = plan.score(a), plan.score(b)
    both = plan.draw([a, b], n_resamples, seed)
    draws = defined_draws(both[0] - both[1])
    gap, kept = score_a - score_b, draws.size
    method = "paired group bootstrap" if plan.grouped else "paired bootstrap"
    error, note = 0.0, ""
    if draws_vary(draws):
        low, high = percentile_bounds(draws, level)
        side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
        p_value = min(1.0, 2 * (side + 1) / (kept + 1))  # + 1: B resamples cannot show less
        error = float(draws.std(ddof=1))
    elif plan.metric == "auc" and plan.targets.ndim == 1:
        alike = _order_alike(plan, a.astype(np.float64), b.astype(np.float64))
        low, high, p_value, note = _flat_difference_bounds(gap, alike, plan.budget, level)
        method = "exact bound"
    else:
        low = high = gap
        p_value = 1.0 if gap == 0.0 else 2 / (kept + 1)
        note = "Every resample gives the same difference: a width of 0 is not certainty."
    return ScoreDifference(
        score_a, score_b, gap, low, high, error, p_value, level, method, kept, bool(note), note
    )


def _order_alike(plan: ResamplingPlan, a: ScoreArray, b: ScoreArray) -> bool:
    """Whether both order every (positive, negative) pair of every cell alike."""
    positive = binary_mask(plan.targets)
    return all(
        np.array_equal(placement_counts(positive[c], a[c]), placement_counts(positive[c], b[c]))
        for c in plan.cells
    )


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
    truth, (left, right) = checked_tables(targets, a, b)
    plan = pooled_plan(metric, truth, groups, stratify, threshold)
    return _plan_difference(plan, left, right, n_resamples, seed, level)


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
    truth, (left, right) = checked_tables(targets, a, b)
    plan = fold_plan(metric, truth, (seeds, folds), ids, groups, stratify, threshold)
    return _plan_difference(plan, left, right, n_resamples, seed, level)
