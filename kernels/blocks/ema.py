"""A moving average of a network's weights: calmer than its last step, and often better."""

import copy
from typing import Any

import torch
from torch import nn


class ModelEma:
    """A copy of a network whose weights follow it slowly: w <- decay * w + (1 - decay) * new.

    Args:
        model: Followed network; the copy starts equal and stays in eval mode.
        decay: In [0, 1).
        warm_up: Use min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ...: in a short training a
            decay of 0.999 would still be mostly the first weights at its end.

    Buffers (running statistics of batch norms) are averages already; they are copied.

    Raises:
        ValueError: If decay is not in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float, warm_up: bool = True) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"ema_decay is {decay}, not in [0, 1)")
        self.model = copy.deepcopy(model).eval()
        self.model.requires_grad_(requires_grad=False)
        self.decay = decay
        self.warm_up = warm_up
        self.updates = 0

    def update(self, model: nn.Module) -> None:
        """Follow one optimiser step."""
        decay = self.decay
        if self.warm_up:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            for average, new in zip(self.model.parameters(), model.parameters(), strict=True):
                average.lerp_(new, 1.0 - decay)
            for average, new in zip(self.model.buffers(), model.buffers(), strict=True):
                average.copy_(new)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """The average and how many steps it has followed."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.model.load_state_dict(state["model"])
        self.updates = int(state["updates"])
