"""The ledger: runs, datasets, outputs, dry runs, blends and submissions in one SQLite file.

Every change is one transaction. A remote write is preceded by its intent and followed by its
confirmation, so that a killed command leaves a question that the next one can ask the remote.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.records import (
    Handle,
    ImportedMember,
    PackedFile,
    QueuedSpec,
    Run,
    RunSpec,
    RunState,
    Submission,
    to_json,
)

SCHEMA_VERSION = 5

SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, remote TEXT NOT NULL, spec TEXT NOT NULL, competition TEXT NOT NULL,
    kernel TEXT NOT NULL, version INTEGER, digest TEXT NOT NULL, script_sha256 TEXT NOT NULL,
    commit_sha TEXT, dirty INTEGER NOT NULL, datasets TEXT NOT NULL, created_at TEXT NOT NULL,
    state TEXT NOT NULL, failure TEXT, pushed_at TEXT, pulled_at TEXT,
    score_mean_fold REAL, score_pooled REAL, seconds REAL,
    UNIQUE (remote, kernel, version)
);
CREATE TABLE outputs (
    run_id TEXT NOT NULL REFERENCES runs, path TEXT NOT NULL, size INTEGER NOT NULL,
    sha256 TEXT NOT NULL, is_local INTEGER NOT NULL, PRIMARY KEY (run_id, path)
);
CREATE TABLE datasets (
    remote TEXT NOT NULL, handle TEXT NOT NULL, digest TEXT NOT NULL, version INTEGER,
    created_at TEXT NOT NULL, confirmed_at TEXT, PRIMARY KEY (remote, handle, digest)
);
CREATE TABLE dry_runs (digest TEXT PRIMARY KEY, passed_at TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE blends (
    blend_id TEXT PRIMARY KEY, created_at TEXT NOT NULL, competition TEXT NOT NULL, record TEXT NOT NULL
);
CREATE TABLE submissions (
    submission_id TEXT PRIMARY KEY, remote TEXT NOT NULL, competition TEXT NOT NULL, csv TEXT NOT NULL,
    sha256 TEXT NOT NULL, message TEXT NOT NULL, nonce TEXT NOT NULL, created_at TEXT NOT NULL,
    ref INTEGER, status TEXT NOT NULL, public_score TEXT, private_score TEXT, error TEXT
);
"""

# What each version added. A new ledger is made from SCHEMA and then walks the same way as an old one.
MIGRATIONS = {
    2: """
ALTER TABLE submissions ADD COLUMN blend_id TEXT;
ALTER TABLE submissions ADD COLUMN cv_score REAL;
ALTER TABLE submissions ADD COLUMN cv_low REAL;
ALTER TABLE submissions ADD COLUMN cv_high REAL;
CREATE TABLE imports (
    name TEXT NOT NULL, competition TEXT NOT NULL, created_at TEXT NOT NULL,
    oof_source TEXT NOT NULL, test_source TEXT NOT NULL,
    oof_source_sha256 TEXT NOT NULL, test_source_sha256 TEXT NOT NULL,
    oof_sha256 TEXT NOT NULL, test_sha256 TEXT NOT NULL,
    folds_from TEXT, note TEXT NOT NULL, score_mean_fold REAL, score_pooled REAL,
    PRIMARY KEY (competition, name)
);
""",
    3: "ALTER TABLE runs ADD COLUMN unfinished TEXT",
    4: """
ALTER TABLE submissions ADD COLUMN kernel TEXT;
CREATE TABLE queue (
    remote TEXT NOT NULL, label TEXT NOT NULL, spec TEXT NOT NULL, force INTEGER NOT NULL,
    created_at TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (remote, label)
);
""",
    5: "ALTER TABLE runs ADD COLUMN failure_kind TEXT",
}


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Ledger:
    """One workspace's memory. Safe to open from several processes: SQLite serialises the writes.

    Rows are listed in the order of their writing: clocks jump.
    """

    def __init__(self, path: Path) -> None:
        """Open or create.

        Raises:
            ConfigError: The file was written by a newer harness, or is no ledger.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        # Autocommit mode: transactions are begun and ended explicitly below.
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            with self._transaction():
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                scripts = [SCHEMA] if version == 0 else []
                scripts += [MIGRATIONS[n] for n in range(max(version, 1) + 1, SCHEMA_VERSION + 1)]
                for statement in ";".join(scripts).split(";"):
                    self._db.execute(statement)
                if scripts:
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.OperationalError:
            self._db.close()
            raise  # a full or locked disk says nothing against the file
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ConfigError(
                f"{path} is no readable ledger: {error}.", "Restore it or move it away."
            ) from error
        if version > SCHEMA_VERSION:
            self._db.close()
            raise ConfigError(
                f"{path} was written by a newer harness (schema {version}; this one reads {SCHEMA_VERSION}).",
                "Update harness.",
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled back by itself
                self._db.execute("ROLLBACK")
            raise

    # ---- runs ------------------------------------------------------------------------------------

    def add_run(self, run: Run) -> Run:
        """Write a new run under a readable id (``ssl-cpu-3``) and return it with that id."""
        with self._transaction():
            label = run.spec.label()
            taken = {
                row[0]
                for row in self._db.execute(
                    "SELECT run_id FROM runs WHERE substr(run_id, 1, ?) = ?",
                    (len(label) + 1, f"{label}-"),
                )
            }
            number = 1
            while f"{label}-{number}" in taken:
                number += 1
            run = replace(run, run_id=f"{label}-{number}")
            self._db.execute(
                "INSERT INTO runs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    run.run_id,
                    run.remote,
                    json.dumps(to_json(run.spec)),
                    run.competition,
                    f"{run.kernel.owner}/{run.kernel.slug}",
                    run.kernel.version,
                    run.digest,
                    run.script_sha256,
                    run.commit,
                    int(run.dirty),
                    json.dumps(run.datasets),
                    run.created_at,
                    run.state.value,
                    run.failure,
                    run.pushed_at,
                    run.pulled_at,
                    run.score_mean_fold,
                    run.score_pooled,
                    run.seconds,
                    run.unfinished,
                    run.failure_kind,
                ),
            )
        return run

    def update_run(self, run_id: str, **changes: Any) -> Run:
        """Change columns of a run (``version``, ``state``, ``failure``, times, scores)."""
        assignments = ", ".join(f"{name} = ?" for name in changes)
        values = [item.value if isinstance(item, StrEnum) else item for item in changes.values()]
        with self._transaction():
            self._db.execute(f"UPDATE runs SET {assignments} WHERE run_id = ?", (*values, run_id))
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        """One run (ConfigError when the ledger has none of that id)."""
        row = self._db.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            known = [run.run_id for run in self.runs()]
            raise ConfigError(
                f"No run {run_id!r} in {self.path}.", f"Known: {', '.join(known) or 'none'}."
            )
        return _run(row)

    def runs(self, remote: str | None = None) -> list[Run]:
        """All runs, oldest first."""
        rows = self._db.execute("SELECT * FROM runs ORDER BY rowid").fetchall()
        return [run for run in map(_run, rows) if remote in (None, run.remote)]

    def open_runs(self, remote: str) -> list[Run]:
        """Runs whose state may still change."""
        return [run for run in self.runs(remote) if not run.state.is_final]

    def runs_with_digest(self, remote: str, digest: str) -> list[Run]:
        """Runs that pushed exactly this, newest last."""
        return [run for run in self.runs(remote) if run.digest == digest]

    def forget_run(self, run_id: str) -> None:
        """Take back the intent of a push that was refused before anything was made."""
        with self._transaction():
            self._db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))

    # ---- queue -----------------------------------------------------------------------------------

    def enqueue(self, item: QueuedSpec) -> None:
        """Write what is to be pushed later; a spec that waits already keeps its place, with the new reason."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO queue VALUES (?,?,?,?,?,?) ON CONFLICT (remote, label) DO UPDATE SET "
                "reason = excluded.reason, force = max(force, excluded.force)",
                (
                    item.remote,
                    item.spec.label(),
                    json.dumps(to_json(item.spec)),
                    int(item.force),
                    item.created_at,
                    item.reason,
                ),
            )

    def dequeue(self, remote: str, spec: RunSpec) -> bool:
        """Take a spec out of the queue; whether it was there."""
        with self._transaction():
            done = self._db.execute(
                "DELETE FROM queue WHERE remote = ? AND label = ?", (remote, spec.label())
            )
        return done.rowcount > 0

    def queue(self, remote: str) -> list[QueuedSpec]:
        """What waits to be pushed, oldest first."""
        rows = self._db.execute("SELECT * FROM queue WHERE remote = ? ORDER BY rowid", (remote,))
        return [
            QueuedSpec(
                row["remote"],
                RunSpec.from_json(json.loads(row["spec"])),
                bool(row["force"]),
                row["created_at"],
                row["reason"],
            )
            for row in rows
        ]

    def retire(self, remote: str) -> None:
        """Rename a remote whose past is gone: its versions and references begin again at 1.

        Runs, datasets and submissions stay, under a name that no command asks for.
        """
        name = f"{remote} until {utc_now()}"
        with self._transaction():
            for table in ("runs", "datasets", "submissions", "queue"):
                self._db.execute(f"UPDATE {table} SET remote = ? WHERE remote = ?", (name, remote))

    def retire_kernel(self, run: Run, version: int) -> None:
        """Make room for a run whose new version an earlier run has: the kernel was deleted and made anew.

        Runs of the old one stay, as ``retire`` keeps them.
        """
        with self._transaction():
            self._db.execute(
                "UPDATE runs SET remote = remote || ? WHERE run_id != ? AND version >= ? AND "
                "(remote, kernel) = (SELECT remote, kernel FROM runs WHERE run_id = ?)",
                (f" until {utc_now()}", run.run_id, version, run.run_id),
            )

    # ---- outputs ---------------------------------------------------------------------------------

    def record_outputs(self, run_id: str, files: list[PackedFile], local: set[str]) -> None:
        """Remember every file a run's manifest lists, and which of them are on this disk."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO outputs VALUES (?,?,?,?,?) ON CONFLICT (run_id, path) DO UPDATE SET "
                "size = excluded.size, sha256 = excluded.sha256, is_local = excluded.is_local",
                [
                    (run_id, file.path, file.size, file.sha256, int(file.path in local))
                    for file in files
                ],
            )

    def outputs(self, run_id: str) -> list[tuple[PackedFile, bool]]:
        """Files of a run with whether each is on this disk."""
        rows = self._db.execute("SELECT * FROM outputs WHERE run_id = ? ORDER BY path", (run_id,))
        return [
            (PackedFile(row["path"], row["size"], row["sha256"]), bool(row["is_local"]))
            for row in rows
        ]

    # ---- datasets --------------------------------------------------------------------------------

    def dataset_intent(self, remote: str, handle: str, digest: str) -> None:
        """Write that a version with this digest is about to be sent."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO datasets VALUES (?,?,?,NULL,?,NULL)",
                (remote, handle, digest, utc_now()),
            )

    def dataset_confirmed(self, remote: str, handle: str, digest: str, version: int) -> None:
        """Write which version of the dataset holds this digest."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO datasets VALUES (?,?,?,?,?,?) ON CONFLICT (remote, handle, digest) DO UPDATE "
                "SET version = excluded.version, confirmed_at = excluded.confirmed_at",
                (remote, handle, digest, version, utc_now(), utc_now()),
            )

    def dataset_version(self, remote: str, handle: str, digest: str) -> int | None:
        """The confirmed version that holds a digest, or None."""
        row = self._db.execute(
            "SELECT version FROM datasets WHERE remote = ? AND handle = ? AND digest = ?",
            (remote, handle, digest),
        ).fetchone()
        return row["version"] if row else None

    def dataset_history(self, remote: str, handle: str) -> list[tuple[str, int | None]]:
        """Digest and version (None: sent, not confirmed) of all that was published under a handle."""
        rows = self._db.execute(
            "SELECT digest, version FROM datasets WHERE remote = ? AND handle = ? ORDER BY rowid",
            (remote, handle),
        )
        return [(row["digest"], row["version"]) for row in rows]

    def dataset_handle(self, remote: str, slug: str) -> str | None:
        """The handle under which a slug was published last, or None: it names the owner."""
        row = self._db.execute(
            "SELECT handle FROM datasets WHERE remote = ? AND substr(handle, -?) = ? "
            "ORDER BY rowid DESC LIMIT 1",
            (remote, len(slug) + 1, f"/{slug}"),
        ).fetchone()
        return row["handle"] if row else None

    def datasets(self, remote: str) -> list[tuple[str, str, int | None]]:
        """Handle, digest and version (None: an intent) of everything published, oldest first."""
        rows = self._db.execute("SELECT * FROM datasets WHERE remote = ? ORDER BY rowid", (remote,))
        return [(row["handle"], row["digest"], row["version"]) for row in rows]

    # ---- dry runs --------------------------------------------------------------------------------

    def record_dry_run(self, digest: str, seconds: float) -> None:
        """Write that the bytes of this digest passed a local rehearsal."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO dry_runs VALUES (?,?,?)", (digest, utc_now(), seconds)
            )

    def dry_run_passed(self, digest: str) -> str | None:
        """When a digest last passed, or None."""
        row = self._db.execute(
            "SELECT passed_at FROM dry_runs WHERE digest = ?", (digest,)
        ).fetchone()
        return row["passed_at"] if row else None

    def has_dry_runs(self) -> bool:
        """True when any rehearsal has passed."""
        return self._db.execute("SELECT 1 FROM dry_runs LIMIT 1").fetchone() is not None

    def dry_run_seconds(self, digest: str) -> float | None:
        """How long the rehearsal of a digest took, or None."""
        row = self._db.execute(
            "SELECT seconds FROM dry_runs WHERE digest = ?", (digest,)
        ).fetchone()
        return float(row["seconds"]) if row else None

    # ---- blends and submissions ------------------------------------------------------------------

    def add_blend(self, blend_id: str, competition: str, record: dict[str, Any]) -> None:
        """Keep a blend's whole record."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO blends VALUES (?,?,?,?)",
                (blend_id, utc_now(), competition, json.dumps(record)),
            )

    def blend(self, blend_id: str) -> dict[str, Any] | None:
        """A blend's record by id, or None."""
        row = self._db.execute(
            "SELECT record FROM blends WHERE blend_id = ?", (blend_id,)
        ).fetchone()
        return json.loads(row["record"]) if row else None

    def blends(self, competition: str) -> list[tuple[str, dict[str, Any]]]:
        """Ids and records of a competition's blends, oldest first."""
        rows = self._db.execute(
            "SELECT blend_id, record FROM blends WHERE competition = ? ORDER BY rowid",
            (competition,),
        )
        return [(row["blend_id"], json.loads(row["record"])) for row in rows]

    # ---- imported members ------------------------------------------------------------------------

    def add_import(self, item: ImportedMember) -> None:
        """Write an imported member; one of the same name in the same competition is replaced."""
        columns = to_json(item)
        marks = ",".join("?" * len(columns))
        with self._transaction():
            self._db.execute(
                f"INSERT OR REPLACE INTO imports ({','.join(columns)}) VALUES ({marks})",
                tuple(columns.values()),
            )

    def imports(self, competition: str | None = None) -> list[ImportedMember]:
        """Imported members, oldest first."""
        rows = self._db.execute("SELECT * FROM imports ORDER BY rowid").fetchall()
        found = [ImportedMember(**{key: row[key] for key in row.keys()}) for row in rows]  # noqa: SIM118
        return [item for item in found if competition in (None, item.competition)]

    def add_submission(self, submission: Submission) -> None:
        """Write a submission's intent."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO submissions VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    submission.submission_id,
                    submission.remote,
                    submission.competition,
                    str(submission.csv),
                    submission.sha256,
                    submission.message,
                    submission.nonce,
                    submission.created_at,
                    submission.ref,
                    submission.status,
                    submission.public_score,
                    submission.private_score,
                    submission.error,
                    submission.blend_id,
                    submission.cv_score,
                    submission.cv_low,
                    submission.cv_high,
                    submission.kernel,
                ),
            )

    def update_submission(self, submission_id: str, **changes: Any) -> Submission:
        """Change columns of a submission (``ref``, ``status``, scores, ``error``)."""
        assignments = ", ".join(f"{name} = ?" for name in changes)
        with self._transaction():
            self._db.execute(
                f"UPDATE submissions SET {assignments} WHERE submission_id = ?",
                (*changes.values(), submission_id),
            )
        row = self._db.execute(
            "SELECT * FROM submissions WHERE submission_id = ?", (submission_id,)
        ).fetchone()
        return _submission(row)

    def submissions(
        self, remote: str | None = None, competition: str | None = None
    ) -> list[Submission]:
        """Submissions, oldest first."""
        rows = self._db.execute("SELECT * FROM submissions ORDER BY rowid").fetchall()
        return [
            item
            for item in map(_submission, rows)
            if remote in (None, item.remote) and competition in (None, item.competition)
        ]


def _run(row: sqlite3.Row) -> Run:
    owner, slug = row["kernel"].split("/")
    return Run(
        run_id=row["run_id"],
        remote=row["remote"],
        spec=RunSpec.from_json(json.loads(row["spec"])),
        competition=row["competition"],
        kernel=Handle(owner, slug, row["version"]),
        digest=row["digest"],
        script_sha256=row["script_sha256"],
        commit=row["commit_sha"],
        dirty=bool(row["dirty"]),
        datasets=json.loads(row["datasets"]),
        created_at=row["created_at"],
        state=RunState(row["state"]),
        failure=row["failure"],
        pushed_at=row["pushed_at"],
        pulled_at=row["pulled_at"],
        score_mean_fold=row["score_mean_fold"],
        score_pooled=row["score_pooled"],
        seconds=row["seconds"],
        unfinished=row["unfinished"],
        failure_kind=row["failure_kind"],
    )


def _submission(row: sqlite3.Row) -> Submission:
    return Submission(
        **{**{key: row[key] for key in row.keys()}, "csv": Path(row["csv"])}  # noqa: SIM118 (sqlite3.Row)
    )
