"""What stands behind a file's address: a dataset's file, a kernel's output, an archive of either."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.emulator import blobs, competitions, datasets, files, kernels, models
from harness.emulator.clock import as_datetime
from harness.emulator.errors import not_found
from harness.emulator.state import State
from harness.emulator.zipstream import Member, ZipPlan


def open_address(state: State, signature: str, kind: str, owner: str, path: str) -> files.Content:
    """Resolve an address that was handed out.

    Raises:
        ApiError: With status 404 if it was not, or the file is gone.
    """
    if state.sign(f"{kind}/{owner}/{path}") != signature:
        raise not_found("File not found")
    if kind.startswith("competition"):
        entry = competitions.find(state, owner)
        if kind == "competition-zip":
            return _competition_zip(state, entry)
        return files.of_file(competitions.data_file(entry, path).path)
    if kind == "submission":
        return _submission(state, int(owner))
    if kind == "kernel":
        row = _row(state, "kernel_versions", int(owner))
        return files.of_file(kernels.output(state, row, path).path)
    table = "dataset_versions" if kind.startswith("dataset") else "model_versions"
    row = _row(state, table, int(owner))
    if kind.endswith("-zip"):
        listing = datasets.files if kind.startswith("dataset") else models.files
        return _blob_zip(state, listing(state, int(owner)), row["created"])
    lookup = datasets.file if kind.startswith("dataset") else models.file
    sha256 = lookup(state, int(owner), path).sha256
    return files.of_file(blobs.path_of(state, sha256), sha256, row["created"])


def _row(state: State, table: str, number: int) -> Mapping[str, Any]:
    with state.read() as db:
        row = db.execute(f"SELECT * FROM {table} WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise not_found("File not found")
    return dict(row)


def _submission(state: State, ref: int) -> files.Content:
    with state.read() as db:
        row = db.execute("SELECT * FROM submissions WHERE ref = ?", (ref,)).fetchone()
    if row is None or not row["sha256"]:
        raise not_found("File not found")
    return files.of_file(blobs.path_of(state, row["sha256"]), row["sha256"], row["created"])


def _blob_zip(state: State, stored: Sequence[datasets.File], created: float) -> files.Content:
    checksums = blobs.crcs_of(state, {file.sha256 for file in stored})
    members = [
        Member(file.path, blobs.path_of(state, file.sha256), file.size, checksums[file.sha256])
        for file in stored
    ]
    plan = ZipPlan(members, as_datetime(created))
    return files.of_zip(plan, "".join(file.path + file.sha256 for file in stored), created)


def _competition_zip(state: State, entry: competitions.Entry) -> files.Content:
    listed = competitions.data_files(entry)
    return _disk_zip(state, [(file.name, file.path) for file in listed], entry.created)


def kernel_zip(state: State, row: Mapping[str, Any]) -> files.Content:
    """Pack all outputs of a session."""
    listed = kernels.outputs(state, row)
    return _disk_zip(state, [(file.name, file.path) for file in listed], row["created"])


def _disk_zip(state: State, listed: Sequence[tuple[str, Path]], created: float) -> files.Content:
    members = []
    tag = ""
    newest = created
    for name, path in listed:
        facts = path.stat()
        crc = _checksum(state, path, facts.st_size, facts.st_mtime_ns)
        members.append(Member(name, path, facts.st_size, crc))
        tag += f"{name}:{facts.st_size}:{crc};"
        newest = max(newest, facts.st_mtime)
    return files.of_zip(ZipPlan(members, as_datetime(newest)), tag, newest)


def _checksum(state: State, path: Path, size: int, mtime: int) -> int:
    """Give a file's zip checksum, remembered until its size or date changes."""
    with state.read() as db:
        row = db.execute("SELECT * FROM checksums WHERE path = ?", (str(path),)).fetchone()
    if row is not None and (row["size"], row["mtime"]) == (size, mtime):
        return int(row["crc32"])
    crc = 0
    with path.open("rb") as stream:
        while chunk := stream.read(blobs.CHUNK):
            crc = zlib.crc32(chunk, crc)
    with state.write() as db:
        db.execute("REPLACE INTO checksums VALUES (?,?,?,?)", (str(path), size, mtime, crc))
    return crc
