"""What can be done to a process from inside: counted write points, and a bad moment at the n-th of them.

A point is a moment before or after something lasting happens: a file opened for writing below the
workspace, a rename, a removal, a new folder, a process started, a database commit, a request sent.
Files are seen through the interpreter's audit events, so that code added later is covered without
being told. Everything here runs in the forked child and touches nothing of the program's source.
"""

import errno
import json
import os
import random
import resource
import signal
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime as real_datetime
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PATH_EVENTS = {"os.rename": 1, "os.remove": 0, "os.link": 1, "os.mkdir": 0, "os.rmdir": 0}
KINDS = ("count", "kill", "interrupt", "full", "small-files", "clock")


@dataclass(frozen=True)
class Injection:
    """One bad moment.

    kind: count (none, the points are listed) | kill (SIGKILL) | interrupt (SIGINT) | full (no space left
    for some writes) | small-files (no file may grow beyond some bytes) | clock (it jumps).
    """

    kind: str
    point: int = 0  # kill, interrupt, full: at which point
    times: int = 1  # full: how many writes fail
    size: int = 0  # small-files: bytes; clock: seconds
    at: str = ""  # count only points whose label holds this

    def arm(self, folder: Path, report: Path | None = None) -> None:
        """Make it happen in this process."""
        if self.kind == "small-files":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))
            return
        if self.kind == "clock":
            jump_clock(self.size, self.point)
            return
        Points(self, str(folder), report).watch()


class Points:
    """Counts points; acts at one of them."""

    def __init__(self, injection: Injection, folder: str, report: Path | None) -> None:
        self.injection = injection
        self.folder = folder
        self.report = report
        self.count = 0
        self.labels: list[str] = []
        self._lock = threading.RLock()
        self._busy = threading.local()

    def hit(self, label: str, writes: bool = False) -> None:
        """Count a point and act when it is the one."""
        if getattr(self._busy, "on", False):
            return
        act = self.injection
        if act.at not in label:
            return
        with self._lock:
            self.count += 1
            number = self.count
        if act.kind == "count":
            self._busy.on = True
            self.labels.append(label)
            if self.report is not None:
                self.report.write_text(json.dumps(self.labels))
            self._busy.on = False
        elif act.kind == "kill" and number == act.point:
            os.kill(os.getpid(), signal.SIGKILL)
        elif act.kind == "interrupt" and number == act.point:
            os.kill(os.getpid(), signal.SIGINT)
        elif act.kind == "full" and writes and act.point <= number < act.point + act.times:
            if label.startswith("sqlite"):
                raise sqlite3.OperationalError("database or disk is full")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), label)

    def watch(self) -> None:
        """Hook files, databases, processes and requests of this process."""
        self._watch_databases()
        self._watch_requests()
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and self._ours(path):
                self.hit(f"open {self._short(path)}", writes=True)
        elif event in PATH_EVENTS:
            path = arguments[PATH_EVENTS[event]]
            if self._ours(path):
                self.hit(f"{event} {self._short(path)}", writes=event in ("os.rename", "os.mkdir"))
        elif event == "subprocess.Popen":
            self.hit("process")

    def _ours(self, path: Any) -> bool:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return isinstance(path, str) and path.startswith(self.folder)

    def _short(self, path: Any) -> str:
        return os.fsdecode(path)[len(self.folder) :]

    def _watch_databases(self) -> None:
        points = self
        connect = sqlite3.connect

        class Connection(sqlite3.Connection):
            writing = False

            def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
                # Only what writes: a reader's transaction leaves nothing behind.
                word = sql.upper().strip()
                writes = word == "BEGIN IMMEDIATE" or (word == "COMMIT" and self.writing)
                self.writing = word == "BEGIN IMMEDIATE" or (self.writing and word != "COMMIT")
                if not writes:
                    return super().execute(sql, *rest)
                points.hit(f"sqlite before {word}", writes=True)
                cursor = super().execute(sql, *rest)
                points.hit(f"sqlite after {word}")
                return cursor

        def patched(*arguments: Any, **named: Any) -> sqlite3.Connection:
            named.setdefault("factory", Connection)
            return connect(*arguments, **named)

        sqlite3.connect = patched  # type: ignore[assignment]

    def _watch_requests(self) -> None:
        from requests.adapters import HTTPAdapter

        points, send = self, HTTPAdapter.send

        def patched(adapter: Any, request: Any, *arguments: Any, **named: Any) -> Any:
            where = "/".join(str(request.url).split("?")[0].split("/")[-2:])[:60]
            points.hit(f"request before {request.method} {where}")
            answer = send(adapter, request, *arguments, **named)
            points.hit(f"request after {request.method} {where}")
            return answer

        HTTPAdapter.send = patched  # type: ignore[method-assign]


def jump_clock(seconds: int, after: int) -> None:
    """Let the wall clock jump by some seconds after it was read some times; monotonic clocks do not."""
    reads = 0
    wall = time.time

    def offset() -> int:
        nonlocal reads
        reads += 1
        return seconds if reads > after else 0

    class Jumping(real_datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "real_datetime":
            return real_datetime.now(tz) + timedelta(seconds=offset())

    time.time = lambda: wall() + offset()
    for name, module in list(sys.modules.items()):
        if name.startswith("harness") and getattr(module, "datetime", None) is real_datetime:
            module.datetime = Jumping  # type: ignore[attr-defined]


def shorten_timeouts() -> None:
    """A hanging server is given up after half a second instead of a minute."""
    from harness import transport

    transport.READ_TIMEOUT_S = 0.5


def shorten_outages() -> None:
    """A service that is gone for good is given up after seconds instead of half an hour."""
    from harness.commands import watch

    watch.OUTAGE_S = {"local": 5.0}


def draw_fault(draw: random.Random, calls: tuple[str, ...]) -> tuple[str, str, dict[str, Any]]:
    """One misbehaviour of the service among those that these calls can meet."""
    while True:
        fault = _any_fault(draw)
        if fault[1].startswith(calls):
            return fault


def _any_fault(draw: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Kind, request pattern and arguments of one misbehaviour."""
    api, bytes_in, bytes_out = "*/*", "PUT /upload", "GET /files"
    kernels, datasets = "kernels.KernelsApiService", "datasets.DatasetApiService"
    competitions = "competitions.CompetitionApiService"
    writes = [
        f"{kernels}/SaveKernel",
        f"{datasets}/CreateDataset*",
        f"{competitions}/CreateSubmission",
    ]
    anywhere = [api, api, bytes_in, bytes_out, *writes]
    return draw.choice(
        [
            ("error", draw.choice(anywhere), {"status": 429}),
            ("error", draw.choice(anywhere), {"status": 429, "retry_after": draw.choice([1, 3600, "soon", -5])}),
            ("error", draw.choice(anywhere), {"status": draw.choice([500, 502, 503, 504])}),
            ("slow", draw.choice(anywhere), {"seconds": 3600.0}),
            ("drop", draw.choice(anywhere), {}),
            ("lost_ack", draw.choice([*writes, *writes, api, bytes_in]), {}),
            ("cut", draw.choice([api, bytes_in, bytes_out]), {"bytes": draw.randrange(0, 300)}),
            ("corrupt", bytes_out, {"at": draw.randrange(0, 400)}),
            ("corrupt", api, {"at": 0}),
            ("answer", f"{kernels}/GetKernelSessionStatus", {"body": {"status": draw.choice(["COMPLETE", "ERROR", "RUNNING"])}}),
            ("answer", f"{kernels}/GetKernelSessionStatus", {"body": {}}),
            ("error", f"{kernels}/GetKernelSessionStatus", {"status": draw.choice([403, 404])}),
            ("answer", f"{kernels}/ListKernelSessionOutput", {"body": {}}),
            ("patch", f"{kernels}/ListKernelSessionOutput", {"body": {"log": ""}}),
            ("patch", f"{kernels}/SaveKernel", {"body": {"versionNumber": 0, "versionNumberNullable": 0}}),
            ("answer", f"{kernels}/SaveKernel", {"body": {"error": "Maximum batch CPU session count of 5 reached."}}),
            ("answer", f"{datasets}/GetDatasetStatus", {"body": {"status": draw.choice(["READY", "BLOBS_RECEIVED"])}}),
            ("error", f"{datasets}/GetDatasetStatus", {"status": 404}),
            ("error", f"{datasets}/ListDatasetFiles", {"status": 404}),
            ("error", f"{datasets}/GetDataset", {"status": draw.choice([403, 404])}),
            ("patch", f"{competitions}/CreateSubmission", {"body": {"ref": 0}}),
            ("error", f"{competitions}/CreateSubmission", {"status": 400, "message": "You have used all submissions of today (UTC)"}),
            ("patch", f"{competitions}/GetSubmission", {"body": {"status": "PENDING", "publicScore": ""}}),
            ("answer", f"{competitions}/ListSubmissions", {"body": {"submissions": []}}),
            ("answer", f"{competitions}/GetSubmissionLimits", {"body": {}}),
        ]
    )  # fmt: skip
