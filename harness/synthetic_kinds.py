"""Draws competitions of other kinds: several targets at once, and classes. For trying things, and for tests.

Laid out as most image competitions are: train.csv, train/, test/, sample_submission.csv. Films are
those of synthetic.py; lines are drawn on top of them as catheters lie, classes by what fills the lungs.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from harness.synthetic import Bytes, SyntheticCompetition, draw_film, write_jpeg, write_table

LINE_TARGETS = ("tube", "tube_deep", "feeding_line", "central_line", "central_line_high")
CLASSES = ("clear", "focal", "diffuse")
PATIENT_COLUMN = "patient_id"


def draw_lines_film(seed: int, flags: dict[str, bool], size: int = 224) -> Bytes:
    """A film with the lines that ``flags`` name, uint8 (size, size).

    ``tube_deep`` and ``central_line_high`` say where the tip of a tube or central line lies.
    """
    film, _ = draw_film(seed, positive=False, size=size)
    rng = np.random.default_rng([seed, 7])
    glow = np.zeros((size, size), np.float32)
    middle = 0.5 + rng.normal(0.0, 0.012)
    if flags["tube"]:
        tip = rng.normal(0.5 if flags["tube_deep"] else 0.31, 0.015)
        lean = (
            -0.07 if flags["tube_deep"] else 0.0
        )  # down the right main bronchus, left in the image
        _stroke(glow, [(middle, 0.0), (middle, 0.28), (middle + lean, tip)], 0.016, 0.8)
    if flags["feeding_line"]:
        bend = [(middle + 0.02, 0.0), (middle + 0.03, 0.5), (middle + 0.06, 0.78), (0.68, 0.9)]
        _stroke(glow, bend, 0.01, 0.9)
    if flags["central_line"]:
        side = -1 if rng.random() < 0.7 else 1
        start = (0.5 + side * 0.32, 0.16)
        end = (0.5 + side * 0.1, 0.02) if flags["central_line_high"] else (0.5 + side * 0.05, 0.46)
        _stroke(
            glow, [start, (0.5 + side * 0.16, 0.19), (0.5 + side * 0.07, 0.24), end], 0.008, 1.0
        )
    glow = cv2.GaussianBlur(glow, (0, 0), size / 320)
    noise = 1.0 + 0.1 * rng.standard_normal(glow.shape).astype(np.float32)
    seen: Bytes = np.clip(film + 95.0 * glow * noise, 0, 255).astype(np.uint8)
    return seen


def _stroke(
    canvas: np.ndarray, points: list[tuple[float, float]], width: float, strength: float
) -> None:
    """A smooth open line through points in shares of the side, (x, y)."""
    table = np.array(points)
    steps = np.linspace(0, len(table) - 1, 40)
    curve = np.stack([np.interp(steps, range(len(table)), column) for column in table.T], axis=1)
    kernel = np.ones(7) / 7  # rounds the corners; the ends are kept
    for column in range(2):
        padded = np.pad(curve[:, column], 3, mode="reflect", reflect_type="odd")
        curve[:, column] = np.convolve(padded, kernel, "valid")
    size = len(canvas)
    pixels = np.round(curve * size * 16).astype(np.int32)
    layer = np.zeros(canvas.shape, np.uint8)
    cv2.polylines(
        layer, [pixels], isClosed=False, color=255, thickness=max(1, round(width * size)),
        lineType=cv2.LINE_AA, shift=4,
    )  # fmt: skip
    np.maximum(canvas, layer.astype(np.float32) / 255 * strength, out=canvas)


def draw_class_film(seed: int, name: str, size: int = 224) -> Bytes:
    """A film of one of CLASSES: nothing, opacities in places, or a haze over both lungs."""
    film, _ = draw_film(seed, positive=name == "focal", size=size)
    if name != "diffuse":
        return film
    rng = np.random.default_rng([seed, 8])
    y, x = np.mgrid[0:size, 0:size] / size
    lungs = sum(
        np.exp(-((((x - 0.5 - side * 0.2) / 0.16) ** 2 + ((y - 0.5) / 0.3) ** 2) ** 2))
        for side in (-1, 1)
    )
    coarse = rng.normal(0.5, 0.35, (14, 14)).astype(np.float32)
    texture = np.clip(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)
    seen: Bytes = np.clip(film + rng.uniform(45, 80) * lungs * texture, 0, 255).astype(np.uint8)
    return seen


def draw_lines_competition(
    folder: Path, seed: int = 0, n_labelled: int = 240, n_test: int = 120, size: int = 224
) -> SyntheticCompetition:
    """Several targets that may occur together, for macro AUC; patients have up to three films."""

    def draw(number: int, rng: np.random.Generator) -> tuple[list[int], Bytes]:
        flags = {name: bool(rng.random() < 0.5) for name in LINE_TARGETS}
        flags["tube_deep"] &= flags["tube"]
        flags["central_line_high"] &= flags["central_line"]
        return [int(flags[name]) for name in LINE_TARGETS], draw_lines_film(number, flags, size)

    return _draw(folder, "lines-on-films", LINE_TARGETS, seed, n_labelled, n_test, 0.5, draw)


def draw_classes_competition(
    folder: Path, seed: int = 0, n_labelled: int = 240, n_test: int = 120, size: int = 224
) -> SyntheticCompetition:
    """One of three classes for each film, for multi-class log loss."""

    def draw(number: int, rng: np.random.Generator) -> tuple[list[int], Bytes]:
        name = CLASSES[int(rng.choice(3, p=[0.4, 0.35, 0.25]))]
        return [int(name == other) for other in CLASSES], draw_class_film(number, name, size)

    return _draw(folder, "classes-of-films", CLASSES, seed, n_labelled, n_test, 0.333333, draw)


def _draw(
    folder: Path,
    slug: str,
    targets: tuple[str, ...],
    seed: int,
    n_labelled: int,
    n_test: int,
    guess: float,
    draw: Callable[[int, np.random.Generator], tuple[list[int], Bytes]],
) -> SyntheticCompetition:
    data = folder / slug
    for split in ("train", "test"):
        (data / split).mkdir(parents=True)
    rng = np.random.default_rng([seed, 3])
    rows: dict[str, list[list[object]]] = {"train": [], "test": []}
    patients: dict[str, int] = {}
    patient = 0
    for number in range(n_labelled + n_test):
        split = "train" if number < n_labelled else "test"
        if number == n_labelled or rng.random() < 0.6:  # a new patient; none in both splits
            patient += 1
        labels, film = draw(seed * 100_000 + number, rng)
        name = f"film_{int(rng.integers(2**32)):08x}"
        patients[name] = patient
        write_jpeg(data / split / f"{name}.jpg", film)
        rows[split].append([name, *labels, f"p{patient:04d}"])
    write_table(data / "train.csv", ["image_id", *targets, PATIENT_COLUMN], rows["train"])
    guesses = [[row[0], *[guess] * len(targets)] for row in rows["test"]]
    write_table(data / "sample_submission.csv", ["image_id", *targets], guesses)
    solution = folder / f"{slug}-solution.csv"
    write_table(solution, ["image_id", *targets], [row[:-1] for row in rows["test"]])
    return SyntheticCompetition(slug, data, solution, patients)
