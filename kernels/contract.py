"""The run contract: every file a run writes, its columns, and the manifest that seals them.

Written by blocks/outputs.py inside a kernel, read by harness when it pulls. Standard library only, so
that both sides can import it anywhere. Change ``SCHEMA_VERSION`` when a reader of the old form would
misread the new one.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1

MANIFEST_FILE = "manifest.json"
METRICS_FILE = "metrics.json"
OOF_FILE = "oof_predictions.csv"
TEST_FILE = "test_predictions.csv"
UNLABELLED_FILE = "unlabelled_predictions.csv"
SUBMISSION_FILE = "submission.csv"
RESULTS_FILE = "results.json"  # the report: metrics with intervals
CARD_FILE = "README.md"  # the same for people
MODEL_FILE = "model.pt"  # one network of the run; pulled on request, as checkpoints are
CHECKPOINT_FOLDER = "checkpoints"  # large; pulled on request only
SMALL_FILES = (MANIFEST_FILE, METRICS_FILE, OOF_FILE, TEST_FILE)  # what every run must have

ID_COLUMN = "id"
SEED_COLUMN = "seed"
FOLD_COLUMN = "fold"
TARGET_PREFIX = "target_"
PREDICTION_PREFIX = "pred_"

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
    return (
        bool(path)
        and "\\" not in path
        and "\0" not in path
        and not path.startswith("/")
        and not any(part in ("", ".", "..") for part in parts)
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
        if not is_safe_relative(path):
            faults.append(f"{MANIFEST_FILE}: path {path!r} leaves the output folder")
        if path in seen:
            faults.append(f"{MANIFEST_FILE}: path {path!r} is listed twice")
        seen.add(path)
    faults += [
        f"{MANIFEST_FILE} does not list {name}"
        for name in SMALL_FILES
        if name != MANIFEST_FILE and name not in seen
    ]
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
