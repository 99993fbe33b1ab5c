"""Everything a local Kaggle remembers: SQLite for facts, a folder of blobs for bytes.

Nothing lives only in memory, so several processes may share one folder, and a server killed at any
moment loses nothing that it had acknowledged. The rules of datasets, kernels and competitions live
in modules of those names and work on a `State`; the methods here are the administrator's side.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.emulator.clock import Clock, SystemClock
from harness.emulator.errors import StateError
from harness.emulator.options import Options

if TYPE_CHECKING:
    from harness.emulator.competitions import CompetitionSpec
    from harness.emulator.garbage import Collected

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE settings(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE keys(key TEXT PRIMARY KEY, env TEXT NOT NULL);
CREATE TABLE revoked(token TEXT PRIMARY KEY);
CREATE TABLE blobs(sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, crc32 INTEGER NOT NULL);
CREATE TABLE uploads(
    token TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    size INTEGER NOT NULL, created REAL NOT NULL, sha256 TEXT, used INTEGER NOT NULL DEFAULT 0);
CREATE TABLE datasets(
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, slug TEXT NOT NULL,
    title TEXT NOT NULL, subtitle TEXT NOT NULL, description TEXT NOT NULL, license TEXT NOT NULL,
    private INTEGER NOT NULL, tags TEXT NOT NULL, created REAL NOT NULL);
CREATE UNIQUE INDEX dataset_handle ON datasets(owner, slug);
CREATE TABLE dataset_versions(
    id INTEGER PRIMARY KEY AUTOINCREMENT, dataset INTEGER NOT NULL, number INTEGER NOT NULL,
    notes TEXT NOT NULL, created REAL NOT NULL, ready_at REAL NOT NULL, polls INTEGER NOT NULL,
    failure TEXT NOT NULL, hidden INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX dataset_version ON dataset_versions(dataset, number);
CREATE TABLE dataset_files(
    version INTEGER NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    description TEXT NOT NULL, PRIMARY KEY(version, path)) WITHOUT ROWID;
CREATE TABLE kernels(
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, slug TEXT NOT NULL,
    title TEXT NOT NULL, language TEXT NOT NULL, kind TEXT NOT NULL, created REAL NOT NULL);
CREATE UNIQUE INDEX kernel_handle ON kernels(owner, slug);
CREATE TABLE kernel_versions(
    id INTEGER PRIMARY KEY AUTOINCREMENT, kernel INTEGER NOT NULL, number INTEGER NOT NULL,
    created REAL NOT NULL, request TEXT NOT NULL, source TEXT NOT NULL, accelerator TEXT NOT NULL,
    status TEXT NOT NULL, failure TEXT NOT NULL DEFAULT '', final INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0, polls INTEGER NOT NULL DEFAULT -1);
CREATE UNIQUE INDEX kernel_version ON kernel_versions(kernel, number);
CREATE INDEX kernel_active ON kernel_versions(final) WHERE final = 0;
CREATE TABLE competitions(
    id INTEGER PRIMARY KEY AUTOINCREMENT, slug TEXT NOT NULL UNIQUE, spec TEXT NOT NULL,
    folder TEXT NOT NULL, solution TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE submissions(
    ref INTEGER PRIMARY KEY AUTOINCREMENT, competition INTEGER NOT NULL, owner TEXT NOT NULL,
    file_name TEXT NOT NULL, description TEXT NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, created REAL NOT NULL, graded INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '', public REAL, private REAL, polls INTEGER NOT NULL DEFAULT 0,
    ready_at REAL NOT NULL, kernel TEXT NOT NULL DEFAULT '');
CREATE INDEX submission_competition ON submissions(competition, owner);
CREATE TABLE checksums(
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL, crc32 INTEGER NOT NULL);
CREATE TABLE models(
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, slug TEXT NOT NULL,
    request TEXT NOT NULL, created REAL NOT NULL);
CREATE UNIQUE INDEX model_handle ON models(owner, slug);
CREATE TABLE model_instances(
    id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, framework TEXT NOT NULL,
    slug TEXT NOT NULL, request TEXT NOT NULL, created REAL NOT NULL);
CREATE UNIQUE INDEX model_instance ON model_instances(model, framework, slug);
CREATE TABLE model_versions(
    id INTEGER PRIMARY KEY AUTOINCREMENT, instance INTEGER NOT NULL, number INTEGER NOT NULL,
    notes TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE model_files(
    version INTEGER NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY(version, path)) WITHOUT ROWID;
CREATE TABLE faults(
    id INTEGER PRIMARY KEY AUTOINCREMENT, pattern TEXT NOT NULL, kind TEXT NOT NULL,
    args TEXT NOT NULL, skip INTEGER NOT NULL, times INTEGER NOT NULL);
"""


class State:
    """One state folder.

    Several `State` objects, in one process or in many, may stand on the same folder.
    """

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        """Open the folder, creating what is missing.

        Raises:
            StateError: If the folder holds a database of another schema, or is not writable.
        """
        self.folder = Path(folder).absolute()
        self.clock: Clock = clock or SystemClock()
        try:
            for name in ("blobs", "uploads", "runs", "mounts", "queue", "slots", "solutions"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            # It holds the folder's secret and keys; the journal beside it takes the same mode.
            (self.folder / "state.sqlite").touch(mode=0o600)
        except OSError as problem:
            raise StateError(f"cannot use {self.folder} as state folder: {problem}") from problem
        self._pool: list[sqlite3.Connection] = []
        self._pool_lock = threading.Lock()
        self._prepare()
        self.secret = str(self._setting_or_new("secret", lambda: secrets.token_hex(32)))
        self.identity = str(self._setting_or_new("identity", lambda: secrets.token_hex(16)))

    # -- connections ------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.folder / "state.sqlite", timeout=60, isolation_level=None, check_same_thread=False
        )
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        # NORMAL survives a killed process; only a power cut could lose the last commits.
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._pool_lock:
            db = self._pool.pop() if self._pool else None
        db = db or self._open()
        try:
            yield db
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            with self._pool_lock:
                spare = len(self._pool) < 8
                if spare:
                    self._pool.append(db)
            if not spare:
                db.close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give one consistent view of the database."""
        with self._connection() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give the database for changes; they happen together, or not at all on an exception."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    def close(self) -> None:
        """Close the pooled connections; the object can still be used afterwards."""
        with self._pool_lock:
            pool, self._pool = self._pool, []
        for db in pool:
            db.close()

    def _prepare(self) -> None:
        with self._connection() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == SCHEMA_VERSION:
                return
            db.execute("BEGIN IMMEDIATE")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    if statement.strip():
                        db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("COMMIT")
        if version not in (0, SCHEMA_VERSION):
            raise StateError(
                f"{self.folder} was made by another version (schema {version}, this one reads "
                f"{SCHEMA_VERSION}). Use another state folder, or remove this one."
            )

    # -- settings ---------------------------------------------------------------------------

    def setting(self, key: str) -> Any:
        """Read a stored value, None when it is absent."""
        with self.read() as db:
            row = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def put_setting(self, key: str, value: Any) -> None:
        """Store a value that JSON can hold."""
        with self.write() as db:
            db.execute("REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value)))

    def _setting_or_new(self, key: str, make: Any) -> Any:
        value = self.setting(key)
        if value is None:
            with self.write() as db:
                db.execute(
                    "INSERT OR IGNORE INTO settings VALUES (?, ?)", (key, json.dumps(make()))
                )
            value = self.setting(key)
        return value

    @property
    def options(self) -> Options:
        """The current settings, read afresh: another process may have changed them."""
        return Options.from_json(self.setting("options") or {})

    def configure(self, **changes: Any) -> Options:
        """Change settings by name and give the result.

        Raises:
            TypeError: For a name that `Options` does not have.
        """
        with self.write() as db:
            row = db.execute("SELECT value FROM settings WHERE key = 'options'").fetchone()
            options = replace(Options.from_json(json.loads(row["value"]) if row else {}), **changes)
            db.execute(
                "REPLACE INTO settings VALUES ('options', ?)", (json.dumps(options.to_json()),)
            )
        return options

    # -- accounts ---------------------------------------------------------------------------

    def key_for(self, env: Mapping[str, str]) -> str:
        """Give an API key whose pushes add these variables to the kernel's environment.

        The same variables give the same key. A key, and not a server option, so that it also works
        through a server that another process runs on this folder.
        """
        text = json.dumps(dict(env), sort_keys=True)
        key = hmac.new(self.secret.encode(), b"key:" + text.encode(), hashlib.sha256).hexdigest()
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (key[:32], text))
        return key[:32]

    def env_of_key(self, key: str) -> dict[str, str]:
        """Look up the variables of a key; an unknown key has none."""
        with self.read() as db:
            row = db.execute("SELECT env FROM keys WHERE key = ?", (key,)).fetchone()
        return {} if row is None else dict(json.loads(row["env"]))

    def knows_key(self, key: str) -> bool:
        """Tell whether this folder issued the key."""
        with self.read() as db:
            row = db.execute("SELECT 1 FROM keys WHERE key = ?", (key,)).fetchone()
        return row is not None

    def revoke(self, token: str) -> None:
        """Make a key or token invalid, to see how a client copes."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO revoked VALUES (?)", (token,))

    def is_revoked(self, token: str) -> bool:
        """Tell whether a key or token was revoked."""
        with self.read() as db:
            row = db.execute("SELECT 1 FROM revoked WHERE token = ?", (token,)).fetchone()
        return row is not None

    def sign(self, text: str) -> str:
        """Make the unguessable part of a file's address."""
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()[:40]

    # -- the administrator's side -----------------------------------------------------------

    def add_competition(
        self,
        spec: CompetitionSpec,
        folder: Path,
        solution: Path | None = None,
        hidden_test: Path | None = None,
    ) -> None:
        """Add a competition, or bring an existing one of that slug to this specification."""
        from harness.emulator import competitions

        competitions.add(self, spec, folder, solution, hidden_test)

    def competitions(self) -> list[CompetitionSpec]:
        """List the competitions, in the order they were added."""
        from harness.emulator import competitions

        return [entry.spec for entry in competitions.all_entries(self)]

    def submissions(self, slug: str) -> list[dict[str, Any]]:
        """List a competition's submissions with both scores, newest first."""
        from harness.emulator import competitions

        return [dict(row) for row in competitions.submissions(self, slug, None)]

    def datasets(self) -> list[dict[str, Any]]:
        """List the datasets, oldest first."""
        with self.read() as db:
            return [dict(row) for row in db.execute("SELECT * FROM datasets ORDER BY id")]

    def sessions(self, active: bool = False) -> list[dict[str, Any]]:
        """List kernel sessions with their state and run folder, oldest first."""
        from harness.emulator import lifecycle

        return lifecycle.sessions(self, active=active)

    def cancel(self, session: int) -> None:
        """Ask a kernel session to stop; it is a no-op for a finished one."""
        from harness.emulator import lifecycle

        lifecycle.cancel(self, session)

    def wait(self, session: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a session has ended and give it as `sessions` does.

        Raises:
            TimeoutError: If it has not ended in time.
        """
        from harness.emulator import lifecycle

        return lifecycle.wait(self, session, timeout_s)

    def collect_garbage(self, min_age_s: float = 24 * 3600.0) -> Collected:
        """Give back the disk of what was deleted or never used, and say how much that was."""
        from harness.emulator import garbage

        return garbage.collect(self, min_age_s)

    def run_folder(self, session: int) -> Path:
        """Where a session's files are."""
        return self.folder / "runs" / f"{session:08d}"


def replace_file(path: Path, text: str) -> None:
    """Write a small file so that readers see the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
