"""Tick: one step of everything, then out. Fit for cron; ``follow_ticks`` loops it until nothing is left.

States are asked for, unanswered pushes and submissions settled, scores fetched, finished runs pulled, runs
that stopped at their time budget taken up again, and what is queued is pushed as far as sessions go. Each
part is idempotent by itself, so a tick that was killed is made good by the next one.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.commands.chain import NotReady
from harness.commands.pull import pull, runs_to_pull
from harness.commands.push import (
    PushResult,
    Ready,
    prepare,
    publish_code,
    push_or_queue,
)
from harness.commands.watch import FIRST_WAIT_S, LONGEST_WAIT_S, refresh, sit_out
from harness.errors import HarnessError, PushRejected, RemoteUnavailable, RunFailed
from harness.ledger import utc_now
from harness.records import QueuedSpec, Run, RunSpec, RunState, to_json
from harness.registry import load_strategy
from harness.workbench import Workbench
from kernels.contract import INFERENCE_KIND, write_json

GPU_SESSIONS = 2  # that an account may have at once; for other kinds the service is asked


@dataclass(frozen=True)
class Action:
    """Something that a tick did or found: a verb, what it was done to, and a sentence for people."""

    what: str  # state, settled, scored, pulled, resumes, pushed, failed
    item: str  # a run's id, a spec's label or a submission's id
    text: str


@dataclass(frozen=True)
class TickReport:
    """What one tick did, and what it left."""

    actions: tuple[Action, ...] = ()
    waiting: tuple[QueuedSpec, ...] = ()
    open_runs: tuple[str, ...] = ()
    left: bool = False  # another tick may have something to do
    busy: bool = False  # another tick was at work, so this one did nothing

    @property
    def failed(self) -> tuple[Action, ...]:
        """What needs somebody to look at it."""
        return tuple(action for action in self.actions if action.what == "failed")


@dataclass
class _Step:
    """One tick at work."""

    bench: Workbench
    told: Callable[[Action], None]
    given_up: set[str]  # runs that could not be pulled, and what cannot be pushed: once is enough
    actions: list[Action] = field(default_factory=list)
    hopeful: bool = False  # something in the queue will become ready by itself

    def say(self, what: str, item: str, text: str) -> None:
        action = Action(what, item, text)
        self.actions.append(action)
        self.told(action)

    def give_up(self, item: str, error: HarnessError) -> None:
        self.given_up.add(item)
        self.say("failed", item, str(error))


def tick(
    bench: Workbench,
    told: Callable[[Action], None] = lambda _: None,
    given_up: set[str] | None = None,
) -> TickReport:
    """One step of everything. A second tick at the same time does nothing and says so.

    Args:
        told: Gets each action at once.
        given_up: Ids that failed in earlier ticks of this loop, added to here.

    Raises:
        RemoteUnavailable: The service did not answer; what was done before stays done.
    """
    with bench.locked("tick", wait=False) as ours:
        if not ours:
            return TickReport(left=True, busy=True)
        step = _Step(bench, told, set() if given_up is None else given_up)
        refresh_runs(step)
        pending = refresh_submissions(step)
        pull_finished(step)
        queue_unfinished(step)
        push_queued(step)
        still = bench.ledger.open_runs(bench.settings.remote)
        return TickReport(
            tuple(step.actions),
            tuple(bench.ledger.queue(bench.settings.remote)),
            tuple(run.run_id for run in still),
            left=bool(still or pending or step.hopeful),
        )


def follow_ticks(
    bench: Workbench, told: Callable[[Action], None], waits: Callable[[QueuedSpec], None]
) -> TickReport:
    """Tick until nothing is left that could move by itself, backing off while nothing happens.

    Args:
        waits: Gets what is queued, once for each new reason.

    Returns:
        The last tick's report, with the actions of all of them.
    """
    given_up: set[str] = set()
    actions: list[Action] = []
    reasons: dict[str, str] = {}
    wait, failing = FIRST_WAIT_S, None
    while True:
        try:
            report = tick(bench, told, given_up)
            failing = None
        except RemoteUnavailable as error:
            failing = sit_out(bench, error, failing)
            continue
        actions += report.actions
        for item in report.waiting:
            if reasons.get(item.spec.label()) != item.reason:
                reasons[item.spec.label()] = item.reason
                waits(item)
        if not report.left:
            return TickReport(tuple(actions), report.waiting, report.open_runs)
        longest = LONGEST_WAIT_S[bench.settings.remote]
        wait = FIRST_WAIT_S if report.actions else min(wait * 1.4, longest)
        time.sleep(wait)


def refresh_runs(step: _Step) -> None:
    """States as the remote has them; unanswered pushes settled."""
    before = {run.run_id: run.state for run in step.bench.ledger.open_runs(step.bench.remote.name)}
    for run in refresh(step.bench):
        old = before.get(run.run_id)
        if run.state is old:
            continue
        if old is RunState.INTENT:
            arrived = run.state is not RunState.REJECTED
            step.say("settled", run.run_id, f"its push {'arrived' if arrived else 'was lost'}")
        else:
            step.say("state", run.run_id, run.state.lower())


def refresh_submissions(step: _Step) -> bool:
    """Unanswered submissions settled, scores fetched; whether any is still without a score."""
    bench = step.bench
    open_ = [
        item
        for item in bench.ledger.submissions(bench.settings.remote)
        if item.status in ("INTENT", "PENDING")
    ]
    if not open_:
        return False
    from harness.commands.blend_and_submit import refresh as refresh_submission
    from harness.commands.blend_and_submit import settle_submission

    pending = False
    for item in open_:
        if item.ref is None:
            with bench.locked(f"submit-{item.competition}", wait=False) as ours:
                if not ours:  # it is on its way in another process
                    pending = True
                    continue
                item = settle_submission(bench, item)
                step.say("settled", item.submission_id, item.status.lower())
        if item.ref is None:
            continue
        item, graded = refresh_submission(bench, item)
        if not graded:
            pending = True
        elif item.status == "ERROR":
            step.say("failed", item.submission_id, f"not scored: {item.error or 'no reason given'}")
        else:
            score = item.public_score or "none shown"
            step.say("scored", item.submission_id, f"reference {item.ref}, public score {score}")
        record = item.csv.with_suffix(".json")
        if graded and record.is_file():
            kept = json.loads(record.read_text("utf-8"))
            write_json(record, {**kept, "submission": to_json(item)})
    return pending


def pull_finished(step: _Step) -> None:
    """Outputs of finished runs, checked; a run that failed is told once, with the end of its log."""
    runs = [
        run
        for run in runs_to_pull(step.bench, (), checkpoints=False)
        if run.run_id not in step.given_up
    ]
    for run in runs:
        (result,) = pull(step.bench, [run])
        if result.error is not None:
            step.give_up(run.run_id, result.error)
            continue
        if result.run.unfinished is not None:
            step.say("pulled", run.run_id, f"unfinished, {result.run.unfinished}")
            continue
        score = result.run.score_mean_fold
        text = f"{result.files} files, {result.bytes / 1e6:.1f} MB, verified"
        step.say(
            "pulled", run.run_id, text if score is None else f"{text}; out-of-fold {score:.4f}"
        )


def queue_unfinished(step: _Step) -> None:
    """Runs that stopped at their time budget, if nothing came after them, are queued to go on."""
    ledger = step.bench.ledger
    waiting = {item.spec for item in ledger.queue(step.bench.settings.remote)}
    parts: dict[RunSpec, list[Run]] = {}
    for run in ledger.runs(step.bench.settings.remote):
        if run.state is not RunState.REJECTED:
            parts.setdefault(run.spec, []).append(run)
    for spec, runs in parts.items():
        last = runs[-1]
        if last.unfinished is None or spec in waiting or spec.label() in step.given_up:
            continue
        if len(runs) > 1 and runs[-2].unfinished == last.unfinished:
            error = RunFailed(
                f"{last.run_id} came no further than {runs[-2].run_id}: {last.unfinished}.",
                "Give it a longer time budget, and push it again.",
            )
            step.give_up(spec.label(), error)
            continue
        step.say("resumes", last.run_id, last.unfinished)
        ledger.enqueue(
            QueuedSpec(
                step.bench.settings.remote,
                spec,
                force=False,
                created_at=utc_now(),
                reason=f"Goes on where {last.run_id} stopped.",
            )
        )


def push_queued(step: _Step) -> None:
    """What is queued, oldest first, as far as it is ready and sessions go."""
    bench, full = step.bench, full_sessions(step.bench)
    pushed = False
    for item in bench.ledger.queue(bench.settings.remote):
        label = item.spec.label()
        if label in step.given_up:
            continue
        if already_forced(bench, item):
            bench.ledger.dequeue(bench.settings.remote, item.spec)
            continue
        try:
            result = push_or_queue(bench, draft_of(bench, item.spec), item.force, full)
        except RemoteUnavailable:
            raise
        except PushRejected as error:
            # Refused, or running without an input: the ledger has it, and it must be changed first.
            bench.ledger.dequeue(bench.settings.remote, item.spec)
            step.give_up(label, error)
        except HarnessError as error:
            step.give_up(label, error)
        else:
            if isinstance(result, PushResult):
                there = "(was there already) " if result.already_there else ""
                step.say("pushed", result.run.run_id, f"{there}as {result.run.kernel}")
                pushed |= not result.already_there
            elif result.waits:
                step.hopeful = True
            else:
                step.give_up(label, NotReady(result.queued.reason, None, waits=False))
    if pushed:
        publish_code(bench)


def draft_of(bench: Workbench, spec: RunSpec) -> Ready:
    """The kernel of a queued spec: a strategy's without the runs it starts from, or a blend's."""
    from harness.commands.inference import plan_inference

    if spec.strategy == INFERENCE_KIND:
        return plan_inference(bench, spec.tag, None).ready
    return prepare(bench, spec, draft=True)


def full_sessions(bench: Workbench) -> dict[bool, str]:
    """By whether a GPU is wanted, why no further kernel may start: known without asking for GPUs only."""
    running = [
        run.run_id
        for run in bench.ledger.open_runs(bench.settings.remote)
        if run.state is not RunState.INTENT and wants_gpu(bench, run)
    ]
    if len(running) < GPU_SESSIONS:
        return {}
    return {True: f"{' and '.join(running)} use the {GPU_SESSIONS} GPU sessions."}


def wants_gpu(bench: Workbench, run: Run) -> bool:
    """Whether a run takes a GPU session, by what was pushed, else by its strategy."""
    path = bench.run_folder(run) / "kernel-metadata.json"
    if path.is_file():
        return bool(json.loads(path.read_text("utf-8")).get("enable_gpu"))
    strategy = load_strategy(bench.settings.workspace, run.spec.strategy, run.spec.variant)
    return strategy.accelerator == "gpu" and run.spec.profile == "full"


def already_forced(bench: Workbench, item: QueuedSpec) -> bool:
    """Whether a push with --force was made, and only leaving the queue was cut off."""
    return item.force and any(
        run.spec == item.spec
        and run.created_at >= item.created_at
        and run.state is not RunState.REJECTED
        for run in bench.ledger.runs(bench.settings.remote)
    )
