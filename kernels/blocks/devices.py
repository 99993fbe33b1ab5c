"""What this machine computes on: device, mixed precision, memory layout. Asked once, at the start.

A rule of its own for every generation: T4 has fp16 but no bf16 tensor cores (and says it supports
bf16, by emulation), Ampere and later have bf16, a few CPUs gain from bf16, and P100 is not in
recent CUDA builds.
"""

import contextlib
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kernels.blocks.entry import say
from kernels.blocks.workers import FoldProcess

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

    def pinned(self, batches: Iterable[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
        """The same batches, in page-locked memory where a GPU will fetch them.

        Only from there does a copy run beside the computation: ``put`` asks for that, and from
        ordinary memory it would wait. Run it in the thread that makes the batches.
        """
        for batch in batches:
            yield tuple(part.pin_memory() for part in batch) if self.device == "cuda" else batch

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
    compute = Compute(chosen, low if precision == "auto" else None, name)
    say(f"self-test: device: {device_line(compute)}")
    return compute


def device_line(compute: Compute) -> str:
    """One forward and backward pass of a tiny network, as this run will compute; what was found.

    Raises:
        ValueError: It fails, or its loss or gradients are not finite.
    """
    try:
        with torch.random.fork_rng():
            network = compute.place(
                nn.Sequential(
                    nn.Conv2d(1, 8, 3, padding=1),
                    nn.BatchNorm2d(8),
                    nn.ReLU(),
                    nn.AdaptiveAvgPool2d(1),
                    nn.Flatten(),
                    nn.Linear(8, 1),
                )
            )
            films = torch.arange(4 * 16 * 16, dtype=torch.uint8).view(4, 1, 16, 16)
            with compute.autocast():
                loss = network(compute.put(films)).float().square().mean()
            loss.backward()
    except RuntimeError as error:
        raise ValueError(
            f"a tiny network cannot be trained on {compute.name}: {str(error).splitlines()[0]}. Start "
            "the session again on another machine, or run HARNESS_PROFILE=cpu."
        ) from error
    gradients = [part.grad for part in network.parameters() if part.grad is not None]
    if not all(bool(value.isfinite().all()) for value in (loss, *gradients)):
        raise ValueError(
            f"a tiny network on {compute.name} gives numbers that are not finite; try --set precision=float32"
        )
    if compute.device == "cpu":
        return f"forward and backward pass on {compute.name}"
    free, total = torch.cuda.mem_get_info()
    major, minor = torch.cuda.get_device_capability()
    return (
        f"forward and backward pass on {torch.cuda.device_count()} x {compute.name}, capability "
        f"{major}.{minor} of {', '.join(torch.cuda.get_arch_list())}, {free / 1e9:.1f} of "
        f"{total / 1e9:.1f} GB free"
    )


def arch_fault(capability: tuple[int, int], built_for: Sequence[str]) -> str:
    """Why a card cannot run kernels of an installed torch; empty when it can.

    Args:
        capability: Of the card, as (7, 5).
        built_for: torch.cuda.get_arch_list(): sm_75 is machine code, for cards of the same major
            version from that minor one on; compute_90 is compiled when loaded, for cards from 9.0 on.
            Letters at the end (sm_90a) tie code to one card.
    """
    card = capability[0] * 10 + capability[1]
    for entry in built_for:
        kind, _, text = entry.partition("_")
        version = int(text.rstrip("abcdefghijklmnopqrstuvwxyz") or 0)
        if kind == "sm" and version // 10 == capability[0] and version <= card:
            return ""
        if kind == "compute" and version <= card:
            return ""
    return f"its compute capability {capability[0]}.{capability[1]} is not among {', '.join(built_for)}"


def fold_processes(parallel: int, compute: Compute) -> list[FoldProcess]:
    """The processes that folds are trained in side by side; fewer than two: one after the other.

    Args:
        parallel: FoldsConfig.parallel. 0: one for each GPU, since a network of this size leaves a
            second one idle; on a CPU one, since a single training uses every core.
        compute: Where this run computes.

    Returns:
        On GPUs each process sees one card (several share one when there are fewer cards); on a CPU
        each gets its part of the threads.
    """
    if compute.device == "cpu":
        threads = max(torch.get_num_threads() // max(parallel, 1), 1)
        return [
            FoldProcess(f"worker {index}", {"OMP_NUM_THREADS": str(threads)})
            for index in range(parallel)
        ]
    cards = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(cards)))
    names = visible.split(",")[:cards]
    return [
        FoldProcess(f"gpu {names[index % cards]}", {"CUDA_VISIBLE_DEVICES": names[index % cards]})
        for index in range(parallel or cards)
    ]


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
    name = torch.cuda.get_device_name()
    fault = arch_fault(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())
    if fault:
        return f"{name} does not work with torch {torch.__version__}: {fault}"
    try:
        # A card this torch was not compiled for (P100 with CUDA 13) is listed, and fails at the
        # first kernel.
        probe = torch.ones(1, 1, 4, 4, device="cuda")
        nn.Conv2d(1, 1, 3, device="cuda")(probe).sum().item()
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        return f"{name} does not work with torch {torch.__version__}: {first}"
    return ""
