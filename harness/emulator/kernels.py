"""Kernels: pushing versions, resolving what they mount, queueing their runs.

Sources are pinned at the push: a dataset version that becomes ready later is not seen by a kernel
that is already queued, as on the service.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.emulator import (
    competitions,
    datasets,
    garbage,
    lifecycle,
    models,
    notebooks,
    runner,
)
from harness.emulator.clock import as_datetime
from harness.emulator.errors import ApiError, bad_request, forbidden, not_found
from harness.emulator.options import Options
from harness.emulator.state import State, replace_file

KINDS = ("script", "notebook")
LANGUAGES = ("python", "r", "rmarkdown")
WEEK_S = 7 * 24 * 3600
# Weeks are counted from a Saturday, 1970-01-03T00:00:00Z.
_FIRST_REFRESH_S = 2 * 24 * 3600

_PREFIXES = ("datasets/", "code/", "kernels/", "competitions/", "models/")


class Rejected(Exception):
    """The push is answered with 200 and an error in the body; no version is made."""


@dataclass(frozen=True)
class Push:
    """What one push asks for, in plain values."""

    owner: str
    slug: str
    title: str
    text: str
    language: str = "python"
    kind: str = "script"
    datasets: tuple[str, ...] = ()
    competitions: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    private: bool = True
    gpu: bool = False
    tpu: bool = False
    internet: bool = True
    machine: str = ""
    docker_image: str = ""
    timeout_s: int = 0
    execution: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A folder below `/kaggle/input`, and where its files really are."""

    target: str
    source: str


@dataclass
class Resolved:
    """The mounts of a push, and the sources that do not exist."""

    mounts: list[Mount] = field(default_factory=list)
    bad_datasets: list[str] = field(default_factory=list)
    bad_competitions: list[str] = field(default_factory=list)
    bad_kernels: list[str] = field(default_factory=list)
    bad_models: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    """An accepted push."""

    kernel: int
    owner: str
    slug: str
    number: int
    session: int
    sources: Resolved


def slugify(title: str) -> str:
    """Make the slug that the service derives from a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def find(state: State, owner: str, slug: str, user: str) -> dict[str, Any]:
    """Look up a kernel that the user may see.

    Raises:
        ApiError: With status 404 for none, 403 for somebody else's private one.
    """
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM kernels WHERE owner = ? AND slug = ?", (owner.lower(), slug.lower())
        ).fetchone()
    if row is None:
        raise not_found("Notebook not found")
    found = dict(row)
    if found["owner"] != user and request_of(newest(state, found["id"]))["private"]:
        raise forbidden("Permission 'kernels.get' was denied")
    return found


def newest(state: State, kernel: int) -> dict[str, Any]:
    """Give the latest version's row as it was stored."""
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM kernel_versions WHERE kernel = ? ORDER BY number DESC LIMIT 1", (kernel,)
        ).fetchone()
    return dict(row)


def version(
    state: State, kernel: int, label: str | int | None, poll: bool = False
) -> dict[str, Any]:
    """Give a version's row, brought up to date.

    Args:
        state: The state folder.
        kernel: The kernel's row.
        label: `v3`, the number 3, or nothing for the latest; the text `3` is refused, as it is by
            the service.
        poll: Whether this counts as a look at the status.

    Raises:
        ApiError: With status 404 if there is no such version.
    """
    if isinstance(label, str) and label:
        match = re.fullmatch(r"v([1-9][0-9]{0,8})", label)
        if match is None:
            raise not_found("Notebook version not found")
        label = int(match[1])
    if not label:
        return lifecycle.observe(state, newest(state, kernel), poll)
    with state.read() as db:
        row = db.execute(
            "SELECT * FROM kernel_versions WHERE kernel = ? AND number = ?", (kernel, label)
        ).fetchone()
    if row is None:
        raise not_found("Notebook version not found")
    return lifecycle.observe(state, dict(row), poll)


def request_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a version's push asked for."""
    request: dict[str, Any] = json.loads(row["request"])
    return request


# -- pushing --------------------------------------------------------------------------------


def save(state: State, user: str, push: Push, env: Mapping[str, str], number: int = 0) -> Saved:
    """Store a version and queue its run.

    Args:
        state: The state folder.
        user: Who pushes.
        push: What is pushed.
        env: Extra environment variables of this push.
        number: The kernel's id, when the push names one; it wins over the slug.

    Raises:
        ApiError: For requests the service refuses.
        Rejected: For what it explains inside a 200: a title in use, too many sessions.
    """
    options = state.options
    _check(push, options)
    kernel = _existing(state, user, push, number)
    machine = options.substitutions.get(push.machine, push.machine)
    accelerator = _accelerator(push, machine)
    runs = push.execution not in ("QUICK_SAVE", "INTER_ACTIVE")
    if runs:
        _check_quota(state, user, options, accelerator)
    sources = resolve(state, user, push, options.mount_layout)
    stored = json.dumps({**asdict(push), "text": "", "machine": machine})
    now = state.clock.now()
    with state.write() as db:
        if runs:
            _check_sessions(db, user, options, accelerator)
        if kernel is None:
            slug = slugify(push.title)
            _check_free(db, user, slug, push.title)
            kernel_id = db.execute(
                "INSERT INTO kernels(owner, slug, title, language, kind, created)"
                " VALUES (?,?,?,?,?,?)",
                (user, slug, push.title, push.language, push.kind, now),
            ).lastrowid
        else:
            slug, kernel_id = kernel["slug"], kernel["id"]
            db.execute(
                "UPDATE kernels SET title = ? WHERE id = ?",
                (push.title or kernel["title"], kernel_id),
            )
        last = db.execute(
            "SELECT coalesce(max(number), 0) FROM kernel_versions WHERE kernel = ?", (kernel_id,)
        ).fetchone()[0]
        session = db.execute(
            "INSERT INTO kernel_versions(kernel, number, created, request, source, accelerator,"
            " status, final, polls) VALUES (?,?,?,?,?,?,?,?,?)",
            (
                kernel_id,
                last + 1,
                now,
                stored,
                push.text,
                accelerator,
                "QUEUED" if runs else "NEW_SCRIPT",
                int(not runs),
                options.kernel_polls,
            ),
        ).lastrowid
        assert session is not None
        assert kernel_id is not None
        if runs:
            job = _job(push, machine, sources.mounts, options, env)
            run, lock = _prepare_run(state, session, push, job, options.kernel_polls < 0)
    if runs and options.kernel_polls < 0:
        lifecycle.launch(run, lock)
    if runs and options.push_cancels and kernel is not None:
        _cancel_earlier(state, kernel_id, session)
    return Saved(kernel_id, user, slug, last + 1, session, sources)


def _check(push: Push, options: Options) -> None:
    if len(push.text.encode()) > options.source_limit_bytes:
        raise bad_request(
            f"The source is larger than the limit of {options.source_limit_bytes} bytes"
        )
    if push.kind not in KINDS:
        raise bad_request(f"Invalid kernel type: {push.kind!r}")
    if push.language not in LANGUAGES:
        raise bad_request(f"Invalid language: {push.language!r}")
    if push.title and not 5 <= len(push.title) <= 50:
        raise bad_request("The title must be between 5 and 50 characters")
    if not 0 <= push.timeout_s <= options.session_limit_s:
        raise bad_request(f"sessionTimeoutSeconds must be at most {options.session_limit_s}")
    if push.kind == "notebook":
        notebooks.check(push.text)


def _existing(state: State, user: str, push: Push, number: int) -> dict[str, Any] | None:
    with state.read() as db:
        if number:
            row = db.execute("SELECT * FROM kernels WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise not_found("Notebook not found")
        else:
            row = db.execute(
                "SELECT * FROM kernels WHERE owner = ? AND slug = ?", (push.owner, push.slug)
            ).fetchone()
    if (push.owner if row is None else row["owner"]) != user:
        raise forbidden("Permission 'kernels.update' was denied")
    if row is not None and row["kind"] != push.kind:
        raise bad_request("The kernel type cannot be changed")
    if row is None and (not push.title or len(slugify(push.title)) < 5):
        raise bad_request("A new notebook needs a title of at least 5 characters")
    return None if row is None else dict(row)


def _check_free(db: Any, user: str, slug: str, title: str) -> None:
    if db.execute("SELECT 1 FROM kernels WHERE owner = ? AND slug = ?", (user, slug)).fetchone():
        raise Rejected(
            f'The requested title "{title}" is already in use by a kernel. '
            "Please choose another title."
        )
    if db.execute("SELECT 1 FROM datasets WHERE owner = ? AND slug = ?", (user, slug)).fetchone():
        raise bad_request(f"The slug {slug} is already in use by a dataset")


def _accelerator(push: Push, machine: str) -> str:
    if machine.lower().startswith("tpu") or (not machine and push.tpu):
        return "TPU"
    return "GPU" if push.gpu or machine else "CPU"


def _check_sessions(db: Any, user: str, options: Options, accelerator: str) -> None:
    """Refuse a session beyond the concurrent limit; inside the transaction, so no two slip by."""
    limits = {
        "GPU": options.gpu_sessions,
        "CPU": options.cpu_sessions,
        "TPU": options.tpu_sessions,
    }
    active = db.execute(
        "SELECT count(*) FROM kernel_versions v JOIN kernels k ON k.id = v.kernel"
        " WHERE v.final = 0 AND v.accelerator = ? AND k.owner = ?",
        (accelerator, user),
    ).fetchone()[0]
    limit = limits[accelerator]
    if active >= limit:
        raise Rejected(f"Maximum batch {accelerator} session count of {limit} reached.")


def _check_quota(state: State, user: str, options: Options, accelerator: str) -> None:
    """Refuse a session beyond the weekly quota, and close the books of ended sessions on the way."""
    lifecycle.sessions(state, active=True)
    if accelerator != "CPU":
        allowed = options.gpu_quota_s if accelerator == "GPU" else options.tpu_quota_s
        if used_this_week(state, user, accelerator) >= allowed:
            raise Rejected(
                f"Maximum weekly {accelerator} quota of {allowed / 3600:.2f} hours reached."
            )


def used_this_week(state: State, user: str, accelerator: str) -> float:
    """Add up the seconds of this week's sessions, running ones included."""
    now = state.clock.now()
    start = next_refresh(now) - WEEK_S
    lifecycle.sessions(state, active=True)
    with state.read() as db:
        rows = db.execute(
            "SELECT v.final, v.seconds, v.created FROM kernel_versions v"
            " JOIN kernels k ON k.id = v.kernel"
            " WHERE k.owner = ? AND v.accelerator = ? AND v.created >= ?",
            (user, accelerator, start),
        ).fetchall()
    return float(
        sum(row["seconds"] if row["final"] else max(0.0, now - row["created"]) for row in rows)
    )


def next_refresh(now: float) -> float:
    """When the weekly quota starts again: Saturday, 00:00 UTC."""
    weeks = (now - _FIRST_REFRESH_S) // WEEK_S
    return _FIRST_REFRESH_S + (weeks + 1) * WEEK_S


def _cancel_earlier(state: State, kernel: int, session: int) -> None:
    for row in lifecycle.sessions(state, active=True):
        if row["kernel"] == kernel and row["id"] < session:
            lifecycle.cancel(state, row["id"])


# -- the run folder -------------------------------------------------------------------------


def _job(
    push: Push,
    machine: str,
    mounts: Sequence[Mount],
    options: Options,
    env: Mapping[str, str],
) -> dict[str, Any]:
    notes = []
    if machine and not any(Path("/dev").glob("nvidia[0-9]*")):
        notes.append(f"{machine} was asked for, but no GPU is here: running on the CPU")
    if push.kind == "notebook":
        notes.append("the notebook's code cells run as one script")
    refusal = ""
    if push.language != "python":
        refusal = f"The local Kaggle runs python only, not {push.language}."
    return {
        "script": "script.py",
        "python": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "internet": push.internet,
        "env": {**options.extra_env, **env},
        "timeout_s": push.timeout_s or options.session_limit_s,
        "memory_limit_bytes": options.memory_limit_bytes,
        "output_limit_bytes": options.output_limit_bytes,
        "slots": options.slots,
        "sandbox": options.sandbox,
        "inputs": [asdict(mount) for mount in mounts],
        "machine": machine,
        "notes": notes,
        "refusal": refusal,
    }


def _prepare_run(
    state: State, session: int, push: Push, job: dict[str, Any], real: bool
) -> tuple[Path, int]:
    """Write a run folder and, for a real run, its place in the queue and its lock."""
    run = state.run_folder(session)
    (run / "working").mkdir(parents=True, exist_ok=True)
    text = notebooks.as_script(push.text) if push.kind == "notebook" else push.text
    (run / "script.py").write_bytes(text.encode())
    replace_file(run / "job.json", json.dumps(job, indent=1))
    if not real:
        return run, -1
    lock = lifecycle.hold_lock(run)
    (state.folder / "queue" / run.name).touch()
    return run, lock


# -- sources --------------------------------------------------------------------------------


def resolve(state: State, user: str, push: Push, layout: str) -> Resolved:
    """Find the sources of a push and pin their versions."""
    found = Resolved()
    old = layout == "old"
    # Copies are only for processes that could write through a link.
    copy = bool(push.datasets or push.models) and not runner.protects(state.options.sandbox)
    for name in push.datasets:
        try:
            owner, slug, number = _handle(name, user)
            entry = datasets.find(state, owner, slug, user)
            chosen = datasets.version(state, entry["id"], number)
        except ApiError:
            found.bad_datasets.append(name)
            continue
        target = slug if old else f"datasets/{owner}/{slug}"
        source = str(datasets.folder(state, chosen["id"], copy))
        found.mounts.append(Mount(target, source))
    for name in push.competitions:
        try:
            folder = competitions.find(state, _bare(name)).folder
        except ApiError:
            found.bad_competitions.append(name)
            continue
        slug = _bare(name)
        target = slug if old else f"competitions/{slug}"
        found.mounts.append(Mount(target, str(folder)))
    for name in push.kernels:
        try:
            owner, slug, number = _handle(name, user)
            source = str(_finished(state, find(state, owner, slug, user)["id"], number))
        except ApiError:
            found.bad_kernels.append(name)
            continue
        target = slug if old else f"notebooks/{owner}/{slug}"
        found.mounts.append(Mount(target, source))
    for name in push.models:
        try:
            mount, folder = models.mount(state, user, _bare(name), copy)
        except ApiError:
            found.bad_models.append(name)
            continue
        found.mounts.append(Mount(mount if old else f"models/{mount}", str(folder)))
    found.mounts = list({mount.target: mount for mount in found.mounts}.values())
    return found


def _bare(name: str) -> str:
    """Drop the kind that pulled metadata may carry in front of a source."""
    for prefix in _PREFIXES:
        if name.startswith(prefix) and name.count("/") > (0 if prefix == "competitions/" else 1):
            return name[len(prefix) :]
    return name


def _handle(name: str, user: str) -> tuple[str, str, int | None]:
    match = re.fullmatch(
        r"(?:([\w-]+)/)?([\w-]+)(?:/(?:versions/)?([1-9][0-9]{0,8}))?", _bare(name)
    )
    if match is None:
        raise not_found(f"{name} is not a handle")
    return (match[1] or user).lower(), match[2].lower(), int(match[3]) if match[3] else None


def _finished(state: State, kernel: int, number: int | None) -> Path:
    """Give the output folder of a kernel's newest complete version, or of one by number."""
    with state.read() as db:
        rows = db.execute(
            "SELECT * FROM kernel_versions WHERE kernel = ? ORDER BY number DESC", (kernel,)
        ).fetchall()
    for row in rows:
        wanted = number in (None, row["number"])
        if wanted and lifecycle.observe(state, dict(row))["status"] == "COMPLETE":
            return state.run_folder(row["id"]) / "working"
    raise not_found("Notebook output not found")


# -- outputs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """A file that a kernel left in `/kaggle/working`."""

    name: str
    path: Path
    size: int
    modified: float


def outputs(state: State, row: Mapping[str, Any]) -> list[Output]:
    """List a finished session's files; while it is active there are none, as on the service.

    Links and special files are not followed: a kernel must not be able to publish the host's.
    """
    if not row["final"]:
        return []
    return sorted(_walk(state.run_folder(row["id"]) / "working"), key=lambda item: item.name)


def _walk(root: Path) -> Iterator[Output]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                facts = path.lstat()
                label = str(path.relative_to(root))
                label.encode()
            except (OSError, UnicodeEncodeError):
                continue
            if stat.S_ISREG(facts.st_mode):
                yield Output(label, path, facts.st_size, facts.st_mtime)


def output(state: State, row: Mapping[str, Any], name: str) -> Output:
    """Give one output file by name.

    Raises:
        ApiError: With status 404.
    """
    working = state.run_folder(row["id"]) / "working"
    path = working / name
    try:
        # Looked up, not searched for: there may be ten thousand files. A link is not followed.
        facts = path.lstat()
        inside = path.resolve() == working.resolve() / name and ".." not in Path(name).parts
    except (OSError, ValueError):
        inside = False
    if not (row["final"] and inside and stat.S_ISREG(facts.st_mode)):
        raise not_found("File not found")
    return Output(str(path.relative_to(working)), path, facts.st_size, facts.st_mtime)


def delete(state: State, user: str, kernel: dict[str, Any]) -> None:
    """Remove a kernel, stop its sessions and give back their disk.

    The folder of a session that is only now being stopped, or that another kernel reads at the
    moment, is left to the next collection of garbage.

    Raises:
        ApiError: With status 403 for somebody else's.
    """
    if kernel["owner"] != user:
        raise forbidden("Permission 'kernels.delete' was denied")
    for row in lifecycle.sessions(state, active=True):
        if row["kernel"] == kernel["id"]:
            lifecycle.cancel(state, row["id"])
    with state.write() as db:
        numbers = [
            row["id"]
            for row in db.execute(
                "SELECT id FROM kernel_versions WHERE kernel = ?", (kernel["id"],)
            )
        ]
        db.execute("DELETE FROM kernel_versions WHERE kernel = ?", (kernel["id"],))
        db.execute("DELETE FROM kernels WHERE id = ?", (kernel["id"],))
    garbage.remove_runs(state, [state.run_folder(number) for number in numbers])


def listed(state: State, user: str) -> list[dict[str, Any]]:
    """List the kernels the user may see, the most recently run first."""
    with state.read() as db:
        rows = db.execute(
            "SELECT k.*, v.id AS session, v.number, v.created AS last_run, v.request, v.accelerator"
            " FROM kernels k JOIN kernel_versions v ON v.kernel = k.id WHERE v.number ="
            " (SELECT max(number) FROM kernel_versions WHERE kernel = k.id) ORDER BY v.id DESC"
        ).fetchall()
    return [
        dict(row)
        for row in rows
        if row["owner"] == user or not json.loads(row["request"])["private"]
    ]


def last_run(row: Mapping[str, Any]) -> Any:
    """Give the date of a version's run as the SDK's messages hold it."""
    return as_datetime(row["created"])
