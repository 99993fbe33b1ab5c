"""Nothing lost, nothing twice: random and enumerated misfortune, then the same command again, then a check.

    python -m tests.chaos.campaign --seeds 1000          random schedules
    python -m tests.chaos.campaign --points              SIGKILL at every write point of every command
    python -m tests.chaos.campaign --seed 417            one schedule again, with what every command said

A schedule starts from a prepared stage of the loop, lets one command run into trouble, runs the same
command again without any, finishes the loop and compares what the ledger, the disk and the local Kaggle
say. A seed always draws the same schedule; the moment at which a signal arrives between processes is
the operating system's.
"""

import argparse
import collections
import contextlib
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.injection import Injection, draw_fault, shorten_outages, shorten_timeouts
from tests.chaos.world import CANARY, Done, Running, World

# Command -> (stage it starts from, its arguments, rough number of its write points)
VERBS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "competition": ("empty", (), 29),
    "push": ("joined", ("push", "echo"), 549),
    "watch": ("ran", ("watch", "--follow"), 37),
    "pull": ("finished", ("pull",), 67),
    "pull-all": ("pulled", ("pull", "echo", "--checkpoints"), 54),
    "submit": ("pulled", ("blend-and-submit",), 142),
    "import": ("pulled", ("import", "foreign"), 77),
    "tick": ("queued", ("tick", "--follow"), 606),
    "package": ("joined", ("package", "code", "--publish"), 502),
    "chain": ("finished", ("push", "after_echo"), 172),
    "publish": ("pulled", ("publish", "echo", "--to", "kaggle-models", "--license", "Apache 2.0", "--force"), 176),
}  # fmt: skip
# What of the service each command asks: faults elsewhere would hit nothing.
CALLS = {
    "competition": ("*/*",),
    "push": ("*/*", "PUT /upload", "kernels", "datasets"),
    "watch": ("*/*", "kernels"),
    "pull": ("*/*", "GET /files", "kernels"),
    "pull-all": ("*/*", "GET /files", "kernels"),
    "submit": ("*/*", "PUT /upload", "competitions"),
    "import": ("*/*",),
    "tick": ("*/*", "PUT /upload", "GET /files", "kernels", "datasets"),
    "package": ("*/*", "PUT /upload", "GET /files", "datasets"),
    "chain": ("*/*", "PUT /upload", "GET /files", "kernels", "datasets"),
    "publish": ("*/*", "PUT /upload", "GET /files", "models"),
}
LOOP = (("push", "echo"), ("watch", "--follow"), ("pull",), ("blend-and-submit",))
# How much of the loop each command has behind it.
AFTER = {
    "competition": 0,
    "push": 1,
    "watch": 2,
    "pull": 3,
    "pull-all": 3,
    "submit": 4,
    "import": 3,
    # A push that was refused leaves the queue: what is refused would be refused again.
    "tick": 0,
    "package": 0,
    "chain": 0,  # and none of it as the others: see _rest
    "publish": 3,
}
LOST = "went away"  # the local Kaggle's word for a kernel whose machine was killed before it began
GRACE = {0, 1, 130, -signal.SIGKILL, -signal.SIGINT}  # how a command in trouble may end


@dataclass(frozen=True)
class Schedule:
    """Everything that will go wrong, and for which command."""

    seed: int
    verb: str
    faults: tuple[
        tuple[str, str, dict[str, Any], int, int], ...
    ] = ()  # kind, pattern, args, times, skip
    injection: Injection | None = None
    twin: bool = False  # the same command twice at once
    late_signal: tuple[int, float] | None = None  # number and seconds after the start
    server: Injection | None = None  # a server of its own, with its own bad moment
    serve: bool = False


@dataclass
class Outcome:
    """What a schedule did and what was wrong afterwards."""

    schedule: Schedule
    reruns: int = 0
    kills: int = 0
    faults_hit: int = 0
    violations: list[str] = field(default_factory=list)
    said: list[Done] = field(default_factory=list)
    seconds: float = 0.0


def draw_schedule(seed: int) -> Schedule:
    """The schedule of a seed."""
    draw = random.Random(seed)
    verb = draw.choices(list(VERBS), weights=[1, 4, 2, 3, 2, 4, 1, 3, 1, 2, 1])[0]
    faults = tuple(
        (
            *draw_fault(draw, CALLS[verb]),
            draw.choice([1, 1, 1, 2, 3]),
            draw.choice([0, 0, 0, 1, 2, 4, 8]),
        )
        for _ in range(draw.choice([0, 1, 1, 2, 3]))
    )
    points = VERBS[verb][2]
    injection, late, server, serve, twin = None, None, None, False, False
    kind = draw.choices(
        ["none", "kill", "interrupt", "full", "small-files", "clock", "late", "server", "twin"],
        weights=[3 if faults else 0, 4, 2, 2, 1, 1, 2, 3, 2],
    )[0]
    if kind in ("kill", "interrupt"):
        injection = Injection(kind, draw.randint(1, points))
    elif kind == "full":
        injection = Injection(kind, draw.randint(1, points), times=draw.choice([1, 2, 1000]))
    elif kind == "small-files":
        injection = Injection(kind, size=draw.choice([4000, 20_000, 70_000, 200_000]))
    elif kind == "clock":
        jump = draw.choice([-400 * 86400, -3600, 3600, 86400, 400 * 86400])
        injection = Injection(kind, draw.randint(0, 12), size=jump)
    elif kind == "late":
        late = (draw.choice([signal.SIGKILL, signal.SIGINT]), draw.uniform(0.0, 1.2))
    elif kind == "server":
        serve = True
        server = draw.choice([None, Injection("kill", draw.randint(1, points))])
    elif kind == "twin":
        twin = True
    return Schedule(seed, verb, faults, injection, twin, late, server, serve)


# ---- one schedule --------------------------------------------------------------------------------


class Campaign:
    """Runs schedules in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.base = world.base

    def arguments(self, verb: str) -> tuple[str, ...]:
        """A command's words; some name files of this world."""
        if verb == "competition":
            return ("local", "competition", "add", str(self.base / "data"), "--slug", "chaos_films",
                    "--solution", str(self.base / "solution.csv"))  # fmt: skip
        if verb == "import":
            return (*VERBS[verb][1], "--oof", str(self.base / "oof.csv"), "--test", str(self.base / "test.csv"))  # fmt: skip
        return VERBS[verb][1]

    def play(self, schedule: Schedule) -> Outcome:
        """Trouble, the same command again, the rest of the loop, and the check."""
        started = time.monotonic()
        outcome = Outcome(schedule)
        world = self.world
        world.restore(VERBS[schedule.verb][0])
        try:
            self._trouble(schedule, outcome)
            self._recover(schedule, outcome)
            outcome.violations += list(self._violations(outcome))
        finally:
            for pid in world.wait_for_kernels(15):
                outcome.violations.append(f"process {pid} is left over: {command_of(pid)}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            world.wait_for_kernels(5)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _trouble(self, schedule: Schedule, outcome: Outcome) -> None:
        world, words = self.world, self.arguments(schedule.verb)
        self._arm(schedule)
        server = self._serve(schedule.server) if schedule.serve else None

        def prepare() -> None:
            shorten_outages()
            # Only for a server that hangs: a busy machine is slow too.
            if any(fault[0] == "slow" for fault in schedule.faults):
                shorten_timeouts()
            if schedule.injection is not None:
                schedule.injection.arm(world.work)

        running = [world.start(words, prepare)]
        if schedule.twin:
            running.append(world.start(words, prepare))
        if schedule.late_signal is not None:
            number, seconds = schedule.late_signal
            time.sleep(seconds)
            running[0].send(number)
        for process in running:
            done = process.wait()
            outcome.said.append(done)
            outcome.kills += done.code in (-signal.SIGKILL, 130, -signal.SIGINT)
            outcome.violations += list(self._manners(done))
        if schedule.twin and not schedule.faults:
            outcome.violations += [
                f"one of two at once ended with {done.code}: {done.err[-300:]}"
                for done in outcome.said
                if done.code != 0
            ]
        if server is not None:
            server.send(signal.SIGKILL)
            server.wait()
            outcome.kills += 1
        outcome.faults_hit = self._disarm(schedule)

    def _manners(self, done: Done) -> Iterator[str]:
        if done.hung:
            yield f"{done.arguments[0]} hung"
        elif done.code not in GRACE:
            yield f"{done.arguments[0]} ended with {done.code}: {done.err[-600:]}"
        elif "Traceback" in done.err:
            yield f"a traceback: {done.err[-600:]}"
        if CANARY in done.out + done.err:
            yield "a secret on the terminal"
        # A tick tells what failed line by line and has no one error to end with.
        reason = "" if done.arguments[0] == "tick" else "error:"
        if done.code == 1 and not (done.err.strip() and reason in done.err):
            yield f"{done.arguments[0]} failed without a reason: {done.err[-300:]!r}"
        if done.code == 130 and "again" not in done.err:
            yield f"{done.arguments[0]} was interrupted without a word on how to go on"

    def _recover(self, schedule: Schedule, outcome: Outcome) -> None:
        """The same command once more, then the whole loop; twice where a machine was lost."""
        again = self.world.run(*self.arguments(schedule.verb))
        outcome.said.append(again)
        outcome.reruns += 1
        excused = self._lost_kernels()
        if again.code != 0 and not excused:
            outcome.violations.append(
                f"the same command again ended with {again.code}: {again.err[-600:]}"
            )
        for attempt in range(2):
            bad = [
                done for words in self._rest(schedule) if (done := self._again(words, outcome)).code
            ]
            if not bad:
                return
            if attempt or not self._lost_kernels():
                outcome.violations.append(
                    f"afterwards {bad[0].arguments} ended with {bad[0].code}: {bad[0].err[-600:]}"
                )
                return

    def _rest(self, schedule: Schedule) -> Sequence[tuple[str, ...]]:
        """What is left of the loop after a command; all of it where a kernel was lost.

        The last step is the dearest: only every fourth schedule that is not about it goes so far.
        """
        if schedule.verb == "competition":
            self.world.configure()
        end = len(LOOP) if self._submits(schedule) else len(LOOP) - 1
        if schedule.verb == "chain":
            # It waits in the queue while the run that it starts from is not known to have ended.
            return (self.arguments("chain"), ("tick", "--follow"), *LOOP[1:end])
        if self._lost_kernels():
            return LOOP[:end]
        return LOOP[AFTER[schedule.verb] : end]

    def _submits(self, schedule: Schedule) -> bool:
        return schedule.verb == "submit" or schedule.seed % 4 == 0

    def _again(self, words: tuple[str, ...], outcome: Outcome) -> Done:
        done = self.world.run(*words)
        outcome.said.append(done)
        outcome.violations += list(self._manners(done))
        return done

    # ---- the local Kaggle ------------------------------------------------------------------------

    def _state(self) -> Any:
        from harness.emulator import State

        return State(self.world.kaggle)

    def _arm(self, schedule: Schedule) -> None:
        if not schedule.faults or schedule.verb == "competition":
            return
        from harness.emulator import faults

        state = self._state()
        for kind, pattern, arguments, times, skip in schedule.faults:
            faults.add(state, pattern, kind, arguments, times=times, skip=skip)
        state.close()

    def _disarm(self, schedule: Schedule) -> int:
        """Clear all faults; how many requests they hit."""
        if not schedule.faults or not (self.world.kaggle / "state.sqlite").is_file():
            return 0
        from harness.emulator import faults

        state = self._state()
        left = sum(item["times"] for item in faults.listed(state))
        faults.clear(state)
        state.close()
        return sum(item[3] for item in schedule.faults) - left

    def _serve(self, injection: Injection | None) -> Running:
        """A server in a process of its own, as `harness local serve` keeps one."""
        world = self.world
        running = world.start(
            ("local", "serve"), lambda: injection.arm(world.work) if injection else None
        )
        deadline = time.monotonic() + 20
        while not (world.kaggle / "server.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
            if os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break  # killed before it could answer
        return running

    def _lost_kernels(self) -> bool:
        if not (self.world.kaggle / "state.sqlite").is_file():
            return False
        return any(LOST in (row["failure"] or "") for row in self._rows("kernel_versions"))

    def _rows(self, table: str, where: str = "") -> list[sqlite3.Row]:
        with contextlib.closing(sqlite3.connect(self.world.kaggle / "state.sqlite")) as db:
            db.row_factory = sqlite3.Row
            return db.execute(f"SELECT * FROM {table} {where}").fetchall()

    # ---- what must hold --------------------------------------------------------------------------

    def _violations(self, outcome: Outcome) -> Iterator[str]:
        yield from self._databases()
        yield from self._kernels(2 if outcome.schedule.verb == "chain" else 1)
        yield from self._datasets()
        yield from self._models(int(outcome.schedule.verb == "publish"))
        yield from self._submissions(int(self._submits(outcome.schedule)))
        yield from self._files()
        yield from self._locks()
        yield from self._secrets()
        if outcome.schedule.seed % 4 == 0:
            yield from self._own_check()
        if self.world.tree_digest() != self.world.originals:
            yield "something that is only read was changed"

    def _own_check(self) -> Iterator[str]:
        """What the program's own check says; it asks in another way than this file does."""
        done = self.world.run("verify", "--json")
        if done.code != 0:
            yield f"verify: {(done.out + done.err)[-600:]}"

    def _ledger(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.world.state / "ledger.sqlite3")
        db.row_factory = sqlite3.Row
        return db

    def _databases(self) -> Iterator[str]:
        for path in (self.world.state / "ledger.sqlite3", self.world.kaggle / "state.sqlite"):
            with contextlib.closing(sqlite3.connect(path)) as db:
                said = db.execute("PRAGMA integrity_check").fetchone()[0]
                if said != "ok":
                    yield f"{path.name}: {said}"

    def _versions(self, where: str = "") -> list[sqlite3.Row]:
        """Kernel versions, each with OWNER/SLUG of its kernel."""
        return self._rows(
            "(SELECT v.*, k.owner || '/' || k.slug AS handle FROM kernel_versions v JOIN kernels k ON k.id = v.kernel)",
            where,
        )

    def _kernels(self, wanted: int) -> Iterator[str]:
        remote = {
            (row["handle"], row["number"]): row
            for row in self._versions("WHERE status != 'NEW_SCRIPT'")
        }
        with contextlib.closing(self._ledger()) as db:
            runs = db.execute("SELECT * FROM runs").fetchall()
        for run in runs:
            if run["state"] == "INTENT":
                yield f"{run['run_id']} is still unconfirmed"
            if run["state"] in ("INTENT", "REJECTED"):
                continue
            found = remote.pop((run["kernel"], run["version"]), None)
            if found is None:
                yield f"{run['run_id']} claims version {run['version']}, which is not there or twice claimed"
            elif hashlib.sha256(found["source"].encode()).hexdigest() != run["script_sha256"]:
                yield f"{run['run_id']}: version {run['version']} holds another script"
            elif found["status"] != run["state"]:
                yield f"{run['run_id']} is {run['state']} here and {found['status']} there"
        yield from (f"version {number} of {handle} is in no ledger" for handle, number in remote)
        good = [row["handle"] for row in self._versions() if LOST not in (row["failure"] or "")]
        if len(good) != wanted or len(set(good)) != wanted:
            yield f"{len(good)} kernel versions for {wanted} intent{'s' * (wanted > 1)}"

    def _datasets(self) -> Iterator[str]:
        for dataset in self._rows("datasets"):
            contents = []
            for version in self._rows("dataset_versions", f"WHERE dataset = {dataset['id']}"):
                files = self._rows("dataset_files", f"WHERE version = {version['id']}")
                contents.append(tuple(sorted((row["path"], row["sha256"]) for row in files)))
            if len(set(contents)) != len(contents):
                yield f"dataset {dataset['slug']}: {len(contents)} versions, {len(set(contents))} contents"

    def _models(self, wanted: int) -> Iterator[str]:
        versions = [row["id"] for row in self._rows("model_versions")]
        if len(versions) != wanted:
            yield f"{len(versions)} versions of a model, {wanted} intended"
        for version in versions:
            there = {
                row["path"]: row["sha256"]
                for row in self._rows("model_files", f"WHERE version = {version}")
            }
            here = {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in (self.world.state / "publications").glob("*/*")
            }
            if there != here:
                yield f"the published model holds {sorted(there)}, not the files of {sorted(here)}"

    def _submissions(self, wanted: int) -> Iterator[str]:
        remote = {row["ref"]: row for row in self._rows("submissions")}
        with contextlib.closing(self._ledger()) as db:
            known = db.execute("SELECT * FROM submissions WHERE ref IS NOT NULL").fetchall()
            open_ones = db.execute("SELECT * FROM submissions WHERE status = 'INTENT'").fetchall()
        if len(remote) != wanted or len(known) != wanted:
            yield f"{len(remote)} submissions there, {len(known)} in the ledger, {wanted} intended"
        if open_ones:
            yield "a submission is still unconfirmed"
        for row in known:
            found = remote.get(row["ref"])
            csv_file = Path(row["csv"])
            if found is None or found["sha256"] != row["sha256"]:
                yield f"submission {row['ref']} is not the file that the ledger names"
            elif hashlib.sha256(csv_file.read_bytes()).hexdigest() != row["sha256"]:
                yield f"{csv_file.name} is not what was submitted"
            if row["status"] != "COMPLETE" or not row["public_score"]:
                yield f"submission {row['ref']} has no score in the ledger"
            record = csv_file.with_suffix(".json")
            if not record.is_file() or json.loads(record.read_text())["submission"] is None:
                yield f"{record.name} does not tell of the submission"

    def _files(self) -> Iterator[str]:
        with contextlib.closing(self._ledger()) as db:
            runs = db.execute("SELECT * FROM runs WHERE state = 'COMPLETE'").fetchall()
            outputs = db.execute("SELECT * FROM outputs").fetchall()
        sessions = {(row["handle"], row["number"]): row["id"] for row in self._versions()}
        for run in runs:
            here = self.world.state / "runs" / run["run_id"]
            there = (
                self.world.kaggle
                / "runs"
                / f"{sessions[run['kernel'], run['version']]:08d}"
                / "working"
            )
            if not run["pulled_at"]:
                yield f"{run['run_id']} was not pulled"
                continue
            try:
                manifest = json.loads((here / "outputs" / "manifest.json").read_text())
            except (OSError, ValueError) as error:
                yield f"manifest.json of {run['run_id']}: {error}"
                continue
            claims = {row["path"]: row for row in outputs if row["run_id"] == run["run_id"]}
            for entry in [*manifest["files"], {"path": "manifest.json"}]:
                path = here / "outputs" / entry["path"]
                if entry["path"] != "manifest.json":
                    claim = claims.get(entry["path"])
                    if claim is None or claim["sha256"] != entry["sha256"]:
                        yield f"the ledger does not know {entry['path']} as the manifest does"
                    elif bool(claim["is_local"]) != path.is_file():
                        yield f"the ledger is wrong about {entry['path']} being here"
                if path.is_file() and path.read_bytes() != (there / entry["path"]).read_bytes():
                    yield f"{entry['path']} is not what the kernel wrote"
            script = here / "script.py"
            if (
                not script.is_file()
                or hashlib.sha256(script.read_bytes()).hexdigest() != run["script_sha256"]
            ):
                yield f"{run['run_id']}: script.py is not what was pushed"
        yield from (
            f"{path.relative_to(self.world.work)} was left behind"
            for path in self.world.work.rglob("*.part*")
            if self.world.kaggle not in path.parents
        )

    def _locks(self) -> Iterator[str]:
        for path in (self.world.state / "locks").glob("*.lock"):
            with path.open("a") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield f"lock {path.name} is still held"

    def _secrets(self) -> Iterator[str]:
        for path in self.world.work.rglob("*"):
            if path.is_file() and not path.is_symlink() and CANARY.encode() in path.read_bytes():
                yield f"a secret in {path.relative_to(self.world.work)}"


def command_of(pid: int) -> str:
    """A process's command line."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    return "?"


# ---- many schedules ------------------------------------------------------------------------------


def points_of(campaign: Campaign, verb: str) -> list[str]:
    """Every write point of a command, in order, from a run without trouble."""
    world = campaign.world
    world.restore(VERBS[verb][0])
    report = campaign.base / "points.json"
    counted = Injection("count")
    world.run(*campaign.arguments(verb), prepare=lambda: counted.arm(world.work, report))
    world.wait_for_kernels()
    labels: list[str] = json.loads(report.read_text())
    return labels


def enumerated(
    campaign: Campaign, verbs: Sequence[str], kind: str, stride: int, offset: int
) -> Iterator[Schedule]:
    """A kill at every write point of these commands (every ``stride``-th from ``offset`` on)."""
    number = 0
    for verb in verbs:
        labels = points_of(campaign, verb)
        for point in range(1, len(labels) + 1):
            number += 1
            if number % stride == offset % stride:
                yield Schedule(-number, verb, injection=Injection(kind, point))


_SAVE = "kernels.KernelsApiService/SaveKernel"
_STATUS = "kernels.KernelsApiService/GetKernelSessionStatus"
_SUBMIT = "competitions.CompetitionApiService/CreateSubmission"
_LIST = "kernels.KernelsApiService/ListKernelSessionOutput"
_NO_NUMBER = {"body": {"versionNumber": 0, "versionNumberNullable": 0}}
_NO_REFERENCE = {"body": {"ref": 0}}

# What earlier campaigns found, with the seed or the point at which they did, boiled down.
REGRESSIONS = (
    ("two pulls wrote one file under each other's hands", Schedule(64, "pull", twin=True)),
    ("two blends wrote one record under each other's hands", Schedule(23, "submit", twin=True)),
    (
        "a push answered without a number was called refused, and pushed again",
        Schedule(67, "push", faults=(("patch", _SAVE, _NO_NUMBER, 1, 0),)),
    ),
    (
        "a submission answered without a reference was called refused, and sent again",
        Schedule(46, "submit", faults=(("patch", "*/CreateSubmission", _NO_REFERENCE, 1, 0),)),
    ),
    (
        "an answer that was no JSON ended in a traceback",
        Schedule(45, "push", faults=(("corrupt", "*/*", {"at": 0}, 2, 3), ("cut", _SAVE, {"bytes": 5}, 1, 0))),
    ),
    (
        "no space for the copy of the code ended in a traceback",
        Schedule(51, "push", injection=Injection("full", 1, 1000, at="harness-kernels-code")),
    ),
    (
        "a database without space ended in a traceback",
        Schedule(62, "submit", injection=Injection("full", 6, 1000, at="sqlite")),
    ),
    (
        "a ledger that could not grow was said to be no ledger",
        Schedule(65, "pull", injection=Injection("small-files", size=4000)),
    ),
    (
        "half a script was left in the folder of a push that never went out",
        Schedule(-90, "push", injection=Injection("kill", 2, at="script.py")),
    ),
    (
        "a damaged sample submission was kept for good",
        Schedule(272, "import", faults=(("corrupt", "*/*", {"at": 0}, 2, 0),)),
    ),
    (
        "a manifest that came damaged replaced the good one that another pull had fetched",
        Schedule(865, "pull", faults=(("corrupt", "GET /files", {"at": 331}, 2, 4),), twin=True),
    ),
    (
        "a sample submission that was damaged twice in the same way was kept for good",
        Schedule(569, "submit", faults=(("corrupt", "*/*", {"at": 0}, 3, 1),)),
    ),
    (
        "a run that was complete, then said to have failed, was not asked about again",
        Schedule(534, "pull", faults=(("answer", _STATUS, {"body": {"status": "ERROR"}}, 1, 0),)),
    ),
    (
        "a file that went in under an earlier day's name had no word of it in its record",
        Schedule(544, "submit", faults=(("patch", _SUBMIT, {"body": {"ref": 0}}, 3, 0),), injection=Injection("clock", 2, size=-34560000)),
    ),
    (
        "two packagings at once wrote the code's copy under each other's hands",
        Schedule(520, "package", twin=True),
    ),
    (
        "a clock that was put back kept a submission waiting for its score",
        Schedule(86, "submit", injection=Injection("clock", 9, size=3600)),
    ),
    (
        "the place of an upload was half noted, and that note stayed for good",
        Schedule(232, "push", injection=Injection("kill", 2, at="/uploads/local/")),
    ),
    (
        "a competition's file that broke off on its way ended in a traceback",
        Schedule(246, "import", faults=(("cut", "GET /files", {"bytes": 16}, 1, 0),)),
    ),
    (
        "the local Kaggle patched an answer that it had corrupted, and stumbled",
        Schedule(2043, "pull", faults=(("corrupt", _LIST, {"at": 0}, 1, 0), ("patch", _LIST, {"body": {"log": ""}}, 1, 0))),
    ),
    (
        "a version that was not listed for a moment was published again",
        Schedule(974, "chain", faults=(("error", "*/ListDatasetFiles", {"status": 404}, 1, 0),)),
    ),
    (
        "a record that came damaged made a second version of a published model",
        Schedule(152, "publish", faults=(("corrupt", "GET /files", {"at": 13}, 1, 4),), twin=True),
    ),
    ("two publications of a run gathered in one folder", Schedule(1, "publish", twin=True)),
    (
        "a dataset's file that broke off on its way ended in a traceback",
        Schedule(-246, "package", faults=(("cut", "GET /files", {"bytes": 16}, 1, 0),)),
    ),
)  # fmt: skip


@dataclass
class Summary:
    """The figures of a campaign."""

    schedules: int = 0
    seconds: float = 0.0
    reruns: int = 0
    kills: int = 0
    faults_hit: int = 0
    faults_armed: dict[str, int] = field(default_factory=collections.Counter)
    troubles: dict[str, int] = field(default_factory=collections.Counter)
    verbs: dict[str, int] = field(default_factory=collections.Counter)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one schedule."""
        schedule = outcome.schedule
        self.schedules += 1
        self.reruns += outcome.reruns
        self.kills += outcome.kills
        self.faults_hit += outcome.faults_hit
        self.verbs[schedule.verb] += 1
        for kind, _, arguments, _, _ in schedule.faults:
            name = f"{kind} {arguments['status']}" if kind == "error" else kind
            self.faults_armed[name] += 1
        trouble = (
            (schedule.injection.kind if schedule.injection else "")
            or ("two at once" if schedule.twin else "")
            or ("late signal" if schedule.late_signal else "")
            or ("server killed at a point" if schedule.server else "")
            or ("server restarted" if schedule.serve else "faults only")
        )
        self.troubles[trouble] += 1
        if outcome.violations:
            self.failed.append(
                {
                    "schedule": asdict(schedule),
                    "violations": list(dict.fromkeys(outcome.violations)),
                }
            )


def run_campaign(
    schedules: Iterator[Schedule], campaign: Campaign, limit_s: float, verbose: bool, told: bool
) -> Summary:
    """Play schedules until they or the time end."""
    summary, started = Summary(), time.monotonic()
    for schedule in schedules:
        known = any(schedule is item for _, item in REGRESSIONS)
        if not known and time.monotonic() - started > limit_s:
            break
        outcome = campaign.play(schedule)
        summary.add(outcome)
        if verbose:
            for done in outcome.said:
                print(
                    f"--- {done.arguments} -> {done.code} in {done.seconds:.1f} s\n{done.out}{done.err}"
                )
        if outcome.violations or verbose:
            print(f"seed {schedule.seed}: {schedule}", file=sys.stderr)
            for text in dict.fromkeys(outcome.violations):
                print(f"    VIOLATION {text}", file=sys.stderr, flush=True)
        if told and summary.schedules % 25 == 0:
            spent = time.monotonic() - started
            print(
                f"{summary.schedules} schedules, {len(summary.failed)} failed, {spent:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    summary.seconds = round(time.monotonic() - started, 1)
    return summary


@contextlib.contextmanager
def campaign_in(folder: Path | None) -> Iterator[Campaign]:
    """A built world in a folder, or in one that is removed afterwards."""
    base = folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    base.mkdir(parents=True, exist_ok=True)
    try:
        world = World(base)
        world.build()
        yield Campaign(world)
    finally:
        if folder is None:
            shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Run from the command line; exit code 1 when something was violated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=0, help="random schedules from --first on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--seed", type=int, action="append", default=[], help="this seed; may be repeated"
    )
    parser.add_argument("--regressions", action="store_true", help="what was found before")
    parser.add_argument("--points", action="store_true", help="SIGKILL at every write point")
    parser.add_argument(
        "--kind", default="kill", choices=["kill", "interrupt", "full"], help="with --points"
    )
    parser.add_argument(
        "--verb",
        choices=list(VERBS),
        action="append",
        help="with --points or --seeds: schedules of this command only; may be repeated",
    )
    parser.add_argument("--stride", type=int, default=1, help="with --points: every n-th only")
    parser.add_argument("--offset", type=int, default=0, help="with --stride: from which on")
    parser.add_argument(
        "--limit", type=float, default=1e9, help="seconds after which no new schedule starts"
    )
    parser.add_argument("--folder", type=Path, help="keep the world here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    chosen = parser.parse_args()
    with campaign_in(chosen.folder) as campaign:

        def schedules() -> Iterator[Schedule]:
            yield from map(draw_schedule, chosen.seed)
            if chosen.regressions:
                yield from (schedule for _, schedule in REGRESSIONS)
            if chosen.points:
                yield from enumerated(
                    campaign, chosen.verb or list(VERBS), chosen.kind, chosen.stride, chosen.offset
                )
            drawn = map(draw_schedule, range(chosen.first, chosen.first + chosen.seeds))
            yield from (item for item in drawn if not chosen.verb or item.verb in chosen.verb)

        summary = run_campaign(schedules(), campaign, chosen.limit, chosen.verbose, not chosen.json)
    if chosen.json:
        print(json.dumps(vars(summary), indent=1))  # asdict() makes nonsense of counters
    else:
        print(f"{summary.schedules} schedules in {summary.seconds:.0f} s: {summary.reruns} re-runs, "
              f"{summary.kills} kills, {summary.faults_hit} requests hit by faults")  # fmt: skip
        for title, counts in (("commands", summary.verbs), ("troubles", summary.troubles), ("faults armed", summary.faults_armed)):  # fmt: skip
            print(f"{title}: " + ", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
        print(f"schedules with violations: {len(summary.failed)}")
    sys.exit(1 if summary.failed else 0)


if __name__ == "__main__":
    main()
