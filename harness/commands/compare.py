"""Compare: members side by side, with what separates luck from skill."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.blending import MethodResult, member_scores, score_methods, scored
from harness.commands.members import choose_competition, choose_members, line_up_members
from harness.costs import RowCost, costly_rows
from harness.members import MemberTable, higher_is_better
from harness.methods import methods_for
from harness.outputs import read_metrics
from harness.provenance import Source
from harness.records import Run
from harness.scoring import Gain, Score, one_column
from harness.workbench import Workbench
from kernels.contract import METRICS_FILE, OPTIMISTIC_NOTE
from kernels.stats.delong import delong_interval
from kernels.stats.ranks import ranks_within, spearman_matrix

SUSPICIOUS_LEAD = 4.0  # standard errors that an import may lead our best run by


@dataclass(frozen=True)
class ComparedMember:
    """One member's line."""

    name: str
    imported: bool
    score: Score
    pooled_low: float | None  # DeLong interval of the pooled AUC: approximate, folds differ
    pooled_high: float | None
    versus_best: Gain | None  # None for the best itself


@dataclass(frozen=True)
class Disagreement:
    """A labelled row on which members disagree."""

    id: str
    targets: tuple[int, ...]
    spread: float  # standard deviation of the members' ranks inside (seed, fold)
    predictions: tuple[float, ...]  # of the first target, in the members' order


@dataclass(frozen=True)
class Comparison:
    """Members from the best down, their rank correlations, and the rows that divide or cost them most."""

    competition: str
    metric: str
    members: tuple[ComparedMember, ...]
    correlations: tuple[tuple[float, ...], ...]  # Spearman, in the members' order
    disagreements: tuple[Disagreement, ...]
    costs: tuple[RowCost, ...]
    methods: tuple[MethodResult, ...]
    left_out: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    grouped: bool
    notes: tuple[str, ...]


def compare(
    bench: Workbench,
    competition_slug: str | None = None,
    names: Sequence[str] = (),
    *,
    with_methods: bool = False,
    examples: int = 10,
    groups: Path | None = None,
    allow_shared_ids: bool = False,
) -> Comparison:
    """Line members up and measure them; see Comparison.

    Args:
        names: Runs and imports; empty takes what a blend would take.
        with_methods: Score every blending method on nested folds too.
        examples: How many rows to name that divide the members, and that cost them most.

    Raises:
        BlendError: Nobody to compare, or members that cannot be lined up.
    """
    competition = choose_competition(
        bench, competition_slug, bench.ledger.runs(bench.settings.remote)
    )
    sources = choose_members(bench, competition, names)
    lineup = line_up_members(
        bench,
        sources,
        competition,
        named=bool(names),
        groups=groups,
        allow_shared_ids=allow_shared_ids,
    )
    scores, evidence = scored(lambda: member_scores(lineup.table, bench.progress))
    sign = 1 if higher_is_better(competition) else -1
    order = sorted(scores, key=lambda name: (-sign * scores[name].mean_fold, name))
    table = lineup.table.subset(order)
    best = order[0]
    members = []
    for name in order:
        member = table.member(name)
        gain = None
        if name != best:
            gain = evidence.gain(f"member {name}", member, f"member {best}", table.member(best))
        low, high = pooled_interval(table, member)
        members.append(ComparedMember(name, name in table.imported, scores[name], low, high, gain))
    ranks = member_ranks(table)
    mean_ranks: np.ndarray = ranks.mean(axis=2)
    methods: tuple[MethodResult, ...] = ()
    if with_methods:
        wanted = methods_for(table.metric)
        methods = tuple(
            scored(
                lambda: score_methods(
                    table, wanted, evidence, order, -sign * math.inf, bench.progress
                )
            )
        )
    return Comparison(
        competition.slug,
        table.metric,
        tuple(members),
        correlations(mean_ranks),
        disagreements(table, mean_ranks, examples),
        costly_rows(table, ranks, examples),
        methods,
        lineup.left_out,
        tuple(int(seed) for seed in np.unique(table.seeds)),
        tuple(int(fold) for fold in np.unique(table.folds)),
        table.grouped,
        (*suspicions(members), *optimists(bench, lineup.sources, order)),
    )


def pooled_interval(table: MemberTable, member: np.ndarray) -> tuple[float | None, float | None]:
    """DeLong interval of the pooled AUC for one target and one seed; (None, None) otherwise."""
    if table.metric != "auc" or len(np.unique(table.seeds)) > 1 or table.grouped:
        return None, None
    interval = delong_interval(table.targets[:, 0], one_column(member))
    return interval.low, interval.high


def member_ranks(table: MemberTable) -> np.ndarray:
    """Every member's ranks inside (seed, fold), shape (M, N, T)."""
    ranks = np.empty_like(table.predictions)
    for index, member in enumerate(table.predictions):
        ranks[index] = ranks_within(member, (table.seeds, table.folds))
    return ranks


def correlations(ranks: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Spearman correlations of members' ranks (M, N)."""
    matrix = spearman_matrix(ranks.T) if len(ranks) > 1 else np.ones((1, 1))
    return tuple(tuple(float(value) for value in row) for row in matrix)


def disagreements(table: MemberTable, ranks: np.ndarray, examples: int) -> tuple[Disagreement, ...]:
    """The rows whose ranks differ most between members, one row an id."""
    if len(ranks) < 2 or examples < 1:
        return ()
    spread = ranks.std(axis=0)
    found: dict[str, Disagreement] = {}
    for row in np.argsort(-spread, kind="stable"):
        name = str(table.ids[row])
        if name not in found:
            found[name] = Disagreement(
                name,
                tuple(int(value) for value in table.targets[row]),
                float(spread[row]),
                tuple(float(member[row, 0]) for member in table.predictions),
            )
        if len(found) == examples:
            break
    return tuple(found.values())


def suspicions(members: Sequence[ComparedMember]) -> list[str]:
    """Members that score too well to be believed."""
    notes = []
    own = [member.score for member in members if not member.imported]
    for member in members:
        score = member.score
        if score.fold_low == score.fold_high == 1.0:
            notes.append(f"{member.name} is perfect in every fold: was it trained on these rows?")
        elif member.imported and own and not np.isnan(score.standard_error):
            gap = abs(score.mean_fold - own[0].mean_fold)
            ahead = members[0] is member
            if ahead and gap > SUSPICIOUS_LEAD * max(score.standard_error, own[0].standard_error):
                notes.append(
                    f"{member.name} was imported and is {gap:.4f} ahead of every run here: are its "
                    "predictions really out-of-fold?"
                )
    return notes


def optimists(bench: Workbench, sources: Mapping[str, Source], names: Sequence[str]) -> list[str]:
    """Runs whose held-out folds steered their own training, as their metrics say."""
    notes = []
    for name in names:
        source = sources[name]
        if isinstance(source, Run):
            metrics = read_metrics(bench.outputs_folder(source) / METRICS_FILE, name)
            note = metrics.get(OPTIMISTIC_NOTE)
            if note:
                notes.append(f"{name} is optimistic: {note}")
    return notes
