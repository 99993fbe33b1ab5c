"""A local Kaggle for each test: own state folder, own port, own HOME, and nothing left running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.emulator import UNSET, Server
from tests.emulator.support import Local, end_all


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in [*UNSET, "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "KAGGLE_KEY"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    folder = tmp_path / "state"
    with Server(folder) as server:
        server.state.configure(dataset_delay_s=0.0)
        yield Local(server, folder)
        end_all(server.state)
