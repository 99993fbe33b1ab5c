"""MixUp and CutMix: two films and their targets blended, one of the two ways per batch.

The share of the first film in the result, lambda, is also its share in the target. A CutMix box
that is clipped at the border is smaller than drawn, so lambda is computed from the box that was
really cut.
"""

import numpy as np
import torch
from torch import Tensor

from kernels.config import MixConfig


def mixing_on(config: MixConfig, epoch: int, epochs: int) -> bool:
    """Is anything mixed in this epoch (from 0)? The last ``clean_last_epochs`` see clean films."""
    active = config.mixup_alpha > 0 or config.cutmix_alpha > 0
    return active and epoch < epochs - config.clean_last_epochs


def mix_batch(
    inputs: Tensor, targets: Tensor, config: MixConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Blend a batch with a shuffled copy of itself.

    Args:
        inputs: Films, shape (B, C, H, W); for MixUp alone any shape (B, ...), such as features.
        targets: Soft labels, already smoothed, shape (B, K).
        config: Alphas of Beta(alpha, alpha); an alpha of 0 switches that kind off.
        rng: Decides kind, lambda, partners and box; equal states give equal batches.

    Returns:
        Mixed inputs and targets, same shapes; the originals are not changed.

    Raises:
        ValueError: CutMix of inputs that are not (B, C, H, W).
    """
    # Always the same draws, so that switching one kind off leaves the other's batches as they were.
    coin, partners = rng.random(), rng.permutation(len(inputs))
    share = config.cutmix_share if config.mixup_alpha > 0 else 1.0
    cut = config.cutmix_alpha > 0 and coin < share
    alpha = config.cutmix_alpha if cut else config.mixup_alpha
    if alpha <= 0:
        return inputs, targets
    lam = float(rng.beta(alpha, alpha))
    others = torch.from_numpy(partners).to(inputs.device)
    if not cut:
        return mixup(inputs, inputs[others], lam), mixup(targets, targets[others], lam)
    if inputs.ndim != 4:
        raise ValueError(f"CutMix needs films (B, C, H, W), not {tuple(inputs.shape)}; use MixUp")
    height, width = inputs.shape[-2:]
    centre = (int(rng.integers(height)), int(rng.integers(width)))
    top, left, bottom, right = cutmix_box(height, width, lam, centre)
    mixed = inputs.clone()
    mixed[..., top:bottom, left:right] = inputs[others][..., top:bottom, left:right]
    lam = kept_share((top, left, bottom, right), height, width)
    return mixed, mixup(targets, targets[others], lam)


def mixup(first: Tensor, second: Tensor, lam: float) -> Tensor:
    """Blend: lam * first + (1 - lam) * second; at 1 the identity.

    Source: Zhang et al. 2018, arXiv:1710.09412, eq. 1.
    """
    return lam * first + (1.0 - lam) * second


def cutmix_box(
    height: int, width: int, lam: float, centre: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The box that is replaced: sides sqrt(1 - lam) of the film's, clipped to it.

    Args:
        height: Of the film, in pixels.
        width: Of the film, in pixels.
        lam: Share that was drawn for the first film, in [0, 1].
        centre: Row and column of the box's middle.

    Returns:
        top, left, bottom, right; bottom and right are exclusive.

    Source: Yun et al. 2019, arXiv:1905.04899, eq. 2.
    """
    side = (1.0 - lam) ** 0.5
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = centre
    return (
        max(row - half_height, 0),
        max(column - half_width, 0),
        min(row + half_height, height),
        min(column + half_width, width),
    )


def kept_share(box: tuple[int, int, int, int], height: int, width: int) -> float:
    """Share of the film outside the box: the lambda that holds after clipping."""
    top, left, bottom, right = box
    return 1.0 - (bottom - top) * (right - left) / (height * width)
