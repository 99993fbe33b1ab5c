"""What a score with its uncertainty consists of."""

import sys
from dataclasses import dataclass

SMALLEST_P_VALUE = sys.float_info.min
"""No test here answers p = 0: what underflows is reported as this, the smallest normal double."""


@dataclass(frozen=True)
class ScoreInterval:
    """A score with a confidence interval, in the metric's own units."""

    estimate: float
    low: float
    high: float
    standard_error: float
    level: float
    method: str  # delong-logit | delong-wald | bootstrap | group bootstrap | ... or "exact bound"
    n_resamples: int = 0  # resamples on which the metric was defined; 0 when none were drawn
    degenerate: bool = False  # the estimated variance is zero; note says what low and high are
    note: str = ""  # why, in a sentence; empty unless degenerate


@dataclass(frozen=True)
class ScoreDifference:
    """Paired difference a - b of two members on the same rows, in the metric's own units."""

    score_a: float
    score_b: float
    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float  # two-sided, never 0
    level: float
    method: str
    n_resamples: int = 0
    degenerate: bool = False
    note: str = ""
