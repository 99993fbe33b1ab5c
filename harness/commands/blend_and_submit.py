"""Blend and submit: choose members, mix them, pass the gate, hand the file in, wait for the score.

The file and its record stay in submissions/<competition>/ whatever happens afterwards. A submission that
was sent but not answered is looked up by the nonce in its message before anything is sent again.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.blending import Blend, blend_members, mix_test, scored
from harness.commands.members import (
    Lineup,
    choose_competition,
    choose_members,
    line_up_members,
    load_members,
    read_member_test,
    sample_submission,
)
from harness.commands.push import SETTLE_LOOKS, SETTLE_WAIT_S
from harness.commands.validation import (
    best_submission,
    gain_between,
    public_noise_of,
    validation_path,
)
from harness.durable import write_bytes
from harness.errors import RemoteUnavailable, SubmissionInvalid
from harness.gate import (
    DEFAULT_RESERVE,
    Earlier,
    Finding,
    block,
    earlier_findings,
    file_findings,
    gain_findings,
    limit_findings,
    read_submission,
    refuse_blocks,
    warning,
)
from harness.ledger import utc_now
from harness.provenance import (
    Validation,
    csv_bytes,
    import_record,
    make_record,
    rows_digest,
    run_record,
    save_validation,
)
from harness.records import Handle, Run, Submission, to_json
from harness.scoring import Score
from harness.standings import PublicNoise
from harness.workbench import Workbench, git_state
from kernels.config import Competition
from kernels.contract import SUBMISSION_FILE, sha256_file, write_json

if TYPE_CHECKING:
    import pandas as pd

    from harness.remote import SubmissionStatus

__all__ = ["BlendAndSubmitResult", "blend_and_submit", "load_members", "submit_file"]

SCORE_WAIT_S = 600.0


@dataclass(frozen=True)
class Options:
    """What a blend is asked for, beside its members."""

    method: str = "auc-weights"
    floor: float | None = None
    every_method: bool = False  # score all methods, for --explain
    groups: Path | None = None
    allow_shared_ids: bool = False
    reserve: int = DEFAULT_RESERVE
    reuse_identical: bool = (
        False  # ranks equal to an earlier submission: take that one, do not block
    )
    label: str | None = None  # in the file's name; None: the method


@dataclass(frozen=True)
class BlendAndSubmitResult:
    """The blend, its file, and the submission (None after a dry run, or when nobody confirmed)."""

    blend: Blend
    csv: Path
    record: Path
    submission: Submission | None
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    noise: PublicNoise | None = None


def blend_and_submit(
    bench: Workbench,
    competition_slug: str | None = None,
    runs: Sequence[str] = (),
    message: str = "",
    floor: float | None = None,
    dry_run: bool = False,
    options: Options | None = None,
    confirm: Callable[[Sequence[Finding]], bool] | None = None,
) -> BlendAndSubmitResult:
    """Blend, pass the gate, write the file and its record, and submit unless ``dry_run``.

    Args:
        runs: Run ids and names of imports; empty takes the newest of each strategy and all imports.
        confirm: Asked when the gate warns; None goes on. It never sees a block.

    Raises:
        BlendError: No or incompatible members.
        SubmissionInvalid: The gate blocks the file, or the service refused it; nothing is sent twice.
    """
    # One at a time: two would write the same files under each other's hands.
    with bench.locked("blend"):
        return _blend_and_submit(
            bench, competition_slug, runs, message, floor, dry_run, options, confirm
        )


def _blend_and_submit(
    bench: Workbench,
    competition_slug: str | None,
    runs: Sequence[str],
    message: str,
    floor: float | None,
    dry_run: bool,
    options: Options | None,
    confirm: Callable[[Sequence[Finding]], bool] | None,
) -> BlendAndSubmitResult:
    options = options or Options()
    if floor is not None:
        options = replace(options, floor=floor)
    pulled = bench.ledger.runs(bench.settings.remote)
    competition = choose_competition(bench, competition_slug, pulled)
    sources = choose_members(bench, competition, runs)
    sample_path = sample_submission(bench, competition)
    sample = read_submission(sample_path, competition.id_column)
    lineup = line_up_members(
        bench,
        sources,
        competition,
        named=bool(runs),
        groups=options.groups,
        allow_shared_ids=options.allow_shared_ids,
    )
    blend = blend_members(
        lineup.table,
        competition,
        options.method,
        options.floor,
        options.every_method,
        bench.progress,
    )
    blend = replace(blend, dropped=(*lineup.left_out, *blend.dropped))
    predictions = mix_test(
        blend.recipe,
        competition,
        list(sample[competition.id_column]),
        lambda name: read_member_test(bench, lineup.sources[name], competition),
    )
    csv = write_submission(bench, competition, options.label or blend.method, predictions)
    validation = Validation(lineup.table, blend.chosen.nested, rows_digest(lineup.table))
    findings = file_findings(
        read_submission(csv, competition.id_column),
        sample,
        competition.id_column,
        competition.metric,
    )
    refuse_blocks(findings, csv.name)
    record_path, record = write_record(bench, competition, blend, lineup, csv, predictions, options)
    gain = expected_gain(bench, competition, blend, validation, csv)
    findings += gain
    # The best member is named by the gate already when it is what a blend is measured against.
    notes = [text for text in blend.warnings if not gain or "this is no blend" in text]
    if dry_run:
        findings += ledger_findings(bench, competition, predictions, csv)
        return BlendAndSubmitResult(
            blend, csv, record_path, None, _texts(notes, findings), tuple(findings)
        )
    # From the look at what is in to the reference nobody else may submit here.
    with bench.locked(f"submit-{competition.slug}"):
        known = settle_earlier(bench, competition, sha256_file(csv))
        if known is None:
            found = ledger_findings(bench, competition, predictions, csv)
            twin = identical_submission(bench, competition, predictions, csv)
            if options.reuse_identical and twin is not None:
                blocked = [item for item in found if item.kind == "block"]
                found = [warning(item.what, item.change) for item in blocked]
                known = twin
            findings += found
            refuse_blocks(findings, csv.name)
        if known is None:
            findings += service_findings(bench, competition, options.reserve)
            refuse_blocks(findings, csv.name)
            if findings and confirm is not None and not confirm(findings):
                return BlendAndSubmitResult(
                    blend, csv, record_path, None, _texts(notes, findings), tuple(findings)
                )
            text = message or f"{blend.method} of {len(blend.members)}: " + ", ".join(
                m.run_id for m in blend.members
            )
            known = send(bench, competition, csv, text, blend.score, csv.stem)
        else:
            bench.progress(f"this file was submitted already (reference {known.ref})")
    submission = wait_for_score(bench, known)
    write_json(record_path, {**record, "submission": to_json(submission)})
    # The same bytes may have gone in under the name of an earlier day.
    sent_as = submission.csv.with_suffix(".json")
    if sent_as != record_path and sent_as.is_file():
        earlier = json.loads(sent_as.read_text("utf-8"))
        write_json(sent_as, {**earlier, "submission": to_json(submission)})
    return BlendAndSubmitResult(
        blend,
        csv,
        record_path,
        submission,
        _texts(notes, findings),
        tuple(findings),
        public_noise_of(bench, competition, submission),
    )


def _texts(notes: Sequence[str], findings: Sequence[Finding]) -> tuple[str, ...]:
    return (*notes, *(str(finding) for finding in findings))


def write_submission(
    bench: Workbench, competition: Competition, label: str, predictions: "pd.DataFrame"
) -> Path:
    """The blend as <date>-<label>-<hash>.csv. Equal bytes written today are found again, not written twice."""
    folder = bench.settings.submissions_folder / competition.slug
    folder.mkdir(parents=True, exist_ok=True)
    data = csv_bytes(predictions)
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    name = f"{day}-{label}-{hashlib.sha256(data).hexdigest()[:8]}.csv"
    write_bytes(folder / name, data)
    return folder / name


def write_record(
    bench: Workbench,
    competition: Competition,
    blend: Blend,
    lineup: Lineup,
    csv: Path,
    predictions: "pd.DataFrame",
    options: Options,
) -> tuple[Path, dict[str, Any]]:
    """Nested predictions and the provenance record, beside the file and in the ledger."""
    nested = validation_path(bench, csv.stem)
    save_validation(nested, lineup.table, blend.chosen.nested)
    members = []
    for member in blend.members:
        source = lineup.sources[member.run_id]
        if isinstance(source, Run):
            chain = run_record(source, bench.outputs_folder(source))
        else:
            chain = import_record(source)
        members.append({**to_json(member), **chain})
    sample = sample_submission(bench, competition)
    files = {
        "sample_submission_sha256": sha256_file(sample),
        "nested_predictions_sha256": sha256_file(nested),
        "groups_sha256": sha256_file(options.groups) if options.groups is not None else None,
    }
    record = make_record(
        competition,
        blend,
        lineup.table,
        members,
        csv,
        len(predictions),
        files,
        git_state(bench.settings.workspace),
        bench.settings.remote,
    )
    path = csv.with_suffix(".json")
    write_json(path, record)
    bench.ledger.add_blend(csv.stem, competition.slug, record)
    return path, record


# ---- what the gate is told -----------------------------------------------------------------------


def expected_gain(
    bench: Workbench, competition: Competition, blend: Blend, validation: Validation, csv: Path
) -> list[Finding]:
    """Is anything gained over the best earlier submission by CV, or without one over the best member?"""
    digest = sha256_file(csv)
    earlier = best_submission(bench, competition, validation, without=digest)
    if earlier is not None:
        gain = scored(lambda: gain_between(validation, earlier.validation))
        return gain_findings(gain, f"the submission {earlier.label} ({earlier.cv:.4f})")
    if len(blend.members) > 1:
        return gain_findings(blend.versus_best, f"its best member {blend.best.run_id}")
    return []


def ledger_findings(
    bench: Workbench, competition: Competition, predictions: "pd.DataFrame", csv: Path
) -> list[Finding]:
    """Compare with earlier submissions whose files are still as they were sent."""
    earlier = [
        Earlier(f"{item.csv.name} (reference {item.ref})", read_submission(item.csv, column))
        for column in [competition.id_column]
        for item in intact_submissions(bench, competition, sha256_file(csv))
    ]
    return earlier_findings(predictions, earlier, competition.id_column, competition.metric)


def intact_submissions(
    bench: Workbench, competition: Competition, without: str
) -> list[Submission]:
    """Submissions that arrived, with files that still have the bytes that were sent."""
    return [
        item
        for item in bench.ledger.submissions(bench.settings.remote, competition.slug)
        if item.ref is not None
        and item.status not in ("REFUSED", "ERROR")
        and item.sha256 != without
        and item.csv.is_file()
        and sha256_file(item.csv) == item.sha256
    ]


def identical_submission(
    bench: Workbench, competition: Competition, predictions: "pd.DataFrame", csv: Path
) -> Submission | None:
    """The newest earlier submission that the metric cannot tell from this one, or None."""
    for item in reversed(intact_submissions(bench, competition, sha256_file(csv))):
        other = Earlier(item.csv.name, read_submission(item.csv, competition.id_column))
        found = earlier_findings(predictions, [other], competition.id_column, competition.metric)
        if any(finding.kind == "block" for finding in found):
            return item
    return None


def service_findings(
    bench: Workbench, competition: Competition, reserve: int, *, kernel: bool = False
) -> list[Finding]:
    """What it takes, deadline and limits, as the service reports them now.

    Args:
        kernel: A kernel's version is submitted, not a file.
    """
    info = bench.remote.competition_info(competition.slug)
    limits = bench.remote.submission_limits(competition.slug)
    found = []
    if info.kernels_only and not kernel:
        step = "submit a kernel: harness push --inference --submit"
        found.append(block(f"{competition.slug} takes kernels, not files", step))
    return found + limit_findings(
        competition.slug,
        limits.today,
        limits.allowed_now,
        info.deadline,
        datetime.now(UTC),
        reserve,
        info.closed,
    )


# ---- sending -------------------------------------------------------------------------------------


def submit_file(
    bench: Workbench,
    competition: Competition,
    csv: Path,
    message: str,
    cv: Score | None = None,
    blend_id: str | None = None,
) -> Submission:
    """Hand a valid file in once and wait for its score.

    An identical file that is in already, or that was sent without an answer, is recognised: it is not
    submitted again.
    """
    with bench.locked(f"submit-{competition.slug}"):
        submission = settle_earlier(bench, competition, sha256_file(csv))
        if submission is None:
            refuse_blocks(service_findings(bench, competition, reserve=0), csv.name)
            submission = send(bench, competition, csv, message, cv, blend_id)
        else:
            bench.progress(f"this file was submitted already (reference {submission.ref})")
    return wait_for_score(bench, submission)


def settle_earlier(bench: Workbench, competition: Competition, digest: str) -> Submission | None:
    """The submission of these bytes that is in, or None. Unanswered ones are looked up by their nonce."""
    submission = None
    for earlier in bench.ledger.submissions(bench.remote.name, competition.slug):
        if earlier.sha256 != digest or earlier.status == "REFUSED":
            continue
        if earlier.ref is None:
            earlier = settle_submission(bench, earlier)
        if earlier.status not in ("ERROR", "REFUSED"):
            submission = earlier
    return submission


def settle_submission(bench: Workbench, submission: Submission) -> Submission:
    """Find out by its nonce whether an unanswered submission arrived: PENDING, else REFUSED.

    The caller holds the competition's submission lock: else it may be on its way in another process.
    """
    found = find_patiently(bench, submission.competition, submission.nonce)
    if found is None:
        return bench.ledger.update_submission(
            submission.submission_id, status="REFUSED", error="cut off before it arrived"
        )
    return bench.ledger.update_submission(submission.submission_id, ref=found.ref, status="PENDING")


def find_patiently(bench: Workbench, slug: str, nonce: str) -> "SubmissionStatus | None":
    """A submission by its nonce; the real service may show a new one late."""
    for look in range(SETTLE_LOOKS[bench.settings.remote]):
        if look:
            bench.progress("asking again whether an earlier submission arrived")
            time.sleep(SETTLE_WAIT_S)
        found = bench.remote.find_submission(slug, nonce)
        if found is not None:
            return found
    return None


def send(
    bench: Workbench,
    competition: Competition,
    csv: Path,
    message: str,
    cv: Score | None,
    blend_id: str | None,
    kernel: Handle | None = None,
) -> Submission:
    """Write the intent, send once, write the reference.

    Args:
        csv: What is sent; with ``kernel``, what that version wrote for the visible test.
        kernel: The version to submit in a code competition.
    """
    nonce = secrets.token_hex(4)
    submission = Submission(
        submission_id=f"{kernel.slug if kernel else csv.stem}-{nonce}",
        remote=bench.remote.name,
        competition=competition.slug,
        csv=csv,
        sha256=sha256_file(csv),
        message=message,
        nonce=nonce,
        created_at=utc_now(),
        blend_id=blend_id,
        cv_score=cv.mean_fold if cv else None,
        cv_low=cv.low if cv else None,
        cv_high=cv.high if cv else None,
        kernel=str(kernel) if kernel else None,
    )
    bench.ledger.add_submission(submission)
    try:
        text = f"{message} [{nonce}]"
        if kernel is None:
            ref = bench.remote.submit(competition.slug, csv, text)
        else:
            ref = bench.remote.submit_kernel(competition.slug, kernel, SUBMISSION_FILE, text)
    except SubmissionInvalid as error:
        bench.ledger.update_submission(
            submission.submission_id, status="REFUSED", error=error.message
        )
        raise
    bench.progress(f"submitted as reference {ref}; waiting for the score")
    return bench.ledger.update_submission(submission.submission_id, ref=ref, status="PENDING")


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
        submission, settled = refresh(bench, submission)
        if settled:
            if submission.status == "ERROR":
                raise SubmissionInvalid(
                    f"Submission {submission.ref} was not scored: "
                    f"{submission.error or 'no reason given'}."
                )
            return submission
        time.sleep(wait)
        wait = min(wait * 1.5, 15.0)
    raise RemoteUnavailable(
        f"Submission {submission.ref} has no score after {SCORE_WAIT_S:.0f} s; it is in.",
        "Run the same command again to wait on.",
    )


def refresh(bench: Workbench, submission: Submission) -> tuple[Submission, bool]:
    """Ask the service for a submission by its reference; whether it has been graded."""
    assert submission.ref is not None
    status = bench.remote.submission(submission.ref)
    if status.status == "PENDING":
        return submission, False
    return (
        bench.ledger.update_submission(
            submission.submission_id,
            status=status.status,
            public_score=status.public_score or None,
            private_score=status.private_score or None,
            error=status.error or None,
        ),
        True,
    )
