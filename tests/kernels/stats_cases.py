"""Inputs and slow, obvious versions that the tests of kernels.stats share.

Numbers with a # come from the table of numerical oracles the project was started with.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

QUICK = settings(max_examples=60, deadline=None)

# #49: four positives, five negatives, two members
TARGETS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0])
MEMBER_A = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.4, 0.3, 0.2, 0.1])
MEMBER_B = np.array([0.7, 0.9, 0.4, 0.5, 0.6, 0.5, 0.2, 0.35, 0.1])
# #55
FIRST = np.array([0.10, 0.40, 0.40, 0.95])
SECOND = np.array([0.60, 0.20, 0.30, 0.90])
# #58
LABELS = np.array([1, 1, 0, 1, 0, 0, 1, 0])
PROBS = np.array([0.95, 0.85, 0.15, 0.55, 0.45, 0.35, 0.65, 0.05])


def brute_auc(targets: Any, scores: Any) -> float:
    """Every (positive, negative) pair, in exact arithmetic."""
    pairs = [
        Fraction(1) if p > n else Fraction(1, 2) if p == n else Fraction(0)
        for p, up in zip(scores, targets, strict=True)
        if up == 1
        for n, down in zip(scores, targets, strict=True)
        if down == 0
    ]
    return float(sum(pairs, Fraction(0)) / len(pairs))


def brute_delong(targets: Any, a: Any, b: Any) -> np.ndarray:
    """DeLong 1988 as printed: the full matrix of pairs."""
    kernels = []
    for scores in (a, b):
        up, down = scores[targets == 1][:, None], scores[targets == 0][None, :]
        kernels.append((up > down) + 0.5 * (up == down))
    v10 = np.array([kernel.mean(axis=1) for kernel in kernels])
    v01 = np.array([kernel.mean(axis=0) for kernel in kernels])
    return np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]


def draw_rows(seed: int, n: int = 120, decimals: int | None = None) -> tuple[Any, Any, Any]:
    """Targets and two related members."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(n) < 0.6).astype(np.int64)
    targets[:2] = 0, 1
    signal = rng.normal(size=n) + targets
    a, b = (1 / (1 + np.exp(-signal - rng.normal(size=n))) for _ in range(2))
    if decimals is not None:
        a, b = a.round(decimals), b.round(decimals)
    return targets, a, b


@st.composite
def targets_and_scores(draw: st.DrawFn, members: int = 1, least: int = 1) -> Any:
    """0/1 targets with both classes and members of scores, with plenty of ties or none."""
    n = draw(st.integers(2 * least, 30))
    targets = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    targets[:least], targets[least : 2 * least] = [0] * least, [1] * least
    values = draw(
        st.sampled_from(
            [
                st.integers(-3, 3).map(float),
                st.floats(0, 1),
                st.floats(-1e6, 1e6),
                st.floats(-10, 10, width=32),
                st.floats(allow_nan=False),
                st.sampled_from([0.1, 0.30000000000000004, 0.3, np.nextafter(0.1, 1), -0.0, 0.0]),
            ]
        )
    )
    columns = [draw(st.lists(values, min_size=n, max_size=n)) for _ in range(members)]
    return np.array(targets), *(np.array(column) for column in columns)
