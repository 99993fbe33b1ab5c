"""Results: train a family of strategies on one fold seed, blend them, and set them side by side.

For the table of the README and for test predictions of every strategy: each run is pushed, waited for
and pulled in the workspace's own state, so that a command that was stopped goes on where it was. Nothing
is submitted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.commands.blend_and_submit import Options, blend_and_submit
from harness.commands.local import add_competition, find_competition_folder
from harness.commands.members import line_up_members
from harness.commands.pull import pull
from harness.commands.push import PushResult, push
from harness.commands.watch import follow
from harness.errors import ConfigError, PushRejected
from harness.outputs import read_metrics
from harness.records import Run, RunSpec
from harness.registry import competition_by_slug, load_strategy
from harness.render import backbones_of
from harness.scoring import Evidence, Gain, Score, one_column
from harness.settings import Settings
from harness.workbench import Workbench
from kernels.config import Competition
from kernels.contract import METRICS_FILE
from kernels.stats.delong import delong_interval

CPU_FAMILY = ("linear_probe", "levels_probe", "ssl", "lite0", "lite1", "lite2")
SHORTCUTS = {  # notes of a run's metrics
    "metadata_auc": "Size, mode, bytes and JPEG quality of the files alone",
    "adversarial_auc": "Labelled films told from test films by hand-crafted features",
}
BASELINE = "linear_probe"


@dataclass(frozen=True)
class ResultRow:
    """One strategy, or the blend of all."""

    name: str
    trained_on: str
    score: Score
    pooled_low: float | None  # DeLong interval of the pooled AUC: approximate, folds differ
    pooled_high: float | None
    seconds: float | None
    gain: Gain | None  # over the baseline, paired; None for the baseline itself
    csv: Path
    run_id: str | None = None


@dataclass(frozen=True)
class Results:
    """The table and what it was made with."""

    competition: str
    metric: str
    profile: str
    seeds: tuple[int, ...]
    date: str
    rows: tuple[ResultRow, ...]  # the blend last
    explanation: tuple[str, ...]  # of the blend's method
    dropped: tuple[tuple[str, str], ...]  # run id, reason
    shortcuts: tuple[str, ...]  # what is to be had from these films without looking at a lung


def join_data(settings: Settings, strategy: str, data: Path | None) -> None:
    """Give the local Kaggle the competition's data unless it has that folder already.

    Raises:
        ConfigError: There is no data, on the local Kaggle or in ``data``.
    """
    first = load_strategy(settings.workspace, strategy)
    competition = competition_by_slug(settings.workspace, first.competition)
    known = find_competition_folder(settings, competition.slug)
    if data is not None and (known is None or known.resolve() != data.resolve()):
        add_competition(settings, competition, data, None)
    elif data is None and known is None:
        raise ConfigError(
            f"The local Kaggle has no competition {competition.slug}.",
            "Name its folder: --data FOLDER",
        )


def results(
    bench: Workbench,
    names: Sequence[str],
    profile: str,
    seeds: tuple[int, ...],
    method: str,
    logged: Callable[[Run, str], None],
) -> Results:
    """Train one strategy after the other, then blend and compare.

    One at a time, so that the seconds are those of a machine that does nothing else.

    Raises:
        HarnessError: From the step that failed; what was reached is found again by the next call.
    """
    runs = []
    for name in names:
        spec = RunSpec(strategy=name, profile=profile, seeds=seeds)
        runs.append(train(bench, spec, logged))
    competition = competition_by_slug(bench.settings.workspace, runs[0].competition)
    return tabulate(bench, competition, runs, names, profile, seeds, method)


def train(bench: Workbench, spec: RunSpec, logged: Callable[[Run, str], None]) -> Run:
    """The pulled run of a spec, after the runs that it starts from.

    Raises:
        PushRejected: No session is free.
        RunFailed, ContractError: One of them failed.
    """
    while True:
        results = push(bench, [spec])
        runs = [item.run for item in results if isinstance(item, PushResult)]
        if not runs:
            raise PushRejected(
                f"{spec.label()} cannot start now; it is queued.", "First: harness tick --follow"
            )
        runs = follow(bench, lambda run: bench.progress(f"{run.run_id}: {run.state.lower()}"), logged, runs)  # fmt: skip
        pulled = pull(bench, runs)
        for item in pulled:
            if item.error is not None:
                raise item.error
        if len(runs) == len(results):
            return pulled[-1].run


def tabulate(
    bench: Workbench,
    competition: Competition,
    runs: Sequence[Run],
    names: Sequence[str],
    profile: str,
    seeds: tuple[int, ...],
    method: str,
) -> Results:
    """Rows for pulled runs and their blend, each with a file of test predictions and its record."""
    lineup = line_up_members(bench, runs, competition, named=True)
    evidence = Evidence(lineup.table)
    base = next((run for run in runs if run.spec.strategy == BASELINE), runs[0])
    base_table = lineup.table.member(base.run_id)

    def bounds(predictions: object) -> tuple[float | None, float | None]:
        if competition.metric != "auc" or len(seeds) > 1:
            return None, None
        found = delong_interval(one_column(lineup.table.targets), one_column(predictions))  # type: ignore[arg-type]
        return found.low, found.high

    rows = []
    for run, name in zip(runs, names, strict=True):
        table = lineup.table.member(run.run_id)
        written = blend_and_submit(
            bench, competition.slug, [run.run_id], dry_run=True, options=Options(label=name)
        )
        config = load_strategy(bench.settings.workspace, name).profiles.pick(profile)
        gain = (
            evidence.gain(run.run_id, table, base.run_id, base_table) if run is not base else None
        )
        rows.append(
            ResultRow(
                name=name,
                trained_on=", ".join(backbones_of(config)) or "hand-crafted features",
                score=evidence.score(run.run_id, table),
                pooled_low=bounds(table)[0],
                pooled_high=bounds(table)[1],
                seconds=run.seconds,
                gain=gain,
                csv=written.csv,
                run_id=run.run_id,
            )
        )
    mixed = blend_and_submit(
        bench,
        competition.slug,
        [run.run_id for run in runs],
        dry_run=True,
        options=Options(method=method, label="blend", every_method=True),
    )
    nested = mixed.blend.chosen.nested
    rows.append(
        ResultRow(
            name=f"blend of {len(mixed.blend.members)}",
            trained_on=f"{mixed.blend.method}, nested",
            score=mixed.blend.score,
            pooled_low=bounds(nested)[0],
            pooled_high=bounds(nested)[1],
            seconds=None,
            gain=evidence.gain("blend", nested, base.run_id, base_table),
            csv=mixed.csv,
        )
    )
    return Results(
        competition=competition.slug,
        metric=competition.metric,
        profile=profile,
        seeds=seeds,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        rows=tuple(rows),
        explanation=mixed.blend.explanation,
        dropped=mixed.blend.dropped,
        shortcuts=shortcut_lines(bench, runs, competition.metric),
    )


def shortcut_lines(bench: Workbench, runs: Sequence[Run], metric: str) -> tuple[str, ...]:
    """Metadata-only and adversarial AUC, as the first run that measured them says: the films are the same."""
    if metric != "auc":
        return ()
    for run in runs:
        metrics = read_metrics(bench.outputs_folder(run) / METRICS_FILE, run.run_id)
        found = [(words, metrics.get(key)) for key, words in SHORTCUTS.items()]
        lines = tuple(
            f"{words}: AUC {values['logistic']:.4f} by regression, {values['boosting']:.4f} by boosting"
            for words, values in found
            if values
        )
        if lines:
            return lines
    return ()


def as_markdown(found: Results) -> str:
    """The README's table."""
    columns = ["strategy", "trained on", f"out-of-fold {found.metric}", "95 % interval"]
    columns += ["pooled (DeLong)", "n", f"gain over {BASELINE}", "seconds"]
    lines = [f"| {' | '.join(columns)} |", "| " + " | ".join("---" for _ in columns) + " |"]
    for row in found.rows:
        pooled = f"{row.score.pooled:.4f}"
        if row.pooled_low is not None and row.pooled_high is not None:
            pooled += f" ({row.pooled_low:.4f} to {row.pooled_high:.4f})"
        lines.append(
            f"| {row.name} | {row.trained_on} | {row.score.mean_fold:.4f} "
            f"| {row.score.low:.4f} to {row.score.high:.4f} | {pooled} | {row.score.n} "
            f"| {row.gain.text() if row.gain else ''} | {f'{row.seconds:.0f}' if row.seconds else ''} |"
        )
    seeds = ", ".join(map(str, found.seeds))
    lines.append(f"\nProfile {found.profile}, fold seed {seeds}, {found.date}.")
    lines += [f"{line}." for line in found.shortcuts]
    return "\n".join(lines)
