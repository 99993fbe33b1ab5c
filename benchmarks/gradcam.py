"""Grad-CAM beside the library ``grad-cam`` and beside one forward pass; random weights.

python -m benchmarks.gradcam [--quick]
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import timm
import torch
from torch import Tensor, nn

from benchmarks.films import films_in_memory
from benchmarks.racing import Line, Options, Same, array_gap, race, run_benchmark
from kernels.blocks.gradcam import grad_cam
from kernels.blocks.models import Backbone, Classifier
from kernels.config import HeadConfig


class ColumnOfLogits(nn.Module):
    """The same network for the library, which wants (B, K) logits of the films themselves."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, films: Tensor) -> Tensor:
        return self.model(films)


def peer_maps(model: Any, films: Tensor) -> Any:
    """The library on the last layer before pooling, batched."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model=ColumnOfLogits(model), target_layers=[model.backbone]) as cam:
        return cam(input_tensor=films, targets=[ClassifierOutputTarget(0)] * len(films))


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    torch.manual_seed(0)
    count = options.pick(16, 16, 2)
    trunk = timm.create_model("tf_efficientnet_b0", pretrained=False, num_classes=0)
    model = Classifier(Backbone(trunk, "tf_efficientnet_b0"), HeadConfig()).eval()
    films = torch.from_numpy(films_in_memory(options, count)).unsqueeze(1).float() / 255

    def forward() -> Tensor:
        with torch.no_grad():
            return model(films)

    def same(ours: Tensor, peer: Any) -> Same:
        """The library enlarges its maps and stretches each to 0..1; ours are enlarged as it does."""
        found = []
        for small in ours.numpy():
            large = cv2.resize(
                (small - small.min()) / (1e-7 + small.max() - small.min()), peer.shape[:0:-1]
            )
            found.append(large)
        return array_gap(np.stack(found), peer, 0.02)

    yield race(
        f"Grad-CAM, {count} films, EfficientNet-B0 at 224 px",
        lambda: grad_cam(model, films),
        lambda: peer_maps(model, films),
        same=same,
        peer_name="grad-cam, batched",
        target=3.0,
        rounds=options.rounds,
        floor=forward,
    )
    yield race(
        "the same beside one forward pass (at most 1.2)",
        lambda: grad_cam(model, films),
        forward,
        same=lambda ours, _: array_gap(ours.amax(dim=(1, 2)).max(), 1.0, 1e-6),
        peer_name="forward pass",
        target=1 / 1.2,
        rounds=options.pick(11, 7, 1),
    )


if __name__ == "__main__":
    raise SystemExit(run_benchmark(lines, __doc__))
