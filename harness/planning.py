"""Who runs when: hours of strategies laid out over sessions, the week's quota and a deadline. Pure.

Hours are measured, scaled from a rehearsal with assumptions that are told, or unknown; an unknown one
is not guessed, and what depends on it is not promised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

MEASURED, SCALED, STATED, UNKNOWN = "measured", "scaled", "stated", "unknown"


@dataclass(frozen=True)
class Work:
    """How much a config trains: films seen, weighed by their pixels."""

    epochs: int  # 1 for pipelines that pass once
    models: int  # (seed, fold) pairs
    side: int  # pixels
    images: int  # labelled ones that each model sees

    @property
    def amount(self) -> float:
        """In film-passes of 224 x 224 pixels."""
        return self.epochs * self.models * self.images * (self.side / 224) ** 2


@dataclass(frozen=True)
class Item:
    """One strategy's place in the plan; hours count from now."""

    name: str
    accelerator: str  # cpu or gpu
    hours: float | None  # None: unknown
    source: str  # measured, scaled, stated or unknown
    why: str  # where the hours come from
    start: float | None = None
    end: float | None = None
    in_quota: bool | None = None  # None for cpu and for unknown hours
    in_time: bool | None = None  # None without a deadline or with unknown hours
    note: str | None = None


@dataclass(frozen=True)
class Plan:
    """Everything laid out."""

    items: tuple[Item, ...]
    quota_hours: float  # of a week
    used_hours: float
    planned_hours: float  # of accelerators, where they are known
    unknown: tuple[str, ...]
    deadline: float | None  # hours from now
    reset: float  # hours until the quota starts anew
    assumptions: tuple[str, ...]
    done: tuple[str, ...] = ()  # finished already, with these settings

    @property
    def fits(self) -> bool:
        """True when all that is known fits into this week's quota."""
        return self.used_hours + self.planned_hours <= self.quota_hours


def scale_hours(seconds: float, rehearsed: Work, planned: Work, speed_up: float) -> float:
    """Hours of a run from a rehearsal's seconds: work in proportion, by a machine so many times faster.

    Raises:
        ValueError: Without seconds, work, or speed.
    """
    if seconds <= 0 or rehearsed.amount <= 0 or speed_up <= 0:
        raise ValueError("a rehearsal without time or work cannot be scaled")
    return seconds / rehearsed.amount * planned.amount / speed_up / 3600


def lay_out(
    items: Sequence[Item],
    sessions: dict[str, int],
    quota_hours: float,
    used_hours: float,
    reset: float,
    session_limit: float,
    deadline: float | None = None,
) -> list[Item]:
    """Give each item the earliest place in the order given.

    A GPU item that the week's quota has no room for waits until the quota starts anew. Items of
    unknown length come last: whatever stood behind them could not be promised anything.

    Args:
        sessions: How many may run at once, by accelerator.
        reset: Hours from now until the quota starts anew.
        session_limit: Hours after which a session ends.
    """
    free = {kind: [0.0] * count for kind, count in sessions.items()}
    left = max(0.0, quota_hours - used_hours)
    later = quota_hours
    placed = []
    for item in sorted(items, key=lambda item: item.hours is None):
        if item.hours is None:
            placed.append(item)
            continue
        slots = free[item.accelerator]
        slot = min(range(len(slots)), key=lambda index: slots[index])
        start, in_quota = slots[slot], None
        if item.accelerator == "gpu":
            in_quota = item.hours <= left
            if in_quota:
                left -= item.hours
            else:
                start = max(start, reset)
                later -= item.hours
        end = start + item.hours
        slots[slot] = end
        note = item.note
        if item.hours > session_limit:
            note = f"longer than a session of {session_limit:g} h: split it with --fold"
        elif in_quota is False:
            note = (
                "no quota left for it this week"
                if later >= 0
                else "more than next week's quota too"
            )
        placed.append(
            replace(
                item,
                start=start,
                end=end,
                in_quota=in_quota,
                in_time=None if deadline is None else end <= deadline,
                note=note,
            )
        )
    return placed
