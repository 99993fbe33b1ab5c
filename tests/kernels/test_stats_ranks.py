"""Rank transforms, rank means and Spearman, against published numbers and scipy."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from stats_cases import FIRST, QUICK, SECOND, draw_rows, targets_and_scores

from kernels.stats import ranks
from kernels.stats.auc import auc_scores
from kernels.stats.ranks import rank_average, ranks_within, spearman_correlation, spearman_matrix


def test_rank_mean_is_the_published_one() -> None:
    ranks = rank_average(np.stack((FIRST, SECOND), axis=1))
    assert ranks.mean(axis=1).tolist() == [0.5, 0.4375, 0.5625, 1.0]  # 55
    assert ((FIRST + SECOND) / 2).tolist() == pytest.approx([0.35, 0.30, 0.35, 0.925])  # 56
    logits = (np.log(FIRST / (1 - FIRST)) + np.log(SECOND / (1 - SECOND))) / 2
    expected = [0.2898979, 0.2898979, 0.3483315, 0.9289606]
    assert (1 / (1 + np.exp(-logits))).tolist() == pytest.approx(expected, abs=5e-8)


def test_weights_proportional_to_auc_near_one_are_a_plain_mean() -> None:
    two = np.array([0.9991, 0.9999])  # 54
    assert two / two.sum() == pytest.approx([0.4997998999, 0.5002001001], abs=1e-10)
    four = np.array([0.9991, 0.9999, 0.836, 0.704])
    assert four / four.sum() == pytest.approx([0.28231, 0.28254, 0.23622, 0.19893], abs=5e-6)


def test_hill_climbing_with_auc_scores_picks_the_published_members() -> None:
    targets = np.array([1, 1, 1, 0, 0, 0, 0, 1])  # 57
    members = np.array(
        [
            [0.9, 0.6, 0.4, 0.5, 0.2, 0.1, 0.3, 0.45],
            [0.7, 0.8, 0.35, 0.2, 0.55, 0.4, 0.1, 0.6],
            [0.5, 0.3, 0.9, 0.6, 0.1, 0.2, 0.4, 0.5],
        ]
    )
    assert auc_scores(targets, members.T).tolist() == [0.875, 0.875, 0.75]
    total, picks, scores = np.zeros(8), [], []
    for _ in range(3):
        aucs = auc_scores(targets, (total + members).round(12).T)
        picks.append(int(aucs.argmax()))
        scores.append(float(aucs.max()))
        total = total + members[picks[-1]]
    assert (picks, scores) == ([0, 1, 2], [0.875, 0.96875, 1.0])


@QUICK
@given(targets_and_scores())
def test_ranks_equal_scipy_and_average_to_the_middle(case: Any) -> None:
    _, scores = case
    ranks = rank_average(scores)
    assert ranks == pytest.approx(scipy.stats.rankdata(scores) / len(scores))
    assert ((ranks > 0) & (ranks <= 1)).all()
    assert ranks.mean() == pytest.approx((len(scores) + 1) / (2 * len(scores)))


def test_ranks_within_seed_and_fold_equal_ranks_of_each_part() -> None:
    _, scores, other = draw_rows(4, decimals=1)
    seeds, folds = np.arange(120) % 2, np.array(["x", "y", "z"])[np.arange(120) % 3]
    table = np.stack((scores, other), axis=1)
    ranks = ranks_within(table, (seeds, folds))
    for seed in (0, 1):
        for fold in "xyz":
            rows = (seeds == seed) & (folds == fold)
            expected = scipy.stats.rankdata(table[rows], axis=0) / rows.sum()
            assert ranks[rows] == pytest.approx(expected)
    assert (ranks_within(scores, folds) != ranks[:, 0]).any()
    assert (ranks_within(scores, np.zeros(120)) == rank_average(scores)).all()


def test_ranks_refuse_nan_and_keys_of_another_length() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rank_average([0.1, math.nan])
    with pytest.raises(ValueError, match="keys have shape"):
        ranks_within([0.1, 0.2], [0])
    with pytest.raises(ValueError, match=r"not \(N,\)"):
        rank_average([])
    with pytest.raises(ValueError, match=r"not \(N,\)"):
        ranks_within(0.5, [0])


def test_spearman_equals_scipy_and_is_nan_for_a_constant_member() -> None:
    _, a, b = draw_rows(5, decimals=1)
    table = np.stack((a, b, -a, a * 0 + 0.3), axis=1)
    correlations = spearman_matrix(table)
    expected = scipy.stats.spearmanr(table[:, :3]).statistic
    assert correlations[:3, :3] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(correlations[3]).all()
    assert np.isnan(correlations[:, 3]).all()
    assert spearman_correlation(a, b) == pytest.approx(expected[0, 1], abs=1e-12)
    assert math.isnan(spearman_correlation(a, table[:, 3]))


def test_spearman_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, a, b = draw_rows(6)
    whole = spearman_correlation(a, b)
    monkeypatch.setattr(ranks, "STATS_BLOCK_ELEMENTS", 50)
    assert spearman_correlation(a, b) == pytest.approx(whole, abs=1e-14)
    with pytest.raises(ValueError, match="both are"):
        spearman_correlation(a, b[1:])
    with pytest.raises(ValueError, match="2 rows"):
        spearman_matrix([[1.0, 2.0]])
