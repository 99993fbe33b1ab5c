"""What single rows cost: how much better a score would be if one row alone were predicted right. Pure.

On small data a few rows hold most of what an AUC lacks. They are the films to look at first: a wrong
label, another scanner, a case that nobody can tell, or a shortcut that every member took.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.members import Floats, MemberTable
from harness.scoring import one_column
from kernels.stats.auc import placement_counts
from kernels.stats.folds import mean_fold_score
from kernels.stats.metrics import ROW_METRICS, metric_rows

AUC_METRICS = ("auc", "macro_auc")
MEAN_METRICS = ("log_loss", "multiclass_log_loss", "brier")  # 0 is best, a row's part is its own


@dataclass(frozen=True)
class RowCost:
    """A labelled row and what the members' plain mean loses by it."""

    id: str
    targets: tuple[int, ...]
    cost: float  # of the mean over (seed, fold), > 0: gained if this row alone were placed right
    share: float  # of all that the mean lacks, in (0, 1]; rows that lose to each other overlap
    without: float | None  # the mean's score without this id and the dearer ones; None: undefined
    predictions: tuple[float, ...]  # of the target it loses most by, in the members' order
    ranks: tuple[float, ...]  # the same as ranks inside (seed, fold), in (0, 1]


def has_costs(metric: str) -> bool:
    """Whether a metric's loss can be told apart by rows."""
    return metric in AUC_METRICS or metric in MEAN_METRICS


def auc_losses(positive: NDArray[np.bool_], scores: Floats) -> Floats:
    """AUC gained if a row alone stood on the right side of the other class, both (N,).

    A positive loses the negatives above it, a negative the positives above it, ties by half; the sum
    over either class is 1 - AUC. Zeros where one class is missing.
    """
    n_up = int(np.count_nonzero(positive))
    n_down = positive.size - n_up
    losses: Floats = np.zeros(positive.size)
    if n_up and n_down:
        placed = placement_counts(positive, np.asarray(scores, dtype=np.float64)).sum(axis=0) / 2
        losses = np.where(positive, n_down - placed, n_up - placed) / (n_up * n_down)
    return losses


def cell_losses(metric: str, targets: NDArray[np.int8], blend: Floats) -> Floats:
    """What every row and target of one (seed, fold) costs its score, both (n, T) -> (n, T)."""
    if metric in AUC_METRICS:
        columns = [
            auc_losses(truth == 1, guess) for truth, guess in zip(targets.T, blend.T, strict=True)
        ]
        return np.stack(columns, axis=1) / len(columns)
    if metric in ROW_METRICS:  # a row has one class, and its loss is that class's
        parts = row_values(metric, targets, blend) / len(targets)
        return np.multiply(targets, parts[:, np.newaxis], dtype=np.float64)
    columns = [
        row_values(metric, truth, guess) for truth, guess in zip(targets.T, blend.T, strict=True)
    ]
    return np.stack(columns, axis=1) / targets.size


def row_values(metric: str, targets: NDArray[np.int8], guesses: Floats) -> Floats:
    """What a metric averages, (n,)."""
    values = metric_rows(metric, targets, guesses, threshold=0.5)
    assert values is not None, metric
    return values


def mean_of_members(table: MemberTable, ranks: Floats) -> Floats:
    """The members' plain mean, (N, T): of ranks inside (seed, fold) for an AUC, else of predictions."""
    mean: Floats = (ranks if table.metric in AUC_METRICS else table.predictions).mean(axis=0)
    return mean


def costly_rows(table: MemberTable, ranks: Floats, examples: int) -> tuple[RowCost, ...]:
    """The ids that cost the members' mean most, the dearest first; () for a metric of decisions.

    Args:
        ranks: Ranks inside (seed, fold) of every member and target, (M, N, T).
        examples: How many ids to name at most; those that cost nothing are not named.
    """
    if not has_costs(table.metric) or examples < 1:
        return ()
    blend = mean_of_members(table, ranks)
    losses: Floats = np.concatenate(
        [cell_losses(table.metric, table.targets[rows], blend[rows]) for rows in table.cells]
    ) / len(table.cells)
    # Both sides of an AUC's lost pair carry it whole: the sum counts each twice.
    lacking = float(losses.sum()) / (2 if table.metric in AUC_METRICS else 1)
    codes = table.id_codes
    per_id = np.bincount(codes, weights=losses.sum(axis=1))
    kept = np.ones(len(codes), dtype=np.bool_)
    found = []
    for code in np.argsort(-per_id, kind="stable")[:examples]:
        cost = float(per_id[code])
        if not cost > 0 or not math.isfinite(cost):
            break
        rows = np.flatnonzero(codes == code)  # one a seed
        kept[rows] = False
        column = int(losses[rows].sum(axis=0).argmax())
        found.append(
            RowCost(
                str(table.ids[rows[0]]),
                tuple(int(value) for value in table.targets[rows[0]]),
                cost,
                min(1.0, cost / lacking),
                score_of_rows(table, blend, kept),
                tuple(float(v) for v in table.predictions[:, rows, column].mean(axis=1)),
                tuple(float(v) for v in ranks[:, rows, column].mean(axis=1)),
            )
        )
    return tuple(found)


def score_of_rows(table: MemberTable, blend: Floats, kept: NDArray[np.bool_]) -> float | None:
    """The headline score over some of the rows; None when those of a fold are of one class."""
    try:
        return mean_fold_score(
            table.metric,
            one_column(table.targets[kept]),
            one_column(blend[kept]),
            table.seeds[kept],
            table.folds[kept],
        )
    except ValueError:
        return None
