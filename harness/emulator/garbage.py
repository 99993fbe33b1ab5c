"""Giving back disk: bytes that nothing refers to, and folders of kernels that were deleted.

Deleting a dataset or a kernel removes facts; the bytes may be shared, mounted or being read, so
they are looked at here, later. References are looked up and files removed under one write lock, and
young files are left alone: their reference may be on its way.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.emulator import lifecycle
from harness.emulator.state import State

_DAY_S = 24 * 3600.0
# The official client goes on with an upload for six days.
_UPLOAD_S = 7 * _DAY_S
_REFERRING = ("dataset_files", "model_files", "submissions")
_BATCH = 50


@dataclass(frozen=True)
class Collected:
    """What a collection removed."""

    blobs: int
    uploads: int
    mounts: int
    runs: int
    bytes: int


def collect(state: State, min_age_s: float = _DAY_S) -> Collected:
    """Remove what nothing refers to any more.

    Args:
        state: The state folder; servers and kernels on it may go on meanwhile.
        min_age_s: Files younger than this are kept.
    """
    # Real time: file dates are real too.
    before = time.time() - min_age_s
    runs, freed = _runs(state, before)
    mounts = _mounts(state, before)
    uploads, more = _uploads(state, time.time() - max(min_age_s, _UPLOAD_S))
    blobs, last = _blobs(state, before)
    return Collected(blobs, uploads, mounts, runs, freed + more + last)


def _active_inputs(state: State) -> set[str]:
    """List the folders that running or waiting kernels have mounted."""
    found = set()
    for run in (state.folder / "runs").iterdir():
        if lifecycle.is_active(run):
            with contextlib.suppress(OSError, ValueError, KeyError):
                job = json.loads((run / "job.json").read_text(encoding="utf-8"))
                found |= {item["source"] for item in job["inputs"]}
    return found


def remove_runs(state: State, runs: Iterable[Path]) -> tuple[int, int]:
    """Remove run folders that are not in use; give their number and size."""
    read = _active_inputs(state)
    count = freed = 0
    for run in runs:
        busy = lifecycle.is_active(run) or str(run / "working") in read
        if run.is_dir() and not busy:
            freed += _size(run)
            _remove(run)
            count += 1
    return count, freed


def _runs(state: State, before: float) -> tuple[int, int]:
    """Remove the runs of deleted kernels, and reruns whose submission has its score."""
    with state.read() as db:
        known = {
            state.run_folder(row["id"]).name for row in db.execute("SELECT id FROM kernel_versions")
        }
        scored = {
            f"rerun-{row['ref']:08d}"
            for row in db.execute("SELECT ref FROM submissions WHERE graded = 1")
        }
        newest = db.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'kernel_versions'"
        ).fetchone()
    last = newest["seq"] if newest else 0
    orphans = []
    for run in sorted((state.folder / "runs").iterdir()):
        if run.name.isdigit():
            # A number beyond the last one known belongs to a push that is being written right now.
            if run.name not in known and int(run.name) <= last:
                orphans.append(run)
            continue
        done = run.name in scored and run.stat().st_mtime < before
        if done or run.name.startswith(".gone-"):
            orphans.append(run)
    return remove_runs(state, orphans)


def _mounts(state: State, before: float) -> int:
    with state.read() as db:
        known = {f"dataset-{row['id']}" for row in db.execute("SELECT id FROM dataset_versions")}
        known |= {f"model-{row['id']}" for row in db.execute("SELECT id FROM model_versions")}
    used = _active_inputs(state)
    count = 0
    for mount in (state.folder / "mounts").iterdir():
        wanted = mount.name.removesuffix("-copy") in known or str(mount) in used
        with contextlib.suppress(OSError):
            if not wanted and mount.stat().st_mtime < before:
                _remove(mount)
                count += 1
    return count


def _uploads(state: State, before: float) -> tuple[int, int]:
    count = freed = 0
    for path in (state.folder / "uploads").iterdir():
        with contextlib.suppress(OSError):
            facts = path.stat()
            if facts.st_mtime < before:
                path.unlink()
                count += path.suffix != ".lock"
                freed += facts.st_size
    return count, freed


def _blobs(state: State, before: float) -> tuple[int, int]:
    with state.read() as db:
        known = {
            row[0] for table in _REFERRING for row in db.execute(f"SELECT sha256 FROM {table}")
        }
    suspects = [
        path
        for shelf in (state.folder / "blobs").iterdir()
        for path in shelf.iterdir()
        if path.name not in known
    ]
    count = freed = 0
    for start in range(0, len(suspects), _BATCH):
        # A few at a time, so that nobody waits long for the lock.
        with state.write() as db:
            for path in suspects[start : start + _BATCH]:
                facts = path.stat()
                if facts.st_mtime >= before or _is_referred_to(state, db, path.name):
                    continue
                path.unlink()
                db.execute("DELETE FROM blobs WHERE sha256 = ?", (path.name,))
                db.execute("DELETE FROM uploads WHERE sha256 = ?", (path.name,))
                count, freed = count + 1, freed + facts.st_size
    return count, freed


def _is_referred_to(state: State, db: sqlite3.Connection, sha256: str) -> bool:
    return any(
        db.execute(f"SELECT 1 FROM {table} WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone()
        for table in _REFERRING
    ) or bool(
        db.execute(
            "SELECT 1 FROM uploads WHERE sha256 = ? AND used = 0 AND created >= ?",
            (sha256, state.clock.now() - _UPLOAD_S),
        ).fetchone()
    )


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _remove(folder: Path) -> None:
    """Move a folder out of sight, so that nobody sees a half of it, and remove it."""
    gone = folder.with_name(f".gone-{folder.name}-{time.time_ns()}")
    with contextlib.suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
