"""One session of a run: its time budget, what earlier sessions left, what it leaves to the next.

Kaggle ends a session after some hours and keeps nothing of it. So a run with a budget stops by itself at
the end of an epoch: finished folds and the training that was interrupted are files in RESUME_FOLDER of its
output (contract.py), and a later session that finds them mounted goes on from there, to the same bits. The
same files carry results between processes that train folds side by side (workers.py).

Torch-free: what is in a training's file is the business of blocks/resuming.py.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernels.blocks.paths import KagglePaths
from kernels.blocks.tables import Tables
from kernels.contract import (
    BUDGET_VARIABLE,
    MANIFEST_FILE,
    FileRecord,
    Resume,
    file_faults,
    is_safe_relative,
    manifest_faults,
    resume_of,
    write_json,
)

MOUNT_DEPTH = 4  # /kaggle/input/notebooks/<owner>/<slug>/manifest.json is the deepest known
MANIFEST_LIMIT = 50_000_000  # bytes; other people's files have this name too

FoldCell = tuple[int, int]  # seed, fold


class BudgetSpent(Exception):
    """The time budget is used up; what was reached is on disk. Its text says where: the stage."""


@dataclass
class RunSession:
    """The clock and the files of one session.

    Args:
        folder: RESUME_FOLDER in the output folder; made when something is first kept.
        budget_s: Seconds from ``started`` after which no epoch begins; None: no limit.
        started: ``time.monotonic()`` of the session's start.
        number: 1 for a run's first session.
        earlier_s: Seconds of the sessions before.
        keeps: Whether finished folds and stages are written down: with a budget, in a continued run and
            wherever folds are trained in several processes.
    """

    folder: Path
    budget_s: float | None = None
    started: float = field(default_factory=time.monotonic)
    number: int = 1
    earlier_s: float = 0.0
    keeps: bool = False
    resumed_from: dict[str, Any] | None = None  # plain facts for the manifest
    script: Path | None = None  # the program that runs, for processes of its own
    cells: list[FoldCell] = field(default_factory=list)  # of the whole run, once they are known
    share: tuple[FoldCell, ...] | None = None  # a worker's folds; None: all of them
    _has_worked: bool = False

    @property
    def may_start_workers(self) -> bool:
        """True for a program that is no worker itself."""
        return self.script is not None and self.share is None

    def seconds(self) -> float:
        """Seconds of this session so far."""
        return time.monotonic() - self.started

    def left_s(self) -> float | None:
        """Seconds of the budget that are left, at least 0; None without a budget."""
        return None if self.budget_s is None else max(self.budget_s - self.seconds(), 0.0)

    def worked(self) -> None:
        """Something was finished that the next session need not do again."""
        self._has_worked = True

    def is_spent(self, expected_s: float = 0.0) -> bool:
        """True when work of ``expected_s`` seconds would end after the budget.

        Never before this session has finished something: whatever the budget, a chain of sessions ends.
        """
        left = self.left_s()
        return left is not None and self._has_worked and expected_s >= left

    def check(self, stage: str, expected_s: float = 0.0) -> None:
        """Raise BudgetSpent(stage) when ``is_spent``."""
        if self.is_spent(expected_s):
            raise BudgetSpent(stage)

    def path(self, name: str) -> Path:
        """A file of this session's state; its folder exists afterwards."""
        self.folder.mkdir(exist_ok=True)
        return self.folder / name

    # ---- finished folds --------------------------------------------------------------------------

    def fold_path(self, cell: FoldCell) -> Path:
        """Where the results of a finished fold are kept."""
        return self.folder / f"seed{cell[0]}_fold{cell[1]}.json"

    def is_done(self, cell: FoldCell) -> bool:
        """True when a fold's results are there."""
        return self.fold_path(cell).is_file()

    def save_fold(self, cell: FoldCell, result: dict[str, Any]) -> None:
        """Keep a fold's results (plain JSON values; floats come back to the same bits)."""
        self.folder.mkdir(exist_ok=True)
        write_json(self.fold_path(cell), result)

    def load_fold(self, cell: FoldCell) -> dict[str, Any]:
        """Results of a finished fold."""
        result: dict[str, Any] = json.loads(self.fold_path(cell).read_text(encoding="utf-8"))
        return result

    def describe(self, key: str, stage: str) -> Resume:
        """How far the run has come, for the manifest."""
        return Resume(
            key=key,
            session=self.number,
            seconds=round(self.earlier_s + self.seconds(), 2),
            stage=stage,
            done=tuple(cell for cell in self.cells if self.is_done(cell)),
            left=tuple(cell for cell in self.cells if not self.is_done(cell)),
        )


def read_budget(baked_minutes: float | None) -> float | None:
    """Seconds of the budget: BUDGET_VARIABLE, else what is baked into the script, else None.

    An empty variable means no limit; 0 means one epoch a session.

    Raises:
        ValueError: The variable is no number of minutes.
    """
    text = os.environ.get(BUDGET_VARIABLE)
    if text is None:
        minutes = baked_minutes
    elif not text.strip():
        minutes = None
    else:
        try:
            minutes = float(text)
        except ValueError:
            minutes = math.nan
        if not 0 <= minutes < math.inf:
            raise ValueError(
                f"{BUDGET_VARIABLE} is {text!r}; write minutes, or nothing for no limit"
            )
    return None if minutes is None else minutes * 60.0


def rows_digest(tables: Tables, target_columns: Sequence[str]) -> str:
    """What a run learns from and predicts: ids of every table and the labels, as 64 hex digits."""
    digest = hashlib.sha256()
    for frame in (tables.unlabelled, tables.labelled, tables.test):
        digest.update(json.dumps([str(name) for name in frame["id"]]).encode())
    for column in target_columns:
        digest.update(json.dumps([float(value) for value in tables.labelled[column]]).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class LeftBehind:
    """An unfinished run's output, found among the inputs."""

    folder: Path
    manifest: dict[str, Any]
    resume: Resume


def unfinished_runs(paths: KagglePaths) -> list[LeftBehind]:
    """Every unfinished run mounted among the inputs, the one that came farthest last."""
    found = []
    for depth in range(1, MOUNT_DEPTH + 1):
        for path in sorted(paths.input.glob("/".join(["*"] * depth) + f"/{MANIFEST_FILE}")):
            manifest = read_possible_manifest(path)
            resume = None if manifest is None else resume_of(manifest)
            if manifest is not None and resume is not None:
                found.append(LeftBehind(path.parent, manifest, resume))
    return sorted(found, key=lambda item: (item.resume.session, item.resume.seconds))


def read_possible_manifest(path: Path) -> dict[str, Any] | None:
    """A run's manifest, or None for whatever else has that name."""
    try:
        if path.stat().st_size > MANIFEST_LIMIT:
            return None
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if manifest_faults(manifest) else dict(manifest)


def take_up(
    session: RunSession, paths: KagglePaths, key: str, spec: dict[str, Any], config: str
) -> str | None:
    """Continue an unfinished run that is mounted: its output is copied to where this run writes.

    Args:
        session: Gets number, earlier seconds and where it went on from.
        key: ``resume_key`` of this run.
        spec: Of this run, and ``config``: to say what differs when the key does.

    Returns:
        One line for the log; None when no unfinished run is mounted.

    Raises:
        ValueError: Unfinished runs are mounted and all are of other experiments, or files of the one
            that fits are missing or damaged. Going on from nothing would cost hours before it is noticed.
    """
    mounted = unfinished_runs(paths)
    if not mounted:
        return None
    fitting = [item for item in mounted if item.resume.key == key]
    if not fitting:
        other = mounted[-1]
        spec_differs = other.manifest["spec"] != json.loads(json.dumps(spec))
        config_differs = other.manifest["config"] != config
        what = "spec" if spec_differs else "config" if config_differs else "data or its datasets"
        raise ValueError(
            f"the unfinished run in {other.folder} cannot be continued: its {what} differs. Unmount it to "
            "start afresh, or push what it was started from."
        )
    found = fitting[-1]
    records = [FileRecord(**entry) for entry in found.manifest["files"]]
    faults = file_faults(found.folder, records)
    if faults:
        raise ValueError(
            f"the unfinished run in {found.folder} cannot be continued: {faults[0]}. Mount its whole "
            "output, or unmount it to start afresh."
        )
    for record in records:
        assert is_safe_relative(record.path)  # manifest_faults has looked
        target = paths.working / record.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found.folder / record.path, target)
    session.number = found.resume.session + 1
    session.earlier_s = found.resume.seconds
    session.keeps = True
    session.resumed_from = {
        "session": found.resume.session,
        "stage": found.resume.stage,
        "script_sha256": found.manifest["script_sha256"],
        "versions": found.manifest["versions"],
    }
    return (
        f"session {session.number}: going on from {found.folder} ({found.resume.describe()}; "
        f"{found.resume.seconds / 60:.0f} min so far)"
    )
