"""What a report shows, gathered by commands/report.py and drawn by page.py. Plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.commands.compare import Comparison
from harness.planning import Plan
from harness.records import Run, Submission
from harness.report.curves import Curves
from harness.scoring import Score
from harness.standings import Point
from kernels.config import Competition


@dataclass(frozen=True)
class Picture:
    """An image with the words that belong to it."""

    uri: str
    title: str
    caption: str
    wrong: bool = False


@dataclass(frozen=True)
class RunView:
    """One run and whatever it left; parts that are not there are empty."""

    run: Run
    slot: int | None  # its colour; None: not drawn in overlays
    score: Score | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Curves] = field(default_factory=dict)  # by target
    histories: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    gallery: Sequence[Picture] = ()
    pairs: Sequence[Picture] = ()
    gpu: bool = False
    problem: str | None = None  # why its outputs are not shown


@dataclass(frozen=True)
class CompetitionView:
    """Everything about one competition."""

    competition: Competition
    greater_is_better: bool
    runs: Sequence[RunView]
    comparison: Comparison | None
    no_comparison: str | None
    blends: Sequence[tuple[str, Mapping[str, Any]]]  # ids and records, newest last
    submissions: Sequence[Submission]
    points: Sequence[Point]
    thumbnails: Mapping[str, str]  # data URIs by id, of rows that divide the members or cost most


@dataclass(frozen=True)
class Usage:
    """What was spent on the real Kaggle, and on this machine, as the kernels measured it."""

    remote: str
    gpu_hours: float
    gpu_hours_week: float
    other_hours: float
    submissions_today: int
    submissions: int


@dataclass(frozen=True)
class Report:
    """The whole page."""

    made_at: str
    version: str
    remote: str
    profile: str
    workspace: str
    next_step: str
    competitions: Sequence[CompetitionView]
    usage: Usage
    plan: Plan | None = None  # when there is something to plan
    notes: Sequence[str] = ()
