"""Losses on logits with soft targets: cross-entropy, linear-form focal, weighted classes.

Smoothing and mixing make targets soft. Each loss here is linear in the target, t * L(z, 1) + (1 -
t) * L(z, 0): exactly what mixing two films asks for. Correct an imbalance in one place (sampler,
alpha or class weights), not in three.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kernels.config import TrainConfig

LossFunction = Callable[[Tensor, Tensor], Tensor]


def build_loss(
    config: TrainConfig, class_counts: np.ndarray, exclusive: bool = False
) -> LossFunction:
    """The loss a config names, on (B, K) logits and (B, K) soft targets.

    Args:
        config: Its ``loss`` is bce, focal or weighted_ce.
        class_counts: Training rows with target 0 and 1, shape (2, K); weighted_ce uses it.
        exclusive: Targets are classes: the same idea under one softmax. Focal weights of positive and
            negative rows mean nothing there, so that only gamma counts.

    Raises:
        ValueError: For an unknown name, a class without rows where weights are needed, or weights of two
            classes where there are others.
    """
    if exclusive:
        gamma, shares = 0.0, None
        if config.loss == "focal":
            gamma = config.focal_gamma
        elif config.loss == "weighted_ce":
            if config.class_weights is not None:
                raise ValueError("class_weights are of class 0 and 1; here each target is a class")
            shares = torch.tensor(weights_of_classes(class_counts[1]), dtype=torch.float32)
        return lambda logits, targets: softmax_loss(logits, targets, gamma, shares)
    if config.loss == "bce":
        return binary_cross_entropy
    if config.loss == "focal":
        alpha, gamma = config.focal_alpha, config.focal_gamma
        return lambda logits, targets: focal_loss(logits, targets, alpha, gamma)
    if config.loss == "weighted_ce":
        given = config.class_weights
        table = class_weights(class_counts) if given is None else np.array(given)
        weights = torch.tensor(table, dtype=torch.float32)
        return lambda logits, targets: weighted_cross_entropy(logits, targets, weights)
    raise ValueError(f"loss {config.loss!r} is unknown")


def smooth_targets(targets: Tensor, smoothing: float, exclusive: bool = False) -> Tensor:
    """y(1 - eps) + eps/2: 0.1 turns 0 and 1 into 0.05 and 0.95. Once, and before mixing.

    Of K classes it is eps/K, so that rows still sum to 1.

    Raises:
        ValueError: If smoothing is not in [0, 1).
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"label_smoothing is {smoothing}, not in [0, 1)")
    return targets * (1.0 - smoothing) + smoothing / (targets.shape[1] if exclusive else 2)


def check_same_shape(logits: Tensor, targets: Tensor) -> None:
    """Refuse (B, 1) against (B,), which would broadcast to (B, B) silently (ValueError)."""
    if logits.shape != targets.shape:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, targets {tuple(targets.shape)}; equal shapes "
            "are needed"
        )


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (B, K) and targets (B, K) in [0, 1]; scalar."""
    check_same_shape(logits, targets)
    return functional.binary_cross_entropy_with_logits(logits, targets)


def focal_terms(logits: Tensor, targets: Tensor, alpha: float | None, gamma: float) -> Tensor:
    """Focal loss of every element, in its linear form; arguments as focal_loss."""
    check_same_shape(logits, targets)
    positive = torch.sigmoid(-logits).pow(gamma) * functional.softplus(-logits)
    negative = torch.sigmoid(logits).pow(gamma) * functional.softplus(logits)
    if alpha is not None:
        positive, negative = alpha * positive, (1.0 - alpha) * negative
    return targets * positive + (1.0 - targets) * negative


def focal_loss(
    logits: Tensor, targets: Tensor, alpha: float | None = 0.25, gamma: float = 2.0
) -> Tensor:
    """Binary focal loss, averaged over all elements.

    torchvision's formula puts the soft target inside the power: at target 0.95 its minimum is at p
    = 0.995, which undoes the smoothing. This form equals lambda * FL(a) + (1 - lambda) * FL(b) for
    a mix.

    Args:
        logits: Raw scores, shape (B, K).
        targets: Soft labels in [0, 1], shape (B, K).
        alpha: Weight of the positive class, in [0, 1]; the negative class gets 1 - alpha. None
            weighs both by 1.
        gamma: How much easy films are turned down; 0 is cross-entropy.

    Returns:
        Scalar. At gamma=0 and alpha=0.5 it is half the binary cross-entropy.

    Raises:
        ValueError: If the shapes differ.

    Source: Lin et al. 2017, arXiv:1708.02002, eq. 5.
    """
    return focal_terms(logits, targets, alpha, gamma).mean()


def softmax_loss(
    logits: Tensor, targets: Tensor, gamma: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of K classes under one softmax; with gamma its focal form.

    Args:
        logits: Raw scores, shape (B, K).
        targets: Soft labels, shape (B, K); rows sum to 1.
        gamma: How much easy films are turned down; 0 is cross-entropy.
        weights: Of each class, shape (K,); only their ratio counts, as in weighted_cross_entropy.

    Raises:
        ValueError: If the shapes differ.
    """
    check_same_shape(logits, targets)
    logs = functional.log_softmax(logits, dim=1)
    terms = -logs * (-torch.expm1(logs)).clamp(min=1e-8).pow(gamma)
    shares = targets if weights is None else targets * weights.to(logits)
    return (shares * terms).sum() / shares.sum()


def weights_of_classes(counts: np.ndarray) -> np.ndarray:
    """Weights of K classes, shape (K,), rarer ones heavier: 1 / n, scaled to a mean of 1.

    Raises:
        ValueError: If a class has no rows.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if (counts <= 0).any():
        raise ValueError(f"class counts are {counts.tolist()}; every class needs rows")
    inverse = 1.0 / counts
    return np.asarray(inverse / inverse.mean())


def class_weights(counts: np.ndarray, rule: str = "sum2") -> np.ndarray:
    """Weights of the two classes, rarer ones heavier.

    Args:
        counts: Rows of class 0 and 1, shape (2,) or (2, K).
        rule: ``sum2``: 1 / n, scaled to sum 2 (write-up B); ``balanced``: n / (2 n_c)
            (scikit-learn).

    Returns:
        Same shape as counts.

    Raises:
        ValueError: If a class has no rows, or the rule is another.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.shape[0] != 2 or (counts <= 0).any():
        raise ValueError(f"class counts are {counts.tolist()}; both classes need rows")
    inverse = 1.0 / counts
    if rule == "sum2":
        return np.asarray(2.0 * inverse / inverse.sum(axis=0))
    if rule == "balanced":
        return np.asarray(counts.sum(axis=0) / 2.0 * inverse)
    raise ValueError(f"rule is {rule!r}, not sum2 or balanced")


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of two classes with a weight each.

    Args:
        logits: Logit of class 1, shape (B, K): for two softmax scores their difference.
        targets: Share of class 1 in [0, 1], shape (B, K).
        weights: Of class 0 and class 1, shape (2,) or (2, K).
        reduction: ``mean`` divides by the sum of the weights in the batch, as PyTorch does, so that
            only their ratio counts; ``none`` gives every element.

    Raises:
        ValueError: If the shapes differ.
    """
    check_same_shape(logits, targets)
    weights = weights.to(logits)
    if weights.ndim == 1:
        weights = weights[:, None]
    positive, negative = targets * weights[1], (1.0 - targets) * weights[0]
    terms = positive * functional.softplus(-logits) + negative * functional.softplus(logits)
    return terms if reduction == "none" else terms.sum() / (positive + negative).sum()
