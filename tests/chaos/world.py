"""The campaign's world: a workspace whose kernels are standard-library scripts, and quick processes.

One small parent imports the program once and forks for every command, so that a schedule costs its work
and not its imports. Stages of the loop are prepared once and copied back for each schedule, always to
the same path: the ledger remembers absolute ones.
"""

import contextlib
import ctypes
import dataclasses
import hashlib
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CANARY = "KGAT_canary_5e1f0c2b9a7d4836"
COMPETITION = "chaos-films"
PR_SET_CHILD_SUBREAPER = 36
LONGEST_SLEEP_S = 0.05  # waits of the program are cut to this: back-off is counted, not sat out
COMMAND_LIMIT_S = 120.0

ENTRY = '''
"""The first and last minute of a kernel, on the standard library alone."""

import csv
import hashlib
import json
import os
from pathlib import Path

from kernels.config import Competition
from kernels.contract import oof_columns, prediction_columns, record_files, write_json


def run_kernel(pipeline, competition: Competition, read_tables, profiles, spec, datasets, script, *_):
    """Predict, then write what the run contract asks for."""
    root = Path(os.environ.get("HARNESS_KAGGLE_ROOT", "/kaggle"))
    os.chdir(root / "working")
    data = next(path.parent for path in (root / "input").rglob("val.csv"))
    oof, test = pipeline(*read_tables(data))
    here = Path.cwd()
    for name, columns, rows in (
        ("oof_predictions.csv", oof_columns(competition.target_columns), oof),
        ("test_predictions.csv", prediction_columns(competition.target_columns), test),
    ):
        with (here / name).open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\\n")
            writer.writerows([columns, *rows])
    (here / "checkpoints").mkdir()
    (here / "checkpoints" / "echo_seed0_fold0.pth").write_bytes(b"w" * 5000)
    write_json(
        here / "metrics.json",
        {"metric": "auc", "score_mean_fold": 0.9, "score_pooled": 0.9, "seconds": 0.1, "folds": []},
    )
    digest = hashlib.sha256(Path(script).resolve().read_bytes()).hexdigest()
    write_json(
        here / "manifest.json",
        {
            "schema_version": 1,
            "spec": spec,
            "script_sha256": digest,
            "config": {},
            "versions": {},
            "files": [vars(record) for record in record_files(here)],
        },
    )
    print("echo is done", flush=True)
'''

PIPELINE = '''
"""Scores by the label itself with a little noise: nothing is learned here."""

import random


def run(labelled, test_ids):
    """Out-of-fold and test rows of the run contract."""
    noise = random.Random(7)
    oof = [
        (name, 0, number % 2, target, round((target + 2 * noise.random()) / 3, 6))
        for number, (name, target) in enumerate(labelled)
    ]
    test = [(name, 0, fold, round(noise.random(), 6)) for fold in range(2) for name in test_ids]
    return oof, test
'''

COMPETITION_MODULE = f'''
"""A competition of two columns."""

import csv

from kernels.config import Competition

COMPETITION = Competition(
    slug="{COMPETITION}", title="Chaos films", id_column="image_id", target_columns=("label",)
)


def read_tables(folder):
    """Labelled rows and the ids of the test rows."""
    with (folder / "val.csv").open(encoding="utf-8") as handle:
        labelled = [(row["image_id"], int(row["label"])) for row in csv.DictReader(handle)]
    with (folder / "sample_submission.csv").open(encoding="utf-8") as handle:
        return labelled, [row["image_id"] for row in csv.DictReader(handle)]
'''

STRATEGY = '''
"""Nothing is learned here."""

from kernels.config import FeaturesConfig, Profiles, Strategy

STRATEGY = Strategy(
    name="echo",
    title="Echo",
    competition="chaos_films",
    pipeline="echo",
    profiles=Profiles(FeaturesConfig(), FeaturesConfig(), FeaturesConfig()),
)
'''
CHAINED = STRATEGY.replace('name="echo"', 'name="after_echo"').replace(
    "    pipeline", '    needs=("echo",),\n    pipeline'
)


@dataclass(frozen=True)
class Done:
    """What a command said and how it ended; a negative code is the signal that ended it."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    hung: bool
    seconds: float


class World:
    """A folder with everything, and ways to run the program in it."""

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.work = self.base / "work"
        self.stages = self.base / "stages"
        self.state = self.work / ".harness"
        self.kaggle = self.state / "local-kaggle"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.base / "home"),
            "LANG": "C.UTF-8",
            "KAGGLE_API_TOKEN": CANARY,
            "KAGGLE_KEY": CANARY,
            "HARNESS_PROFILE": "small",
            # Whoever sends anything through a proxy fails.
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        }
        self._number = 0

    # ---- making it -------------------------------------------------------------------------------

    def build(self) -> None:
        """Write the workspace, import the program, and prepare every stage of the loop."""
        self._write_kernels()
        self._write_data()
        preload(self.base)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become ours to find
        self.fresh_work()
        self.keep("empty")
        self.must("local", "competition", "add", str(self.base / "data"), "--slug", "chaos_films",
                  "--solution", str(self.base / "solution.csv"))  # fmt: skip
        self.configure()
        self.keep("joined")
        self.enqueue()
        self.keep("queued")
        self.restore("joined")
        self.must("push", "echo")
        self.wait_for_kernels()
        self.keep("ran")
        self.must("watch", "--follow")
        self.keep("finished")
        self.must("pull")
        self.keep("pulled")
        self.originals = self.tree_digest()

    def _write_kernels(self) -> None:
        files = {
            "__init__.py": "",
            "blocks/__init__.py": "",
            "blocks/entry.py": ENTRY.lstrip(),
            "competitions/__init__.py": "",
            "competitions/chaos_films.py": COMPETITION_MODULE.lstrip(),
            "pipelines/__init__.py": "",
            "pipelines/echo.py": PIPELINE.lstrip(),
            "strategies/__init__.py": "",
            "strategies/echo.py": STRATEGY.lstrip(),
            "strategies/after_echo.py": CHAINED.lstrip(),
        }
        for name, text in files.items():
            path = self.base / "kernels" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        for path in (ROOT / "kernels").glob("[a-z]*.py"):  # config, contract: what harness imports
            shutil.copy(path, self.base / "kernels")
        shutil.copy(ROOT / "kernels/blocks/process.py", self.base / "kernels" / "blocks")
        shutil.copytree(
            ROOT / "kernels" / "stats",
            self.base / "kernels" / "stats",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (self.base / "kernels" / "templates").mkdir()
        shutil.copy(ROOT / "kernels/templates/script.py.tmpl", self.base / "kernels" / "templates")

    def _write_data(self) -> None:
        data = self.base / "data"
        data.mkdir()
        draw = random.Random(1)
        labels = [(f"v{i:03d}", i // 2 % 2) for i in range(40)]
        tests = [(f"t{i:03d}", i % 2) for i in range(20)]
        table(data / "val.csv", ["image_id", "label"], labels)
        table(data / "sample_submission.csv", ["image_id", "label"], [(n, 0) for n, _ in tests])
        table(self.base / "solution.csv", ["image_id", "label"], tests)
        table(
            self.base / "oof.csv",
            ["id", "label"],
            [(n, (t + draw.random()) / 2) for n, t in labels],
        )
        table(
            self.base / "test.csv",
            ["id", "label"],
            [(n, (t + draw.random()) / 2) for n, t in tests],
        )
        home = self.base / "home" / ".kaggle"
        home.mkdir(parents=True)
        (home / "access_token").write_text(CANARY)
        (home / "kaggle.json").write_text(json.dumps({"username": "somebody", "key": CANARY}))

    def fresh_work(self) -> None:
        """An empty workspace on the shared kernels."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        (self.work / "kernels").symlink_to(self.base / "kernels")
        (self.work / "pyproject.toml").write_text("[tool.harness]\n")

    def configure(self) -> None:
        """Quick choices for the local Kaggle."""
        from harness.emulator import State

        state = State(self.kaggle)
        state.configure(sandbox="plain", dataset_delay_s=0.05, max_running=2)
        state.close()

    def enqueue(self) -> None:
        """Put the strategy's push into the queue, as if no session had been free."""
        from harness.ledger import Ledger, utc_now
        from harness.records import QueuedSpec, RunSpec

        spec = RunSpec(strategy="echo", profile="small")
        with contextlib.closing(Ledger(self.state / "ledger.sqlite3")) as ledger:
            ledger.enqueue(
                QueuedSpec("local", spec, force=False, created_at=utc_now(), reason="No session.")
            )

    def keep(self, stage: str) -> None:
        """Remember the workspace as it is."""
        shutil.copytree(self.work, self.stages / stage, symlinks=True)

    def restore(self, stage: str) -> None:
        """Put the workspace back to a stage."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.stages / stage, self.work, symlinks=True)

    def tree_digest(self) -> str:
        """A digest over everything that the program only ever reads."""
        total = hashlib.sha256()
        for top in ("data", "kernels", "home", "solution.csv", "oof.csv", "test.csv"):
            place = self.base / top
            for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
                if path.is_file() and "__pycache__" not in path.parts:
                    total.update(path.relative_to(self.base).as_posix().encode())
                    total.update(path.read_bytes())
        return total.hexdigest()

    # ---- running commands ------------------------------------------------------------------------

    def start(
        self, arguments: Sequence[str], prepare: Callable[[], None] = lambda: None
    ) -> "Running":
        """Start a command in a process of its own; ``prepare`` runs there first."""
        self._number += 1
        out, err = (self.base / f"{name}-{self._number % 50}" for name in ("out", "err"))
        pid = os.fork()
        if pid == 0:
            self._child(arguments, prepare, out, err)
        return Running(tuple(arguments), pid, out, err)

    def _child(
        self, arguments: Sequence[str], prepare: Callable[[], None], out: Path, err: Path
    ) -> None:
        code = 70
        try:
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdin, sys.stdout, sys.stderr = (
                open(n, mode, closefd=False, encoding="utf-8")
                for n, mode in ((0, "r"), (1, "w"), (2, "w"))
            )
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program itself is reached
            os.environ.clear()
            os.environ.update(self.environment)
            os.chdir(self.work)
            sleep = time.sleep
            time.sleep = lambda seconds: sleep(min(seconds, LONGEST_SLEEP_S))
            sys.argv = ["harness", *arguments]
            prepare()
            from harness.cli import main

            signal.signal(signal.SIGINT, signal.default_int_handler)
            main(args=list(arguments), prog_name="harness")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 (whatever it is, it must be seen)
            traceback.print_exc()
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    def run(self, *arguments: str, prepare: Callable[[], None] = lambda: None) -> Done:
        """Run a command to its end."""
        return self.start(arguments, prepare).wait()

    def must(self, *arguments: str) -> Done:
        """Run a command that has to succeed."""
        done = self.run(*arguments)
        if done.code != 0:
            raise AssertionError(f"{arguments} ended with {done.code}:\n{done.err}")
        return done

    def wait_for_kernels(self, limit_s: float = 60.0) -> list[int]:
        """Wait until no process is left below this one; those that stayed."""
        deadline = time.monotonic() + limit_s
        while True:
            left = reap()
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.02)


@dataclass
class Running:
    """A command on its way."""

    arguments: tuple[str, ...]
    pid: int
    out: Path
    err: Path
    started: float = dataclasses.field(default_factory=time.monotonic)

    def send(self, number: int) -> None:
        """Send a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, limit_s: float = COMMAND_LIMIT_S) -> Done:
        """Wait for the end; what takes too long is killed and marked as hung."""
        hung = False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if not hung and time.monotonic() - self.started > limit_s:
                hung = True
                self.send(signal.SIGKILL)
            time.sleep(0.005)
        return Done(
            self.arguments,
            os.waitstatus_to_exitcode(status),
            self.out.read_text("utf-8", "replace") if self.out.is_file() else "",
            self.err.read_text("utf-8", "replace") if self.err.is_file() else "",
            hung,
            time.monotonic() - self.started,
        )


def preload(base: Path) -> None:
    """Import the program and all it may import later, with this world's kernels."""
    sys.path.insert(0, str(base))
    names = ["pandas", "numpy", "requests", "kagglesdk", "filelock", "rich.table", "rich.console",
             "harness.cli", "harness.emulator", "harness.emulator.server", "harness.emulator.grader",
             "harness.remote", "kernels.strategies.echo", "kernels.strategies.after_echo", "kernels.competitions.chaos_films"]  # fmt: skip
    for name in names:
        importlib.import_module(name)
    import harness.commands

    for item in pkgutil.iter_modules(harness.commands.__path__):
        importlib.import_module(f"harness.commands.{item.name}")


def table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A small CSV."""
    lines = [",".join(map(str, row)) for row in (columns, *rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def reap() -> list[int]:
    """Collect what has ended below this process; the ids of what has not."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found]
