"""Networks applied to cached films: features and probabilities, averaged over test-time views."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kernels.blocks.devices import Compute
from kernels.blocks.goal import INDEPENDENT, Goal
from kernels.blocks.models import Backbone
from kernels.blocks.tta import tta_views


def gray_tensor(images: np.ndarray) -> Tensor:
    """uint8 films (B, H, W) -> uint8 tensor (B, 1, H, W); ``Compute.put`` scales it to [0, 1]."""
    return torch.from_numpy(np.array(images)).unsqueeze(1)  # a copy: the cache is read-only


def run_views(
    network: Callable[[Tensor], Tensor],
    images: np.ndarray,
    views: Sequence[str],
    batch_size: int,
    compute: Compute,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, output of shape (b, D) in float32) for every batch and each of its views."""
    for start in range(0, len(images), batch_size):
        rows = slice(start, min(start + batch_size, len(images)))
        for view in tta_views(np.asarray(images[rows]), tuple(views)):
            with torch.inference_mode(), compute.autocast():
                output = network(compute.put(gray_tensor(view)))
            yield rows, output.float().cpu().numpy()


def encode_images(
    backbone: Backbone, images: np.ndarray, views: Sequence[str], batch_size: int, compute: Compute
) -> np.ndarray:
    """Pooled features, averaged over views.

    Args:
        images: uint8, shape (N, S, S).
        views: Names that tta.py knows: ("plain", "hflip").

    Returns:
        float32, shape (N, C).
    """
    was_training = backbone.training
    backbone.eval()
    features = np.zeros((len(images), backbone.channels), dtype=np.float32)
    for rows, output in run_views(
        lambda gray: backbone.pool(backbone(gray)), images, views, batch_size, compute
    ):
        features[rows] += output / len(views)
    backbone.train(was_training)
    return features


def predict_probs(
    model: nn.Module,
    images: np.ndarray,
    views: Sequence[str],
    batch_size: int,
    compute: Compute,
    space: str = "logits",
    goal: Goal = INDEPENDENT,
) -> np.ndarray:
    """Probabilities, averaged over views.

    Args:
        model: (B, 1, S, S) in [0, 1] -> logits (B, K), K the same for every batch.
        images: uint8, shape (N, S, S), at least one.
        views: Names that tta.py knows; ("plain",) for no augmentation.
        space: What is averaged: logits (a confident view counts more) or probs.
        goal: Says what turns logits into probabilities.

    Returns:
        float64 in [0, 1], shape (N, K).

    Raises:
        ValueError: No images, or another space.
    """
    if space not in ("logits", "probs"):
        raise ValueError(f"tta_space is {space!r}, not logits or probs")
    if not len(images):
        raise ValueError("no images to predict")
    was_training = model.training
    model.eval()
    total: np.ndarray | None = None
    for rows, logits in run_views(model, images, views, batch_size, compute):
        if total is None:
            total = np.zeros((len(images), logits.shape[1]))
        values = logits.astype(np.float64)
        total[rows] += values if space == "logits" else goal.probs(values)
    model.train(was_training)
    assert total is not None
    mean = total / len(views)
    return goal.probs(mean) if space == "logits" else mean
