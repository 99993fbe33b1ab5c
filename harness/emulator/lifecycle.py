"""What a kernel session is doing, read from the files and the lock of its real process.

Nothing is remembered about processes: any server on the state folder, started at any time, comes to
the same answer. For tests a session may instead complete after a number of polls, running nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.emulator.errors import StateError
from harness.emulator.state import State, replace_file

FINAL = frozenset({"COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED", "NEW_SCRIPT"})
LOST = "The machine went away: the kernel's supervisor ended without a result."


def hold_lock(run: Path) -> int:
    """Lock a new run folder and give the open file descriptor.

    The supervisor inherits it, so the lock is never free between the push and the process's start.
    """
    handle = os.open(run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def launch(run: Path, lock: int) -> None:
    """Start the detached supervisor of a run and let go of the lock."""
    root = str(Path(__file__).resolve().parents[2])
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "PYTHONPATH": root, "LANG": "C.UTF-8"}
    try:
        subprocess.Popen(
            [sys.executable, "-m", "harness.emulator.supervisor", str(run), str(lock)],
            pass_fds=(lock,),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=env,
        )
    finally:
        os.close(lock)


def _alive(run: Path) -> bool:
    try:
        handle = os.open(run / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _exit_record(run: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((run / "exit.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record


def is_active(run: Path) -> bool:
    """Tell whether a run folder's supervisor is waiting or working."""
    # With the record written it has nothing left to do, though it may not be gone yet.
    return _alive(run) and _exit_record(run) is None


def ending(run: Path) -> dict[str, Any] | None:
    """Give the exit record of a run folder, one of a lost run included; None while it goes on."""
    # The lock is looked at first: a supervisor writes its record before it lets go of it.
    alive = _alive(run)
    record = _exit_record(run)
    if record is None and not alive:
        return {"status": "ERROR", "failure": LOST, "seconds": 0.0}
    return record


def observe(state: State, row: dict[str, Any], poll: bool = False) -> dict[str, Any]:
    """Bring one session's row up to date.

    Args:
        state: The state folder.
        row: A row of `kernel_versions`.
        poll: Whether this look counts for sessions that complete after a number of polls.
    """
    if row["final"]:
        return row
    run = state.run_folder(row["id"])
    if row["polls"] >= 0:
        return _observe_polled(state, row, run, poll)
    record = ending(run)
    if record is not None:
        return _close(state, row, record["status"], record["failure"], record["seconds"])
    if (run / "cancel").exists():
        return {**row, "status": "CANCEL_REQUESTED"}
    return {**row, "status": "RUNNING" if (run / "started.json").exists() else "QUEUED"}


def _observe_polled(state: State, row: dict[str, Any], run: Path, poll: bool) -> dict[str, Any]:
    if (run / "cancel").exists():
        return _close(state, row, "CANCEL_ACKNOWLEDGED", "", 0.0)
    if row["polls"] == 0:
        return _close(state, row, "COMPLETE", "", state.clock.now() - row["created"])
    if poll:
        with state.write() as db:
            db.execute("UPDATE kernel_versions SET polls = polls - 1 WHERE id = ?", (row["id"],))
    return {**row, "status": "RUNNING"}


def _close(
    state: State, row: dict[str, Any], status: str, failure: str, seconds: float
) -> dict[str, Any]:
    with state.write() as db:
        db.execute(
            "UPDATE kernel_versions SET status = ?, failure = ?, seconds = ?, final = 1"
            " WHERE id = ? AND final = 0",
            (status, failure, seconds, row["id"]),
        )
    return {**row, "status": status, "failure": failure, "seconds": seconds, "final": 1}


# Everything but the source, which may be a megabyte for each of a thousand runs.
_COLUMNS = (
    "v.id, v.kernel, v.number, v.created, v.request, v.accelerator, v.status, v.failure, v.final,"
    " v.seconds, v.polls, k.owner, k.slug"
)


def sessions(state: State, active: bool = False) -> list[dict[str, Any]]:
    """List sessions, oldest first, each with its kernel's owner and slug and its run folder."""
    where = "WHERE v.final = 0" if active else ""
    with state.read() as db:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM kernel_versions v JOIN kernels k ON k.id = v.kernel"
            f" {where} ORDER BY v.id"
        ).fetchall()
    found = [observe(state, dict(row)) for row in rows]
    return [
        {**row, "folder": state.run_folder(row["id"])}
        for row in found
        if not (active and row["final"])
    ]


def session(state: State, number: int) -> dict[str, Any]:
    """Look up one session.

    Raises:
        StateError: If there is none of that number.
    """
    with state.read() as db:
        row = db.execute(
            f"SELECT {_COLUMNS} FROM kernel_versions v JOIN kernels k ON k.id = v.kernel"
            " WHERE v.id = ?",
            (number,),
        ).fetchone()
    if row is None:
        raise StateError(f"there is no kernel session {number}")
    return {**observe(state, dict(row)), "folder": state.run_folder(number)}


def cancel(state: State, number: int) -> None:
    """Ask a session to stop."""
    found = session(state, number)
    if not found["final"]:
        replace_file(state.run_folder(number) / "cancel", "")


def wait(state: State, number: int, timeout_s: float) -> dict[str, Any]:
    """Wait until a session has ended, in real time.

    Raises:
        TimeoutError: If it takes longer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = session(state, number)
        if found["final"]:
            return found
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"kernel session {number} is {found['status']} after {timeout_s:.0f} s"
            )
        time.sleep(0.05)


def log_lines(run: Path) -> list[str]:
    """Read the complete lines of a session's log, each one a JSON object."""
    try:
        text = (run / "log.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    return [line for line in lines[:-1] if line]


def log_document(run: Path) -> str:
    """Give the log as the service serves it: a JSON array with its commas at the line starts."""
    lines = log_lines(run)
    return "[" + "\n,".join(lines) + "\n]" if lines else "[]"
