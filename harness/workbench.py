"""What every command works with: settings, ledger, and a remote that is opened when it is first needed."""

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RemoteUnavailable
from harness.ledger import Ledger, utc_now
from harness.records import Run, text_digest
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.remote import KaggleRemote

LOCK_WAIT_S = 900.0
DATA_KEY = "competition data"  # beside a run's dataset slugs, which have no blanks


@dataclass
class Workbench:
    """Settings, ledger, remote, and where progress lines go. Use ``open_workbench``."""

    settings: Settings
    ledger: Ledger
    progress: Callable[[str], None]
    kernel_environment: Mapping[str, str] = field(default_factory=dict)  # local kernels get it
    _stack: ExitStack = field(default_factory=ExitStack)
    _remote: "KaggleRemote | None" = None

    @property
    def remote(self) -> "KaggleRemote":
        """The chosen remote, connected on first use.

        The local one is the server that owns the state folder, or one embedded until this command ends.
        """
        if self._remote is None:
            from harness.remote import Credentials, KaggleRemote, find_credentials

            if self.settings.remote == "local":
                from harness.emulator import connect

                endpoint = self._stack.enter_context(
                    connect(self.settings.local_folder, extra_env=self.kernel_environment)
                )
                credentials = Credentials(endpoint.username, key=endpoint.key)
                self._remote = KaggleRemote("local", credentials, endpoint.url)
            else:
                self._remote = KaggleRemote("kaggle", find_credentials())
            self._stack.callback(self._remote.close)
        return self._remote

    def reconnect(self) -> None:
        """Forget the connection: the next use makes a new one.

        The local Kaggle may be served by somebody else by then, or by nobody but this command.
        """
        self._stack.close()
        self._remote = None

    @property
    def owner(self) -> str:
        """The account that owns what this workspace publishes."""
        return self.settings.owner or self.remote.owner

    @contextlib.contextmanager
    def locked(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Keep other harness processes of this workspace from the same step; tells whether it is ours.

        The lock ends with the process that holds it, however that ends.

        Raises:
            RemoteUnavailable: Another process still held it after LOCK_WAIT_S; it is named.
        """
        from filelock import FileLock, Timeout

        folder = self.settings.state / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{self.settings.remote}-{name}.lock")
        holder = folder / f"{self.settings.remote}-{name}.holder"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                yield False
                return
            self.progress(f"waiting for {_holder_text(holder)}, which is at work on {name}")
            try:
                lock.acquire(timeout=LOCK_WAIT_S)
            except Timeout:
                raise RemoteUnavailable(
                    f"{_holder_text(holder)} has been at work on {name} for over {LOCK_WAIT_S:.0f} s.",
                    "Look at what it does, or end it; then run the same command again.",
                ) from None
        try:
            # Only for people: who holds it is decided by the lock, and this file may be out of date.
            with contextlib.suppress(OSError):
                holder.write_text(f"{os.getpid()} {utc_now()} {' '.join(sys.argv[1:3])}", "utf-8")
            yield True
        finally:
            lock.release()

    def data_digest(self, competition: str) -> str | None:
        """What the local Kaggle's data of a competition is, by names, sizes and times of its files.

        None on the real Kaggle, whose data does not change under a competition, and for unknown ones.
        """
        if self.settings.remote != "local":
            return None
        from harness.commands.local import find_competition_folder

        folder = find_competition_folder(self.settings, competition)
        if folder is None:
            return None
        return text_digest(
            str(folder), *(f"{path}{size}{time}" for path, size, time in _files(folder))
        )

    @staticmethod
    def has_other_data(run: Run, data: str | None) -> bool:
        """True when a run was pushed for data that is known to differ from this digest."""
        recorded = run.datasets.get(DATA_KEY, {}).get("digest")
        return recorded is not None and recorded != data

    def run_folder(self, run: Run) -> Path:
        """Everything kept of a run: script.py, kernel-metadata.json, the log and outputs/."""
        return self.settings.runs_folder / run.run_id

    def outputs_folder(self, run: Run) -> Path:
        """The pulled output files of a run."""
        return self.run_folder(run) / "outputs"

    def log_path(self, run: Run) -> Path:
        """The pulled log of a run, as plain text."""
        return self.run_folder(run) / f"{run.kernel.slug}.log"


@contextlib.contextmanager
def open_workbench(
    settings: Settings,
    progress: Callable[[str], None],
    kernel_environment: Mapping[str, str] | None = None,
) -> Iterator[Workbench]:
    """Open the ledger now and the remote when it is needed; close both at the end."""
    ledger = Ledger(settings.ledger_path)
    bench = Workbench(settings, ledger, progress, kernel_environment or {})
    try:
        if settings.remote == "local":
            settle_local_identity(settings, ledger)
        with bench._stack:
            yield bench
    finally:
        ledger.close()


def _holder_text(path: Path) -> str:
    """Whose lock it is, as far as its file tells."""
    try:
        pid, since, words = (path.read_text("utf-8").split(" ", 2) + ["", ""])[:3]
    except (OSError, ValueError):
        return "another harness"
    return f"process {pid} (harness {words}, since {since[11:19]} UTC)"


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        if path.is_file():
            yield path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns


def settle_local_identity(settings: Settings, ledger: Ledger) -> None:
    """Notice a local Kaggle that was emptied: what the ledger says of the old one no longer holds."""
    current = _write_once(settings.local_folder / "identity", secrets.token_hex(8))
    known = settings.state / "local-identity"
    seen = _write_once(known, current)
    if seen != current:
        ledger.retire("local")
        known.unlink()
        _write_once(known, current)


def _write_once(path: Path, text: str) -> str:
    """Make a file with this text unless there is one; what it holds then.

    It appears whole, and of several processes at once the first wins.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8") as draft:
            draft.write(text)
            draft.flush()
            os.fsync(draft.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text("utf-8")


def git_state(workspace: Path) -> tuple[str | None, bool]:
    """Commit and whether the tree has changes; (None, False) outside of git."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=workspace, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=workspace,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None, False
    return commit, bool(changes)
