"""Getting at a local Kaggle from a program: an endpoint now, whoever serves it.

A command of a few seconds embeds a server of its own; when somebody keeps one in the foreground on
the same folder, that one is used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from harness.emulator.server import HANDSHAKE, Server
from harness.emulator.state import State

_HANDSHAKE_S = 2.0

# Each of these would lead the official client past the local Kaggle, or with other credentials.
UNSET = (
    "ALL_PROXY",
    "KAGGLE_API_TOKEN",
    "KAGGLE_API_V1_TOKEN",
    "KAGGLE_KERNEL_RUN_TYPE",
    "KAGGLE_TOKEN",
    "NO_PROXY",
    "all_proxy",
    "no_proxy",
)


@dataclass(frozen=True)
class Endpoint:
    """Where a local Kaggle answers.

    Attributes:
        url: Scheme, host and port; the API's base is this and `/api/v1`.
        username: The account.
        key: Its API key; it carries the extra environment variables for kernels.
        embedded: Whether the server lives in this process and ends with the context.
        pid: The server's process.
    """

    url: str
    username: str
    key: str
    embedded: bool
    pid: int


@contextmanager
def connect(folder: Path, *, extra_env: Mapping[str, str] | None = None) -> Iterator[Endpoint]:
    """Give an endpoint over a state folder for the duration of a `with` block.

    Kernels that were pushed keep running after it.

    Args:
        folder: The state folder, created if need be.
        extra_env: Environment variables for the kernels that are pushed with this endpoint's key.
    """
    state = State(folder)
    key = state.key_for(dict(extra_env or {}))
    username = state.options.username
    try:
        found = live_server(state)
        if found is not None:
            yield Endpoint(found["url"], username, key, embedded=False, pid=found["pid"])
            return
        with Server(folder, owner=False) as server:
            yield Endpoint(server.url, username, key, embedded=True, pid=os.getpid())
    finally:
        state.close()


def live_server(state: State) -> dict[str, Any] | None:
    """Find the server that owns a state folder, if it is really alive and really the same."""
    try:
        record: dict[str, Any] = json.loads(
            (state.folder / "server.json").read_text(encoding="utf-8")
        )
        # Never through a proxy: the question is about this machine.
        opener = build_opener(ProxyHandler({}))
        with opener.open(f"{record['url']}{HANDSHAKE}", timeout=_HANDSHAKE_S) as response:
            said = json.load(response)
    except (OSError, URLError, ValueError, KeyError):
        return None
    same = said.get("nonce") == record["nonce"] and said.get("identity") == state.identity
    return record if same else None


def environment(endpoint: Endpoint, scratch: Path) -> dict[str, str]:
    """Give the environment in which the unmodified `kaggle` command line talks to an endpoint.

    The variables in `UNSET` must be absent. The scratch folder is created; it keeps the client's
    files out of the user's home, and its upload cache out of the way of other runs.
    """
    folders = {
        "HOME": scratch / "home",
        "TMPDIR": scratch / "tmp",
        "KAGGLE_CONFIG_DIR": scratch / "config",
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    return {
        **{name: str(folder) for name, folder in folders.items()},
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "KAGGLE_USERNAME": endpoint.username,
        "KAGGLE_KEY": endpoint.key,
        **dict.fromkeys(proxies, endpoint.url),
    }
