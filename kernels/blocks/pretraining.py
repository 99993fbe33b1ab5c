"""The SimSiam stage: pairs of views, epochs, and the measures that watch for collapse.

It never sees a label. ``probe`` may look at labelled films, but what it returns is only logged.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kernels.blocks.augment import augment_batch
from kernels.blocks.devices import Compute
from kernels.blocks.entry import say
from kernels.blocks.optimisers import lr_factor, parameter_groups
from kernels.blocks.predicting import gray_tensor
from kernels.blocks.resuming import GeneratorPart, StatefulPart, TrainingSlot
from kernels.blocks.seed import derive_seed
from kernels.blocks.simsiam import SimSiam, effective_rank, embedding_std, simsiam_loss
from kernels.blocks.training import prefetch
from kernels.config import SimSiamConfig

RANK_ROWS = 512  # projections kept for the effective rank, from an epoch's last batches


def pretrain(
    model: SimSiam,
    films: np.ndarray,
    partners: np.ndarray,
    config: SimSiamConfig,
    compute: Compute,
    seed: int,
    probe: Callable[[], dict[str, float]],
    slot: TrainingSlot | None = None,
) -> list[dict[str, Any]]:
    """Train a SimSiam network on unlabelled films, in place.

    Args:
        films: uint8, shape (N, S, S).
        partners: For each film the row of the film it may be paired with, shape (N,); its own row for
            plain SimSiam.
        seed: Decides order, pairs and views.
        probe: Called before training, every ``probe_every`` epochs and after the last; its numbers join
            the history.
        slot: Where this training is kept when the session's time runs out, and goes on from.

    Returns:
        One row an epoch, row 0 before training: epoch, loss, std, effective_rank, lr, seconds and
        whatever ``probe`` gives; what was not measured is an empty string.

    Raises:
        ValueError: With fewer than two films, or when the loss is no longer a finite number.
        BudgetSpent: Between two epochs, after everything was saved in the slot.
    """
    count, batch_size = len(films), min(config.ssl_batch_size, len(films))
    if count < 2:
        raise ValueError(f"{count} unlabelled films; SimSiam needs at least 2")
    steps = count // batch_size  # the rest of an epoch is left out: batch norm wants full batches
    optimiser = ssl_optimiser(model, config)
    scaler = compute.scaler()
    history: list[dict[str, Any]] = []
    measured = ("loss", "std", "effective_rank", "lr", "seconds")
    rng = np.random.default_rng(seed)
    parts: dict[str, StatefulPart] = {
        "model": model, "optimiser": optimiser, "scaler": scaler, "rng": GeneratorPart(rng)
    }  # fmt: skip
    reached = 0 if slot is None else slot.restore(parts, history)
    if not history:
        record_ssl_epoch(history, {"epoch": 0, **dict.fromkeys(measured, "")}, probe())
    first_epoch = (config.ssl_epochs if reached is None else reached) + 1
    for epoch in range(first_epoch, config.ssl_epochs + 1):
        if slot is not None:
            longest = max((float(row["seconds"]) for row in history[1:]), default=0.0)
            slot.pause_if_due(parts, history, epoch - 1, config.ssl_epochs, longest)
        torch.manual_seed(
            derive_seed(seed, "epoch", epoch)
        )  # for dropout, where a backbone has any
        started = time.monotonic()
        model.train()
        if config.ssl_frozen_norm:
            keep_norm_statistics(model.backbone)
        losses, kept = [], []
        for step, (first, second) in enumerate(
            prefetch(compute.pinned(view_tensors(films, partners, batch_size, config, rng)))
        ):
            done = (epoch - 1 + step / steps) / config.ssl_epochs
            lr = set_ssl_rates(optimiser, lr_factor(config.ssl_optim, done, config.ssl_epochs))
            with compute.autocast():
                p1, p2, z1, z2 = model(compute.put(first), compute.put(second))
            loss = simsiam_loss(p1, p2, z1, z2)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            losses.append(loss.detach())
            if (steps - step - 1) * batch_size < RANK_ROWS:
                kept.append(z1.detach().float().cpu())
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise ValueError(
                f"the SimSiam loss is {mean_loss} in epoch {epoch}; lower ssl_optim.lr"
            )
        z = torch.cat(kept)
        row: dict[str, Any] = {
            "epoch": epoch,
            "loss": round(mean_loss, 6),
            "std": round(embedding_std(z), 6),
            "effective_rank": round(effective_rank(z), 2),
            "lr": round(lr, 8),
            "seconds": round(time.monotonic() - started, 2),
        }
        watch = epoch % config.probe_every == 0 or epoch == config.ssl_epochs
        record_ssl_epoch(history, row, probe() if watch else {})
        if slot is not None:
            slot.session.worked()
    if slot is not None:
        slot.finish(parts, history, config.ssl_epochs)
    return history


def record_ssl_epoch(
    history: list[dict[str, Any]], row: dict[str, Any], probed: dict[str, float]
) -> None:
    """Add one epoch to the history, with every column it ever has, and say it in one line."""
    columns = list(history[0]) if history else [*row, *probed]
    complete = {name: probed.get(name, row.get(name, "")) for name in columns}
    history.append(complete)
    said = " ".join(f"{name} {value}" for name, value in complete.items() if value != "")
    say(f"simsiam {said}")


def draw_pairs(
    count: int, partners: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One epoch of pairs: every film once as first, beside itself or, with probability ``share``, its
    partner. Two integer arrays of shape (count,).
    """
    first = rng.permutation(count)
    return first, np.where(rng.random(count) < share, partners[first], first)


def paired_views(
    films: np.ndarray,
    partners: np.ndarray,
    batch_size: int,
    config: SimSiamConfig,
    rng: np.random.Generator,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch of batches of two augmented views, uint8 (B, S, S) each."""
    size = config.ssl_image_size or config.image_size
    first, second = draw_pairs(len(films), partners, config.pair_share, rng)

    for start in range(0, len(films) - batch_size + 1, batch_size):
        rows = slice(start, start + batch_size)
        yield (
            augment_batch(films[first[rows]], config.ssl_augment, size, rng),
            augment_batch(films[second[rows]], config.ssl_augment, size, rng),
        )


def view_tensors(
    films: np.ndarray,
    partners: np.ndarray,
    batch_size: int,
    config: SimSiamConfig,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """``paired_views`` as uint8 tensors (B, 1, S, S)."""
    for first, second in paired_views(films, partners, batch_size, config, rng):
        yield gray_tensor(first), gray_tensor(second)


def keep_norm_statistics(module: nn.Module) -> None:
    """Batch norms to eval mode; their scales and shifts still learn. ``train()`` undoes it.

    Statistics of small, cropped films replace those of ImageNet within a few steps, and alone cost more
    than SimSiam can give: frozen lite0 features on 814 films fell from AUC 0.988 to 0.966.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def ssl_optimiser(model: SimSiam, config: SimSiamConfig) -> torch.optim.Optimizer:
    """SGD, the predictor in groups of its own whose rate may stay constant.

    A constant rate there is the official code's ``--fix-pred-lr``: the predictor should keep up with the
    latest representations (section 4.2 of the paper). ``lr`` is the backbone's, ``head_lr`` both heads'.

    Raises:
        ValueError: Another optimiser than sgd is named.
    """
    optim = config.ssl_optim
    if optim.name != "sgd":
        raise ValueError(f"ssl_optim.name is {optim.name!r}; SimSiam is trained with sgd")
    predictor = {id(parameter) for parameter in model.predictor.parameters()}
    groups = []
    for group in parameter_groups(model, optim):
        for inside in (False, True):
            members = [value for value in group["params"] if (id(value) in predictor) == inside]
            if members:
                fixed = inside and config.fix_predictor_lr
                groups.append({**group, "params": members, "full_lr": group["lr"], "fixed": fixed})
    return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum)


def set_ssl_rates(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Scale every rate that is not fixed; returns the first of them, for the log."""
    for group in optimiser.param_groups:
        group["lr"] = group["full_lr"] * (1.0 if group["fixed"] else factor)
    return float(optimiser.param_groups[0]["lr"])
