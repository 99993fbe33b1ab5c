"""A head on a frozen backbone: features of augmented views are computed once, then trained on for free.

Backbone and preprocessing are fixed, so an epoch needs no forward pass through the backbone; an epoch on
cached features is some hundred times faster (perf-baselines.md, e). The number of cached views bounds
the variety of augmentation.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kernels.blocks.devices import Compute
from kernels.blocks.goal import INDEPENDENT, Goal
from kernels.blocks.losses import build_loss
from kernels.blocks.models import ClassifierHead
from kernels.blocks.predicting import run_views
from kernels.blocks.resuming import TrainingSlot
from kernels.blocks.samplers import count_batches, epoch_order, split_batches
from kernels.blocks.seed import derive_seed
from kernels.blocks.training import fit_model
from kernels.blocks.tta import random_tta_views
from kernels.config import AugmentConfig, HeadConfig, TrainConfig


def run_random_views(
    network: Callable[[Tensor], Tensor],
    films: np.ndarray,
    augment: AugmentConfig,
    count: int,
    seed: int,
    batch_size: int,
    compute: Compute,
) -> np.ndarray:
    """What a network says of each film's plain view and of ``count - 1`` augmented ones.

    Args:
        network: Films (B, 1, S, S) in [0, 1] -> (B, D); in eval mode.
        films: uint8, square, shape (N, S, S).
        count: Views, at least 1.
        seed: Equal seeds give equal views.

    Returns:
        float32, shape (count, N, D); element 0 is the plain view.

    Raises:
        ValueError: If count is below 1.
    """
    return np.stack(
        [
            np.concatenate(
                [out for _, out in run_views(network, view, ("plain",), batch_size, compute)]
            )
            for view in random_tta_views(films, augment, count, seed)
        ]
    )


def fit_feature_head(
    features: np.ndarray,
    targets: np.ndarray,
    held: tuple[np.ndarray, np.ndarray],
    head_config: HeadConfig,
    config: TrainConfig,
    seed: int,
    score: Callable[[np.ndarray, np.ndarray], float],
    label: str = "",
    slot: TrainingSlot | None = None,
    goal: Goal = INDEPENDENT,
) -> tuple[ClassifierHead, list[dict[str, Any]]]:
    """Train a head on cached features; each epoch shows a row in one of its views, drawn anew.

    Runs in float32 on the CPU: two small matrix products a step are not worth a GPU's launch times.

    Args:
        features: Shape (V, N, C).
        targets: 0 or 1, shape (N, K).
        held: Features (M, C) and targets (M, K) that are scored after each epoch. They choose the epoch
            only with ``early_stop_patience``; without it the last epoch is kept.
        seed: Decides weights, order, views and dropout.
        score: The metric, of targets and probabilities, both (M, K).
        label: Starts each log line.
        slot, goal: See fit_model.

    Returns:
        The head, in eval mode, and the history of ``fit_model``.
    """
    torch.manual_seed(derive_seed(seed, "head"))
    head = ClassifierHead(features.shape[2], head_config, targets.shape[1])
    truth = targets.astype(np.float32)
    table = torch.from_numpy(features)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(derive_seed(seed, "views", epoch))
        order = epoch_order(truth, config.sampler, rng)
        views = rng.integers(0, len(features), len(order))
        for places in split_batches(np.arange(len(order)), config.batch_size):
            rows = torch.from_numpy(order[places])
            yield (
                table[torch.from_numpy(views[places]), rows],
                torch.from_numpy(truth[order[places]]),
            )

    def validate(candidate: nn.Module) -> float:
        return score(held[1], goal.probs(head_logits(candidate, held[0])))

    history = fit_model(
        head,
        batches,
        count_batches(len(truth), config.batch_size),
        config,
        Compute("cpu", None, "head"),
        seed,
        build_loss(
            config, np.stack([(1.0 - truth).sum(axis=0), truth.sum(axis=0)]), goal.exclusive
        ),
        validate,
        label,
        slot,
        goal,
    )
    return head.eval(), history


def head_logits(head: nn.Module, features: np.ndarray) -> np.ndarray:
    """Logits float64 (..., K) of features (..., C), without dropout."""
    head.eval()
    flat = torch.from_numpy(np.ascontiguousarray(features.reshape(-1, features.shape[-1])))
    with torch.inference_mode():
        logits = head(flat).double().numpy()
    return np.asarray(logits.reshape(*features.shape[:-1], logits.shape[1]))
