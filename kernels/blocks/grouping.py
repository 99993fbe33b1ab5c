"""Which labelled films must stay in one fold, and what folds are stratified by: the same for all pipelines.

Members of a blend are compared row by row, so their folds must agree: groups come from a table's own
column or from thumbnails of one fixed kind, never from a strategy's image size or contrast.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels.blocks.duplicates import group_near_duplicates
from kernels.blocks.images import load_images
from kernels.config import FoldsConfig

if TYPE_CHECKING:
    import pandas as pd

GROUPING_SIZE = 64  # pixels: fixed here so that groups do not depend on a strategy


def groups_of(
    labelled: "pd.DataFrame", config: FoldsConfig, cache: Path
) -> tuple[np.ndarray, dict[str, Any]]:
    """The group of each labelled row, and a report for metrics.json.

    The table's ``group`` column where there is one (patients), else near-copies among the films when
    ``config.group_near_duplicates`` asks for them, else every row by itself.

    Args:
        labelled: Columns ``path`` and perhaps ``group``.
        config: Whether near-copies are looked for, and from which correlation on.
        cache: Folder for the small films that near-copies are looked for in.

    Returns:
        Integers (N,); ``source`` of the report is column, near_duplicates or none.

    Raises:
        ValueError: If a group is empty, or a film cannot be read.
    """
    if "group" in labelled.columns:
        empty = labelled["group"].isna()
        if empty.any():
            raise ValueError(f"{int(empty.sum())} labelled rows have an empty group")
        _, groups = np.unique(
            labelled["group"].astype(str).to_numpy(dtype=str), return_inverse=True
        )
        groups = groups.reshape(-1)
        sizes = np.bincount(groups)
        finding = f"{int((sizes > 1).sum())} groups of several films in the table's column"
        report = {
            "source": "column",
            "n_groups_larger_than_1": int((sizes > 1).sum()),
            "largest": int(sizes.max()),
            "alarm": None,
            "finding": finding,
        }
        return groups, report
    if config.group_near_duplicates:
        films, _ = load_images(list(labelled["path"]), GROUPING_SIZE, cache, "films for grouping")
        found = group_near_duplicates(films, config.duplicate_correlation)
        return found.groups, {
            "source": "near_duplicates",
            "correlation": config.duplicate_correlation,
            **found.as_json(),
        }
    return np.arange(len(labelled)), {"source": "none", "finding": "groups were not looked for"}


def strata_of(targets: np.ndarray, folds: int) -> np.ndarray:
    """What folds are stratified by when there are several targets.

    Args:
        targets: 0 or 1, shape (N,) or (N, K).
        folds: Number of folds; a combination with fewer rows cannot be in each.

    Returns:
        Integers (N,): the combination of all targets if each that occurs has at least ``folds`` rows,
        else the first target alone.
    """
    table = np.asarray(targets, dtype=np.int64).reshape(len(targets), -1)
    _, joint, sizes = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    joint = joint.reshape(-1)
    if table.shape[1] > 1 and sizes.min() >= folds:
        return joint
    first: np.ndarray = table[:, 0]
    return first
