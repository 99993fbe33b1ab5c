"""One place that seeds everything, and seeds derived from it that do not collide."""

import hashlib
import os
import random
import sys

import numpy as np


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and, when it is already imported, torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries still use the global one)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def derive_seed(*parts: object) -> int:
    """A 31-bit seed from any parts, the same in every process: derive_seed(seed, fold, "mix")."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF


def worker_count() -> int:
    """Cores this process may really use: Kaggle gives few, and containers hide the rest."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
