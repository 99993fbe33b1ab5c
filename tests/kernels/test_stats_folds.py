"""Means over (seed, fold): intervals, paired differences, coverage."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from kernels.stats.auc import auc_score
from kernels.stats.bootstrap import bootstrap_interval
from kernels.stats.bounds import perfect_auc_bound
from kernels.stats.delong import delong_interval
from kernels.stats.fold_bootstrap import mean_fold_interval
from kernels.stats.folds import (
    fold_auc_scores,
    fold_scores,
    mean_fold_auc,
    mean_fold_aucs,
    mean_fold_score,
)
from kernels.stats.paired import paired_mean_fold_difference
from kernels.stats.ranks import ranks_within


def draw_folds(seed: int, n: int = 150, seeds: int = 2) -> dict[str, Any]:
    """Out-of-fold rows of two members: one row for each (id, seed), with an offset per fold."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(n) % 3 > 0).astype(int)
    signal = rng.normal(size=n) + truth
    ids = np.tile(np.arange(n), seeds)
    folds = np.concatenate([rng.permutation(n) % 5 for _ in range(seeds)])
    offset = rng.normal(size=(seeds, 5)) * 3
    rows_seed = np.repeat(np.arange(seeds), n)
    noise = rng.normal(size=(2, n * seeds)) * 0.5
    a, b = (signal[ids] + noise[m] + offset[rows_seed, folds] for m in (0, 1))
    return {
        "targets": truth[ids],
        "a": a,
        "b": b,
        "seeds": rows_seed,
        "folds": folds,
        "ids": np.array([f"{i:04}.png" for i in ids]),
    }


def test_mean_fold_auc_is_the_plain_mean_and_ignores_offsets_between_folds() -> None:
    rows = draw_folds(0)
    expected = []
    for seed in (0, 1):
        for fold in range(5):
            inside = (rows["seeds"] == seed) & (rows["folds"] == fold)
            expected.append(metrics.roc_auc_score(rows["targets"][inside], rows["a"][inside]))
    keys = (rows["seeds"], rows["folds"])
    scores = fold_auc_scores(rows["targets"], rows["a"], keys)
    assert scores == pytest.approx(np.array(expected), abs=1e-12)
    mean = mean_fold_auc(rows["targets"], rows["a"], *keys)
    assert mean == pytest.approx(np.mean(expected), abs=1e-12)
    assert mean > auc_score(rows["targets"], rows["a"]) + 0.1
    table = np.stack((rows["a"], rows["b"]), axis=1)
    both = mean_fold_aucs(rows["targets"], table, *keys)
    assert both[0] == pytest.approx(mean, abs=1e-15)
    ranked = ranks_within(rows["a"], keys)
    assert mean_fold_auc(rows["targets"], ranked, *keys) == mean
    named = mean_fold_score("average_precision", rows["targets"], rows["a"], *keys)
    per_fold = fold_scores("average_precision", rows["targets"], rows["a"], keys)
    assert named == pytest.approx(per_fold.mean())


def test_a_fold_of_one_class_is_named() -> None:
    targets, scores, folds = [0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]
    with pytest.raises(ValueError, match="fold 1: targets hold one class only"):
        fold_auc_scores(targets, scores, folds)
    with pytest.raises(ValueError, match="fold 7, 1: targets hold one class only"):
        mean_fold_aucs(targets, np.array([scores]).T, [7] * 4, folds)
    with pytest.raises(ValueError, match="fold 7, 1: targets hold one class only"):
        mean_fold_interval(targets, scores, [7] * 4, folds)


def test_mean_fold_draws_equal_scoring_the_repeated_rows() -> None:
    rows = draw_folds(1, seeds=1)
    arguments = (rows["targets"], rows["a"], rows["seeds"], rows["folds"])

    def slow(truth: Any, guess: Any) -> float:
        return float(metrics.roc_auc_score(truth, guess))

    fast = mean_fold_interval(*arguments, n_resamples=40)
    plain = mean_fold_interval(*arguments, n_resamples=40, metric=slow)
    assert (fast.estimate, fast.low, fast.high, fast.standard_error) == pytest.approx(
        (plain.estimate, plain.low, plain.high, plain.standard_error), abs=1e-12
    )


def test_seeds_that_repeat_each_other_add_no_evidence() -> None:
    rows = draw_folds(2, seeds=1)
    one = mean_fold_interval(rows["targets"], rows["a"], rows["seeds"], rows["folds"])
    twice = {key: np.tile(array, 4) for key, array in rows.items()}
    twice["seeds"] = np.repeat(np.arange(4), len(rows["a"]))
    arguments = (twice["targets"], twice["a"], twice["seeds"], twice["folds"])
    four = mean_fold_interval(*arguments, ids=twice["ids"])
    assert four.standard_error > 0.9 * one.standard_error
    wrong = mean_fold_interval(*arguments, ids=np.arange(len(twice["ids"])))
    assert wrong.standard_error < 0.6 * one.standard_error  # rows of an id taken for new evidence
    with pytest.raises(ValueError, match="ids are missing: 4 seeds"):
        mean_fold_interval(*arguments)


def test_mean_fold_interval_resamples_groups() -> None:
    rows = draw_folds(3, n=60, seeds=1)
    copies = {key: np.repeat(array, 5) for key, array in rows.items()}
    arguments = (copies["targets"], copies["a"], copies["seeds"], copies["folds"])
    naive = mean_fold_interval(*arguments)
    grouped = mean_fold_interval(*arguments, groups=copies["ids"])
    assert grouped.method == "group bootstrap"
    assert grouped.standard_error > 1.6 * naive.standard_error


def test_paired_mean_fold_difference_is_narrower_than_either_interval() -> None:
    rows = draw_folds(4)
    keys = {key: rows[key] for key in ("seeds", "folds", "ids")}
    paired = paired_mean_fold_difference(rows["targets"], rows["a"], rows["b"], **keys)
    single = mean_fold_interval(rows["targets"], rows["a"], **keys)
    assert paired.score_a == single.estimate
    assert paired.difference == pytest.approx(paired.score_a - paired.score_b)
    assert paired.low < paired.difference < paired.high
    assert paired.standard_error < single.standard_error
    assert 0 < paired.p_value <= 1
    swapped = paired_mean_fold_difference(rows["targets"], rows["b"], rows["a"], **keys)
    assert (swapped.low, swapped.high) == pytest.approx((-paired.high, -paired.low), abs=1e-12)


def test_mean_fold_of_perfect_members_gets_the_bound_of_its_folds() -> None:
    rows = draw_folds(5)
    keys = {key: rows[key] for key in ("seeds", "folds", "ids")}
    perfect = rows["targets"] + 0.0
    interval = mean_fold_interval(rows["targets"], perfect, **keys, n_resamples=50)
    assert interval.degenerate
    assert interval.high == 1.0
    seed_bounds = []
    for seed in (0, 1):
        negatives = rows["folds"][(rows["seeds"] == seed) & (rows["targets"] == 0)]
        seed_bounds.append(perfect_auc_bound(np.bincount(negatives).tolist()))
    assert interval.low == pytest.approx(np.mean(seed_bounds))
    assert 0.05 ** (1 / 25) < interval.low <= 0.05 ** (1 / 50)  # 50 negatives in each seed
    same = paired_mean_fold_difference(
        rows["targets"], rows["a"], rows["a"], **keys, n_resamples=50
    )
    assert same.degenerate
    assert same.p_value == 1
    assert same.high == pytest.approx(1 - interval.low)
    straddling = mean_fold_interval(
        rows["targets"], perfect, rows["seeds"], rows["folds"], groups=np.arange(300) % 25
    )
    assert straddling.degenerate
    assert straddling.low < interval.low


def test_coverage_of_the_intervals_is_near_what_they_claim() -> None:
    truth = 0.5 * (1 + math.erf(0.5))  # AUC of two unit normals one apart: Phi(1 / sqrt 2)
    rng = np.random.default_rng(6)
    targets = np.repeat([0, 1], [40, 60])
    hits = {"logit": 0, "wald": 0, "bootstrap": 0}
    for _ in range(300):
        scores = rng.normal(size=100) + targets
        for method in ("logit", "wald"):
            found = delong_interval(targets, scores, method=method)
            hits[method] += found.low <= truth <= found.high
        found = bootstrap_interval("auc", targets, scores, n_resamples=300)
        hits["bootstrap"] += found.low <= truth <= found.high
    for method, count in hits.items():
        assert 0.90 <= count / 300 <= 0.985, (method, count / 300)
