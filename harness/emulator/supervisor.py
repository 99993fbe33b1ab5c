"""The process beside every running kernel: `python -m harness.emulator.supervisor RUN_DIR`.

It outlives the server that started it. A lock on `RUN_DIR/lock` says that it is alive; it waits for
a free slot, runs the kernel, writes log lines as they come, watches time, memory, output size and a
request to cancel, and last writes `exit.json` by rename. Whoever looks later needs nothing but
these files: `exit.json` is the end, a held lock means it is going on, neither means it was lost.
Standard library only, because every push waits for this to start.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from harness.emulator import runner

_POLL_S = 0.05
_SIZE_EVERY_S = 2.0
_LINE_LIMIT = 1 << 16
_LOG_LIMIT = 256 << 20
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

OUT_OF_TIME = "Your notebook was stopped because it exceeded the max allowed execution duration."
OUT_OF_MEMORY = (
    "Your notebook tried to allocate more memory than is available. It has been stopped."
)


class Log:
    """`log.jsonl`: one JSON object per line, as the service's log has them."""

    def __init__(self, path: Path, started: float) -> None:
        self._out = path.open("a", encoding="utf-8")
        self._started = started
        self._lock = threading.Lock()
        self._written = 0
        self.last_error = ""

    def write(self, stream: str, text: str) -> None:
        """Append one line and make it visible at once."""
        if stream == "stderr" and text.strip():
            self.last_error = text.strip()
        seconds = round(time.time() - self._started, 9)
        line = json.dumps({"stream_name": stream, "time": seconds, "data": text}) + "\n"
        with self._lock:
            self._written += len(line)
            if self._written <= _LOG_LIMIT:
                self._out.write(line)
                self._out.flush()

    def follow(self, stream: str, pipe: IO[bytes]) -> None:
        """Copy a pipe until it ends, cutting it into lines."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while chunk := os.read(pipe.fileno(), _LINE_LIMIT):
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            for line in lines:
                self.write(stream, line + "\n")
            if len(rest) > _LINE_LIMIT:
                self.write(stream, rest)
                rest = ""
        rest += decoder.decode(b"", final=True)
        if rest:
            self.write(stream, rest)


class Supervisor:
    """One kernel's life, from its place in the queue to its exit record."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.job: dict[str, Any] = json.loads((run / "job.json").read_text(encoding="utf-8"))
        self.state = run.parent.parent
        self._slot: IO[str] | None = None

    def main(self) -> None:
        """Wait, run, record."""
        started: float | None = None
        try:
            if not self._take_slot():
                self._finish("CANCEL_ACKNOWLEDGED", "", None, 0.0)
                return
            started = time.time()
            _write(self.run / "started.json", {"started": started})
            status, failure, code = self._execute(started)
        except Exception as problem:  # noqa: BLE001 (any reason must reach exit.json)
            status, failure, code = "ERROR", f"The kernel could not be started: {problem}", None
        finally:
            for name in ("tmp", "temp"):
                shutil.rmtree(self.run / name, ignore_errors=True)
        self._finish(status, failure, code, time.time() - (started or time.time()))

    def _finish(self, status: str, failure: str, code: int | None, seconds: float) -> None:
        _write(
            self.run / "exit.json",
            {"status": status, "failure": failure, "returncode": code, "seconds": seconds},
        )

    def _cancelled(self) -> bool:
        return (self.run / "cancel").exists()

    # -- the queue --------------------------------------------------------------------------

    def _take_slot(self) -> bool:
        """Wait for this kernel's turn and a free slot; False if it was cancelled meanwhile."""
        ticket = self.state / "queue" / self.run.name
        try:
            while not self._cancelled():
                if self._first_in_queue() and self._lock_slot():
                    return True
                time.sleep(_POLL_S)
            return False
        finally:
            ticket.unlink(missing_ok=True)

    def _first_in_queue(self) -> bool:
        for name in sorted(entry.name for entry in (self.state / "queue").iterdir()):
            if name >= self.run.name:
                return True
            if _is_locked(self.state / "runs" / name / "lock"):
                return False
            # Its supervisor died while waiting.
            (self.state / "queue" / name).unlink(missing_ok=True)
        return True

    def _lock_slot(self) -> bool:
        for number in range(self.job["slots"]):
            slot = (self.state / "slots" / str(number)).open("a")
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                slot.close()
                continue
            self._slot = slot
            return True
        return False

    # -- the kernel -------------------------------------------------------------------------

    def _execute(self, started: float) -> tuple[str, str, int | None]:
        log = Log(self.run / "log.jsonl", started)
        for note in self.job["notes"]:
            log.write("stderr", f"[local Kaggle] {note}\n")
        log.last_error = ""
        if self.job.get("refusal"):
            log.write("stderr", f"[local Kaggle] {self.job['refusal']}\n")
            return "ERROR", self.job["refusal"], None
        launch = runner.prepare(self.job, self.run)
        if launch.warning:
            log.write("stderr", f"[local Kaggle] warning: {launch.warning}\n")
            log.last_error = ""
        _adopt_orphans()
        # Started from the main thread: die-with-parent follows the thread, not the process.
        process = subprocess.Popen(
            launch.command,
            env=launch.env,
            cwd=launch.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_supervisor,  # noqa: PLW1509 (no other thread runs yet)
        )
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            threading.Thread(target=log.follow, args=(name, pipe), daemon=True)
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for reader in readers:
            reader.start()
        verdict = self._watch(process, started)
        _kill_descendants(process)
        code = process.wait()
        for reader in readers:
            reader.join(timeout=10)
        if verdict is not None:
            return (*verdict, code)
        if code == 0:
            return "COMPLETE", "", 0
        how = f"code {code}" if code > 0 else f"signal {-code}"
        return "ERROR", f"The script ended with {how}. {log.last_error}".strip(), code

    def _watch(self, process: subprocess.Popen[bytes], started: float) -> tuple[str, str] | None:
        """Wait for the end; give status and message when it was ended from outside."""
        deadline = started + self.job["timeout_s"]
        next_size = 0.0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_POLL_S)
                over = _folder_size(self.run / "working") > self.job["output_limit_bytes"]
                return ("ERROR", self._too_much_output()) if over else None
            now = time.time()
            if self._cancelled():
                return "CANCEL_ACKNOWLEDGED", ""
            if now >= deadline:
                return "ERROR", OUT_OF_TIME
            limit = self.job["memory_limit_bytes"]
            if limit and _memory_of_descendants() > limit:
                return "ERROR", OUT_OF_MEMORY
            if now >= next_size:
                before = time.time()
                if _folder_size(self.run / "working") > self.job["output_limit_bytes"]:
                    return "ERROR", self._too_much_output()
                # Counting many files must not become the main work.
                next_size = now + max(_SIZE_EVERY_S, 20 * (time.time() - before))

    def _too_much_output(self) -> str:
        return f"/kaggle/working exceeds the limit of {self.job['output_limit_bytes']} bytes."


def _write(path: Path, data: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(data), encoding="utf-8")
    draft.replace(path)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _adopt_orphans() -> None:
    """Become the parent of processes the kernel leaves behind, so that they can be found."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with_supervisor() -> None:
    """Let a kernel without a sandbox end when its supervisor is killed."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                parent = int(text.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return found


def _kill_descendants(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left below this process, and again while more appears."""
    for _ in range(100):
        process.poll()
        alive = _descendants()
        if not alive:
            return
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            # The kernel itself is left to `process`, which wants its exit code.
            if pid != process.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


def _memory_of_descendants() -> int:
    """Add up resident memory, shared pages counted once where the system can tell."""
    total = 0
    for pid in _descendants():
        with contextlib.suppress(OSError, ValueError, IndexError):
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(x.split()[1]) << 10 for x in lines if x.startswith("Pss:"))
            except PermissionError:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                total += pages * os.sysconf("SC_PAGE_SIZE")
    return total


def _folder_size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(root, name).lstat().st_size
    return total


def main(arguments: list[str]) -> None:
    """Supervise the run folder named first; the second argument is the inherited lock."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run = Path(arguments[0])
    if len(arguments) < 2:
        lock = (run / "lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    Supervisor(run).main()


if __name__ == "__main__":
    main(sys.argv[1:])
