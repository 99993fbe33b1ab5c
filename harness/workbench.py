"""What every command works with: settings, ledger, and a remote that is opened when it is first needed."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.ledger import Ledger
from harness.records import Run
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.remote import KaggleRemote


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

    @property
    def owner(self) -> str:
        """The account that owns what this workspace publishes."""
        return self.settings.owner or self.remote.owner

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
        with bench._stack:
            yield bench
    finally:
        ledger.close()


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
