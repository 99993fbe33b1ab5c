"""Datasets: their rules, versions, and the read-only folders that kernels mount.

A version is a full snapshot of files, immutable once made. It becomes READY after a delay, and
until then the previous one stays current: the window in which a careless push gets the old data.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness.emulator import archives, blobs
from harness.emulator.clock import is_due
from harness.emulator.errors import ApiError, bad_request, forbidden, not_found
from harness.emulator.options import Options
from harness.emulator.state import State

LICENSES = frozenset(
    [
        *("CC0-1.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "CC-BY-4.0"),
        *("CC-BY-NC-4.0", "CC-BY-3.0", "CC-BY-3.0-IGO", "CC-BY-NC-SA-3.0", "GPL-2.0", "ODbL-1.0"),
        *("DbCL-1.0", "PDDL", "copyright-authors", "other", "unknown"),
    ]
)
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
# A name with this character is accepted, and processing then fails.
_FATAL_IN_NAMES = "@"
_STAGES = ("BLOBS_RECEIVED", "BLOBS_DECOMPRESSED", "INDIVIDUAL_BLOBS_COMPRESSED")


class Rejected(Exception):
    """The service answers 200 and says no in the body."""


@dataclass(frozen=True)
class NewFile:
    """One file of a version to be made: an upload, and the folder it goes into."""

    token: str
    description: str = ""
    folder: str = ""


@dataclass(frozen=True)
class File:
    """One file of a version."""

    path: str
    size: int
    sha256: str
    description: str


@dataclass(frozen=True)
class Snapshot:
    """The content of a version to be made, and why its processing will fail, if it will."""

    files: list[File]
    failure: str


def find(state: State, owner: str, slug: str, user: str) -> dict[str, Any]:
    """Look up a dataset that the user may see.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM datasets WHERE owner = ? AND slug = ?", (owner.lower(), slug.lower())
        ).fetchone()
    if row is None or (row["private"] and row["owner"] != user.lower()):
        raise not_found("Dataset not found")
    return dict(row)


def versions(state: State, dataset: int) -> list[dict[str, Any]]:
    """List the versions with their status, oldest first."""
    with state.read() as db:
        rows = db.execute(
            "SELECT * FROM dataset_versions WHERE dataset = ? ORDER BY number", (dataset,)
        ).fetchall()
    return [{**dict(row), "status": _status(state, row)} for row in rows]


def _status(state: State, row: sqlite3.Row) -> str:
    now = state.clock.now()
    if row["hidden"]:
        return "DELETED"
    if is_due(now, row["created"], row["ready_at"]) and row["polls"] <= 0:
        return "FAILED" if row["failure"] else "READY"
    span = max(row["ready_at"] - row["created"], 1e-9)
    stage = int(len(_STAGES) * (now - row["created"]) / span)
    return _STAGES[min(max(stage, 0), len(_STAGES) - 1)]


def poll(state: State, dataset: int) -> str:
    """Give the newest version's status, counting the question as a poll."""
    newest = versions(state, dataset)[-1]
    due = is_due(state.clock.now(), newest["created"], newest["ready_at"])
    if newest["polls"] > 0 and due:
        with state.write() as db:
            db.execute(
                "UPDATE dataset_versions SET polls = polls - 1 WHERE id = ? AND polls > 0",
                (newest["id"],),
            )
    return str(newest["status"])


def current(state: State, dataset: int) -> dict[str, Any] | None:
    """Give the newest READY version, the one that is listed, downloaded and mounted."""
    ready = [entry for entry in versions(state, dataset) if entry["status"] == "READY"]
    return ready[-1] if ready else None


def version(state: State, dataset: int, number: int | None) -> dict[str, Any]:
    """Give a READY version by number, or the current one.

    Raises:
        ApiError: With status 404 when there is none, or it is still being processed.
    """
    if not number:
        found = current(state, dataset)
    else:
        ready = (entry for entry in versions(state, dataset) if entry["status"] == "READY")
        found = next((entry for entry in ready if entry["number"] == number), None)
    if found is None:
        raise not_found("Dataset version not found")
    return found


def files(state: State, version_id: int) -> list[File]:
    """List a version's files by path."""
    with state.read() as db:
        rows = db.execute(
            "SELECT * FROM dataset_files WHERE version = ? ORDER BY path", (version_id,)
        ).fetchall()
    return [File(row["path"], row["size"], row["sha256"], row["description"]) for row in rows]


def file(state: State, version_id: int, path: str) -> File:
    """Give one file of a version.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM dataset_files WHERE version = ? AND path = ?", (version_id, path)
        ).fetchone()
    if row is None:
        raise not_found("File not found")
    return File(row["path"], row["size"], row["sha256"], row["description"])


def total_size(state: State, version_id: int) -> int:
    """Add up the sizes of a version's files."""
    with state.read() as db:
        row = db.execute(
            "SELECT coalesce(sum(size), 0) FROM dataset_files WHERE version = ?", (version_id,)
        ).fetchone()
    return int(row[0])


def snapshot(state: State, user: str, new: Sequence[NewFile], kind: str = "DATASET") -> Snapshot:
    """Turn upload tokens into files, unpacking archives.

    Raises:
        ApiError: With status 400 for a token that is unknown, foreign, used, incomplete or twice
            in the list.
        Rejected: If two files have one name.
    """
    found: dict[str, File] = {}
    failure = ""
    seen: set[str] = set()
    for item in new:
        try:
            upload = blobs.find(state, item.token)
        except ApiError as problem:
            raise bad_request("Invalid upload token") from problem
        if upload.owner != user or upload.kind != kind or upload.used or item.token in seen:
            raise bad_request("Invalid upload token")
        if upload.sha256 is None:
            raise bad_request(f"The upload of {upload.name} is not complete")
        seen.add(item.token)
        prefix = f"{item.folder}/" if item.folder else ""
        source = blobs.path_of(state, upload.sha256)
        try:
            unpacked = archives.unpack(state, source, upload.name)
        except archives.ArchiveRefused as problem:
            failure, unpacked = failure or str(problem), []
        if unpacked is None:
            names = [File(prefix + upload.name, upload.size, upload.sha256, item.description)]
        else:
            names = [File(prefix + name, blob.size, blob.sha256, "") for name, blob in unpacked]
        for file in names:
            if file.path in found:
                raise Rejected(f"Duplicate file name: {file.path}")
            if any(mark in file.path for mark in _FATAL_IN_NAMES):
                failure = failure or f"The file name {file.path} is not allowed"
            found[file.path] = file
    for path in found:
        for parent in PurePosixPath(path).parents:
            if str(parent) in found:
                raise Rejected(f"{parent} is both a file and a folder")
    return Snapshot(sorted(found.values(), key=lambda file: file.path), failure)


def use_tokens(db: sqlite3.Connection, tokens: Iterable[str]) -> None:
    """Spend upload tokens.

    Raises:
        ApiError: With status 400 if another request spent one first.
    """
    for token in tokens:
        spent = db.execute("UPDATE uploads SET used = 1 WHERE token = ? AND used = 0", (token,))
        if spent.rowcount != 1:
            raise bad_request("Invalid upload token")


def check_slug(slug: str, what: str = "Dataset slug") -> None:
    """Refuse what could not be part of an address.

    Raises:
        ApiError: With status 400.
    """
    if not 6 <= len(slug) <= 50 or not SLUG.fullmatch(slug):
        raise bad_request(
            f"{what} must be 6 to 50 characters, lower case letters, digits and hyphens"
        )


def create(
    state: State,
    user: str,
    *,
    owner: str,
    slug: str,
    title: str,
    license_name: str,
    private: bool,
    new: Sequence[NewFile],
    subtitle: str = "",
    description: str = "",
    tags: Sequence[str] = (),
) -> None:
    """Make a dataset and its first version.

    Raises:
        ApiError: For a bad slug, a foreign owner or bad tokens.
        Rejected: For what the service explains inside a 200.
    """
    if owner.lower() != user:
        raise forbidden("Permission 'datasets.create' was denied")
    check_slug(slug)
    if not 6 <= len(title) <= 50:
        raise Rejected("The dataset title must be between 6 and 50 characters")
    if license_name not in LICENSES:
        raise Rejected(f"Invalid license: {license_name}")
    if subtitle and not 20 <= len(subtitle) <= 80:
        raise Rejected("The subtitle must be between 20 and 80 characters")
    content, options = snapshot(state, user, new), state.options
    with state.write() as db:
        if db.execute(
            "SELECT 1 FROM kernels WHERE owner = ? AND slug = ?", (user, slug)
        ).fetchone():
            raise bad_request(f"The slug {slug} is already in use by a kernel")
        taken = db.execute(
            "SELECT 1 FROM datasets WHERE owner = ? AND (slug = ? OR title = ?)",
            (user, slug, title),
        ).fetchone()
        if taken:
            raise Rejected(
                f'The requested title "{title}" is already in use by a dataset. '
                "Please choose another title."
            )
        content = _within_quota(db, options, user, content)
        now = state.clock.now()
        dataset = db.execute(
            "INSERT INTO datasets(owner, slug, title, subtitle, description, license, private,"
            " tags, created) VALUES (?,?,?,?,?,?,?,?,?)",
            (
                user,
                slug,
                title,
                subtitle,
                description,
                license_name,
                int(private),
                json.dumps(list(tags)),
                now,
            ),
        ).lastrowid
        assert dataset is not None
        _add_version(db, options, state.clock.now(), dataset, 1, "Initial release", content)
        use_tokens(db, [item.token for item in new])


def create_version(
    state: State,
    user: str,
    dataset: dict[str, Any],
    new: Sequence[NewFile],
    notes: str,
    delete_old: bool,
) -> int:
    """Add a version and give its number.

    Raises:
        ApiError: For somebody else's dataset or bad tokens.
        Rejected: If two files have one name.
    """
    if dataset["owner"] != user:
        raise forbidden("Permission 'datasets.update' was denied")
    content, options = snapshot(state, user, new), state.options
    with state.write() as db:
        last = db.execute(
            "SELECT max(number) FROM dataset_versions WHERE dataset = ?", (dataset["id"],)
        ).fetchone()[0]
        content = _within_quota(db, options, user, content)
        if delete_old:
            db.execute("UPDATE dataset_versions SET hidden = 1 WHERE dataset = ?", (dataset["id"],))
        _add_version(db, options, state.clock.now(), dataset["id"], last + 1, notes, content)
        use_tokens(db, [item.token for item in new])
    return int(last) + 1


def _within_quota(
    db: sqlite3.Connection, options: Options, user: str, content: Snapshot
) -> Snapshot:
    """Give the content, marked as failing when the account has no room for it."""
    used = db.execute(
        "SELECT coalesce(sum(f.size), 0) FROM dataset_files f"
        " JOIN dataset_versions v ON v.id = f.version JOIN datasets d ON d.id = v.dataset"
        " WHERE d.owner = ? AND v.failure = ''",
        (user,),
    ).fetchone()[0]
    size = sum(file.size for file in content.files)
    if 0 < options.dataset_quota_bytes < used + size:
        return replace(content, failure=content.failure or "The dataset quota is used up")
    return content


def _add_version(
    db: sqlite3.Connection,
    options: Options,
    now: float,
    dataset: int,
    number: int,
    notes: str,
    content: Snapshot,
) -> None:
    version_id = db.execute(
        "INSERT INTO dataset_versions(dataset, number, notes, created, ready_at, polls, failure)"
        " VALUES (?,?,?,?,?,?,?)",
        (
            dataset,
            number,
            notes,
            now,
            now + options.dataset_delay_s,
            options.dataset_polls,
            content.failure,
        ),
    ).lastrowid
    db.executemany(
        "INSERT INTO dataset_files VALUES (?,?,?,?,?)",
        [
            (version_id, file.path, file.sha256, file.size, file.description)
            for file in content.files
        ],
    )


def delete(state: State, user: str, dataset: dict[str, Any]) -> None:
    """Remove a dataset; kernels that mounted it keep their copy.

    Raises:
        ApiError: With status 403 for somebody else's.
    """
    if dataset["owner"] != user:
        raise forbidden("Permission 'datasets.delete' was denied")
    with state.write() as db:
        db.execute(
            "DELETE FROM dataset_files WHERE version IN"
            " (SELECT id FROM dataset_versions WHERE dataset = ?)",
            (dataset["id"],),
        )
        db.execute("DELETE FROM dataset_versions WHERE dataset = ?", (dataset["id"],))
        db.execute("DELETE FROM datasets WHERE id = ?", (dataset["id"],))


def folder(state: State, version_id: int, copy: bool = False) -> Path:
    """Give a folder with a version's files, made on first use.

    Args:
        state: The state folder.
        version_id: The version's row, not its number.
        copy: Whether to copy instead of hard-linking, for kernels that run unprotected and could
            damage the stored bytes.
    """
    return materialise(
        state,
        f"dataset-{version_id}{'-copy' if copy else ''}",
        [(file.path, file.sha256) for file in files(state, version_id)],
        copy,
    )


def materialise(state: State, name: str, content: list[tuple[str, str]], copy: bool) -> Path:
    """Lay out stored files below `mounts/`; the rename at the end makes it all or nothing."""
    target = state.folder / "mounts" / name
    if target.is_dir():
        return target
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
    draft.chmod(0o755)
    for path, sha256 in content:
        place = draft / path
        place.parent.mkdir(parents=True, exist_ok=True)
        blobs.link_or_copy(blobs.path_of(state, sha256), place, copy)
    try:
        draft.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(draft, ignore_errors=True)
    return target
