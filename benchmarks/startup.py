"""Start-up beside the official client, from a shell's point of view: processes, one after the other.

    python -m benchmarks.startup [--quick]

``runs``, ``status`` and ``push`` stand in a workspace with one finished run on the local Kaggle, which
each of them starts for itself; the push has nothing to do.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.racing import ROOT, Line, Options, equal, line_of, run_benchmark
from harness.synthetic import draw_competition

BIN = Path(sys.executable).parent
HARNESS = [str(BIN / "harness")]


def seconds_of(command: list[str], cwd: Path, environment: dict[str, str]) -> tuple[float, str]:
    """Wall seconds of one process, and what it printed.

    Raises:
        RuntimeError: It failed.
    """
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{command[1:]} failed: {done.stderr[-2000:]}")
    return seconds, done.stdout + done.stderr


def environment_in(folder: Path) -> dict[str, str]:
    """A HOME of its own and this checkout's harness; nothing of the caller's account."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "HF_HUB_OFFLINE") if name in os.environ
    }
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}


def raced(
    item: str,
    command: list[str],
    peer: list[str],
    expected: str,
    rounds: int,
    target: float,
    cwd: Path,
    environment: dict[str, str],
) -> Line:
    """Ours and the peer as processes in alternation, with Python itself as the floor."""
    floor_command = [sys.executable, "-c", "pass"]
    _, said = seconds_of(command, cwd, environment)
    seconds_of(peer, cwd, environment)
    pairs, floors = [], []
    for _ in range(rounds):
        slow, _ = seconds_of(peer, cwd, environment)
        quick, _ = seconds_of(command, cwd, environment)
        pairs.append((quick, slow))
        floors.append(seconds_of(floor_command, cwd, environment)[0])
    return line_of(
        item,
        pairs,
        same=equal(expected in said, f"{expected!r} is not in its output:"),
        peer_name="kaggle --version",
        target=target,
        floor=sorted(floors)[len(floors) // 2],
    )


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    rounds = options.pick(15, 7, 1)
    with TemporaryDirectory(prefix="startup-") as name:
        folder = Path(name)
        environment = environment_in(folder)
        peer = [str(BIN / "kaggle"), "--version"]

        def line(arguments: str, expected: str, target: float, cwd: Path = ROOT) -> Line:
            command = [*HARNESS, *arguments.split()]
            item = f"harness {arguments}"
            return raced(item, command, peer, expected, rounds, target, cwd, environment)

        yield line("--version", "harness", 5.0)
        yield line("--help", "blend-and-submit", 5.0)
        yield line("push --help", "--profile", 5.0)
        workspace = prepared_workspace(folder, environment)
        yield line("runs", "features_lr", 1.0, workspace)
        yield line("status", "features_lr", 1.0, workspace)
        yield line("push features_lr --profile small", "already", 0.5, workspace)


def new_workspace(folder: Path) -> Path:
    """A workspace with this checkout's kernels and nothing else."""
    workspace = folder / "workspace"
    workspace.mkdir()
    shutil.copytree(
        ROOT / "kernels", workspace / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", workspace)
    return workspace


def prepared_workspace(folder: Path, environment: dict[str, str]) -> Path:
    """A workspace with a drawn competition on the local Kaggle and one complete, pulled run."""
    workspace = new_workspace(folder)
    drawn = draw_competition(folder / "drawn", n_unlabelled=12, n_labelled=48, n_test=24, size=96)
    added = f"local competition add {drawn.data_folder} --solution {drawn.solution_csv}"
    for arguments in (
        added,
        "push features_lr --profile small",
        "watch --follow",
        "pull",
    ):
        seconds_of([*HARNESS, *arguments.split()], workspace, environment)
    return workspace


if __name__ == "__main__":
    raise SystemExit(run_benchmark(lines, __doc__))
