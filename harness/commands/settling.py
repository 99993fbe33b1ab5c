"""What push, pull and watch share about a run: its script here, and its state asked again."""

from harness.durable import write_text
from harness.failures import kind_after
from harness.notebooks import source_sha256
from harness.records import Run, RunState
from harness.remote import ReadRefused
from harness.render import CODE_FILE, NOTEBOOK_FILE
from harness.workbench import Workbench


def keep_script(bench: Workbench, run: Run, source: str) -> None:
    """Write a run's script beside its outputs, whole or not at all."""
    folder = bench.run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    # A notebook is JSON; no script begins like that.
    write_text(folder / (NOTEBOOK_FILE if source.startswith("{") else CODE_FILE), source)


def kept_script(bench: Workbench, run: Run) -> str | None:
    """The script or notebook that is kept of a run, or None."""
    for name in (CODE_FILE, NOTEBOOK_FILE):
        path = bench.run_folder(run) / name
        if path.is_file():
            return path.read_text("utf-8", "replace")
    return None


def restore_script(bench: Workbench, run: Run) -> None:
    """Fetch a run's script again when its copy here is lost or altered."""
    kept = kept_script(bench, run)
    if kept is not None and source_sha256(kept) == run.script_sha256:
        return
    found = bench.remote.kernel_source(run.kernel)
    if found is not None and source_sha256(found[1]) == run.script_sha256:
        keep_script(bench, run, found[1])


def confirm_state(bench: Workbench, run: Run) -> Run:
    """Ask again about a run that is said to have ended, before anything is built on that.

    The service has been seen to give the state of an earlier version's session for that of a new one.
    What it refuses to tell (the kernel may have been deleted) stays as it was.
    """
    if run.kernel.version is None or run.state is RunState.REJECTED:
        return run
    try:
        status = bench.remote.kernel_status(run.kernel)
    except ReadRefused:
        return run
    if status.state is run.state:
        return run
    bench.progress(f"{run.run_id}: {status.state.lower()} after all, not {run.state.lower()}")
    return bench.ledger.update_run(
        run.run_id,
        state=status.state,
        failure=status.failure,
        failure_kind=kind_after(status.state, status.failure),
        pulled_at=None,
    )
