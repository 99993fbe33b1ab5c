"""Resampling: exact under counts, paired, grouped, and honest where nothing varies."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from stats_cases import MEMBER_A, TARGETS, draw_rows

from kernels.stats import resampling
from kernels.stats.auc import auc_score, macro_auc
from kernels.stats.bootstrap import bootstrap_interval, bootstrap_scores
from kernels.stats.delong import delong_interval
from kernels.stats.metrics import KNOWN_METRICS, find_metric, score_metric
from kernels.stats.paired import delong_test, paired_bootstrap_difference
from kernels.stats.resampling import resample_counts

NAMED = [name for name in KNOWN_METRICS if name != "macro_auc"]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("grouped", [False, True])
def test_scores_under_counts_equal_scores_of_repeated_rows(name: str, grouped: bool) -> None:
    targets, probs, _ = draw_rows(10, 60, decimals=1)
    groups = np.arange(60) // 3 if grouped else None
    if name == "multiclass_log_loss":  # a column for each class, rows of probabilities sum to 1
        targets = np.stack([1 - targets, targets], axis=1)
        probs = np.stack([1.0 - probs, probs], axis=1)

    def slow(truth: Any, guess: Any) -> float:
        return score_metric(name, truth, guess)

    options: dict[str, Any] = {"groups": groups, "n_resamples": 40, "seed": 3}
    if find_metric(name).needs == "values":
        options["stratify"] = False  # a function with 0/1 targets would be stratified
    fast = bootstrap_scores(name, targets, probs, **options)
    assert fast == pytest.approx(bootstrap_scores(slow, targets, probs, **options))
    assert np.ptp(fast) > 0


def test_scores_under_counts_are_scikit_learns_on_the_same_rows() -> None:
    targets, probs, _ = draw_rows(11, 80, decimals=2)
    order = np.argsort(targets, kind="stable")  # units stand class by class
    sizes = [int((targets == 0).sum()), int((targets == 1).sum())]
    counts = np.concatenate(list(resample_counts(sizes, 25, seed=5)))
    expected = []
    for drawn in counts:
        rows = np.repeat(order, drawn)
        assert np.bincount(targets[rows]).tolist() == sizes  # stratified
        expected.append(metrics.roc_auc_score(targets[rows], probs[rows]))
    draws = bootstrap_scores("auc", targets, probs, n_resamples=25, seed=5)
    assert draws == pytest.approx(np.array(expected), abs=1e-12)


def test_resamples_are_whole_reproducible_and_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.concatenate(list(resample_counts([3, 5], 4000, seed=1)))
    assert counts.shape == (4000, 8)
    assert (counts[:, :3].sum(axis=1) == 3).all()
    assert (counts[:, 3:].sum(axis=1) == 5).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(8), abs=0.08)
    again = np.concatenate(list(resample_counts([3, 5], 4000, seed=1)))
    assert (counts == again).all()
    other = np.concatenate(list(resample_counts([3, 5], 4000, seed=2)))
    assert (counts != other).any()
    monkeypatch.setattr(resampling, "RESAMPLE_BATCH_ELEMENTS", 80)
    small = list(resample_counts([3, 5], 25, seed=1))
    assert [len(batch) for batch in small] == [10, 10, 5]


def test_strata_wider_than_sixteen_bits_are_drawn_evenly() -> None:
    (counts,) = resample_counts([70_000], 1, seed=0)
    assert counts.sum() == 70_000
    assert counts[0, 65_536:].mean() == pytest.approx(1, abs=0.1)
    assert (counts == 0).mean() == pytest.approx(math.exp(-1), abs=0.01)


def test_bootstrap_and_delong_agree_on_plain_rows() -> None:
    targets, a, b = draw_rows(12, 400)
    delong = delong_interval(targets, a, method="wald")
    interval = bootstrap_interval("auc", targets, a, n_resamples=4000)
    assert interval.estimate == delong.estimate == auc_score(targets, a)
    assert interval.standard_error == pytest.approx(delong.standard_error, rel=0.06)
    assert (interval.low, interval.high) == pytest.approx((delong.low, delong.high), abs=0.006)
    assert (interval.method, interval.n_resamples) == ("bootstrap", 4000)
    test = delong_test(targets, a, b)
    paired = paired_bootstrap_difference("auc", targets, a, b, n_resamples=4000)
    assert paired.difference == pytest.approx(test.difference, abs=1e-15)
    assert paired.standard_error == pytest.approx(math.sqrt(test.variance), rel=0.06)
    assert paired.p_value == pytest.approx(test.p_value, abs=0.05)


def test_paired_difference_is_the_difference_of_equally_seeded_draws() -> None:
    targets, a, b = draw_rows(13)
    draws = [bootstrap_scores("auc", targets, m, n_resamples=500, seed=9) for m in (a, b)]
    paired = paired_bootstrap_difference("auc", targets, a, b, n_resamples=500, seed=9)
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
    assert (paired.low, paired.high) == pytest.approx((low, high), abs=1e-15)
    assert paired.standard_error < np.std(draws[0] - draws[1][::-1])  # pairing pays


def test_group_bootstrap_sees_that_copies_are_not_evidence() -> None:
    targets, scores, _ = draw_rows(14, 100)
    copies = [np.repeat(array, 8) for array in (targets, scores)]
    patients = np.repeat(np.arange(100), 8)
    alone = bootstrap_interval("auc", targets, scores)
    naive = bootstrap_interval("auc", *copies)
    grouped = bootstrap_interval("auc", *copies, groups=patients.astype(str))
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

    bootstrap_scores(count_positives, targets, targets, groups=groups, n_resamples=200)
    assert set(seen) == {3, 4, 5}  # the mixed group's one, and 1 to 2 from each of two groups


def test_a_function_of_integer_targets_is_not_stratified_into_single_rows() -> None:
    ages = np.arange(50)

    def mean_error(truth: Any, guess: Any) -> float:
        return float(np.abs(truth - guess).mean())

    interval = bootstrap_interval(mean_error, ages, ages**1.1, n_resamples=100)
    assert interval.high > interval.low
    assert not interval.degenerate
    assert bootstrap_scores("mae", ages, ages**1.1, n_resamples=9).std() > 0


def test_undefined_resamples_are_left_out_and_counted() -> None:
    targets = np.array([1, 1] + [0] * 10)
    scores = np.array([0.9, 0.3] + [0.05 * i for i in range(10)])
    interval = bootstrap_interval("auc", targets, scores, stratify=False)
    share = 1 - (10 / 12) ** 12  # of resamples with a positive
    assert interval.n_resamples / 2000 == pytest.approx(share, abs=0.03)
    lonely = np.array([1] + [0] * 10)
    kept = bootstrap_interval("auc", lonely, scores[:11], stratify=False)
    assert kept.n_resamples < 1500
    with pytest.raises(ValueError, match=r"undefined on \d+ of 200 resamples"):
        bootstrap_interval(lambda truth, guess: math.nan, targets, scores, n_resamples=200)


def test_perfect_members_do_not_get_an_interval_of_width_zero() -> None:
    targets, scores = np.repeat([0, 1], [30, 60]), np.arange(90.0)
    interval = bootstrap_interval("auc", targets, scores, n_resamples=50)
    assert interval.degenerate
    assert interval.method == "exact bound"
    assert (interval.low, interval.high) == (pytest.approx(0.05 ** (1 / 30)), 1.0)
    groups = np.arange(90) // 3  # 10 negative patients against 20
    grouped = bootstrap_interval("auc", targets, scores, groups, n_resamples=50)
    assert grouped.low == pytest.approx(0.05 ** (1 / 10))
    mixed = bootstrap_interval("auc", targets, scores, np.arange(90) % 30, n_resamples=50)
    assert mixed.low == pytest.approx(0.05 ** (1 / 15))  # 30 mixed patients make 15 pairs
    constant = bootstrap_interval("auc", targets, scores * 0, n_resamples=50)
    assert constant.low < 0.5 < constant.high
    assert constant.degenerate
    accuracy = bootstrap_interval("accuracy", targets, targets * 1.0, n_resamples=50)
    assert accuracy.degenerate
    assert accuracy.note
    assert accuracy.low == accuracy.high == 1
    one = bootstrap_interval("auc", TARGETS, MEMBER_A, np.zeros(9), n_resamples=50)
    assert one.degenerate
    assert (one.low, one.high) == (0.0, 1.0)


def test_identical_members_have_p_one_and_a_bound() -> None:
    targets, a, _ = draw_rows(15)
    same = paired_bootstrap_difference("auc", targets, a, a**2, n_resamples=50)
    assert same.degenerate
    assert same.p_value == 1
    assert same.low == -same.high < 0
    flat = paired_bootstrap_difference("auc", targets, targets, -targets, n_resamples=50)
    assert flat.degenerate
    assert 0 < flat.p_value < 1e-6
    assert flat.low > 0
    assert flat.high == 1
    brier = paired_bootstrap_difference("brier", targets, a, a, n_resamples=50)
    assert brier.degenerate
    assert brier.p_value == 1
    assert brier.difference == 0
    sure = paired_bootstrap_difference(
        "brier", targets, targets * 1.0, 1.0 - targets, n_resamples=50
    )
    assert sure.degenerate
    assert sure.p_value == pytest.approx(2 / 51)


def test_bootstrap_p_is_small_for_a_clear_gain_and_never_zero() -> None:
    targets, a, _ = draw_rows(16, 400)
    noise = np.random.default_rng(0).random(400)
    gain = paired_bootstrap_difference("auc", targets, a, noise, n_resamples=500)
    assert gain.p_value == pytest.approx(2 / 501)
    assert gain.low > 0
    loss = paired_bootstrap_difference("log_loss", targets, a, noise, n_resamples=500)
    assert loss.difference < 0
    assert loss.high < 0


def test_macro_auc_is_resampled_over_all_its_columns_at_once() -> None:
    targets, a, b = draw_rows(17, 200)
    truth, table = np.stack((targets, 1 - targets), axis=1), np.stack((a, -b), axis=1)
    interval = bootstrap_interval("macro_auc", truth, table, n_resamples=300)
    assert interval.estimate == pytest.approx(macro_auc(truth, table))
    assert interval.low < interval.estimate < interval.high

    def slow(rows: Any, guess: Any) -> float:
        return macro_auc(rows, guess)

    fast = bootstrap_scores("macro_auc", truth, table, n_resamples=20)
    assert fast == pytest.approx(bootstrap_scores(slow, truth, table, n_resamples=20))
    single = bootstrap_scores("macro_auc", targets[:, None], a[:, None], n_resamples=9)
    assert (single == bootstrap_scores("auc", targets, a, n_resamples=9)).all()


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
        bootstrap_interval(**(call | change))


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier", "f1", "average_precision"])
def test_several_target_columns_are_the_mean_over_columns(name):
    rng = np.random.default_rng(3)
    truth = (rng.random((80, 3)) < 0.5).astype(int)
    guess = rng.random((80, 3))
    slow = np.mean([score_metric(name, truth[:, j], guess[:, j]) for j in range(3)])
    assert score_metric(name, truth, guess) == pytest.approx(slow)
    interval = bootstrap_interval(name, truth, guess, n_resamples=100)
    assert interval.estimate == pytest.approx(slow)
    assert interval.low <= interval.estimate <= interval.high
    with pytest.raises(ValueError, match="targets have shape"):
        score_metric(name, truth, guess[:, :2])
