"""What a classifier is for: how its targets relate, and which of two scores is the better one."""

from dataclasses import dataclass

import numpy as np

from kernels.stats.metrics import find_metric


def logistic(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow, any shape."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, without overflow; they sum to 1."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Goal:
    """A competition as a training sees it.

    With ``exclusive`` targets exactly one of K is 1 in a row: they are classes, logits go through one
    softmax and share one cross-entropy. Else each target is a yes or no of its own.
    """

    metric: str = "auc"  # a name that kernels/stats/metrics.py knows
    exclusive: bool = False

    def probs(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities of logits (..., K), the same shape."""
        return softmax(logits) if self.exclusive else logistic(logits)

    def gain(self, score: float) -> float:
        """The metric's score, turned so that greater is better."""
        return score if find_metric(self.metric).greater_is_better else -score


INDEPENDENT = Goal()  # yes or no for each target, scored by AUC
