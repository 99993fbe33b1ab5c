"""A head on a frozen backbone: features of augmented views are computed once, then trained on for free.

Backbone and preprocessing are fixed, so an epoch needs no forward pass through the backbone; an epoch
on cached features is some hundred times faster (perf-baselines.md, e). The number of cached views bounds
the variety of augmentation.
"""

import copy
import math
import time
from typing import Any

import numpy as np
import torch

from kernels.blocks.augment import augment_batch
from kernels.blocks.devices import Compute
from kernels.blocks.entry import say
from kernels.blocks.losses import build_loss, smooth_targets
from kernels.blocks.mixing import mix_batch, mixing_on
from kernels.blocks.models import Backbone, ClassifierHead
from kernels.blocks.optimisers import Schedule, build_optimiser
from kernels.blocks.predicting import encode_images
from kernels.config import AugmentConfig, HeadConfig, TrainConfig
from kernels.stats import macro_auc


def encode_random_views(
    backbone: Backbone,
    films: np.ndarray,
    augment: AugmentConfig,
    count: int,
    seed: int,
    batch_size: int,
    compute: Compute,
) -> np.ndarray:
    """Pooled features of each film's plain view and of ``count - 1`` augmented ones.

    Args:
        films: uint8, square, shape (N, S, S).
        count: Views, at least 1.
        seed: Equal seeds give equal views.

    Returns:
        float32, shape (count, N, C); element 0 is the plain view.

    Raises:
        ValueError: If count is below 1.
    """
    if count < 1:
        raise ValueError(f"{count} views; at least 1 (the plain one)")
    rng = np.random.default_rng(seed)
    views = np.empty((count, len(films), backbone.channels), dtype=np.float32)
    for index in range(count):  # one view at a time: eight of 4,000 films would be 1.6 GB
        seen = films if index == 0 else augment_batch(films, augment, films.shape[1], rng)
        views[index] = encode_images(backbone, seen, ("plain",), batch_size, compute)
    return views


def fit_feature_head(
    features: np.ndarray,
    targets: np.ndarray,
    held: tuple[np.ndarray, np.ndarray],
    head_config: HeadConfig,
    config: TrainConfig,
    seed: int,
    name: str,
) -> tuple[ClassifierHead, list[dict[str, Any]]]:
    """Train a head on cached features.

    Each epoch shows a row in one of its views, drawn anew. Runs in float32 on the CPU: two small matrix
    products a step are not worth a GPU's launch times.

    Args:
        features: Shape (V, N, C).
        targets: 0 or 1, shape (N, K).
        held: Features (M, C) and targets (M, K) that are scored after each epoch. They choose the epoch
            only with ``early_stop_patience``; without it the last epoch is kept.
        head_config: Layers.
        config: Epochs, optimiser, loss, smoothing, MixUp, sampler, patience.
        seed: Decides weights, order, views and dropout.
        name: What the log lines call this fit.

    Returns:
        The head, in eval mode, and one row an epoch: epoch, train_loss, val_auc, lr, seconds.

    Raises:
        ValueError: If the loss is no longer a finite number, or the config asks for weight averaging.
    """
    if config.ema_decay is not None:
        raise ValueError("train.ema_decay is for fine-tuning; a frozen backbone's head has none")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = ClassifierHead(features.shape[2], head_config, targets.shape[1])
    batch_size = min(config.batch_size, len(targets))
    steps = len(targets) // batch_size
    optimiser = build_optimiser(head, config.optim)
    schedule = Schedule(optimiser, config.optim, config.epochs, steps)
    loss_of = build_loss(config, np.stack([(1 - targets).sum(axis=0), targets.sum(axis=0)]))
    table, soft = torch.from_numpy(features), torch.from_numpy(targets).float()
    soft = smooth_targets(soft, config.label_smoothing)
    history: list[dict[str, Any]] = []
    best_auc, best_epoch, best_state = -1.0, 0, head.state_dict()
    for epoch in range(1, config.epochs + 1):
        started = time.monotonic()
        head.train()
        order = draw_rows(targets, config.sampler, rng)
        views = rng.integers(0, len(features), len(targets))
        mixes = mixing_on(config.mix, epoch - 1, config.epochs)
        total = torch.zeros(())
        for step in range(steps):
            rows = torch.from_numpy(order[step * batch_size : (step + 1) * batch_size])
            inputs, wanted = table[torch.from_numpy(views)[rows], rows], soft[rows]
            if mixes:
                inputs, wanted = mix_batch(inputs, wanted, config.mix, rng)
            lr = schedule.before_step((epoch - 1) * steps + step)
            loss = loss_of(head(inputs), wanted)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if config.optim.clip_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(head.parameters(), config.optim.clip_grad_norm)
            optimiser.step()
            total += loss.detach()
        mean_loss = float(total) / steps
        if not math.isfinite(mean_loss):
            raise ValueError(f"{name}: the loss is {mean_loss} in epoch {epoch}; lower train.optim.lr")
        val_auc = macro_auc(held[1], head_logits(head, held[0]))
        schedule.after_epoch(val_auc)
        seconds = time.monotonic() - started
        history.append(
            {
                "epoch": epoch,
                "train_loss": round(mean_loss, 6),
                "val_auc": round(val_auc, 6),
                "lr": lr,
                "seconds": round(seconds, 3),
            }
        )
        say(f"{name} epoch {epoch} loss {mean_loss:.4f} val AUC {val_auc:.4f} lr {lr:.2e} {seconds:.2f} s")
        if config.early_stop_patience is None:
            continue
        if val_auc > best_auc:
            best_auc, best_epoch, best_state = val_auc, epoch, copy.deepcopy(head.state_dict())
        elif epoch - best_epoch >= config.early_stop_patience:
            break
    if config.early_stop_patience is not None:
        head.load_state_dict(best_state)
    return head.eval(), history


def draw_rows(targets: np.ndarray, sampler: str, rng: np.random.Generator) -> np.ndarray:
    """Rows of one epoch, shape (N,): shuffled, or drawn with replacement so that classes are equal.

    Raises:
        ValueError: Another sampler than shuffle or balanced.
    """
    count = len(targets)
    if sampler == "shuffle":
        return rng.permutation(count)
    if sampler != "balanced":
        raise ValueError(f"sampler is {sampler!r}, not shuffle or balanced")
    first = targets[:, 0]
    weights = np.where(first == 1, 1.0 / max((first == 1).sum(), 1), 1.0 / max((first == 0).sum(), 1))
    return rng.choice(count, count, p=weights / weights.sum())


def head_logits(head: ClassifierHead, features: np.ndarray) -> np.ndarray:
    """Logits float64 (..., K) of features (..., C), without dropout."""
    head.eval()
    flat = torch.from_numpy(np.ascontiguousarray(features.reshape(-1, features.shape[-1])))
    with torch.inference_mode():
        logits = head(flat).double().numpy()
    return logits.reshape(*features.shape[:-1], logits.shape[1])
