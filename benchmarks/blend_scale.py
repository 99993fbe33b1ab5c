"""64 members x 1,000,000 rows: build the table, score every member and method; time and peak memory.

Members are drawn one at a time, as a run's files are read one at a time, so that the peak is what the
harness itself holds. Prints progress on stderr and JSON on stdout; exit code 1 above the stated memory.

    python benchmarks/blend_scale.py [--members 64] [--rows 1000000] [--method auc-weights]
"""

# ruff: noqa: E402 (the path and the environment come first)

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from harness.blending import blend_members
from harness.members import line_up
from harness.outputs import RunOutputs
from kernels.config import Competition

STATED_MB = 1000
COMPETITION = Competition(slug="s", title="S", id_column="id", target_columns=("label",))


def drawn(members: int, rows: int) -> Iterator[RunOutputs]:
    """Members as their files give them, sorted by (seed, fold, id)."""
    rng = np.random.default_rng(0)
    truth = (rng.random(rows) < 0.3).astype(np.int64)
    ids = np.array([f"{i:08d}" for i in range(rows)], dtype=object)
    folds = np.sort(np.arange(rows) % 5)
    test = pd.DataFrame({"id": ["t0", "t1"], "seed": 0, "fold": 0, "pred_label": [0.1, 0.9]})
    for number in range(members):
        logits = rng.uniform(0.4, 0.6) * (2 * truth - 1) + rng.normal(size=rows)
        frame = pd.DataFrame(
            {"id": ids, "seed": 0, "fold": folds, "target_label": truth,
             "pred_label": 1 / (1 + np.exp(-logits))}
        )  # fmt: skip
        yield RunOutputs(f"m{number:02d}", Path(), {}, {}, frame, test)


def say(text: str) -> None:
    """Progress, with memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"[{time.perf_counter() - STARTED:6.1f} s, peak {peak} MB] {text}",
        file=sys.stderr,
        flush=True,
    )


STARTED = time.perf_counter()


def main() -> int:
    """Run once; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--method", default="auc-weights")
    chosen = parser.parse_args()
    outputs = drawn(chosen.members, chosen.rows)
    table = line_up(outputs, COMPETITION, chosen.members, progress=say)
    read_s = time.perf_counter() - STARTED
    blend = blend_members(table, COMPETITION, chosen.method, progress=say)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        json.dumps(
            {
                "members": chosen.members,
                "rows": chosen.rows,
                "method": blend.method,
                "nested": blend.score.mean_fold,
                "best": blend.best.score.mean_fold,
                "gain": blend.versus_best.text(),
                "read_s": round(read_s, 1),
                "total_s": round(time.perf_counter() - STARTED, 1),
                "peak_mb": peak,
                "stated_mb": STATED_MB,
            },
            indent=2,
        )
    )
    return int(peak > STATED_MB)


if __name__ == "__main__":
    raise SystemExit(main())
