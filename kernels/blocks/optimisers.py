"""Optimisers with parameter groups, and learning rates as a plain function of the step.

A network's head starts from noise and its backbone does not: each gets a rate of its own, deeper
layers of the backbone less (layer decay), norms and biases no weight decay.
"""

import math
from typing import Any

import torch
from torch import nn

from kernels.config import OptimConfig

# The one-cycle policy starts at lr/25, ends at lr/25/10000 and climbs for 0.3 of the steps, as
# torch's.
ONE_CYCLE_DIVIDER, ONE_CYCLE_END, ONE_CYCLE_CLIMB = 25.0, 1e4, 0.3


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and weight decay.

    Args:
        model: A Classifier (its ``backbone`` gets ``config.lr``, everything else ``head_lr``), or
            any module (everything is a head).
        config: Rates and decays.

    Returns:
        Groups with params, lr, weight_decay and a name for logs; frozen parameters are in none.

    Raises:
        ValueError: Nothing is trainable.
    """
    head_lr = config.lr if config.head_lr is None else config.head_lr
    scales = layer_scales(model, config.layer_decay)
    groups: dict[tuple[float, float, str], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "backbone" if name.startswith("backbone.") else "head"
        lr = config.lr * scales.get(name, 1.0) if part == "backbone" else head_lr
        # Vectors are norms, biases and layer scales: pulling them to zero fights what they are for.
        exempt = parameter.ndim <= 1 and not config.decay_norm_and_bias
        decay = 0.0 if exempt else config.weight_decay
        group = groups.setdefault(
            (lr, decay, part), {"params": [], "lr": lr, "weight_decay": decay, "name": part}
        )
        group["params"].append(parameter)
    if not groups:
        raise ValueError("no parameter is trainable; the backbone is frozen and there is no head")
    return list(groups.values())


def layer_scales(model: nn.Module, layer_decay: float | None) -> dict[str, float]:
    """Factor of the learning rate for each backbone parameter: layer_decay ** (layers above it).

    Empty without layer decay. Which layer a parameter belongs to is timm's own grouping.
    """
    trunk = getattr(getattr(model, "backbone", None), "trunk", None)
    if layer_decay is None or trunk is None:
        return {}
    from timm.models import group_parameters

    layers = group_parameters(trunk, trunk.group_matcher(coarse=False), reverse=True)
    deepest = max(layers.values()) + 1  # the head counts as the layer above all
    return {
        f"backbone.trunk.{name}": layer_decay ** (deepest - layer) for name, layer in layers.items()
    }


def build_optimiser(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser a config names, over ``parameter_groups``.

    RMSprop has torch's defaults (alpha 0.99, eps 1e-8, no bias correction): its first step is ten
    times the learning rate.

    Raises:
        ValueError: Unknown name, or nothing to train.
    """
    groups = parameter_groups(model, config)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    if config.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=config.lr, momentum=config.momentum)
    raise ValueError(f"optimiser {config.name!r} is unknown")


def lr_factor(config: OptimConfig, progress: float, epochs: int) -> float:
    """What the learning rate is multiplied by.

    Args:
        config: Its ``schedule``; ``warmup_share`` of all steps climb linearly from zero first
            (one_cycle uses it as the length of its own climb; plateau is driven by scores instead).
        progress: Steps done / all steps, in [0, 1].
        epochs: Length of the whole training, to place restarts.

    Raises:
        ValueError: Unknown schedule.

    Source: cosine and restarts, Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5; one cycle, Smith
    & Topin 2018, arXiv:1708.07120, in torch's form with cosine annealing.
    """
    if config.schedule == "one_cycle":
        return one_cycle_factor(progress, config.warmup_share or ONE_CYCLE_CLIMB)
    if progress < config.warmup_share:
        return progress / config.warmup_share
    if config.schedule in ("constant", "plateau"):
        return 1.0
    if config.schedule == "cosine":
        share = (progress - config.warmup_share) / (1.0 - config.warmup_share)
        return half_cosine(share)
    if config.schedule == "warm_restarts":
        epoch, length = progress * epochs, float(config.restart_epochs)
        while epoch >= length - 1e-9:  # 10 epochs of 60 come out as 9.999999999999998
            epoch -= length
            length *= config.restart_factor
        return half_cosine(max(epoch, 0.0) / length)
    raise ValueError(f"schedule {config.schedule!r} is unknown")


def half_cosine(share: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def one_cycle_factor(progress: float, climb: float) -> float:
    """Up from 1/25 to 1 during ``climb``, then down to 1/250000, both along a cosine."""
    low, end = 1.0 / ONE_CYCLE_DIVIDER, 1.0 / (ONE_CYCLE_DIVIDER * ONE_CYCLE_END)
    if progress < climb:
        return 1.0 + (low - 1.0) * half_cosine(progress / climb)
    return end + (1.0 - end) * half_cosine((progress - climb) / (1.0 - climb))


class Schedule:
    """Sets an optimiser's learning rates before each step, and after each epoch for plateau.

    Args:
        optimiser: Its groups' present rates are the ones that factors multiply.
        config: The schedule.
        epochs: Planned number of epochs.
        steps: Steps in an epoch.

    Raises:
        ValueError: Unknown schedule.
    """

    def __init__(
        self, optimiser: torch.optim.Optimizer, config: OptimConfig, epochs: int, steps: int
    ) -> None:
        lr_factor(config, 0.0, epochs)
        self.optimiser = optimiser
        self.config = config
        self.epochs = epochs
        self.total = max(epochs * steps, 1)
        self.base = [float(group["lr"]) for group in optimiser.param_groups]
        self.reduction = 1.0
        self.best = -math.inf
        self.stalled = 0

    def before_step(self, step: int) -> float:
        """Set the rates of step 0, 1, ... and return the head's (the last group's)."""
        factor = self.reduction * lr_factor(self.config, step / self.total, self.epochs)
        for group, base in zip(self.optimiser.param_groups, self.base, strict=True):
            group["lr"] = base * factor
        return float(self.optimiser.param_groups[-1]["lr"])

    def after_epoch(self, score: float) -> None:
        """Plateau: after more than ``plateau_patience`` epochs without a better score, shrink.

        A greater score is better, by a relative 1e-4, as torch's ReduceLROnPlateau(mode="max") has
        it; its default "min" would take a rising AUC for a stalled one.
        """
        if self.config.schedule != "plateau":
            return
        if self.best == -math.inf or score > self.best * (1.0 + 1e-4):
            self.best, self.stalled = score, 0
            return
        self.stalled += 1
        if self.stalled > self.config.plateau_patience:
            self.reduction *= self.config.plateau_factor
            self.stalled = 0

    def state_dict(self) -> dict[str, Any]:
        """What scores have done to the rates; the rest follows from the step."""
        return {"reduction": self.reduction, "best": self.best, "stalled": self.stalled}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.reduction = float(state["reduction"])
        self.best = float(state["best"])
        self.stalled = int(state["stalled"])
