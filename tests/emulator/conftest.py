"""A local Kaggle for each test: own state folder, own port, own HOME, and nothing left running."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.emulator import UNSET, Server
from tests.emulator.support import Local, end_all, missing


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip where a system package is missing; fail where HARNESS_REQUIRE_... says that it is there."""
    for mark in ("bwrap", "chromium"):
        lack = missing(mark) if item.get_closest_marker(mark) else ""
        if lack and os.environ.get(f"HARNESS_REQUIRE_{mark.upper()}") == "1":
            pytest.fail(
                f"{lack}, and HARNESS_REQUIRE_{mark.upper()} forbids to skip", pytrace=False
            )
        if lack:
            pytest.skip(lack)


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
