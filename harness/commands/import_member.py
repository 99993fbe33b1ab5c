"""Import: predictions from anywhere become a member, checked against our runs and marked as such.

An out-of-fold file holds an id and predictions, and may hold seed, fold and targets. What it lacks is
taken from one of our runs on the same ids; what it has must agree.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.members import (
    choose_competition,
    choose_runs,
    import_folder,
    read_import,
    read_member,
    sample_submission,
)
from harness.durable import write_text
from harness.errors import ConfigError, ContractError
from harness.gate import read_submission
from harness.ledger import utc_now
from harness.members import TableBuilder, line_up
from harness.outputs import KEYS, RunOutputs
from harness.reading import read_csv
from harness.records import ImportedMember
from harness.scoring import Evidence, Score
from harness.workbench import Workbench
from kernels.config import Competition
from kernels.contract import (
    FOLD_COLUMN,
    ID_COLUMN,
    OOF_FILE,
    PREDICTION_PREFIX,
    SEED_COLUMN,
    TARGET_PREFIX,
    TEST_FILE,
    oof_columns,
    prediction_columns,
    sha256_file,
)

if TYPE_CHECKING:
    import pandas as pd

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Imported:
    """An imported member and its score on our folds."""

    member: ImportedMember
    score: Score
    rows: int
    folder: Path


def import_member(
    bench: Workbench, name: str, oof: Path, test: Path, slug: str | None = None, note: str = ""
) -> Imported:
    """Check two files of predictions and keep them as a member.

    Raises:
        ConfigError: A bad name, or a file that cannot be understood.
        ContractError: Values out of range, missing or repeated ids.
        BlendError: Ids, folds or labels that are not those of our runs, or rows that leak.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a member.", "Use lower case letters, digits, dots and dashes."
        )
    with bench.locked("blend"):
        return _import(bench, name, oof, test, slug, note)


def _import(
    bench: Workbench, name: str, oof: Path, test: Path, slug: str | None, note: str
) -> Imported:
    runs = bench.ledger.runs(bench.settings.remote)
    if any(run.run_id == name for run in runs):
        raise ConfigError(f"{name!r} is a run already.", "Choose another name.")
    competition = choose_competition(bench, slug, runs)
    reference = _reference(bench, competition)
    guesses = read_foreign(oof, competition)
    oof_frame, folds_from = complete_oof(guesses, competition, reference, oof)
    test_frame = complete_test(read_foreign(test, competition), competition, test)
    sample = read_submission(sample_submission(bench, competition), competition.id_column)
    wanted, found = set(sample[competition.id_column]), set(test_frame[ID_COLUMN])
    if wanted != found:
        lost = sorted(wanted - found)
        raise ContractError(
            f"{test.name}: {len(lost)} of {len(wanted)} test ids missing"
            + (f" (first: {lost[0]})" if lost else "")
            + f", {len(found - wanted)} unexpected."
        )
    folder = import_folder(bench, competition.slug, name)
    folder.mkdir(parents=True, exist_ok=True)
    for frame, file in ((oof_frame, OOF_FILE), (test_frame, TEST_FILE)):
        write_text(folder / file, frame.to_csv(index=False, lineterminator="\n"))
    item = ImportedMember(
        name=name,
        competition=competition.slug,
        created_at=utc_now(),
        oof_source=str(oof.resolve()),
        test_source=str(test.resolve()),
        oof_source_sha256=sha256_file(oof),
        test_source_sha256=sha256_file(test),
        oof_sha256=sha256_file(folder / OOF_FILE),
        test_sha256=sha256_file(folder / TEST_FILE),
        folds_from=folds_from,
        note=note,
    )
    outputs = read_import(folder, item, competition)
    builder = TableBuilder(competition, 2)
    if reference is not None:
        builder.add(reference)
    builder.add(outputs, imported=True)
    table = line_up([outputs], competition, 1)
    try:
        score = Evidence(table).score(name, table.predictions[0])
    except ValueError as error:
        raise ContractError(f"{oof.name} cannot be scored: {error}.") from error
    item = replace(item, score_mean_fold=score.mean_fold, score_pooled=score.pooled)
    bench.ledger.add_import(item)
    return Imported(item, score, len(outputs.oof), folder)


def _reference(bench: Workbench, competition: Competition) -> RunOutputs | None:
    """The newest run that a blend would take: its ids, folds and labels are the measure."""
    runs = choose_runs(bench, competition)
    return read_member(bench, runs[-1], competition) if runs else None


def read_foreign(path: Path, competition: Competition) -> "pd.DataFrame":
    """A file of predictions with our column names: id, perhaps seed, fold and targets, predictions.

    Its id column is called id or as the competition calls it. A prediction column is called
    pred_<target>, or <target> as in a submission; a single other numeric column is taken for one target.

    Raises:
        ConfigError: It cannot be read, or its columns cannot be told apart.
    """
    try:
        frame = read_csv(path, [ID_COLUMN, competition.id_column])
    except ValueError as error:
        raise ConfigError(f"{path} is no readable CSV: {error}.") from error
    header = list(frame.columns)
    ids = [name for name in (ID_COLUMN, competition.id_column) if name in header]
    if not ids:
        raise ConfigError(
            f"{path.name} has no column {ID_COLUMN!r} or {competition.id_column!r}; it has {header}."
        )
    frame = frame.rename(columns={ids[0]: ID_COLUMN})
    rest = [
        name for name in frame.columns if name not in KEYS and not name.startswith(TARGET_PREFIX)
    ]
    renamed = {}
    for target in competition.target_columns:
        found = [name for name in (PREDICTION_PREFIX + target, target) if name in rest]
        if not found and len(competition.target_columns) == 1 and len(rest) == 1:
            found = rest
        if not found:
            raise ConfigError(
                f"{path.name} has no predictions of {target!r}; it has {header}.",
                f"Call the column {PREDICTION_PREFIX + target} or {target}.",
            )
        renamed[found[0]] = PREDICTION_PREFIX + target
    return frame.rename(columns=renamed)


def complete_oof(
    frame: "pd.DataFrame", competition: Competition, reference: RunOutputs | None, path: Path
) -> tuple["pd.DataFrame", str | None]:
    """The contract's out-of-fold table, and whose folds were taken (None: the file's own).

    Raises:
        ConfigError: Folds or targets are missing, and there is no run to take them from.
        ContractError: Ids are repeated, or not those of the run.
    """
    columns = oof_columns(competition.target_columns)
    truth = [name for name in columns if name.startswith(TARGET_PREFIX)]
    guesses = [name for name in columns if name.startswith(PREDICTION_PREFIX)]
    if FOLD_COLUMN in frame.columns and SEED_COLUMN not in frame.columns:
        frame = frame.assign(**{SEED_COLUMN: 0 if reference is None else _only_seed(reference)})
    has_folds = FOLD_COLUMN in frame.columns
    has_truth = set(truth) <= set(frame.columns)
    if has_folds and has_truth:
        return frame[columns], None
    if reference is None:
        raise ConfigError(
            f"{path.name} lacks {'targets' if has_folds else 'folds'}, and no pulled run has them.",
            "Pull a run first, or give the columns: " + ", ".join(columns) + ".",
        )
    keys = [*KEYS] if has_folds else [ID_COLUMN]
    if frame.duplicated(keys).any():
        first = frame.loc[frame.duplicated(keys), ID_COLUMN].iloc[0]
        raise ContractError(f"{path.name} repeats id {first}.")
    mine, theirs = set(reference.oof[ID_COLUMN]), set(frame[ID_COLUMN])
    if mine != theirs:
        lost = sorted(mine - theirs)
        raise ContractError(
            f"{path.name}: {len(lost)} of {len(mine)} ids of run {reference.run_id} missing"
            + (f" (first: {lost[0]})" if lost else "")
            + f", {len(theirs - mine)} unexpected."
        )
    if has_folds:
        frame = frame.astype({SEED_COLUMN: int, FOLD_COLUMN: int})
    merged = reference.oof[KEYS + truth].merge(frame[keys + guesses], on=keys, how="left")
    if merged[guesses].isna().any(axis=None):
        raise ContractError(
            f"{path.name} has other folds than run {reference.run_id}: predictions are out-of-fold "
            "only for the folds they were made with.",
        )
    return merged[columns], None if has_folds else reference.run_id


def _only_seed(reference: RunOutputs) -> int:
    return int(reference.oof[SEED_COLUMN].iloc[0])


def complete_test(frame: "pd.DataFrame", competition: Competition, path: Path) -> "pd.DataFrame":
    """The contract's test table; predictions without seed and fold count as one model's.

    Raises:
        ContractError: Ids are repeated.
    """
    for column in (SEED_COLUMN, FOLD_COLUMN):
        if column not in frame.columns:
            frame = frame.assign(**{column: 0})
    if frame.duplicated(KEYS).any():
        first = frame.loc[frame.duplicated(KEYS), ID_COLUMN].iloc[0]
        raise ContractError(f"{path.name} repeats id {first}.")
    return frame[prediction_columns(competition.target_columns)]
