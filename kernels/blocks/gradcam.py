"""Grad-CAM: which parts of a film a classifier's score rests on.

Works on the map at the backbone's exit, (B, C, h, w) for every architecture, so there are no hooks and
no per-architecture layer names: the trunk runs without gradients and only the tail (attention, pooling,
head) is differentiated. One forward pass is the whole cost (perf-baselines.md, i).

Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv:1610.02391.
"""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor


def grad_cam(model: Any, images: Tensor, output: int = 0, positive: bool = True) -> Tensor:
    """Class activation maps.

    Args:
        model: A Classifier, or any module with ``backbone`` ((B, 1, H, W) -> maps (B, C, h, w)) and
            ``tail`` (maps -> logits, (B,) or (B, K)); in eval mode.
        images: Grey films in [0, 1], shape (B, 1, H, W), on the model's device.
        output: Which of K logits to explain.
        positive: False explains the negative class of a logit: evidence that lowers it.

    Returns:
        float32 in [0, 1], shape (B, h, w). Each film's map is divided by its own maximum; a film without
        any evidence for the class has a map of zeros.

    Raises:
        ValueError: If the model is in training mode (batch norms would move and dropout would drop).

    Source: equations 1 and 2.
    """
    if model.training:
        raise ValueError("grad_cam needs a model in eval mode; call model.eval() first")
    with torch.no_grad():
        maps = model.backbone(images)
    with torch.enable_grad():
        maps = maps.detach().float().requires_grad_()
        logits = model.tail(maps)
        score = logits[:, output] if logits.ndim == 2 else logits
        if not positive:
            score = -score
        # Films do not influence one another in eval mode: one gradient of the sum serves the batch.
        (slopes,) = torch.autograd.grad(score.sum(), maps)
    weights = slopes.mean(dim=(2, 3), keepdim=True)  # eq. 1: (B, C, 1, 1)
    cams = (weights * maps.detach()).sum(dim=1).clamp(min=0)  # eq. 2: (B, h, w)
    peaks = cams.amax(dim=(1, 2), keepdim=True)
    return torch.where(peaks > 0, cams / peaks.clamp(min=torch.finfo(cams.dtype).tiny), 0.0)


def overlay(image: np.ndarray, cam: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """A film with its map on top, for the report.

    Args:
        image: uint8, shape (H, W).
        cam: In [0, 1], shape (h, w); enlarged bilinearly.
        strength: Share of colour where the map is 1; where it is 0 the film stays as it is.

    Returns:
        uint8 RGB, shape (H, W, 3).

    Raises:
        ValueError: For an image that is not uint8 (H, W) or a map outside [0, 1].
    """
    if image.dtype != np.uint8 or image.ndim != 2:
        raise ValueError(f"image is {image.dtype} of shape {image.shape}; uint8 (H, W) is needed")
    if cam.ndim != 2 or not (np.nanmin(cam) >= 0 and np.nanmax(cam) <= 1) or np.isnan(cam).any():
        raise ValueError(f"map of shape {cam.shape} is not 2-D in [0, 1]")
    height, width = image.shape
    large = cv2.resize(cam.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(np.rint(large * 255).astype(np.uint8), cv2.COLORMAP_JET)
    colours = cv2.cvtColor(colours, cv2.COLOR_BGR2RGB).astype(np.float32)
    share = strength * large[..., None]
    return np.rint(image[..., None] * (1 - share) + colours * share).astype(np.uint8)
