"""Metrics by name, thresholds and proportions, against published numbers, scikit-learn and slow versions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from stats_cases import LABELS, PROBS, QUICK, draw_rows, targets_and_scores

from kernels.stats.auc import macro_auc
from kernels.stats.bootstrap import bootstrap_interval
from kernels.stats.decisions import average_precision, best_threshold, confusion_metrics
from kernels.stats.metrics import KNOWN_METRICS, brier_score, find_metric, score_metric
from kernels.stats.probabilities import expected_calibration_error, log_loss
from kernels.stats.proportions import clopper_pearson
from kernels.stats.ranks import rank_average


def test_probability_scores_are_the_published_ones() -> None:
    assert brier_score(LABELS, PROBS) == pytest.approx(0.0875, abs=1e-12)  # 58
    assert log_loss(LABELS, PROBS) == pytest.approx(0.3106080352, abs=1e-10)
    assert expected_calibration_error(LABELS, PROBS) == pytest.approx(0.25, abs=1e-12)
    assert expected_calibration_error(LABELS, PROBS, n_bins=5) == pytest.approx(0.1375)
    assert average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == pytest.approx(
        0.8333333, abs=5e-8
    )  # 48


@QUICK
@given(targets_and_scores())
def test_average_precision_equals_scikit_learn(case: Any) -> None:
    targets, scores = case
    ranks = rank_average(scores)  # scikit-learn refuses infinities
    expected = metrics.average_precision_score(targets, ranks)
    assert average_precision(targets, scores) == pytest.approx(expected, abs=1e-12)


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
    value = expected_calibration_error(targets, probs, n_bins, kind)
    assert value == pytest.approx(brute_ece(targets, probs, n_bins, kind), abs=1e-12)
    assert 0 <= value <= 1


def test_calibration_error_of_several_classes_is_the_two_class_one_at_k_2() -> None:
    targets, probs, _ = draw_rows(7)
    table = np.stack((1 - probs, probs), axis=1)
    expected = expected_calibration_error(targets, probs, kind="top")
    assert expected_calibration_error(targets, table, kind="top") == pytest.approx(expected)
    with pytest.raises(ValueError, match="only kind 'top'"):
        expected_calibration_error(targets, table)
    with pytest.raises(ValueError, match="known: positive, top"):
        expected_calibration_error(targets, probs, kind="mean")
    with pytest.raises(ValueError, match="n_bins is 0"):
        expected_calibration_error(targets, probs, n_bins=0)


def test_log_loss_equals_scikit_learn_for_two_and_more_classes() -> None:
    targets, probs, _ = draw_rows(8)
    assert log_loss(targets, probs) == pytest.approx(metrics.log_loss(targets, probs))
    rng = np.random.default_rng(8)
    table, classes = rng.dirichlet(np.ones(4), size=50), rng.integers(0, 4, size=50)
    expected = metrics.log_loss(classes, table, labels=range(4))
    assert log_loss(classes, table) == pytest.approx(expected)
    assert log_loss(classes, table / 3) == pytest.approx(expected)  # Kaggle rescales rows
    assert log_loss([1, 0], [0.0, 1.0]) == pytest.approx(-math.log(1e-15))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_loss([0, 1], [0.2, 1.2]), r"run from 0.2 to 1.2"),
        (lambda: log_loss([0, 1], [0.2, math.nan]), "NaN"),
        (lambda: log_loss([0, 1], [0.2, 0.3, 0.4]), "have shape"),
        (lambda: log_loss([0, 2], [[0.5, 0.5]] * 2), r"class numbers 0\.\.1"),
        (lambda: log_loss([0], [[0.5, 0.5]] * 2), "2 rows"),
        (lambda: log_loss([0, 1], [[0.5, 0.5], [0, 0]]), "row 1 sum to 0"),
        (lambda: log_loss([0, 1], [[[0.5]], [[0.5]]]), r"not \(N,\) or \(N, K\)"),
        (lambda: log_loss([], []), "empty"),
        (lambda: average_precision([0, 0], [0.1, 0.2]), "no positive"),
        (lambda: score_metric("rmse", [1.0], [1.0, 2.0]), "both are"),
        (lambda: score_metric("auroc", [0, 1], [0.1, 0.2]), "known: auc, macro_auc"),
        (lambda: macro_auc([[0, 1]], [0.1]), "both are"),
    ],
)
def test_metrics_say_what_is_wrong(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_confusion_metrics_rederive_the_pneumonia_report() -> None:
    targets = np.repeat([0, 0, 1, 1], [136, 98, 19, 371])  # 61
    scores = np.repeat([0.1, 0.9, 0.1, 0.9], [136, 98, 19, 371])
    table = confusion_metrics(targets, scores)
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
    table = confusion_metrics(targets, scores, threshold)
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
        table = confusion_metrics(targets, scores, threshold)
        if criterion == "youden":
            return table.recall + table.specificity - 1
        return float(getattr(table, criterion))

    choice = best_threshold(targets, scores, criterion)
    assert value_at(choice.threshold) == pytest.approx(choice.value, abs=1e-12)
    others = [value_at(threshold) for threshold in (*scores, math.inf)]
    assert choice.value >= max(others) - 1e-12


def test_best_threshold_takes_the_middle_of_the_widest_gap() -> None:
    choice = best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "accuracy")
    assert (choice.threshold, choice.value, choice.criterion) == (0.5, 1.0, "accuracy")
    upside_down = best_threshold([0, 1, 1, 1], [0.9, 0.1, 0.2, 0.3], "accuracy")
    assert upside_down.threshold == 0.1  # everything positive
    with pytest.raises(ValueError, match="known: youden"):
        best_threshold([0, 1], [0.1, 0.2], "recall")
    with pytest.raises(ValueError, match="infinite at row 1"):
        best_threshold([0, 1], [0.1, math.inf])


def test_clopper_pearson_gives_the_published_intervals() -> None:
    assert clopper_pearson(136 + 371, 624) == pytest.approx((0.77962, 0.84239), abs=5e-6)
    assert clopper_pearson(15, 16) == pytest.approx((0.698, 0.998), abs=5e-4)
    assert clopper_pearson(0, 30)[0] == 0.0
    assert clopper_pearson(30, 30) == (pytest.approx(0.025 ** (1 / 30)), 1.0)
    with pytest.raises(ValueError, match="5 successes of 4"):
        clopper_pearson(5, 4)


@QUICK
@given(st.integers(1, 2_000_000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_clopper_pearson_equals_scipy(trials: int, share: float, level: float) -> None:
    successes = int(share * trials)
    low, high = clopper_pearson(successes, trials, level)
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
    assert {*peers, "multiclass_log_loss"} == set(KNOWN_METRICS)
    for name, expected in peers.items():
        assert score_metric(name, targets, probs) == pytest.approx(expected), name
        column = score_metric(name, targets[:, None], probs[:, None])
        assert column == pytest.approx(expected), name
        better = score_metric(name, targets, targets.astype(float))
        assert (better > expected) == find_metric(name).greater_is_better, name


def test_the_loss_of_classes_is_scikit_learns_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(4)
    codes = rng.integers(3, size=90)
    probs = rng.dirichlet(np.ones(3), size=90) + 0.5 * np.eye(3)[codes]
    probs /= probs.sum(axis=1, keepdims=True)
    expected = metrics.log_loss(codes, probs)
    targets = np.eye(3, dtype=int)[codes]
    assert score_metric("multiclass_log_loss", targets, probs) == pytest.approx(expected)
    assert not find_metric("multiclass_log_loss").greater_is_better
    found = bootstrap_interval("multiclass_log_loss", targets, probs, n_resamples=200)
    assert found.estimate == pytest.approx(expected)
    assert found.low < expected < found.high


def test_accuracy_of_several_classes_takes_the_likeliest() -> None:
    table = [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]
    assert score_metric("accuracy", [1, 2], table) == 0.5
