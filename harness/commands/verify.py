"""Verify: compare everything that the ledger claims with the files here and with the remote, now.

Nothing is changed. Files are read whole and hashed; kernel versions are compared by their source,
datasets by the digest in their manifest and their listing, submissions by the nonce in their message.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.commands.members import import_folder
from harness.commands.settling import kept_script
from harness.notebooks import source_sha256
from harness.package import MANIFEST
from harness.records import Handle, Run, RunState, Submission
from harness.remote import ReadRefused
from harness.render import CODE_FILE
from harness.workbench import Workbench
from kernels.contract import OOF_FILE, TEST_FILE, sha256_file

TOLD_EVERY_S = 2.0
NEVER_RAN = (RunState.INTENT, RunState.REJECTED)


@dataclass(frozen=True)
class Claim:
    """One thing that the ledger says, and whether it is so."""

    kind: str  # ledger | script | output | import | submission | kernel | dataset
    what: str
    status: str  # ok | wrong | missing | open: cannot be told
    detail: str = ""
    next_step: str = ""

    @property
    def holds(self) -> bool:
        """False for what is not as claimed."""
        return self.status in ("ok", "open")


def verify(bench: Workbench, local_only: bool = False) -> list[Claim]:
    """Check every claim about this disk, and unless ``local_only`` about the remote.

    Raises:
        RemoteUnavailable: The remote does not answer: nothing can be said about it.
    """
    found = []
    told = time.monotonic()
    for claim in _claims(bench, local_only):
        found.append(claim)
        if time.monotonic() - told > TOLD_EVERY_S:
            bench.progress(f"{len(found)} claims checked, at {claim.what}")
            told = time.monotonic()
    return found


def _claims(bench: Workbench, local_only: bool) -> Iterator[Claim]:
    yield _ledger(bench)
    runs = bench.ledger.runs(bench.settings.remote)
    submissions = bench.ledger.submissions(bench.settings.remote)
    for run in runs:
        yield from _run_files(bench, run)
    yield from _imports(bench)
    for submission in submissions:
        yield from _submission_file(submission)
    if local_only:
        return
    for run in runs:
        if run.state not in NEVER_RAN and run.kernel.version is not None:
            yield _kernel(bench, run)
    yield from _strangers(bench, runs)
    yield from _datasets(bench)
    for submission in submissions:
        if submission.ref is not None:
            yield _submission(bench, submission)


# ---- this disk -----------------------------------------------------------------------------------


def _ledger(bench: Workbench) -> Claim:
    # In a connection of its own: a damaged page must not end the program.
    try:
        with sqlite3.connect(f"file:{bench.ledger.path}?mode=ro", uri=True) as db:
            said = str(db.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite3.DatabaseError as error:
        said = str(error)
    return Claim(
        "ledger",
        bench.ledger.path.name,
        "ok" if said == "ok" else "wrong",
        "" if said == "ok" else said,
        "" if said == "ok" else "Restore it from a backup.",
    )


def _file(kind: str, what: str, path: Path, sha256: str, next_step: str) -> Claim:
    if not path.is_file():
        return Claim(kind, what, "missing", f"{path} is not here", next_step)
    actual = sha256_file(path)
    if actual != sha256:
        detail = f"sha256 is {actual[:12]}, the ledger says {sha256[:12]}"
        return Claim(kind, what, "wrong", detail, next_step)
    return Claim(kind, what, "ok")


def _run_files(bench: Workbench, run: Run) -> Iterator[Claim]:
    again = f"harness pull {run.run_id}"
    if run.state not in NEVER_RAN:
        what, kept = f"{run.run_id}: {CODE_FILE}", kept_script(bench, run)
        if kept is None:
            yield Claim("script", what, "missing", "what was pushed is not here", again)
        elif source_sha256(kept) != run.script_sha256:
            yield Claim("script", what, "wrong", "it is not what was pushed", again)
        else:
            yield Claim("script", what, "ok")
    for file, is_local in bench.ledger.outputs(run.run_id):
        if is_local:
            path = bench.outputs_folder(run) / file.path
            yield _file(
                "output", f"{run.run_id}: {file.path}", path, file.sha256, f"{again} --checkpoints"
            )


def _imports(bench: Workbench) -> Iterator[Claim]:
    for item in bench.ledger.imports():
        folder = import_folder(bench, item.competition, item.name)
        again = f"harness import {item.name} --oof {item.oof_source} --test {item.test_source}"
        for name, sha256 in ((OOF_FILE, item.oof_sha256), (TEST_FILE, item.test_sha256)):
            yield _file("import", f"{item.name}: {name}", folder / name, sha256, again)


def _submission_file(submission: Submission) -> Iterator[Claim]:
    if submission.status == "REFUSED":
        return
    name = submission.csv.name
    again = f"harness rebuild {submission.csv} -o {submission.csv}"
    yield _file("submission", f"{name}: the file", submission.csv, submission.sha256, again)


# ---- the remote ----------------------------------------------------------------------------------


def _kernel(bench: Workbench, run: Run) -> Claim:
    what = f"{run.run_id}: {run.kernel}"
    again = f"harness push {run.spec.strategy} --force, with the options of {run.run_id}"
    source = bench.remote.kernel_source(run.kernel)
    if source is None:
        return Claim("kernel", what, "missing", "the service has no such version", again)
    if source_sha256(source[1]) != run.script_sha256:
        return Claim("kernel", what, "wrong", "it holds another script", again)
    try:
        status = bench.remote.kernel_status(run.kernel)
    except ReadRefused as error:
        return Claim("kernel", what, "open", f"its state is not told: {error.reason}")
    if run.state.is_final and status.state is not run.state:
        detail = f"it is {status.state.lower()} there, {run.state.lower()} in the ledger"
        return Claim("kernel", what, "wrong", detail, f"harness pull {run.run_id}")
    return Claim("kernel", what, "ok")


def _strangers(bench: Workbench, runs: list[Run]) -> Iterator[Claim]:
    """Versions that no run claims and that hold the script of one: something was pushed twice."""
    handles = {f"{run.kernel.owner}/{run.kernel.slug}": run.kernel for run in runs}
    for name, handle in handles.items():
        ours = [run for run in runs if f"{run.kernel.owner}/{run.kernel.slug}" == name]
        claimed = {run.kernel.version for run in ours}
        scripts = {run.script_sha256: run.run_id for run in ours if run.state not in NEVER_RAN}
        newest = bench.remote.kernel_source(replace(handle, version=None))
        for version in range(1, newest[0] + 1 if newest else 1):
            if version in claimed:
                continue
            stranger = bench.remote.kernel_source(replace(handle, version=version))
            digest = source_sha256(stranger[1] if stranger else "")
            if digest in scripts:
                yield Claim(
                    "kernel",
                    f"{name}/versions/{version}",
                    "wrong",
                    f"no run claims it, and it holds the script of {scripts[digest]}",
                    "Cancel or delete it on its page: it was pushed twice.",
                )


def _datasets(bench: Workbench) -> Iterator[Claim]:
    for name, digest, version in bench.ledger.datasets(bench.settings.remote):
        if version is None:
            continue  # an intent: the next push asks
        what = f"dataset {name} version {version}"
        handle = replace(Handle.parse(name), version=version)
        text = bench.remote.dataset_text(handle, MANIFEST)
        if text is None:
            yield Claim(
                "dataset", what, "missing", "the service has no such version", "harness push"
            )
            continue
        try:
            manifest = json.loads(text)
            sizes = {str(entry["path"]): int(entry["size"]) for entry in manifest["files"]}
            found = str(manifest["digest"])
        except (ValueError, KeyError, TypeError):
            yield Claim("dataset", what, "wrong", f"its {MANIFEST} is unreadable", "harness push")
            continue
        listed = bench.remote.dataset_files(handle)
        lost = sorted(path for path, size in sizes.items() if listed.get(path) != size)
        if found != digest:
            detail = f"it holds {found[:12]}, the ledger says {digest[:12]}"
            yield Claim("dataset", what, "wrong", detail, "harness push publishes it anew")
        elif lost:
            detail = f"{len(lost)} files are missing or of another size, first {lost[0]}"
            yield Claim("dataset", what, "wrong", detail, "harness push publishes it anew")
        else:
            yield Claim("dataset", what, "ok")


def _submission(bench: Workbench, submission: Submission) -> Claim:
    assert submission.ref is not None
    what = f"{submission.csv.name}: reference {submission.ref}"
    try:
        there = bench.remote.submission(submission.ref)
    except ReadRefused as error:
        return Claim("submission", what, "missing", error.reason, "Look at the competition's page.")
    if submission.nonce not in there.description:
        return Claim(
            "submission",
            what,
            "wrong",
            "that reference belongs to another submission",
            "Look at the competition's page.",
        )
    if submission.public_score is not None and there.public_score != submission.public_score:
        detail = (
            f"public score {there.public_score or 'none'} there, {submission.public_score} here"
        )
        return Claim("submission", what, "wrong", detail, "It was scored anew: harness leaderboard")
    return Claim("submission", what, "ok")
