"""Cross-validation folds, the same for every strategy: stratified, grouped where groups are known.

Groups come from a table's ``group`` column (patients), else from near-copies among the images. The same
rows, count and seed give the same folds everywhere: members of a blend share them, wherever they ran.
That is why numpy does it here: scikit-learn's grouped splitter shuffles differently from version to version.
"""

from collections.abc import Iterator

import numpy as np

from kernels.config import FoldsConfig


def assign_folds(targets: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold of each row.

    Greedy: groups in a shuffled order, the largest and most one-sided first, each to the fold that it
    leaves the classes most evenly spread over; the smallest such fold, then the first.

    Args:
        targets: Classes, shape (N,).
        groups: Group numbers, shape (N,); rows of one group share a fold.
        count: Number of folds.
        seed: Shuffles the groups.

    Returns:
        Integers in 0..count-1, shape (N,).

    Raises:
        ValueError: If a class has fewer rows, or the table fewer groups, than there are folds; or if one
            of two classes has fewer groups than that, since a fold would be without it.
    """
    classes, codes, sizes = np.unique(targets, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"all {len(targets)} labels are {classes.tolist()}; two classes are needed"
        )
    if sizes.min() < count:
        raise ValueError(
            f"class {classes[sizes.argmin()]} has {sizes.min()} rows, fewer than {count} folds; "
            "use fewer folds"
        )
    _, members = np.unique(groups, return_inverse=True)
    members = members.reshape(-1)
    if members.max() + 1 < count:
        raise ValueError(f"{members.max() + 1} groups cannot fill {count} folds; use fewer folds")
    table = np.zeros((members.max() + 1, len(classes)))  # rows of each group by class
    np.add.at(table, (members, codes.reshape(-1)), 1)
    groups_of_class = np.count_nonzero(table, axis=0)
    if len(classes) == 2 and groups_of_class.min() < count:
        rare = int(groups_of_class.argmin())
        raise ValueError(
            f"class {classes[rare]} has {sizes[rare]} rows in {groups_of_class[rare]} groups, fewer than "
            f"{count} folds: one would be without it; use fewer folds (--set folds.count="
            f"{max(2, groups_of_class[rare])}) or more labelled images"
        )
    order = np.random.default_rng(seed).permutation(len(table))
    order = order[np.argsort(-table[order].std(axis=1), kind="stable")]
    filled = np.zeros((count, len(classes)))
    fold_of_group = np.empty(len(table), dtype=np.intp)
    for group in order:
        # Shares of each class in each fold, for each choice of the fold that this group goes to.
        shares = (filled + np.eye(count)[:, :, None] * table[group]) / sizes
        unevenness = (
            shares.std(axis=1).mean(axis=1).round(12)
        )  # rounded: ties must be ties everywhere
        best = np.lexsort((filled.sum(axis=1), unevenness))[0]
        filled[best] += table[group]
        fold_of_group[group] = best
    folds: np.ndarray = fold_of_group[members]
    return folds


def refuse_shared_rows(rows: np.ndarray, held_out: np.ndarray) -> None:
    """The last look before training: no row is both learned from and scored.

    Raises:
        ValueError: When one is; names the first.
    """
    shared = np.intersect1d(rows, held_out)
    if len(shared):
        raise ValueError(
            f"{len(shared)} rows are both trained on and held out (first: {shared[0]})"
        )


def iterate_folds(
    targets: np.ndarray, groups: np.ndarray, config: FoldsConfig
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield (seed, fold, train rows, held-out rows) for everything this run trains."""
    chosen = range(config.count) if config.run_folds is None else config.run_folds
    for seed in config.seeds:
        folds = assign_folds(targets, groups, config.count, seed)
        for fold in chosen:
            yield seed, fold, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
