"""Unpacking what people upload: the service turns `photos.zip` into the folder `photos/`.

An archive is somebody else's text. Names that leave the folder, links, and archives that unpack to
absurd sizes are refused; a file that only calls itself an archive is kept as it is.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from harness.emulator import blobs
from harness.emulator.state import State

MAX_MEMBERS = 200_000
MAX_BYTES = 200 * 10**9
# Deflate cannot exceed about 1032:1, and real data never comes close to it.
MAX_RATIO = 500
_RATIO_FREE_BYTES = 64 << 20

_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip")


class ArchiveRefused(Exception):
    """The archive would write outside its folder, or is a bomb."""


def folder_for(name: str) -> str | None:
    """Name the folder an archive unpacks into, or None when the name is not an archive's."""
    lowered = name.lower()
    for suffix in _SUFFIXES:
        if lowered.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def unpack(state: State, source: Path, name: str) -> list[tuple[str, blobs.Blob]] | None:
    """Store every file of an archive.

    Returns:
        Path below the dataset's root and blob for each member, or None when the bytes are no
        archive at all.

    Raises:
        ArchiveRefused: If a member's path leaves the folder, or the archive is a bomb.
    """
    folder = folder_for(name)
    if folder is None:
        return None
    if zipfile.is_zipfile(source):
        members = _zip_members(source)
    elif _is_tar(source):
        members = _tar_members(source)
    else:
        return None
    found: dict[str, blobs.Blob] = {}
    budget = min(MAX_BYTES, _RATIO_FREE_BYTES + MAX_RATIO * source.stat().st_size)
    try:
        for path, stream in members:
            if len(found) >= MAX_MEMBERS:
                raise ArchiveRefused(f"{name} has more than {MAX_MEMBERS} files")
            blob = blobs.store_stream(state, stream, budget)
            budget -= blob.size
            found[f"{folder}/{_safe(path, name)}"] = blob
    except ValueError as problem:
        raise ArchiveRefused(f"{name} unpacks to an absurd size") from problem
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
    ) as problem:
        raise ArchiveRefused(f"{name} is damaged: {problem}") from problem
    return sorted(found.items())


def _is_tar(source: Path) -> bool:
    try:
        return tarfile.is_tarfile(source)
    except (EOFError, OSError, zlib.error):
        return False  # compressed, and cut before its first member


def _safe(path: str, archive: str) -> str:
    """Normalise a member's path."""
    pure = PurePosixPath(path.replace("\\", "/"))
    bad = pure.is_absolute() or ".." in pure.parts or not pure.parts or "\x00" in path
    if bad or (len(path) > 1 and path[1] == ":"):
        raise ArchiveRefused(f"{archive} contains the path {path!r}")
    return str(pure)


def _zip_members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
            if info.is_dir() or is_link:
                continue
            with archive.open(info) as stream:
                yield info.filename, stream


def _tar_members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(source, "r:*") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is not None:
                with stream:
                    yield member.name, stream
