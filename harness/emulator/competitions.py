"""Competitions: their data, submissions, limits and leaderboard.

A competition's data folder is used where it is; only the solution is copied away, because a
solution inside the data would be mounted into every kernel.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.emulator import blobs, grader, lifecycle, reruns
from harness.emulator.clock import as_datetime, is_due, parse_iso, utc_day
from harness.emulator.datasets import use_tokens
from harness.emulator.errors import ApiError, StateError, bad_request, not_found
from harness.emulator.state import State

KINDS = ("csv", "code")
_HIDDEN = "hidden_test"  # the key beside the specification's own in the stored JSON
NOT_SCORED = "not scored: no solution file was given to the local Kaggle"


@dataclass(frozen=True)
class CompetitionSpec:
    """What a competition is.

    Attributes:
        slug: Its name in addresses.
        title: Its name for people.
        id_column: The column of a submission that identifies a row.
        target_columns: The columns that are scored.
        metric: One of `grader.METRICS`.
        kind: `csv` takes files, `code` takes the output of a kernel.
        public_fraction: Share of the rows behind the public score, in (0, 1].
        max_daily_submissions: Per team and UTC day.
        deadline: ISO date in UTC after which nothing is accepted and private scores show; None
            means never.
        description: A sentence for the lists.
        reward: What is won.
        category: The service's word for the kind of competition.
        seed: Decides which rows are public; the slug when empty.
    """

    slug: str
    title: str
    id_column: str
    target_columns: tuple[str, ...]
    metric: str = "auc"
    kind: str = "csv"
    public_fraction: float = 0.3
    max_daily_submissions: int = 5
    deadline: str | None = None
    description: str = ""
    reward: str = "Knowledge"
    category: str = "Playground"
    seed: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be a competition, naming the field."""
        if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", self.slug):
            raise ValueError(f"slug {self.slug!r}: use lower case letters, digits and hyphens")
        if not isinstance(self.target_columns, tuple) or not self.target_columns:
            raise ValueError("target_columns must be a tuple of at least one column name")
        if self.id_column in self.target_columns:
            raise ValueError(f"id_column {self.id_column!r} is also a target column")
        if self.metric not in grader.METRICS:
            raise ValueError(f"metric {self.metric!r}: use one of {', '.join(grader.METRICS)}")
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r}: use csv or code")
        if not 0 < self.public_fraction <= 1:
            raise ValueError(f"public_fraction {self.public_fraction}: must be in (0, 1]")
        if self.max_daily_submissions < 1:
            raise ValueError("max_daily_submissions must be at least 1")
        if self.deadline is not None:
            parse_iso(self.deadline)


@dataclass(frozen=True)
class Entry:
    """A competition as it is stored."""

    id: int
    spec: CompetitionSpec
    folder: Path
    solution: Path | None
    created: float
    hidden: Path | None = None

    def closed(self, now: float) -> bool:
        """Tell whether the deadline has passed."""
        return self.spec.deadline is not None and now >= parse_iso(self.spec.deadline)


@dataclass(frozen=True)
class DataFile:
    """One file of a competition's data."""

    name: str
    path: Path
    size: int
    modified: float
    mtime_ns: int


def _entry(state: State, row: Mapping[str, Any]) -> Entry:
    known = {item.name for item in fields(CompetitionSpec)}
    everything = json.loads(row["spec"])
    stored = {key: value for key, value in everything.items() if key in known}
    hidden = everything.get(_HIDDEN)
    stored["target_columns"] = tuple(stored["target_columns"])
    solution = state.folder / "solutions" / row["solution"] if row["solution"] else None
    return Entry(
        row["id"],
        CompetitionSpec(**stored),
        Path(row["folder"]),
        solution,
        row["created"],
        Path(hidden) if hidden else None,
    )


def add(
    state: State,
    spec: CompetitionSpec,
    folder: Path,
    solution: Path | None,
    hidden: Path | None = None,
) -> None:
    """Add a competition or bring it up to date; an identical one is left alone.

    Args:
        state: The state folder.
        spec: What the competition is.
        folder: Its data, as everybody sees them.
        solution: The private answers; those of the hidden test, when there is one.
        hidden: For code competitions: a folder whose top-level entries replace those of the data
            when a submitted kernel is run again.

    Raises:
        StateError: If the folder is missing, or the solution is missing, unusable or inside it.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise StateError(f"the data folder {folder} does not exist")
    name = "" if solution is None else _solution_name(Path(solution), folder)
    stored = json.dumps(asdict(spec), sort_keys=True)
    if hidden is not None:
        if spec.kind != "code":
            raise StateError(f"{spec.slug} takes files: only a code competition has a hidden test")
        hidden = reruns.check(hidden, folder, solution)
        stored = json.dumps({**json.loads(stored), _HIDDEN: str(hidden)}, sort_keys=True)
    with state.read() as db:
        row = db.execute("SELECT * FROM competitions WHERE slug = ?", (spec.slug,)).fetchone()
    same = (stored, str(folder), name)
    if row is not None and (row["spec"], row["folder"], row["solution"]) == same:
        return  # before anything is scored: programs add the same competition at every start
    if solution is not None:
        _keep_solution(state, spec, Path(solution), name)
    with state.write() as db:
        row = db.execute("SELECT * FROM competitions WHERE slug = ?", (spec.slug,)).fetchone()
        if row is None:
            db.execute(
                "INSERT INTO competitions(slug, spec, folder, solution, created) VALUES (?,?,?,?,?)",
                (spec.slug, stored, str(folder), name, state.clock.now()),
            )
        else:
            db.execute(
                "UPDATE competitions SET spec = ?, folder = ?, solution = ? WHERE slug = ?",
                (stored, str(folder), name, spec.slug),
            )


def _solution_name(solution: Path, folder: Path) -> str:
    """Name a solution by its content, refusing one that kernels would see."""
    if not solution.is_file():
        raise StateError(f"the solution {solution} does not exist")
    if solution.resolve().is_relative_to(folder.resolve()):
        raise StateError(
            f"the solution {solution} lies inside the data folder {folder}, where every kernel "
            "would see it. Move it elsewhere."
        )
    return f"{hashlib.sha256(solution.read_bytes()).hexdigest()[:32]}.csv"


def _keep_solution(state: State, spec: CompetitionSpec, solution: Path, name: str) -> None:
    """Check a solution and copy it into the state folder."""
    draft = state.folder / "solutions" / f".draft-{os.getpid()}-{spec.slug}"
    shutil.copyfile(solution, draft)
    draft.chmod(0o600)
    try:
        grader.check_solution(
            draft,
            spec.id_column,
            spec.target_columns,
            spec.metric,
            spec.seed or spec.slug,
            spec.public_fraction,
        )
    except grader.InvalidSolution as problem:
        draft.unlink()
        raise StateError(f"{solution} cannot be used as solution: {problem}") from problem
    draft.replace(state.folder / "solutions" / name)


def all_entries(state: State) -> list[Entry]:
    """List the competitions, in the order they were added."""
    with state.read() as db:
        rows = db.execute("SELECT * FROM competitions ORDER BY id").fetchall()
    return [_entry(state, row) for row in rows]


def find(state: State, slug: str) -> Entry:
    """Look up a competition.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute("SELECT * FROM competitions WHERE slug = ?", (slug.lower(),)).fetchone()
    if row is None:
        raise not_found("Competition not found")
    return _entry(state, row)


# -- data -----------------------------------------------------------------------------------


def data_files(entry: Entry) -> list[DataFile]:
    """List the data files by name; links that leave the folder are not followed."""
    found = []
    for root, folders, names in os.walk(entry.folder):
        folders.sort()
        for name in names:
            path = Path(root, name)
            try:
                facts = path.stat()
                label = path.relative_to(entry.folder).as_posix()
                label.encode()
            except (OSError, UnicodeEncodeError):
                continue
            if stat.S_ISREG(facts.st_mode) and _inside(entry.folder, path):
                found.append(
                    DataFile(label, path, facts.st_size, facts.st_mtime, facts.st_mtime_ns)
                )
    return sorted(found, key=lambda item: item.name)


def _inside(folder: Path, path: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(folder.resolve())


def data_file(entry: Entry, name: str) -> DataFile:
    """Give one data file by name.

    Raises:
        ApiError: With status 404; for paths that lead elsewhere too.
    """
    bare = Path(name)
    if not name or "\x00" in name or bare.is_absolute() or ".." in bare.parts:
        raise not_found("File not found")
    path = entry.folder / bare
    try:
        facts = path.stat()
    except (OSError, ValueError) as problem:
        raise not_found("File not found") from problem
    inside = path.resolve().is_relative_to(entry.folder.resolve())
    if not (stat.S_ISREG(facts.st_mode) and inside):
        raise not_found("File not found")
    return DataFile(bare.as_posix(), path, facts.st_size, facts.st_mtime, facts.st_mtime_ns)


# -- submissions ----------------------------------------------------------------------------


def used_today(state: State, entry: Entry, user: str) -> tuple[int, int]:
    """Count a team's submissions, today (UTC) and ever; failed ones are free."""
    today = utc_day(state.clock.now())
    with state.read() as db:
        rows = db.execute(
            "SELECT created FROM submissions WHERE competition = ? AND owner = ? AND error = ''",
            (entry.id, user),
        ).fetchall()
    return sum(utc_day(row["created"]) == today for row in rows), len(rows)


def check_open(state: State, entry: Entry, user: str) -> None:
    """Refuse a submission that comes too late or too often.

    Raises:
        ApiError: With status 400.
    """
    if entry.closed(state.clock.now()):
        raise bad_request("The competition is closed: its deadline has passed")
    today, _ = used_today(state, entry, user)
    if today >= entry.spec.max_daily_submissions:
        raise bad_request(
            f"You have used all {entry.spec.max_daily_submissions} submissions of today (UTC)"
        )


def submit_upload(state: State, entry: Entry, user: str, token: str, description: str) -> int:
    """Submit an uploaded file and give the submission's number.

    Raises:
        ApiError: With status 400 for a bad token, a code competition, or a limit.
    """
    if entry.spec.kind == "code":
        raise bad_request("This competition only accepts Submissions from Notebooks")
    check_open(state, entry, user)
    try:
        upload = blobs.find(state, token)
    except ApiError as problem:
        raise bad_request("Invalid upload token") from problem
    if upload.kind != f"SUBMISSION:{entry.spec.slug}" or upload.owner != user or upload.used:
        raise bad_request("Invalid upload token")
    if upload.sha256 is None:
        raise bad_request(f"The upload of {upload.name} is not complete")
    with state.write() as db:
        use_tokens(db, [token])
        ref = _insert(state, db, entry, user, upload.name, upload.sha256, upload.size, description)
    grade(state, entry, ref)
    return ref


def submit_output(
    state: State,
    entry: Entry,
    user: str,
    path: Path,
    file_name: str,
    kernel: str,
    description: str,
    version: int = 0,
) -> int:
    """Submit a file that a kernel version wrote and give the submission's number.

    With a hidden test the session `version` runs again first, and it is that output that counts.

    Raises:
        ApiError: With status 400 for a limit.
    """
    check_open(state, entry, user)
    if entry.hidden is not None:
        with state.write() as db:
            ref = _insert(state, db, entry, user, file_name, "", 0, description, kernel)
            lock = reruns.prepare(state, ref, version, entry.spec.slug, entry.folder, entry.hidden)
        lifecycle.launch(reruns.folder(state, ref), lock)
        return ref
    with path.open("rb") as stream:
        blob = blobs.store_stream(state, stream)
    with state.write() as db:
        ref = _insert(
            state, db, entry, user, file_name, blob.sha256, blob.size, description, kernel
        )
    grade(state, entry, ref)
    return ref


def _insert(
    state: State,
    db: Any,
    entry: Entry,
    user: str,
    name: str,
    sha256: str,
    size: int,
    description: str,
    kernel: str = "",
) -> int:
    options, now = state.options, state.clock.now()
    return int(
        db.execute(
            "INSERT INTO submissions(competition, owner, file_name, description, sha256, size,"
            " created, polls, ready_at, kernel) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                entry.id,
                user,
                name,
                description,
                sha256,
                size,
                now,
                options.submission_polls,
                now + options.submission_delay_s,
                kernel,
            ),
        ).lastrowid
    )


def grade(state: State, entry: Entry, ref: int) -> None:
    """Score a submission and store the result; done again if a server died in the middle."""
    with state.read() as db:
        row = dict(db.execute("SELECT * FROM submissions WHERE ref = ?", (ref,)).fetchone())
    public = private = None
    error = ""
    if not row["sha256"]:
        ended = reruns.outcome(state, ref, row["file_name"])
        if ended is None:
            return
        path, error = ended
        if path is not None:
            with path.open("rb") as stream:
                blob = blobs.store_stream(state, stream)
            row |= {"sha256": blob.sha256, "size": blob.size}
    if entry.solution is not None and not error:
        spec = entry.spec
        try:
            scores = grader.score(
                blobs.path_of(state, row["sha256"]),
                entry.solution,
                spec.id_column,
                spec.target_columns,
                spec.metric,
                spec.seed or spec.slug,
                spec.public_fraction,
            )
            public, private = scores.public, scores.private
        except grader.InvalidSubmission as problem:
            error = str(problem)
    with state.write() as db:
        db.execute(
            "UPDATE submissions SET graded = 1, error = ?, public = ?, private = ?, sha256 = ?,"
            " size = ? WHERE ref = ?",
            (error, public, private, row["sha256"], row["size"], ref),
        )


def submissions(state: State, slug: str, user: str | None) -> list[dict[str, Any]]:
    """List submissions, newest first, each with its `status`; `user` None means everybody's.

    Raises:
        ApiError: With status 404 for an unknown competition.
    """
    entry = find(state, slug)
    query = (
        "SELECT * FROM submissions WHERE competition = ? AND (? IS NULL OR owner = ?)"
        " ORDER BY ref DESC"
    )
    values = (entry.id, user, user)
    with state.read() as db:
        rows = db.execute(query, values).fetchall()
    waiting = [row["ref"] for row in rows if not row["graded"]]
    if waiting:
        for ref in waiting:
            grade(state, entry, ref)
        with state.read() as db:
            rows = db.execute(query, values).fetchall()
    return [{**dict(row), "status": _status(state, row)} for row in rows]


def _status(state: State, row: Mapping[str, Any]) -> str:
    due = is_due(state.clock.now(), row["created"], row["ready_at"])
    if not row["graded"] or row["polls"] > 0 or not due:
        return "PENDING"
    return "ERROR" if row["error"] else "COMPLETE"


def count_poll(state: State, rows: list[dict[str, Any]]) -> None:
    """Count one look at each pending submission."""
    waiting = [(row["ref"],) for row in rows if row["polls"] > 0]
    if waiting:
        with state.write() as db:
            db.executemany(
                "UPDATE submissions SET polls = polls - 1 WHERE ref = ? AND polls > 0", waiting
            )


def submission(state: State, ref: int, user: str) -> tuple[Entry, dict[str, Any]]:
    """Give one of the user's submissions and its competition.

    Raises:
        ApiError: With status 404.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT c.slug, s.owner FROM submissions s JOIN competitions c ON c.id = s.competition"
            " WHERE s.ref = ?",
            (ref,),
        ).fetchone()
    if row is None or row["owner"] != user:
        raise not_found("Submission not found")
    rows = submissions(state, row["slug"], user)
    return find(state, row["slug"]), next(item for item in rows if item["ref"] == ref)


# -- the leaderboard ------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """One line of a leaderboard."""

    team_id: int
    team: str
    date: float
    score: float


def leaderboard(state: State, entry: Entry, private: bool) -> list[Standing]:
    """Rank the teams by their best score, earlier first among equals."""
    column = "private" if private else "public"
    sign = -1 if grader.greater_is_better(entry.spec.metric) else 1
    best: dict[str, dict[str, Any]] = {}
    for row in reversed(submissions(state, entry.spec.slug, None)):
        if row["status"] != "COMPLETE" or row[column] is None:
            continue
        held = best.get(row["owner"])
        if held is None or sign * row[column] < sign * held[column]:
            best[row["owner"]] = row
    ranked = sorted(best.values(), key=lambda row: (sign * row[column], row["created"]))
    return [
        Standing(_team_id(row["owner"]), row["owner"], row["created"], row[column])
        for row in ranked
    ]


def _team_id(owner: str) -> int:
    return (zlib.crc32(owner.encode()) & 0x7FFFFFFF) + 1


def leaderboard_zip(entry: Entry, standings: list[Standing], now: float) -> bytes:
    """Pack a leaderboard as the CSV in a zip that the service gives."""
    lines = ["Rank,TeamId,TeamName,LastSubmissionDate,Score"]
    for rank, line in enumerate(standings, start=1):
        date = as_datetime(line.date).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(f"{rank},{line.team_id},{line.team},{date},{format_score(line.score)}")
    stamp = as_datetime(now).strftime("%Y-%m-%dT%H:%M:%S")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            f"{entry.spec.slug}-publicleaderboard-{stamp}.csv", "\n".join(lines) + "\n"
        )
    return buffer.getvalue()


def format_score(score: float | None) -> str:
    """Write a score as the service does, with five decimals; empty when there is none."""
    return "" if score is None else f"{score:.5f}"


def check_kernel_for_submission(entry: Entry, row: Mapping[str, Any], request: Any) -> None:
    """Refuse a kernel version that a code competition would not take.

    Raises:
        ApiError: With status 400.
    """
    if row["status"] != "COMPLETE":
        raise bad_request("The notebook version is not complete")
    if entry.spec.kind == "code" and request["internet"]:
        raise bad_request("Your Notebook cannot use internet access in this competition")
    if entry.spec.slug not in [name.rpartition("/")[2] for name in request["competitions"]]:
        raise bad_request("The notebook does not use this competition's data")
