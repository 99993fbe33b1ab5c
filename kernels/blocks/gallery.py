"""Pictures of what a network looked at, and the network itself as one file: the report's torch part.

Grad-CAM beside the film for typical films of both classes and for the worst errors. Each film is
explained by the network that held it out, so a picture shows what decided an out-of-fold score.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kernels.blocks.checkpoints import save_classifier
from kernels.blocks.devices import Compute
from kernels.blocks.gradcam import grad_cam, overlay
from kernels.blocks.models import Classifier
from kernels.blocks.predicting import gray_tensor
from kernels.blocks.verdicts import RunReport, Verdicts
from kernels.config import HeadConfig
from kernels.contract import MODEL_FILE

GALLERY_FOLDER = "gradcam"
FILMS_OF_A_KIND = 2  # n_0, n_1, p_0, p_1 as in write-up B; as many of the worst errors
GALLERY_TARGETS = 3  # explained when there are many
PICTURE_SIDE = 224  # pixels of each half; smaller films are enlarged
CAPTION_HEIGHT = 34
BASE_KEYS = (
    "model_name",
    "freeze_backbone",
    "levels",
    "head",
    "n_targets",
)  # save_classifier writes these


@dataclass(frozen=True)
class Showcase:
    """What the pictures need from a pipeline.

    films: uint8 (N, S, S), as the networks saw them; ids: their names, N of them.
    model_of: (seed, fold) -> that fold's network and its checkpoint's facts (as load_classifier gives
    them: img_size, head, ...).
    """

    films: np.ndarray
    ids: Sequence[str]
    model_of: Callable[[int, int], tuple[Classifier, dict[str, Any]]]
    compute: Compute

    def add_to(self, report: RunReport, folder: Path) -> None:
        """A section of the report: model.pt and gradcam/*.png."""
        # Both begin with the first fold's network: kept, it is loaded once.
        once = replace(self, model_of=lru_cache(maxsize=1)(self.model_of))
        write_model(once, report, folder)
        write_gallery(once, report, folder)


def typical_and_worst(films: Verdicts, column: int) -> dict[str, int]:
    """Rows by picture name.

    ``n_*`` and ``p_*``: films of each class that were judged rightly, nearest to the median
    probability of those: neither the easiest nor chosen by their looks. ``fn_*`` and ``fp_*``: errors
    farthest from their threshold, as a share of the way to the end of the scale.
    """
    truth, flags = films.targets[:, column] == 1, films.flags[:, column]
    probs, cuts = films.probs[:, column], films.thresholds[:, column]
    picks: dict[str, int] = {}
    for letter, label in (("n", False), ("p", True)):
        right = np.flatnonzero((truth == label) & (flags == label))
        if len(right):
            distance = np.abs(probs[right] - np.median(probs[right]))
            order = right[np.argsort(distance, kind="stable")]
            picks |= {f"{letter}_{i}": int(row) for i, row in enumerate(order[:FILMS_OF_A_KIND])}
    room = np.where(flags, 1.0 - cuts, cuts)
    excess = np.abs(probs - cuts) / np.maximum(room, 1e-12)
    for name, wrong in (("fn", truth & ~flags), ("fp", ~truth & flags)):
        rows = np.flatnonzero(wrong)
        order = rows[np.argsort(-excess[rows], kind="stable")]
        picks |= {f"{name}_{i}": int(row) for i, row in enumerate(order[:FILMS_OF_A_KIND])}
    return picks


def write_gallery(showcase: Showcase, report: RunReport, folder: Path) -> None:
    """gradcam/*.png, and what they show in ``results["gradcam"]``."""
    names = report.competition.target_columns
    place = {name: row for row, name in enumerate(showcase.ids)}
    wanted = []
    for column, target in enumerate(names[:GALLERY_TARGETS]):
        prefix = "" if len(names) == 1 else f"{target}_"
        for name, row in typical_and_worst(report.oof, column).items():
            wanted.append((report.oof.cells[row], f"{prefix}{name}.png", column, row))
    target_folder = folder / GALLERY_FOLDER
    target_folder.mkdir(exist_ok=True)
    shown: dict[str, Any] = {}
    for cell, name, column, row in sorted(wanted):  # by cell: each network is loaded once
        model = showcase.model_of(*cell)[0].eval()
        showcase.compute.place(model)
        film = np.asarray(showcase.films[place[report.oof.ids[row]]])
        positive = bool(report.oof.flags[row, column])
        batch = showcase.compute.put(gray_tensor(film[None]))
        cam = grad_cam(model, batch, column, positive)[0].cpu().numpy()
        facts = {
            "id": report.oof.ids[row],
            "truth": int(report.oof.targets[row, column]),
            "probability": float(report.oof.probs[row, column]),
            "threshold": float(report.oof.thresholds[row, column]),
            "seed": int(cell[0]),
            "fold": int(cell[1]),
            "explains": "positive" if positive else "negative",
            "empty_map": not bool(cam.any()),
        }
        label = names[column] if len(names) > 1 else report.competition.positive_label
        save_png(target_folder / name, captioned(film, cam, facts, label))
        shown[name] = facts
    report.results["gradcam"] = shown


def captioned(film: np.ndarray, cam: np.ndarray, facts: dict[str, Any], label: str) -> np.ndarray:
    """Film, the same film under its map, and two lines that say what is seen; uint8 RGB."""
    side = max(PICTURE_SIDE, len(film))
    large = cv2.resize(film, (side, side), interpolation=cv2.INTER_LINEAR)
    both = np.hstack([np.repeat(large[..., None], 3, axis=2), overlay(large, cam)])
    strip = np.full((CAPTION_HEIGHT, both.shape[1], 3), 255, np.uint8)
    words = {0: f"no {label}", 1: label}
    said = words[int(facts["probability"] >= facts["threshold"])]
    lines = (
        f"{facts['id']}: truth {words[facts['truth']]}",
        f"p {facts['probability']:.3f}, threshold {facts['threshold']:.3f}; map: evidence for {said}",
    )
    for index, text in enumerate(lines):
        # Names may be long, and OpenCV's font knows ASCII only.
        plain = text.encode("ascii", "replace").decode()[: both.shape[1] // 6]
        cv2.putText(
            strip, plain, (4, 13 + 15 * index), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA
        )  # fmt: skip
    return np.vstack([both, strip])


def save_png(path: Path, picture: np.ndarray) -> None:
    """RGB uint8 (H, W, 3) to a file (OSError when it cannot be written)."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"OpenCV could not encode {path.name}")
    path.write_bytes(data.tobytes())


def write_model(showcase: Showcase, report: RunReport, folder: Path) -> None:
    """model.pt: the first fold's network with config and results; loads with weights_only=True."""
    seed, fold = min(report.oof.cells)
    model, facts = showcase.model_of(seed, fold)
    report.results["model"] = {"seed": seed, "fold": fold, "img_size": int(facts["img_size"])}
    save_classifier(
        folder / MODEL_FILE,
        model,
        HeadConfig(**facts["head"]),
        **{key: value for key, value in facts.items() if key not in BASE_KEYS},
        config=repr(report.config),
        results=json.dumps(report.results, sort_keys=True),
    )
