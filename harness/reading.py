"""Reading CSV files that other people and kernels wrote: whole, as UTF-8, or refused with a reason."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# About four million rows of predictions. Measured with pandas 3.1: reading takes six times a file's size
# in memory, lining members up another two.
TABLE_LIMIT_BYTES = 128 << 20
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_csv(path: Path, text_columns: Sequence[str]) -> "pd.DataFrame":
    """A table with its header; a byte order mark and any line ends are fine, nothing is evaluated.

    Args:
        text_columns: Columns to keep as text, also where they look like numbers or like nothing.

    Raises:
        ValueError: It cannot be opened, is larger than TABLE_LIMIT_BYTES, not UTF-8, no CSV, or
            separated by something else than commas.
    """
    import pandas as pd

    try:
        size = path.stat().st_size
        if size > TABLE_LIMIT_BYTES:
            raise ValueError(
                f"it has {size / 1e6:.0f} MB, and tables are read up to {TABLE_LIMIT_BYTES / 1e6:.0f} MB "
                f"({TABLE_LIMIT_BYTES * 8 / 1e9:.0f} GB of memory)"
            )
        # "NA" and "null" are ids like any other.
        frame = pd.read_csv(
            path,
            dtype=dict.fromkeys(text_columns, str),
            keep_default_na=False,
            na_values=[],
            encoding="utf-8-sig",
            low_memory=False,
        )
    except (OSError, OverflowError, MemoryError, RecursionError, csv.Error) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    for name in frame.columns:
        if frame[name].dtype == object and name not in text_columns:
            # Whole numbers beyond 64 bits come as Python's own; as text they are no number to anybody.
            frame[name] = frame[name].astype(str)
    names = [str(name) for name in frame.columns]
    if len(names) == 1:
        for mark, word in OTHER_SEPARATORS.items():
            if mark in names[0]:
                raise ValueError(f"its columns are separated by {word}, not by commas")
    return frame
