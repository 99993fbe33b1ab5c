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
    best: Run | None
    submissions: tuple[Submission, ...]
    next_step: str


def status(bench: Workbench) -> Status:
    """Read the ledger; nothing is asked of the remote."""
    runs = bench.ledger.runs(bench.settings.remote)
    submissions = tuple(bench.ledger.submissions(bench.settings.remote))
    profile, reason = choose_profile(bench.settings)
    open_runs = [run for run in runs if not run.state.is_final]
    complete = [run for run in runs if run.state is RunState.COMPLETE]
    scored = [run for run in complete if run.score_mean_fold is not None]
    failed = [run for run in runs if run.state.is_final and run.state is not RunState.COMPLETE]
    if not runs:
        next_step = "harness push STRATEGY (see: harness strategies)"
    elif open_runs:
        next_step = "harness watch --follow"
    elif len(scored) < len(complete):
        next_step = "harness pull"
    elif scored and (not submissions or submissions[-1].created_at < (scored[-1].pulled_at or "")):
        next_step = "harness blend-and-submit"
    else:
        next_step = "harness push STRATEGY (see: harness strategies)"
    return Status(
        remote=bench.settings.remote,
        profile=profile,
        profile_reason=reason,
        open=len(open_runs),
        to_pull=len(complete) - len(scored),
        pulled=len(scored),
        failed=len(failed),
        best=max(scored, key=lambda run: run.score_mean_fold or 0.0, default=None),
        submissions=submissions,
        next_step=next_step,
    )
