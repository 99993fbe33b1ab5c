"""Notebooks, run as the script their code cells make.

Kaggle executes a notebook with papermill; here the cells run in one interpreter, in order, which is
the same for code that does not depend on IPython. Lines that only IPython understands are left as
comments, so line numbers within a cell stay.
"""

from __future__ import annotations

import json
from typing import Any

from harness.emulator.errors import bad_request


def check(text: str) -> None:
    """Refuse what is not a notebook.

    Raises:
        ApiError: With status 400.
    """
    try:
        _code_cells(text)
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise bad_request("The notebook's source is not valid JSON of a notebook") from problem


def _code_cells(text: str) -> list[str]:
    document: dict[str, Any] = json.loads(text)
    cells = []
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            source = cell["source"]
            cells.append(source if isinstance(source, str) else "".join(source))
    return cells


def as_script(text: str) -> str:
    """Join a notebook's code cells into one script."""
    parts = []
    for number, source in enumerate(_code_cells(text), start=1):
        lines = []
        skip = source.lstrip().startswith("%%")
        for line in source.splitlines():
            bare = line.lstrip()
            if skip or bare.startswith(("!", "%")):
                indent = line[: len(line) - len(bare)]
                line = f"{indent}pass  # IPython only: {bare}" if bare else line
            lines.append(line)
        parts.append(f"# ---- cell {number} ----\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)
