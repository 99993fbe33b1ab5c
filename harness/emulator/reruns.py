"""Code competitions: the submitted kernel runs again on the hidden test, and that output is scored.

A rerun has a run folder of its own, `runs/rerun-<submission>`, and the same supervisor as any other
session. It is no version of the kernel: it is in no list, takes no place under the session cap and
costs no quota. Whoever looks at the submission later finds out how it ended from the folder alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from harness.emulator import lifecycle
from harness.emulator.errors import StateError, bad_request
from harness.emulator.state import State, replace_file
from harness.emulator.supervisor import OUT_OF_MEMORY, OUT_OF_TIME

VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
# Each entry becomes a mount of its own.
_MAX_ENTRIES = 1000

# The service's words; it does not say more, so that the hidden test cannot be read out of errors.
THREW = "Notebook Threw Exception"
TIMEOUT = "Notebook Timeout"
MEMORY = "Notebook Out of Memory"
NOTHING = "Submission CSV Not Found"


def check(hidden: Path, data: Path, solution: Path | None) -> Path:
    """Give the hidden folder's absolute path, refusing one that could not be used.

    Raises:
        StateError: If it is missing, overlaps the data, shows the solution, or is laid out too flat.
    """
    hidden = Path(hidden).absolute()
    if not hidden.is_dir():
        raise StateError(f"the hidden test {hidden} is not a folder")
    here, there = hidden.resolve(), data.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise StateError(f"the hidden test {hidden} and the data folder {data} must lie apart")
    if solution is not None and Path(solution).resolve().is_relative_to(here):
        raise StateError(f"the solution {solution} lies inside the hidden test {hidden}")
    entries = len(_entries(data, hidden))
    if entries > _MAX_ENTRIES:
        raise StateError(
            f"{data} and {hidden} have {entries} entries at their top level, more than "
            f"{_MAX_ENTRIES}. Put the files into folders."
        )
    return hidden


def _entries(data: Path, hidden: Path) -> dict[str, Path]:
    """Lay the hidden test over the data: what has one name is replaced as a whole."""
    return {path.name: path for folder in (data, hidden) for path in sorted(folder.iterdir())}


def folder(state: State, ref: int) -> Path:
    """Where the rerun of a submission happens."""
    return state.folder / "runs" / f"rerun-{ref:08d}"


def prepare(state: State, ref: int, version: int, slug: str, data: Path, hidden: Path) -> int:
    """Write the run folder of a rerun and give its lock, for `lifecycle.launch`.

    Args:
        state: The state folder.
        ref: The submission.
        version: The session that was submitted; source, mounts and limits are taken from its job.
        slug: The competition.
        data: The competition's data folder, which that session saw.
        hidden: What replaces entries of the data folder.

    Raises:
        ApiError: With status 400 if the session's files are gone.
    """
    source, run = state.run_folder(version), folder(state, ref)
    try:
        job: dict[str, Any] = json.loads((source / "job.json").read_text(encoding="utf-8"))
        shutil.rmtree(run, ignore_errors=True)  # left by a server that died before it had answered
        (run / "working").mkdir(parents=True)
        shutil.copyfile(source / "script.py", run / "script.py")
    except OSError as problem:
        raise bad_request("The notebook version cannot be run again") from problem
    mounts = []
    for item in job["inputs"]:
        if item["target"] in (slug, f"competitions/{slug}"):
            mounts += [
                {"target": f"{item['target']}/{name}", "source": str(path)}
                for name, path in _entries(data, hidden).items()
            ]
        else:
            mounts.append(item)
    job["inputs"] = mounts
    job["internet"] = False
    job["env"] = {**job["env"], VARIABLE: "1"}
    job["slots"] = state.options.slots
    replace_file(run / "job.json", json.dumps(job, indent=1))
    lock = lifecycle.hold_lock(run)
    (state.folder / "queue" / run.name).touch()
    return lock


def outcome(state: State, ref: int, name: str) -> tuple[Path | None, str] | None:
    """Tell how a rerun ended: the file to score, or the error; None while it goes on."""
    run = folder(state, ref)
    record = lifecycle.ending(run)
    if record is None:
        return None
    if record["status"] != "COMPLETE":
        known = {OUT_OF_TIME: TIMEOUT, OUT_OF_MEMORY: MEMORY}
        return None, known.get(record["failure"], THREW)
    working = run / "working"
    path = working / name
    # A link could lead to anything that this process may read.
    inside = path.is_file() and path.resolve() == working.resolve() / name
    return (path, "") if inside else (None, NOTHING)
