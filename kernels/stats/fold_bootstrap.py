"""How far a mean over (seed, fold) can be trusted: bootstrap by ids or groups."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.stats.bootstrap import ResamplingPlan
from kernels.stats.bounds import PairBudget, independent_pairs
from kernels.stats.checking import (
    IndexArray,
    MetricFunction,
    ScoreArray,
    binary_mask,
    cell_names,
    cell_rows,
    checked_tables,
    count_distinct,
    label_codes,
)
from kernels.stats.resampling import stratified_units, stratum_labels
from kernels.stats.results import ScoreInterval


def fold_plan(
    metric: str | MetricFunction,
    targets: NDArray[np.generic],
    keys: tuple[ArrayLike, ArrayLike],
    ids: ArrayLike | None,
    groups: ArrayLike | None,
    stratify: bool,
    threshold: float,
) -> ResamplingPlan:
    """Ids, or groups of them, drawn for a mean over (seed, fold), the same draw in every seed."""
    n_rows = len(targets)
    by_seed = cell_rows(keys[0], n_rows, "seeds")
    fold_codes = label_codes(keys[1], n_rows, "folds")
    if groups is not None:
        plain = label_codes(groups, n_rows, "groups")
    elif ids is not None:
        plain = label_codes(ids, n_rows, "ids")
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
        present = sum(count_distinct(plain[rows]) for rows in inside)
        disjoint = disjoint and present == count_distinct(plain[seed_rows])
        if metric == "auc" and targets.ndim == 1:
            mask = binary_mask(targets)
            pairs.append(tuple(independent_pairs(mask[rows], plain[rows]) for rows in inside))
    labels = stratum_labels(metric, targets) if stratify else None
    within = fold_codes if stratify and len(by_seed) == 1 and disjoint else None
    units, sizes = stratified_units(plain, labels, within)
    return ResamplingPlan(
        metric=metric,
        targets=targets,
        threshold=threshold,
        cells=cells,
        names=cell_names(keys, cells),
        units=units,
        strata_sizes=sizes,
        budget=PairBudget(tuple(pairs), disjoint),
        grouped=groups is not None,
    )


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
    truth, (table,) = checked_tables(targets, scores)
    plan = fold_plan(metric, truth, (seeds, folds), ids, groups, stratify, threshold)
    return plan.interval(table, n_resamples, seed, level)


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
    truth, (table,) = checked_tables(targets, scores)
    plan = fold_plan(metric, truth, (seeds, folds), ids, groups, stratify, threshold)
    draws: ScoreArray = plan.draw([table], n_resamples, seed)[0]
    return draws
