"""Linear models as plain numbers: they predict without scikit-learn, and the same wherever they are read."""

from typing import Any

import numpy as np


def predict_linear_model(model: dict[str, Any], features: np.ndarray) -> np.ndarray:
    """Probabilities in [0, 1], shape (N, K), in double precision.

    Args:
        model: ``mean`` and ``scale`` (D), ``weights`` (K, D), ``bias`` (K).
        features: Shape (N, D).
    """
    scaled = (np.asarray(features, dtype=np.float64) - np.array(model["mean"])) / np.array(
        model["scale"]
    )
    logits = scaled @ np.array(model["weights"]).T + np.array(model["bias"])
    probs: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * logits))  # the sigmoid, without overflow
    return probs
