"""Maps that leave a network's frozen first stages: computed once a view, then trained on.

With the stem and some stages frozen, what they make of a film does not change while the rest is trained.
So every view goes through them once, and its map stays on disk in half precision: all epochs, folds,
seeds, teachers and students read the same maps, and a training step costs the later stages alone (lite0
at 224 pixels, five of seven stages frozen, on one core: 36 films a second instead of 5). The
price is a bounded number of augmented views.
"""

import json
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernels.blocks.augment import augment_batch
from kernels.blocks.devices import Compute
from kernels.blocks.entry import say
from kernels.blocks.goal import Goal
from kernels.blocks.images import reserve_array
from kernels.blocks.models import Backbone, Classifier
from kernels.blocks.predicting import gray_tensor
from kernels.blocks.seed import derive_seed
from kernels.blocks.tta import tta_views
from kernels.config import AugmentConfig


@dataclass(frozen=True)
class EarlyMaps:
    """Where maps come from and where they are kept.

    backbone: Its frozen stages make the maps; ``frozen_stages`` is at least 1.
    augment: What random views are drawn from.
    folder: Scratch; a map file of another run is taken when network, films and view are the same.
    """

    backbone: Backbone
    image_size: int
    augment: AugmentConfig
    folder: Path
    compute: Compute
    batch_size: int = 32

    def of(self, films: np.ndarray, name: str, view: str | int) -> np.ndarray:
        """Maps of every film in one view.

        Args:
            films: uint8, shape (N, S, S).
            name: Of the set, for the log and the seed of its views: labelled, unlabelled, test.
            view: A name that tta.py knows, or the number of a random view.

        Returns:
            float16 (N, h, w, c), memory-mapped and read-only.
        """
        path = self.folder / f"maps_{name}_{view}_{self.key(films)}.npy"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            started = time.monotonic()
            part = path.with_suffix(".part")
            self.fill(part, films, name, view)
            part.replace(path)  # last: a killed run leaves nothing that a later one would trust
            seconds = time.monotonic() - started
            size = path.stat().st_size / 1e6
            say(f"maps of {len(films)} {name} films, view {view}: {size:.0f} MB in {seconds:.0f} s")
        maps: np.ndarray = np.load(path, mmap_mode="r")
        return maps

    def fill(self, path: Path, films: np.ndarray, name: str, view: str | int) -> None:
        """Write the maps of one view to a file."""
        rng = np.random.default_rng(derive_seed(0, "early view", name, view))
        out: np.ndarray | None = None
        for start in range(0, len(films), self.batch_size):
            batch = np.asarray(films[start : start + self.batch_size])
            if isinstance(view, int):
                seen = augment_batch(batch, self.augment, self.image_size, rng)
            else:
                seen = tta_views(batch, (view,))[0]
            with torch.inference_mode(), self.compute.autocast():
                maps = self.backbone.early(self.compute.put(gray_tensor(seen)))
            rows = maps.permute(0, 2, 3, 1).to(torch.float16).cpu().numpy()
            if out is None:
                out = reserve_array(path, (len(films), *rows.shape[1:]), np.float16)
            out[start : start + len(rows)] = rows
        assert out is not None, "no films"
        del out  # the mapping goes with it; its pages belong to the file already

    def key(self, films: np.ndarray) -> str:
        """Names what a map depends on: the frozen stages' weights and statistics, precision, size, views, films."""
        facts = [
            self.backbone.name,
            self.backbone.frozen_stages,
            self.image_size,
            repr(self.augment),
        ]
        content = sha256(json.dumps([*facts, str(self.compute.low_precision)]).encode())
        for module in self.backbone.early_modules():
            for name, value in module.state_dict().items():
                content.update(name.encode())
                content.update(np.ascontiguousarray(value.detach().cpu().numpy()).reshape(-1).data)
        content.update(np.ascontiguousarray(films).reshape(-1).data)
        return content.hexdigest()[:16]


class LateClassifier(Classifier):
    """A classifier that is fed early maps (B, c, h, w) instead of films: the part that is trained.

    Its weights have a classifier's names, so optimisers tell backbone from head, and a checkpoint of it is
    a classifier's.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(B, c, h, w) -> logits, shape (B, K)."""
        return self.tail(self.backbone.late(maps))


def map_tensor(maps: np.ndarray) -> Tensor:
    """float16 maps (B, h, w, c) -> float32 tensor (B, c, h, w), channels last in memory."""
    return torch.from_numpy(np.asarray(maps, dtype=np.float32)).permute(0, 3, 1, 2)


def late_logits(
    model: LateClassifier, maps: np.ndarray, batch_size: int, compute: Compute
) -> np.ndarray:
    """Logits of cached maps (N, h, w, c): float64, shape (N, K)."""
    was_training = model.training
    model.eval()
    outputs = []
    for start in range(0, len(maps), batch_size):
        with torch.inference_mode(), compute.autocast():
            logits = model(compute.put(map_tensor(maps[start : start + batch_size])))
        outputs.append(logits.float().cpu().numpy())
    model.train(was_training)
    return np.concatenate(outputs).astype(np.float64)


def late_probs(
    model: LateClassifier, maps: np.ndarray, batch_size: int, compute: Compute, goal: Goal
) -> np.ndarray:
    """Probabilities of cached maps: float64 in [0, 1], shape (N, K)."""
    return goal.probs(late_logits(model, maps, batch_size, compute))
