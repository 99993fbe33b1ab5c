"""Nearest-neighbour pairs in feature space (strategy 1), exact, and whether they mean anything.

Pairs are noise unless a film's neighbour shares its label more often than chance says: ``label_purity``
gives both numbers. numpy only at the recipe's size; from ten thousand rows on scipy's k-d tree, loaded
on demand, where it is the quicker of the two: columns as correlated as these features are.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kernels.blocks.seed import worker_count

GEMM_ROWS = 128  # rows searched at once, against GEMM_COLUMNS others: 4 MB of float32 stay in cache
GEMM_COLUMNS = 8192
TREE_LEAST_ROWS = 10_000  # below it products take less time than loading scipy
TRIED_ROWS = 64  # searched both ways to see which is quicker
RECHECK_PAIRS = 200_000  # candidates compared exactly at once, float64 (pairs, D)


@dataclass(frozen=True)
class Pairs:
    """Each row's nearest other row, and the facts to log about them.

    neighbour: integers (N,), never the row itself. distance: Euclidean between standardised rows,
    float64 (N,). duplicates: rows at distance 0 from another. max_in_degree: how many rows share the
    most popular neighbour (hubness; a few is healthy). mutual_share: share of rows that are their
    neighbour's neighbour.
    """

    neighbour: np.ndarray
    distance: np.ndarray
    duplicates: int
    max_in_degree: int
    mutual_share: float

    def as_json(self) -> dict[str, Any]:
        """The facts without the arrays, for metrics.json."""
        return {
            "rows": len(self.neighbour),
            "duplicates": self.duplicates,
            "max_in_degree": self.max_in_degree,
            "mutual_share": self.mutual_share,
            "median_distance": float(np.median(self.distance)),
        }


@dataclass(frozen=True)
class LabelPurity:
    """Share of rows whose neighbour has their label, beside the share random partners would have."""

    rows: int
    purity: float
    chance: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return asdict(self)


def standardise(features: np.ndarray) -> np.ndarray:
    """Columns to mean 0 and standard deviation 1 (ddof 0); a constant column becomes 0.

    As scikit-learn's StandardScaler, including what it calls constant: a deviation within rounding of
    the column's own mean.
    """
    table = np.asarray(features, dtype=np.float64)
    mean = table.mean(axis=0)
    # A second pass takes out what rounding left in the mean; a constant column is then 0 exactly or
    # close to it.
    mean = mean + (table - mean).mean(axis=0)
    variance = ((table - mean) ** 2).mean(axis=0)
    epsilon = np.finfo(np.float64).eps
    rows = len(table)
    constant = variance <= rows * epsilon * variance + (rows * mean * epsilon) ** 2
    scaled: np.ndarray = (table - mean) / np.where(constant, 1.0, np.sqrt(variance))
    scaled[:, constant] = 0.0
    return scaled


def find_pairs(features: np.ndarray, workers: int = -1) -> Pairs:
    """The nearest other row of every row, after standardising the columns.

    Exact, with equal rows handled right: a twin is a neighbour at distance 0, the row itself never
    is. Among equally near rows the lowest index wins.

    Args:
        features: Shape (N, D), N >= 2, finite.
        workers: Threads, used for many rows only; -1 is every core.

    Raises:
        ValueError: For fewer than two rows, another shape, NaN or inf.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"features have shape {features.shape}; at least two rows (N, D) are needed"
        )
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(axis=1)))
        raise ValueError(f"features hold NaN or inf (first: row {row})")
    table = (
        standardise(features) + 0.0
    )  # + 0.0 turns -0 into 0, which np.unique tells apart by bytes
    neighbour = np.full(len(table), -1)
    distance = np.zeros(len(table))

    distinct, first, member = np.unique(table, axis=0, return_index=True, return_inverse=True)
    member = member.reshape(-1)  # numpy 2.0 gives it another shape
    order = np.argsort(first)  # distinct rows in order of their first appearance: lowest index wins
    first = first[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    member = rank[member]
    sizes = np.bincount(member)
    twins = sizes[member] > 1
    if twins.any():
        neighbour[twins] = first[member[twins]]
        leaders = first[sizes > 1]  # the first of each set takes the second
        by_set = np.argsort(member, kind="stable")
        starts = np.cumsum(sizes) - sizes
        neighbour[leaders] = by_set[starts[sizes > 1] + 1]
    if len(first) > 1 and not twins.all():
        alone = np.flatnonzero(sizes == 1)
        rows = distinct[order]
        near, apart = nearest_rows(rows, alone, worker_count() if workers < 0 else workers)
        neighbour[first[alone]] = first[near]
        distance[first[alone]] = apart
    return Pairs(
        neighbour=neighbour,
        distance=distance,
        duplicates=int(twins.sum()),
        max_in_degree=int(np.bincount(neighbour).max()),
        mutual_share=float((neighbour[neighbour] == np.arange(len(neighbour))).mean()),
    )


def nearest_rows(
    rows: np.ndarray, queries: np.ndarray, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest other row of rows[queries] among distinct rows: (row, distance), by the quicker search.

    Both are exact and break ties alike, so trying them decides about seconds only. Measured at 50,000 x 22
    on one core, tree and products: 0.7 s and 4.2 s where six factors explain the columns, 7.6 s and 4.4 s
    where ten do and a fifth is noise.
    """
    if len(rows) < TREE_LEAST_ROWS:
        return nearest_by_product(rows, queries, workers)
    tree = TurnedTree(rows)
    start = len(queries) // 2
    tried = tree.in_leaf_order(queries)[
        start : start + TRIED_ROWS
    ]  # neighbours: as all will be asked
    seconds = []
    for search in (tree.nearest, lambda some: nearest_by_product(rows, some)):
        started = time.perf_counter()
        search(tried)
        seconds.append(time.perf_counter() - started)
    if seconds[0] <= seconds[1]:
        return tree.nearest(queries, workers)
    return nearest_by_product(rows, queries, workers)


def nearest_by_product(
    rows: np.ndarray, queries: np.ndarray, workers: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest other row of rows[queries] among distinct rows: float32 products, float64 decisions.

    |a - b|^2 = |a|^2 + |b|^2 - 2ab in float32 is right to a known share of |a|^2 + |b|^2; every row that
    may be the nearest by it is compared again exactly, so the answer does not depend on rounding or on
    BLAS. The share is taken of each row's own norm: one far row does not blur the others.
    """
    from threadpoolctl import threadpool_limits

    single = rows.astype(np.float32)
    norms = np.einsum("ij,ij->i", rows, rows)
    # Rounding of a product of D terms, of the norms, and of rows to float32; 4 for comfort.
    bound = 4.0 * (rows.shape[1] + 4) * float(np.finfo(np.float32).eps)
    least = (norms * (1.0 - bound)).astype(np.float32)  # no squared distance is less, but for |a|^2
    near = np.empty(len(queries), dtype=np.intp)
    apart = np.empty(len(queries))
    single_twice = np.ascontiguousarray(-2.0 * single.T)
    threads = max(1, min(workers, -(-len(queries) // GEMM_ROWS)))

    def search(share: int) -> None:
        """Every ``threads``-th block of queries."""
        # Fresh ones cost page faults.
        buffer = np.empty((GEMM_ROWS, min(GEMM_COLUMNS, len(rows))), dtype=np.float32)
        for start in range(share * GEMM_ROWS, len(queries), threads * GEMM_ROWS):
            block = queries[start : start + GEMM_ROWS]
            every = np.arange(len(block))
            limit = np.full(len(block), np.inf)
            found = []
            for first in range(0, len(rows), GEMM_COLUMNS):
                there = single_twice[:, first : first + GEMM_COLUMNS]
                width = there.shape[1]
                table = np.matmul(single[block], there, out=buffer[: len(block), :width])
                table += least[first : first + width]
                own = np.flatnonzero((block >= first) & (block < first + width))
                table[own, block[own] - first] = np.inf
                best = table.argmin(axis=1)
                most = table[every, best] + 2 * bound * (norms[first + best] + norms[block])
                limit = np.minimum(limit, most)
                query, column = np.divmod(np.flatnonzero(table <= limit[:, None]), width)
                found.append((query, column + first, table[query, column]))
            query, candidate, rough = (np.concatenate(part) for part in zip(*found, strict=True))
            kept = rough <= limit[query]  # those of early columns were let in by a wider limit
            query, candidate = query[kept], candidate[kept]
            squares = np.empty(len(query))
            for piece in range(0, len(query), RECHECK_PAIRS):
                part = slice(piece, piece + RECHECK_PAIRS)
                squares[part] = squared_gaps(rows, block[query[part]], candidate[part])
            order = np.lexsort((candidate, squares, query))
            chosen = order[np.searchsorted(query[order], every)]
            near[start : start + len(block)] = candidate[chosen]
            apart[start : start + len(block)] = np.sqrt(squares[chosen])

    # Blocks this small gain nothing from BLAS threads, and lose much where cores are shared.
    with threadpool_limits(1, user_api="blas"):
        if threads == 1:
            search(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(search, range(threads)))
    return near, apart


def squared_gaps(rows: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances between rows[one] and rows[other], by subtraction: shape (M,)."""
    gap = rows[one] - rows[other]
    found: np.ndarray = np.einsum("ij,ij->i", gap, gap)
    return found


class TurnedTree:
    """scipy's k-d tree of distinct rows, turned to their principal axes; memory stays linear.

    A tree halves along coordinates. Turned, correlated rows are told apart by the first few: 38 s became
    6 s at 100,000 x 22 on one core. Queries in the order of the leaves find them in cache: 3 s.
    """

    def __init__(self, rows: np.ndarray) -> None:
        from scipy.spatial import cKDTree

        self.rows = rows
        centred = rows - rows.mean(axis=0)
        axes = np.linalg.eigh(centred.T @ centred)[1]
        self.turned = np.ascontiguousarray(centred @ axes[:, ::-1])
        self.tree = cKDTree(self.turned)
        self.norms = np.sqrt(np.einsum("ij,ij->i", self.turned, self.turned))

    def in_leaf_order(self, queries: np.ndarray) -> np.ndarray:
        """The same rows, those of a leaf beside each other."""
        wanted = np.zeros(len(self.rows), dtype=bool)
        wanted[queries] = True
        ordered: np.ndarray = self.tree.indices[wanted[self.tree.indices]]
        return ordered

    def nearest(self, queries: np.ndarray, workers: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Nearest other row of rows[queries], each named once: (row, distance) in their order."""
        ordered = self.in_leaf_order(queries)
        # Itself, the nearest, and one more: farther off than rounding can account for, it shows that no
        # other row competes. Turning keeps distances but for rounding; what is chosen is measured anew.
        far, near = self.tree.query(self.turned[ordered], k=3, workers=workers)
        own = near == ordered[:, None]
        squares = np.stack([squared_gaps(self.rows, ordered, column) for column in near.T], axis=1)
        squares[own] = np.inf
        best = np.lexsort((near, squares), axis=1)[:, 0]
        every = np.arange(len(ordered))
        nearest, apart = near[every, best], np.sqrt(squares[every, best])
        rounding = 8 * self.rows.shape[1] * np.finfo(np.float64).eps
        slack = rounding * (self.norms[ordered] + far[:, -1])
        doubtful = np.flatnonzero(~own.any(axis=1) | (far[:, -1] <= apart + slack))
        if len(doubtful):
            found = nearest_by_product(self.rows, ordered[doubtful], workers)
            nearest[doubtful], apart[doubtful] = found
        place = np.empty(len(self.rows), dtype=np.intp)
        place[ordered] = every
        return nearest[place[queries]], apart[place[queries]]


def label_purity(neighbour: np.ndarray, targets: np.ndarray) -> LabelPurity:
    """How often a row and its neighbour share a label, beside chance.

    Args:
        neighbour: Row numbers (N,), from ``find_pairs`` on these same N labelled rows.
        targets: Labels, shape (N,).

    Returns:
        Chance is that of a random *other* row: sum of n_c (n_c - 1) over n (n - 1); 0.6054 for 641
        positives of 878.

    Raises:
        ValueError: If the shapes differ.
    """
    labels = np.asarray(targets)
    if labels.ndim != 1 or labels.shape != neighbour.shape:
        raise ValueError(f"neighbours {neighbour.shape} and targets {labels.shape} differ in shape")
    _, sizes = np.unique(labels, return_counts=True)
    rows = len(labels)
    return LabelPurity(
        rows=rows,
        purity=float((labels[neighbour] == labels).mean()),
        chance=float((sizes * (sizes - 1)).sum() / (rows * (rows - 1))),
    )
