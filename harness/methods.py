"""The ways of mixing members: what each needs, how its weights are fitted, in which space it adds up.

A method turns predictions into a space (probabilities, ranks inside (seed, fold), logits), adds them
up with weights, and turns the sum back. Only weights are fitted, on whatever rows it is given:
``blending`` decides which. Numpy only, no files.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.members import Floats
from kernels.stats.auc import auc_scores
from kernels.stats.metrics import find_metric, score_metric

QUANTUM = (
    1e12  # predictions are rounded to 1e-12, so that sums of any order are exact and ties stay ties
)

MAX_PICKS = 60
PATIENCE = 10  # picks without a new best after which a climb ends
BAGS = 20
MANY_MEMBERS = 16  # from here on bags leave out members (as in the paper), below that rows
BAG_SEED = 0
RIDGE = 1.0  # the stack's pull towards equal weights, in units of rows
RISE = 1e-12  # a score must rise by more than rounding


@dataclass(frozen=True)
class FitRows:
    """Rows that weights may see: M members in a method's space, T targets, C cells (seed, fold)."""

    metric: str
    targets: np.ndarray  # (n, T)
    predictions: Floats  # (M, n, T)
    cells: tuple[slice, ...]


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


# ---- scores of many candidates -------------------------------------------------------------------


def candidate_scores(
    metric: str, targets: np.ndarray, candidates: Floats, cells: Sequence[slice]
) -> np.ndarray:
    """Mean-fold score of each of (K, n, T) candidates, shape (K,), higher is better.

    AUCs of all candidates of a fold are found in one sort; other metrics one by one.
    """
    total = np.zeros(len(candidates))
    width = targets.shape[1]
    for cell in cells:
        if metric in ("auc", "macro_auc"):
            for column in range(width):
                total += auc_scores(targets[cell, column], candidates[:, cell, column].T) / width
        else:
            truth = targets[cell]
            for index, candidate in enumerate(candidates):
                total[index] += score_metric(metric, truth, candidate[cell])
    mean: np.ndarray = total / len(cells)
    return mean if find_metric(metric).greater_is_better else -mean


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
    return Fitted(
        proportional_weights(
            candidate_scores("macro_auc", rows.targets, rows.predictions, rows.cells)
        )
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
    is_auc = rows.metric in ("auc", "macro_auc")
    members = np.rint(np.asarray(rows.predictions, dtype=np.float64) * QUANTUM)

    def score(candidates: Floats, size: int) -> np.ndarray:
        # Ranks do not change with the divisor, and integers tie exactly.
        given = candidates if is_auc else candidates / (QUANTUM * size)
        return candidate_scores(rows.metric, rows.targets, given, rows.cells)

    single = score(members, 1)
    order = np.argsort(-single, kind="stable")
    total = np.zeros_like(members[0])
    counts = np.zeros(len(members), dtype=np.int64)
    best, best_counts, best_total = -math.inf, counts, total
    path: list[tuple[int, float]] = []
    longest = min(len(order), picks if start is None else start)
    for size, pick in enumerate(order[:longest], 1):
        total = total + members[pick]
        counts[pick] += 1
        value = float(single[pick]) if size == 1 else float(score(total[np.newaxis], size)[0])
        path.append((int(pick), value))
        if value > best + RISE or start is not None:
            best, best_counts, best_total = value, counts.copy(), total
            kept = len(path)
    path = path[:kept]
    counts, total = best_counts.copy(), best_total
    kept, idle = len(path), 0
    while counts.sum() < picks and idle < patience:
        values = score(total + members, int(counts.sum()) + 1)
        pick = int(values.argmax())
        counts[pick] += 1
        total = total + members[pick]
        path.append((pick, float(values[pick])))
        idle += 1
        if values[pick] > best + RISE:
            best, best_counts, kept, idle = float(values[pick]), counts.copy(), len(path), 0
    return Climb(best_counts, best, tuple(path[:kept]))


def fit_hill_climb(rows: FitRows, bags: int = BAGS) -> Fitted:
    """Mean weights of hill climbs over bags.

    With MANY_MEMBERS a bag is a random half of the members, as in the paper. With few, leaving
    members out would mostly weaken the bag: there it is a random half of the rows of every fold.
    """
    count = len(rows.predictions)
    if count == 1:
        return Fitted(np.ones(1))
    rng = np.random.default_rng(BAG_SEED)
    total = np.zeros(count)
    for _ in range(bags):
        if count >= MANY_MEMBERS:
            chosen = np.sort(rng.choice(count, size=(count + 1) // 2, replace=False))
            bag = FitRows(rows.metric, rows.targets, rows.predictions[chosen], rows.cells)
        else:
            chosen = np.arange(count)
            bag = _half_of_rows(rows, rng)
        climb = hill_climb(bag)
        total[chosen] += climb.counts / climb.counts.sum()
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


def is_scorable(metric: str, targets: np.ndarray) -> bool:
    """Whether a metric is defined: an AUC needs both classes of every target."""
    if metric in ("auc", "macro_auc"):
        return bool((targets.min(axis=0) < targets.max(axis=0)).all())
    return metric != "average_precision" or bool(targets.any(axis=0).all())


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
