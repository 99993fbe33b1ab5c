"""The whole loop: how much of it is harness and how much kernel; and commands in a ledger that grows.

    python -m benchmarks.loop [--quick] [--data FOLDER]

The loop is typed as a user would (push, watch, pull, blend-and-submit), a process for each command, on the
local Kaggle. With a folder of real films the share of the harness has a target; drawn films are few
and small, so that kernels end before they have begun, and the share is shown without a verdict.
"""

import json
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.racing import Line, Options, equal, line_of, run_benchmark
from benchmarks.startup import (
    HARNESS,
    environment_in,
    new_workspace,
    prepared_workspace,
    seconds_of,
)
from harness.ledger import Ledger
from harness.synthetic import draw_competition

MOST_SHARE = 0.02  # of the loop's seconds, in the harness
STRATEGIES = ("linear_probe", "features_lr")  # on drawn films, and where it has to be quick
FAMILY = ("linear_probe", "ssl", "lite0")  # on a folder of real films, in full: half an hour
SIZES = (10, 100, 1000)  # runs in the ledger


@dataclass(frozen=True)
class Typist:
    """Types commands in a workspace."""

    workspace: Path
    environment: dict[str, str]

    def type(self, arguments: str) -> tuple[float, str]:
        """Seconds of one command, and what it said (RuntimeError when it fails)."""
        return seconds_of([*HARNESS, *arguments.split()], self.workspace, self.environment)


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    with TemporaryDirectory(prefix="loop-") as name:
        yield whole_loop(options, Path(name))
    with TemporaryDirectory(prefix="loop-") as name:
        yield from growth(options, Path(name))


def whole_loop(options: Options, folder: Path) -> Line:
    """Once: seconds outside of kernels beside the share of kernel seconds that they may take."""
    typist = Typist(new_workspace(folder), environment_in(folder))
    profile = "small" if options.data is None else "cpu"
    data, solution = options.data, ""
    if data is None:
        counts = options.pick((64, 96, 48), (24, 64, 32), (12, 48, 24))
        drawn = draw_competition(folder / "drawn", 0, *counts, size=options.pick(224, 224, 96))
        data, solution = drawn.data_folder, f" --solution {drawn.solution_csv}"
    typist.type(f"local competition add {data.resolve()}{solution}")
    few = STRATEGIES[: options.pick(2, 2, 1)]
    names = " ".join(few if options.data is None else options.pick(FAMILY, few, few))
    started = time.perf_counter()
    spent = {
        verb: typist.type(command)[0]
        for verb, command in (
            ("push", f"push {names} --profile {profile}"),
            ("watch", "watch --follow"),
            ("pull", "pull"),
            ("blend", f"blend-and-submit --profile {profile} --floor 0 --yes"),
        )
    }
    whole = time.perf_counter() - started
    kernels = kernel_seconds(typist.workspace)
    ledger = Ledger(typist.workspace / ".harness" / "ledger.sqlite3")
    runs, submissions = ledger.runs(), ledger.submissions("local")
    ledger.close()
    outside = whole - sum(kernels)
    told = ", ".join(f"{verb} {seconds:.1f} s" for verb, seconds in spent.items())
    return line_of(
        f"the loop with {names}, profile {profile}: seconds in the harness",
        [(outside, sum(kernels) * MOST_SHARE / (1 - MOST_SHARE))],
        same=equal(
            len(kernels) == len(runs) == len(names.split())
            and all(run.score_mean_fold is not None for run in runs)
            and len(submissions) == 1,
            "runs or submissions are missing:",
        ),
        peer_name=f"{MOST_SHARE:.0%} of the loop, by {sum(kernels):.1f} s in kernels",
        target=None if options.data is None else 1.0,
        note=f"share {outside / whole:.1%}; {told}; once",
    )


def kernel_seconds(workspace: Path) -> list[float]:
    """Wall seconds of every kernel's process, as the local Kaggle's supervisors wrote them down."""
    results = sorted((workspace / ".harness").rglob("exit.json"))
    return [float(json.loads(path.read_text("utf-8"))["seconds"]) for path in results]


def growth(options: Options, folder: Path) -> Iterator[Line]:
    """Commands that read the ledger: workspaces with few runs and with many, asked in turn."""
    environment = environment_in(folder)
    sizes = options.pick(SIZES, SIZES, (3, 6))
    commands = (
        ("status", "features_lr", 0.7),
        ("runs", "features_lr", 0.5),
        ("push features_lr --profile small", "already", 0.7),
    )
    first = prepared_workspace(folder, environment)
    typists = {}
    for size in sizes:
        workspace = first.with_name(f"{first.name}-{size}")
        shutil.copytree(first, workspace, symlinks=True)
        fill_ledger(workspace, size)
        typists[size] = Typist(workspace, environment)
    for command, expected, target in commands:
        sames = []
        for size, typist in typists.items():
            _, said = typist.type(command)
            found = expected in said and (command != "runs" or said.count("features_lr") >= size)
            sames.append(equal(found, f"{expected!r} is not in its output:"))
        rounds = [
            {size: typist.type(command)[0] for size, typist in typists.items()}
            for _ in range(options.pick(5, 3, 1))
        ]
        fewest, most = sizes[0], sizes[-1]
        middle = ", ".join(
            f"{size:,}: {statistics.median(taken[size] for taken in rounds):.2f} s"
            for size in sizes
        )
        yield line_of(
            f"harness {command}, {most:,} runs in the ledger",
            [(taken[most], taken[fewest]) for taken in rounds],
            same=next((same for same in sames if not same.holds), sames[0]),
            peer_name=f"{fewest:,} runs",
            target=target,
            note=middle,
        )


def fill_ledger(workspace: Path, size: int) -> None:
    """Repeat the ledger's first run under other tags until it holds so many."""
    ledger = Ledger(workspace / ".harness" / "ledger.sqlite3")
    runs = ledger.runs()
    first = runs[0]
    for number in range(len(runs), size):
        tag = f"copy{number}"
        ledger.add_run(
            replace(
                first,
                spec=replace(first.spec, tag=tag),
                kernel=replace(first.kernel, slug=f"{first.kernel.slug[:30]}-{tag}"),
                digest=f"{number:064x}",
            )
        )
    ledger.close()


if __name__ == "__main__":
    raise SystemExit(run_benchmark(lines, __doc__))
