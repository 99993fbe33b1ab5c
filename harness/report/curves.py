"""Points of the curves a report draws, from out-of-fold predictions. Pure; numpy only.

Rows of all folds are pooled: a curve needs one threshold axis. Scores beside the curves are means over
folds; offsets between folds' models make the two differ a little.
"""

from dataclasses import dataclass

import numpy as np

CURVE_POINTS = 60  # the eye tells no more of them apart at a phone's width
BINS = 10

Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curves:
    """What one target's predictions draw. Calibration: (mean prediction, observed share, rows) a bin."""

    roc: Curve
    pr: Curve
    calibration: tuple[tuple[float, float, int], ...]
    positives: int
    rows: int


def curves_of(targets: np.ndarray, probs: np.ndarray) -> Curves | None:
    """Curves of one target, shapes (N,); None when only one class is there."""
    positive = np.asarray(targets) == 1
    rows, positives = len(positive), int(positive.sum())
    if not 0 < positives < rows:
        return None
    order = np.argsort(-probs, kind="stable")
    values, hits = probs[order], positive[order]
    ends = np.append(np.flatnonzero(np.diff(values) != 0), rows - 1)  # ties share a point
    true = np.cumsum(hits)[ends]
    false = ends + 1 - true
    recall, fall_out = true / positives, false / (rows - positives)
    precision = true / (ends + 1)
    return Curves(
        roc=_points(np.append(0.0, fall_out), np.append(0.0, recall)),
        pr=_points(recall, precision),
        calibration=calibration_bins(positive, probs),
        positives=positives,
        rows=rows,
    )


def _points(x: np.ndarray, y: np.ndarray) -> Curve:
    """At most CURVE_POINTS of a curve, spread evenly along its length, both ends kept."""
    if len(x) > CURVE_POINTS:
        length = np.append(0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
        wanted = np.linspace(0.0, length[-1], CURVE_POINTS)
        rows = np.unique(np.append(np.searchsorted(length, wanted[:-1]), len(x) - 1))
        x, y = x[rows], y[rows]
    return tuple((round(float(a), 4), round(float(b), 4)) for a, b in zip(x, y, strict=True))


def calibration_bins(
    positive: np.ndarray, probs: np.ndarray
) -> tuple[tuple[float, float, int], ...]:
    """(mean prediction, observed share, rows) of BINS equal bins of [0, 1]; empty bins are left out."""
    number = np.minimum((probs * BINS).astype(int), BINS - 1)
    found = []
    for index in range(BINS):
        inside = number == index
        if inside.any():
            found.append(
                (float(probs[inside].mean()), float(positive[inside].mean()), int(inside.sum()))
            )
    return tuple(found)
