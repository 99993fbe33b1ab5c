"""Code competitions: one kernel that loads the members of a blend, predicts, and is itself submitted.

Nothing is trained or uploaded again: the kernel mounts the outputs of the members' kernels, checks them by
the hashes that the blend recorded, and has the blend's weights baked in. Every step may be cut off and run
again: equal bytes are "already there", and a version is submitted once.
"""

import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from harness.commands.chain import Upstream, mounts_of, output_dataset
from harness.commands.dry_run import Rehearsed, rehearse
from harness.commands.pull import pull
from harness.commands.push import PushResult, Ready, Waiting, push_or_queue
from harness.commands.tick import wants_gpu
from harness.commands.watch import FIRST_WAIT_S, LONGEST_WAIT_S, follow
from harness.errors import BlendError, ConfigError, ContractError, RunFailed
from harness.outputs import manifest_files, read_manifest
from harness.provenance import recipe_of
from harness.records import KernelBuild, Run, RunSpec, RunState, Submission
from harness.registry import competition_by_slug, load_strategy, module_names
from harness.render import read_config, render_inference
from harness.scoring import Score
from harness.workbench import Workbench
from kernels.config import AnyConfig, Competition, DistilConfig, InferenceConfig, MemberConfig
from kernels.contract import (
    FOLD_COLUMN,
    INFERENCE_KIND,
    MANIFEST_FILE,
    METRICS_FILE,
    OOF_FILE,
    SEED_COLUMN,
    SUBMISSION_FILE,
    checkpoint_cell,
    sha256_file,
)

# Those of which kernels/blocks/predictors.py loads models.
LOADED_PIPELINES = ("features", "probe", "simsiam", "supervised", "distil")
TOLERANCE = 0.02  # other hardware moves predictions by less; another preprocessing by more


@dataclass(frozen=True)
class InferencePlan:
    """A blend as a kernel."""

    blend_id: str
    record: dict[str, Any]
    competition: Competition
    config: InferenceConfig
    ready: Ready
    csv: Path  # the blend's own predictions
    notes: tuple[str, ...]

    @property
    def build(self) -> KernelBuild:
        """What a push sends."""
        return self.ready.build

    @property
    def runs(self) -> list[Run]:
        """The members' runs."""
        return [item.run for item in self.ready.upstream]


@dataclass(frozen=True)
class Forecast:
    """How long the hidden test will take, from what was measured."""

    films_per_second: float
    seconds_before_films: float
    rows: int | None
    seconds: float | None  # None when the number of rows is unknown
    limit_hours: float
    where: str  # the measurement

    @property
    def fits(self) -> bool:
        """False when it is known to take longer than a session may."""
        return self.seconds is None or self.seconds < self.limit_hours * 3600

    def text(self) -> str:
        """One line."""
        rate = f"{self.films_per_second:.2f} films/s {self.where}"
        if self.seconds is None:
            room = max(0.0, self.limit_hours * 3600 - self.seconds_before_films)
            fits = int(room * self.films_per_second)
            return f"{rate}: {fits:,} films fit into {self.limit_hours:g} h (--hidden-rows N forecasts)"
        hours = f"{self.seconds / 3600:.2f} h of {self.limit_hours:g} h"
        verdict = "" if self.fits else ": it will NOT finish; use fewer views, members or folds"
        return f"{rate}: {self.rows:,} films take {hours}{verdict}"


@dataclass(frozen=True)
class Comparison:
    """An inference kernel's submission.csv beside the blend's."""

    rows: int  # ids in both
    largest: float


# ---- the plan ------------------------------------------------------------------------------------


def find_blend(bench: Workbench, name: str) -> tuple[str, dict[str, Any]]:
    """A blend by its id, its file's path, or the start of its id.

    Raises:
        ConfigError: There is none, or several.
    """
    stem = Path(name).name.removesuffix(".csv").removesuffix(".json")
    found = {
        blend_id: record
        for module in module_names(bench.settings.workspace, "competitions")
        for slug in [competition_by_slug(bench.settings.workspace, module).slug]
        for blend_id, record in bench.ledger.blends(slug)
        if blend_id.startswith(stem) or blend_id.endswith(f"-{stem}")
    }
    exact = {stem: found[stem]} if stem in found else found
    if len(exact) != 1:
        raise ConfigError(
            f"{len(exact) or 'No'} blends are called {name!r}{': ' if exact else ''}{', '.join(exact)}.",
            "Make one: harness blend-and-submit --dry-run; its file's name is its id.",
        )
    return next(iter(exact.items()))


def new_blend(bench: Workbench, competition: str | None) -> str:
    """Blend what is there as blend-and-submit would, submit nothing; the blend's id."""
    from harness.commands.blend_and_submit import blend_and_submit

    result = blend_and_submit(bench, competition, dry_run=True)
    for name, reason in result.blend.dropped:
        bench.progress(f"not in the blend: {name} {reason}")
    bench.progress(
        f"blend {result.csv.stem}: {result.blend.method}, nested {result.blend.score.mean_fold:.4f}"
    )
    return result.csv.stem


def plan_inference(bench: Workbench, blend: str | None, competition: str | None) -> InferencePlan:
    """Render the kernel of a blend.

    Args:
        blend: Its id; None blends what is there with the default method.
        competition: Slug, for a new blend when several competitions have runs.

    Raises:
        BlendError: A member's models cannot be loaded (named, with the reason).
        ConfigError: No such blend, or its file was changed.
    """
    blend_id, record = find_blend(bench, blend or new_blend(bench, competition))
    if competition not in (None, record["competition"]):
        raise ConfigError(
            f"Blend {blend_id} is of {record['competition']}, not of {competition!r}.",
            "Leave --competition away.",
        )
    if record["remote"] != bench.settings.remote:
        raise ConfigError(
            f"Blend {blend_id} is of runs on the remote {record['remote']!r}.",
            f"Add: --remote {record['remote']}",
        )
    target = competition_by_slug(bench.settings.workspace, record["competition"])
    entries = {entry["run_id"]: entry for entry in record["members"]}
    members, upstream, gpu = [], [], False
    for name, weight in record["recipe"]["weights"]:
        run, used = member_run(bench, entries[name])
        members.append(
            MemberConfig(
                name=run.run_id,
                slug=run.kernel.slug,
                manifest_sha256=entries[name]["manifest_sha256"],
                weight=float(weight),
                config=used,
            )
        )
        upstream.append(Upstream(run.run_id, run, entries[name]["manifest_sha256"]))
        gpu |= wants_gpu(bench, run)
    path = bench.settings.submissions_folder / target.slug / f"{blend_id}.csv"
    if not path.is_file() or sha256_file(path) != record["file"]["sha256"]:
        raise ConfigError(
            f"{path} is missing or was changed.", f"Make it again: harness rebuild {path}"
        )
    config = InferenceConfig(
        members=tuple(members),
        method=record["method"],
        space=record["recipe"]["space"],
        intercept=float(record["recipe"]["intercept"]),
        fallback=medians(path, target),
        thresholds=recipe_of(record).thresholds,
    )
    spec = RunSpec(
        INFERENCE_KIND, profile=upstream[0].run.spec.profile, tag=blend_id.rpartition("-")[2]
    )
    kernels, outputs = mounts_of(bench, [item.run for item in upstream])
    build = render_inference(
        bench.settings.workspace,
        module_of(bench, target),
        target,
        config,
        spec,
        bench.owner,
        gpu=gpu,
        kernel_sources=kernels,
        dataset_sources=[f"{bench.owner}/{item.slug}" for item in outputs],
        cache=bench.settings.bundles_folder,
    )
    ready = Ready(
        build=build, competition=target.slug, datasets=tuple(outputs), upstream=tuple(upstream)
    )
    notes = []
    if target.kind != "code":
        notes.append(
            f"{target.slug} takes files (kind {target.kind!r}), so no kernel is needed there"
        )
    if config.space == "rank":
        notes.append(
            f"{config.method} adds up ranks: they are taken over the rows of the test the kernel sees, "
            "so a hidden test's predictions are ranks among its own films"
        )
    return InferencePlan(blend_id, record, target, config, ready, path, tuple(notes))


def member_run(bench: Workbench, entry: dict[str, Any]) -> tuple[Run, AnyConfig]:
    """A member's run and config, if its models can be loaded.

    Raises:
        BlendError: They cannot: says why and what to do.
    """
    name = entry["run_id"]
    others = "Leave it out: harness blend-and-submit --dry-run --runs with the others."
    if entry["kind"] != "run":
        raise BlendError(
            f"{name} cannot be used: it was imported as predictions, without a model.", others
        )
    run = bench.ledger.run(name)
    folder = bench.outputs_folder(run)
    if not (folder / MANIFEST_FILE).is_file():
        (result,) = pull(bench, [run])
        if result.error is not None:
            raise result.error
    if sha256_file(folder / MANIFEST_FILE) != entry["manifest_sha256"]:
        raise BlendError(f"{name} is no longer what was blended.", "Blend again.")
    manifest = read_manifest(folder, run.run_id, run.script_sha256)
    pipeline = load_strategy(bench.settings.workspace, run.spec.strategy, run.spec.variant).pipeline
    if pipeline not in LOADED_PIPELINES:
        raise BlendError(
            f"{name} cannot be used: kernels/blocks/predictors.py loads no models of the pipeline "
            f"{pipeline!r}, only of {', '.join(LOADED_PIPELINES)}.",
            others,
        )
    cells = {checkpoint_cell(file.path) for file in manifest_files(manifest)}
    missing = sorted(cells_of(folder / OOF_FILE) - cells)
    if missing:
        seed, fold = missing[0]
        raise BlendError(
            f"{name} cannot be used: it saved no model of seed {seed} fold {fold} that can be loaded.",
            f"Run it again with today's code: harness push {run.spec.strategy} --force. {others}",
        )
    config: AnyConfig = read_config(manifest["config"])
    if isinstance(config, DistilConfig) and not is_one_network(config):
        raise BlendError(
            f"{name} cannot be used: its predictions are of several networks, of which it saved one.",
            f"Train it with teacher_share=0 and a student, or without co_teachers. {others}",
        )
    return run, config


def is_one_network(config: DistilConfig) -> bool:
    """Whether the network that self-training saves is all that predicted."""
    if config.student is None:
        return not config.co_teachers
    return config.teacher_share == 0.0


def cells_of(oof: Path) -> set[tuple[int, int]]:
    """The (seed, fold) pairs of a table of out-of-fold predictions."""
    with oof.open(newline="", encoding="utf-8") as handle:
        return {(int(row[SEED_COLUMN]), int(row[FOLD_COLUMN])) for row in csv.DictReader(handle)}


def read_predictions(path: Path, competition: Competition) -> dict[str, tuple[float, ...]]:
    """A submission file as numbers by id."""
    with path.open(newline="", encoding="utf-8") as handle:
        return {
            row[competition.id_column]: tuple(float(row[n]) for n in competition.target_columns)
            for row in csv.DictReader(handle)
        }


def medians(path: Path, competition: Competition) -> tuple[float, ...]:
    """The middle of a blend's predictions of each target: what an unreadable film gets."""
    columns = zip(*read_predictions(path, competition).values(), strict=True)
    return tuple(float(median(column)) for column in columns)


def module_of(bench: Workbench, competition: Competition) -> str:
    """The competition's module in kernels/competitions."""
    workspace = bench.settings.workspace
    return next(
        name
        for name in module_names(workspace, "competitions")
        if competition_by_slug(workspace, name).slug == competition.slug
    )


# ---- rehearsal, forecast, comparison -------------------------------------------------------------


def rehearse_inference(
    bench: Workbench, plan: InferencePlan, logged: Callable[[str], None]
) -> tuple[Rehearsed, Comparison | None]:
    """Run the exact bytes here, on a throw-away local Kaggle, with the members' outputs as datasets.

    Returns:
        The run, and how its predictions compare with the blend's (None on drawn data).

    Raises:
        RunFailed: It failed, or predicts something else than the blend.
        ContractError: What it wrote is incomplete.
    """
    datasets = [output_dataset(bench, run) for run in plan.runs]
    found = rehearse(
        bench, plan.build, plan.competition.slug, datasets, plan.build.spec, logged, {}
    )
    compared = None
    if not found.drawn_data:
        compared = compare(plan, found.folder / "outputs" / SUBMISSION_FILE)
    bench.ledger.record_dry_run(plan.build.digest, found.run.seconds or 0.0)
    return found, compared


def compare(plan: InferencePlan, submission: Path) -> Comparison:
    """The kernel's predictions beside the blend's, on the ids that both have.

    Raises:
        RunFailed: They differ by more than hardware explains.
    """
    mine = read_predictions(submission, plan.competition)
    blended = read_predictions(plan.csv, plan.competition)
    shared = mine.keys() & blended.keys()
    gaps = {
        name: max(abs(a - b) for a, b in zip(mine[name], blended[name], strict=True))
        for name in shared
    }
    largest = max(gaps.values(), default=0.0)
    if largest > TOLERANCE:
        worst = max(gaps, key=lambda name: gaps[name])
        raise RunFailed(
            f"The kernel predicts something else than blend {plan.blend_id}: {largest:.4f} apart for "
            f"{worst}, over {len(shared)} films. File: {submission}.",
            "Look for films that could not be read, then for code that changed since the members ran.",
        )
    return Comparison(len(shared), largest)


def forecast(plan: InferencePlan, folder: Path, where: str, hidden_rows: int | None) -> Forecast:
    """What an inference run's metrics.json says about the hidden test.

    Args:
        folder: The run's outputs.
        where: Where it was measured, for the line.
        hidden_rows: Overrides the competition's ``hidden_rows``.
    """
    metrics = json.loads((folder / METRICS_FILE).read_text("utf-8"))
    rows = hidden_rows or plan.competition.hidden_rows
    rate = float(metrics["films_per_second"])
    before = float(metrics["seconds_before_films"])
    return Forecast(
        rate,
        before,
        rows,
        None if rows is None else before + rows / rate,
        plan.competition.kernel_hours,
        where,
    )


# ---- push, wait, submit --------------------------------------------------------------------------


def push_inference(bench: Workbench, plan: InferencePlan, force: bool) -> PushResult | Waiting:
    """Push the kernel, unless the same bytes are there; without a free session it is queued for tick."""
    bench.remote.check_competition(plan.competition.slug)
    return push_or_queue(bench, plan.ready, force, {})


def await_session(bench: Workbench, plan: InferencePlan, waiting: Waiting) -> PushResult:
    """Try a queued kernel again until a session is free. Cut off, it stays queued."""
    spec, wait = plan.build.spec, FIRST_WAIT_S
    while True:
        time.sleep(wait)
        wait = min(wait * 1.4, LONGEST_WAIT_S[bench.settings.remote])
        # A tick may have pushed it meanwhile: then it is there, and --force asks for no second one.
        queued = any(item.spec == spec for item in bench.ledger.queue(bench.settings.remote))
        result = push_inference(bench, plan, waiting.queued.force and queued)
        if isinstance(result, PushResult):
            return result


def await_inference(
    bench: Workbench,
    run: Run,
    changed: Callable[[Run], None],
    logged: Callable[[Run, str], None],
) -> Run:
    """Follow the visible run to its end and pull it.

    Raises:
        RunFailed: It failed; the message has the log's end.
        ContractError: What it wrote is incomplete.
    """
    if not run.state.is_final:
        (run,) = follow(bench, changed, logged, [run])
    (result,) = pull(bench, [run])
    if result.error is not None:
        raise result.error
    if result.run.state is not RunState.COMPLETE:
        raise ContractError(f"Run {run.run_id} ended as {run.state}.")
    return result.run


def submit_inference(
    bench: Workbench,
    plan: InferencePlan,
    run: Run,
    message: str,
    confirm: Callable[[Sequence[Any]], bool] | None,
) -> Submission | None:
    """Submit a pulled kernel version once, and wait for its score.

    Args:
        confirm: Asked when the gate warns; None goes on.

    Returns:
        The submission with its score; None when nobody confirmed.

    Raises:
        SubmissionInvalid: The gate blocks it, or the service refused it.
        RemoteUnavailable: No score yet: the submission is in, and tick fetches it.
    """
    from harness.commands.blend_and_submit import send, service_findings, wait_for_score
    from harness.gate import refuse_blocks

    competition = plan.competition
    with bench.locked(f"submit-{competition.slug}"):
        known = earlier_submission(bench, run)
        if known is None:
            findings = service_findings(bench, competition, reserve=0, kernel=True)
            refuse_blocks(findings, str(run.kernel))
            if findings and confirm is not None and not confirm(findings):
                return None
            known = send(
                bench,
                competition,
                bench.outputs_folder(run) / SUBMISSION_FILE,
                message or f"{plan.config.method} of {len(plan.config.members)} in a kernel",
                nested_score(plan.record),
                plan.blend_id,
                run.kernel,
            )
        else:
            bench.progress(f"this version was submitted already (reference {known.ref})")
    return wait_for_score(bench, known)


def nested_score(record: dict[str, Any]) -> Score:
    """The blend's own score, as its record has it."""
    kept = record["score_nested"]
    known = {item.name: kept.get(item.name) for item in fields(Score)}
    return Score(**{name: value for name, value in known.items() if value is not None})


def earlier_submission(bench: Workbench, run: Run) -> Submission | None:
    """The submission of this kernel version that is in, or None; unanswered ones are looked up."""
    from harness.commands.blend_and_submit import settle_submission

    found = None
    for item in bench.ledger.submissions(bench.settings.remote, run.competition):
        if item.kernel != str(run.kernel) or item.status in ("REFUSED", "ERROR"):
            continue
        if item.created_at < run.created_at:
            continue  # of a kernel that was deleted since, under the same name and number
        if item.ref is None:
            item = settle_submission(bench, item)
        if item.status != "REFUSED":
            found = item
    return found
