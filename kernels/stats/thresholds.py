"""Metrics that want decisions (F1, accuracy, ...): thresholds chosen on rows other than those scored.

Each target has a threshold of its own. A decision is 1 where the prediction reaches it.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.stats.checking import IndexArray, ScoreArray, cell_rows, label_codes
from kernels.stats.decisions import best_threshold
from kernels.stats.metrics import find_metric, score_metric

PLAIN_DECISION = 0.5  # where a target's rows are all of one class, nothing can be chosen


def wants_decisions(metric: str) -> bool:
    """Whether a metric is fed 0 and 1 rather than scores or probabilities."""
    return find_metric(metric).needs == "decisions"


def choose_thresholds(metric: str, targets: ArrayLike, probs: ArrayLike) -> tuple[float, ...]:
    """The threshold of each of T targets that scores best on these rows, in [0, 1].

    Args:
        metric: A name that wants_decisions.
        targets: 0 and 1, shape (N,) or (N, T).
        probs: Same shape, in [0, 1].
    """
    truth, guess = _columns(targets), _columns(probs)
    chosen: list[float] = []
    for column in range(truth.shape[1]):
        labels = truth[:, column]
        if len(labels) == 0 or labels.min() == labels.max():
            chosen.append(PLAIN_DECISION)
        else:
            found = best_threshold(labels, guess[:, column], metric).threshold
            chosen.append(min(1.0, max(0.0, found)))
    return tuple(chosen)


def decide(probs: ArrayLike, thresholds: tuple[float, ...]) -> ScoreArray:
    """0.0 and 1.0 in the shape of ``probs``, (N,) or (N, T)."""
    guess = np.asarray(probs, dtype=np.float64)
    limits = thresholds[0] if guess.ndim == 1 else np.array(thresholds)
    decided: ScoreArray = (guess >= limits).astype(np.float64)
    return decided


def nested_decisions(
    metric: str,
    targets: ArrayLike,
    probs: ArrayLike,
    seeds: ArrayLike,
    folds: ArrayLike,
    units: ArrayLike | None = None,
) -> ScoreArray:
    """Decisions for every (seed, fold) by thresholds of the rows outside of it.

    Args:
        metric: As choose_thresholds; also targets and probs.
        seeds: Seed of every row, shape (N,).
        folds: Fold of every row, shape (N,).
        units: Id or group of every row: a fold's thresholds see no row of its units, in any seed.
            None: rows are independent.
    """
    truth, guess = np.asarray(targets), np.asarray(probs, dtype=np.float64)
    n_rows = len(truth)
    codes: IndexArray = np.arange(n_rows) if units is None else label_codes(units, n_rows, "units")
    decided = np.empty(guess.shape)
    for rows in cell_rows((seeds, folds), n_rows, "seeds and folds"):
        inside = np.zeros(int(codes.max()) + 1, dtype=np.bool_)
        inside[codes[rows]] = True
        others = ~inside[codes]
        decided[rows] = decide(guess[rows], choose_thresholds(metric, truth[others], guess[others]))
    return decided


def best_decision_score(metric: str, targets: ArrayLike, probs: ArrayLike) -> float:
    """The metric at the thresholds that are best on these very rows: for comparing candidates."""
    thresholds = choose_thresholds(metric, targets, probs)
    return score_metric(metric, targets, decide(probs, thresholds))


def _columns(values: ArrayLike) -> NDArray[np.generic]:
    """(N,) as (N, 1)."""
    array: NDArray[np.generic] = np.asarray(values)
    return array[:, np.newaxis] if array.ndim == 1 else array
