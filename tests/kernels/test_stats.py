"""kernels/stats.py against published numbers, scikit-learn, scipy and slow, obvious versions.

Numbers with a # come from the table of numerical oracles the project was started with. Run with
``pytest tests/kernels/test_stats.py``; speed is measured in benchmarks/, not here.
"""

import ast
import math
import sys
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from kernels import stats

QUICK = settings(max_examples=60, deadline=None)

# #49: four positives, five negatives, two members
TARGETS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0])
MEMBER_A = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.4, 0.3, 0.2, 0.1])
MEMBER_B = np.array([0.7, 0.9, 0.4, 0.5, 0.6, 0.5, 0.2, 0.35, 0.1])
# #55
FIRST = np.array([0.10, 0.40, 0.40, 0.95])
SECOND = np.array([0.60, 0.20, 0.30, 0.90])
# #58
LABELS = np.array([1, 1, 0, 1, 0, 0, 1, 0])
PROBS = np.array([0.95, 0.85, 0.15, 0.55, 0.45, 0.35, 0.65, 0.05])


def brute_auc(targets: Any, scores: Any) -> float:
    """Every (positive, negative) pair, in exact arithmetic."""
    pairs = [
        Fraction(1) if p > n else Fraction(1, 2) if p == n else Fraction(0)
        for p, up in zip(scores, targets, strict=True)
        if up == 1
        for n, down in zip(scores, targets, strict=True)
        if down == 0
    ]
    return float(sum(pairs, Fraction(0)) / len(pairs))


def brute_delong(targets: Any, a: Any, b: Any) -> np.ndarray:
    """DeLong 1988 as printed: the full matrix of pairs."""
    kernels = []
    for scores in (a, b):
        up, down = scores[targets == 1][:, None], scores[targets == 0][None, :]
        kernels.append((up > down) + 0.5 * (up == down))
    v10 = np.array([kernel.mean(axis=1) for kernel in kernels])
    v01 = np.array([kernel.mean(axis=0) for kernel in kernels])
    return np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]


def draw_rows(seed: int, n: int = 120, decimals: int | None = None) -> tuple[Any, Any, Any]:
    """Targets and two related members."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(n) < 0.6).astype(np.int64)
    targets[:2] = 0, 1
    signal = rng.normal(size=n) + targets
    a, b = (1 / (1 + np.exp(-signal - rng.normal(size=n))) for _ in range(2))
    if decimals is not None:
        a, b = a.round(decimals), b.round(decimals)
    return targets, a, b


@st.composite
def targets_and_scores(draw: st.DrawFn, members: int = 1, least: int = 1) -> Any:
    """0/1 targets with both classes and members of scores, with plenty of ties or none."""
    n = draw(st.integers(2 * least, 30))
    targets = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    targets[:least], targets[least : 2 * least] = [0] * least, [1] * least
    values = draw(
        st.sampled_from(
            [
                st.integers(-3, 3).map(float),
                st.floats(0, 1),
                st.floats(-1e6, 1e6),
                st.floats(-10, 10, width=32),
                st.floats(allow_nan=False),
                st.sampled_from([0.1, 0.30000000000000004, 0.3, np.nextafter(0.1, 1), -0.0, 0.0]),
            ]
        )
    )
    columns = [draw(st.lists(values, min_size=n, max_size=n)) for _ in range(members)]
    return np.array(targets), *(np.array(column) for column in columns)


# ---- AUC


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.1, 0.4, 0.4, 0.8], 0.875), ([0.1, 0.4, 0.35, 0.8], 0.75), ([0.3] * 4, 0.5)],
)
def test_auc_of_ties_and_constants_is_the_published_one(
    scores: list[float], expected: float
) -> None:
    assert stats.auc_score([0, 0, 1, 1], scores) == expected  # 48


@QUICK
@given(targets_and_scores())
def test_auc_equals_counting_every_pair(case: Any) -> None:
    targets, scores = case
    assert stats.auc_score(targets, scores) == brute_auc(targets, scores)


@QUICK
@given(targets_and_scores(members=3))
def test_auc_of_columns_equals_auc_of_each(case: Any) -> None:
    targets, *members = case
    table = np.stack(members, axis=1)
    expected = [stats.auc_score(targets, member) for member in members]
    assert stats.auc_scores(targets, table).tolist() == expected
    assert stats.auc_scores(targets, np.ascontiguousarray(table.T).T).tolist() == expected


@QUICK
@given(targets_and_scores())
def test_auc_turns_around_with_the_scores_and_ignores_their_scale(case: Any) -> None:
    targets, scores = case
    auc = stats.auc_score(targets, scores)
    assert stats.auc_score(targets, -scores) == pytest.approx(1 - auc, abs=1e-15)
    assert stats.auc_score(1 - targets, scores) == pytest.approx(1 - auc, abs=1e-15)
    assert stats.auc_score(targets, stats.rank_average(scores)) == auc


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
        assert stats.auc_score(targets, scores) == pytest.approx(expected, abs=1e-12)
        assert stats.auc_score(targets.astype(bool), scores.tolist()) == pytest.approx(
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
        assert stats.auc_scores(targets, scores.T).tolist() == expected


def test_auc_in_several_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, a, b = draw_rows(2)
    table = np.stack((a, b, -a, b.round(1), a * 0), axis=1)
    whole = stats.auc_scores(targets, table)
    monkeypatch.setattr(stats, "STATS_BLOCK_ELEMENTS", 2 * len(targets))
    assert (stats.auc_scores(targets, table) == whole).all()


def test_auc_says_what_is_wrong_with_its_input() -> None:
    with pytest.raises(ValueError, match="one class only"):
        stats.auc_score([1, 1, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"scores hold 2 NaN \(first: row 1\)"):
        stats.auc_score([0, 1, 1], [0.1, math.nan, math.nan])
    with pytest.raises(ValueError, match="row 0, column 1"):
        stats.auc_scores([0, 1], [[0.1, math.nan], [0.1, 0.2]])
    with pytest.raises(ValueError, match=r"shape \(3, 1\)"):
        stats.auc_score([0, 1, 1], [[0.1], [0.2], [0.3]])
    with pytest.raises(ValueError, match=r"only 0 and 1"):
        stats.auc_score([0, 1, 2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"row 2"):
        stats.auc_score([0, 1, math.nan], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="targets are empty"):
        stats.auc_score([], [])
    with pytest.raises(ValueError, match="targets have 3 rows"):
        stats.auc_scores([0, 1, 1], [[1.0, 2.0]])


def test_auc_accepts_infinities_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stats.auc_score([0, 0, 1, 1], [-math.inf, 0.0, 0.0, math.inf]) == 0.875
        assert stats.rank_average([-math.inf, math.inf, math.inf]).tolist() == [
            1 / 3,
            2.5 / 3,
            2.5 / 3,
        ]


def test_a_million_rows_are_scored_exactly() -> None:
    n = 1_000_000
    targets = np.arange(n) % 2  # 0101..: a positive i beats (i + 1) / 2 negatives
    scores = np.arange(n, dtype=np.float32) / n
    wins = (n // 2) * (n // 2 + 1) // 2
    assert stats.auc_score(targets, scores) == wins / (n // 2) ** 2
    assert stats.auc_score(targets, scores - 0.5) == wins / (n // 2) ** 2


def test_macro_auc_is_the_mean_of_columns_and_names_the_bad_one() -> None:
    targets, a, b = draw_rows(3)
    truth, table = np.stack((targets, 1 - targets), axis=1), np.stack((a, b), axis=1)
    expected = metrics.roc_auc_score(truth, table, average="macro")
    assert stats.macro_auc(truth, table) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="target column 1"):
        stats.macro_auc(np.stack((targets, targets * 0), axis=1), table)


@pytest.mark.parametrize(
    ("auc", "n_positive", "n_negative", "expected"),
    [
        (0.9991, 641, 237, 0.0008411),
        (0.9999, 641, 237, 0.0002799),
        (0.986, 641, 237, 0.0033971),
        (0.9037, 390, 234, 0.0117904),
    ],
)
def test_hanley_mcneil_gives_the_published_errors(
    auc: float, n_positive: int, n_negative: int, expected: float
) -> None:
    assert stats.hanley_mcneil_se(auc, n_positive, n_negative) == pytest.approx(expected, abs=5e-8)


def test_hanley_mcneil_refuses_impossible_numbers() -> None:
    with pytest.raises(ValueError, match="auc is"):
        stats.hanley_mcneil_se(1.2, 3, 3)
    with pytest.raises(ValueError, match="n_negative=0"):
        stats.hanley_mcneil_se(0.9, 3, 0)


# ---- DeLong


def test_delong_gives_the_published_numbers() -> None:
    aucs, covariance = stats.delong_covariance(TARGETS, np.stack((MEMBER_A, MEMBER_B), axis=1))
    assert aucs.tolist() == [0.875, 0.825]  # 49
    expected = [[0.01875, 0.0106770833], [0.0106770833, 0.0225]]
    assert covariance == pytest.approx(np.array(expected), abs=1e-10)
    assert stats.delong_variance(TARGETS, MEMBER_A) == pytest.approx(0.01875, abs=1e-15)
    result = stats.delong_test(TARGETS, MEMBER_A, MEMBER_B)  # 50
    assert (result.auc_a, result.auc_b) == (0.875, 0.825)
    assert result.difference == pytest.approx(0.05, abs=1e-15)
    assert result.variance == pytest.approx(0.0198958333, abs=1e-10)
    assert result.z == pytest.approx(0.3544777148, abs=1e-10)
    assert result.p_value == pytest.approx(0.7229809023, abs=1e-10)
    assert not result.degenerate


def test_delong_intervals_are_the_published_ones() -> None:
    wald = stats.delong_interval(TARGETS, MEMBER_A, method="wald")  # 51
    assert wald.standard_error == pytest.approx(0.1369306394, abs=1e-10)
    assert (wald.low, wald.high) == (pytest.approx(0.6066208785, abs=1e-10), 1.0)
    logit = stats.delong_interval(TARGETS, MEMBER_A)
    assert (logit.low, logit.high) == pytest.approx((0.3756997, 0.9878675), abs=2e-7)


@QUICK
@given(targets_and_scores(members=2, least=2))
def test_delong_equals_the_pair_matrix(case: Any) -> None:
    targets, a, b = case
    expected = brute_delong(targets, a, b)
    _, covariance = stats.delong_covariance(targets, np.stack((a, b), axis=1))
    assert covariance == pytest.approx(expected, abs=1e-12)
    result = stats.delong_test(targets, a, b)
    assert result.variance == pytest.approx(
        expected[0, 0] + expected[1, 1] - 2 * expected[0, 1], abs=1e-12
    )
    assert 0 < result.p_value <= 1
    assert -1 <= result.low <= result.difference <= result.high <= 1
    swapped = stats.delong_test(targets, b, a)
    assert swapped.p_value == result.p_value
    assert (swapped.low, swapped.high) == (-result.high, -result.low)
    for method in ("logit", "wald"):
        interval = stats.delong_interval(targets, a, method=method)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_perfect_separation_has_no_variance_and_gets_a_bound_instead() -> None:
    interval = stats.delong_interval([0, 0, 0, 1, 1], [1, 2, 3, 4, 5])  # 52
    assert stats.delong_variance([0, 0, 0, 1, 1], [1, 2, 3, 4, 5]) == 0.0
    assert interval.degenerate
    assert "Perfect separation" in interval.note
    assert (interval.estimate, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(0.05 ** (1 / 2))
    reversed_ = stats.delong_interval([0, 0, 0, 1, 1], [5, 4, 3, 2, 1])
    assert (reversed_.low, reversed_.high) == (0.0, pytest.approx(1 - 0.05**0.5))


def test_constant_scores_are_not_certain_to_be_useless() -> None:
    interval = stats.delong_interval([0, 0, 0, 1, 1], [7] * 5)
    assert interval.degenerate
    assert "tied" in interval.note
    reach = (1 - 0.05**0.5) / 2
    assert (interval.low, interval.high) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_identical_members_differ_by_nothing_with_a_bound_and_p_one() -> None:
    result = stats.delong_test(TARGETS, MEMBER_A, MEMBER_A**3)
    assert result.degenerate
    assert result.note
    assert (result.difference, result.variance, result.z, result.p_value) == (0, 0, 0, 1)
    assert result.high == pytest.approx(1 - 0.05 ** (1 / 4)) == -result.low


def test_p_is_never_zero() -> None:
    targets = np.repeat([0, 1], 3000)
    rng = np.random.default_rng(0)
    good = targets + rng.normal(size=6000) * 0.3
    far = stats.delong_test(targets, good, -good)
    assert far.p_value == stats.SMALLEST_P_VALUE > 0
    assert not far.degenerate
    flat = stats.delong_test(targets, targets, -targets)
    assert flat.degenerate
    assert 0 < flat.p_value < 1e-300
    assert math.isnan(flat.z)
    few = stats.delong_test([0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0])
    assert few.p_value > 0.01  # two pairs do not prove anything


def test_delong_needs_two_rows_of_each_class_and_a_known_method() -> None:
    with pytest.raises(ValueError, match="at least 2 of each"):
        stats.delong_variance([0, 0, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="known: logit, wald"):
        stats.delong_interval(TARGETS, MEMBER_A, method="exact")
    with pytest.raises(ValueError, match="level is 95"):
        stats.delong_interval(TARGETS, MEMBER_A, level=95)
    with pytest.raises(ValueError, match="b hold 1 NaN"):
        stats.delong_test(TARGETS, MEMBER_A, np.where(MEMBER_B == 0.9, math.nan, MEMBER_B))


def test_perfect_bound_covers_for_the_worst_distribution() -> None:
    # Constant scores in the larger class make perfect separation as likely as it can be.
    assert stats.perfect_auc_bound(237) == pytest.approx(0.98744, abs=5e-6)
    k, truth = 10, 0.75
    chance_of_perfection = truth**k
    bound = stats.perfect_auc_bound(k)
    assert (bound > truth) == (chance_of_perfection < 0.05)


@QUICK
@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.floats(0.5, 0.99))
def test_perfect_bound_of_a_mean_is_the_least_mean_that_is_not_refuted(
    pairs: list[int], level: float
) -> None:
    bound = stats.perfect_auc_bound(pairs, level)
    budget = math.log(1 - level)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(len(pairs)), size=300)  # of the log likelihood, by fold
    means = np.exp(budget * shares / np.array(pairs)).mean(axis=1)
    assert means.min() >= bound - 1e-12
    if len(set(pairs)) == 1:
        assert bound == pytest.approx((1 - level) ** (1 / sum(pairs)))


# ---- ranks


def test_rank_mean_is_the_published_one() -> None:
    ranks = stats.rank_average(np.stack((FIRST, SECOND), axis=1))
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
    assert stats.auc_scores(targets, members.T).tolist() == [0.875, 0.875, 0.75]
    total, picks, scores = np.zeros(8), [], []
    for _ in range(3):
        aucs = stats.auc_scores(targets, (total + members).round(12).T)
        picks.append(int(aucs.argmax()))
        scores.append(float(aucs.max()))
        total = total + members[picks[-1]]
    assert (picks, scores) == ([0, 1, 2], [0.875, 0.96875, 1.0])


@QUICK
@given(targets_and_scores())
def test_ranks_equal_scipy_and_average_to_the_middle(case: Any) -> None:
    _, scores = case
    ranks = stats.rank_average(scores)
    assert ranks == pytest.approx(scipy.stats.rankdata(scores) / len(scores))
    assert ((ranks > 0) & (ranks <= 1)).all()
    assert ranks.mean() == pytest.approx((len(scores) + 1) / (2 * len(scores)))


def test_ranks_within_seed_and_fold_equal_ranks_of_each_part() -> None:
    _, scores, other = draw_rows(4, decimals=1)
    seeds, folds = np.arange(120) % 2, np.array(["x", "y", "z"])[np.arange(120) % 3]
    table = np.stack((scores, other), axis=1)
    ranks = stats.ranks_within(table, (seeds, folds))
    for seed in (0, 1):
        for fold in "xyz":
            rows = (seeds == seed) & (folds == fold)
            expected = scipy.stats.rankdata(table[rows], axis=0) / rows.sum()
            assert ranks[rows] == pytest.approx(expected)
    assert (stats.ranks_within(scores, folds) != ranks[:, 0]).any()
    assert (stats.ranks_within(scores, np.zeros(120)) == stats.rank_average(scores)).all()


def test_ranks_refuse_nan_and_keys_of_another_length() -> None:
    with pytest.raises(ValueError, match="NaN"):
        stats.rank_average([0.1, math.nan])
    with pytest.raises(ValueError, match="keys have shape"):
        stats.ranks_within([0.1, 0.2], [0])
    with pytest.raises(ValueError, match=r"not \(N,\)"):
        stats.rank_average([])
    with pytest.raises(ValueError, match=r"not \(N,\)"):
        stats.ranks_within(0.5, [0])


def test_spearman_equals_scipy_and_is_nan_for_a_constant_member() -> None:
    _, a, b = draw_rows(5, decimals=1)
    table = np.stack((a, b, -a, a * 0 + 0.3), axis=1)
    correlations = stats.spearman_matrix(table)
    expected = scipy.stats.spearmanr(table[:, :3]).statistic
    assert correlations[:3, :3] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(correlations[3]).all()
    assert np.isnan(correlations[:, 3]).all()
    assert stats.spearman_correlation(a, b) == pytest.approx(expected[0, 1], abs=1e-12)
    assert math.isnan(stats.spearman_correlation(a, table[:, 3]))


def test_spearman_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, a, b = draw_rows(6)
    whole = stats.spearman_correlation(a, b)
    monkeypatch.setattr(stats, "STATS_BLOCK_ELEMENTS", 50)
    assert stats.spearman_correlation(a, b) == pytest.approx(whole, abs=1e-14)
    with pytest.raises(ValueError, match="both are"):
        stats.spearman_correlation(a, b[1:])
    with pytest.raises(ValueError, match="2 rows"):
        stats.spearman_matrix([[1.0, 2.0]])


# ---- other metrics


def test_probability_scores_are_the_published_ones() -> None:
    assert stats.brier_score(LABELS, PROBS) == pytest.approx(0.0875, abs=1e-12)  # 58
    assert stats.log_loss(LABELS, PROBS) == pytest.approx(0.3106080352, abs=1e-10)
    assert stats.expected_calibration_error(LABELS, PROBS) == pytest.approx(0.25, abs=1e-12)
    assert stats.expected_calibration_error(LABELS, PROBS, n_bins=5) == pytest.approx(0.1375)
    assert stats.average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == pytest.approx(
        0.8333333, abs=5e-8
    )  # 48


@QUICK
@given(targets_and_scores())
def test_average_precision_equals_scikit_learn(case: Any) -> None:
    targets, scores = case
    ranks = stats.rank_average(scores)  # scikit-learn refuses infinities
    expected = metrics.average_precision_score(targets, ranks)
    assert stats.average_precision(targets, scores) == pytest.approx(expected, abs=1e-12)


def brute_ece(targets: Any, probs: Any, n_bins: int, kind: str) -> float:
    total = 0.0
    for index in range(n_bins):
        inside = []
        for target, prob in zip(targets, probs, strict=True):
            confidence, hit = prob, target
            if kind == "top":
                confidence, hit = max(prob, 1 - prob), int((prob >= 0.5) == target)
            low, high = index / n_bins, (index + 1) / n_bins
            if low < confidence <= high or (index == 0 and confidence == 0):
                inside.append((confidence, hit))
        total += abs(sum(c - h for c, h in inside))
    return total / len(targets)


@QUICK
@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
    st.integers(1, 15),
    st.sampled_from(["positive", "top"]),
)
def test_calibration_error_equals_the_slow_version(
    rows: list[tuple[int, float]], n_bins: int, kind: str
) -> None:
    targets, probs = zip(*rows, strict=True)
    value = stats.expected_calibration_error(targets, probs, n_bins, kind)
    assert value == pytest.approx(brute_ece(targets, probs, n_bins, kind), abs=1e-12)
    assert 0 <= value <= 1


def test_calibration_error_of_several_classes_is_the_two_class_one_at_k_2() -> None:
    targets, probs, _ = draw_rows(7)
    table = np.stack((1 - probs, probs), axis=1)
    expected = stats.expected_calibration_error(targets, probs, kind="top")
    assert stats.expected_calibration_error(targets, table, kind="top") == pytest.approx(expected)
    with pytest.raises(ValueError, match="only kind 'top'"):
        stats.expected_calibration_error(targets, table)
    with pytest.raises(ValueError, match="known: positive, top"):
        stats.expected_calibration_error(targets, probs, kind="mean")
    with pytest.raises(ValueError, match="n_bins is 0"):
        stats.expected_calibration_error(targets, probs, n_bins=0)


def test_log_loss_equals_scikit_learn_for_two_and_more_classes() -> None:
    targets, probs, _ = draw_rows(8)
    assert stats.log_loss(targets, probs) == pytest.approx(metrics.log_loss(targets, probs))
    rng = np.random.default_rng(8)
    table, classes = rng.dirichlet(np.ones(4), size=50), rng.integers(0, 4, size=50)
    expected = metrics.log_loss(classes, table, labels=range(4))
    assert stats.log_loss(classes, table) == pytest.approx(expected)
    assert stats.log_loss(classes, table / 3) == pytest.approx(expected)  # Kaggle rescales rows
    assert stats.log_loss([1, 0], [0.0, 1.0]) == pytest.approx(-math.log(1e-15))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.log_loss([0, 1], [0.2, 1.2]), r"run from 0.2 to 1.2"),
        (lambda: stats.log_loss([0, 1], [0.2, math.nan]), "NaN"),
        (lambda: stats.log_loss([0, 1], [0.2, 0.3, 0.4]), "have shape"),
        (lambda: stats.log_loss([0, 2], [[0.5, 0.5]] * 2), r"class numbers 0\.\.1"),
        (lambda: stats.log_loss([0], [[0.5, 0.5]] * 2), "2 rows"),
        (lambda: stats.log_loss([0, 1], [[0.5, 0.5], [0, 0]]), "row 1 sum to 0"),
        (lambda: stats.log_loss([0, 1], [[[0.5]], [[0.5]]]), r"not \(N,\) or \(N, K\)"),
        (lambda: stats.log_loss([], []), "empty"),
        (lambda: stats.average_precision([0, 0], [0.1, 0.2]), "no positive"),
        (lambda: stats.score_metric("rmse", [1.0], [1.0, 2.0]), "both are"),
        (lambda: stats.score_metric("auroc", [0, 1], [0.1, 0.2]), "known: auc, macro_auc"),
        (lambda: stats.macro_auc([[0, 1]], [0.1]), "both are"),
    ],
)
def test_metrics_say_what_is_wrong(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_confusion_metrics_rederive_the_pneumonia_report() -> None:
    targets = np.repeat([0, 0, 1, 1], [136, 98, 19, 371])  # 61
    scores = np.repeat([0.1, 0.9, 0.1, 0.9], [136, 98, 19, 371])
    table = stats.confusion_metrics(targets, scores)
    counts = (table.true_negatives, table.false_positives, table.false_negatives)
    assert (*counts, table.true_positives) == (136, 98, 19, 371)
    rates = (table.accuracy, table.precision, table.recall, table.f1, table.specificity)
    assert rates == pytest.approx((0.8125, 0.7910, 0.9513, 0.8638, 0.5812), abs=5e-5)
    others = (table.balanced_accuracy, table.mcc, table.negative_predictive_value, table.kappa)
    assert others == pytest.approx((0.7662, 0.5966, 0.8774, 0.5710), abs=5e-5)


@QUICK
@given(targets_and_scores(), st.floats(-2, 2))
def test_confusion_metrics_equal_scikit_learn(case: Any, threshold: float) -> None:
    targets, scores = case
    table = stats.confusion_metrics(targets, scores, threshold)
    guess = scores >= threshold
    assert table.accuracy == pytest.approx(metrics.accuracy_score(targets, guess))
    assert table.precision == pytest.approx(
        metrics.precision_score(targets, guess, zero_division=0)
    )
    assert table.recall == pytest.approx(metrics.recall_score(targets, guess))
    assert table.specificity == pytest.approx(metrics.recall_score(targets, guess, pos_label=0))
    assert table.f1 == pytest.approx(metrics.f1_score(targets, guess))
    assert table.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(targets, guess))
    assert table.mcc == pytest.approx(metrics.matthews_corrcoef(targets, guess))
    assert table.kappa == pytest.approx(metrics.cohen_kappa_score(targets, guess))


@QUICK
@given(
    targets_and_scores(),
    st.sampled_from(["youden", "f1", "accuracy", "balanced_accuracy", "mcc"]),
)
def test_no_threshold_beats_the_best_one(case: Any, criterion: str) -> None:
    targets, scores = case
    scores = np.clip(scores, -1e300, 1e300)

    def value_at(threshold: float) -> float:
        table = stats.confusion_metrics(targets, scores, threshold)
        if criterion == "youden":
            return table.recall + table.specificity - 1
        return float(getattr(table, criterion))

    choice = stats.best_threshold(targets, scores, criterion)
    assert value_at(choice.threshold) == pytest.approx(choice.value, abs=1e-12)
    others = [value_at(threshold) for threshold in (*scores, math.inf)]
    assert choice.value >= max(others) - 1e-12


def test_best_threshold_takes_the_middle_of_the_widest_gap() -> None:
    choice = stats.best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "accuracy")
    assert (choice.threshold, choice.value, choice.criterion) == (0.5, 1.0, "accuracy")
    upside_down = stats.best_threshold([0, 1, 1, 1], [0.9, 0.1, 0.2, 0.3], "accuracy")
    assert upside_down.threshold == 0.1  # everything positive
    with pytest.raises(ValueError, match="known: youden"):
        stats.best_threshold([0, 1], [0.1, 0.2], "recall")
    with pytest.raises(ValueError, match="infinite at row 1"):
        stats.best_threshold([0, 1], [0.1, math.inf])


def test_clopper_pearson_gives_the_published_intervals() -> None:
    assert stats.clopper_pearson(136 + 371, 624) == pytest.approx((0.77962, 0.84239), abs=5e-6)
    assert stats.clopper_pearson(15, 16) == pytest.approx((0.698, 0.998), abs=5e-4)
    assert stats.clopper_pearson(0, 30)[0] == 0.0
    assert stats.clopper_pearson(30, 30) == (pytest.approx(0.025 ** (1 / 30)), 1.0)
    with pytest.raises(ValueError, match="5 successes of 4"):
        stats.clopper_pearson(5, 4)


@QUICK
@given(st.integers(1, 2_000_000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_clopper_pearson_equals_scipy(trials: int, share: float, level: float) -> None:
    successes = int(share * trials)
    low, high = stats.clopper_pearson(successes, trials, level)
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(level, method="exact")
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_every_metric_answers_by_name_as_scikit_learn_does() -> None:
    targets, probs, _ = draw_rows(9)
    guess = probs >= 0.5
    peers = {
        "auc": metrics.roc_auc_score(targets, probs),
        "macro_auc": metrics.roc_auc_score(targets, probs),
        "average_precision": metrics.average_precision_score(targets, probs),
        "log_loss": metrics.log_loss(targets, probs),
        "brier": metrics.brier_score_loss(targets, probs),
        "accuracy": metrics.accuracy_score(targets, guess),
        "f1": metrics.f1_score(targets, guess),
        "balanced_accuracy": metrics.balanced_accuracy_score(targets, guess),
        "mcc": metrics.matthews_corrcoef(targets, guess),
        "rmse": metrics.root_mean_squared_error(targets, probs),
        "mae": metrics.mean_absolute_error(targets, probs),
    }
    assert set(peers) == set(stats.KNOWN_METRICS)
    for name, expected in peers.items():
        assert stats.score_metric(name, targets, probs) == pytest.approx(expected), name
        column = stats.score_metric(name, targets[:, None], probs[:, None])
        assert column == pytest.approx(expected), name
        better = stats.score_metric(name, targets, targets.astype(float))
        assert (better > expected) == stats.find_metric(name).greater_is_better, name


def test_accuracy_of_several_classes_takes_the_likeliest() -> None:
    table = [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]
    assert stats.score_metric("accuracy", [1, 2], table) == 0.5


# ---- bootstrap

NAMED = [name for name in stats.KNOWN_METRICS if name != "macro_auc"]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("grouped", [False, True])
def test_scores_under_counts_equal_scores_of_repeated_rows(name: str, grouped: bool) -> None:
    targets, probs, _ = draw_rows(10, 60, decimals=1)
    groups = np.arange(60) // 3 if grouped else None

    def slow(truth: Any, guess: Any) -> float:
        return stats.score_metric(name, truth, guess)

    options: dict[str, Any] = {"groups": groups, "n_resamples": 40, "seed": 3}
    if stats.find_metric(name).needs == "values":
        options["stratify"] = False  # a function with 0/1 targets would be stratified
    fast = stats.bootstrap_scores(name, targets, probs, **options)
    assert fast == pytest.approx(stats.bootstrap_scores(slow, targets, probs, **options))
    assert np.ptp(fast) > 0


def test_scores_under_counts_are_scikit_learns_on_the_same_rows() -> None:
    targets, probs, _ = draw_rows(11, 80, decimals=2)
    order = np.argsort(targets, kind="stable")  # units stand class by class
    sizes = [int((targets == 0).sum()), int((targets == 1).sum())]
    counts = np.concatenate(list(stats.resample_counts(sizes, 25, seed=5)))
    expected = []
    for drawn in counts:
        rows = np.repeat(order, drawn)
        assert np.bincount(targets[rows]).tolist() == sizes  # stratified
        expected.append(metrics.roc_auc_score(targets[rows], probs[rows]))
    draws = stats.bootstrap_scores("auc", targets, probs, n_resamples=25, seed=5)
    assert draws == pytest.approx(np.array(expected), abs=1e-12)


def test_resamples_are_whole_reproducible_and_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.concatenate(list(stats.resample_counts([3, 5], 4000, seed=1)))
    assert counts.shape == (4000, 8)
    assert (counts[:, :3].sum(axis=1) == 3).all()
    assert (counts[:, 3:].sum(axis=1) == 5).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(8), abs=0.08)
    again = np.concatenate(list(stats.resample_counts([3, 5], 4000, seed=1)))
    assert (counts == again).all()
    other = np.concatenate(list(stats.resample_counts([3, 5], 4000, seed=2)))
    assert (counts != other).any()
    monkeypatch.setattr(stats, "RESAMPLE_BATCH_ELEMENTS", 80)
    small = list(stats.resample_counts([3, 5], 25, seed=1))
    assert [len(batch) for batch in small] == [10, 10, 5]


def test_strata_wider_than_sixteen_bits_are_drawn_evenly() -> None:
    (counts,) = stats.resample_counts([70_000], 1, seed=0)
    assert counts.sum() == 70_000
    assert counts[0, 65_536:].mean() == pytest.approx(1, abs=0.1)
    assert (counts == 0).mean() == pytest.approx(math.exp(-1), abs=0.01)


def test_bootstrap_and_delong_agree_on_plain_rows() -> None:
    targets, a, b = draw_rows(12, 400)
    delong = stats.delong_interval(targets, a, method="wald")
    interval = stats.bootstrap_interval("auc", targets, a, n_resamples=4000)
    assert interval.estimate == delong.estimate == stats.auc_score(targets, a)
    assert interval.standard_error == pytest.approx(delong.standard_error, rel=0.06)
    assert (interval.low, interval.high) == pytest.approx((delong.low, delong.high), abs=0.006)
    assert (interval.method, interval.n_resamples) == ("bootstrap", 4000)
    test = stats.delong_test(targets, a, b)
    paired = stats.paired_bootstrap_difference("auc", targets, a, b, n_resamples=4000)
    assert paired.difference == pytest.approx(test.difference, abs=1e-15)
    assert paired.standard_error == pytest.approx(math.sqrt(test.variance), rel=0.06)
    assert paired.p_value == pytest.approx(test.p_value, abs=0.05)


def test_paired_difference_is_the_difference_of_equally_seeded_draws() -> None:
    targets, a, b = draw_rows(13)
    draws = [stats.bootstrap_scores("auc", targets, m, n_resamples=500, seed=9) for m in (a, b)]
    paired = stats.paired_bootstrap_difference("auc", targets, a, b, n_resamples=500, seed=9)
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    assert (paired.low, paired.high) == pytest.approx((low, high), abs=1e-15)
    assert paired.standard_error < np.std(draws[0] - draws[1][::-1])  # pairing pays


def test_group_bootstrap_sees_that_copies_are_not_evidence() -> None:
    targets, scores, _ = draw_rows(14, 100)
    copies = [np.repeat(array, 8) for array in (targets, scores)]
    patients = np.repeat(np.arange(100), 8)
    alone = stats.bootstrap_interval("auc", targets, scores)
    naive = stats.bootstrap_interval("auc", *copies)
    grouped = stats.bootstrap_interval("auc", *copies, groups=patients.astype(str))
    assert naive.standard_error < 0.5 * alone.standard_error
    assert grouped.standard_error == pytest.approx(alone.standard_error, rel=0.06)
    assert grouped.method == "group bootstrap"


def test_groups_keep_their_kinds_when_stratified() -> None:
    targets = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 4])  # negative, positive, mixed, negative, positive
    seen: list[int] = []

    def count_positives(truth: Any, guess: Any) -> float:
        seen.append(int(truth.sum()))
        return float(truth.sum())

    stats.bootstrap_scores(count_positives, targets, targets, groups=groups, n_resamples=200)
    assert set(seen) == {3, 4, 5}  # the mixed group's one, and 1 to 2 from each of two groups


def test_a_function_of_integer_targets_is_not_stratified_into_single_rows() -> None:
    ages = np.arange(50)

    def mean_error(truth: Any, guess: Any) -> float:
        return float(np.abs(truth - guess).mean())

    interval = stats.bootstrap_interval(mean_error, ages, ages**1.1, n_resamples=100)
    assert interval.high > interval.low
    assert not interval.degenerate
    assert stats.bootstrap_scores("mae", ages, ages**1.1, n_resamples=9).std() > 0


def test_undefined_resamples_are_left_out_and_counted() -> None:
    targets = np.array([1, 1] + [0] * 10)
    scores = np.array([0.9, 0.3] + [0.05 * i for i in range(10)])
    interval = stats.bootstrap_interval("auc", targets, scores, stratify=False)
    share = 1 - (10 / 12) ** 12  # of resamples with a positive
    assert interval.n_resamples / 2000 == pytest.approx(share, abs=0.03)
    lonely = np.array([1] + [0] * 10)
    kept = stats.bootstrap_interval("auc", lonely, scores[:11], stratify=False)
    assert kept.n_resamples < 1500
    with pytest.raises(ValueError, match=r"undefined on \d+ of 200 resamples"):
        stats.bootstrap_interval(lambda truth, guess: math.nan, targets, scores, n_resamples=200)


def test_perfect_members_do_not_get_an_interval_of_width_zero() -> None:
    targets, scores = np.repeat([0, 1], [30, 60]), np.arange(90.0)
    interval = stats.bootstrap_interval("auc", targets, scores, n_resamples=50)
    assert interval.degenerate
    assert interval.method == "exact bound"
    assert (interval.low, interval.high) == (pytest.approx(0.05 ** (1 / 30)), 1.0)
    groups = np.arange(90) // 3  # 10 negative patients against 20
    grouped = stats.bootstrap_interval("auc", targets, scores, groups, n_resamples=50)
    assert grouped.low == pytest.approx(0.05 ** (1 / 10))
    mixed = stats.bootstrap_interval("auc", targets, scores, np.arange(90) % 30, n_resamples=50)
    assert mixed.low == pytest.approx(0.05 ** (1 / 15))  # 30 mixed patients make 15 pairs
    constant = stats.bootstrap_interval("auc", targets, scores * 0, n_resamples=50)
    assert constant.low < 0.5 < constant.high
    assert constant.degenerate
    accuracy = stats.bootstrap_interval("accuracy", targets, targets * 1.0, n_resamples=50)
    assert accuracy.degenerate
    assert accuracy.note
    assert accuracy.low == accuracy.high == 1
    one = stats.bootstrap_interval("auc", TARGETS, MEMBER_A, np.zeros(9), n_resamples=50)
    assert one.degenerate
    assert (one.low, one.high) == (0.0, 1.0)


def test_identical_members_have_p_one_and_a_bound() -> None:
    targets, a, _ = draw_rows(15)
    same = stats.paired_bootstrap_difference("auc", targets, a, a**2, n_resamples=50)
    assert same.degenerate
    assert same.p_value == 1
    assert same.low == -same.high < 0
    flat = stats.paired_bootstrap_difference("auc", targets, targets, -targets, n_resamples=50)
    assert flat.degenerate
    assert 0 < flat.p_value < 1e-6
    assert flat.low > 0
    assert flat.high == 1
    brier = stats.paired_bootstrap_difference("brier", targets, a, a, n_resamples=50)
    assert brier.degenerate
    assert brier.p_value == 1
    assert brier.difference == 0
    sure = stats.paired_bootstrap_difference(
        "brier", targets, targets * 1.0, 1.0 - targets, n_resamples=50
    )
    assert sure.degenerate
    assert sure.p_value == pytest.approx(2 / 51)


def test_bootstrap_p_is_small_for_a_clear_gain_and_never_zero() -> None:
    targets, a, _ = draw_rows(16, 400)
    noise = np.random.default_rng(0).random(400)
    gain = stats.paired_bootstrap_difference("auc", targets, a, noise, n_resamples=500)
    assert gain.p_value == pytest.approx(2 / 501)
    assert gain.low > 0
    loss = stats.paired_bootstrap_difference("log_loss", targets, a, noise, n_resamples=500)
    assert loss.difference < 0
    assert loss.high < 0


def test_macro_auc_is_resampled_over_all_its_columns_at_once() -> None:
    targets, a, b = draw_rows(17, 200)
    truth, table = np.stack((targets, 1 - targets), axis=1), np.stack((a, -b), axis=1)
    interval = stats.bootstrap_interval("macro_auc", truth, table, n_resamples=300)
    assert interval.estimate == pytest.approx(stats.macro_auc(truth, table))
    assert interval.low < interval.estimate < interval.high

    def slow(rows: Any, guess: Any) -> float:
        return stats.macro_auc(rows, guess)

    fast = stats.bootstrap_scores("macro_auc", truth, table, n_resamples=20)
    assert fast == pytest.approx(stats.bootstrap_scores(slow, truth, table, n_resamples=20))
    single = stats.bootstrap_scores("macro_auc", targets[:, None], a[:, None], n_resamples=9)
    assert (single == stats.bootstrap_scores("auc", targets, a, n_resamples=9)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "auroc"}, "unknown metric"),
        ({"predictions": [0.1]}, "predictions have shape"),
        ({"groups": [0, 1]}, "groups have shape"),
        ({"n_resamples": 1}, "n_resamples is 1"),
        ({"level": 0.0}, "level is"),
        ({"targets": [], "predictions": []}, "targets are empty"),
        ({"targets": [1, 1, 1, 1]}, "one class only"),
    ],
)
def test_bootstrap_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    call = {"metric": "auc", "targets": [0, 0, 1, 1], "predictions": [0.1, 0.4, 0.4, 0.8]}
    with pytest.raises(ValueError, match=message):
        stats.bootstrap_interval(**(call | change))


# ---- means over (seed, fold)


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
    scores = stats.fold_auc_scores(rows["targets"], rows["a"], keys)
    assert scores == pytest.approx(np.array(expected), abs=1e-12)
    mean = stats.mean_fold_auc(rows["targets"], rows["a"], *keys)
    assert mean == pytest.approx(np.mean(expected), abs=1e-12)
    assert mean > stats.auc_score(rows["targets"], rows["a"]) + 0.1
    table = np.stack((rows["a"], rows["b"]), axis=1)
    both = stats.mean_fold_aucs(rows["targets"], table, *keys)
    assert both[0] == pytest.approx(mean, abs=1e-15)
    ranked = stats.ranks_within(rows["a"], keys)
    assert stats.mean_fold_auc(rows["targets"], ranked, *keys) == mean
    named = stats.mean_fold_score("average_precision", rows["targets"], rows["a"], *keys)
    per_fold = stats.fold_scores("average_precision", rows["targets"], rows["a"], keys)
    assert named == pytest.approx(per_fold.mean())


def test_a_fold_of_one_class_is_named() -> None:
    targets, scores, folds = [0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]
    with pytest.raises(ValueError, match="fold 1: targets hold one class only"):
        stats.fold_auc_scores(targets, scores, folds)
    with pytest.raises(ValueError, match="fold 7, 1: targets hold one class only"):
        stats.mean_fold_aucs(targets, np.array([scores]).T, [7] * 4, folds)
    with pytest.raises(ValueError, match="fold 7, 1: targets hold one class only"):
        stats.mean_fold_interval(targets, scores, [7] * 4, folds)


def test_mean_fold_draws_equal_scoring_the_repeated_rows() -> None:
    rows = draw_folds(1, seeds=1)
    arguments = (rows["targets"], rows["a"], rows["seeds"], rows["folds"])

    def slow(truth: Any, guess: Any) -> float:
        return float(metrics.roc_auc_score(truth, guess))

    fast = stats.mean_fold_interval(*arguments, n_resamples=40)
    plain = stats.mean_fold_interval(*arguments, n_resamples=40, metric=slow)
    assert (fast.estimate, fast.low, fast.high, fast.standard_error) == pytest.approx(
        (plain.estimate, plain.low, plain.high, plain.standard_error), abs=1e-12
    )


def test_seeds_that_repeat_each_other_add_no_evidence() -> None:
    rows = draw_folds(2, seeds=1)
    one = stats.mean_fold_interval(rows["targets"], rows["a"], rows["seeds"], rows["folds"])
    twice = {key: np.tile(array, 4) for key, array in rows.items()}
    twice["seeds"] = np.repeat(np.arange(4), len(rows["a"]))
    arguments = (twice["targets"], twice["a"], twice["seeds"], twice["folds"])
    four = stats.mean_fold_interval(*arguments, ids=twice["ids"])
    assert four.standard_error > 0.9 * one.standard_error
    wrong = stats.mean_fold_interval(*arguments, ids=np.arange(len(twice["ids"])))
    assert wrong.standard_error < 0.6 * one.standard_error  # rows of an id taken for new evidence
    with pytest.raises(ValueError, match="ids are missing: 4 seeds"):
        stats.mean_fold_interval(*arguments)


def test_mean_fold_interval_resamples_groups() -> None:
    rows = draw_folds(3, n=60, seeds=1)
    copies = {key: np.repeat(array, 5) for key, array in rows.items()}
    arguments = (copies["targets"], copies["a"], copies["seeds"], copies["folds"])
    naive = stats.mean_fold_interval(*arguments)
    grouped = stats.mean_fold_interval(*arguments, groups=copies["ids"])
    assert grouped.method == "group bootstrap"
    assert grouped.standard_error > 1.6 * naive.standard_error


def test_paired_mean_fold_difference_is_narrower_than_either_interval() -> None:
    rows = draw_folds(4)
    keys = {key: rows[key] for key in ("seeds", "folds", "ids")}
    paired = stats.paired_mean_fold_difference(rows["targets"], rows["a"], rows["b"], **keys)
    single = stats.mean_fold_interval(rows["targets"], rows["a"], **keys)
    assert paired.score_a == single.estimate
    assert paired.difference == pytest.approx(paired.score_a - paired.score_b)
    assert paired.low < paired.difference < paired.high
    assert paired.standard_error < single.standard_error
    assert 0 < paired.p_value <= 1
    swapped = stats.paired_mean_fold_difference(rows["targets"], rows["b"], rows["a"], **keys)
    assert (swapped.low, swapped.high) == pytest.approx((-paired.high, -paired.low), abs=1e-12)


def test_mean_fold_of_perfect_members_gets_the_bound_of_its_folds() -> None:
    rows = draw_folds(5)
    keys = {key: rows[key] for key in ("seeds", "folds", "ids")}
    perfect = rows["targets"] + 0.0
    interval = stats.mean_fold_interval(rows["targets"], perfect, **keys, n_resamples=50)
    assert interval.degenerate
    assert interval.high == 1.0
    seed_bounds = []
    for seed in (0, 1):
        negatives = rows["folds"][(rows["seeds"] == seed) & (rows["targets"] == 0)]
        seed_bounds.append(stats.perfect_auc_bound(np.bincount(negatives).tolist()))
    assert interval.low == pytest.approx(np.mean(seed_bounds))
    assert 0.05 ** (1 / 25) < interval.low <= 0.05 ** (1 / 50)  # 50 negatives in each seed
    same = stats.paired_mean_fold_difference(
        rows["targets"], rows["a"], rows["a"], **keys, n_resamples=50
    )
    assert same.degenerate
    assert same.p_value == 1
    assert same.high == pytest.approx(1 - interval.low)
    straddling = stats.mean_fold_interval(
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
            found = stats.delong_interval(targets, scores, method=method)
            hits[method] += found.low <= truth <= found.high
        found = stats.bootstrap_interval("auc", targets, scores, n_resamples=300)
        hits["bootstrap"] += found.low <= truth <= found.high
    for method, count in hits.items():
        assert 0.90 <= count / 300 <= 0.985, (method, count / 300)


# ---- the module itself


def test_the_module_can_be_flattened_into_a_script() -> None:
    tree = ast.parse(Path(stats.__file__).read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy"}
    assert "__future__" not in imported
    bound = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(bound) == len(set(bound))
    assert not hasattr(stats, "__all__")


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier", "f1", "average_precision"])
def test_several_target_columns_are_the_mean_over_columns(name):
    rng = np.random.default_rng(3)
    truth = (rng.random((80, 3)) < 0.5).astype(int)
    guess = rng.random((80, 3))
    slow = np.mean([stats.score_metric(name, truth[:, j], guess[:, j]) for j in range(3)])
    assert stats.score_metric(name, truth, guess) == pytest.approx(slow)
    interval = stats.bootstrap_interval(name, truth, guess, n_resamples=100)
    assert interval.estimate == pytest.approx(slow)
    assert interval.low <= interval.estimate <= interval.high
    with pytest.raises(ValueError, match="targets have shape"):
        stats.score_metric(name, truth, guess[:, :2])
