"""What a folder holds, by content, without reading again what has not changed.

An index remembers size, times, inode and sha256 of every file it has read. A file whose numbers are the
same is taken as unchanged, unless it was touched so shortly before the index was made that a later edit
could show the same time. Both mtime and ctime count: setting the mtime back does not hide an edit.
"""

import errno
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from harness.durable import write_text
from harness.errors import ConfigError
from harness.records import PackedFile, text_digest

LOGGER = logging.getLogger(__name__)

INDEX_SCHEMA = 1
LEFT_OUT = "-"  # in place of a hash: seen, and not part of the folder's content
SKIPPED_FOLDERS = frozenset({"__pycache__"})
READ_ATTEMPTS = 3
FINE_MARGIN_NS = 50_000_000  # more than a tick of any kernel's clock
COARSE_MARGIN_NS = 2_000_000_000  # file systems that keep whole seconds, or two of them

# What a rule says of a file that was not seen before: True to pack it; it raises to refuse it.
Rule = Callable[[str, Path], bool]

Numbers = list[Any]  # size, mtime_ns, ctime_ns, inode, and in the index the sha256


@dataclass(frozen=True)
class Contents:
    """A folder's content as of one look at it.

    ``digest`` is over paths and hashes: equal content has an equal digest, wherever and whenever.
    """

    digest: str
    entries: dict[str, Numbers]  # path -> size, mtime_ns, ctime_ns, inode, sha256
    read: int  # files that were hashed for this look
    read_bytes: int

    @property
    def files(self) -> tuple[PackedFile, ...]:
        """The files, sorted by path."""
        return tuple(
            PackedFile(path, numbers[0], numbers[4])
            for path, numbers in sorted(self.entries.items())
            if numbers[4] != LEFT_OUT
        )


def content_digest(files: tuple[PackedFile, ...]) -> str:
    """The digest of a list of files that is sorted by path; kernels/blocks/paths.py computes the same."""
    return text_digest(*(f"{file.path} {file.sha256}" for file in files))


def look(
    folder: Path,
    index: Path | None = None,
    *,
    rule: Rule = lambda _path, _file: True,
    rules: str = "",
    reserved: frozenset[str] = frozenset(),
    rehash: bool = False,
) -> Contents:
    """Hash what has changed below a folder since the index was written, and write it anew.

    Args:
        index: Where the index is kept; None reads every file.
        rule: Asked about every file that is new or changed; see Rule.
        rules: Names the rule's own state: an index made under other rules is not used.
        reserved: Names at the top of the folder that are no content.
        rehash: Read every file whatever the index says.

    Raises:
        ConfigError: A file is being written to, or a folder is a link.
    """
    began = time.time_ns()
    kept: dict[str, Any] = {} if index is None or rehash else _read_index(index, rules)
    known: dict[str, Numbers] = kept.get("files", {})
    fine = kept.get("began", 0) - FINE_MARGIN_NS
    coarse = kept.get("began", 0) - COARSE_MARGIN_NS
    entries: dict[str, Numbers] = {}
    read = read_bytes = 0
    for path, numbers in _walk(folder, reserved):
        old = known.get(path)
        if (
            old is not None
            and old[:4] == numbers
            and (old[1] < fine and old[2] < fine)
            and (old[1] % 1_000_000_000 or old[2] < coarse)
        ):
            entries[path] = old
            continue
        if rule(path, folder / path):
            entries[path] = _read(folder / path)
            read, read_bytes = read + 1, read_bytes + entries[path][0]
        else:
            entries[path] = [*numbers, LEFT_OUT]
    if read == 0 and kept and entries.keys() == known.keys():
        return Contents(kept["digest"], entries, 0, 0)
    found = Contents("", entries, read, read_bytes)
    found = Contents(content_digest(found.files), entries, read, read_bytes)
    if index is not None:
        _write_index(
            index,
            {
                "schema": INDEX_SCHEMA,
                "rules": rules,
                "began": began,
                "digest": found.digest,
                "files": entries,
            },
        )
    return found


def _walk(folder: Path, reserved: frozenset[str]) -> list[tuple[str, Numbers]]:
    """Path and numbers of every file but those in hidden folders and Python's caches."""
    found = []
    pending = [(str(folder), "")]
    while pending:
        place, prefix = pending.pop()
        with os.scandir(place) as listing:
            for entry in listing:
                name = entry.name
                there = _stat(entry)
                if stat.S_ISDIR(there.st_mode):
                    if name[0] == "." or name in SKIPPED_FOLDERS:
                        continue
                    if entry.is_symlink():
                        raise ConfigError(
                            f"{entry.path} is a link to a folder.",
                            "Put the folder itself there, or links to its files.",
                        )
                    pending.append((entry.path, f"{prefix}{name}/"))
                elif prefix or name not in reserved:
                    if not stat.S_ISREG(there.st_mode):
                        raise ConfigError(
                            f"{entry.path} is no file (a pipe, a socket or a device).", "Remove it."
                        )
                    found.append((prefix + name, _numbers(there)))
    return found


def _stat(entry: "os.DirEntry[str]") -> os.stat_result:
    """What the disk says of an entry, or of what a link leads to (ConfigError: to nothing)."""
    try:
        return entry.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        raise ConfigError(
            f"{entry.path} is a link to nothing, or was just removed.",
            "Remove it, or run the same command again.",
        ) from error


def _numbers(found: os.stat_result) -> Numbers:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _read(path: Path) -> Numbers:
    """A file's numbers and hash, from a time in which nobody wrote to it."""
    for _ in range(READ_ATTEMPTS):
        with path.open("rb") as handle:
            before = _numbers(os.fstat(handle.fileno()))
            digest = file_digest(handle, sha256).hexdigest()
        if before == _numbers(path.stat()):
            return [*before, digest]
    raise ConfigError(
        f"{path} changed while it was read.", "Run the same command again once it is written."
    )


def _read_index(index: Path, rules: str) -> dict[str, Any]:
    """An index made under the same rules, else nothing: a damaged one only costs reading again."""
    try:
        kept = json.loads(index.read_bytes())
        usable = (
            kept["schema"] == INDEX_SCHEMA and kept["rules"] == rules and kept["began"] >= 0
        ) and isinstance(kept["files"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return kept if usable else {}


def _write_index(index: Path, value: dict[str, Any]) -> None:
    """Keep an index. Without it, or with one that two processes damaged, the next look is slower: no failure counts."""
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        write_text(index, json.dumps(value, separators=(",", ":")))
    except OSError as error:
        LOGGER.info("no index of hashes was kept: %s", error)
