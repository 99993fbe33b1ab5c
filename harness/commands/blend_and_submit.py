"""Blend and submit: choose members, weight them by AUC, check the file, hand it in, wait for the score.

The file and its record stay in submissions/<competition>/ whatever happens afterwards. A submission that
was sent but not answered is looked up by the nonce in its message before anything is sent again.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import __version__
from harness.blending import Blend, blend_by_auc, eligible_runs
from harness.errors import BlendError, RemoteUnavailable, SubmissionInvalid
from harness.gate import check_submission, read_submission, submission_warnings
from harness.ledger import utc_now
from harness.outputs import RunOutputs, read_outputs
from harness.records import Run, Submission, to_json
from harness.registry import competition_by_slug, load_strategies
from harness.settings import choose_profile
from harness.workbench import Workbench, git_state
from kernels.config import Competition
from kernels.contract import sha256_file, write_json

SAMPLE_FILE = "sample_submission.csv"
SCORE_WAIT_S = 600.0


@dataclass(frozen=True)
class BlendAndSubmitResult:
    """The blend, its file, and the submission (None after a dry run)."""

    blend: Blend
    csv: Path
    record: Path
    submission: Submission | None
    warnings: tuple[str, ...]


def choose_competition(bench: Workbench, slug: str | None, runs: Sequence[Run]) -> Competition:
    """The named competition, or the only one that has pulled runs (BlendError when it is not clear)."""
    if slug is not None:
        return competition_by_slug(bench.settings.workspace, slug)
    slugs = sorted({run.competition for run in runs if run.score_mean_fold is not None})
    if not slugs:
        raise BlendError(
            "There are no pulled runs yet.", "First: harness push STRATEGY, then: harness pull"
        )
    if len(slugs) > 1:
        raise BlendError(f"Pulled runs belong to {', '.join(slugs)}.", "Choose with --competition.")
    return competition_by_slug(bench.settings.workspace, slugs[0])


def choose_members(bench: Workbench, competition: Competition, names: Sequence[str]) -> list[Run]:
    """Runs by id, or all that a blend takes unasked."""
    if names:
        chosen = [bench.ledger.run(name) for name in dict.fromkeys(names)]
        for run in chosen:
            if run.score_mean_fold is None or run.competition != competition.slug:
                raise BlendError(
                    f"Run {run.run_id} has no pulled results for {competition.slug} ({run.state}).",
                    "First: harness pull",
                )
        return chosen
    profile, _ = choose_profile(bench.settings)
    runs = bench.ledger.runs(bench.settings.remote)
    blendable = {item.name for item in load_strategies(bench.settings.workspace) if item.in_blend}
    found = eligible_runs(runs, competition.slug, profile, blendable)
    if not found:
        raise BlendError(
            f"No complete, pulled, all-folds run of profile {profile!r} for {competition.slug}.",
            "Push and pull some, or name runs with --runs (see: harness runs).",
        )
    return found


def sample_submission(bench: Workbench, competition: Competition) -> Path:
    """The competition's sample submission, fetched once."""
    path = bench.settings.cache_folder / bench.settings.remote / competition.slug / SAMPLE_FILE
    if not path.is_file():
        bench.remote.competition_file(competition.slug, SAMPLE_FILE, path)
    return path


def load_members(
    bench: Workbench, runs: Sequence[Run], competition: Competition
) -> list[RunOutputs]:
    """Read and check every member's pulled files again: disks change."""
    return [
        read_outputs(bench.outputs_folder(run), run.run_id, competition, run.script_sha256)
        for run in runs
    ]


def blend_and_submit(
    bench: Workbench,
    competition_slug: str | None = None,
    runs: Sequence[str] = (),
    message: str = "",
    floor: float | None = None,
    dry_run: bool = False,
) -> BlendAndSubmitResult:
    """Blend, validate, write the file and its record, and submit unless ``dry_run``.

    Raises:
        BlendError: No or incompatible members.
        SubmissionInvalid: The file would be refused, or was; nothing is sent twice.
    """
    pulled = bench.ledger.runs(bench.settings.remote)
    competition = choose_competition(bench, competition_slug, pulled)
    members = choose_members(bench, competition, runs)
    sample_path = sample_submission(bench, competition)
    sample = read_submission(sample_path, competition.id_column)
    outputs = load_members(bench, members, competition)
    blend = blend_by_auc(outputs, competition, list(sample[competition.id_column]), floor)
    csv = write_submission(bench, competition, blend)
    check_submission(csv, sample_path, competition.id_column)
    warnings = blend.warnings + tuple(submission_warnings(blend.predictions, competition.id_column))
    record_path = csv.with_suffix(".json")
    record = provenance_record(bench, competition, blend, members, csv)
    write_json(record_path, record)
    bench.ledger.add_blend(csv.stem, competition.slug, record)
    if dry_run:
        return BlendAndSubmitResult(blend, csv, record_path, None, warnings)
    text = message or f"{blend.method} of {len(blend.members)}: " + ", ".join(
        m.run_id for m in blend.members
    )
    submission = submit_file(bench, competition, csv, text)
    write_json(record_path, {**record, "submission": to_json(submission)})
    return BlendAndSubmitResult(blend, csv, record_path, submission, warnings)


def write_submission(bench: Workbench, competition: Competition, blend: Blend) -> Path:
    """The blend as <date>-<name>.csv. Equal bytes written today are found again, not written twice."""
    folder = bench.settings.submissions_folder / competition.slug
    folder.mkdir(parents=True, exist_ok=True)
    data = blend.predictions.to_csv(index=False, lineterminator="\n").encode()
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    name = f"{day}-{blend.method}-{hashlib.sha256(data).hexdigest()[:8]}.csv"
    path = folder / name
    temporary = path.with_suffix(".part")
    temporary.write_bytes(data)
    temporary.replace(path)
    return path


def provenance_record(
    bench: Workbench, competition: Competition, blend: Blend, runs: Sequence[Run], csv: Path
) -> dict[str, Any]:
    """Everything needed to tell where a submission file came from."""
    commit, dirty = git_state(bench.settings.workspace)
    by_id = {run.run_id: run for run in runs}
    versions = {"harness": __version__}
    for name in ("kaggle", "kagglesdk", "numpy", "pandas"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "schema_version": 1,
        "created_at": utc_now(),
        "competition": competition.slug,
        "file": {"name": csv.name, "sha256": sha256_file(csv), "rows": len(blend.predictions)},
        "method": blend.method,
        "score_nested": to_json(blend.score),
        "score_rank_mean": to_json(blend.rank_mean),
        "members": [
            {
                **to_json(member),
                "kernel": str(by_id[member.run_id].kernel),
                "script_sha256": by_id[member.run_id].script_sha256,
                "digest": by_id[member.run_id].digest,
                "commit": by_id[member.run_id].commit,
                "dirty": by_id[member.run_id].dirty,
                "datasets": by_id[member.run_id].datasets,
                "spec": to_json(by_id[member.run_id].spec),
                "manifest_sha256": sha256_file(
                    bench.outputs_folder(by_id[member.run_id]) / "manifest.json"
                ),
            }
            for member in blend.members
        ],
        "dropped": [{"run_id": run_id, "reason": reason} for run_id, reason in blend.dropped],
        "git": {"commit": commit, "dirty": dirty},
        "versions": versions,
        "remote": bench.settings.remote,
        "submission": None,
    }


def submit_file(bench: Workbench, competition: Competition, csv: Path, message: str) -> Submission:
    """Hand a valid file in once and wait for its score.

    An identical file that is in already, or that was sent without an answer, is recognised: it is not
    submitted again.
    """
    digest = sha256_file(csv)
    remote, ledger = bench.remote, bench.ledger
    submission = None
    for earlier in ledger.submissions(remote.name, competition.slug):
        if earlier.sha256 != digest or earlier.status == "REFUSED":
            continue
        if earlier.ref is None:
            found = remote.find_submission(competition.slug, earlier.nonce)
            if found is None:
                ledger.update_submission(
                    earlier.submission_id, status="REFUSED", error="cut off before it arrived"
                )
                continue
            earlier = ledger.update_submission(
                earlier.submission_id, ref=found.ref, status="PENDING"
            )
        if earlier.status != "ERROR":
            bench.progress(f"this file was submitted already (reference {earlier.ref})")
            submission = earlier
    if submission is None:
        limits = remote.submission_limits(competition.slug)
        if limits.allowed_now <= 0:
            raise SubmissionInvalid(
                f"No submissions to {competition.slug} are left today ({limits.today} made).",
                f"The count starts anew at 00:00 UTC. The file is kept: {csv}",
            )
        nonce = secrets.token_hex(4)
        submission = Submission(
            submission_id=f"{csv.stem}-{nonce}",
            remote=remote.name,
            competition=competition.slug,
            csv=csv,
            sha256=digest,
            message=message,
            nonce=nonce,
            created_at=utc_now(),
        )
        ledger.add_submission(submission)
        try:
            ref = remote.submit(competition.slug, csv, f"{message} [{nonce}]")
        except SubmissionInvalid as error:
            ledger.update_submission(
                submission.submission_id, status="REFUSED", error=error.message
            )
            raise
        submission = ledger.update_submission(submission.submission_id, ref=ref, status="PENDING")
        bench.progress(f"submitted as reference {ref}; waiting for the score")
    return wait_for_score(bench, submission)


def wait_for_score(bench: Workbench, submission: Submission) -> Submission:
    """Ask for the submission by its reference until it is graded.

    Raises:
        SubmissionInvalid: Grading ended in an error.
        RemoteUnavailable: No score within SCORE_WAIT_S; the submission itself is in.
    """
    assert submission.ref is not None
    deadline = time.monotonic() + SCORE_WAIT_S
    wait = 0.2
    while time.monotonic() < deadline:
        status = bench.remote.submission(submission.ref)
        if status.status != "PENDING":
            submission = bench.ledger.update_submission(
                submission.submission_id,
                status=status.status,
                public_score=status.public_score or None,
                private_score=status.private_score or None,
                error=status.error or None,
            )
            if status.status == "ERROR":
                raise SubmissionInvalid(
                    f"Submission {submission.ref} was not scored: {status.error or 'no reason given'}."
                )
            return submission
        time.sleep(wait)
        wait = min(wait * 1.5, 15.0)
    raise RemoteUnavailable(
        f"Submission {submission.ref} has no score after {SCORE_WAIT_S:.0f} s; it is in.",
        "Run the same command again to wait on.",
    )
