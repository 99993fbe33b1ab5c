"""Exact confidence interval of a proportion: accuracy, recall and their like."""

import math

import numpy as np

from kernels.stats.checking import normal_quantile


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval of a proportion, (low, high) in [0, 1].

    Raises:
        ValueError: Unless 0 <= successes <= trials and trials >= 1.

    Source: Clopper & Pearson 1934.
    """
    normal_quantile(level)
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} successes of {trials} trials; 0 <= successes <= trials, 1 <= trials"
        )
    tail = math.log((1.0 - level) / 2)
    low = _binomial_tail_root(successes, trials, tail) if successes else 0.0
    missed = trials - successes
    high = 1.0 - _binomial_tail_root(missed, trials, tail) if missed else 1.0
    return low, high


def _binomial_tail_root(successes: int, trials: int, log_tail: float) -> float:
    """The p <= successes / trials with log P(X >= successes) = log_tail; successes >= 1."""
    # For such p the terms fall like a Gaussian's of deviation at most sqrt(trials) / 2, so those
    # past 40 sqrt(trials) are lost to rounding anyway.
    last = min(trials, successes + 40 * math.isqrt(trials) + 40)
    above = np.arange(successes, last, dtype=np.float64)
    first = (
        math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    )
    choose = first + np.concatenate(([0.0], np.cumsum(np.log((trials - above) / (above + 1)))))
    counts = np.arange(successes, last + 1, dtype=np.float64)
    low, high = 0.0, successes / trials
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        terms = choose + counts * math.log(middle) + (trials - counts) * math.log1p(-middle)
        peak = float(terms.max())
        if peak + math.log(float(np.exp(terms - peak).sum())) < log_tail:
            low = middle
        else:
            high = middle
