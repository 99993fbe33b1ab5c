"""Backbones with one kind of exit, spatial attention, classifier heads.

timm's networks leave (B, C, H, W), (B, H, W, C) or tokens, and keep their last norm here or there.
Backbone converts once: grey films in, a (B, C, H, W) map out, and ``pool`` for the vector timm's
own head would see. Where weights come from is in weights.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.blocks.weights import load_pretrained_trunk
from kernels.config import HeadConfig


class Backbone(nn.Module):
    """A timm network without its classifier, for grey films.

    Args:
        trunk: Created with ``num_classes=0``.
        name: Its timm name with tag.
        frozen: No gradients, and batch norms stay in eval mode whatever ``train()`` says.
        frozen_stages: The same for the stem and so many first stages of an EfficientNet. Edges and
            textures need no relearning on some hundred films, and most of a step's time goes there.
        levels: Look at the maps of so many deepest levels (timm's feature levels) instead of the last
            features: pooled, they are mean and standard deviation of each channel of each level. What
            tells films apart may be texture that a network made for objects drops on its way. 0: no.

    Raises:
        ValueError: Stages are to be frozen, or levels looked at, that the trunk does not have.

    Source: probing all levels, Evci et al. 2022 (Head2Toe, arXiv:2201.03529), without its selection.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        name: str,
        frozen: bool = False,
        frozen_stages: int = 0,
        levels: int = 0,
    ) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.name = name
        self.frozen = frozen
        self.frozen_stages = frozen_stages
        self.levels = levels
        self.weights_from = "random"
        self.channels = int(self.trunk.num_features)
        if levels:
            known = getattr(trunk, "feature_info", ())
            if not hasattr(trunk, "forward_intermediates"):
                raise ValueError(
                    f"timm {timm.__version__} shows no levels of {name}. Set levels=0."
                )
            if len(known) < levels:
                raise ValueError(f"levels is {levels}; {name} has {len(known)}")
            if frozen_stages:
                raise ValueError(
                    "frozen_stages and levels are both set; levels are of a whole network"
                )
            self.channels = 2 * sum(int(level["num_chs"]) for level in known[-levels:])
        # Each tag has statistics of its own: 0.5 for EfficientNetV2 and lite, CLIP's for EVA-02.
        data = timm.data.resolve_model_data_config(trunk, use_test_size=True)
        self.register_buffer("mean", torch.tensor(data["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(data["std"]).view(1, 3, 1, 1), persistent=False)
        if frozen:
            self.requires_grad_(requires_grad=False)
            self.eval()
        for module in self.early_modules():
            module.requires_grad_(requires_grad=False)
            module.eval()

    def early(self, gray: Tensor) -> Tensor:
        """Films (B, 1, H, W) in [0, 1] to the map (B, c, h, w) that leaves the frozen stages."""
        maps = (gray - self.mean) / self.std
        for module in self.early_modules():
            maps = module(maps)
        return maps

    def late(self, maps: Tensor) -> Tensor:
        """From there to the feature map: ``late(early(gray))`` is ``forward(gray)``."""
        trunk = self.trunk
        features: Tensor = trunk.bn2(trunk.conv_head(trunk.blocks[self.frozen_stages :](maps)))
        return features

    def early_modules(self) -> list[nn.Module]:
        """What ``frozen_stages`` freezes."""
        if not self.frozen_stages:
            return []
        stem, norm = getattr(self.trunk, "conv_stem", None), getattr(self.trunk, "bn1", None)
        stages = getattr(self.trunk, "blocks", ())
        if stem is None or norm is None or len(stages) < self.frozen_stages:
            raise ValueError(
                f"frozen_stages is {self.frozen_stages}; {self.name} has no stem of that kind or only "
                f"{len(stages)} stages. Set frozen_stages=0."
            )
        return [stem, norm, *stages[: self.frozen_stages]]

    def train(self, mode: bool = True) -> "Backbone":
        """What is frozen stays in eval mode: else its batch norms would keep moving."""
        super().train(mode and not self.frozen)
        for module in self.early_modules():
            module.eval()
        return self

    def forward(self, gray: Tensor) -> Tensor:
        """Films to a feature map.

        Args:
            gray: Grey levels in [0, 1], shape (B, 1, H, W).

        Returns:
            Shape (B, C, h, w), before pooling and before the late norm of ConvNeXt and EVA-02. With
            levels: every level's map, and the squares of its deviations from each channel's mean, on
            the deepest level's grid.
        """
        # (B, 1, H, W) against (1, 3, 1, 1): (B, 3, H, W)
        normalised = (gray - self.mean) / self.std
        if self.levels:
            maps = self.trunk.forward_intermediates(
                normalised, indices=self.levels, intermediates_only=True
            )
            grid = tuple(maps[-1].shape[-2:])
            values = [part.float() for part in maps]  # 8 bits of bf16 would make ties
            # Not plain squares: their mean is the large sum of variance and squared mean, and Grad-CAM
            # would see brightness where the network looks at texture.
            spread = [(part - part.mean(dim=(2, 3), keepdim=True)) ** 2 for part in values]
            return torch.cat([shrink(part, grid) for part in values + spread], dim=1)
        features = self.trunk.forward_features(normalised)
        if features.ndim == 3:  # (B, prefix + h * w, C)
            height, width = self.trunk.patch_embed.grid_size
            patches = features[:, self.trunk.num_prefix_tokens :]
            return patches.transpose(1, 2).reshape(len(gray), self.channels, height, width)
        if str(getattr(self.trunk, "output_fmt", "NCHW")).endswith("NHWC"):
            return features.permute(0, 3, 1, 2)
        return features

    @property
    def late_norm(self) -> nn.LayerNorm | None:
        """The norm that timm applies after pooling: ConvNeXt's head.norm, EVA-02's fc_norm."""
        candidates = (
            getattr(self.trunk, "fc_norm", None),
            getattr(getattr(self.trunk, "head", None), "norm", None),
        )
        return next((layer for layer in candidates if isinstance(layer, nn.LayerNorm)), None)

    def pool(self, maps: Tensor) -> Tensor:
        """Mean over positions, then the late norm, as timm does: (B, C, h, w) -> (B, C).

        With levels: the means of all channels, then their standard deviations.
        """
        pooled = maps.mean(dim=(2, 3), dtype=torch.float32)  # not in bf16: 8 bits make ties
        if self.levels:
            mean, variance = pooled.chunk(2, dim=1)
            # A flat channel's root has an infinite slope; clamped it has none, and gradients stay finite.
            return torch.cat([mean, variance.clamp(min=1e-8).sqrt()], dim=1)
        norm = self.late_norm
        if norm is None:
            return pooled
        return functional.layer_norm(
            pooled, norm.normalized_shape, norm.weight, norm.bias, norm.eps
        )


def shrink(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, C, H, W) -> (B, C, *grid): each cell the mean of the area it covers, so the map's mean stays.

    ``adaptive_avg_pool2d`` counts positions between two cells twice.
    """

    def shares(inner: int, outer: int) -> Tensor:
        """(outer, inner): how much of each position lies in each cell; rows sum to 1."""
        cell = torch.arange(outer, dtype=torch.float64).unsqueeze(1) / outer
        place = torch.arange(inner, dtype=torch.float64) / inner
        overlap = torch.minimum(cell + 1 / outer, place + 1 / inner) - torch.maximum(cell, place)
        return (overlap.clamp(min=0) * outer).to(maps.device, maps.dtype)

    with torch.autocast(maps.device.type, enabled=False):
        return shares(maps.shape[-2], grid[0]) @ maps @ shares(maps.shape[-1], grid[1]).T


def create_backbone(
    name: str,
    weights: str,
    image_size: int,
    weight_folders: Mapping[str, Path],
    internet: bool | None = None,
    frozen: bool = False,
    drop_path: float = 0.0,
    frozen_stages: int = 0,
    levels: int = 0,
) -> Backbone:
    """A backbone with its weights.

    Args:
        name: timm name with tag (``convnext_small.fb_in22k_ft_in1k_384``): without one timm picks a
            tag.
        weights: pretrained | random | the name of a file in a mounted dataset.
        image_size: Side of the films in pixels; transformers are built for it.
        weight_folders: Mounted datasets by slug.
        internet: See load_pretrained_trunk.
        drop_path: Stochastic depth, in [0, 1).
        frozen, frozen_stages, levels: See Backbone.

    Raises:
        ValueError: Unknown name or tag, or weights that do not fit.
        FileNotFoundError: No weights (names the dataset to publish).
    """
    try:
        known = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ValueError(f"backbone {name!r}: {error}") from error
    if known is None:
        near = ", ".join(timm.list_models(f"*{name.partition('.')[0]}*", pretrained=True)[:5])
        raise ValueError(f"timm {timm.__version__} has no model {name!r}; near: {near or 'none'}")
    # global_pool stays timm's own: told not to pool, EVA-02 would move its late norm.
    arguments: dict[str, Any] = {"num_classes": 0, "drop_path_rate": drop_path}
    if known.fixed_input_size:
        arguments["img_size"] = image_size
    trunk = timm.create_model(name, pretrained=False, **arguments)
    backbone = Backbone(trunk, name, frozen, frozen_stages, levels)
    if weights != "random":
        backbone.weights_from = load_pretrained_trunk(
            trunk, name, weights, weight_folders, internet
        )
    return backbone


class SpatialAttention(nn.Module):
    """Weights for the positions of a map: Conv1x1 -> ReLU -> Conv1x1 -> sigmoid, then multiply.

    Args:
        channels: C of the map.
        reduction: The hidden layer has C // reduction channels.
        outputs: 1 for one map over positions; C for a gate of every channel at every position.
        residual: x * (1 + a) instead of x * a: a sigmoid starts near 0.5 and would halve the
            features.
        standardise: Look at the map through a layer norm without weights, for backbones whose own
            norm comes after pooling: their raw map has wild scale and would saturate the sigmoid.

    Source: write-up A, strategy 2, which leaves reduction, outputs and residual open.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        outputs: int = 1,
        residual: bool = True,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"attention_reduction is {reduction}; it must be in 1..{channels}")
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.score = nn.Conv2d(channels // reduction, outputs, 1)
        self.residual = residual
        self.standardise = standardise

    def attention_map(self, maps: Tensor) -> Tensor:
        """Attention in [0, 1], shape (B, outputs, h, w)."""
        if self.standardise:
            last = maps.permute(0, 2, 3, 1)
            maps = functional.layer_norm(last, last.shape[-1:]).permute(0, 3, 1, 2)
        return torch.sigmoid(self.score(functional.relu(self.squeeze(maps))))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        attention = self.attention_map(maps)
        return maps * (1.0 + attention) if self.residual else maps * attention


class ClassifierHead(nn.Module):
    """Pooled features to logits: [Linear -> ReLU -> (BatchNorm) -> Dropout] x hidden -> Linear.

    With ``config.outputs == 2`` each target has two softmax classes; the difference of their scores
    is returned, which is the logit of the second class, so every head speaks in (B, K) logits.

    Source: write-up A, strategies 1 (no batch norm) and 2 (ReLU before batch norm, as it is written
    there).
    """

    def __init__(self, channels: int, config: HeadConfig, n_targets: int = 1) -> None:
        super().__init__()
        dropout = config.dropout or (0.0,) * len(config.hidden)
        layers: list[nn.Module] = []
        width = channels
        for hidden, share in zip(config.hidden, dropout, strict=True):
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(nn.Dropout(share))
            width = hidden
        if config.final_dropout:
            layers.append(nn.Dropout(config.final_dropout))
        layers.append(nn.Linear(width, n_targets * config.outputs))
        self.layers = nn.Sequential(*layers)
        self.outputs = config.outputs
        self.n_targets = n_targets

    def forward(self, features: Tensor) -> Tensor:
        """(B, C) -> logits, shape (B, K)."""
        scores: Tensor = self.layers(features)
        if self.outputs == 1:
            return scores
        classes = scores.unflatten(1, (-1, 2))  # (B, K, 2)
        return classes[..., 1] - classes[..., 0]


class Classifier(nn.Module):
    """Backbone -> attention -> pooling -> head. Films (B, 1, H, W) in [0, 1] to logits (B, K)."""

    def __init__(self, backbone: Backbone, head: HeadConfig, n_targets: int = 1) -> None:
        super().__init__()
        self.backbone = backbone
        self.attention: nn.Module = nn.Identity()
        if head.attention != "none":
            if backbone.levels:
                raise ValueError(f"attention {head.attention} weighs one map; levels are several")
            self.attention = SpatialAttention(
                backbone.channels,
                head.attention_reduction,
                outputs=1 if head.attention == "spatial" else backbone.channels,
                residual=head.attention_residual,
                standardise=backbone.late_norm is not None,
            )
        self.head = ClassifierHead(backbone.channels, head, n_targets)

    def tail(self, maps: Tensor) -> Tensor:
        """From a map (B, C, h, w) to logits (B, K): the part that Grad-CAM differentiates."""
        features = self.backbone.pool(self.attention(maps))
        # The head costs nothing, and logits of 8 bits would tie: full precision from here.
        with torch.autocast(maps.device.type, enabled=False):
            logits: Tensor = self.head(features)
        return logits

    def forward(self, gray: Tensor) -> Tensor:
        """(B, 1, H, W) -> logits, shape (B, K)."""
        return self.tail(self.backbone(gray))


def count_parameters(module: nn.Module) -> int:
    """Number of weights, trainable or not."""
    return sum(parameter.numel() for parameter in module.parameters())
