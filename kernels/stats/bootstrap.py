"""Bootstrap intervals and paired differences of a metric on pooled rows, by rows or by groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.stats.bounds import (
    PairBudget,
    flat_auc_bounds,
    independent_pairs,
)
from kernels.stats.checking import (
    IndexArray,
    MetricFunction,
    ScoreArray,
    binary_mask,
    checked_tables,
    label_codes,
    normal_quantile,
)
from kernels.stats.folds import scores_by_cell
from kernels.stats.resampling import (
    resample_counts,
    resampled_scorer,
    stratified_units,
    stratum_labels,
)
from kernels.stats.results import ScoreInterval

RESAMPLING_ROUNDING = 1e-14
"""Draws that spread less than this (relative to values above 1) are equal but for rounding."""


@dataclass(frozen=True)
class ResamplingPlan:
    """What is scored, which rows are scored together, and which of them are drawn together."""

    metric: str | MetricFunction
    targets: NDArray[np.generic]
    threshold: float
    cells: list[IndexArray]  # rows of every (seed, fold); all rows for a pooled score
    names: list[str]  # of the cells, for messages
    units: IndexArray  # (N,), strata side by side
    strata_sizes: list[int]
    budget: PairBudget
    grouped: bool

    def score(self, member: NDArray[np.generic]) -> float:
        """The score itself: the mean over cells."""
        scores = scores_by_cell(
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
                resampled_scorer(
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
        normal_quantile(level)
        estimate = self.score(member)
        draws = defined_draws(self.draw([member], n_resamples, seed)[0])
        method = "group bootstrap" if self.grouped else "bootstrap"
        if draws_vary(draws):
            low, high = percentile_bounds(draws, level)
            error = float(draws.std(ddof=1))
            return ScoreInterval(estimate, low, high, error, level, method, draws.size)
        if self.metric == "auc" and self.targets.ndim == 1:
            constant = all(np.ptp(member[c].astype(np.float64)) == 0.0 for c in self.cells)
            return flat_auc_bounds(estimate, constant, self.budget, level)
        note = "Every resample scores the same: a width of 0 is lack of variety, not certainty."
        kept = draws.size
        return ScoreInterval(
            estimate, estimate, estimate, 0.0, level, method, kept, degenerate=True, note=note
        )


def pooled_plan(
    metric: str | MetricFunction,
    targets: NDArray[np.generic],
    groups: ArrayLike | None,
    stratify: bool,
    threshold: float,
) -> ResamplingPlan:
    """Rows, or groups of rows, drawn for one score over all rows."""
    n_rows = len(targets)
    plain = np.arange(n_rows) if groups is None else label_codes(groups, n_rows, "groups")
    labels = stratum_labels(metric, targets) if stratify else None
    units, sizes = stratified_units(plain, labels, None)
    is_auc = metric == "auc" and targets.ndim == 1
    pairs = independent_pairs(binary_mask(targets), plain) if is_auc else 1
    return ResamplingPlan(
        metric=metric,
        targets=targets,
        threshold=threshold,
        cells=[np.arange(n_rows)],
        names=["all"],
        units=units,
        strata_sizes=sizes,
        budget=PairBudget(((pairs,),)),
        grouped=groups is not None,
    )


def defined_draws(draws: ScoreArray) -> ScoreArray:
    """Draws without undefined ones; ValueError when more than half are undefined."""
    kept: ScoreArray = draws[~np.isnan(draws)]
    if 2 * kept.size < draws.size or kept.size < 2:
        raise ValueError(
            f"the metric is undefined on {draws.size - kept.size} of {draws.size} resamples; "
            "stratify, or gather more rows of the rare class"
        )
    return kept


def draws_vary(draws: ScoreArray) -> bool:
    """Whether draws differ by more than rounding."""
    lowest, highest = float(draws.min()), float(draws.max())
    return highest - lowest > RESAMPLING_ROUNDING * max(1.0, abs(lowest), abs(highest))


def percentile_bounds(draws: ScoreArray, level: float) -> tuple[float, float]:
    """Percentile interval: the middle `level` of the draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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
    truth, (table,) = checked_tables(targets, predictions)
    plan = pooled_plan(metric, truth, groups, stratify, threshold)
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
    truth, (table,) = checked_tables(targets, predictions)
    plan = pooled_plan(metric, truth, groups, stratify, threshold)
    return plan.interval(table, n_resamples, seed, level)
