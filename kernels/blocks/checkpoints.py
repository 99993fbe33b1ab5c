"""Checkpoints: tensors and plain values under the write-up's keys, and the network from them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kernels.blocks.models import Classifier, create_backbone
from kernels.config import HeadConfig


def file_stem(backbone: str) -> str:
    """A timm name as the write-up's files have it: tf_efficientnetv2_s_in21k_ft_in1k."""
    return backbone.replace(".", "_")


def probe_backbone_file(backbone: str) -> str:
    """The file beside a probe's regressions that holds the network they stand on."""
    return f"{file_stem(backbone)}_probe_backbone.pth"


def save_classifier(path: Path, model: Classifier, head: HeadConfig, **facts: Any) -> None:
    """Write a classifier so that it loads with ``weights_only=True``.

    Keys of the write-up: model_name, model_state_dict, epoch, val_auc, img_size, freeze_backbone.
    The caller gives epoch, val_auc, img_size and whatever else identifies the run, as plain values.

    Raises:
        ValueError: A fact is not a plain value (its key is named).
    """
    for key, value in facts.items():
        if not (value is None or type(value) in (str, int, float, bool)):
            raise ValueError(f"checkpoint value {key!r} is a {type(value).__name__}, not plain")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    temporary = path.with_name(path.name + ".part")
    torch.save(
        {
            "model_name": model.backbone.name,
            "model_state_dict": state,
            "freeze_backbone": model.backbone.frozen,
            "levels": model.backbone.levels,
            "head": {**asdict(head)},
            "n_targets": model.head.n_targets,
            **facts,
        },
        temporary,
    )
    temporary.replace(path)


def load_classifier(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """A classifier in eval mode, and the facts stored with it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint of ours (the missing key is named).
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("model_name", "model_state_dict", "img_size", "freeze_backbone", "head"):
        if key not in saved:
            raise ValueError(f"{path} has no {key!r}; it is not a checkpoint of this project")
    backbone = create_backbone(
        saved["model_name"],
        "random",
        int(saved["img_size"]),
        {},
        frozen=saved["freeze_backbone"],
        levels=int(saved.get("levels", 0)),
    )
    model = Classifier(backbone, HeadConfig(**saved["head"]), int(saved.get("n_targets", 1)))
    model.load_state_dict(saved["model_state_dict"])
    model.eval()
    return model, {key: value for key, value in saved.items() if key != "model_state_dict"}
