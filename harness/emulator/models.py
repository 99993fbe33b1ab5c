"""Models: a model holds instances (framework and variation), an instance holds versions of files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.emulator import datasets
from harness.emulator.errors import bad_request, forbidden, not_found
from harness.emulator.state import State


def find(state: State, owner: str, slug: str, user: str) -> dict[str, Any]:
    """Look up a model that the user may see.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM models WHERE owner = ? AND slug = ?", (owner.lower(), slug.lower())
        ).fetchone()
    if row is None or (json.loads(row["request"])["isPrivate"] and row["owner"] != user):
        raise not_found("Model not found")
    return dict(row)


def create(state: State, user: str, owner: str, slug: str, request: dict[str, Any]) -> int:
    """Make a model and give its id.

    Raises:
        ApiError: With status 403 for another owner, 400 for a bad slug or title, 409 if it exists.
    """
    if owner.lower() != user:
        raise forbidden("Permission 'models.create' was denied")
    if not 1 <= len(slug) <= 50 or not datasets.SLUG.fullmatch(slug):
        raise bad_request("The model slug must be lower case letters, digits and hyphens")
    if not request["title"]:
        raise bad_request("The model title must not be empty")
    with state.write() as db:
        if db.execute("SELECT 1 FROM models WHERE owner = ? AND slug = ?", (user, slug)).fetchone():
            raise datasets.Rejected("The slug is already in use by a model")
        row = db.execute(
            "INSERT INTO models(owner, slug, request, created) VALUES (?,?,?,?)",
            (user, slug, json.dumps(request), state.clock.now()),
        )
    return int(row.lastrowid or 0)


def instance(state: State, model: int, framework: str, slug: str) -> dict[str, Any]:
    """Look up an instance.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM model_instances WHERE model = ? AND framework = ? AND slug = ?",
            (model, framework, slug),
        ).fetchone()
    if row is None:
        raise not_found("Model instance not found")
    return dict(row)


def create_instance(
    state: State,
    user: str,
    model: dict[str, Any],
    framework: str,
    slug: str,
    request: dict[str, Any],
    new: Sequence[datasets.NewFile],
) -> int:
    """Make an instance with its first version and give the instance's id.

    Raises:
        ApiError: With status 403 for another owner, 400 for bad names or tokens.
    """
    if model["owner"] != user:
        raise forbidden("Permission 'models.update' was denied")
    if not 1 <= len(slug) <= 50 or not datasets.SLUG.fullmatch(slug):
        raise bad_request("The instance slug must be lower case letters, digits and hyphens")
    content = datasets.snapshot(state, user, new, "MODEL")
    with state.write() as db:
        taken = db.execute(
            "SELECT 1 FROM model_instances WHERE model = ? AND framework = ? AND slug = ?",
            (model["id"], framework, slug),
        ).fetchone()
        if taken:
            raise datasets.Rejected("The slug is already in use by a model instance")
        row = db.execute(
            "INSERT INTO model_instances(model, framework, slug, request, created)"
            " VALUES (?,?,?,?,?)",
            (model["id"], framework, slug, json.dumps(request), state.clock.now()),
        )
        assert row.lastrowid is not None
        _add_version(state, db, row.lastrowid, 1, "", content, new)
    return row.lastrowid


def create_version(
    state: State,
    user: str,
    model: dict[str, Any],
    entry: dict[str, Any],
    notes: str,
    new: Sequence[datasets.NewFile],
) -> int:
    """Add a version to an instance and give the version's id.

    Raises:
        ApiError: With status 403 for another owner, 400 for bad tokens.
    """
    if model["owner"] != user:
        raise forbidden("Permission 'models.update' was denied")
    content = datasets.snapshot(state, user, new, "MODEL")
    with state.write() as db:
        last = db.execute(
            "SELECT max(number) FROM model_versions WHERE instance = ?", (entry["id"],)
        ).fetchone()[0]
        return _add_version(state, db, entry["id"], last + 1, notes, content, new)


def _add_version(
    state: State,
    db: Any,
    entry: int,
    number: int,
    notes: str,
    content: datasets.Snapshot,
    new: Sequence[datasets.NewFile],
) -> int:
    if content.failure:
        raise datasets.Rejected(content.failure)
    version = db.execute(
        "INSERT INTO model_versions(instance, number, notes, created) VALUES (?,?,?,?)",
        (entry, number, notes, state.clock.now()),
    ).lastrowid
    db.executemany(
        "INSERT INTO model_files VALUES (?,?,?,?)",
        [(version, file.path, file.sha256, file.size) for file in content.files],
    )
    datasets.use_tokens(db, [item.token for item in new])
    return int(version)


def version(state: State, entry: int, number: int | None) -> dict[str, Any]:
    """Give an instance's version by number, or the latest.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM model_versions WHERE instance = ? AND (? IS NULL OR number = ?)"
            " ORDER BY number DESC LIMIT 1",
            (entry, number or None, number),
        ).fetchone()
    if row is None:
        raise not_found("Model version not found")
    return dict(row)


def files(state: State, version_id: int) -> list[datasets.File]:
    """List a version's files by path."""
    with state.read() as db:
        rows = db.execute(
            "SELECT * FROM model_files WHERE version = ? ORDER BY path", (version_id,)
        ).fetchall()
    return [datasets.File(row["path"], row["size"], row["sha256"], "") for row in rows]


def file(state: State, version_id: int, path: str) -> datasets.File:
    """Give one file of a version.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM model_files WHERE version = ? AND path = ?", (version_id, path)
        ).fetchone()
    if row is None:
        raise not_found("File not found")
    return datasets.File(row["path"], row["size"], row["sha256"], "")


def versions(state: State, entry: int) -> list[dict[str, Any]]:
    """List an instance's versions, newest first."""
    with state.read() as db:
        rows = db.execute(
            "SELECT * FROM model_versions WHERE instance = ? ORDER BY number DESC", (entry,)
        ).fetchall()
    return [dict(row) for row in rows]


def instances(state: State, model: int) -> list[dict[str, Any]]:
    """List a model's instances, oldest first."""
    with state.read() as db:
        rows = db.execute(
            "SELECT * FROM model_instances WHERE model = ? ORDER BY id", (model,)
        ).fetchall()
    return [dict(row) for row in rows]


def mount(state: State, user: str, handle: str, copy: bool) -> tuple[str, Path]:
    """Resolve `owner/model/framework/variation/N` to a mount point and a folder.

    Raises:
        ApiError: With status 404.
    """
    match = re.fullmatch(r"([\w-]+)/([\w-]+)/([\w.-]+)/([\w-]+)/([1-9][0-9]{0,8})", handle)
    if match is None:
        raise not_found(f"{handle} is not a model's handle")
    owner, slug, framework, variation, number = match.groups()
    model = find(state, owner, slug, user)
    with state.read() as db:
        rows = db.execute(
            "SELECT * FROM model_instances WHERE model = ? AND slug = ?", (model["id"], variation)
        ).fetchall()
    wanted = _plain(framework)
    entry = next((row for row in rows if _plain(row["framework"]) == wanted), None)
    if entry is None:
        raise not_found("Model instance not found")
    chosen = version(state, entry["id"], int(number))
    content = [(file.path, file.sha256) for file in files(state, chosen["id"])]
    name = f"model-{chosen['id']}{'-copy' if copy else ''}"
    folder = datasets.materialise(state, name, content, copy)
    return f"{owner}/{slug}/{framework.lower()}/{variation}/{number}", folder


def _plain(framework: str) -> str:
    """Bring `MODEL_FRAMEWORK_PY_TORCH`, `PyTorch` and `pytorch` to one spelling."""
    return re.sub(r"[^a-z0-9]", "", framework.lower().removeprefix("model_framework_"))


def update(
    state: State, user: str, model: dict[str, Any], changes: dict[str, Any], entry: int = 0
) -> None:
    """Change what is said about a model, or about one of its instances.

    Raises:
        ApiError: With status 403 for another owner.
    """
    if model["owner"] != user:
        raise forbidden("Permission 'models.update' was denied")
    table, number = ("model_instances", entry) if entry else ("models", model["id"])
    with state.write() as db:
        row = db.execute(f"SELECT request FROM {table} WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise not_found("Model not found")
        request = {**json.loads(row["request"]), **changes}
        db.execute(f"UPDATE {table} SET request = ? WHERE id = ?", (json.dumps(request), number))


def delete(state: State, user: str, model: dict[str, Any]) -> None:
    """Remove a model with all its instances.

    Raises:
        ApiError: With status 403 for another owner.
    """
    _check_deleter(user, model)
    with state.write() as db:
        for row in db.execute(
            "SELECT id FROM model_instances WHERE model = ?", (model["id"],)
        ).fetchall():
            _delete_instance(db, row["id"])
        db.execute("DELETE FROM models WHERE id = ?", (model["id"],))


def delete_instance(state: State, user: str, model: dict[str, Any], entry: int) -> None:
    """Remove an instance with all its versions.

    Raises:
        ApiError: With status 403 for another owner.
    """
    _check_deleter(user, model)
    with state.write() as db:
        _delete_instance(db, entry)


def delete_version(state: State, user: str, model: dict[str, Any], entry: int, number: int) -> None:
    """Remove one version; an instance's only version goes with the instance, not before it.

    Raises:
        ApiError: With status 403 for another owner, 404 for no such version, 400 for the only one.
    """
    _check_deleter(user, model)
    with state.write() as db:
        numbers = {
            row["number"]: row["id"]
            for row in db.execute(
                "SELECT id, number FROM model_versions WHERE instance = ?", (entry,)
            )
        }
        if number not in numbers:
            raise not_found("Model version not found")
        if len(numbers) == 1:
            raise bad_request("The only version of a model instance cannot be deleted")
        db.execute("DELETE FROM model_files WHERE version = ?", (numbers[number],))
        db.execute("DELETE FROM model_versions WHERE id = ?", (numbers[number],))


def _check_deleter(user: str, model: dict[str, Any]) -> None:
    if model["owner"] != user:
        raise forbidden("Permission 'models.delete' was denied")


def _delete_instance(db: Any, entry: int) -> None:
    db.execute(
        "DELETE FROM model_files WHERE version IN"
        " (SELECT id FROM model_versions WHERE instance = ?)",
        (entry,),
    )
    db.execute("DELETE FROM model_versions WHERE instance = ?", (entry,))
    db.execute("DELETE FROM model_instances WHERE id = ?", (entry,))
