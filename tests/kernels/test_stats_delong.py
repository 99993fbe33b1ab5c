"""DeLong and the bounds for zero variance, against published numbers and the matrix of pairs."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stats_cases import MEMBER_A, MEMBER_B, QUICK, TARGETS, brute_delong, targets_and_scores

from kernels.stats.bounds import perfect_auc_bound
from kernels.stats.delong import (
    delong_covariance,
    delong_interval,
    delong_variance,
    hanley_mcneil_se,
)
from kernels.stats.paired import SMALLEST_P_VALUE, delong_test


def test_delong_gives_the_published_numbers() -> None:
    aucs, covariance = delong_covariance(TARGETS, np.stack((MEMBER_A, MEMBER_B), axis=1))
    assert aucs.tolist() == [0.875, 0.825]  # 49
    expected = [[0.01875, 0.0106770833], [0.0106770833, 0.0225]]
    assert covariance == pytest.approx(np.array(expected), abs=1e-10)
    assert delong_variance(TARGETS, MEMBER_A) == pytest.approx(0.01875, abs=1e-15)
    result = delong_test(TARGETS, MEMBER_A, MEMBER_B)  # 50
    assert (result.auc_a, result.auc_b) == (0.875, 0.825)
    assert result.difference == pytest.approx(0.05, abs=1e-15)
    assert result.variance == pytest.approx(0.0198958333, abs=1e-10)
    assert result.z == pytest.approx(0.3544777148, abs=1e-10)
    assert result.p_value == pytest.approx(0.7229809023, abs=1e-10)
    assert not result.degenerate


def test_delong_intervals_are_the_published_ones() -> None:
    wald = delong_interval(TARGETS, MEMBER_A, method="wald")  # 51
    assert wald.standard_error == pytest.approx(0.1369306394, abs=1e-10)
    assert (wald.low, wald.high) == (pytest.approx(0.6066208785, abs=1e-10), 1.0)
    logit = delong_interval(TARGETS, MEMBER_A)
    assert (logit.low, logit.high) == pytest.approx((0.3756997, 0.9878675), abs=2e-7)


@QUICK
@given(targets_and_scores(members=2, least=2))
def test_delong_equals_the_pair_matrix(case: Any) -> None:
    targets, a, b = case
    expected = brute_delong(targets, a, b)
    _, covariance = delong_covariance(targets, np.stack((a, b), axis=1))
    assert covariance == pytest.approx(expected, abs=1e-12)
    result = delong_test(targets, a, b)
    assert result.variance == pytest.approx(
        expected[0, 0] + expected[1, 1] - 2 * expected[0, 1], abs=1e-12
    )
    assert 0 < result.p_value <= 1
    assert -1 <= result.low <= result.difference <= result.high <= 1
    swapped = delong_test(targets, b, a)
    assert swapped.p_value == result.p_value
    assert (swapped.low, swapped.high) == (-result.high, -result.low)
    for method in ("logit", "wald"):
        interval = delong_interval(targets, a, method=method)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_perfect_separation_has_no_variance_and_gets_a_bound_instead() -> None:
    interval = delong_interval([0, 0, 0, 1, 1], [1, 2, 3, 4, 5])  # 52
    assert delong_variance([0, 0, 0, 1, 1], [1, 2, 3, 4, 5]) == 0.0
    assert interval.degenerate
    assert "Perfect separation" in interval.note
    assert (interval.estimate, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(0.05 ** (1 / 2))
    reversed_ = delong_interval([0, 0, 0, 1, 1], [5, 4, 3, 2, 1])
    assert (reversed_.low, reversed_.high) == (0.0, pytest.approx(1 - 0.05**0.5))


def test_constant_scores_are_not_certain_to_be_useless() -> None:
    interval = delong_interval([0, 0, 0, 1, 1], [7] * 5)
    assert interval.degenerate
    assert "tied" in interval.note
    reach = (1 - 0.05**0.5) / 2
    assert (interval.low, interval.high) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_identical_members_differ_by_nothing_with_a_bound_and_p_one() -> None:
    result = delong_test(TARGETS, MEMBER_A, MEMBER_A**3)
    assert result.degenerate
    assert result.note
    assert (result.difference, result.variance, result.z, result.p_value) == (0, 0, 0, 1)
    assert result.high == pytest.approx(1 - 0.05 ** (1 / 4)) == -result.low


def test_p_is_never_zero() -> None:
    targets = np.repeat([0, 1], 3000)
    rng = np.random.default_rng(0)
    good = targets + rng.normal(size=6000) * 0.3
    far = delong_test(targets, good, -good)
    assert far.p_value == SMALLEST_P_VALUE > 0
    assert not far.degenerate
    flat = delong_test(targets, targets, -targets)
    assert flat.degenerate
    assert 0 < flat.p_value < 1e-300
    assert math.isnan(flat.z)
    few = delong_test([0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0])
    assert few.p_value > 0.01  # two pairs do not prove anything


def test_delong_needs_two_rows_of_each_class_and_a_known_method() -> None:
    with pytest.raises(ValueError, match="at least 2 of each"):
        delong_variance([0, 0, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="known: logit, wald"):
        delong_interval(TARGETS, MEMBER_A, method="exact")
    with pytest.raises(ValueError, match="level is 95"):
        delong_interval(TARGETS, MEMBER_A, level=95)
    with pytest.raises(ValueError, match="b hold 1 NaN"):
        delong_test(TARGETS, MEMBER_A, np.where(MEMBER_B == 0.9, math.nan, MEMBER_B))


def test_perfect_bound_covers_for_the_worst_distribution() -> None:
    # Constant scores in the larger class make perfect separation as likely as it can be.
    assert perfect_auc_bound(237) == pytest.approx(0.98744, abs=5e-6)
    k, truth = 10, 0.75
    chance_of_perfection = truth**k
    bound = perfect_auc_bound(k)
    assert (bound > truth) == (chance_of_perfection < 0.05)


@QUICK
@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.floats(0.5, 0.99))
def test_perfect_bound_of_a_mean_is_the_least_mean_that_is_not_refuted(
    pairs: list[int], level: float
) -> None:
    bound = perfect_auc_bound(pairs, level)
    budget = math.log(1 - level)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(len(pairs)), size=300)  # of the log likelihood, by fold
    means = np.exp(budget * shares / np.array(pairs)).mean(axis=1)
    assert means.min() >= bound - 1e-12
    if len(set(pairs)) == 1:
        assert bound == pytest.approx((1 - level) ** (1 / sum(pairs)))


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
    assert hanley_mcneil_se(auc, n_positive, n_negative) == pytest.approx(expected, abs=5e-8)


def test_hanley_mcneil_refuses_impossible_numbers() -> None:
    with pytest.raises(ValueError, match="auc is"):
        hanley_mcneil_se(1.2, 3, 3)
    with pytest.raises(ValueError, match="n_negative=0"):
        hanley_mcneil_se(0.9, 3, 0)
