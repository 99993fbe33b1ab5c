"""Pull: fetch what finished runs wrote, check it against the contract, remember scores.

Small files come at once, checkpoints on request; the ledger knows the rest by hash. A run that failed
gives its log, with the last lines in the error. A run that stopped at its time budget has no scores: the
ledger says how far it came, and its state stays where it can be mounted.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.settling import confirm_state, restore_script
from harness.durable import settle, write_text
from harness.errors import ContractError, HarnessError, RunFailed
from harness.failures import Cause, find_cause
from harness.ledger import utc_now
from harness.outputs import is_small, manifest_files, read_manifest, read_outputs
from harness.records import PackedFile, Run, RunState
from harness.registry import competition_by_slug
from harness.remote import OutputListing, ReadRefused, log_text
from harness.terminal import plain
from harness.workbench import Workbench
from kernels.contract import (
    INFERENCE_KIND,
    MANIFEST_FILE,
    METRICS_FILE,
    FileRecord,
    file_faults,
    is_safe_relative,
    resume_of,
    sha256_file,
)

LOG_TAIL_LINES = 12


@dataclass(frozen=True)
class PullResult:
    """What was fetched of one run."""

    run: Run
    files: int
    bytes: int
    error: HarnessError | None = None


def pull(bench: Workbench, runs: Sequence[Run], checkpoints: bool = False) -> list[PullResult]:
    """Fetch and check each finished run. One run's fault does not stop the others."""
    results = []
    for run in runs:
        try:
            # Two at once would write the same files under each other's hands.
            with bench.locked(f"pull-{run.run_id}"):
                results.append(_pull_one(bench, bench.ledger.run(run.run_id), checkpoints))
        except (RunFailed, ContractError, ReadRefused) as error:
            results.append(PullResult(bench.ledger.run(run.run_id), 0, 0, error))
    return results


def _pull_one(bench: Workbench, run: Run, checkpoints: bool) -> PullResult:
    told = run.state
    if run.pulled_at is None:
        run = confirm_state(bench, run)
    if not run.state.is_final:
        raise ContractError(
            f"Run {run.run_id} has not ended after all: it is {run.state.lower()}.",
            "Wait with: harness watch --follow",
        )
    restore_script(bench, run)
    listing = list_outputs(bench, run, checkpoints)
    if listing is None:
        return PullResult(run, 0, 0)
    log = plain(log_text(listing.log))
    log_path = bench.log_path(run)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    write_text(log_path, log)
    if run.state is not RunState.COMPLETE:
        # The service's own words are often general; the log has the reason.
        cause = find_cause(run.state, run.failure, log)
        # Two answers that contradict each other settle nothing: the next pull asks once more.
        settled = run.state is told or not told.is_final
        bench.ledger.update_run(
            run.run_id,
            pulled_at=utc_now() if settled else None,
            failure=cause.reason,
            failure_kind=cause.kind,
        )
        raise RunFailed(failure_text(run, log, cause), f"{cause.next_step} Log: {log_path}")
    urls = safe_listing(run, listing)
    folder = bench.outputs_folder(run)
    if MANIFEST_FILE not in urls:
        raise ContractError(
            f"Run {run.run_id} is complete but wrote no {MANIFEST_FILE}.", f"Log: {log_path}"
        )
    manifest = fetch_manifest(bench, run, urls[MANIFEST_FILE], folder)
    files = manifest_files(manifest)
    count = size = 0
    for file in files:
        if not (checkpoints or is_small(file.path)) or _is_here(bench, run, file):
            continue
        if file.path not in urls:
            raise ContractError(f"Run {run.run_id}: the service does not list {file.path}.")
        if not is_small(file.path):
            bench.progress(f"{run.run_id}: {file.path} ({file.size / 1e6:.1f} MB)")
        bench.remote.fetch(urls[file.path], folder / file.path, size=file.size, sha256=file.sha256)
        count, size = count + 1, size + file.size
    local = {file.path for file in files if (folder / file.path).is_file()}
    bench.ledger.record_outputs(run.run_id, files, local)
    resume = resume_of(manifest)
    if resume is not None:
        run = bench.ledger.update_run(
            run.run_id,
            pulled_at=utc_now(),
            seconds=resume.seconds,
            unfinished=resume.describe(),
        )
        return PullResult(run, count, size)
    if manifest.get("kind") == INFERENCE_KIND:
        faults = file_faults(folder, [FileRecord(f.path, f.size, f.sha256) for f in files])
        if faults:
            raise ContractError(f"Run {run.run_id}: {faults[0]}.", "Pull it again.")
        metrics = json.loads((folder / METRICS_FILE).read_text("utf-8"))
        run = bench.ledger.update_run(
            run.run_id, pulled_at=utc_now(), seconds=metrics.get("seconds")
        )
        return PullResult(run, count, size)
    competition = competition_by_slug(bench.settings.workspace, run.competition)
    outputs = read_outputs(folder, run.run_id, competition, run.script_sha256)
    run = bench.ledger.update_run(
        run.run_id,
        pulled_at=utc_now(),
        score_mean_fold=outputs.metrics["score_mean_fold"],
        score_pooled=outputs.metrics["score_pooled"],
        seconds=outputs.metrics.get("seconds"),
    )
    return PullResult(run, count, size)


def fetch_manifest(bench: Workbench, run: Run, url: str, folder: Path) -> dict[str, Any]:
    """The manifest of a run's outputs, checked before it takes the place of one that is here.

    Raises:
        ContractError: See read_manifest; what is here stays as it was.
    """
    draft = folder.with_name(f"{folder.name}.incoming")
    try:
        bench.remote.fetch(url, draft / MANIFEST_FILE)
        try:
            manifest = read_manifest(draft, run.run_id, run.script_sha256)
        except ContractError:
            # Nothing vouches for the manifest itself: it may have been damaged on the way.
            bench.remote.fetch(url, draft / MANIFEST_FILE)
            manifest = read_manifest(draft, run.run_id, run.script_sha256)
        folder.mkdir(parents=True, exist_ok=True)
        settle(draft / MANIFEST_FILE, folder / MANIFEST_FILE)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def list_outputs(bench: Workbench, run: Run, checkpoints: bool) -> OutputListing | None:
    """What the remote lists of a run; None when it refuses to, and nothing of it is missing here."""
    try:
        return bench.remote.kernel_outputs(run.kernel)
    except ReadRefused as error:
        if not is_all_here(bench, run, checkpoints):
            raise
        bench.progress(f"note: {error.message} Its outputs are here, as they were pulled.")
        return None


def is_all_here(bench: Workbench, run: Run, checkpoints: bool) -> bool:
    """Whether a pulled run needs nothing of the remote: every file is here, as the run wrote it."""
    recorded = {file for file, _ in bench.ledger.outputs(run.run_id)}
    if run.state is not RunState.COMPLETE or run.pulled_at is None or not recorded:
        return False
    try:
        manifest = read_manifest(bench.outputs_folder(run), run.run_id, run.script_sha256)
    except ContractError:
        return False
    return set(manifest_files(manifest)) == recorded and all(
        _is_here(bench, run, file) for file in recorded if checkpoints or is_small(file.path)
    )


def safe_listing(run: Run, listing: OutputListing) -> dict[str, str]:
    """Name -> URL of a listing; names that leave the output folder are refused.

    Raises:
        ContractError: Naming the first such file.
    """
    for name, _ in listing.files:
        if not is_safe_relative(name):
            raise ContractError(
                f"Run {run.run_id}: the service lists {name!r}, outside the output folder."
            )
    return dict(listing.files)


def _is_here(bench: Workbench, run: Run, file: PackedFile) -> bool:
    path = bench.outputs_folder(run) / file.path
    return path.is_file() and path.stat().st_size == file.size and sha256_file(path) == file.sha256


def failure_text(run: Run, log: str, cause: Cause) -> str:
    """One paragraph: which run failed, its kind and cause, and the log's last lines."""
    lines = [line for line in log.splitlines() if line.strip()]
    tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])
    return f"Kernel {run.kernel} ended as {run.state} ({cause.kind}): {cause.reason}\n{tail}\n"


def runs_to_pull(bench: Workbench, names: Sequence[str], checkpoints: bool) -> list[Run]:
    """Finished runs that were not pulled yet; with names, the newest finished run of each.

    A name is a strategy or a run id.
    """
    finished = [
        run
        for run in bench.ledger.runs(bench.settings.remote)
        if run.state.is_final and run.state is not RunState.REJECTED
    ]
    if names:
        newest = {}
        for run in finished:
            for name in names:
                if name in (run.spec.strategy, run.run_id):
                    newest[name] = run
        return list({run.run_id: run for run in newest.values()}.values())
    if checkpoints:
        return [run for run in finished if run.state is RunState.COMPLETE]
    return [run for run in finished if run.pulled_at is None]
