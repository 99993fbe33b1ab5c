"""Blending: who takes part, the weights, and what the blend is worth. Pure.

Scores are recomputed from out-of-fold predictions. A blend's own score is nested: who is dropped
and the weights that mix a fold are decided on rows of other ids (or groups) than the fold's, in
every seed. What stays inside it, as in any stacking, is that the members' other folds were trained
with this fold's labels. It is reported beside the best member and the equal mean of ranks with
paired intervals, because a blend can lose.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from harness.candidates import FitRows, candidate_scores, is_scorable
from harness.errors import BlendError
from harness.members import Floats, MemberTable, higher_is_better, line_up, metric_of
from harness.methods import (
    Fitted,
    Method,
    find_method,
    methods_for,
    proportional_weights,
)
from harness.outputs import RunOutputs
from harness.records import Run, RunState
from harness.scoring import Evidence, Gain, Score
from kernels.config import Competition
from kernels.contract import FOLD_COLUMN, ID_COLUMN, PREDICTION_PREFIX, SEED_COLUMN
from kernels.stats.metrics import find_metric
from kernels.stats.spaces import from_space, to_space
from kernels.stats.thresholds import choose_thresholds, decide, wants_decisions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Blend", "Gain", "Member", "Recipe", "Score", "blend_members", "proportional_weights"]

DEFAULT_MARGIN = 0.05  # for AUC-like metrics: members further below the best are dropped, by name
FIT_ROWS = 200_000  # weights are fitted on at most this many rows, evenly spaced; all are scored

Progress = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """A run or import that takes part in a blend."""

    run_id: str
    score: Score
    weight: float
    imported: bool = False


@dataclass(frozen=True)
class Recipe:
    """All that is needed, besides the members' files, to make the test predictions again."""

    method: str
    space: str  # prob, rank or logit
    weights: tuple[tuple[str, float], ...]  # member and weight, sorted by member
    intercept: float = 0.0
    thresholds: tuple[float, ...] = ()  # of each target, where the metric wants decisions


@dataclass(frozen=True)
class MethodResult:
    """What one method is worth on rows that its weights were not fitted on."""

    method: Method
    score: Score
    versus_best: Gain  # against the best single member
    versus_rank_mean: Gain  # against the equal mean
    fitted: Fitted  # on all rows: what the test predictions get
    in_sample: float  # its score on the rows it was fitted on, which flatters
    fold_weights: tuple[tuple[float, ...], ...]  # per (seed, fold)
    thresholds: tuple[float, ...] = ()  # chosen on all rows, where the metric wants decisions
    nested: Floats = field(repr=False, default_factory=lambda: np.empty((0, 0)))


@dataclass(frozen=True)
class Blend:
    """Members, weights, and what the blend scores."""

    method: str
    asked: str  # the method that was asked for: auto, or the same
    members: tuple[Member, ...]
    dropped: tuple[tuple[str, str], ...]  # run id, reason
    score: Score  # nested: weights fitted on other ids than those scored
    rank_mean: Score  # the equal mean, the baseline that needs no weights
    versus_best: Gain
    versus_rank_mean: Gain
    recipe: Recipe
    results: tuple[MethodResult, ...]  # every method that was scored
    explanation: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metric: str = "auc"

    @property
    def best(self) -> Member:
        """The member with the best score."""
        sign = 1 if find_metric(self.metric).greater_is_better else -1
        return max(self.members, key=lambda member: sign * member.score.mean_fold)

    @property
    def chosen(self) -> MethodResult:
        """The result of the method that was used."""
        return next(item for item in self.results if item.method.name == self.method)


def eligible_runs(
    runs: Sequence[Run], competition: str, profile: str, blendable: set[str]
) -> list[Run]:
    """The newest complete, verified, all-folds run of each (strategy, tag) of one profile.

    As-written, single-fold and other-profile runs take part only when named.

    Args:
        runs: Oldest first.
        blendable: Names of strategies that say ``in_blend``.
    """
    newest: dict[tuple[str, str], Run] = {}
    for run in runs:
        fits = (
            run.competition == competition
            and run.state is RunState.COMPLETE
            and run.score_mean_fold is not None
            and run.spec.is_comparable()
            and run.spec.profile == profile
            and run.spec.strategy in blendable
        )
        if fits:
            newest[(run.spec.strategy, run.spec.tag)] = run
    return list(newest.values())


def score_run(outputs: RunOutputs, competition: Competition) -> Score:
    """A single run's score, computed from its out-of-fold predictions."""
    table = line_up([outputs], competition, 1, allow_shared_ids=True)
    return scored(lambda: Evidence(table).score(outputs.run_id, table.predictions[0]))


def scored(compute: Callable[[], T]) -> T:
    """Run a computation; what stats refuses (a fold of one class) becomes a BlendError."""
    try:
        return compute()
    except ValueError as error:
        raise BlendError(
            f"These members cannot be scored: {error}.",
            "Every fold needs rows of both classes: use fewer folds or more rows.",
        ) from error


# ---- the floor -----------------------------------------------------------------------------------


def apply_floor(
    scores: Mapping[str, float], competition: Competition, floor: float | None
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Names that stay, best first, and (name, reason) of those that go.

    Args:
        floor: The worst score that stays. None: DEFAULT_MARGIN below the best for metrics between 0
            and 1 that rank (AUCs, average precision), no floor for others, whose scale is unknown.

    Raises:
        BlendError: Nobody is left.
    """
    sign = 1 if higher_is_better(competition) else -1
    order = sorted(scores, key=lambda name: (-sign * scores[name], name))
    limit = floor_limit(metric_of(competition), scores[order[0]], floor)
    if limit is None:
        return order, ()
    word = "below the floor" if sign > 0 else "above the limit"
    kept = [name for name in order if sign * scores[name] >= sign * limit]
    dropped = tuple(
        (name, f"scores {scores[name]:.4f}, {word} of {limit:.4f}")
        for name in order
        if name not in kept
    )
    if not kept:
        raise BlendError(
            f"Every member scores {word} of {limit:.4f}.",
            "Lower --floor." if sign > 0 else "Raise --floor.",
        )
    return kept, dropped


def floor_limit(metric: str, best: float, floor: float | None) -> float | None:
    """The worst score that stays beside the best one; None: no floor. See apply_floor."""
    if floor is None and find_metric(metric).needs == "scores":
        return best - DEFAULT_MARGIN
    return floor


def members_left(rows: FitRows, floor: float | None) -> np.ndarray:
    """Whom the floor leaves when it sees these rows only: bool, shape (M,), the best one at least."""
    scores = candidate_scores(rows.metric, rows.targets, rows.predictions, rows.cells)
    sign = 1 if find_metric(rows.metric).greater_is_better else -1
    limit = floor_limit(rows.metric, sign * float(scores.max()), floor)
    if limit is None:
        return np.ones(len(scores), dtype=bool)
    left: np.ndarray = scores >= min(sign * limit, float(scores.max()))
    return left


def can_drop(metric: str, floor: float | None) -> bool:
    """Whether a floor may drop anybody; if not, nobody needs to be scored for it."""
    sign = 1 if find_metric(metric).greater_is_better else -1
    limit = floor_limit(metric, 0.0, floor)
    return limit is not None and sign * limit > -np.inf


# ---- nested scores -------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """What weights may be fitted on, and whom the floor leaves when it sees only that.

    rows: Places in the table, thinned evenly to FIT_ROWS; none: nothing to fit on.
    cells: Their (seed, fold) parts. Cells on which the metric is not defined are left out.
    left: bool, shape (M,).
    """

    rows: np.ndarray
    cells: tuple[slice, ...]
    left: np.ndarray


def view_of_all(table: MemberTable, left: np.ndarray) -> View:
    """Every row: what the weights of the test predictions are fitted on."""
    return View(*_cells_of(table, np.arange(len(table.seeds))), left)


def views_outside(table: MemberTable, floor: float | None, left: np.ndarray) -> tuple[View, ...]:
    """For every (seed, fold) of the table, the rows whose id (or group) does not occur in it.

    Args:
        floor: See apply_floor; it is applied anew to each view's rows.
        left: Whom it leaves on all rows: the answer where there are no rows outside, or no floor.
    """
    views = []
    for cell in table.cells:
        inside = np.zeros(int(table.units.max()) + 1, dtype=bool)
        inside[table.units[cell]] = True
        rows, cells = _cells_of(table, np.flatnonzero(~inside[table.units]))
        view = View(rows, cells, left)
        if cells and can_drop(table.metric, floor):
            outside = FitRows(table.metric, table.targets[rows], table.predictions[:, rows], cells)
            view = replace(view, left=members_left(outside, floor))
        views.append(view)
    return tuple(views)


def _cells_of(table: MemberTable, rows: np.ndarray) -> tuple[np.ndarray, tuple[slice, ...]]:
    if len(rows) > FIT_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, FIT_ROWS).astype(np.int64)]
    change = (np.diff(table.seeds[rows]) != 0) | (np.diff(table.folds[rows]) != 0)
    parts = np.split(rows, np.flatnonzero(change) + 1) if len(rows) else []
    parts = [part for part in parts if is_scorable(table.metric, table.targets[part])]
    edges = np.cumsum([0, *(len(part) for part in parts)])
    cells = tuple(slice(int(a), int(b)) for a, b in pairwise(edges))
    return (np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)), cells


def fit(table: MemberTable, space: Floats, method: Method, view: View) -> Fitted:
    """Weights (M,) of a method, from the rows of a view.

    Members that the floor does not leave weigh nothing. Without rows (a single fold) the others
    count alike.
    """
    takes_part = np.flatnonzero(view.left)
    if method.is_fitted and len(takes_part) > 1 and view.cells:
        seen = space[np.ix_(takes_part, view.rows)]
        fitted = method.fit(FitRows(table.metric, table.targets[view.rows], seen, view.cells))
    else:
        fitted = Fitted(np.full(len(takes_part), 1 / len(takes_part)))
    weights = np.zeros(len(space))
    weights[takes_part] = fitted.weights
    return replace(fitted, weights=weights)


def mix(space: Floats, fitted: Fitted, rows: slice, name: str) -> Floats:
    """Predictions (n, T) of some rows: the weighted sum, back from its space."""
    total = np.full(space[0, rows].shape, fitted.intercept)
    for weight, member in zip(fitted.weights, space, strict=True):
        if weight != 0.0:
            total += weight * member[rows]
    return from_space(total, name)


def space_of(table: MemberTable, space: str) -> Floats:
    """All members in a method's space, (M, N, T), in the table's precision."""
    if space == "prob":
        return table.predictions
    made = np.empty_like(table.predictions)
    for index, member in enumerate(table.predictions):
        made[index] = to_space(member, space, table.seeds, table.folds)
    return made


def nested_predictions(
    table: MemberTable, space: Floats, method: Method, views: Sequence[View]
) -> tuple[Floats, tuple[tuple[float, ...], ...]]:
    """Every row mixed with weights from other ids, and the weights of every (seed, fold).

    Args:
        views: See views_outside.
    """
    mixed = np.empty(table.targets.shape)
    weights: list[tuple[float, ...]] = []
    for cell, view in zip(table.cells, views, strict=True):
        fitted = fit(table, space, method, view)
        mixed[cell] = mix(space, fitted, cell, method.space)
        weights.append(tuple(float(value) for value in fitted.weights))
    return mixed, tuple(weights)


def score_methods(
    table: MemberTable,
    methods: Sequence[Method],
    evidence: Evidence,
    kept: Sequence[str],
    floor: float | None = None,
    progress: Progress | None = None,
) -> list[MethodResult]:
    """Nested score of every method, with paired gains over the best member and the equal mean.

    Args:
        kept: Who takes part in the blend, the best first; the floor is applied anew for each
            (seed, fold), on the rows outside of it.
        floor: See apply_floor.
    """
    left = np.isin(table.names, kept)
    outside, whole_view = views_outside(table, floor, left), view_of_all(table, left)
    baseline = methods_for(table.metric)[0]
    everything = slice(0, len(table.seeds))
    if baseline not in methods:
        methods = [baseline, *methods]
    mixed: dict[str, Floats] = {}
    made: dict[str, tuple[Fitted, Floats, tuple[tuple[float, ...], ...]]] = {}
    # One space at a time is in memory beside the table.
    for name in dict.fromkeys(method.space for method in methods):
        space = space_of(table, name)
        for method in (item for item in methods if item.space == name):
            if progress is not None and table.predictions.size > 1_000_000:
                progress(f"{method.name}: fitting and scoring {len(table.cells) + 1} times")
            nested, weights = nested_predictions(table, space, method, outside)
            fitted = fit(table, space, method, whole_view)
            whole = mix(space, fitted, everything, name)
            mixed[method.name], made[method.name] = nested, (fitted, whole, weights)
    results = []
    decides = wants_decisions(table.metric)
    for method in methods:
        nested = mixed[method.name]
        fitted, whole, weights = made[method.name]
        key = f"method {method.name}"
        score = evidence.score(key, nested)
        results.append(
            MethodResult(
                method,
                score,
                evidence.gain(key, nested, f"member {kept[0]}", table.member(kept[0])),
                evidence.gain(key, nested, f"method {baseline.name}", mixed[baseline.name]),
                fitted,
                evidence.estimate(whole),
                weights,
                choose_thresholds(table.metric, table.targets, whole) if decides else (),
                nested,
            )
        )
    return results


def choose_automatically(
    results: Sequence[MethodResult], evidence: Evidence
) -> tuple[MethodResult, tuple[str, ...]]:
    """The simplest method within one standard error of the best, and why.

    The standard error is that of the paired difference to the best method, on nested predictions.
    Methods come from the simplest to the least simple.
    """
    sign = evidence.sign
    best = max(results, key=lambda item: sign * item.score.mean_fold)
    lines = [f"best nested score: {best.method.name} {best.score.mean_fold:.4f}"]
    for item in results:
        if item is best:
            lines.append(f"{item.method.name} is the simplest within one standard error: itself")
            return item, tuple(lines)
        gap = evidence.gain(
            f"method {best.method.name}", best.nested, f"method {item.method.name}", item.nested
        )
        inside = gap.gain <= gap.standard_error
        lines.append(
            f"{item.method.name} {item.score.mean_fold:.4f}: {gap.gain:.5f} behind, one standard error "
            f"of that is {gap.standard_error:.5f}: {'good enough' if inside else 'not enough'}"
        )
        if inside:
            return item, tuple(lines)
    raise AssertionError("the best method is one of the results")


# ---- the blend -----------------------------------------------------------------------------------


def blend_members(
    table: MemberTable,
    competition: Competition,
    method: str = "auc-weights",
    floor: float | None = None,
    every_method: bool = False,
    progress: Progress | None = None,
) -> Blend:
    """Blend members by a method, with what it is worth.

    Args:
        method: A name of METHOD_NAMES, best-single, or auto.
        floor: See apply_floor.
        every_method: Score every method, not only the one asked for.

    Raises:
        BlendError: An unknown method, nobody left, or members that cannot be scored.
    """
    return scored(lambda: _blend(table, competition, method, floor, every_method, progress))


def _blend(
    table: MemberTable,
    competition: Competition,
    method: str,
    floor: float | None,
    every_method: bool,
    progress: Progress | None,
) -> Blend:
    known = methods_for(table.metric)
    if method != "auto":
        try:
            asked = find_method(method, table.metric)
        except ValueError as error:
            raise BlendError(f"{error}.") from error
    all_scores, evidence = member_scores(table, progress)
    kept, dropped = apply_floor(
        {name: score.mean_fold for name, score in all_scores.items()}, competition, floor
    )
    # Those dropped stay in the table: another fold's rows may have kept them.
    table = table.subset([*kept, *(name for name, _ in dropped)])
    if method == "auto" or every_method:
        wanted: Sequence[Method] = known
    else:
        wanted = [asked]
    results = score_methods(table, wanted, evidence, kept, floor, progress)
    if method == "auto":
        chosen, why = choose_automatically(results, evidence)
    else:
        chosen, why = next(item for item in results if item.method == asked), ()
    weights = chosen.fitted.weights[: len(kept)]
    members = tuple(
        Member(name, all_scores[name], float(weight), name in table.imported)
        for name, weight in zip(kept, weights, strict=True)
    )
    return Blend(
        method=chosen.method.name,
        asked=method,
        members=members,
        dropped=dropped,
        score=chosen.score,
        rank_mean=results[0].score if results[0].method == known[0] else chosen.score,
        versus_best=chosen.versus_best,
        versus_rank_mean=chosen.versus_rank_mean,
        recipe=Recipe(
            chosen.method.name,
            chosen.method.space,
            tuple(sorted((m.run_id, m.weight) for m in members if m.weight != 0.0)),
            chosen.fitted.intercept,
            chosen.thresholds,
        ),
        results=tuple(results),
        explanation=(*why, *explain(chosen, members)),
        warnings=blend_warnings(chosen, members, kept[0]),
        metric=table.metric,
    )


def member_scores(
    table: MemberTable, progress: Progress | None = None
) -> tuple[dict[str, Score], Evidence]:
    """Every member's score, and the evidence with what it remembers of them."""
    evidence = Evidence(table)
    scores: dict[str, Score] = {}
    large = table.predictions.size > 1_000_000
    for number, (name, member) in enumerate(zip(table.names, table.predictions, strict=True), 1):
        scores[name] = evidence.score(f"member {name}", member)
        if large:
            evidence.forget(f"member {name}")
            if progress is not None:
                progress(
                    f"scored {number} of {len(table.names)}: {name} {scores[name].mean_fold:.4f}"
                )
    return scores, evidence


def explain(chosen: MethodResult, members: Sequence[Member]) -> tuple[str, ...]:
    """How the weights came about, how steady they are, and what fitting them flatters."""
    lines = [f"{chosen.method.name}: {chosen.method.text}"]
    lines += [_with_names(step, members) for step in chosen.fitted.steps]
    if chosen.thresholds:
        cuts = ", ".join(f"{value:.4f}" for value in chosen.thresholds)
        lines.append(
            f"positive from {cuts} on, chosen on all rows; scores are nested, cut elsewhere"
        )
    if chosen.method.is_fitted and len(members) > 1:
        spread = np.array(chosen.fold_weights)
        for index, member in enumerate(members):
            lines.append(
                f"{member.run_id}: weight {member.weight:.4f}, {spread[:, index].min():.4f} to "
                f"{spread[:, index].max():.4f} when one fold is left out"
            )
        lines.append(
            f"on the rows its weights were fitted on it scores {chosen.in_sample:.4f}; nested, "
            f"{chosen.score.mean_fold:.4f}"
        )
    return tuple(lines)


def _with_names(step: str, members: Sequence[Member]) -> str:
    if "(member:score)" not in step:
        return step
    head, _, path = step.partition("(member:score) ")
    named = [pick.split(":") for pick in path.split(", ")]
    return head + ", ".join(f"{members[int(pick)].run_id} {value}" for pick, value in named)


def blend_warnings(chosen: MethodResult, members: Sequence[Member], best: str) -> tuple[str, ...]:
    """What speaks against submitting this blend."""
    used = [member for member in members if member.weight != 0.0]
    top = next(member for member in members if member.run_id == best)
    if len(used) == 1:
        return (f"only {used[0].run_id} takes part: this is no blend",)
    if chosen.versus_best.gain <= 0:
        return (
            (
                f"the blend ({chosen.score.mean_fold:.4f}) is not better than its best member {best} "
                f"({top.score.mean_fold:.4f}): gain {chosen.versus_best.text()}"
            ),
        )
    return ()


# ---- test predictions ----------------------------------------------------------------------------


def mix_test(
    recipe: Recipe,
    competition: Competition,
    order: Sequence[str],
    read_test: Callable[[str], "pd.DataFrame"],
) -> "pd.DataFrame":
    """The blend's test predictions: the id column and targets, in the order of the sample submission.

    A member's column is the mean over (seed, fold) of its predictions in the recipe's space. Members
    are read one at a time and added in the order of their names, so that equal files give equal bytes.
    With thresholds in the recipe the columns hold 0 and 1.

    Args:
        read_test: A member's test table by name, sorted by (seed, fold, id).

    Raises:
        BlendError: A test id of the sample that the members do not predict.
    """
    import pandas as pd

    columns = [PREDICTION_PREFIX + name for name in competition.target_columns]
    total = np.empty((0, 0))
    known: pd.Index[str] | None = None
    for name, weight in recipe.weights:
        test = read_test(name)
        seeds, folds = test[SEED_COLUMN].to_numpy(), test[FOLD_COLUMN].to_numpy()
        values = to_space(test[columns].to_numpy(dtype=np.float64), recipe.space, seeds, folds)
        count = int(((seeds == seeds[0]) & (folds == folds[0])).sum())
        ids = pd.Index(test[ID_COLUMN].to_numpy()[:count])
        column = values.reshape(-1, count, len(columns)).mean(axis=0)
        if known is None:
            known, total = ids, np.full(column.shape, recipe.intercept)
        elif not ids.equals(known):
            raise BlendError(f"{name} predicts other test images than {recipe.weights[0][0]}.")
        total += weight * column
    assert known is not None
    rows = known.get_indexer(pd.Index(list(order)))
    missing = [name for name, row in zip(order, rows, strict=True) if row < 0]
    if missing:
        raise BlendError(
            f"The members predict {len(known)} test images; {len(missing)} of the sample submission "
            f"are missing (first: {missing[0]}).",
            "A small-profile run predicts all test images too: check that the data is the same.",
        )
    mixed = from_space(total[rows], recipe.space)
    if recipe.thresholds:
        mixed = decide(mixed, recipe.thresholds).astype(np.int64)
    return pd.DataFrame(
        {
            competition.id_column: list(order),
            **{name: mixed[:, index] for index, name in enumerate(competition.target_columns)},
        }
    )
