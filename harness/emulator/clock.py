"""The one source of time. The server asks it for every date it writes or compares.

Only the supervisor of a running kernel uses real time: it measures a real process.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time in seconds since 1970, UTC."""

    def now(self) -> float:
        """Tell the time."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Tell the time."""
        return time.time()


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        """Start at a moment, by default 2026-01-01T00:00:00Z."""
        self._now = start

    def now(self) -> float:
        """Tell the time it was moved to."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward; a test never needs to go back."""
        if seconds < 0:
            raise ValueError(f"a clock only moves forward, not by {seconds} s")
        self._now += seconds


def is_due(now: float, created: float, ready_at: float) -> bool:
    """Tell whether a delay is over. A clock that was put back since makes nobody wait for it."""
    return now >= ready_at or now < created


def as_datetime(seconds: float) -> datetime:
    """Give the naive UTC datetime that the SDK's messages hold."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def utc_day(seconds: float) -> str:
    """Name the UTC day of a moment, as submission limits count days."""
    return as_datetime(seconds).strftime("%Y-%m-%d")


def parse_iso(text: str) -> float:
    """Read an ISO date as seconds; a date without a zone is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
