"""The one reader of the run contract: a run's pulled files, checked, as tables."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ContractError
from harness.reading import read_csv
from harness.records import PackedFile
from kernels.config import Competition
from kernels.contract import (
    CHECKPOINT_FOLDER,
    FOLD_COLUMN,
    ID_COLUMN,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    OOF_FILE,
    PREDICTION_PREFIX,
    RESUME_FOLDER,
    SEED_COLUMN,
    TARGET_PREFIX,
    TEST_FILE,
    FileRecord,
    file_faults,
    manifest_faults,
    oof_columns,
    prediction_columns,
    resume_of,
)

if TYPE_CHECKING:
    import pandas as pd

KEYS = [ID_COLUMN, SEED_COLUMN, FOLD_COLUMN]


@dataclass(frozen=True)
class RunOutputs:
    """What a run wrote. Frames have the contract's columns, sorted by (seed, fold, id)."""

    run_id: str
    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    oof: "pd.DataFrame"
    test: "pd.DataFrame"


def read_manifest(folder: Path, run_id: str, script_sha256: str | None) -> dict[str, Any]:
    """The manifest of an output folder, checked for form and for the script that wrote it.

    Raises:
        ContractError: Missing, unreadable, of another schema, or written by another script.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ContractError(
            f"Run {run_id} has no {MANIFEST_FILE}: the kernel did not finish its outputs."
        )
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ContractError(f"Run {run_id}: {MANIFEST_FILE} is no JSON ({error}).") from error
    faults = manifest_faults(manifest)
    if faults:
        raise ContractError(f"Run {run_id}: {faults[0]}.", more(faults))
    if script_sha256 is not None and manifest["script_sha256"] != script_sha256:
        raise ContractError(
            f"Run {run_id}: the outputs were written by script {manifest['script_sha256'][:12]}, "
            f"but {script_sha256[:12]} was pushed.",
            "They belong to another version of the kernel; push again.",
        )
    return dict(manifest)


def more(faults: list[str]) -> str | None:
    """How many further faults there are, or None."""
    return f"({len(faults) - 1} more.)" if len(faults) > 1 else None


def manifest_files(manifest: dict[str, Any]) -> list[PackedFile]:
    """Every file the manifest lists."""
    return [PackedFile(str(e["path"]), int(e["size"]), str(e["sha256"])) for e in manifest["files"]]


def is_small(path: str) -> bool:
    """True for what a pull fetches unasked: everything but networks and unfinished training."""
    return (
        not path.startswith((CHECKPOINT_FOLDER + "/", RESUME_FOLDER + "/")) and path != MODEL_FILE
    )


def read_outputs(
    folder: Path, run_id: str, competition: Competition, script_sha256: str | None
) -> RunOutputs:
    """Read and check a pulled run.

    Raises:
        ContractError: The run is unfinished, a small file is missing or altered, or a table's form or
            values are wrong.
    """
    manifest = read_manifest(folder, run_id, script_sha256)
    resume = resume_of(manifest)
    if resume is not None:
        raise ContractError(
            f"Run {run_id} is unfinished: {resume.describe()}.",
            "A later session that mounts its output (kernel_sources) goes on from there.",
        )
    small = [
        FileRecord(f.path, f.size, f.sha256) for f in manifest_files(manifest) if is_small(f.path)
    ]
    faults = file_faults(folder, small)
    if faults:
        raise ContractError(f"Run {run_id}: {faults[0]}.", more(faults) or "Pull it again.")
    metrics = read_metrics(folder / METRICS_FILE, run_id)
    targets = competition.target_columns
    oof = read_table(folder / OOF_FILE, oof_columns(targets), run_id)
    test = read_table(folder / TEST_FILE, prediction_columns(targets), run_id)
    for frame, name in ((oof, OOF_FILE), (test, TEST_FILE)):
        repeated = frame.duplicated(KEYS)
        if repeated.any():
            first = frame.loc[repeated, ID_COLUMN].iloc[0]
            raise ContractError(f"Run {run_id}: {name} repeats (id, seed, fold), first {first}.")
    split = oof.duplicated([ID_COLUMN, SEED_COLUMN])
    if split.any():
        first = oof.loc[split, ID_COLUMN].iloc[0]
        raise ContractError(f"Run {run_id}: {first} is held out by two folds of one seed.")
    models = oof[[SEED_COLUMN, FOLD_COLUMN]].drop_duplicates()
    per_model = test.groupby([SEED_COLUMN, FOLD_COLUMN])[ID_COLUMN].agg(frozenset)
    if len(per_model) != len(models) or per_model.nunique() != 1:
        raise ContractError(
            f"Run {run_id}: {TEST_FILE} does not hold the same ids for every (seed, fold) of {OOF_FILE}."
        )
    return RunOutputs(run_id, folder, manifest, metrics, oof, test)


def read_metrics(path: Path, run_id: str) -> dict[str, Any]:
    """A run's metrics with its scores, which are numbers or null.

    Raises:
        ContractError: It is no JSON object, or a score is missing or of another type.
    """
    try:
        metrics = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ContractError(f"Run {run_id}: {path.name} is no JSON ({error}).") from error
    for name in ("score_mean_fold", "score_pooled"):
        value = metrics.get(name, "") if isinstance(metrics, dict) else ""
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ContractError(f"Run {run_id}: {path.name} has no number {name!r}.")
    return dict(metrics)


def read_table(path: Path, columns: list[str], run_id: str) -> "pd.DataFrame":
    """A predictions table with exactly these columns, checked and sorted by (seed, fold, id).

    Raises:
        ContractError: It is unreadable, has other columns or no rows, or holds a value out of range.
    """
    import numpy as np
    import pandas as pd

    try:
        frame = read_csv(path, [ID_COLUMN])
    except ValueError as error:
        raise ContractError(f"Run {run_id}: {path.name} is no readable CSV ({error}).") from error
    if list(frame.columns) != columns:
        raise ContractError(
            f"Run {run_id}: {path.name} has columns {list(frame.columns)}, expected {columns}."
        )
    if frame.empty:
        raise ContractError(f"Run {run_id}: {path.name} has no rows.")
    numeric = [name for name in columns if name != ID_COLUMN]
    for name in numeric:
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    bad = ~np.isfinite(frame[numeric].to_numpy(dtype=float)).all(axis=1)
    if bad.any():
        first = frame.loc[bad, ID_COLUMN].iloc[0]
        raise ContractError(
            f"Run {run_id}: {path.name} holds {int(bad.sum())} bad rows (first id {first})."
        )
    predictions = frame[[name for name in columns if name.startswith(PREDICTION_PREFIX)]].to_numpy()
    if predictions.min() < 0 or predictions.max() > 1:
        raise ContractError(f"Run {run_id}: {path.name} holds predictions outside 0..1.")
    for name in (SEED_COLUMN, FOLD_COLUMN, *(c for c in columns if c.startswith(TARGET_PREFIX))):
        frame[name] = frame[name].astype(int)
    ordered = frame.sort_values([SEED_COLUMN, FOLD_COLUMN, ID_COLUMN], kind="stable")
    return ordered.reset_index(drop=True)
