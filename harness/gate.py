"""The submission gate: what would make a file invalid or a waste, found before it costs a submission.

A *block* is what the competition would refuse, or what cannot change the score. A *warning* is allowed
but hardly meant. Each says what would change it. Pure: what the service and the ledger know is
passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import SubmissionInvalid
from harness.reading import read_csv
from harness.scoring import Gain
from kernels.stats.metrics import find_metric
from kernels.stats.ranks import rank_average, spearman_correlation

if TYPE_CHECKING:
    import pandas as pd

NEARLY_THE_SAME = 0.999  # Spearman to an earlier submission
DEFAULT_RESERVE = 1  # submissions of the day that a warning keeps


@dataclass(frozen=True)
class Finding:
    """Something about a submission, and what would change it."""

    kind: str  # block | warning
    what: str
    change: str

    def __str__(self) -> str:
        return f"{self.what}; {self.change}"


def block(what: str, change: str) -> Finding:
    """A finding that stops the submission."""
    return Finding("block", what, change)


def warning(what: str, change: str) -> Finding:
    """A finding that a person may overrule."""
    return Finding("warning", what, change)


def refuse_blocks(findings: Sequence[Finding], name: str) -> None:
    """Raise SubmissionInvalid with every block in one line; nothing when there is none."""
    blocks = [finding for finding in findings if finding.kind == "block"]
    if blocks:
        text = "; ".join(finding.what for finding in blocks)
        changes = "; ".join(dict.fromkeys(finding.change for finding in blocks))
        raise SubmissionInvalid(
            f"{name}: {text}.", f"Nothing was submitted. What would change it: {changes}."
        )


# ---- the file itself -----------------------------------------------------------------------------


def read_submission(path: Path, id_column: str) -> "pd.DataFrame":
    """A submission or sample file with its ids as text.

    Raises:
        SubmissionInvalid: It cannot be read as a CSV, or has no id column.
    """
    try:
        frame = read_csv(path, [id_column])  # empty cells of other columns become NaN later
    except ValueError as error:
        raise SubmissionInvalid(f"{path.name} is no readable CSV: {error}.") from error
    if id_column not in frame.columns:
        raise SubmissionInvalid(
            f"{path.name} has no column {id_column!r}; it has {list(frame.columns)}."
        )
    return frame


def submission_faults(
    submission: "pd.DataFrame", sample: "pd.DataFrame", id_column: str, bounded: bool = True
) -> list[str]:
    """Everything that would make the competition refuse a submission; empty when nothing would.

    Both frames have the id column; the sample says which columns and ids there must be.

    Args:
        bounded: Predictions must lie in 0..1.
    """
    import pandas as pd

    faults = []
    if list(submission.columns) != list(sample.columns):
        return [f"columns are {list(submission.columns)}, the sample has {list(sample.columns)}"]
    ids, wanted = submission[id_column], sample[id_column]
    if len(ids) != len(wanted):
        faults.append(f"{len(ids)} rows, the sample has {len(wanted)}")
    repeated = ids[ids.duplicated()]
    if len(repeated):
        faults.append(f"{len(repeated)} ids appear twice (first: {repeated.iloc[0]})")
    missing = wanted[~wanted.isin(ids)]
    unexpected = ids[~ids.isin(wanted)]
    if len(missing) or len(unexpected):
        named = [f"{len(missing)} of {len(wanted)} ids missing"]
        named[0] += f" (first: {missing.iloc[0]})" if len(missing) else ""
        named.append(f"{len(unexpected)} unexpected")
        named[1] += f" (first: {unexpected.iloc[0]})" if len(unexpected) else ""
        faults.append(", ".join(named))
    for column in (name for name in sample.columns if name != id_column):
        values = pd.to_numeric(submission[column], errors="coerce").to_numpy(dtype=float)
        bad = ~np.isfinite(values)
        if bad.any():
            # Row 1 is the header, as a spreadsheet shows it.
            faults.append(
                f"{int(bad.sum())} NaN, inf or text in {column!r} (row {int(bad.argmax()) + 2})"
            )
        elif bounded and len(values) and (values.min() < 0 or values.max() > 1):
            row = int(((values < 0) | (values > 1)).argmax()) + 2
            faults.append(f"{column!r} leaves 0..1 (row {row})")
    return faults


def file_findings(
    submission: "pd.DataFrame", sample: "pd.DataFrame", id_column: str, metric: str = "auc"
) -> list[Finding]:
    """Blocks for faults of form, warnings for constant predictions."""
    bounded = find_metric(metric).needs != "values"
    faults = submission_faults(submission, sample, id_column, bounded)
    if faults:
        return [block(fault, "make the file like sample_submission.csv") for fault in faults]
    return [
        warning(text, "a member that tells images apart")
        for text in submission_warnings(submission, id_column)
    ]


def check_submission(path: Path, sample_path: Path, id_column: str) -> int:
    """Refuse an invalid file; the number of rows of a valid one.

    Raises:
        SubmissionInvalid: With every fault in one line.
    """
    sample = read_submission(sample_path, id_column)
    submission = read_submission(path, id_column)
    faults = submission_faults(submission, sample, id_column)
    if faults:
        raise SubmissionInvalid(f"{path.name}: {'; '.join(faults)}.", "Nothing was submitted.")
    return len(submission)


def submission_warnings(submission: "pd.DataFrame", id_column: str) -> list[str]:
    """What is allowed but hardly meant."""
    return [
        f"every prediction in {column!r} is the same: the leaderboard cannot rank it"
        for column in submission.columns
        if column != id_column and submission[column].nunique() == 1
    ]


# ---- limits and deadline -------------------------------------------------------------------------


def until_reset(now: datetime) -> str:
    """How long until the daily count starts anew at 00:00 UTC: ``3 h 20 min``."""
    moment = now.astimezone(UTC)
    midnight = (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    minutes = int((midnight - moment).total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def limit_findings(
    slug: str,
    made_today: int,
    allowed_now: int,
    deadline: str | None,
    now: datetime,
    reserve: int = DEFAULT_RESERVE,
    closed: bool = False,
) -> list[Finding]:
    """Deadline, daily limit and the reserve.

    Args:
        allowed_now: What the service still takes today.
        deadline: ISO 8601 in UTC, None when there is none.
        reserve: Submissions of the day that should be left.
        closed: The service takes no submissions at all.
    """
    if deadline is not None and now >= datetime.fromisoformat(deadline):
        return [
            block(
                f"the deadline of {slug} passed at {deadline}",
                "nothing: --dry-run still writes the file",
            )
        ]
    if closed:
        return [block(f"{slug} takes no submissions now", "its page may say why")]
    if allowed_now <= 0:
        return [
            block(
                f"No submissions to {slug} are left today ({made_today} made)",
                f"the count starts anew at 00:00 UTC, in {until_reset(now)}; the file is kept",
            )
        ]
    if allowed_now <= reserve:
        return [
            warning(
                f"only {allowed_now} of today's submissions {'is' if allowed_now == 1 else 'are'} left, "
                f"which --reserve {reserve} keeps",
                f"wait {until_reset(now)} for 00:00 UTC, or --reserve {allowed_now - 1}",
            )
        ]
    return []


# ---- earlier submissions -------------------------------------------------------------------------


@dataclass(frozen=True)
class Earlier:
    """An earlier submission's predictions, and what to call it."""

    label: str
    frame: "pd.DataFrame"


def earlier_findings(
    submission: "pd.DataFrame", earlier: Sequence[Earlier], id_column: str, metric: str
) -> list[Finding]:
    """A block when nothing that counts differs from an earlier submission, a warning when hardly.

    For a metric that only ranks (AUC), equal ranks are the same submission; for others, equal values.
    """
    ranks_only = find_metric(metric).needs == "scores"
    columns = [name for name in submission.columns if name != id_column]
    mine = submission.set_index(id_column)[columns].to_numpy(dtype=np.float64)
    ids = submission[id_column]
    findings: list[Finding] = []
    closest, nearest = -1.0, ""
    for item in earlier:
        if not set(columns) <= set(item.frame.columns):
            continue
        theirs = item.frame.set_index(id_column)[columns].reindex(ids).to_numpy(dtype=np.float64)
        if not np.isfinite(theirs).all():
            continue  # of another test set: nothing to compare
        same = (
            np.array_equal(rank_average(mine), rank_average(theirs))
            if ranks_only
            else np.array_equal(mine, theirs)
        )
        if same:
            what = "ranks" if ranks_only else "predictions"
            findings.append(
                block(
                    f"its {what} are identical to those of {item.label}, so its score will be too",
                    "other members or another --method",
                )
            )
            continue
        similar = least_correlation(mine, theirs)
        if similar > closest:
            closest, nearest = similar, item.label
    if not findings and closest >= NEARLY_THE_SAME:
        findings.append(
            warning(
                f"Spearman {closest:.5f} to {nearest}: it will score nearly the same",
                "members that differ more, or another --method",
            )
        )
    return findings


def least_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The lowest Spearman correlation over target columns (N, T); constant columns count as 0."""
    found = [spearman_correlation(a[:, j], b[:, j]) for j in range(a.shape[1])]
    return float(np.nan_to_num(found).min())


def gain_findings(gain: Gain, than: str) -> list[Finding]:
    """A warning when no gain is to be expected. Never a block: near AUC 1 hardly any is significant."""
    if gain.gain > 0:
        return []
    return [
        warning(
            f"no gain over {than} is to be expected: {gain.text()} (95 %)",
            "members that differ more; harness compare shows which do",
        )
    ]
