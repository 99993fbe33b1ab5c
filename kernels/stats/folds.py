"""Scores inside folds, and their mean over (seed, fold): the headline of a run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.stats.auc import auc_scores
from kernels.stats.checking import (
    IndexArray,
    MetricFunction,
    ScoreArray,
    binary_mask,
    cell_names,
    cell_rows,
    checked_tables,
    score_table,
)
from kernels.stats.metrics import score_metric


def scores_by_cell(
    metric: str | MetricFunction,
    targets: NDArray[np.generic],
    predictions: NDArray[np.generic],
    cells: Sequence[IndexArray],
    names: Sequence[str],
    threshold: float,
) -> list[float]:
    """The score of every cell; a ValueError says in which fold it arose, when there are several."""
    scores: list[float] = []
    for rows, name in zip(cells, names, strict=True):
        try:
            if callable(metric):
                truth, guess = targets[rows].astype(np.float64), predictions[rows]
                scores.append(float(metric(truth, guess.astype(np.float64))))
            else:
                scores.append(score_metric(metric, targets[rows], predictions[rows], threshold))
        except ValueError as error:
            if len(cells) == 1:
                raise
            raise ValueError(f"fold {name}: {error}") from error
    return scores


def fold_auc_scores(
    targets: ArrayLike, scores: ArrayLike, folds: ArrayLike | tuple[ArrayLike, ...]
) -> ScoreArray:
    """AUC inside every fold, shape (folds,), in the sorted order of the labels.

    Args:
        targets: 0 and 1, shape (N,).
        scores: Real numbers, shape (N,).
        folds: Label of every row, or a tuple of label arrays: (seeds, folds).

    Raises:
        ValueError: Naming the fold that holds one class only; as auc_score.
    """
    return fold_scores("auc", targets, scores, folds)


def fold_scores(
    metric: str | MetricFunction,
    targets: ArrayLike,
    predictions: ArrayLike,
    folds: ArrayLike | tuple[ArrayLike, ...],
    threshold: float = 0.5,
) -> ScoreArray:
    """Any metric (name or function) inside every fold; see fold_auc_scores and score_metric."""
    truth, (table,) = checked_tables(targets, predictions)
    cells = cell_rows(folds, len(truth), "folds")
    names = cell_names(folds, cells)
    return np.array(scores_by_cell(metric, truth, table, cells, names, threshold))


def mean_fold_auc(
    targets: ArrayLike, scores: ArrayLike, seeds: ArrayLike, folds: ArrayLike
) -> float:
    """Mean over (seed, fold) of the fold's AUC: the headline, free of offsets between folds.

    All shapes (N,), one row for each (id, seed). Raises as fold_auc_scores.
    """
    return float(fold_auc_scores(targets, scores, (seeds, folds)).mean())


def mean_fold_aucs(
    targets: ArrayLike, score_matrix: ArrayLike, seeds: ArrayLike, folds: ArrayLike
) -> ScoreArray:
    """mean_fold_auc of every column of (N, M), shape (M,), all columns of a fold at once."""
    positive = binary_mask(targets)
    table = score_table(score_matrix, positive.size)
    cells = cell_rows((seeds, folds), positive.size, "seeds and folds")
    total = np.zeros(table.shape[1])
    for rows, name in zip(cells, cell_names((seeds, folds), cells), strict=True):
        try:
            total += auc_scores(positive[rows], table[rows])
        except ValueError as error:
            raise ValueError(f"fold {name}: {error}") from error
    return total / len(cells)


def mean_fold_score(
    metric: str | MetricFunction,
    targets: ArrayLike,
    predictions: ArrayLike,
    seeds: ArrayLike,
    folds: ArrayLike,
    threshold: float = 0.5,
) -> float:
    """Mean over (seed, fold) of any metric, name or function; see mean_fold_auc, score_metric."""
    return float(fold_scores(metric, targets, predictions, (seeds, folds), threshold).mean())
