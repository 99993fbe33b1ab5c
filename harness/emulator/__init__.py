"""A local Kaggle: a server that the unmodified official client cannot tell from the service.

The package knows Kaggle's wire format and nothing of the rest of harness. This module only names
the public surface and loads it on first use: the supervisor of every kernel starts through this
package and must not wait for a web server, an SDK or pandas to be imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.emulator.clock import Clock as Clock
    from harness.emulator.clock import ManualClock as ManualClock
    from harness.emulator.competitions import CompetitionSpec as CompetitionSpec
    from harness.emulator.connection import UNSET as UNSET
    from harness.emulator.connection import Endpoint as Endpoint
    from harness.emulator.connection import connect as connect
    from harness.emulator.connection import environment as environment
    from harness.emulator.errors import ApiError as ApiError
    from harness.emulator.errors import StateError as StateError
    from harness.emulator.options import Options as Options
    from harness.emulator.server import Server as Server
    from harness.emulator.state import State as State

_HOMES = {
    "ApiError": "errors",
    "Clock": "clock",
    "CompetitionSpec": "competitions",
    "Endpoint": "connection",
    "ManualClock": "clock",
    "Options": "options",
    "Server": "server",
    "State": "state",
    "StateError": "errors",
    "UNSET": "connection",
    "connect": "connection",
    "environment": "connection",
}

__all__ = [
    "UNSET",
    "ApiError",
    "Clock",
    "CompetitionSpec",
    "Endpoint",
    "ManualClock",
    "Options",
    "Server",
    "State",
    "StateError",
    "connect",
    "environment",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
