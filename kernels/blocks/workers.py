"""Folds side by side: one process for each GPU, started from the script itself.

A worker is the same program with WORKER_VARIABLE set: it reads the same inputs, finds stages that are
finished in RESUME_FOLDER, trains its share of the folds and leaves their results there. Folds draw nothing
from each other, so what the workers predict is what one process would have. Torch-free.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels.blocks.session import BudgetSpent, FoldCell, RunSession
from kernels.contract import BUDGET_VARIABLE

WORKER_VARIABLE = "HARNESS_FOLD_WORKER"
POLL_S = 0.2
END_GRACE_S = 5.0
TAIL_LINES = 30  # of a worker's output, searched for the reason of its end
RAISED = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit): ")


class ShareDone(Exception):
    """A worker has trained its folds; what comes after the folds is the parent's."""


@dataclass(frozen=True)
class FoldProcess:
    """How one worker is started: its name in the log, and what its environment has besides."""

    name: str
    environment: Mapping[str, str]


@dataclass
class RunningWorker:
    """A started worker, and the last lines it wrote."""

    name: str
    process: "subprocess.Popen[str]"
    tail: list[str]
    reader: threading.Thread

    def reason(self) -> str:
        """Why it ended: its error, else its last line, else its exit code."""
        self.reader.join(END_GRACE_S)
        code = self.process.returncode
        raised = [line for line in self.tail if RAISED.match(line)]
        said = (raised or self.tail or ["it wrote nothing"])[-1]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        return f"{self.name} {how}{hint}: {said}"


def read_share() -> tuple[FoldCell, ...] | None:
    """The folds that this process is to train; None when it is no worker."""
    text = os.environ.get(WORKER_VARIABLE)
    if text is None:
        return None
    return tuple((int(seed), int(fold)) for seed, fold in json.loads(text)["cells"])


def watch_parent() -> None:
    """In a worker: end at once when the parent is gone, however that ended."""

    def wait_for_end() -> None:
        # The parent's end of the pipe closes with it. Not through sys.stdin: an interpreter that ends
        # would want its lock back.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait_for_end, daemon=True).start()


def train_side_by_side(
    session: RunSession, cells: Sequence[FoldCell], processes: Sequence[FoldProcess]
) -> None:
    """Train folds in processes of their own; their results are in the session's folder afterwards.

    Args:
        session: Its ``script`` is the program that is started.
        cells: Folds that are left, shared out in turn.
        processes: One for each worker; no more are started than there are folds.

    Raises:
        BudgetSpent: Some folds are left; each worker saved what it had.
        RuntimeError: A worker failed (its reason is told); the others were ended.
    """
    if WORKER_VARIABLE in os.environ or not session.may_start_workers:
        raise RuntimeError("a worker must not start workers: they would start others without end")
    session.check("the folds")
    session.path("")  # workers find the folder there
    count = min(len(processes), len(cells))
    workers: list[RunningWorker] = []
    try:
        for index, wanted in enumerate(processes[:count]):
            share = [list(cell) for cell in cells[index::count]]
            workers.append(start_worker(session, wanted, share))
        wait_for_workers(workers)
    finally:
        end_workers(workers)
    stages = [
        path.read_text(encoding="utf-8") for path in sorted(session.folder.glob("stopped_*.txt"))
    ]
    for path in session.folder.glob("stopped_*.txt"):
        path.unlink()
    session.worked()
    if stages:
        raise BudgetSpent(" and ".join(stages))


def start_worker(
    session: RunSession, wanted: FoldProcess, share: Sequence[Sequence[int]]
) -> RunningWorker:
    """Start one process; a thread passes its lines on, each with the worker's name before it."""
    left = session.left_s()
    environment = {
        **os.environ,
        **wanted.environment,
        "PYTHONUNBUFFERED": "1",
        WORKER_VARIABLE: json.dumps({"name": wanted.name, "cells": share}),
        BUDGET_VARIABLE: "" if left is None else repr(left / 60.0),
    }
    process = subprocess.Popen(
        [sys.executable, str(session.script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    tail: list[str] = []

    def pass_on() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"[{wanted.name}] {line.rstrip()}", flush=True)
            if line.strip():
                tail[:] = [*tail[-TAIL_LINES:], line.rstrip()]

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    return RunningWorker(wanted.name, process, tail, reader)


def wait_for_workers(workers: Sequence[RunningWorker]) -> None:
    """Until all have ended well, or one has not (RuntimeError)."""
    while True:
        codes = [worker.process.poll() for worker in workers]
        for worker, code in zip(workers, codes, strict=True):
            if code:
                raise RuntimeError(worker.reason())
        if all(code == 0 for code in codes):
            break
        time.sleep(POLL_S)
    for worker in workers:
        worker.reader.join(END_GRACE_S)


def end_workers(workers: Sequence[RunningWorker]) -> None:
    """End whatever still runs: gently, then not."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(END_GRACE_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        if worker.process.stdin is not None:
            worker.process.stdin.close()


def note_stop(session: RunSession, stage: str) -> None:
    """In a worker whose budget is spent: say where, for the parent."""
    session.path(f"stopped_{os.getpid()}.txt").write_text(stage, encoding="utf-8")


def program_of(script: Path) -> Path | None:
    """The program that workers can be started from: the script, when it is what runs now."""
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    is_program = main_file is not None and Path(main_file).resolve() == script
    return script if is_program else None
