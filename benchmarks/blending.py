"""AUC, hill climbing and bootstrap beside scikit-learn loops and hillclimbers, in one process, numpy only.

python -m benchmarks.blending [--quick]
"""

# ruff: noqa: E402 (the environment comes first)

import importlib.util
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # they pin old kernels
    os.environ.pop(name, None)

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.racing import Line, Options, Same, array_gap, equal, race, run_benchmark
from harness.candidates import FitRows
from harness.methods import hill_climb
from kernels.stats.auc import auc_score, auc_scores
from kernels.stats.bootstrap import bootstrap_scores
from kernels.stats.delong import delong_covariance
from kernels.stats.resampling import resample_counts


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


def our_climb(targets: np.ndarray, table: np.ndarray, steps: int) -> list[int]:
    """The harness's climb, made to take every step: what it picks."""
    rows = FitRows(
        "auc", targets[:, np.newaxis], table[:, :, np.newaxis], (slice(0, len(targets)),)
    )
    return [pick for pick, _ in hill_climb(rows, picks=steps, patience=steps, start=1).path]


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


def peer_weights(targets: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The blend (N,) of the library hillclimbers: it tries fifty weights of every member a step."""
    import pandas as pd
    from hillclimbers import climb_hill

    frame = pd.DataFrame(table.T, columns=[f"m{place}" for place in range(len(table))])
    with redirect_stdout(StringIO()):
        _, blend = climb_hill(
            train=pd.DataFrame({"target": targets}),
            oof_pred_df=frame,
            test_pred_df=frame,
            target="target",
            objective="maximize",
            eval_metric=partial(roc_auc_score),
            plot_hill=False,
            return_oof_preds=True,
        )
    return np.asarray(blend)


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    rows = options.pick(878, 878, 400)
    targets, table = members(8, rows)
    yield one_auc(options, targets, table, 100.0, options.pick(50, 50, 2))
    yield climb(options, targets, table, 50.0, *options.pick((100, 100), (100, 50), (12, 12)))
    many_targets, many = members(options.pick(64, 64, 12), rows)
    yield climb(options, many_targets, many, 50.0, *options.pick((100, 20), (100, 5), (12, 12)))
    if importlib.util.find_spec("hillclimbers"):
        yield library_climb(options, targets, table[-options.pick(8, 8, 3) :])
    yield bootstrap(options, targets, table[0], options.pick(2000, 500, 20), 20.0)
    yield delong(options, targets, table[:2], None)
    yield delong(options, *members(2, options.pick(10_000, 10_000, 300)), 10.0)
    if options.size != "quick":
        big_targets, big = members(64, options.pick(100_000, 100_000, 500))
        few = big[:8]
        yield one_auc(options, big_targets, few, 20.0, options.pick(5, 5, 1))
        yield climb(options, big_targets, few, 6.0, *options.pick((100, 5), (100, 5), (12, 6)))
        yield climb(options, big_targets, big, 6.0, *options.pick((20, 1), (20, 1), (6, 6)))
        yield bootstrap(options, big_targets, big[0], options.pick(50, 50, 5), None)
        del big, few
        yield many_members(options)


def one_auc(
    options: Options, targets: np.ndarray, table: np.ndarray, target: float, repeat: int
) -> Line:
    """f1: one call; the answers are those of every member at once."""
    exact = [roc_auc_score(targets, row) for row in table]
    bits = np.sort(table[0]).view(np.uint64)
    return race(
        f"f1 AUC, one call, {len(targets):,} rows",
        lambda: auc_score(targets, table[0]),
        lambda: roc_auc_score(targets, table[0]),
        same=lambda *_: array_gap(auc_scores(targets, table.T), exact, 1e-12),
        peer_name="scikit-learn",
        target=target,
        rounds=options.pick(11, 5, 1),
        floor=lambda: np.sort(bits),
        repeat=repeat,
        clock="cpu",
    )


def climb(
    options: Options,
    targets: np.ndarray,
    table: np.ndarray,
    target: float,
    steps: int,
    peer_steps: int,
) -> Line:
    """f2, f3: Caruana steps; a peer that takes fewer has the same first picks, and proportional time."""
    return race(
        f"{'f3' if len(targets) > 1000 else 'f2'} {steps} Caruana steps, M={len(table)}, "
        f"{len(targets):,} rows",
        lambda: our_climb(targets, table, steps),
        lambda: peer_climb(targets, table, peer_steps),
        # Ours names what it kept: its picks up to the best blend on the way.
        same=lambda ours, peer: equal(
            ours[: len(peer)] == peer[: len(ours)], "other members are picked:"
        ),
        peer_name="a loop over scikit-learn's AUC"
        + (f" ({peer_steps} steps, scaled)" if peer_steps < steps else ""),
        target=target,
        rounds=options.pick(3, 2, 1),
        scale=steps / peer_steps,
        clock="cpu",
    )


def library_climb(options: Options, targets: np.ndarray, table: np.ndarray) -> Line:
    """Another search for the same thing, so ours may only not be worse on the rows both are fitted to."""

    def no_worse(picks: list[int], blend: np.ndarray) -> Same:
        ours = roc_auc_score(targets, table[picks].mean(axis=0))
        return Same(float(roc_auc_score(targets, blend) - ours), 2e-3, "AUC lost")

    return race(
        f"100 Caruana steps, M={len(table)}, {len(targets):,} rows",
        lambda: our_climb(targets, table, 100),
        lambda: peer_weights(targets, table),
        same=no_worse,
        peer_name="hillclimbers",
        target=50.0,
        rounds=options.pick(3, 1, 1),
        clock="cpu",
    )


def peer_delong(targets: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Covariance (M, M) of AUCs as the paper defines it: every pair of a positive and a negative compared."""
    components = []
    for scores in table:
        up, down = scores[targets == 1], scores[targets == 0]
        wins = (up[:, np.newaxis] > down) + 0.5 * (up[:, np.newaxis] == down)
        components.append((wins.mean(axis=1), wins.mean(axis=0)))
    ups, downs = (np.array(part) for part in zip(*components, strict=True))
    return np.cov(ups) / ups.shape[1] + np.cov(downs) / downs.shape[1]


def delong(options: Options, targets: np.ndarray, table: np.ndarray, target: float | None) -> Line:
    """Two models: the definition costs positives x negatives, placements one sort."""
    return race(
        f"DeLong covariance, 2 models, {len(targets):,} rows",
        lambda: delong_covariance(targets, table.T)[1],
        lambda: peer_delong(targets, table),
        same=lambda ours, peer: array_gap(ours, peer, 1e-12),
        peer_name="numpy, every pair",
        target=target,
        rounds=options.pick(7, 3, 1),
        repeat=options.pick(5, 3, 1),
        floor=lambda: np.sort(table, axis=1),
        clock="cpu",
    )


def many_members(options: Options) -> Line:
    """f5: a table that is written once and scored whole; the peer scores two of its members."""
    count, rows = options.pick((64, 1_000_000), (64, 1_000_000), (6, 2000))
    targets, first = members(2, rows)
    table = np.empty((count, rows), dtype=np.float32)
    rng = np.random.default_rng(1)
    for number in range(count):  # one at a time: as float64 all would take half a gigabyte
        table[number] = first[number % 2] + rng.uniform(0, 0.1, rows)
    return race(
        f"f5 AUC of {count} members, {rows:,} rows, float32",
        lambda: auc_scores(targets, table.T),
        lambda: np.array([roc_auc_score(targets, row) for row in table[:2]]),
        same=lambda ours, peer: array_gap(ours[:2], peer, 1e-12),
        peer_name="a loop over scikit-learn's AUC (2 members, scaled)",
        target=None,
        rounds=options.pick(3, 2, 1),
        scale=count / 2,
        clock="cpu",
    )


def bootstrap(
    options: Options, targets: np.ndarray, scores: np.ndarray, resamples: int, target: float | None
) -> Line:
    """f4: the same resamples."""
    sizes = [int((targets == side).sum()) for side in (0, 1)]

    def drawn() -> None:
        for _ in resample_counts(sizes, resamples, 0):
            pass

    return race(
        f"f4 bootstrap, {resamples:,} x {len(targets):,}",
        lambda: bootstrap_scores("auc", targets, scores, n_resamples=resamples),
        lambda: peer_bootstrap(targets, scores, resamples),
        same=lambda ours, peer: array_gap(ours, peer, 1e-12),
        peer_name="a loop over scikit-learn's AUC, same resamples",
        target=target,
        rounds=options.pick(3, 2, 1),
        floor=drawn,
        clock="cpu",
    )


if __name__ == "__main__":
    raise SystemExit(run_benchmark(lines, __doc__))
