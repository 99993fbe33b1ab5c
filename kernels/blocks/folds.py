"""Cross-validation folds, the same for every strategy: stratified, grouped where groups are known.

Groups come from a table's ``group`` column (patients), else from near-copies among the images. The same
rows, count and seed always give the same folds, so that members of a blend share them.
"""

from collections.abc import Iterator

import numpy as np

from kernels.config import FoldsConfig


def assign_folds(targets: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold of each row.

    Args:
        targets: Integer classes, shape (N,).
        groups: Group numbers, shape (N,); rows of one group share a fold.
        count: Number of folds.
        seed: Shuffles the rows.

    Returns:
        Integers in 0..count-1, shape (N,).

    Raises:
        ValueError: If a class has fewer rows than there are folds (class and count named).
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    classes, sizes = np.unique(targets, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"all {len(targets)} labels are {classes.tolist()}; two classes are needed")
    if sizes.min() < count:
        raise ValueError(
            f"class {classes[sizes.argmin()]} has {sizes.min()} rows, fewer than {count} folds; "
            "use fewer folds"
        )
    grouped = len(np.unique(groups)) < len(groups)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(
        n_splits=count, shuffle=True, random_state=seed
    )
    folds = np.full(len(targets), -1)
    splits = splitter.split(targets[:, None], targets, groups if grouped else None)
    for fold, (_, held_out) in enumerate(splits):
        folds[held_out] = fold
    return folds


def iterate_folds(
    targets: np.ndarray, groups: np.ndarray, config: FoldsConfig
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield (seed, fold, train rows, held-out rows) for everything this run trains."""
    chosen = range(config.count) if config.run_folds is None else config.run_folds
    for seed in config.seeds:
        folds = assign_folds(targets, groups, config.count, seed)
        for fold in chosen:
            yield seed, fold, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
