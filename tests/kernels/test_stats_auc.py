"""Exact AUC against published numbers, scikit-learn and counting every pair."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from sklearn import metrics
from stats_cases import QUICK, brute_auc, draw_rows, targets_and_scores

from kernels.stats import auc
from kernels.stats.auc import auc_score, auc_scores, macro_auc
from kernels.stats.ranks import rank_average


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.1, 0.4, 0.4, 0.8], 0.875), ([0.1, 0.4, 0.35, 0.8], 0.75), ([0.3] * 4, 0.5)],
)
def test_auc_of_ties_and_constants_is_the_published_one(
    scores: list[float], expected: float
) -> None:
    assert auc_score([0, 0, 1, 1], scores) == expected  # 48


@QUICK
@given(targets_and_scores())
def test_auc_equals_counting_every_pair(case: Any) -> None:
    targets, scores = case
    assert auc_score(targets, scores) == brute_auc(targets, scores)


@QUICK
@given(targets_and_scores(members=3))
def test_auc_of_columns_equals_auc_of_each(case: Any) -> None:
    targets, *members = case
    table = np.stack(members, axis=1)
    expected = [auc_score(targets, member) for member in members]
    assert auc_scores(targets, table).tolist() == expected
    assert auc_scores(targets, np.ascontiguousarray(table.T).T).tolist() == expected


@QUICK
@given(targets_and_scores())
def test_auc_turns_around_with_the_scores_and_ignores_their_scale(case: Any) -> None:
    targets, scores = case
    auc = auc_score(targets, scores)
    assert auc_score(targets, -scores) == pytest.approx(1 - auc, abs=1e-15)
    assert auc_score(1 - targets, scores) == pytest.approx(1 - auc, abs=1e-15)
    assert auc_score(targets, rank_average(scores)) == auc


@pytest.mark.parametrize("decimals", [None, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auc_agrees_with_scikit_learn_on_probabilities_and_logits(
    decimals: int | None, dtype: Any
) -> None:
    targets, probs, _ = draw_rows(1, 5000, decimals)
    probs = probs.astype(dtype)
    logits = np.log(np.clip(probs, 1e-6, 1 - 1e-6)) - np.log1p(-np.clip(probs, 1e-6, 1 - 1e-6))
    for scores in (probs, logits):
        expected = metrics.roc_auc_score(targets, scores)
        assert auc_score(targets, scores) == pytest.approx(expected, abs=1e-12)
        assert auc_score(targets.astype(bool), scores.tolist()) == pytest.approx(
            expected, abs=1e-12
        )


@pytest.mark.parametrize(
    "values",
    [
        [-1e300, -1e-300, -0.0, 0.0, 1e-300, 1e300],  # too wide for integer keys: searched instead
        [-5e-324, -0.0, 0.0, 5e-324],
        [-math.inf, -1.0, np.nextafter(-1.0, 0), 1.0, np.nextafter(1.0, 2), math.inf],
        [-3.0, -2.0, -1.0],
    ],
)
def test_auc_keeps_neighbouring_floats_and_all_magnitudes_apart(values: list[float]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.choice(values, size=(3, 24))
        targets = np.arange(24) % 2
        expected = [brute_auc(targets, member) for member in scores]
        assert auc_scores(targets, scores.T).tolist() == expected
        assert [auc_score(targets, member) for member in scores] == expected
        turned = [brute_auc(1 - targets, member) for member in scores]
        assert [auc_score(1 - targets, member) for member in scores] == turned


def test_auc_in_several_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, a, b = draw_rows(2)
    table = np.stack((a, b, -a, b.round(1), a * 0), axis=1)
    whole = auc_scores(targets, table)
    monkeypatch.setattr(auc, "STATS_BLOCK_ELEMENTS", 2 * len(targets))
    assert (auc_scores(targets, table) == whole).all()


def test_auc_says_what_is_wrong_with_its_input() -> None:
    with pytest.raises(ValueError, match="one class only"):
        auc_score([1, 1, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"scores hold 2 NaN \(first: row 1\)"):
        auc_score([0, 1, 1], [0.1, math.nan, math.nan])
    with pytest.raises(ValueError, match="row 0, column 1"):
        auc_scores([0, 1], [[0.1, math.nan], [0.1, 0.2]])
    with pytest.raises(ValueError, match=r"shape \(3, 1\)"):
        auc_score([0, 1, 1], [[0.1], [0.2], [0.3]])
    with pytest.raises(ValueError, match=r"only 0 and 1"):
        auc_score([0, 1, 2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"row 2"):
        auc_score([0, 1, math.nan], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="targets are empty"):
        auc_score([], [])
    with pytest.raises(ValueError, match="targets have 3 rows"):
        auc_scores([0, 1, 1], [[1.0, 2.0]])


def test_auc_accepts_infinities_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auc_score([0, 0, 1, 1], [-math.inf, 0.0, 0.0, math.inf]) == 0.875
        assert rank_average([-math.inf, math.inf, math.inf]).tolist() == [
            1 / 3,
            2.5 / 3,
            2.5 / 3,
        ]


@pytest.mark.parametrize("rows", [auc.SEARCHED_ROWS, auc.SEARCHED_ROWS + 1])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_one_row_is_scored_alike_by_either_way(rows: int, share: float) -> None:
    rng = np.random.default_rng(rows)
    targets = rng.random(rows) < share
    for scores in (rng.random(rows), rng.normal(size=rows).round(1), -rng.random(rows)):
        assert auc_score(targets, scores) == auc_scores(targets, scores[:, np.newaxis])[0]
    scores[rows // 2] = math.nan
    with pytest.raises(ValueError, match=f"1 NaN .first: row {rows // 2}"):
        auc_score(targets, scores)


def test_a_million_rows_are_scored_exactly() -> None:
    n = 1_000_000
    targets = np.arange(n) % 2  # 0101..: a positive i beats (i + 1) / 2 negatives
    scores = np.arange(n, dtype=np.float32) / n
    wins = (n // 2) * (n // 2 + 1) // 2
    assert auc_score(targets, scores) == wins / (n // 2) ** 2
    assert auc_score(targets, scores - 0.5) == wins / (n // 2) ** 2


def test_macro_auc_is_the_mean_of_columns_and_names_the_bad_one() -> None:
    targets, a, b = draw_rows(3)
    truth, table = np.stack((targets, 1 - targets), axis=1), np.stack((a, b), axis=1)
    expected = metrics.roc_auc_score(truth, table, average="macro")
    assert macro_auc(truth, table) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="target column 1"):
        macro_auc(np.stack((targets, targets * 0), axis=1), table)
