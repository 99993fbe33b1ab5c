"""Out-of-fold predictions of submissions, read back so that any two can be compared in pairs."""

from dataclasses import dataclass
from pathlib import Path

from harness.commands.members import read_member
from harness.errors import HarnessError
from harness.members import higher_is_better, line_up
from harness.provenance import Validation, load_validation, rows_digest
from harness.records import Run, Submission
from harness.scoring import Evidence, Gain
from harness.standings import PublicNoise, public_noise
from harness.workbench import Workbench
from kernels.config import Competition


@dataclass(frozen=True)
class Known:
    """A submission that can be paired with others."""

    submission: Submission
    label: str
    cv: float
    validation: Validation


def validation_path(bench: Workbench, blend_id: str) -> Path:
    """Where a blend's nested predictions are kept."""
    return bench.settings.state / "blends" / f"{blend_id}.npz"


def validation_of(
    bench: Workbench, competition: Competition, submission: Submission
) -> Validation | None:
    """A submission's out-of-fold predictions: the blend's nested ones, or those of the run it came from."""
    if submission.blend_id is not None:
        return load_validation(validation_path(bench, submission.blend_id))
    run = run_of(bench, submission)
    if run is None:
        return None
    try:
        outputs = read_member(bench, run, competition)
        table = line_up([outputs], competition, 1, allow_shared_ids=True)
    except HarnessError:
        return None
    return Validation(table, table.predictions[0], rows_digest(table))


def run_of(bench: Workbench, submission: Submission) -> Run | None:
    """The run whose own submission.csv was handed in, or None."""
    for run in bench.ledger.runs(bench.settings.remote):
        if submission.csv.is_relative_to(bench.outputs_folder(run)):
            return run
    return None


def gain_between(a: Validation, b: Validation) -> Gain:
    """How much better a is than b, on the same rows (ValueError for other rows)."""
    if a.rows_sha256 != b.rows_sha256:
        raise ValueError("the two were validated on different rows")
    return Evidence(a.table).gain("a", a.predictions, "b", b.predictions)


def label_of(submission: Submission) -> str:
    """What a submission is called in tables: its file, or the run it came from."""
    name = submission.csv.stem
    return submission.csv.parent.parent.name if name == "submission" else name


def known_submissions(bench: Workbench, competition: Competition) -> list[Known]:
    """Scored submissions with out-of-fold predictions, the best by CV first, one for each file."""
    sign = 1 if higher_is_better(competition) else -1
    found: dict[str, Known] = {}
    for item in bench.ledger.submissions(bench.settings.remote, competition.slug):
        if item.ref is None or item.status in ("REFUSED", "ERROR") or item.cv_score is None:
            continue
        validation = validation_of(bench, competition, item)
        if validation is not None:
            found[item.sha256] = Known(item, label_of(item), item.cv_score, validation)
    return sorted(found.values(), key=lambda known: -sign * known.cv)


def best_submission(
    bench: Workbench, competition: Competition, validation: Validation, without: str
) -> Known | None:
    """The best earlier submission by CV on the same rows, other than the file of a given sha256."""
    for known in known_submissions(bench, competition):
        same_rows = known.validation.rows_sha256 == validation.rows_sha256
        if same_rows and known.submission.sha256 != without:
            return known
    return None


def public_noise_of(
    bench: Workbench, competition: Competition, submission: Submission
) -> PublicNoise | None:
    """Whether a submission's public gain over the best before it is noise; None for the first one."""
    sign = 1 if higher_is_better(competition) else -1
    if not submission.public_score:
        return None
    before = [
        item
        for item in bench.ledger.submissions(bench.settings.remote, competition.slug)
        if item.public_score
        and item.submission_id != submission.submission_id
        and item.sha256 != submission.sha256
        and item.created_at < submission.created_at
    ]
    if not before:
        return None
    best = max(before, key=lambda item: sign * float(item.public_score or 0))
    gain = sign * (float(submission.public_score) - float(best.public_score or 0))
    mine = validation_of(bench, competition, submission)
    theirs = validation_of(bench, competition, best)
    error, n, paired = None, 0, False
    try:
        if mine is not None and theirs is not None and mine.rows_sha256 == theirs.rows_sha256:
            error, n, paired = gain_between(mine, theirs).standard_error, mine.table.n, True
        elif mine is not None:
            score = Evidence(mine.table).score("a", mine.predictions)
            error, n = score.standard_error, score.n
    except ValueError:
        error = None
    return public_noise(gain, error, n, competition.public_rows, paired)
