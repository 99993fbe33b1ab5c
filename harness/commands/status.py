"""Status: where things stand, from the ledger alone, and what to do next."""

from dataclasses import dataclass

from harness.records import Run, RunState, Submission
from harness.settings import choose_profile
from harness.workbench import Workbench


@dataclass(frozen=True)
class Status:
    """Counts of runs, the best of them, submissions, and the next command."""

    remote: str
    profile: str
    profile_reason: str
    open: int
    to_pull: int
    pulled: int
    failed: int
    failures: tuple[Run, ...]  # that nothing has come after: the newest run of their spec
    best: Run | None
    submissions: tuple[Submission, ...]
    next_step: str
    queued: int = 0  # pushes that wait for another run or a free session


def status(bench: Workbench) -> Status:
    """Read the ledger; nothing is asked of the remote."""
    runs = bench.ledger.runs(bench.settings.remote)
    submissions = tuple(bench.ledger.submissions(bench.settings.remote))
    profile, reason = choose_profile(bench.settings)
    open_runs = [run for run in runs if not run.state.is_final]
    complete = [run for run in runs if run.state is RunState.COMPLETE]
    scored = [run for run in complete if run.score_mean_fold is not None]
    failed = [run for run in runs if run.state.is_final and run.state is not RunState.COMPLETE]
    newest_of = {run.spec.label(): run for run in runs}
    unpulled = [run for run in runs if run.state.is_final and run.pulled_at is None]
    unpulled = [run for run in unpulled if run.state is not RunState.REJECTED]
    fitting = [run for run in scored if run.spec.profile == profile and run.spec.is_comparable()]
    newest = max((run.pulled_at or "" for run in fitting), default="")
    submitted = max((item.created_at for item in submissions), default="")
    queued = bench.ledger.queue(bench.settings.remote)
    if queued:
        next_step = "harness tick --follow"
    elif open_runs:
        next_step = "harness watch --follow"
    elif unpulled:
        next_step = "harness pull"
    elif newest > submitted:
        next_step = f"harness blend-and-submit --profile {profile}"
    elif scored and not fitting:
        next_step = f"harness blend-and-submit --profile {scored[-1].spec.profile}"
    else:
        next_step = "harness push STRATEGY (see: harness strategies; --force runs the same again)"
    return Status(
        remote=bench.settings.remote,
        profile=profile,
        profile_reason=reason,
        open=len(open_runs),
        to_pull=len(unpulled),
        pulled=len(scored),
        failed=len(failed),
        failures=tuple(run for run in failed if newest_of[run.spec.label()] is run),
        best=max(scored, key=lambda run: run.score_mean_fold or 0.0, default=None),
        submissions=submissions,
        next_step=next_step,
        queued=len(queued),
    )
