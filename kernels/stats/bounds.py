"""What can be said about an AUC when its estimated variance is zero.

Perfect separation, constant scores and equal members leave nothing to resample. The bounds here
hold without a variance; they rest on "k independent pairs": k (positive, negative) pairs that share
no unit (row, id or group).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kernels.stats.checking import BoolArray, IndexArray, normal_quantile
from kernels.stats.results import ScoreInterval


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
    normal_quantile(level)
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


def independent_pairs(positive: BoolArray, units: IndexArray) -> int:
    """Most pairs of a positive and a negative unit of which no two share a unit."""
    has_positive = np.zeros(int(units.max()) + 1, dtype=np.bool_)
    has_negative = has_positive.copy()
    has_positive[units[positive]] = True
    has_negative[units[~positive]] = True
    with_positive, with_negative = int(has_positive.sum()), int(has_negative.sum())
    in_use = int((has_positive | has_negative).sum())
    return max(1, min(with_positive, with_negative, in_use // 2))


@dataclass(frozen=True)
class PairBudget:
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


def flat_auc_bounds(auc: float, constant: bool, budget: PairBudget, level: float) -> ScoreInterval:
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
