"""The submission gate: what would make a file invalid, found before it costs a submission. Pure."""

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import SubmissionInvalid

if TYPE_CHECKING:
    import pandas as pd


def read_submission(path: Path, id_column: str) -> "pd.DataFrame":
    """A submission or sample file with its ids as text.

    Raises:
        SubmissionInvalid: It cannot be read as a CSV, or has no id column.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype={id_column: str})
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise SubmissionInvalid(f"{path.name} is no readable CSV: {error}.") from error
    if id_column not in frame.columns:
        raise SubmissionInvalid(
            f"{path.name} has no column {id_column!r}; it has {list(frame.columns)}."
        )
    return frame


def submission_faults(
    submission: "pd.DataFrame", sample: "pd.DataFrame", id_column: str
) -> list[str]:
    """Everything that would make the competition refuse a submission; empty when nothing would.

    Both frames have the id column; the sample says which columns and ids there must be.
    """
    import numpy as np
    import pandas as pd

    faults = []
    if list(submission.columns) != list(sample.columns):
        return [f"columns are {list(submission.columns)}, the sample has {list(sample.columns)}"]
    ids, wanted = submission[id_column], sample[id_column]
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
        elif len(values) and (values.min() < 0 or values.max() > 1):
            row = int(((values < 0) | (values > 1)).argmax()) + 2
            faults.append(f"{column!r} leaves 0..1 (row {row})")
    return faults


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
