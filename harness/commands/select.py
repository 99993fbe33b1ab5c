"""Select: propose the final two submissions, with reasons."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.blending import scored
from harness.commands.members import choose_competition
from harness.commands.validation import gain_between, known_submissions
from harness.errors import BlendError
from harness.gate import least_correlation, read_submission
from harness.standings import Candidate, Choice, final_two
from harness.workbench import Workbench
from kernels.config import Competition


@dataclass(frozen=True)
class Selection:
    """The proposal and everything it was chosen from, the best by CV first."""

    competition: str
    choices: tuple[Choice, ...]
    candidates: tuple[Candidate, ...]
    public_scores: dict[str, str | None]
    refs: dict[str, int | None]


def select(bench: Workbench, slug: str | None = None) -> Selection:
    """Weigh submissions by nested CV and by how differently they order the test rows.

    Raises:
        BlendError: No submission has a CV score and its file.
    """
    competition = choose_competition(bench, slug, bench.ledger.runs(bench.settings.remote))
    known = [
        item for item in known_submissions(bench, competition) if item.submission.csv.is_file()
    ]
    if not known:
        raise BlendError(
            f"No submission to {competition.slug} has a nested score yet.",
            "Submit with: harness blend-and-submit",
        )
    best = known[0]
    tables = [_values(item.submission.csv, competition) for item in known]
    candidates = []
    for item, table in zip(known, tables, strict=True):
        comparable = item is not best and item.validation.rows_sha256 == best.validation.rows_sha256
        gain = None
        if comparable:
            gain = scored(lambda a=item: gain_between(a.validation, best.validation))  # type: ignore[misc]
        similarity = None
        if item is not best and table.shape == tables[0].shape:
            similarity = least_correlation(table, tables[0])
        candidates.append(Candidate(item.label, item.cv, gain, similarity))
    return Selection(
        competition.slug,
        tuple(final_two(candidates)),
        tuple(candidates),
        {item.label: item.submission.public_score for item in known},
        {item.label: item.submission.ref for item in known},
    )


def _values(csv: Path, competition: Competition) -> np.ndarray:
    frame = read_submission(csv, competition.id_column).sort_values(competition.id_column)
    values: np.ndarray = frame[list(competition.target_columns)].to_numpy(dtype=np.float64)
    return values
