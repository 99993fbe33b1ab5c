"""Scores of probabilities row by row: log loss, and calibration error over bins."""

import numpy as np
from numpy.typing import ArrayLike

from kernels.stats.checking import (
    ScoreArray,
    binary_mask,
    class_codes,
    probability_array,
    score_vector,
)


def log_loss_rows(targets: ArrayLike, probs: ArrayLike, clip: float) -> ScoreArray:
    """Cross-entropy of every row, shape (N,); see log_loss."""
    table = probability_array(probs)
    if table.ndim == 1:
        positive = binary_mask(targets)
        chosen = np.where(positive, table, 1.0 - score_vector(table, positive.size, "probs"))
    elif table.ndim == 2:
        codes = class_codes(targets, *table.shape)
        totals = table.sum(axis=1)
        if not totals.all():
            raise ValueError(f"probs of row {int(np.argmin(totals))} sum to 0")
        chosen = table[np.arange(len(codes)), codes] / totals
    else:
        raise ValueError(f"probs have shape {table.shape}, not (N,) or (N, K)")
    rows: ScoreArray = -np.log(np.clip(chosen, clip, 1.0 - clip))
    return rows


def log_loss(targets: ArrayLike, probs: ArrayLike, clip: float = 1e-15) -> float:
    """Mean cross-entropy in nats.

    Args:
        targets: 0 and 1, shape (N,); or class numbers 0..K-1 when probs have K columns.
        probs: Probability of class 1, shape (N,); or of every class, shape (N, K): rows are divided
            by their sum, as Kaggle does.
        clip: The probability of the true class is kept inside [clip, 1 - clip].

    Raises:
        ValueError: For probabilities outside [0, 1], NaN, unknown targets or shapes that differ.
    """
    return float(log_loss_rows(targets, probs, clip).mean())


def expected_calibration_error(
    targets: ArrayLike, probs: ArrayLike, n_bins: int = 10, kind: str = "positive"
) -> float:
    """Mean gap between predicted and observed frequency over equal-width bins, weighted by rows.

    Args:
        targets: 0 and 1, shape (N,); or class numbers when probs have K columns.
        probs: Probability of class 1, shape (N,); or of every class, shape (N, K), with kind "top".
        n_bins: Bins ((i - 1) / n_bins, i / n_bins]; 0 falls into the first.
        kind: "positive" compares P(class 1) with the share of positives; "top" the confidence in
            the predicted class with its accuracy (what deep-learning papers call ECE).

    Raises:
        ValueError: For probabilities outside [0, 1], an unknown kind, or shapes that differ.

    Source: Naeini et al. 2015; Guo et al. 2017, eq. 3 (kind "top").
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; at least 1")
    if kind not in ("positive", "top"):
        raise ValueError(f"kind is {kind!r}; known: positive, top")
    table = probability_array(probs)
    if table.ndim == 2:
        if kind != "top":
            raise ValueError("probs have several columns; only kind 'top' is defined for them")
        hits = table.argmax(axis=1) == class_codes(targets, *table.shape)
        confidence: ScoreArray = table.max(axis=1)
    else:
        positive = binary_mask(targets)
        confidence = score_vector(table, positive.size, "probs")
        hits = positive
        if kind == "top":
            hits = positive == (confidence >= 0.5)
            confidence = np.maximum(confidence, 1.0 - confidence)
    edges = np.arange(1, n_bins) / n_bins
    bins = edges.searchsorted(confidence, "left")
    gaps = np.bincount(bins, weights=confidence - hits, minlength=n_bins)
    return float(np.abs(gaps).sum() / confidence.size)
