"""Dry run: the exact bytes a push would send, run on this machine in the small profile.

The rehearsal is a push to a throw-away local Kaggle whose kernels get HARNESS_PROFILE=small. The data
is the local Kaggle's, where it has the competition, else a small drawn one.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.commands.chain import output_dataset
from harness.commands.local import add_competition, find_competition_folder
from harness.commands.pull import pull
from harness.commands.push import prepare, required_datasets
from harness.commands.watch import follow
from harness.emulator import State
from harness.ledger import utc_now
from harness.publishing import publish
from harness.records import DatasetBuild, KernelBuild, Run, RunSpec, RunState
from harness.registry import competition_by_slug
from harness.settings import with_state
from harness.synthetic import draw_competition
from harness.workbench import Workbench, open_workbench

REHEARSAL_PROFILE = "small"
KERNEL_ENVIRONMENT = {"HARNESS_PROFILE": REHEARSAL_PROFILE}


@dataclass(frozen=True)
class DryRunResult:
    """A rehearsal that passed: the contract holds for what the script wrote."""

    build: KernelBuild
    folder: Path  # the script, its log and outputs
    seconds: float
    score_mean_fold: float
    drawn_data: bool


@dataclass(frozen=True)
class Rehearsed:
    """A throw-away run that ended well."""

    run: Run
    folder: Path  # the script, its log and outputs
    drawn_data: bool


def new_folder(parent: Path, name: str) -> Path:
    """A folder for one rehearsal. Those of earlier ones that have ended are cleared away."""
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{name}.*"):
        if not active_sessions(old / "local-kaggle"):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=parent))


def active_sessions(local_folder: Path) -> list[int]:
    """Numbers of the kernels that still run on a local Kaggle."""
    if not local_folder.is_dir():
        return []
    state = State(local_folder)
    try:
        return [int(session["id"]) for session in state.sessions(active=True)]
    finally:
        state.close()


def end_kernels(local_folder: Path) -> None:
    """Cancel what a rehearsal that was given up has running."""
    state = State(local_folder)
    try:
        for session in state.sessions(active=True):
            state.cancel(int(session["id"]))
    finally:
        state.close()


def dry_run(bench: Workbench, spec: RunSpec, logged: Callable[[str], None]) -> DryRunResult:
    """Rehearse a spec; the ledger remembers that its digest passed.

    Args:
        logged: Gets the kernel's log lines as they come.

    Raises:
        RunFailed: The script failed; the message has the log's last lines and its path.
        ContractError: It ended, but what it wrote breaks the run contract.
    """
    started = time.monotonic()
    item = prepare(bench, spec)
    small = replace(spec, profile=REHEARSAL_PROFILE, overrides=(), folds=None, seeds=None)
    extra = [d for d in required_datasets(bench, item.strategy, small) if d not in item.datasets]
    if spec.profile == REHEARSAL_PROFILE and bench.settings.chain != "dataset":
        # No kernel has run there. In another profile than the rehearsal's the script wants none of them.
        extra += [output_dataset(bench, upstream.run) for upstream in item.upstream]
    datasets = (*item.datasets, *extra)
    found = rehearse(
        bench, item.build, item.competition, datasets, small, logged, KERNEL_ENVIRONMENT
    )
    seconds = time.monotonic() - started
    bench.ledger.record_dry_run(item.build.digest, seconds)
    assert found.run.score_mean_fold is not None
    return DryRunResult(
        item.build, found.folder, seconds, found.run.score_mean_fold, found.drawn_data
    )


def rehearse(
    bench: Workbench,
    build: KernelBuild,
    competition_slug: str,
    datasets: Sequence[DatasetBuild],
    spec: RunSpec,
    logged: Callable[[str], None],
    environment: Mapping[str, str],
) -> Rehearsed:
    """Run a build's exact bytes on a throw-away local Kaggle and check what they wrote.

    Args:
        datasets: All that it finds mounted: outputs of other kernels too, since none has run there.
        spec: What the outputs are known by.
        environment: Given to the kernel.

    Raises:
        RunFailed, ContractError: See dry_run.
    """
    folder = new_folder(bench.settings.state / "dry-runs", build.handle.slug)
    settings = replace(with_state(bench.settings, folder), remote="local", owner=None)
    competition = competition_by_slug(settings.workspace, competition_slug)
    data = find_competition_folder(bench.settings, competition.slug)
    solution = None
    if data is None:
        drawn = draw_competition(
            folder / "drawn", n_unlabelled=48, n_labelled=64, n_test=24, size=128
        )
        data, solution = drawn.data_folder, drawn.solution_csv
    add_competition(settings, competition, data, solution)
    with open_workbench(settings, bench.progress, environment) as rehearsal:
        remote = rehearsal.remote
        for dataset in datasets:
            publish(dataset, remote, rehearsal.ledger, remote.owner, lambda _: None)
        build = replace(
            build,
            handle=replace(build.handle, owner=remote.owner),
            metadata={
                **build.metadata,
                "id": f"{remote.owner}/{build.handle.slug}",
                "dataset_sources": [f"{remote.owner}/{d.slug}" for d in datasets],
                "kernel_sources": [],
            },
        )
        run = rehearsal.ledger.add_run(
            Run(
                run_id="",
                remote="local",
                spec=spec,
                competition=competition.slug,
                kernel=build.handle,
                digest=build.digest,
                script_sha256=build.script_sha256,
                commit=None,
                dirty=False,
                datasets={},
                created_at=utc_now(),
                state=RunState.INTENT,
            )
        )
        version = remote.push_kernel(build)
        run = rehearsal.ledger.update_run(run.run_id, version=version, state=RunState.QUEUED)
        try:
            (run,) = follow(rehearsal, lambda _: None, lambda _, line: logged(line), [run])
        except BaseException:
            end_kernels(settings.local_folder)
            raise
        rehearsal.run_folder(run).mkdir(parents=True, exist_ok=True)
        kept = rehearsal.run_folder(run) / build.metadata["code_file"]
        kept.write_text(build.source, encoding="utf-8")
        (result,) = pull(rehearsal, [run], checkpoints=True)
        if result.error is not None:
            raise result.error
        return Rehearsed(result.run, rehearsal.run_folder(run), solution is not None)
