"""Misbehaviour on demand, kept in the state folder so that every process sees it.

A fault has a pattern of requests (`kernels.KernelsApiService/SaveKernel`, `PUT /upload`,
`GET /files`, `*/Get*`), a kind, and a number of times. Kinds act on the request as a whole:

    error     answer `status` (429, 503, ...) instead of acting; `retry_after` and `message` optional
    answer    answer 200 with `body` instead of acting
    patch     act, then overlay `body` on the JSON answer; a key `*` stands for all items of a list
    lost_ack  act, then drop the connection without an answer
    drop      drop the connection without acting
    slow      wait `seconds` first
    cut       close the connection after `bytes` of the body (sent, or received for an upload)
    corrupt   flip one byte of the body that is sent, at offset `at`

`SWITCHES` names the misbehaviours known from the real service, so that a test can ask for one by
what it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from harness.emulator.state import State

KINDS = ("error", "answer", "patch", "lost_ack", "drop", "slow", "cut", "corrupt")

_KERNELS = "kernels.KernelsApiService"
_DATASETS = "datasets.DatasetApiService"
_COMPETITIONS = "competitions.CompetitionApiService"

SWITCHES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "stale-status": (
        f"{_KERNELS}/GetKernelSessionStatus",
        "answer",
        {"body": {"status": "COMPLETE"}},
    ),
    "stuck-queued": (f"{_KERNELS}/GetKernelSessionStatus", "answer", {"body": {}}),
    "unknown-kernel-403": (f"{_KERNELS}/GetKernelSessionStatus", "error", {"status": 403}),
    "session-cap": (
        f"{_KERNELS}/SaveKernel",
        "answer",
        {"body": {"error": "Maximum batch GPU session count of 2 reached."}},
    ),
    "invalid-sources": (
        f"{_KERNELS}/SaveKernel",
        "patch",
        {"body": {"invalidDatasetSources": ["local/missing-data"]}},
    ),
    "push-lost-ack": (f"{_KERNELS}/SaveKernel", "lost_ack", {}),
    "empty-log": (f"{_KERNELS}/ListKernelSessionOutput", "patch", {"body": {"log": ""}}),
    "empty-output": (f"{_KERNELS}/ListKernelSessionOutput", "answer", {"body": {}}),
    "dataset-not-ready": (
        f"{_DATASETS}/GetDatasetStatus",
        "answer",
        {"body": {"status": "BLOBS_RECEIVED"}},
    ),
    "dataset-failed": (f"{_DATASETS}/GetDatasetStatus", "answer", {"body": {"status": "FAILED"}}),
    # A full quota shows in one of two ways: the processing fails, or nothing is there afterwards.
    "dataset-vanishes": (f"{_DATASETS}/GetDataset*", "error", {"status": 404}),
    "version-lag": (f"{_DATASETS}/GetDataset", "patch", {"body": {"currentVersionNumber": 1}}),
    "new-version-404": (f"{_DATASETS}/ListDatasetFiles", "error", {"status": 404}),
    "create-500": (f"{_DATASETS}/CreateDataset", "error", {"status": 500}),
    "create-lost-ack": (f"{_DATASETS}/CreateDataset*", "lost_ack", {}),
    "file-404": ("GET /files", "error", {"status": 404}),
    "file-500": ("GET /files", "error", {"status": 500}),
    "file-truncated": ("GET /files", "cut", {"bytes": 100}),
    "file-corrupted": ("GET /files", "corrupt", {"at": 0}),
    "upload-503": ("PUT /upload", "error", {"status": 503}),
    "upload-500": ("PUT /upload", "error", {"status": 500}),
    "upload-cut": ("PUT /upload", "cut", {"bytes": 100}),
    "rate-limit": ("*/*", "error", {"status": 429}),
    "rate-limit-retry-after": ("*/*", "error", {"status": 429, "retry_after": 1}),
    "server-error": ("*/*", "error", {"status": 503}),
    "hang": ("*/*", "slow", {"seconds": 3600.0}),
    "daily-cap": (
        f"{_COMPETITIONS}/CreateSubmission",
        "error",
        {"status": 400, "message": "You have used all submissions of today (UTC)"},
    ),
    "submission-pending": (
        f"{_COMPETITIONS}/ListSubmissions",
        "patch",
        {"body": {"submissions": {"*": {"status": "PENDING", "publicScore": ""}}}},
    ),
    "submission-error": (
        f"{_COMPETITIONS}/ListSubmissions",
        "patch",
        {
            "body": {
                "submissions": {
                    "*": {"status": "ERROR", "errorDescription": "Submission Scoring Error"}
                }
            }
        },
    ),
    "submit-lost-ack": (f"{_COMPETITIONS}/Create*Submission", "lost_ack", {}),
    "submit-empty-answer": (f"{_COMPETITIONS}/CreateSubmission", "answer", {"body": {}}),
    "logs-cut": ("GET /logs", "cut", {"bytes": 100}),
}


@dataclass(frozen=True)
class Fault:
    """One misbehaviour, decided for one request."""

    id: int
    pattern: str
    kind: str
    args: dict[str, Any]


def add(
    state: State,
    pattern: str,
    kind: str,
    args: Mapping[str, Any] | None = None,
    *,
    times: int = 1,
    skip: int = 0,
) -> int:
    """Arm a fault and give its number.

    Args:
        state: The state folder.
        pattern: Which requests, in the manner of file name patterns; case matters.
        kind: One of `KINDS`.
        args: What the kind needs.
        times: How many requests it hits; -1 means all.
        skip: How many matching requests it lets pass first.

    Raises:
        ValueError: For an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"fault kind {kind!r}: use one of {', '.join(KINDS)}")
    with state.write() as db:
        row = db.execute(
            "INSERT INTO faults(pattern, kind, args, skip, times) VALUES (?,?,?,?,?)",
            (pattern, kind, json.dumps(dict(args or {})), skip, times),
        )
    return int(row.lastrowid or 0)


def switch(state: State, name: str, *, times: int = 1, skip: int = 0, **changes: Any) -> int:
    """Arm a known misbehaviour by name, perhaps with other arguments.

    Raises:
        ValueError: For a name that is not in `SWITCHES`.
    """
    if name not in SWITCHES:
        raise ValueError(f"fault {name!r}: use one of {', '.join(sorted(SWITCHES))}")
    pattern, kind, args = SWITCHES[name]
    return add(state, pattern, kind, {**args, **changes}, times=times, skip=skip)


def listed(state: State) -> list[dict[str, Any]]:
    """List the armed faults."""
    with state.read() as db:
        rows = db.execute("SELECT * FROM faults WHERE times != 0 ORDER BY id").fetchall()
    return [{**dict(row), "args": json.loads(row["args"])} for row in rows]


def clear(state: State) -> None:
    """Disarm everything."""
    with state.write() as db:
        db.execute("DELETE FROM faults")


def take(state: State, request: str) -> list[Fault]:
    """Give the faults that hit a request, and count it against them."""
    with state.read() as db:
        rows = db.execute("SELECT * FROM faults WHERE times != 0 ORDER BY id").fetchall()
    rows = [row for row in rows if fnmatchcase(request, row["pattern"])]
    hits = []
    for row in rows:
        with state.write() as db:
            skipped = db.execute(
                "UPDATE faults SET skip = skip - 1 WHERE id = ? AND skip > 0", (row["id"],)
            ).rowcount
            if skipped:
                continue
            hit = db.execute(
                "UPDATE faults SET times = times - (times > 0) WHERE id = ? AND times != 0",
                (row["id"],),
            ).rowcount
        if hit:
            hits.append(Fault(row["id"], row["pattern"], row["kind"], json.loads(row["args"])))
    return hits
