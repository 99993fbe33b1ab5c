"""What a score with its uncertainty consists of."""

from dataclasses import dataclass


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
