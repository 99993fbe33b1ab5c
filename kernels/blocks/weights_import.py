"""Weights from a file of any maker, checked against the network they are for, as a dataset's safetensors.

Run on the machine that packages, never in a kernel.
"""

import hashlib
from pathlib import Path

import timm
from safetensors.torch import save_file
from torch import Tensor

from kernels.blocks.weights import create_known, fit_state, read_state

WRAPPERS = ("module.", "model.", "trunk.", "backbone.")  # what trainers put before every name


def import_weights(backbone: str, target: Path, source: Path) -> dict[str, str]:
    """Write a file's tensors as safetensors under timm's names.

    Args:
        backbone: timm's name with tag.
        target: The safetensors file to make.
        source: .safetensors, or .pth/.pt that holds tensors and plain values only.

    Returns:
        ``file``, ``backbone``, ``source`` and ``classifier`` (kept or none), for the dataset's
        description.

    Raises:
        ValueError: The name is unknown to timm, the file is damaged, or its tensors do not fit.
    """
    whole = create_known(backbone)
    state = without_wrapper(read_state(source), set(whole.state_dict()))
    wanted = whole.state_dict()
    fits = wanted.keys() == state.keys() and all(
        state[key].shape == value.shape for key, value in wanted.items()
    )
    if not fits:
        trunk = timm.create_model(backbone, pretrained=False, num_classes=0)
        fit_state(trunk, state, source.name)
        state = trunk.state_dict()
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, target)
    with source.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    return {
        "file": target.name,
        "backbone": backbone,
        "source": f"file {source.name}, sha256 {sha256}",
        "classifier": "kept" if fits else "none",
    }


def without_wrapper(state: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """The state under the names a network has, where a trainer put a word before each of them."""
    for prefix in WRAPPERS:
        inner = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        if len(wanted & inner.keys()) > len(wanted & state.keys()):
            return inner
    return state
