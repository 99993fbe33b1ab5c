"""Metrics by name: another competition needs only the name of its metric."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.stats.auc import auc_score, macro_auc
from kernels.stats.checking import (
    BoolArray,
    ScoreArray,
    binary_mask,
    class_codes,
    probability_array,
    refuse_nan,
    score_vector,
    single_column,
)
from kernels.stats.decisions import average_precision, confusion_metrics
from kernels.stats.probabilities import log_loss_rows


@dataclass(frozen=True)
class Metric:
    """What a competition's metric is called, which way is up, and what it wants to be fed."""

    name: str
    greater_is_better: bool
    needs: str  # scores: any order; probs: in [0, 1]; decisions: 0 or 1; values: any units


def brier_score(targets: ArrayLike, probs: ArrayLike) -> float:
    """Mean squared distance of the probability of class 1 from the target, both (N,); 0 is best.

    Raises:
        ValueError: For probabilities outside [0, 1], NaN, or shapes that differ.
    """
    return score_metric("brier", targets, probs)


KNOWN_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auc", greater_is_better=True, needs="scores"),
        Metric("macro_auc", greater_is_better=True, needs="scores"),
        Metric("average_precision", greater_is_better=True, needs="scores"),
        Metric("log_loss", greater_is_better=False, needs="probs"),
        Metric("multiclass_log_loss", greater_is_better=False, needs="probs"),
        Metric("brier", greater_is_better=False, needs="probs"),
        Metric("accuracy", greater_is_better=True, needs="decisions"),
        Metric("f1", greater_is_better=True, needs="decisions"),
        Metric("balanced_accuracy", greater_is_better=True, needs="decisions"),
        Metric("mcc", greater_is_better=True, needs="decisions"),
        Metric("rmse", greater_is_better=False, needs="values"),
        Metric("mae", greater_is_better=False, needs="values"),
    )
}


def find_metric(name: str) -> Metric:
    """The metric of that name; ValueError lists the known ones."""
    if name not in KNOWN_METRICS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(KNOWN_METRICS)}")
    return KNOWN_METRICS[name]


# Metrics of a whole row; those of several columns else are a mean over the columns.
ROW_METRICS = ("multiclass_log_loss",)


def one_hot_codes(targets: ArrayLike) -> NDArray[np.int64]:
    """Class numbers, shape (N,), of targets (N, K) with exactly one 1 in a row (ValueError else)."""
    table = np.asarray(targets)
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"targets have shape {table.shape}; one column for each class is wanted")
    odd = ~(np.isin(table, (0, 1)).all(axis=1) & (table.sum(axis=1) == 1))
    if odd.any():
        raise ValueError(f"row {int(odd.argmax())} of the targets is not of exactly one class")
    codes: NDArray[np.int64] = table.argmax(axis=1).astype(np.int64)
    return codes


def metric_rows(
    name: str, targets: ArrayLike, predictions: ArrayLike, threshold: float
) -> ScoreArray | None:
    """What a metric averages over rows, shape (N,); None for metrics that are no such mean."""
    if name == "log_loss":
        return log_loss_rows(targets, predictions, 1e-15)
    if name == "multiclass_log_loss":
        return log_loss_rows(one_hot_codes(targets), predictions, 1e-15)
    if name == "brier":
        positive = binary_mask(targets)
        probs = score_vector(probability_array(predictions), positive.size, "predictions")
        gaps: ScoreArray = probs - positive
        return gaps * gaps
    if name == "accuracy":
        table = probability_array(predictions, "predictions")
        hits: BoolArray
        if table.ndim == 2:
            hits = table.argmax(axis=1) == class_codes(targets, *table.shape)
        else:
            positive = binary_mask(targets)
            hits = (score_vector(table, positive.size, "predictions") >= threshold) == positive
        return hits.astype(np.float64)
    if name in ("rmse", "mae"):
        truth = np.asarray(targets, dtype=np.float64)
        guess = np.asarray(predictions, dtype=np.float64)
        if truth.ndim != 1 or truth.size == 0 or truth.shape != guess.shape:
            raise ValueError(
                f"targets have shape {truth.shape}, predictions {guess.shape}; both are (N,)"
            )
        refuse_nan(truth, "targets")
        refuse_nan(guess, "predictions")
        sizes: ScoreArray = np.abs(guess - truth)
        return sizes * sizes if name == "rmse" else sizes
    return None


def _mean_over_columns(
    name: str, truth: NDArray[np.generic], guess: NDArray[np.generic], threshold: float
) -> float:
    """Mean over T target columns of a metric, both (N, T); ValueError names a column it fails on."""
    if truth.shape != guess.shape:
        raise ValueError(f"targets have shape {truth.shape}, predictions {guess.shape}")
    total = 0.0
    for column in range(truth.shape[1]):
        try:
            total += score_metric(name, truth[:, column], guess[:, column], threshold)
        except ValueError as error:
            raise ValueError(f"target column {column}: {error}") from error
    return float(total / truth.shape[1])


def score_metric(
    name: str, targets: ArrayLike, predictions: ArrayLike, threshold: float = 0.5
) -> float:
    """A metric by name: auc, macro_auc, log_loss, f1, accuracy, ... (KNOWN_METRICS lists them all).

    Args:
        name: A name that find_metric knows.
        targets: 0 and 1, shape (N,) or (N, 1); class numbers for log_loss and accuracy of K columns;
            real numbers for rmse and mae; (N, K) with one 1 a row for multiclass_log_loss; (N, T) for
            the mean over T targets of any other metric.
        predictions: Same rows; columns as the targets, or K for K classes.
        threshold: Where f1, accuracy, balanced_accuracy and mcc cut one column of probabilities.

    Raises:
        ValueError: For an unknown name, or as the metric's own function.
    """
    find_metric(name)
    truth, guess = single_column(targets), single_column(predictions)
    if truth.ndim == 2 and name not in ("macro_auc", *ROW_METRICS):
        return _mean_over_columns(name, truth, guess, threshold)
    if name == "auc":
        return auc_score(truth, guess)
    if name == "macro_auc":
        return macro_auc(truth, guess)
    if name == "average_precision":
        return average_precision(truth, guess)
    rows = metric_rows(name, truth, guess, threshold)
    if rows is not None:
        mean = float(rows.mean())
        return math.sqrt(mean) if name == "rmse" else mean
    table = confusion_metrics(truth, probability_array(guess, "predictions"), threshold)
    return float(getattr(table, name))
