"""Blending by validation AUC: which runs take part, their weights, and what the blend is worth. Pure.

Scores are recomputed from out-of-fold predictions. The blend's own score is nested: the weights that
mix a fold's rows are fitted on the other folds. It is reported beside its best member and the equal
mean of ranks, because a blend can lose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import BlendError
from harness.outputs import RunOutputs
from harness.records import Run, RunState
from kernels.config import Competition
from kernels.contract import (
    FOLD_COLUMN,
    ID_COLUMN,
    PREDICTION_PREFIX,
    SEED_COLUMN,
    TARGET_PREFIX,
)
from kernels.stats import (
    find_metric,
    mean_fold_interval,
    mean_fold_score,
    ranks_within,
    score_metric,
)

if TYPE_CHECKING:
    import pandas as pd

KEYS = [ID_COLUMN, SEED_COLUMN, FOLD_COLUMN]
DEFAULT_MARGIN = 0.05  # members further below the best one are dropped, by name


@dataclass(frozen=True)
class Score:
    """A score with its evidence: n labelled images and a 95 % bootstrap interval."""

    mean_fold: float
    pooled: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Member:
    """A run that takes part in a blend."""

    run_id: str
    score: Score
    weight: float


@dataclass(frozen=True)
class Blend:
    """Members, weights, what the blend scores, and its test predictions."""

    method: str
    members: tuple[Member, ...]
    dropped: tuple[tuple[str, str], ...]  # run id, reason
    score: Score  # nested: weights fitted on other folds than those scored
    rank_mean: Score  # the equal mean of ranks, the baseline that needs no weights
    predictions: "pd.DataFrame"  # the competition's id column and targets, one row per test id
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> Member:
        """The member with the highest score."""
        return max(self.members, key=lambda member: member.score.mean_fold)


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


@dataclass(frozen=True)
class _Table:
    """Members' out-of-fold predictions side by side."""

    targets: np.ndarray  # (N,) or (N, K)
    predictions: list[np.ndarray]  # per member, as targets
    ids: np.ndarray
    seeds: np.ndarray
    folds: np.ndarray


def _side_by_side(outputs: Sequence[RunOutputs], competition: Competition) -> _Table:
    """Line members up by (id, seed, fold).

    Raises:
        BlendError: Members were scored on other ids or other folds, or disagree on a target.
    """
    first = outputs[0]
    truth_columns = [TARGET_PREFIX + name for name in competition.target_columns]
    guess_columns = [PREDICTION_PREFIX + name for name in competition.target_columns]
    keys = first.oof[KEYS]
    for other in outputs[1:]:
        missing = set(first.oof[ID_COLUMN]) ^ set(other.oof[ID_COLUMN])
        if missing:
            raise BlendError(
                f"Runs {first.run_id} and {other.run_id} were scored on different images: "
                f"{len(missing)} ids are in one only (first: {min(missing)}).",
                "Blend runs of the same data and profile; name them with --runs.",
            )
        if not keys.equals(other.oof[KEYS]):
            raise BlendError(
                f"Runs {first.run_id} and {other.run_id} used different folds or seeds.",
                "Push them again with the same --seed and fold settings.",
            )
        if not first.oof[truth_columns].equals(other.oof[truth_columns]):
            raise BlendError(f"Runs {first.run_id} and {other.run_id} disagree on labels.")
        if set(first.test[ID_COLUMN]) != set(other.test[ID_COLUMN]):
            raise BlendError(
                f"Runs {first.run_id} and {other.run_id} predict different test images."
            )
    truth = first.oof[truth_columns].to_numpy(dtype=float)
    guesses = [item.oof[guess_columns].to_numpy(dtype=float) for item in outputs]
    if len(truth_columns) == 1:
        truth, guesses = truth[:, 0], [guess[:, 0] for guess in guesses]
    return _Table(
        truth,
        guesses,
        first.oof[ID_COLUMN].to_numpy(),
        first.oof[SEED_COLUMN].to_numpy(),
        first.oof[FOLD_COLUMN].to_numpy(),
    )


def _score(table: _Table, predictions: np.ndarray, metric: str) -> Score:
    interval = mean_fold_interval(
        table.targets, predictions, table.seeds, table.folds, ids=table.ids, metric=metric
    )
    pooled = [
        score_metric(metric, table.targets[rows], predictions[rows])
        for rows in (table.seeds == seed for seed in np.unique(table.seeds))
    ]
    return Score(
        mean_fold_score(metric, table.targets, predictions, table.seeds, table.folds),
        float(np.mean(pooled)),
        interval.low,
        interval.high,
        len(np.unique(table.ids)),
    )


def score_run(outputs: RunOutputs, competition: Competition) -> Score:
    """A single run's score, computed from its out-of-fold predictions."""
    table = _side_by_side([outputs], competition)
    return _score(table, table.predictions[0], competition.metric)


def proportional_weights(scores: Sequence[float]) -> np.ndarray:
    """Weights auc / sum(auc), shape (M,). Source: the ensemble write-up."""
    values = np.asarray(scores, dtype=float)
    weights: np.ndarray = values / values.sum()
    return weights


def _nested_mix(table: _Table, metric: str) -> np.ndarray:
    """Every row mixed with weights from the folds it is not in."""
    mixed = np.empty_like(table.predictions[0])
    for fold in np.unique(table.folds):
        inside, outside = table.folds == fold, table.folds != fold
        # A run of one fold has no other rows to fit weights on: all count alike.
        scores = [
            mean_fold_score(
                metric,
                table.targets[outside],
                guess[outside],
                table.seeds[outside],
                table.folds[outside],
            )
            if outside.any()
            else 1.0
            for guess in table.predictions
        ]
        weights = proportional_weights(scores)
        mixed[inside] = sum(
            weight * guess[inside] for weight, guess in zip(weights, table.predictions, strict=True)
        )
    return mixed


def _mean_test(outputs: RunOutputs, competition: Competition) -> "pd.DataFrame":
    """A member's test predictions: mean over (seed, fold), one row per id."""
    columns = [PREDICTION_PREFIX + name for name in competition.target_columns]
    return outputs.test.groupby(ID_COLUMN, sort=True)[columns].mean()


def blend_by_auc(
    outputs: Sequence[RunOutputs],
    competition: Competition,
    order: Sequence[str],
    floor: float | None = None,
) -> Blend:
    """Weighted mean of members' probabilities, weights proportional to their validation score.

    Args:
        outputs: Pulled runs.
        order: Test ids in the order of the sample submission.
        floor: Members scoring below it are dropped; by default those more than DEFAULT_MARGIN below
            the best.

    Raises:
        BlendError: No members, or members that cannot be lined up.
    """
    import pandas as pd

    if not outputs:
        raise BlendError("There is nothing to blend.", "Push strategies, then: harness pull")
    if competition.metric not in ("auc", "macro_auc"):
        raise BlendError(
            f"auc-weights needs an AUC; {competition.slug} is scored by {competition.metric}."
        )
    assert find_metric(competition.metric).greater_is_better
    scored = [(item, score_run(item, competition)) for item in outputs]
    best = max(score.mean_fold for _, score in scored)
    limit = best - DEFAULT_MARGIN if floor is None else floor
    kept = [(item, score) for item, score in scored if score.mean_fold >= limit]
    dropped = tuple(
        (item.run_id, f"scores {score.mean_fold:.4f}, below the floor of {limit:.4f}")
        for item, score in scored
        if score.mean_fold < limit
    )
    if not kept:
        raise BlendError(f"Every member scores below the floor of {limit:.4f}.", "Lower --floor.")
    members = [item for item, _ in kept]
    table = _side_by_side(members, competition)
    weights = proportional_weights([score.mean_fold for _, score in kept])
    ranks = [ranks_within(guess, (table.seeds, table.folds)) for guess in table.predictions]
    tests = [_mean_test(item, competition) for item in members]
    missing = sorted(set(order) - set(tests[0].index))
    if missing:
        raise BlendError(
            f"The runs predict {len(tests[0])} test images; {len(missing)} of the sample submission "
            f"are missing (first: {missing[0]}).",
            "A small-profile run predicts all test images too: check that the data is the same.",
        )
    mixed = sum(weight * frame for weight, frame in zip(weights, tests, strict=True))
    mixed = mixed.loc[list(order)].clip(0.0, 1.0)
    predictions = pd.DataFrame(
        {
            competition.id_column: list(order),
            **{
                name: mixed[PREDICTION_PREFIX + name].to_numpy()
                for name in competition.target_columns
            },
        }
    )
    blend = Blend(
        method="auc-weights",
        members=tuple(
            Member(item.run_id, score, float(weight))
            for (item, score), weight in zip(kept, weights, strict=True)
        ),
        dropped=dropped,
        score=_score(table, _nested_mix(table, competition.metric), competition.metric),
        rank_mean=_score(table, np.mean(ranks, axis=0), competition.metric),
        predictions=predictions,
    )
    return _with_warnings(blend)


def _with_warnings(blend: Blend) -> Blend:
    warnings = []
    if len(blend.members) == 1:
        warnings.append(f"only {blend.best.run_id} takes part: this is no blend")
    elif blend.score.mean_fold <= blend.best.score.mean_fold:
        warnings.append(
            f"the blend ({blend.score.mean_fold:.4f}) is not better than its best member "
            f"{blend.best.run_id} ({blend.best.score.mean_fold:.4f})"
        )
    return replace(blend, warnings=tuple(warnings))
