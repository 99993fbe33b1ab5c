"""What every benchmark shares: rounds, ratios, sameness of answers, the table, JSON and the exit code.

A line races ours against a peer: one call each to warm up and to compare the answers, then rounds that
alternate. A ratio is peer / ours of one round, and the line's ratio the median over rounds, so a busy
machine slows both. A limit is a race too: "at most 1.2 forward passes" is a peer of one pass and a
target of 1 / 1.2.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("full", "quick", "tiny")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Picked = TypeVar("Picked")


@dataclass(frozen=True)
class Options:
    """How much to measure, and on which films.

    size: full; quick (fewer rounds, smaller data); tiny (checks answers, its ratios mean nothing).
    data: A competition folder of real films; None draws them.
    """

    size: str = "full"
    data: Path | None = None

    def pick(self, full: Picked, quick: Picked, tiny: Picked) -> Picked:
        """The value of this size."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.size]

    @property
    def rounds(self) -> int:
        """Rounds of a race that takes seconds."""
        return self.pick(5, 3, 1)


@dataclass(frozen=True)
class Same:
    """How far two answers lie apart, and how far they may."""

    gap: float
    tolerance: float
    what: str = "largest difference"

    @property
    def holds(self) -> bool:
        """False for NaN as well."""
        return self.gap <= self.tolerance

    def text(self) -> str:
        """For the table."""
        if self.tolerance == 0:
            return "equal" if self.holds else f"{self.what} {self.gap:.2g}"
        sign = "<=" if self.holds else ">"
        return f"{self.what} {self.gap:.1e} {sign} {self.tolerance:.0e}"


@dataclass(frozen=True)
class Line:
    """One measured item: medians over rounds; ``unit`` is s, MB or what ours and peer are counted in."""

    item: str
    ours: float
    peer: float
    ratio: float
    ratio_low: float
    ratio_high: float
    target: float | None  # of the ratio, at least; None: shown without a verdict
    floor: float | None  # what cannot be beaten here, in the same unit
    same: Same
    peer_name: str
    unit: str = "s"
    clock: str = "wall"
    note: str = ""

    @property
    def floor_share(self) -> float | None:
        """Floor / ours: 1 is as close as it gets."""
        return None if self.floor is None or not self.ours else self.floor / self.ours

    @property
    def verdict(self) -> str:
        """met, MISSED, DIFFERS (another answer) or info."""
        if not self.same.holds:
            return "DIFFERS"
        if self.target is None:
            return "info"
        return "met" if self.ratio >= self.target else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """Every field and what follows from them."""
        return {
            **asdict(self),
            "floor_share": self.floor_share,
            "same_holds": self.same.holds,
            "verdict": self.verdict,
        }


def array_gap(ours: Any, peer: Any, tolerance: float, relative: bool = False) -> Same:
    """Largest difference of two arrays; relative to max(1, |peer|) when asked."""
    ours, peer = np.asarray(ours, dtype=np.float64), np.asarray(peer, dtype=np.float64)
    if ours.shape != peer.shape:
        return Same(float("nan"), tolerance, f"shapes {ours.shape} and {peer.shape}")
    scale = np.maximum(1.0, np.abs(peer)) if relative else 1.0
    gap = float((np.abs(ours - peer) / scale).max()) if ours.size else 0.0
    return Same(gap, tolerance, "largest relative difference" if relative else "largest difference")


def equal(condition: bool, what: str = "answers differ:") -> Same:
    """Answers that have to be equal."""
    return Same(0.0 if condition else 1.0, 0.0, what)


def timed(call: Callable[[], Any], clock: str = "wall") -> float:
    """Seconds of one call."""
    read = CLOCKS[clock]
    started = read()
    call()
    return read() - started


def race(
    item: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    same: Callable[[Any, Any], Same],
    peer_name: str,
    target: float | None,
    rounds: int,
    floor: Callable[[], Any] | None = None,
    repeat: int = 1,
    scale: float = 1.0,
    clock: str = "wall",
    note: str = "",
) -> Line:
    """Time ours, peer and floor in alternation.

    Args:
        same: Of both answers, those of the warm-up calls.
        repeat: Calls in one measurement, for what takes microseconds; seconds are those of one call.
        scale: Multiplies the seconds of a peer that does a part of the work.
        clock: wall, or cpu: the process's own time, for one thread on a busy machine.
    """
    agreement = same(ours(), peer())
    if floor is not None:
        floor()

    def measure(call: Callable[[], Any]) -> float:
        return timed(lambda: [call() for _ in range(repeat)], clock) / repeat

    pairs, floors = [], []
    for _ in range(rounds):
        slow = measure(peer) * scale
        pairs.append((measure(ours), slow))
        if floor is not None:
            floors.append(measure(floor))
    return line_of(
        item,
        pairs,
        same=agreement,
        peer_name=peer_name,
        target=target,
        floor=statistics.median(floors) if floors else None,
        note=note,
        clock=clock,
    )


def line_of(
    item: str,
    pairs: Sequence[tuple[float, float]],
    *,
    same: Same,
    peer_name: str,
    target: float | None,
    floor: float | None = None,
    unit: str = "s",
    clock: str = "wall",
    note: str = "",
) -> Line:
    """A line from (ours, peer) of every round."""
    ratios = [slow / max(quick, 1e-12) for quick, slow in pairs]
    return Line(
        item=item,
        ours=statistics.median(quick for quick, _ in pairs),
        peer=statistics.median(slow for _, slow in pairs),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        target=target,
        floor=floor,
        same=same,
        peer_name=peer_name,
        unit=unit,
        clock=clock,
        note=note,
    )


def run_python(code_or_module: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What a fresh interpreter prints: ``run_python(["-m", "benchmarks.training", "--variant", "x"])``.

    Raises:
        subprocess.CalledProcessError: It failed; its errors are on stderr.
    """
    done = subprocess.run(
        [sys.executable, *code_or_module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def number(value: float) -> str:
    """Three significant digits without exponents."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{min(digits, 9)}f}"


def amount(value: float | None, unit: str) -> str:
    """Seconds as s, ms or µs; anything else as it is."""
    if value is None:
        return ""
    if unit != "s":
        return f"{number(value)} {unit}"
    for factor, name in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{number(value * factor)} {name}"
    return f"{number(value * 1e6)} µs"


COLUMNS = (
    "item", "ours", "peer", "ratio", "target", "floor", "share of floor", "verdict", "same answer",
)  # fmt: skip


def row_of(line: Line) -> tuple[str, ...]:
    """A line as the table shows it."""
    share = line.floor_share
    return (
        f"{line.item}{' (' + line.note + ')' if line.note else ''}",
        amount(line.ours, line.unit) + (" cpu" if line.clock == "cpu" else ""),
        f"{amount(line.peer, line.unit)} {line.peer_name}",
        f"x{number(line.ratio)} [{number(line.ratio_low)}-{number(line.ratio_high)}]",
        "" if line.target is None else f">= x{line.target:g}",
        amount(line.floor, line.unit),
        "" if share is None else f"{share:.2f}",
        line.verdict,
        line.same.text(),
    )


def table(lines: Iterable[Line]) -> str:
    """Markdown, aligned, so that it reads in a terminal too."""
    rows = [COLUMNS, *map(row_of, lines)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([texts[0], rule, *texts[1:]])


def machine() -> dict[str, Any]:
    """Where and when a run was measured."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            row for row in info.read_text("utf-8").splitlines() if row.startswith("model name")
        ]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def option_parser(description: str) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller data")
    parser.add_argument(
        "--tiny", action="store_true", help="seconds: checks the answers, its ratios mean nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lines there")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="a competition folder of real films"
    )
    return parser


def options_of(parsed: argparse.Namespace) -> Options:
    """Size and data of parsed arguments."""
    size = "tiny" if parsed.tiny else "quick" if parsed.quick else "full"
    return Options(size, parsed.data)


def write_results(lines: Sequence[dict[str, Any]], path: Path | None) -> None:
    """The lines with the machine as JSON."""
    if path is not None:
        text = json.dumps({"machine": machine(), "lines": list(lines)}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def finish(lines: Iterable[Line], path: Path | None) -> int:
    """Print each line as it comes, then the table; write JSON; 1 when a line is missed or differs."""
    done: list[Line] = []
    for line in lines:
        done.append(line)
        print(f"{line.verdict:8} {row_of(line)[3]:24} {line.item}", file=sys.stderr, flush=True)
        write_results([line.as_json() for line in done], path)  # a crash later loses nothing
    print(table(done), flush=True)
    return int(any(line.verdict in ("MISSED", "DIFFERS") for line in done))


def run_benchmark(lines: Callable[[Options], Iterator[Line]], document: str | None) -> int:
    """A benchmark's main: parse, measure, print, exit code."""
    parsed = option_parser((document or "").splitlines()[0]).parse_args()
    return finish(lines(options_of(parsed)), parsed.json)
