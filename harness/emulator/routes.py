"""Which method of the API goes to which handler.

A handler takes the request's context and a parsed SDK message, and gives a message, a plain JSON
object, or a finished HTTP response. The tables live beside their handlers, one file per service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from kagglesdk.kaggle_object import KaggleObject
from werkzeug.wrappers import Request, Response

from harness.emulator.state import State


@dataclass(frozen=True)
class Context:
    """What a handler may know about its request.

    Attributes:
        state: The state folder.
        request: The HTTP request.
        user: The account; empty where no authentication is asked for.
        key: The key or token of the account.
        base: Scheme and authority under which the client reached the server.
        env: Extra environment variables for kernels, from the server's own settings.
        guarded: Whether only keys that the state folder issued count, since others reach the server.
    """

    state: State
    request: Request
    user: str
    key: str
    base: str
    env: dict[str, str]
    guarded: bool = False


Answer: TypeAlias = "KaggleObject | Response | dict[str, Any]"


@dataclass(frozen=True)
class Route:
    """A method of the API."""

    message: type[KaggleObject]
    handler: Callable[[Context, Any], Answer]
    open: bool = False


def all_routes() -> dict[str, Route]:
    """Collect the tables of all services, by `package.Service/Method`."""
    from harness.emulator import (
        routes_account,
        routes_competitions,
        routes_datasets,
        routes_kernels,
        routes_models,
    )

    tables = (
        routes_account.ROUTES,
        routes_competitions.ROUTES,
        routes_datasets.ROUTES,
        routes_kernels.ROUTES,
        routes_models.ROUTES,
    )
    return {name: route for table in tables for name, route in table.items()}
