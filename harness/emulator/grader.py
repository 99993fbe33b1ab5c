"""Scoring a submission against a private solution.

A submission that is wrong in form is an expected outcome with its own error, apart from a bug in
here. Which rows count for the public score is decided once, from the ids alone and a seed, so the
order of the rows does not matter. pandas is imported when something is scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

METRICS = ("auc", "log_loss", "accuracy", "f1", "rmse")
_GREATER_IS_BETTER = {"auc": True, "log_loss": False, "accuracy": True, "f1": True, "rmse": False}
_CLASSIFIES = ("auc", "log_loss", "accuracy", "f1")
_USAGE = "Usage"
_MAX_BINS = 10


class InvalidSubmission(Exception):
    """The submission cannot be scored; the message is for its author."""


class InvalidSolution(Exception):
    """The solution cannot be used."""


@dataclass(frozen=True)
class Scores:
    """The two scores of a submission."""

    public: float
    private: float


def greater_is_better(metric: str) -> bool:
    """Tell which end of a leaderboard is the top."""
    return _GREATER_IS_BETTER[metric]


def check_solution(
    path: Path, id_column: str, targets: Sequence[str], metric: str, seed: str, fraction: float
) -> None:
    """Score the solution against itself, so that a bad one is found when it is added.

    Raises:
        InvalidSolution: Naming what is wrong.
    """
    try:
        truth = _read(path, id_column, targets)
        perfect = _values(truth, targets)
        for name in targets:
            if truth[name].isna().any():
                raise InvalidSubmission(f"missing values in {name!r}")
        public = _public_rows(truth, id_column, targets, metric, seed, fraction)
        _score_parts(truth, perfect, targets, metric, public)
    except (InvalidSubmission, ValueError) as problem:
        raise InvalidSolution(str(problem)) from problem


def score(
    submission: Path,
    solution: Path,
    id_column: str,
    targets: Sequence[str],
    metric: str,
    seed: str,
    fraction: float,
) -> Scores:
    """Score a CSV file.

    Args:
        submission: The file handed in.
        solution: The private answers: the id column, the targets, and maybe a `Usage` column with
            Public and Private.
        id_column: Name of the column that identifies a row.
        targets: Names of the scored columns.
        metric: One of `METRICS`.
        seed: Decides which rows are public.
        fraction: Share of the rows that are public, in (0, 1]; at 1 both scores are the same.

    Raises:
        InvalidSubmission: If columns, ids or values are not as they must be.
    """
    truth = _read(solution, id_column, targets)
    guess = _read(submission, id_column, targets, exact=True)
    _compare_ids(guess[id_column], truth[id_column])
    guess = guess.set_index(id_column).loc[truth[id_column]].reset_index()
    for name in targets:
        missing = guess[name].isna()
        if missing.any():
            row = guess.loc[missing, id_column].iloc[0]
            raise InvalidSubmission(
                f"{int(missing.sum())} missing or non-numeric values in {name!r} (first: {row})"
            )
    public = _public_rows(truth, id_column, targets, metric, seed, fraction)
    return _score_parts(truth, _values(guess, targets), targets, metric, public)


def _read(path: Path, id_column: str, targets: Sequence[str], exact: bool = False) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeError, pd.errors.ParserError) as problem:
        raise InvalidSubmission(f"not a CSV file: {problem}") from problem
    wanted = [id_column, *targets]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise InvalidSubmission(f"missing columns: {', '.join(missing)}")
    extra = [name for name in table.columns if name not in wanted]
    if exact and extra:
        raise InvalidSubmission(f"unexpected columns: {', '.join(map(str, extra))}")
    for name in targets:
        table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def _values(table: pd.DataFrame, targets: Sequence[str]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = table[list(targets)].to_numpy(dtype="float64")
    return values


def _compare_ids(guess: pd.Series[Any], truth: pd.Series[Any]) -> None:
    doubles = guess[guess.duplicated()]
    problems = []
    if len(doubles):
        problems.append(f"{doubles.nunique()} ids more than once (first: {doubles.iloc[0]})")
    missing = truth[~truth.isin(guess)]
    if len(missing):
        problems.append(f"{len(missing)} of {len(truth)} ids missing (first: {missing.iloc[0]})")
    extra = guess[~guess.isin(truth)]
    if len(extra):
        problems.append(f"{len(extra)} unexpected ids (first: {extra.iloc[0]})")
    if problems:
        raise InvalidSubmission("; ".join(problems))


def _public_rows(
    truth: pd.DataFrame,
    id_column: str,
    targets: Sequence[str],
    metric: str,
    seed: str,
    fraction: float,
) -> NDArray[np.bool_]:
    """Mark the public rows: stratified by target, seeded, independent of row order."""
    import numpy as np

    if _USAGE in truth.columns:
        marked: NDArray[np.bool_] = (truth[_USAGE].str.lower() == "public").to_numpy(dtype=bool)
        return marked
    if fraction >= 1:
        return np.ones(len(truth), dtype=bool)
    ranks = np.array([hashlib.sha256(f"{seed}:{x}".encode()).hexdigest() for x in truth[id_column]])
    strata = _strata(truth, targets, metric)
    order = np.lexsort((ranks, strata))
    # Every 1/fraction-th row along the strata: right in proportion even where strata are tiny.
    steps = np.floor(np.arange(len(order) + 1) * fraction + 1e-9)
    public = np.zeros(len(truth), dtype=bool)
    public[order[np.diff(steps) > 0]] = True
    for value in np.unique(strata):
        rows = order[strata[order] == value]
        # Both parts need every class, or their score is not defined.
        if len(rows) > 1 and not public[rows].any():
            public[rows[0]] = True
        elif len(rows) > 1 and public[rows].all():
            public[rows[-1]] = False
    return public


def _strata(truth: pd.DataFrame, targets: Sequence[str], metric: str) -> NDArray[np.int64]:
    import numpy as np

    values = _values(truth, targets)
    if metric not in _CLASSIFIES:
        bins = min(_MAX_BINS, max(1, len(values) // 4))
        order = np.argsort(np.argsort(values[:, 0], kind="stable"), kind="stable")
        binned: NDArray[np.int64] = (order * bins // len(values)).astype(np.int64)
        return binned
    _, codes = np.unique(values, axis=0, return_inverse=True)
    flat: NDArray[np.int64] = codes.reshape(-1).astype(np.int64)
    return flat


def _score_parts(
    truth: pd.DataFrame,
    guess: NDArray[np.float64],
    targets: Sequence[str],
    metric: str,
    public: NDArray[np.bool_],
) -> Scores:
    answers = _values(truth, targets)
    private = public if public.all() else ~public
    return Scores(
        _measure(metric, answers[public], guess[public]),
        _measure(metric, answers[private], guess[private]),
    )


def _measure(metric: str, truth: NDArray[np.float64], guess: NDArray[np.float64]) -> float:
    """Compute a metric; several targets are averaged with equal weight."""
    import numpy as np

    if not np.isfinite(guess).all():
        raise InvalidSubmission("infinite values")
    if metric == "log_loss" and truth.shape[1] > 1 and (truth.sum(axis=1) == 1).all():
        # One class a row: the multi-class loss, its rows scaled to 1 as the service does.
        if guess.min() < 0:
            raise InvalidSubmission("probabilities must not be negative")
        scaled = guess / np.maximum(guess.sum(axis=1, keepdims=True), 1e-15)
        return float(-np.log(np.clip(scaled[truth.astype(bool)], 1e-15, 1.0)).mean())
    results: list[Any] = []
    for column in range(truth.shape[1]):
        answer, given = truth[:, column], guess[:, column]
        if metric == "auc":
            if len(np.unique(answer)) != 2:
                raise ValueError("an AUC needs both classes in the public and the private part")
            results.append(_auc(answer == answer.max(), given))
        elif metric == "log_loss":
            if given.min() < 0 or given.max() > 1:
                raise InvalidSubmission("probabilities must lie in [0, 1]")
            if not np.isin(answer, (0, 1)).all():
                raise ValueError("a log loss needs targets of 0 and 1")
            sure = np.clip(given, 1e-15, 1 - 1e-15)
            results.append(-np.log(np.where(answer == 1, sure, 1 - sure)).mean())
        elif metric == "accuracy":
            results.append((answer == given).mean())
        elif metric == "f1":
            if not np.isin(given, np.unique(answer)).all():
                raise InvalidSubmission("values that are no class of the solution")
            classes = np.unique(np.concatenate([answer, given]))
            if set(np.unique(answer)) <= {0.0, 1.0}:
                classes = np.array([1.0])
            results.append(np.mean([_f1(answer == value, given == value) for value in classes]))
        else:
            results.append(np.sqrt(((answer - given) ** 2).mean()))
    return float(np.mean(results))


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Count the pairs that are in order, ties as halves, by way of the ranks."""
    import numpy as np

    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)]
    hits = int(positive.sum())
    above = ranks[positive].sum() - hits * (hits + 1) / 2
    return float(above / (hits * (len(scores) - hits)))


def _f1(answer: NDArray[np.bool_], given: NDArray[np.bool_]) -> float:
    """Weigh precision and recall of one class; 0 when it is nowhere."""
    marked = int(answer.sum() + given.sum())
    return 2 * int((answer & given).sum()) / marked if marked else 0.0
