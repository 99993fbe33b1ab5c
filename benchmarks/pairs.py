"""Exact nearest-neighbour pairs beside scikit-learn: 4,099, 100,000 and 1,000,000 rows of 22 features.

    python -m benchmarks.pairs [--quick]

Features are drawn: six latent factors and a little noise, as correlated as grey-level statistics are,
and independent columns as the worst case.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.racing import (
    Line,
    Options,
    Same,
    array_gap,
    equal,
    line_of,
    race,
    run_benchmark,
    run_python,
    timed,
)
from kernels.blocks.pairs import find_pairs, standardise

COLUMNS = 22
MOST_MB = 2000  # stated: a million rows, 22 columns, from the drawing to the last neighbour


def drawn_features(rows: int, correlated: bool = True) -> np.ndarray:
    """float64 (rows, 22)."""
    rng = np.random.default_rng(0)
    if not correlated:
        return rng.normal(size=(rows, COLUMNS))
    factors = rng.normal(size=(rows, 6)) @ rng.normal(size=(6, COLUMNS))
    return factors + 0.05 * factors.std() * rng.normal(size=(rows, COLUMNS))


def peer_pairs(features: np.ndarray, queries: int | None = None) -> np.ndarray:
    """scikit-learn as one would call it: scaler, two neighbours, the first of which is the row itself."""
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    table = StandardScaler().fit_transform(features)
    fitted = NearestNeighbors(n_neighbors=2, n_jobs=-1).fit(table)
    return fitted.kneighbors(table[:queries])[0][:, 1]


def same_distances(ours: np.ndarray, peer: np.ndarray) -> Same:
    """Neighbours of equal distance may be swapped, so distances are compared."""
    return array_gap(ours[: len(peer)], peer, 1e-6)


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    rows = options.pick(4099, 4099, 300)
    for correlated in (True, False):
        features = drawn_features(rows, correlated)
        single = standardise(features).astype(np.float32)

        def products(single: np.ndarray = single) -> None:
            for start in range(0, len(single), 128):
                single[start : start + 128] @ single.T

        yield race(
            f"nearest pairs, {rows:,} x 22, {'correlated' if correlated else 'independent'} columns",
            lambda features=features: find_pairs(features).distance,
            lambda features=features: peer_pairs(features),
            same=same_distances,
            peer_name="scikit-learn, auto",
            target=2.0 if correlated else None,
            rounds=options.pick(11, 7, 1),
            floor=products,
            note="every core, both",
        )
    code = (
        "import sys, numpy as np\nfrom kernels.blocks.pairs import find_pairs\n"
        "find_pairs(np.random.default_rng(0).normal(size=(300, 22)))\n"
        "print('sklearn' in sys.modules or 'scipy' in sys.modules)"
    )
    loaded = run_python(["-c", code])
    importing = [
        (
            timed(lambda: run_python(["-c", "import kernels.blocks.pairs, threadpoolctl"])),
            timed(lambda: run_python(["-c", "import sklearn.neighbors"])),
        )
        for _ in range(options.pick(5, 3, 1))
    ]
    yield line_of(
        "what the search imports, in a process of its own",
        importing,
        same=equal(loaded.strip() == "False", "scikit-learn or scipy is loaded:"),
        peer_name="import sklearn.neighbors",
        target=2.0,
    )

    rows = options.pick(100_000, 20_500, 500)
    features = drawn_features(rows)
    share = options.pick(
        5, 4, 1
    )  # of the queries: a peer's query costs the same wherever it stands
    yield race(
        f"nearest pairs, {rows:,} x 22, correlated columns",
        lambda: find_pairs(features).distance,
        lambda: peer_pairs(features, rows // share),
        same=same_distances,
        peer_name=f"scikit-learn, auto (1 in {share} queries, scaled)",
        target=3.0,
        rounds=options.pick(3, 1, 1),
        scale=share,
    )
    rows = options.pick(30_000, 12_000, 500)
    features = drawn_features(rows, correlated=False)
    yield race(
        f"nearest pairs, {rows:,} x 22, independent columns",
        lambda: find_pairs(features).distance,
        lambda: peer_pairs(features),
        same=same_distances,
        peer_name="scikit-learn, auto",
        target=None,
        rounds=options.pick(3, 1, 1),
    )
    if options.size != "quick":
        yield from million(options)


def million(options: Options) -> Iterator[Line]:
    """A million rows in a process of its own, so that the peak of memory is the search's."""
    rows = options.pick(1_000_000, 1_000_000, 500)
    found = json.loads(run_python(["-m", "benchmarks.pairs", "--rows", str(rows)]))
    features = drawn_features(rows)
    queries = min(rows, 2000)
    peer: list[np.ndarray] = []
    seconds = timed(lambda: peer.append(peer_pairs(features, queries))) * rows / queries
    same = same_distances(np.array(found["first"]), peer[0])
    yield line_of(
        f"nearest pairs, {rows:,} x 22, correlated columns",
        [(found["seconds"], seconds)],
        same=same,
        peer_name=f"scikit-learn, auto ({queries:,} queries, scaled)",
        target=5.0,
        note="once",
    )
    yield line_of(
        f"peak memory of that, {rows:,} rows",
        [(found["peak_mb"], MOST_MB)],
        same=same,
        peer_name="stated",
        target=1.0,
        floor=rows * COLUMNS * 8 / 1e6,
        unit="MB",
    )


def search_once(rows: int) -> None:
    """Print seconds, peak memory and the first distances."""
    features = drawn_features(rows)
    started = time.perf_counter()
    pairs = find_pairs(features)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "first": pairs.distance[:2000].tolist(),
            }
        )
    )


if __name__ == "__main__":
    if "--rows" in sys.argv:
        search_once(int(sys.argv[-1]))
    else:
        raise SystemExit(run_benchmark(lines, __doc__))
