"""The ways of mixing members: what each needs, how its weights are fitted, in which space it adds up.

A method turns predictions into a space (probabilities, ranks inside (seed, fold), logits), adds them
up with weights, and turns the sum back. Only weights are fitted, on whatever rows it is given:
``blending`` decides which. Numpy only, no files.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.candidates import (
    FitRows,
    SumsInOrder,
    SumsOfPredictions,
    can_be_ordered,
    candidate_scores,
    is_scorable,
    shape_of,
)
from kernels.stats.metrics import find_metric

MAX_PICKS = 60
PATIENCE = 10  # picks without a new best after which a climb ends
BAGS = 20
MANY_MEMBERS = 16  # from here on bags leave out members (as in the paper), below that rows
BAG_SEED = 0
BATCH_VALUES = 2_000_000  # predictions of the bags that climb together: 16 MB
RIDGE = 1.0  # the stack's pull towards equal weights, in units of rows
RISE = 1e-12  # a score must rise by more than rounding


@dataclass(frozen=True)
class Fitted:
    """Weights (M,) in a method's space, an intercept, and how they came about."""

    weights: np.ndarray
    intercept: float = 0.0
    steps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """A way of mixing. ``space`` is prob, rank or logit; the stack and logit-mean end in a sigmoid."""

    name: str
    space: str
    fit: Callable[[FitRows], Fitted]
    text: str  # one sentence for --explain
    is_fitted: bool = True  # False: weights do not depend on labels


# ---- weights -------------------------------------------------------------------------------------


def proportional_weights(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Weights auc / sum(auc), shape (M,). Source: the ensemble write-up."""
    values = np.asarray(scores, dtype=float)
    weights: np.ndarray = values / values.sum()
    return weights


def fit_equal(rows: FitRows) -> Fitted:
    """Equal weights: nothing is fitted."""
    count = len(rows.predictions)
    return Fitted(np.full(count, 1 / count))


def fit_by_auc(rows: FitRows) -> Fitted:
    """Weights proportional to AUC (the mean over targets), whatever the competition's metric."""
    cells = tuple(cell for cell in rows.cells if is_scorable("auc", rows.targets[cell]))
    if not cells:  # a rare class: no fold ranks anything
        return fit_equal(rows)
    return Fitted(
        proportional_weights(candidate_scores("macro_auc", rows.targets, rows.predictions, cells))
    )


def fit_best(rows: FitRows) -> Fitted:
    """All weight on the member that scores best on these rows; the first of equals."""
    scores = candidate_scores(rows.metric, rows.targets, rows.predictions, rows.cells)
    weights = np.zeros(len(scores))
    weights[int(scores.argmax())] = 1.0
    return Fitted(weights)


@dataclass(frozen=True)
class Climb:
    """A hill climb: how often each member was picked, the score, and the path."""

    counts: np.ndarray  # (M,)
    score: float
    path: tuple[tuple[int, float], ...]  # member picked, score with it


def hill_climb(
    rows: FitRows,
    picks: int = MAX_PICKS,
    patience: int = PATIENCE,
    start: int | None = None,
) -> Climb:
    """Greedy forward selection with replacement from a sorted start.

    The start is the best few members by their own score, as many as score best together. Then the
    member that helps most is added again and again; the best ensemble on the way is kept, the
    smallest of equals.

    Args:
        rows: What is scored. For an AUC, sums are compared; for other metrics, means.
        picks: Most members picked, counting repeats.
        patience: Picks without a new best after which it ends.
        start: Size of the start; None tries every size. 1 is plain greedy selection.

    Source: Caruana et al. 2004, "Ensemble selection from libraries of models", sections 2.1 to 2.3.
    """
    return hill_climbs([rows], picks, patience, start)[0]


def hill_climbs(
    bags: Sequence[FitRows],
    picks: int = MAX_PICKS,
    patience: int = PATIENCE,
    start: int | None = None,
) -> list[Climb]:
    """hill_climb of every bag; bags of one shape climb together, as many as memory allows."""
    climbs: list[Climb | None] = [None] * len(bags)
    alike: dict[Any, list[int]] = {}
    for index, rows in enumerate(bags):
        if can_be_ordered(rows, picks):
            alike.setdefault(shape_of(rows), []).append(index)
        else:
            climbs[index] = _climb_together(SumsOfPredictions(rows), picks, patience, start)[0]
    for indices in alike.values():
        step = max(1, BATCH_VALUES // bags[indices[0]].predictions.size)
        for first in range(0, len(indices), step):
            some = indices[first : first + step]
            sums = SumsInOrder([bags[index] for index in some])
            for index, climb in zip(
                some, _climb_together(sums, picks, patience, start), strict=True
            ):
                climbs[index] = climb
    return [climb for climb in climbs if climb is not None]


def _climb_together(
    sums: SumsInOrder | SumsOfPredictions, picks: int, patience: int, start: int | None
) -> list[Climb]:
    """The climbs of B bags, step by step side by side."""
    members = sums.members
    n_bags, count = members.shape[:2]
    single = sums.score(sums.empty[:, np.newaxis] + members, np.ones((n_bags, count)))
    order = np.argsort(-single, axis=1, kind="stable")
    longest = min(count, picks if start is None else start)
    totals, counts = sums.empty.copy(), np.zeros((n_bags, count), dtype=np.int64)
    best, best_counts = np.empty(n_bags), counts.copy()
    paths: list[list[tuple[int, float]]] = []
    kept = np.empty(n_bags, dtype=np.int64)
    for bag in range(n_bags):
        firsts = sums.empty[bag] + np.cumsum(members[bag, order[bag, :longest]], axis=0)
        values = sums.score(firsts[np.newaxis], np.arange(1, longest + 1)[np.newaxis])[0]
        size = longest if start is not None else first_best(values)
        kept[bag] = size
        paths.append([(int(order[bag, i]), float(values[i])) for i in range(size)])
        best[bag], totals[bag] = values[size - 1], firsts[size - 1]
        counts[bag, order[bag, :size]] = 1
        best_counts[bag] = counts[bag]
    idle = np.zeros(n_bags, dtype=np.int64)
    while True:
        sizes = counts.sum(axis=1)
        climbing = np.flatnonzero((sizes < picks) & (idle < patience))
        if not climbing.size:
            break
        candidates = totals[climbing, np.newaxis] + members[climbing]
        given = np.repeat(sizes[climbing, np.newaxis] + 1, count, axis=1)
        scores = sums.score(candidates, given)
        chosen = scores.argmax(axis=1)
        for row, (number, pick) in enumerate(zip(climbing, chosen, strict=True)):
            bag = int(number)
            totals[bag] = candidates[row, pick]
            counts[bag, pick] += 1
            value = float(scores[row, pick])
            paths[bag].append((int(pick), value))
            idle[bag] += 1
            if value > best[bag] + RISE:
                best[bag], best_counts[bag] = value, counts[bag]
                kept[bag], idle[bag] = len(paths[bag]), 0
    return [
        Climb(best_counts[bag], float(best[bag]), tuple(paths[bag][: kept[bag]]))
        for bag in range(n_bags)
    ]


def first_best(values: np.ndarray) -> int:
    """How many firsts score best together: the fewest of those that are equal but for rounding."""
    best, kept = -math.inf, 1
    for index, value in enumerate(values.tolist()):
        if value > best + RISE:
            best, kept = value, index + 1
    return kept


def fit_hill_climb(rows: FitRows, bags: int | None = None) -> Fitted:
    """Mean weights of hill climbs over bags.

    With MANY_MEMBERS a bag is a random half of the members, as in the paper. With few, leaving
    members out would mostly weaken the bag: there it is a random half of the rows of every fold.

    Args:
        bags: How many; None takes BAGS.
    """
    bags = BAGS if bags is None else bags
    count = len(rows.predictions)
    if count == 1:
        return Fitted(np.ones(1))
    rng = np.random.default_rng(BAG_SEED)
    total = np.zeros(count)
    chosen = [np.arange(count)] * bags
    if count >= MANY_MEMBERS:
        chosen = [
            np.sort(rng.choice(count, size=(count + 1) // 2, replace=False)) for _ in range(bags)
        ]
    # One batch of bags in memory at a time, the rows of all of them never.
    step = max(1, BATCH_VALUES // (rows.predictions.size // 2 or 1))
    for first in range(0, bags, step):
        some = chosen[first : first + step]
        if count >= MANY_MEMBERS:
            drawn = [
                FitRows(rows.metric, rows.targets, rows.predictions[names], rows.cells)
                for names in some
            ]
        else:
            drawn = [_half_of_rows(rows, rng) for _ in some]
        for names, climb in zip(some, hill_climbs(drawn), strict=True):
            total[names] += climb.counts / climb.counts.sum()
    whole = hill_climb(rows)
    path = ", ".join(f"{pick}:{value:.4f}" for pick, value in whole.path)
    return Fitted(total / bags, steps=(f"without bags it would pick (member:score) {path}",))


def _half_of_rows(rows: FitRows, rng: np.random.Generator) -> FitRows:
    """Half of each class in every cell (of the first target), at least one row of each."""
    kept: list[np.ndarray] = []
    cells: list[slice] = []
    start = 0
    for cell in rows.cells:
        labels = rows.targets[cell, 0]
        part = [
            rng.permutation(found)[: (len(found) + 1) // 2]
            for found in (np.flatnonzero(labels == value) for value in np.unique(labels))
        ]
        inside = np.sort(np.concatenate(part)) + cell.start
        if not is_scorable(rows.metric, rows.targets[inside]):
            inside = np.arange(cell.start, cell.stop)  # a rare class of another target was lost
        kept.append(inside)
        cells.append(slice(start, start + len(inside)))
        start += len(inside)
    chosen = np.concatenate(kept)
    return FitRows(rows.metric, rows.targets[chosen], rows.predictions[:, chosen], tuple(cells))


def fit_stack(rows: FitRows, ridge: float = RIDGE) -> Fitted:
    """Logistic regression on logits with weights >= 0, pulled towards equal weights that sum to 1.

    Minimises the summed log loss + ridge / 2 * |w - 1/M|^2 by projected Newton steps; the intercept
    is free. Several targets share the weights.

    Raises:
        ValueError: When it does not converge, which a convex problem should never do.
    """
    count = len(rows.predictions)
    logits = np.asarray(rows.predictions, dtype=np.float64).reshape(count, -1)  # (M, n * T)
    truth = rows.targets.reshape(-1).astype(np.float64)
    n_rows = truth.size
    equal = 1 / count
    design = np.vstack((logits, np.ones(n_rows)))
    solution = np.append(np.full(count, equal), 0.0)
    pull = np.append(np.full(count, ridge), 1e-8)
    centre = np.append(np.full(count, equal), 0.0)

    def loss(at: np.ndarray) -> float:
        margin = at @ design
        gap = at - centre
        return float(np.logaddexp(0.0, margin).sum() - margin @ truth + 0.5 * (pull * gap) @ gap)

    value = loss(solution)
    for _ in range(200):
        probs = 0.5 + 0.5 * np.tanh(0.5 * (solution @ design))
        gradient = design @ (probs - truth) + pull * (solution - centre)
        bound = (solution <= 0.0) & (gradient > 0.0)
        bound[-1] = False
        free = np.flatnonzero(~bound)
        if np.abs(gradient[free]).max() <= 1e-7 * n_rows:
            break
        inside = design[free]
        hessian = (inside * (probs * (1 - probs))) @ inside.T + np.diag(pull[free])
        step = np.zeros_like(solution)
        step[free] = np.linalg.solve(hessian, -gradient[free])
        size = 1.0
        while size > 1e-10:
            trial = solution + size * step
            trial[:-1] = np.maximum(trial[:-1], 0.0)
            reached = loss(trial)
            if reached <= value + 1e-4 * float(gradient @ (trial - solution)):
                break
            size /= 2
        else:
            break  # no descent left beyond rounding
        if value - reached <= 1e-12 * max(1.0, abs(value)):
            solution, value = trial, reached
            break
        solution, value = trial, reached
    else:
        raise ValueError("the stack did not converge in 200 steps")
    note = (
        f"intercept {solution[-1]:+.4f}, log loss {value / n_rows:.4f} on the rows it was fitted on"
    )
    return Fitted(solution[:-1].copy(), float(solution[-1]), (note,))


# ---- the list ------------------------------------------------------------------------------------

EQUAL_RANKS = Method(
    "rank-mean",
    "rank",
    fit_equal,
    "equal mean of percentile ranks inside each (seed, fold); nothing is fitted",
    is_fitted=False,
)
EQUAL_LOGITS = Method(
    "logit-mean",
    "logit",
    fit_equal,
    "equal mean of logits (a geometric mean of odds); nothing is fitted",
    is_fitted=False,
)
EQUAL_PROBS = Method(
    "mean", "prob", fit_equal, "equal mean of predictions; nothing is fitted", is_fitted=False
)
BY_AUC = Method(
    "auc-weights",
    "prob",
    fit_by_auc,
    "mean of probabilities with weights proportional to AUC: near 1 a plain mean",
)
BEST_SINGLE = Method("best-single", "prob", fit_best, "the best member by itself: no blend")
CLIMB_RANKS = Method(
    "hill-climb",
    "rank",
    fit_hill_climb,
    "ensemble selection on ranks: sorted start, replacement, bagging (Caruana 2004)",
)
CLIMB_PROBS = Method(
    "hill-climb",
    "prob",
    fit_hill_climb,
    "ensemble selection on probabilities: sorted start, replacement, bagging (Caruana 2004)",
)
STACK = Method(
    "stack",
    "logit",
    fit_stack,
    "non-negative logistic regression on logits, pulled towards equal weights",
)

METHOD_NAMES = ("auc-weights", "rank-mean", "logit-mean", "hill-climb", "stack")


def methods_for(metric: str) -> tuple[Method, ...]:
    """Methods for a metric from the simplest to the least simple, the order in which auto prefers them.

    Metrics that want probabilities have no use for ranks: their baseline is the plain mean.
    """
    if find_metric(metric).needs == "scores":
        return (EQUAL_RANKS, EQUAL_LOGITS, BY_AUC, BEST_SINGLE, CLIMB_RANKS, STACK)
    return (EQUAL_PROBS, EQUAL_LOGITS, BY_AUC, BEST_SINGLE, CLIMB_PROBS, STACK)


def find_method(name: str, metric: str) -> Method:
    """A method by name; rank-mean stands for the plain mean where ranks are of no use.

    Raises:
        ValueError: Naming the known ones.
    """
    known = methods_for(metric)
    for method in known:
        if method.name == name or (name in ("rank-mean", "mean") and method is known[0]):
            return method
    raise ValueError(f"unknown method {name!r}; known: {', '.join(m.name for m in known)}, auto")
