"""Linear models as plain numbers: they predict without scikit-learn, and the same wherever they are read."""

from typing import Any

import numpy as np

from kernels.blocks.goal import logistic, softmax


def fit_linear_model(
    features: np.ndarray, targets: np.ndarray, inverse_regularisation: float, exclusive: bool
) -> dict[str, Any]:
    """A scaler and logistic regressions: one for each target, or one over all classes.

    Args:
        features: Shape (N, D); the scaler sees these rows only.
        targets: 0 or 1, shape (N, K).
        inverse_regularisation: scikit-learn's C.
        exclusive: Targets are classes: a row has exactly one.

    Returns:
        ``mean`` and ``scale`` (D), ``weights`` (K, D), ``bias`` (K), ``exclusive``.

    Raises:
        ValueError: A class, or a target's 0 or 1, has no rows.
    """
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    model = LogisticRegression(C=inverse_regularisation, max_iter=5000)
    if exclusive:
        counts = targets.sum(axis=0)
        if not counts.all():
            raise ValueError(f"class {int(counts.argmin())} of {len(counts)} has no rows")
        fitted = model.fit(scaled, targets.argmax(axis=1))
        weights, bias = fitted.coef_, fitted.intercept_
        if len(counts) == 2:  # one regression, of the second class against the first
            weights = np.concatenate([np.zeros_like(weights), weights])
            bias = np.concatenate([np.zeros_like(bias), bias])
    else:
        fits = [clone(model).fit(scaled, column) for column in targets.T]
        weights = np.stack([fit.coef_[0] for fit in fits])
        bias = np.array([fit.intercept_[0] for fit in fits])
    return {
        "mean": np.asarray(scaler.mean_, dtype=np.float64).tolist(),
        "scale": np.asarray(scaler.scale_, dtype=np.float64).tolist(),
        "weights": np.asarray(weights, dtype=np.float64).tolist(),
        "bias": np.asarray(bias, dtype=np.float64).tolist(),
        "exclusive": exclusive,
    }


def predict_linear_model(model: dict[str, Any], features: np.ndarray) -> np.ndarray:
    """Probabilities in [0, 1], shape (N, K), in double precision.

    Args:
        model: As fit_linear_model gives it.
        features: Shape (N, D).
    """
    scaled = (np.asarray(features, dtype=np.float64) - np.array(model["mean"])) / np.array(
        model["scale"]
    )
    logits = scaled @ np.array(model["weights"]).T + np.array(model["bias"])
    return softmax(logits) if model.get("exclusive") else logistic(logits)
