"""Watch: ask for the state of every open run, once or until all are final."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.commands.push import settle_intent
from harness.errors import HarnessError, RemoteUnavailable
from harness.failures import NEXT_STEPS, FailureKind, kind_after
from harness.records import Run, RunSpec, RunState
from harness.registry import load_strategy
from harness.remote import ReadRefused
from harness.render import configure
from harness.workbench import Workbench

FIRST_WAIT_S = 0.5
# How long an unreachable service is sat out, and how often it is asked meanwhile. Nothing but a server of
# its own stands between this command and the local Kaggle: no outage there lasts.
OUTAGE_S = {"local": 60.0, "kaggle": 1800.0}
OUTAGE_PAUSE_S = {"local": 1.0, "kaggle": 60.0}
HEARTBEAT_S = 300.0
VANISHED_LOOKS = 5
LONGEST_SESSION_S = 13 * 3600.0  # the service ends sessions after 12 h
GIVEN_UP = (FailureKind.STUCK, FailureKind.VANISHED)
LONGEST_STATE_S = {RunState.QUEUED: 24 * 3600.0, RunState.INTENT: 3600.0}
LONGEST_WAIT_S = {"local": 2.0, "kaggle": 60.0}  # the real service answers 429 to eager polling


def refresh(
    bench: Workbench,
    runs: Sequence[Run] | None = None,
    refused: Callable[[Run, ReadRefused], None] | None = None,
) -> list[Run]:
    """The open runs (or the named ones) with their state as the remote has it now.

    A run that the remote refuses to tell about is told (or given to ``refused``) and left as it was: the
    others go on.
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
                if refused is not None:
                    refused(run, error)
            else:
                # What a watch gave up on has been told about again.
                kept = None if run.failure_kind in GIVEN_UP else run.failure
                failure = status.failure or kept
                if status.state is not run.state or failure != run.failure:
                    run = bench.ledger.update_run(
                        run.run_id,
                        state=status.state,
                        failure=failure,
                        failure_kind=kind_after(status.state, failure),
                    )
        fresh.append(run)
    return fresh


def refresh_patiently(
    bench: Workbench,
    runs: Sequence[Run],
    refused: Callable[[Run, ReadRefused], None] | None = None,
) -> list[Run]:
    """refresh, sitting out an unreachable service for OUTAGE_S before giving up."""
    since: float | None = None
    while True:
        try:
            return refresh(bench, runs, refused)
        except RemoteUnavailable as error:
            since = sit_out(bench, error, since)


def sit_out(bench: Workbench, error: RemoteUnavailable, since: float | None) -> float:
    """Wait a little for a service that does not answer; whoever serves the local Kaggle is looked for anew.

    Args:
        since: What this returned after the failure before; None after an answer.

    Returns:
        time.monotonic() of the first failure in a row.

    Raises:
        RemoteUnavailable: That was longer than OUTAGE_S ago.
    """
    remote, now = bench.settings.remote, time.monotonic()
    since = now if since is None else since
    if now - since > OUTAGE_S[remote]:
        raise error
    pause = OUTAGE_PAUSE_S[remote]
    bench.progress(f"{error.message} Kernels run on; asking again in {pause:.0f} s.")
    time.sleep(pause)
    # There is but one real Kaggle, and its credentials are not asked for again.
    if remote == "local":
        bench.reconnect()
    return since


def follow(
    bench: Workbench,
    changed: Callable[[Run], None],
    logged: Callable[[Run, str], None] | None = None,
    runs: Sequence[Run] | None = None,
) -> list[Run]:
    """Poll until every run is final, backing off; call ``changed`` when a state changes.

    A run that the service keeps refusing to tell about, or that stays in one state for longer than a
    session may last, is given up with a word and keeps its state: it is looked at again next time.

    Args:
        changed: Gets each run once at the start and after each change.
        logged: Gets lines of running kernels' logs as they come.

    Returns:
        The runs as they ended, those given up included.

    Raises:
        RemoteUnavailable: The service was unreachable for OUTAGE_S.
    """
    watchdog = Watchdog(bench)
    runs = refresh(bench, runs, watchdog.refused)
    told: dict[str, RunState] = {}
    tails: dict[str, _LogTail] = {}
    wait = FIRST_WAIT_S
    while True:
        news = False
        for run in runs:
            if logged is not None and run.state is RunState.RUNNING:
                tail = tails.get(run.run_id)
                if tail is None or tail.remote is not bench.remote:  # or its connection is gone
                    tails[run.run_id] = _LogTail(bench, run, tail.told if tail is not None else 0)
            if told.get(run.run_id) is not run.state:
                if run.state.is_final and logged is not None and run.run_id in tails:
                    for line in tails[run.run_id].rest():
                        logged(run, line)
                changed(run)
                told[run.run_id], news = run.state, True
            elif logged is not None and run.run_id in tails:
                for line in tails[run.run_id].lines():
                    logged(run, line)
        runs = [watchdog.look(run) for run in runs]
        if all(run.state.is_final or run.run_id in watchdog.given_up for run in runs):
            return runs
        watchdog.heartbeat(runs, news)
        wait = FIRST_WAIT_S if news else min(wait * 1.4, LONGEST_WAIT_S[bench.settings.remote])
        time.sleep(wait)
        watched = [run for run in runs if run.run_id not in watchdog.given_up]
        fresh = {run.run_id: run for run in refresh_patiently(bench, watched, watchdog.refused)}
        runs = [fresh.get(run.run_id, run) for run in runs]


class Watchdog:
    """Bounds the wait for each run, and says now and then that it goes on.

    Durations are measured by a clock that does not jump, from the first look of this command on.
    """

    def __init__(self, bench: Workbench, clock: Callable[[], float] = time.monotonic) -> None:
        self.bench = bench
        self.given_up: set[str] = set()
        self._clock = clock
        self._refusals: dict[str, int] = {}
        self._refused_now: set[str] = set()
        self._since: dict[str, tuple[RunState, float]] = {}
        self._quiet_since = self._told = clock()

    def refused(self, run: Run, error: ReadRefused) -> None:
        """Count a refusal; after VANISHED_LOOKS in a row the kernel counts as vanished."""
        self._refused_now.add(run.run_id)
        self._refusals[run.run_id] = self._refusals.get(run.run_id, 0) + 1
        if self._refusals[run.run_id] >= VANISHED_LOOKS:
            self._give_up(
                run, FailureKind.VANISHED, f"the service no longer tells of it: {error.reason}"
            )

    def look(self, run: Run) -> Run:
        """Note a run's state; give it up when it has been the same for too long."""
        if run.state.is_final or run.run_id in self.given_up:
            return self.bench.ledger.run(run.run_id)
        if run.run_id not in self._refused_now:
            self._refusals.pop(run.run_id, None)
        self._refused_now.discard(run.run_id)
        state, since = self._since.get(run.run_id, (None, 0.0))
        now = self._clock()
        if state is not run.state:
            self._since[run.run_id] = (run.state, now)
        elif now - since > LONGEST_STATE_S.get(run.state, LONGEST_SESSION_S):
            hours = (now - since) / 3600
            self._give_up(
                run, FailureKind.STUCK, f"{run.state.lower()} for {hours:.0f} h without an end"
            )
            return self.bench.ledger.run(run.run_id)
        return run

    def _give_up(self, run: Run, kind: FailureKind, why: str) -> None:
        self.given_up.add(run.run_id)
        self.bench.ledger.update_run(run.run_id, failure=why, failure_kind=kind)
        self.bench.progress(f"{run.run_id}: {kind}: {why}. {NEXT_STEPS[kind]}")

    def heartbeat(self, runs: Sequence[Run], news: bool) -> None:
        """A line about what is waited for, when nothing has changed for HEARTBEAT_S."""
        now = self._clock()
        if news:
            self._quiet_since = self._told = now
        elif now - self._told >= HEARTBEAT_S:
            self._told = now
            states = [run.state.lower() for run in runs if not run.state.is_final]
            counts = ", ".join(f"{states.count(name)} {name}" for name in sorted(set(states)))
            self.bench.progress(f"{counts}; no change for {(now - self._quiet_since) / 60:.0f} min")


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
    """A running kernel's log lines, read by a thread because the stream blocks between them.

    ``told`` counts them; a tail that takes over from another leaves out as many.
    """

    def __init__(self, bench: Workbench, run: Run, told: int = 0) -> None:
        self.remote, self.told = bench.remote, told
        self._left_out = told
        self._queue: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(run,), daemon=True)
        self._thread.start()

    def _read(self, run: Run) -> None:
        pending = ""
        for text in self.remote.follow_log(run.kernel):
            *whole, pending = (pending + text).split("\n")
            for line in whole:
                self._queue.put(line)
        if pending:
            self._queue.put(pending)

    def lines(self) -> list[str]:
        """What has come since the last call."""
        found: list[str] = []
        while True:
            try:
                line = self._queue.get_nowait()
            except queue.Empty:
                return found
            if self._left_out:
                self._left_out -= 1
            else:
                self.told += 1
                found.append(line)

    def rest(self) -> list[str]:
        """What has come, after giving the stream a moment to end."""
        self._thread.join(timeout=2.0)
        return self.lines()
