"""Scores at a threshold and along all thresholds: the 2 x 2 table, its rates, average precision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kernels.stats.checking import (
    BoolArray,
    IndexArray,
    ScoreArray,
    binary_mask,
    checked_scores,
    mask_with_both_classes,
)


@dataclass(frozen=True)
class ConfusionMetrics:
    """Counts and rates at one threshold; a ratio over 0 is 0.0, as in scikit-learn."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    accuracy: float
    precision: float
    recall: float
    specificity: float
    negative_predictive_value: float
    f1: float
    balanced_accuracy: float
    mcc: float
    kappa: float


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold (positive: score >= threshold) and what it reaches on the rows given."""

    threshold: float
    value: float
    criterion: str


def descending_runs(values: ScoreArray) -> tuple[IndexArray, IndexArray]:
    """Rows from the highest score down, and the last position of every run of equal scores."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    ends = np.flatnonzero(np.concatenate((ordered[1:] != ordered[:-1], [True])))
    return order, ends


def average_precision(targets: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: sum of precision x step in recall over distinct scores, no interpolation.

    Raises:
        ValueError: Without a positive, for NaN, or shapes that differ.
    """
    positive = binary_mask(targets)
    values = checked_scores(scores, positive.size)
    if not positive.any():
        raise ValueError("targets hold no positive row; average precision needs one")
    order, ends = descending_runs(values)
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    return float(np.dot(np.diff(hits, prepend=0.0), hits / (ends + 1)) / hits[-1])


def confusion_rate(
    name: str, tp: ScoreArray, fp: ScoreArray, tn: ScoreArray, fn: ScoreArray
) -> ScoreArray:
    """One rate by name from counts of any common shape; 0 where its denominator is 0."""

    def ratio(part: ScoreArray, whole: ScoreArray) -> ScoreArray:
        return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)

    if name == "accuracy":
        return ratio(tp + tn, tp + fp + tn + fn)
    if name == "precision":
        return ratio(tp, tp + fp)
    if name == "recall":
        return ratio(tp, tp + fn)
    if name == "specificity":
        return ratio(tn, tn + fp)
    if name == "negative_predictive_value":
        return ratio(tn, tn + fn)
    if name == "f1":
        return ratio(2 * tp, 2 * tp + fp + fn)
    if name == "balanced_accuracy":
        return (ratio(tp, tp + fn) + ratio(tn, tn + fp)) / 2
    if name == "youden":
        return ratio(tp, tp + fn) + ratio(tn, tn + fp) - 1
    if name == "mcc":
        return ratio(
            tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
        )
    if name == "kappa":
        return ratio(2 * (tp * tn - fp * fn), (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))
    raise ValueError(f"unknown rate {name!r}")


def confusion_cells(positive: BoolArray, flagged: BoolArray) -> list[BoolArray]:
    """Masks of true positives, false positives, true negatives, false negatives."""
    return [positive & flagged, ~positive & flagged, ~positive & ~flagged, positive & ~flagged]


def confusion_metrics(
    targets: ArrayLike, scores: ArrayLike, threshold: float = 0.5
) -> ConfusionMetrics:
    """Everything a 2 x 2 table tells at one threshold; positive means score >= threshold.

    Raises:
        ValueError: For NaN, targets other than 0 and 1, or shapes that differ.
    """
    positive = binary_mask(targets)
    values = checked_scores(scores, positive.size)
    cells = confusion_cells(positive, values >= threshold)
    tp, fp, tn, fn = (int(np.count_nonzero(cell)) for cell in cells)
    counts = [np.array(float(count)) for count in (tp, fp, tn, fn)]

    def rate(name: str) -> float:
        return float(confusion_rate(name, *counts))

    return ConfusionMetrics(
        threshold=float(threshold),
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
        accuracy=rate("accuracy"),
        precision=rate("precision"),
        recall=rate("recall"),
        specificity=rate("specificity"),
        negative_predictive_value=rate("negative_predictive_value"),
        f1=rate("f1"),
        balanced_accuracy=rate("balanced_accuracy"),
        mcc=rate("mcc"),
        kappa=rate("kappa"),
    )


def best_threshold(
    targets: ArrayLike, scores: ArrayLike, criterion: str = "youden"
) -> ThresholdChoice:
    """The threshold that is best on these rows: choose it on others than those it is scored on.

    Thresholds lie midway between neighbouring scores. Among equally good ones the widest gap wins
    (the least likely to flip a new row), then the lowest.

    Args:
        targets: 0 and 1, shape (N,), both present.
        scores: Finite numbers, shape (N,).
        criterion: youden (recall + specificity - 1), f1, accuracy, balanced_accuracy or mcc.

    Raises:
        ValueError: For one class only, scores that are not finite, or an unknown criterion.
    """
    known = ("youden", "f1", "accuracy", "balanced_accuracy", "mcc")
    if criterion not in known:
        raise ValueError(f"criterion is {criterion!r}; known: {', '.join(known)}")
    positive, n_positive, n_negative = mask_with_both_classes(targets)
    values = checked_scores(scores, positive.size)
    if not np.isfinite(values).all():
        raise ValueError(f"scores are infinite at row {int(np.argmin(np.isfinite(values)))}")
    order, ends = descending_runs(values)
    # Candidate c calls the c highest distinct scores positive, c = 0 .. all.
    levels = values[order][ends]
    hits = np.concatenate(([0], np.cumsum(positive[order])[ends])).astype(np.float64)
    false_alarms = np.concatenate(([0], ends + 1)) - hits
    value = confusion_rate(
        criterion, hits, false_alarms, n_negative - false_alarms, n_positive - hits
    )
    middles = levels[1:] + (levels[:-1] - levels[1:]) / 2
    middles = np.where(middles > levels[1:], middles, levels[:-1])  # neighbouring floats
    thresholds = np.concatenate(([np.nextafter(levels[0], np.inf)], middles, levels[-1:]))
    gaps = np.concatenate(([0.0], levels[:-1] - levels[1:], [0.0]))
    best = np.flatnonzero(value >= value.max() - 1e-12)  # equal in exact arithmetic
    pick = int(best[np.lexsort((thresholds[best], -gaps[best]))[0]])
    return ThresholdChoice(float(thresholds[pick]), float(value[pick]), criterion)
