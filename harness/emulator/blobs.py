"""Bytes by their sha256, and the uploads that bring them in.

An upload is a token. Its bytes grow in a `.part` file that any server on the folder can go on
with; when all have come the file moves into the blob store. Nothing is held in memory beyond one
chunk, so size does not matter.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.emulator.errors import ApiError, bad_request, not_found
from harness.emulator.state import State

CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """Stored bytes: their hash and size, and the checksum a zip archive needs."""

    sha256: str
    size: int
    crc32: int


@dataclass(frozen=True)
class Upload:
    """One upload token."""

    token: str
    owner: str
    kind: str
    name: str
    size: int
    sha256: str | None
    used: bool


def path_of(state: State, sha256: str) -> Path:
    """Where the bytes of a hash are kept."""
    return state.folder / "blobs" / sha256[:2] / sha256


def store_file(state: State, source: Path) -> Blob:
    """Move a file into the store; an equal blob that is already there is kept instead."""
    digest, crc, size = hashlib.sha256(), 0, 0
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
    blob = Blob(digest.hexdigest(), size, crc)
    target = path_of(state, blob.sha256)
    target.parent.mkdir(exist_ok=True)
    source.chmod(0o444)
    with state.write() as db:
        # Inside the transaction: a collection of garbage holds it too, and must see the new date.
        source.replace(target)
        db.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", (blob.sha256, size, crc))
    return blob


def store_stream(state: State, stream: IO[bytes], limit: int | None = None) -> Blob:
    """Copy a stream into the store.

    Raises:
        ValueError: If the stream is longer than the limit.
    """
    draft = state.folder / "uploads" / f"{secrets.token_hex(16)}.tmp"
    try:
        size = 0
        with draft.open("wb") as out:
            while chunk := stream.read(CHUNK):
                size += len(chunk)
                if limit is not None and size > limit:
                    raise ValueError(f"more than {limit} bytes")
                out.write(chunk)
        return store_file(state, draft)
    finally:
        draft.unlink(missing_ok=True)


def crcs_of(state: State, wanted: Collection[str]) -> dict[str, int]:
    """Look up the zip checksums of blobs."""
    with state.read() as db:
        rows = (
            db.execute("SELECT sha256, crc32 FROM blobs WHERE sha256 = ?", (name,)).fetchone()
            for name in wanted
        )
        return {row["sha256"]: int(row["crc32"]) for row in rows}


def link_or_copy(source: Path, target: Path, copy: bool) -> None:
    """Put a stored file somewhere else: as a hard link, or as a copy that may be damaged."""
    if not copy:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system, or one without hard links
    shutil.copyfile(source, target)
    target.chmod(0o444)


# -- uploads --------------------------------------------------------------------------------


def start(state: State, owner: str, kind: str, name: str, size: int) -> str:
    """Open an upload and give its token.

    Raises:
        ApiError: With status 400 for a name that is a path, or a negative size.
    """
    if (
        not name
        or name in (".", "..")
        or any(mark in name for mark in "/\\\x00")
        or len(name) > 255
    ):
        raise bad_request(f"{name!r} is not a valid file name")
    if size < 0:
        raise bad_request("contentLength must not be negative")
    token = secrets.token_urlsafe(24)
    with state.write() as db:
        db.execute(
            "INSERT INTO uploads(token, owner, kind, name, size, created) VALUES (?,?,?,?,?,?)",
            (token, owner, kind, name, size, state.clock.now()),
        )
    return token


def find(state: State, token: str) -> Upload:
    """Look up a token.

    Raises:
        ApiError: With status 404 for a token that was never given out.
    """
    with state.read() as db:
        row = db.execute("SELECT * FROM uploads WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise not_found("Upload not found")
    return Upload(
        row["token"],
        row["owner"],
        row["kind"],
        row["name"],
        row["size"],
        row["sha256"],
        bool(row["used"]),
    )


def _part(state: State, token: str) -> Path:
    return state.folder / "uploads" / f"{token}.part"


@contextmanager
def _only_writer(state: State, token: str) -> Iterator[None]:
    """Keep a retry from writing beside the attempt it replaces, also across processes."""
    path = state.folder / "uploads" / f"{token}.lock"
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise ApiError(503, "another request is writing this upload") from problem
        yield


def received(state: State, upload: Upload) -> int:
    """How many bytes have come so far."""
    if upload.sha256 is not None:
        return upload.size
    try:
        return _part(state, upload.token).stat().st_size
    except FileNotFoundError:
        return 0


def append(
    state: State,
    upload: Upload,
    chunks: Iterable[bytes],
    offset: int,
    gone: Callable[[], bool] = lambda: False,
) -> bool:
    """Write bytes from an offset on and say whether the upload is complete.

    Bytes that came before the client was cut off are kept for a resume.

    Raises:
        ApiError: With status 400 when more bytes come than were announced, 503 when another
            request is writing.
    """
    with _only_writer(state, upload.token):
        current = find(state, upload.token)
        if current.sha256 is not None:
            for _ in chunks:
                pass
            return True
        have = received(state, upload)
        if offset > have:
            return False
        part = _part(state, upload.token)
        with part.open("r+b" if part.exists() else "w+b") as out:
            out.seek(offset)
            out.truncate()
            for chunk in chunks:
                if out.tell() + len(chunk) > upload.size:
                    out.truncate(0)
                    raise bad_request(f"more than the announced {upload.size} bytes")
                out.write(chunk)
                out.flush()
            total = out.tell()
        if total < upload.size or gone():
            return False
        blob = store_file(state, part)
        with state.write() as db:
            db.execute("UPDATE uploads SET sha256 = ? WHERE token = ?", (blob.sha256, upload.token))
    (state.folder / "uploads" / f"{upload.token}.lock").unlink(missing_ok=True)
    return True
