"""Watch: ask for the state of every open run, once or until all are final."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.commands.push import settle_intent
from harness.errors import HarnessError, RemoteUnavailable
from harness.records import Run, RunSpec, RunState
from harness.registry import load_strategy
from harness.remote import ReadRefused
from harness.render import configure
from harness.workbench import Workbench

FIRST_WAIT_S = 0.5
OUTAGE_S = 1800.0
LONGEST_WAIT_S = {"local": 2.0, "kaggle": 60.0}  # the real service answers 429 to eager polling


def refresh(bench: Workbench, runs: Sequence[Run] | None = None) -> list[Run]:
    """The open runs (or the named ones) with their state as the remote has it now.

    A run that the remote refuses to tell about is told and left as it was: the others go on.
    """
    fresh = []
    for run in bench.ledger.open_runs(bench.settings.remote) if runs is None else runs:
        if run.state is RunState.INTENT:
            with bench.locked(f"push-{run.kernel.slug}", wait=False) as ours:
                # Held by another process: the push is on its way.
                run = settle_intent(bench, bench.ledger.run(run.run_id)) if ours else run
        if not run.state.is_final and run.kernel.version is not None:
            try:
                status = bench.remote.kernel_status(run.kernel)
            except ReadRefused as error:
                bench.progress(f"{run.run_id}: {error}")
            else:
                failure = status.failure or run.failure
                if status.state is not run.state or failure != run.failure:
                    run = bench.ledger.update_run(run.run_id, state=status.state, failure=failure)
        fresh.append(run)
    return fresh


def refresh_patiently(bench: Workbench, runs: Sequence[Run]) -> list[Run]:
    """refresh, sitting out an unreachable service for OUTAGE_S before giving up."""
    started = time.monotonic()
    while True:
        try:
            return refresh(bench, runs)
        except RemoteUnavailable as error:
            if time.monotonic() - started > OUTAGE_S:
                raise
            bench.progress(f"{error.message} Kernels run on; asking again in a minute.")
            time.sleep(60.0)


def follow(
    bench: Workbench,
    changed: Callable[[Run], None],
    logged: Callable[[Run, str], None] | None = None,
    runs: Sequence[Run] | None = None,
) -> list[Run]:
    """Poll until every run is final, backing off; call ``changed`` when a state changes.

    Args:
        changed: Gets each run once at the start and after each change.
        logged: Gets lines of running kernels' logs as they come.

    Returns:
        The runs in their final state.
    """
    runs = refresh(bench, runs)
    told: dict[str, RunState] = {}
    tails: dict[str, _LogTail] = {}
    wait = FIRST_WAIT_S
    while True:
        news = False
        for run in runs:
            if logged is not None and run.state is RunState.RUNNING and run.run_id not in tails:
                tails[run.run_id] = _LogTail(bench, run)
            if told.get(run.run_id) is not run.state:
                if run.state.is_final and logged is not None and run.run_id in tails:
                    for line in tails[run.run_id].rest():
                        logged(run, line)
                changed(run)
                told[run.run_id], news = run.state, True
            elif logged is not None and run.run_id in tails:
                for line in tails[run.run_id].lines():
                    logged(run, line)
        if all(run.state.is_final for run in runs):
            return runs
        wait = FIRST_WAIT_S if news else min(wait * 1.4, LONGEST_WAIT_S[bench.settings.remote])
        time.sleep(wait)
        runs = refresh_patiently(bench, runs)


def models_of_spec(workspace: Path, spec: RunSpec) -> int | None:
    """How many (seed, fold) pairs a run trains; None when its strategy is not there any more."""
    try:
        strategy = load_strategy(workspace, spec.strategy, spec.variant)
        folds = configure(strategy, spec).pick(spec.profile).folds
    except (HarnessError, ValueError):
        return None
    chosen = folds.count if folds.run_folds is None else len(folds.run_folds)
    return chosen * len(folds.seeds)


class _LogTail:
    """A running kernel's log lines, read by a thread because the stream blocks between them."""

    def __init__(self, bench: Workbench, run: Run) -> None:
        self._queue: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(bench, run), daemon=True)
        self._thread.start()

    def _read(self, bench: Workbench, run: Run) -> None:
        pending = ""
        for text in bench.remote.follow_log(run.kernel):
            *whole, pending = (pending + text).split("\n")
            for line in whole:
                self._queue.put(line)
        if pending:
            self._queue.put(pending)

    def lines(self) -> list[str]:
        """What has come since the last call."""
        found = []
        while True:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                return found

    def rest(self) -> list[str]:
        """What has come, after giving the stream a moment to end."""
        self._thread.join(timeout=2.0)
        return self.lines()
