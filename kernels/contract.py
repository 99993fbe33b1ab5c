"""The run contract: every file a run writes, its columns, and the manifest that seals them.

Written by blocks/outputs.py inside a kernel, read by harness when it pulls. Standard library only, so
that both sides can import it anywhere. Change ``SCHEMA_VERSION`` when a reader of the old form would
misread the new one.

A run that reaches its time budget ends well and unfinished. Its manifest says ``"complete": false``
and ``"resume": {...}`` (see Resume); it lists whatever is there, RESUME_FOLDER above all, and no
predictions. Any later run of the same experiment that finds that whole output mounted anywhere below
/kaggle/input (as ``kernel_sources`` or as a dataset, in a folder at most four levels deep) takes it up
and goes on: nothing has to be told to the script, and script, slug and budget may differ. What must be equal is
``resume_key``. A finished run's manifest says ``"complete": true``; manifests from before that have no
such entry and are of finished runs.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

SCHEMA_VERSION = 1

MANIFEST_FILE = "manifest.json"
METRICS_FILE = "metrics.json"
OOF_FILE = "oof_predictions.csv"
TEST_FILE = "test_predictions.csv"
UNLABELLED_FILE = "unlabelled_predictions.csv"
SUBMISSION_FILE = "submission.csv"
GROUPS_FILE = "groups.csv"  # id and group of labelled rows, where the competition names groups
RESULTS_FILE = "results.json"  # the report: metrics with intervals
CARD_FILE = "README.md"  # the same for people
RESUME_FOLDER = "resume"  # an unfinished run's state; a finished run has none
MODEL_FILE = "model.pt"  # one network of the run; pulled on request, as checkpoints are
CHECKPOINT_FOLDER = "checkpoints"  # large; pulled on request only
NEIGHBOURS_FOLDER = "neighbours"  # example pairs of a SimSiam run as pictures, named in PAIRS_FILE
PAIRS_FILE = "pairs.json"
SMALL_FILES = (MANIFEST_FILE, METRICS_FILE, OOF_FILE, TEST_FILE)  # what every run must have

# The output of an inference kernel, which trains nothing: its manifest says so under "kind".
INFERENCE_KIND = "inference"
INFERENCE_FILES = (MANIFEST_FILE, METRICS_FILE, SUBMISSION_FILE)

# Models that predict by themselves; one for each (seed, fold).
CHECKPOINT_CELL = re.compile(CHECKPOINT_FOLDER + r"/[^/]*_seed(\d+)_fold(\d+)\.(?:pth|json)")

# A note of metrics.json, where a held-out fold chose the epoch or the rates of what predicts it.
OPTIMISTIC_NOTE = "epoch_chosen_on"
OPTIMISTIC = "the held-out fold steered its own training (early stopping or plateau)"

ID_COLUMN = "id"
GROUP_COLUMN = "group"
SEED_COLUMN = "seed"
FOLD_COLUMN = "fold"
TARGET_PREFIX = "target_"
PREDICTION_PREFIX = "pred_"

# Minutes of training after which a run stops at the next epoch's end. The environment wins over the number
# baked into a script (BUDGET_MINUTES at its end); neither, or an empty variable: no limit.
BUDGET_VARIABLE = "HARNESS_BUDGET_MINUTES"

SHA256_FORM = re.compile(r"[0-9a-f]{64}")
NAME_LIMIT = 240  # bytes in a file name: file systems take 255, and a download adds to it
PATH_LIMIT = 1000  # bytes in a relative path

MANIFEST_KEYS = ("schema_version", "spec", "script_sha256", "config", "versions", "files")


def oof_columns(target_columns: tuple[str, ...]) -> list[str]:
    """Columns of OOF_FILE: id, seed, fold, one target and one prediction per target column."""
    return [
        ID_COLUMN,
        SEED_COLUMN,
        FOLD_COLUMN,
        *(TARGET_PREFIX + name for name in target_columns),
        *(PREDICTION_PREFIX + name for name in target_columns),
    ]


def prediction_columns(target_columns: tuple[str, ...]) -> list[str]:
    """Columns of TEST_FILE and UNLABELLED_FILE: id, seed, fold and one prediction per target."""
    return [
        ID_COLUMN,
        SEED_COLUMN,
        FOLD_COLUMN,
        *(PREDICTION_PREFIX + name for name in target_columns),
    ]


@dataclass(frozen=True)
class FileRecord:
    """One output file: POSIX path below the output folder, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Resume:
    """What an unfinished run's manifest says under ``resume``.

    ``done`` and ``left`` are (seed, fold) pairs; ``left`` is empty when the run stopped before it knew
    its folds (in a stage that comes before them).
    """

    key: str  # resume_key of the experiment
    session: int  # which part this was, from 1: the newest part has the greatest
    seconds: float  # of all parts together
    stage: str  # for people: "seed 0 fold 2, epoch 7 of 60"
    done: tuple[tuple[int, int], ...]
    left: tuple[tuple[int, int], ...]

    def describe(self) -> str:
        """One line: how far the run came."""
        total = len(self.done) + len(self.left)
        folds = f"{len(self.done)} of {total} folds done; " if total else ""
        return f"{folds}stopped at its time budget in {self.stage}"


def resume_key(spec: dict[str, Any], config: str, datasets: dict[str, str], rows: str) -> str:
    """What must be equal for one run to continue another: 64 hex digits.

    Args:
        spec: The run's spec, with the profile that ran.
        config: ``repr`` of the profile's config.
        datasets: Slug -> content digest of each dataset the script was rendered for.
        rows: Digest of the ids and labels that the run reads.
    """
    text = json.dumps([spec, config, datasets, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def resume_of(manifest: dict[str, Any]) -> Resume | None:
    """How far an unfinished run came; None for a finished one.

    Raises:
        ValueError: ``resume`` is missing or has another form.
    """
    if manifest.get("complete", True) is True:
        return None
    entry: Any = manifest.get("resume")
    try:
        return Resume(
            key=str(entry["key"]),
            session=int(entry["session"]),
            seconds=float(entry["seconds"]),
            stage=str(entry["stage"]),
            done=tuple((int(seed), int(fold)) for seed, fold in entry["done"]),
            left=tuple((int(seed), int(fold)) for seed, fold in entry["left"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{MANIFEST_FILE}: 'resume' of an unfinished run is malformed") from error


def checkpoint_cell(path: str) -> tuple[int, int] | None:
    """(seed, fold) of a model by its path below the output folder; None for other files."""
    match = CHECKPOINT_CELL.fullmatch(path)
    return (int(match[1]), int(match[2])) if match else None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def record_files(folder: Path) -> list[FileRecord]:
    """Every regular file below a folder but the manifest, sorted by path."""
    records = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and relative != MANIFEST_FILE:
            records.append(FileRecord(relative, path.stat().st_size, sha256_file(path)))
    return records


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all: to a temporary name first, then by rename.

    Raises:
        ValueError: If a number is NaN or infinite, which JSON cannot hold.
    """
    temporary = path.with_name(path.name + ".part")
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def is_safe_relative(path: str) -> bool:
    """True when a path from a manifest or a listing stays below the folder it is joined to."""
    parts = path.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return False  # half a surrogate pair is no name on any disk
    return (
        "\\" not in path
        and path.isprintable()
        and not any(part in ("", ".", "..") for part in parts)
        and max(sizes) <= NAME_LIMIT
        and sum(sizes) + len(sizes) <= PATH_LIMIT
    )


def manifest_faults(manifest: Any) -> list[str]:
    """What is wrong with a manifest's own form; empty when it can be trusted to be read."""
    if not isinstance(manifest, dict):
        return [f"{MANIFEST_FILE} holds a {type(manifest).__name__}, not an object"]
    faults = [f"{MANIFEST_FILE} has no {key!r}" for key in MANIFEST_KEYS if key not in manifest]
    if faults:
        return faults
    if manifest["schema_version"] != SCHEMA_VERSION:
        return [
            (
                f"{MANIFEST_FILE} has schema version {manifest['schema_version']!r}; "
                f"this code reads {SCHEMA_VERSION}"
            )
        ]
    if not isinstance(manifest["files"], list):
        return [f"{MANIFEST_FILE}: 'files' is not a list"]
    seen: set[str] = set()
    for entry in manifest["files"]:
        if not isinstance(entry, dict) or not {"path", "size", "sha256"} <= set(entry):
            faults.append(f"{MANIFEST_FILE}: an entry of 'files' lacks path, size or sha256")
            continue
        path = str(entry["path"])
        faults += _entry_faults(entry, path)
        if path in seen:
            faults.append(f"{MANIFEST_FILE}: path {path!r} is listed twice")
        seen.add(path)
    faults += [
        f"{MANIFEST_FILE}: a folder of {path!r} is listed as a file"
        for path in sorted(seen)
        if any(parent.as_posix() in seen for parent in PurePosixPath(path).parents)
    ]
    if not SHA256_FORM.fullmatch(str(manifest["script_sha256"])):
        faults.append(f"{MANIFEST_FILE}: script_sha256 is not 64 hex digits")
    try:
        finished = resume_of(manifest) is None
    except ValueError as error:
        return [*faults, str(error)]
    faults += [
        f"{MANIFEST_FILE} does not list {name}"
        for name in (INFERENCE_FILES if manifest.get("kind") == INFERENCE_KIND else SMALL_FILES)
        if finished and name != MANIFEST_FILE and name not in seen
    ]
    return faults


def _entry_faults(entry: dict[str, Any], path: str) -> list[str]:
    faults = []
    if not isinstance(entry["path"], str) or not is_safe_relative(path):
        faults.append(f"{MANIFEST_FILE}: path {path!r} leaves the output folder")
    if type(entry["size"]) is not int or entry["size"] < 0:
        faults.append(f"{MANIFEST_FILE}: the size of {path!r} is no number of bytes")
    if not SHA256_FORM.fullmatch(str(entry["sha256"])):
        faults.append(f"{MANIFEST_FILE}: the sha256 of {path!r} is not 64 hex digits")
    return faults


def file_faults(folder: Path, records: list[FileRecord]) -> list[str]:
    """Compare files on disk with their records: missing, wrong size, wrong content."""
    faults = []
    for record in records:
        path = folder / record.path
        if not path.is_file():
            faults.append(f"{record.path} is missing")
        elif path.stat().st_size != record.size:
            faults.append(
                f"{record.path} has {path.stat().st_size} bytes; the manifest says {record.size}"
            )
        elif sha256_file(path) != record.sha256:
            faults.append(f"{record.path} differs from the sha256 in the manifest")
    return faults
