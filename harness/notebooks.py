"""A rendered script as a notebook: the same code, a cell for each module. Pure.

jupytext reads the cells from the percent format; ids are made of the modules' names, so that equal scripts
give equal notebooks. A notebook has no file of its own to hash: the hash of the script it was made from is
baked into its last cell, goes into the run's manifest, and is what the ledger knows the push by.
"""

import hashlib
import json
import re
from itertools import pairwise

from harness.errors import ConfigError

BANNER = re.compile(r"^# ---- (kernels/\S+|configuration) -+$", re.MULTILINE)
BAKED = re.compile(r'"sha256:([0-9a-f]{64})"')
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}


def to_notebook(script: str) -> str:
    """The .ipynb text of a rendered script.

    Raises:
        ConfigError: jupytext is not installed.
    """
    try:
        import jupytext
    except ImportError as error:
        raise ConfigError(
            "Notebooks are made with jupytext, which is not installed.",
            "Install it: pip install '.[notebooks]'",
        ) from error
    header, _, code = script.partition("\n\n")
    starts = [match.start() for match in BANNER.finditer(code)]
    edges = [0, *starts, len(code)]
    cells = [code[a:b].strip("\n") for a, b in pairwise(edges)]
    cells = [cell for cell in cells if cell]
    digest = hashlib.sha256(script.encode()).hexdigest()
    cells[-1] = cells[-1].replace("__file__", f'"sha256:{digest}"')
    first, *rest = header.split("\n")
    lines = ["# %% [markdown]", first.replace("# ", "# # ", 1), *rest]
    for cell in cells:
        lines += ["", "# %%", cell]
    notebook = jupytext.reads(
        "\n".join(lines) + "\n",
        {"extension": ".py", "format_name": "percent", "comment_magics": False},
    )
    for number, cell in enumerate(notebook.cells):
        match = BANNER.search(cell.source)
        name = match[1] if match else ("imports" if number else "header")
        cell["id"] = f"{number:03d}-{re.sub(r'[^a-zA-Z0-9]+', '-', name)}"[:64]
        cell["metadata"] = {}
    notebook["metadata"] = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def source_sha256(source: str) -> str:
    """What a kernel writes into its manifest of its own code: of a notebook, the script it was made from."""
    if source.startswith("{"):
        try:
            cells = json.loads(source)["cells"]
        except (ValueError, KeyError, TypeError):
            cells = []
        for cell in reversed(cells):
            text = cell.get("source", "")
            match = BAKED.search(text if isinstance(text, str) else "".join(text))
            if match:
                return match[1]
    return hashlib.sha256(source.encode()).hexdigest()
