"""A local Kaggle for the tests of any project: a pytest fixture.

Programs that talk to Kaggle through the official client, `kaggle` or `kagglesdk`, are tested without
an account, without the internet and without mocks. In `conftest.py`:

    pytest_plugins = ["harness.emulator.testing"]

and in a test:

    def test_my_program_publishes_and_runs(local_kaggle, tmp_path):
        # The environment already points here, for this process and for those it starts.
        (tmp_path / "numbers.csv").write_text("x\\n1\\n2\\n")
        (tmp_path / "dataset-metadata.json").write_text(
            '{"id": "local/my-numbers", "title": "My Numbers", "licenses": [{"name": "CC0-1.0"}]}'
        )
        made = local_kaggle.run("kaggle", "datasets", "create", "-p", str(tmp_path))
        assert "is being created" in made.stdout

        session = local_kaggle.push(
            "add-up",
            "import pathlib\\n"
            "root = pathlib.Path(__import__('os').environ.get('HARNESS_KAGGLE_ROOT', '/kaggle'))\\n"
            "text = next((root / 'input').rglob('numbers.csv')).read_text()\\n"
            "print(sum(int(line) for line in text.split()[1:]))\\n",
            dataset_sources=["local/my-numbers"],
        )
        assert local_kaggle.wait(session)["status"] == "COMPLETE"
        assert local_kaggle.log(session) == "3\\n"

        # Misbehaviour on demand: the next request gets a 429.
        local_kaggle.fault("rate-limit")
        refused = local_kaggle.run("kaggle", "kernels", "list", "-m", check=False)
        assert "429" in refused.stderr

Each test has a server, a state folder and a HOME of its own. Only this module needs pytest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.emulator import faults, kernels, lifecycle
from harness.emulator.competitions import CompetitionSpec
from harness.emulator.connection import UNSET, Endpoint, environment
from harness.emulator.options import Options
from harness.emulator.server import Server
from harness.emulator.state import State

_NOTES = "[local Kaggle]"


class LocalKaggle:
    """A running local Kaggle and short ways to use it in a test.

    Attributes:
        url: Where it answers; its page for people is there too.
        state: The state folder, for everything that is not below.
        env: The variables that point the official client here.
    """

    def __init__(self, server: Server, scratch: Path) -> None:
        self._server = server
        self.state: State = server.state
        self.url: str = server.url
        options = self.state.options
        endpoint = Endpoint(
            self.url, options.username, self.state.key_for({}), embedded=True, pid=os.getpid()
        )
        self.env: dict[str, str] = environment(endpoint, scratch)

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120.0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program that talks to Kaggle, in the right environment, and give what it said.

        A program is looked for beside this Python first, so `kaggle` is the tested one.
        """
        beside = Path(sys.executable).parent / command[0]
        first = str(beside) if beside.is_file() else command[0]
        inherited = {key: value for key, value in os.environ.items() if key not in UNSET}
        return subprocess.run(
            [first, *command[1:]],
            env={**inherited, **self.env, **env},
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout_s,
        )

    def configure(self, **changes: Any) -> Options:
        """Change settings, as `gpu_sessions=0` or `kernel_polls=3`; see `Options`."""
        return self.state.configure(**changes)

    def add_competition(
        self,
        slug: str,
        folder: Path,
        solution: Path | None = None,
        *,
        id_column: str = "id",
        target_columns: Sequence[str] = ("label",),
        hidden_test: Path | None = None,
        **more: Any,
    ) -> CompetitionSpec:
        """Add a competition whose data lie in a folder; see `CompetitionSpec` for what `more` may be."""
        spec = CompetitionSpec(
            slug=slug,
            title=more.pop("title", slug.replace("-", " ").title()),
            id_column=id_column,
            target_columns=tuple(target_columns),
            **more,
        )
        self.state.add_competition(spec, folder, solution, hidden_test)
        return spec

    def push(
        self,
        slug: str,
        text: str,
        *,
        dataset_sources: Sequence[str] = (),
        competition_sources: Sequence[str] = (),
        kernel_sources: Sequence[str] = (),
        gpu: bool = False,
        internet: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Push a script as the client would, start its run, and give the session's number."""
        user = self.state.options.username
        asked = kernels.Push(
            owner=user,
            slug=slug,
            title=slug.replace("-", " ").title(),
            text=text,
            datasets=tuple(dataset_sources),
            competitions=tuple(competition_sources),
            kernels=tuple(kernel_sources),
            gpu=gpu,
            internet=internet,
        )
        return kernels.save(self.state, user, asked, dict(env or {})).session

    def wait(self, session: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a session has ended and give it: `status`, `failure`, `folder`, ..."""
        return self.state.wait(session, timeout_s)

    def log(self, session: int) -> str:
        """Give what a script wrote, without what the local Kaggle itself had to say."""
        lines = lifecycle.log_lines(self.state.run_folder(session))
        said = [str(json.loads(line)["data"]) for line in lines]
        return "".join(text for text in said if not text.startswith(_NOTES))

    def output(self, session: int, name: str) -> Path:
        """Where a file is that a script left in its working folder."""
        return self.state.run_folder(session) / "working" / name

    def submissions(self, slug: str) -> list[dict[str, Any]]:
        """List a competition's submissions with both scores, newest first."""
        return self.state.submissions(slug)

    def fault(self, name: str, *, times: int = 1, skip: int = 0, **changes: Any) -> None:
        """Arm one of `harness.emulator.faults.SWITCHES` for the next requests."""
        faults.switch(self.state, name, times=times, skip=skip, **changes)

    def stop_kernels(self, timeout_s: float = 20.0) -> None:
        """Cancel what still runs and wait for its end."""
        for row in self.state.sessions(active=True):
            self.state.cancel(row["id"])
        deadline = time.monotonic() + timeout_s
        while self.state.sessions(active=True) and time.monotonic() < deadline:
            time.sleep(0.02)


@pytest.fixture
def local_kaggle_options() -> dict[str, Any]:
    """Settings of the test's local Kaggle; override this fixture to change them."""
    return {"dataset_delay_s": 0.0}


@pytest.fixture
def local_kaggle(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    local_kaggle_options: dict[str, Any],
) -> Iterator[LocalKaggle]:
    """A local Kaggle of this test's own, and an environment that leads to it and nowhere else."""
    folder = tmp_path_factory.mktemp("local-kaggle")
    known = {field.name for field in dataclasses.fields(Options)}
    unknown = set(local_kaggle_options) - known
    if unknown:
        raise ValueError(f"local_kaggle_options: unknown {', '.join(sorted(unknown))}")
    with Server(folder / "state") as server:
        server.state.configure(**local_kaggle_options)
        found = LocalKaggle(server, folder / "client")
        for name in UNSET:
            monkeypatch.delenv(name, raising=False)
        for name, value in found.env.items():
            monkeypatch.setenv(name, value)
        client = sys.modules.get("kaggle.api.kaggle_api_extended")
        if client is not None:
            # It reads the environment once, when it is imported.
            monkeypatch.setattr(client.KaggleApi, "args", ["--local"], raising=False)
        yield found
        found.stop_kernels()
