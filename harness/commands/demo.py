"""Demo: the whole loop at work on this machine, from images to a scored submission.

Each demo has a state folder of its own, so that it can be repeated and never meets the daily
submission limit; only the blended CSV and its record stay outside of it, in submissions/.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness.blending import Score, score_run
from harness.commands.blend_and_submit import (
    BlendAndSubmitResult,
    Options,
    blend_and_submit,
    load_members,
    submit_file,
)
from harness.commands.local import add_competition
from harness.commands.pull import pull
from harness.commands.push import PushResult, Waiting, push
from harness.commands.report import write_report
from harness.commands.watch import follow
from harness.errors import HarnessError
from harness.records import Run, RunSpec, RunState, Submission
from harness.registry import competition_by_slug, load_strategy
from harness.render import backbone_of
from harness.settings import Settings, with_state
from harness.synthetic import draw_competition
from harness.workbench import Workbench, open_workbench
from kernels.contract import SUBMISSION_FILE

DEMO_STRATEGIES = ("linear_probe", "ssl", "effnetv2_s")
DEMO_SEED = 7


@dataclass(frozen=True)
class DemoRow:
    """One strategy's line of the table."""

    strategy: str
    backbone: str
    score: Score
    seconds: float
    submission: Submission


@dataclass(frozen=True)
class DemoResult:
    """What the demo shows at its end."""

    rows: tuple[DemoRow, ...]
    blend: BlendAndSubmitResult
    folder: Path
    seconds: float
    report: Path | None = None  # the HTML page; None when it could not be made


def demo(
    settings: Settings,
    profile: str,
    strategies: Sequence[str],
    data: Path | None,
    solution: Path | None,
    progress: Callable[[str], None],
    logged: Callable[[Run, str], None],
) -> DemoResult:
    """Run the loop once.

    Args:
        data: A competition's folder; None draws a small one (with its solution).
        solution: Private answers for ``data``; without them the leaderboard answers "not scored".
        logged: Gets every kernel's log lines.

    Raises:
        HarnessError: From the step that failed; what was reached stays in the demo's folder.
    """
    started = time.monotonic()
    folder = settings.state / "demo" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    settings = with_state(settings, folder)
    first = load_strategy(settings.workspace, strategies[0])
    competition = competition_by_slug(settings.workspace, first.competition)
    if data is None:
        progress("drawing a small X-ray competition")
        drawn = draw_competition(folder / "competition", seed=DEMO_SEED)
        data, solution = drawn.data_folder, drawn.solution_csv
    add_competition(settings, competition, data, solution)
    specs = [RunSpec(strategy=name, profile=profile) for name in strategies]
    with open_workbench(settings, progress) as bench:
        progress(f"packaging, rendering and pushing {', '.join(strategies)} to the local Kaggle")
        runs: list[Run] = []
        left = specs
        while left and all(run.state is RunState.COMPLETE for run in runs):
            pushed = push(bench, left)
            runs += follow(
                bench,
                lambda run: progress(f"{run.run_id}: {run.state.lower()}"),
                logged,
                [item.run for item in pushed if isinstance(item, PushResult)],
            )
            # More than the sessions hold, or what starts from another one.
            left = [item.queued.spec for item in pushed if isinstance(item, Waiting)]
        progress("pulling outputs and checking them against the run contract")
        results = pull(bench, runs)
        for result in results:
            if result.error is not None:
                raise result.error
        progress("blending, validating and submitting")
        rows = tuple(_row(bench, result.run) for result in results)
        blended = blend_and_submit(
            bench,
            competition.slug,
            [run.run_id for run in runs],
            "demo: blend",
            # A demo of one strategy "blends" what that strategy has submitted already. A rehearsal is there
            # to show a blend: on its few films the floor would drop members by luck.
            options=Options(floor=0.0 if profile == "small" else None, reuse_identical=True),
        )
        page = _report(bench, profile)
    return DemoResult(rows, blended, folder, time.monotonic() - started, page)


def _report(bench: Workbench, profile: str) -> Path | None:
    """The HTML report beside the demo's state; a demo does not fail for want of it."""
    bench.settings = replace(bench.settings, profile=profile)  # whose runs are compared
    try:
        return write_report(bench).path
    except (HarnessError, OSError) as error:
        bench.progress(f"no report: {error}")
        return None


def _row(bench: Workbench, run: Run) -> DemoRow:
    """Score a run out-of-fold, and its own submission on the leaderboard."""
    competition = competition_by_slug(bench.settings.workspace, run.competition)
    strategy = load_strategy(bench.settings.workspace, run.spec.strategy)
    (outputs,) = load_members(bench, [run], competition)
    csv = outputs.folder / SUBMISSION_FILE
    score = score_run(outputs, competition)
    submission = submit_file(bench, competition, csv, f"demo: {run.run_id}", score)
    return DemoRow(
        strategy=run.spec.strategy,
        backbone=backbone_of(strategy.profiles.pick(run.spec.profile)) or "22 features",
        score=score,
        seconds=run.seconds or 0.0,
        submission=submission,
    )


def check_strategies(settings: Settings, names: Sequence[str]) -> None:
    """All strategies of one demo must belong to one competition (HarnessError names them)."""
    found = {name: load_strategy(settings.workspace, name).competition for name in names}
    if len(set(found.values())) > 1:
        raise HarnessError(f"These strategies belong to different competitions: {found}.")
