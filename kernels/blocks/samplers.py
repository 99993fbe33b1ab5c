"""Which rows an epoch shows, in which order. All chance comes from the generator passed in."""

from collections.abc import Iterator

import numpy as np


def epoch_order(targets: np.ndarray, sampler: str, rng: np.random.Generator) -> np.ndarray:
    """Positions 0..N-1 in the order of one epoch.

    Args:
        targets: In [0, 1], shape (N, K).
        sampler: ``shuffle``: every row once. ``balanced``: N draws with replacement, both classes
            of the target equally likely; at 641 to 237 an epoch then shows half of the positives
            and 84 % of the negatives.

    Raises:
        ValueError: Unknown sampler; balanced with several targets or a class without rows.
    """
    if sampler == "shuffle":
        return rng.permutation(len(targets))
    if sampler != "balanced":
        raise ValueError(f"sampler is {sampler!r}, not shuffle or balanced")
    if targets.shape[1] != 1:
        raise ValueError(f"the balanced sampler needs one target, not {targets.shape[1]}")
    classes = (targets[:, 0] > 0.5).astype(np.int64)  # soft labels count as the nearer class
    counts = np.bincount(classes, minlength=2)
    if len(counts) != 2 or not counts.all():
        raise ValueError(f"the balanced sampler needs both classes; their rows: {counts.tolist()}")
    weights = 0.5 / counts[classes]
    return rng.choice(len(targets), size=len(targets), replace=True, p=weights)


def subset_rows(
    targets: np.ndarray, rows: np.ndarray, per_class: int | None, seed: int
) -> np.ndarray:
    """At most ``per_class`` rows of each class, drawn without replacement.

    Args:
        targets: In [0, 1], shape (N, K).
        rows: Rows to draw from.
        per_class: None keeps them all; a class with fewer rows keeps all of its own.
        seed: Decides which.

    Returns:
        Sorted rows.

    Raises:
        ValueError: A subset with several targets: their classes overlap.
    """
    if per_class is None:
        return rows
    if targets.shape[1] != 1:
        raise ValueError(f"rows_per_class needs one target, not {targets.shape[1]}")
    rng = np.random.default_rng(seed)
    positive = targets[rows, 0] > 0.5
    drawn = [rng.permutation(rows[positive == label])[:per_class] for label in (False, True)]
    return np.sort(np.concatenate(drawn))


def split_batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Full batches only: a last batch of one row breaks batch norm, and odd shapes cost time.

    With fewer rows than a batch holds, all of them are one batch.
    """
    if len(order) < batch_size:
        yield order
        return
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def count_batches(rows: int, batch_size: int) -> int:
    """How many batches ``split_batches`` gives."""
    return max(rows // batch_size, 1)
