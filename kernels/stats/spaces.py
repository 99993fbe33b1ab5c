"""Spaces in which predictions are added up: probabilities, ranks inside (seed, fold), logits.

Blends are fitted with these in harness and made again with these inside inference kernels.
"""

import numpy as np

from kernels.stats.ranks import ranks_within

LOGIT_CLIP = 1e-6  # logits stay within +-13.8


def to_space(
    predictions: np.ndarray, space: str, seeds: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """(N, T) predictions in a space; ranks are taken inside (seed, fold), as at test time."""
    if space == "rank":
        return np.asarray(ranks_within(predictions, (seeds, folds)))
    if space == "logit":
        clipped = np.clip(np.asarray(predictions, dtype=np.float64), LOGIT_CLIP, 1 - LOGIT_CLIP)
        return np.asarray(np.log(clipped) - np.log1p(-clipped))
    return predictions


def from_space(mixed: np.ndarray, space: str) -> np.ndarray:
    """A weighted sum in a space as numbers in [0, 1]."""
    if space == "logit":
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * mixed))
    return np.asarray(np.clip(mixed, 0.0, 1.0))
