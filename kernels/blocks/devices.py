"""What this machine computes on: device, mixed precision, memory layout. Asked once, at the start.

A rule of its own for every generation: T4 has fp16 but no bf16 tensor cores (and says it supports
bf16, by emulation), Ampere and later have bf16, a few CPUs gain from bf16, and P100 is not in
recent CUDA builds.
"""

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CPU_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})  # without them bf16 is emulated, and slower
BF16_CAPABILITY = (8, 0)
FP16_CAPABILITY = (7, 0)  # tensor cores begin here


@dataclass(frozen=True)
class Compute:
    """The choice. ``low_precision`` is None for plain float32."""

    device: str  # cpu | cuda
    low_precision: torch.dtype | None
    name: str  # of the processor, for the log

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device, convolutions in channels_last (x2 on CPU, some on GPUs)."""
        return model.to(device=self.device, memory_format=torch.channels_last)

    def put(self, batch: Tensor) -> Tensor:
        """Move a batch; uint8 grey levels become float in [0, 1] there, so that bytes travel."""
        moved = batch.to(self.device, non_blocking=True)
        return moved.float().div_(255.0) if moved.dtype == torch.uint8 else moved

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision where this machine gains from it, else nothing.

        On a CPU only where no gradient is wanted: forward gains x3, but the backward pass of a 5x5
        depthwise convolution in bf16 takes x3 (lite0, 16 films at 224 px on one core: 1.9 s against
        0.9 s).
        """
        if self.low_precision is None or (self.device == "cpu" and torch.is_grad_enabled()):
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=self.low_precision)

    def scaler(self) -> Any:
        """GradScaler, doing nothing unless gradients are fp16 (bf16 has float32's range)."""
        return torch.amp.GradScaler(self.device, enabled=self.low_precision == torch.float16)

    def describe(self) -> str:
        """One part of a log line."""
        precision = str(self.low_precision or torch.float32).removeprefix("torch.")
        threads = torch.get_num_threads()
        return f"{self.device} ({self.name}), {precision}, channels_last, {threads} threads"


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """Device and precision for this run.

    Args:
        device: auto (a usable GPU, else the CPU), cpu, or cuda (must be usable).
        precision: auto, or float32 to compare bits and numbers.

    Raises:
        ValueError: Unknown words, or ``cuda`` without a usable GPU: training this on a CPU would
            take hours before anybody notices.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {device!r}, not auto, cpu or cuda")
    if precision not in ("auto", "float32"):
        raise ValueError(f"precision is {precision!r}, not auto or float32")
    fault = "" if device == "cpu" else cuda_fault()
    if device == "cuda" and fault:
        raise ValueError(
            f"this strategy needs a GPU: {fault}. Turn the accelerator on (GPU T4 x2), or run another "
            "profile: HARNESS_PROFILE=cpu."
        )
    if device == "cpu" or fault:
        low = mixed_precision("cpu", None, cpu_flags())
        name = platform.machine()
    else:
        # Same seed, same machine, same predictions: no choice of algorithm by timing.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        low = mixed_precision("cuda", torch.cuda.get_device_capability(), frozenset())
        name = torch.cuda.get_device_name()
    chosen = "cpu" if device == "cpu" or fault else "cuda"
    return Compute(chosen, low if precision == "auto" else None, name)


def mixed_precision(
    device: str, capability: tuple[int, int] | None, flags: frozenset[str]
) -> torch.dtype | None:
    """The rule alone: bf16 from Ampere on and on CPUs with its units, fp16 on T4 and V100."""
    if device == "cpu":
        return torch.bfloat16 if flags & CPU_BF16_FLAGS else None
    if capability is None or capability < FP16_CAPABILITY:
        return None
    return torch.bfloat16 if capability >= BF16_CAPABILITY else torch.float16


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the first core, as Linux names them; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return frozenset()
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def cuda_fault() -> str:
    """Why CUDA cannot be used here; empty when it can. Runs one small convolution to be sure."""
    if not torch.cuda.is_available():
        return "CUDA is not available (no GPU is attached, or this torch was built without CUDA)"
    try:
        # A card this torch was not compiled for (P100 with CUDA 13) is listed, and fails at the
        # first kernel.
        probe = torch.ones(1, 1, 4, 4, device="cuda")
        nn.Conv2d(1, 1, 3, device="cuda")(probe).sum().item()
    except RuntimeError as error:
        name = torch.cuda.get_device_name()
        first = str(error).splitlines()[0]
        return f"{name} does not work with torch {torch.__version__}: {first}"
    return ""
