"""AUC, hill climbing and bootstrap beside scikit-learn loops, in one process, numpy only.

Rounds are interleaved (peer, ours, peer, ours, ...) after one warm-up each; a ratio is peer time /
our time, the median over rounds. Prints one JSON object; exit code 1 when a target is missed.

    python benchmarks/blending.py [--quick]
"""

# ruff: noqa: E402 (the path and the environment come first)

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # they pin old kernels
    os.environ.pop(name, None)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from sklearn.metrics import roc_auc_score

from harness.candidates import FitRows
from harness.methods import hill_climb
from kernels.stats.auc import auc_score, auc_scores
from kernels.stats.bootstrap import bootstrap_scores
from kernels.stats.resampling import resample_counts

TARGETS = {
    "f1 AUC, 878 rows": 20,
    "f1 AUC, 100k rows": 3,
    "f2 100 Caruana steps, M=8, 878 rows": 50,
    "f2 100 Caruana steps, M=64, 878 rows": 50,
    "f3 100 Caruana steps, M=8, 100k rows": 6,
    "f4 bootstrap, 2,000 x 878": 20,
}


def members(count: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets (N,) with 73 % positives and members (M, N) of different skill."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(rows) < 0.73).astype(int)
    skill = np.linspace(0.4, 1.2, count)[:, np.newaxis]
    logits = skill * (2 * targets - 1) + rng.normal(size=(count, rows))
    return targets, 1 / (1 + np.exp(-logits))


def peer_climb(targets: np.ndarray, table: np.ndarray, steps: int) -> list[int]:
    """Greedy selection with replacement, one metric call a candidate, as in AutoGluon's selection."""
    total, picks = np.zeros(table.shape[1]), []
    for _ in range(steps):
        scores = [
            roc_auc_score(targets, np.round((total + row) / (len(picks) + 1), 12)) for row in table
        ]
        pick = int(np.argmax(scores))
        picks.append(pick)
        total = total + table[pick]
    return picks


def our_climb(targets: np.ndarray, table: np.ndarray, steps: int) -> int:
    """The harness's climb, made to take every step."""
    rows = FitRows(
        "auc", targets[:, np.newaxis], table[:, :, np.newaxis], (slice(0, len(targets)),)
    )
    return len(hill_climb(rows, picks=steps, patience=steps, start=1).path)


def peer_bootstrap(targets: np.ndarray, scores: np.ndarray, resamples: int) -> np.ndarray:
    """The loop over resamples, on the same draws as ours."""
    up, down = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    rows = np.concatenate((down, up))
    found = []
    for batch in resample_counts([len(down), len(up)], resamples, 0):
        for counts in batch:
            drawn = np.repeat(rows, counts)
            found.append(roc_auc_score(targets[drawn], scores[drawn]))
    return np.array(found)


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def race(
    peer: Callable[[], Any], ours: Callable[[], Any], rounds: int, scale: float = 1.0
) -> dict[str, Any]:
    """Interleaved rounds after a warm-up; ``scale`` multiplies a peer that did a part of the work."""
    ours()
    pairs = []
    for _ in range(rounds):
        slow = timed(peer) * scale
        pairs.append((slow, timed(ours)))
    ratios = [slow / quick for slow, quick in pairs]
    return {
        "peer_s": statistics.median(slow for slow, _ in pairs),
        "ours_s": statistics.median(quick for _, quick in pairs),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def repeated(call: Callable[[], Any], times: int) -> Callable[[], None]:
    """Many calls as one, for what takes microseconds."""

    def run() -> None:
        for _ in range(times):
            call()

    return run


def main() -> int:
    """Run every race; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no 100k rows")
    quick = parser.parse_args().quick
    rounds = 2 if quick else 5
    results: dict[str, dict[str, Any]] = {}

    targets, table = members(8, 878)
    exact = [roc_auc_score(targets, row) for row in table]
    assert np.abs(auc_scores(targets, table.T) - exact).max() < 1e-12
    results["f1 AUC, 878 rows"] = race(
        repeated(lambda: roc_auc_score(targets, table[0]), 50),
        repeated(lambda: auc_score(targets, table[0]), 50),
        rounds,
    )
    same = [
        pick
        for pick, _ in hill_climb(
            FitRows("auc", targets[:, None], table[:, :, None], (slice(0, 878),)),
            picks=12, patience=12, start=1,
        ).path
    ]  # fmt: skip
    assert same == peer_climb(targets, table, len(same)), "both climbs pick the same members"
    results["f2 100 Caruana steps, M=8, 878 rows"] = race(
        lambda: peer_climb(targets, table, 100), lambda: our_climb(targets, table, 100), rounds
    )
    results["f4 bootstrap, 2,000 x 878"] = race(
        lambda: peer_bootstrap(targets, table[0], 2000),
        lambda: bootstrap_scores("auc", targets, table[0], n_resamples=2000),
        rounds,
    )
    ours = bootstrap_scores("auc", targets, table[0], n_resamples=50)
    assert np.abs(ours - peer_bootstrap(targets, table[0], 50)).max() < 1e-12
    many_targets, many = members(64, 878)
    results["f2 100 Caruana steps, M=64, 878 rows"] = race(
        lambda: peer_climb(many_targets, many, 20),
        lambda: our_climb(many_targets, many, 100),
        max(2, rounds - 2),
        scale=5.0,  # the peer takes 20 steps: its time is proportional
    )
    if not quick:
        big_targets, big = members(8, 100_000)
        results["f1 AUC, 100k rows"] = race(
            repeated(lambda: roc_auc_score(big_targets, big[0]), 5),
            repeated(lambda: auc_score(big_targets, big[0]), 5),
            rounds,
        )
        results["f3 100 Caruana steps, M=8, 100k rows"] = race(
            lambda: peer_climb(big_targets, big, 5),
            lambda: our_climb(big_targets, big, 100),
            2,
            scale=20.0,
        )
    missed = []
    for name, result in results.items():
        result["target"] = TARGETS[name]
        result["met"] = result["ratio"] >= TARGETS[name]
        missed += [] if result["met"] else [name]
    print(json.dumps({"results": results, "missed": missed, "numpy": np.__version__}, indent=2))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
