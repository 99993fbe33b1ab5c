"""Draws X-rays and whole competitions from a seed, for the demo and the tests.

A film is attenuation, built up in the order of the body (torso, lungs, heart, bones, vessels), then
exposed like a film: pose, a low-frequency field, a tone curve, noise. Both classes are drawn the
same way; a positive film gets opacities inside its lungs on top, some of them faint. Anatomy belongs
to a patient, pose and exposure to a film. Loaded by the demo only: it imports OpenCV.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Seed = int | Sequence[int]

POSITIVE_SHARE = 0.73  # as in the real films this stands in for
JPEG_QUALITY = 85
FOLDER_CLASSES = ("NORMAL", "PNEUMONIA")  # of the public folder layout, in the order of the labels
SHIFT = 4  # OpenCV takes coordinates with this many fractional bits


@dataclass(frozen=True)
class SyntheticCompetition:
    """Where a drawn competition is. The solution lies outside the data that kernels see."""

    slug: str
    data_folder: Path  # train/, val/, val.csv, test/, sample_submission.csv
    solution_csv: Path  # image_id,label of every test film
    patients: dict[str, int]  # image id -> patient; written nowhere


@dataclass(frozen=True)
class Anatomy:
    """What stays the same between films of one patient; lengths are shares of the image's side."""

    seed: int  # textures and vessels
    chest: float  # half width of the torso
    wall: float  # thickness of the chest wall
    apex: float  # top of the lungs
    base_right: float  # height of the right lung's dome (left in the image), from the top
    base_left: float
    lung: float  # half width of one lung at its widest
    heart: float  # radius; the cardiothoracic ratio of a healthy child varies a lot
    spine: float  # half width
    ribs: int  # pairs seen
    rib_slope: float
    rib_strength: float
    vessels: float  # strength of the hilar markings; a confuser of faint opacities
    shoulders: float  # how far the arms reach into the film
    stomach: float  # radius of the gastric bubble; 0: none


def draw_film(
    seed: Seed, positive: bool, size: int = 224, patient: Seed | None = None
) -> tuple[Bytes, Mask]:
    """One chest film.

    Args:
        seed: Decides pose, exposure and opacities; the same seed gives the same bytes.
        positive: Whether the lungs hold opacities.
        size: Side in pixels, at least 32.
        patient: Decides the anatomy; None takes it from ``seed``.

    Returns:
        The film, uint8 of shape (size, size), and the mask of its opacities, bool of the same shape
        and all False for a negative film.
    """
    if size < 32:
        raise ValueError(f"size is {size}; a film needs at least 32 pixels a side")
    anatomy = draw_anatomy(seed if patient is None else patient)
    rng = np.random.default_rng(_entropy(seed, 2))
    attenuation, lungs = _body(anatomy, size)
    # Pose and exposure are drawn first, so that they do not depend on the class.
    pose = _pose(rng, size)
    exposure = rng.spawn(1)[0]
    if positive:
        opacity, focus = _opacity(rng, lungs, size)
    else:
        opacity, focus = np.zeros_like(lungs), np.zeros_like(lungs)
    attenuation = cv2.warpAffine(
        attenuation + opacity, pose, (size, size), borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    mask = cv2.warpAffine(focus, pose, (size, size)) > 0.4
    return _expose(exposure, attenuation, size), mask


def draw_competition(
    folder: Path,
    seed: int = 0,
    n_unlabelled: int = 160,
    n_labelled: int = 160,
    n_test: int = 100,
    size: int = 224,
    slug: str = "masked-xray-challenge",
) -> SyntheticCompetition:
    """Draw a competition below a folder: ``<folder>/<slug>/`` and ``<folder>/<slug>-solution.csv``.

    Patients have one to four films and never cross splits; the share of positives is close to
    ``POSITIVE_SHARE`` in each. The same arguments give the same bytes.

    Raises:
        FileExistsError: If the data folder is there already.
    """
    data = folder / slug
    data.mkdir(parents=True)
    rng = np.random.default_rng([seed, 0])
    total = n_unlabelled + n_labelled + n_test
    ids = [f"xr_{number:08x}" for number in _distinct(rng, total)]
    patients: dict[str, int] = {}
    labels: dict[str, int] = {}
    splits: dict[str, list[str]] = {}
    start = 0
    for split, count in (("train", n_unlabelled), ("val", n_labelled), ("test", n_test)):
        (data / split).mkdir()
        members = ids[start : start + count]
        start += count
        for name, (patient, label) in zip(
            members, _draw_patients(rng, count, len(patients)), strict=True
        ):
            patients[name], labels[name] = patient, label
            film, _ = draw_film([seed, 1, int(name[3:], 16)], bool(label), size, [seed, 2, patient])
            write_jpeg(data / split / f"{name}.jpg", film)
        splits[split] = sorted(members)
    header = ("image_id", "label")
    write_table(data / "val.csv", header, [(name, labels[name]) for name in splits["val"]])
    write_table(data / "sample_submission.csv", header, [(name, 0.5) for name in splits["test"]])
    solution = folder / f"{slug}-solution.csv"
    write_table(solution, header, [(name, labels[name]) for name in splits["test"]])
    return SyntheticCompetition(slug, data, solution, patients)


def draw_folder_competition(
    folder: Path,
    seed: int = 0,
    n_train: int = 80,
    n_val: int = 4,
    n_test: int = 32,
    size: int = 224,
    slug: str = "chest-xray-pneumonia",
) -> SyntheticCompetition:
    """Draw the public chest X-ray set's layout: ``<folder>/<slug>/train|val|test/NORMAL|PNEUMONIA``.

    File names tell the patient as the public ones do (``IM-0003-0001``, ``person7_virus_12``); an id is
    ``<split>/<file name without extension>``. Half of ``val`` is of each class. A sample submission
    lies beside the folders and the solution outside, so that the local Kaggle can host it.

    Raises:
        FileExistsError: If the data folder is there already.
    """
    data = folder / slug
    data.mkdir(parents=True)
    rng = np.random.default_rng([seed, 3])
    patients: dict[str, int] = {}
    answers: list[tuple[str, int]] = []
    for split, count in (("train", n_train), ("val", n_val), ("test", n_test)):
        for name in FOLDER_CLASSES:
            (data / split / name).mkdir(parents=True)
        films = _draw_patients(rng, count, len(patients))
        if split == "val":
            films = [(len(patients) + index, index % 2) for index in range(count)]
        for patient, label in films:
            number = len(patients)
            name = _public_name(patient, number, label)
            film, _ = draw_film([seed, 4, number], bool(label), size, [seed, 5, patient])
            write_jpeg(data / split / FOLDER_CLASSES[label] / f"{name}.jpeg", film)
            patients[f"{split}/{name}"] = patient
            if split == "test":
                answers.append((f"{split}/{name}", label))
    answers.sort()
    header = ("id", "pneumonia")
    write_table(data / "sample_submission.csv", header, [(name, 0.5) for name, _ in answers])
    solution = folder / f"{slug}-solution.csv"
    write_table(solution, header, answers)
    return SyntheticCompetition(slug, data, solution, patients)


def draw_anatomy(seed: Seed) -> Anatomy:
    """A patient."""
    rng = np.random.default_rng(_entropy(seed, 1))
    base = rng.uniform(0.70, 0.80)
    return Anatomy(
        seed=int(rng.integers(2**31)),
        chest=rng.uniform(0.38, 0.45),
        wall=rng.uniform(0.035, 0.075),
        apex=rng.uniform(0.13, 0.19),
        base_right=base - rng.uniform(0.0, 0.04),
        base_left=base,
        lung=rng.uniform(0.25, 0.29),
        heart=rng.uniform(0.115, 0.165),
        spine=rng.uniform(0.035, 0.05),
        ribs=int(rng.integers(8, 11)),
        rib_slope=rng.uniform(0.05, 0.12),
        rib_strength=rng.uniform(0.12, 0.22),
        vessels=rng.uniform(0.03, 0.11),
        shoulders=rng.uniform(0.0, 0.12),
        stomach=float(rng.choice([0.0, rng.uniform(0.03, 0.06)])),
    )


# ---- the body ------------------------------------------------------------------------------------


def _body(anatomy: Anatomy, size: int) -> tuple[Floats, Floats]:
    """Attenuation (air 0, torso about 1) and the lungs' soft mask in [0, 1], both (size, size)."""
    rng = np.random.default_rng(anatomy.seed)
    a = anatomy
    y, x = _grid(size)
    across = (x - 0.5) / a.chest

    torso = _soft(_torso(a), size, 0.012)
    thickness = np.sqrt(np.clip(1.0 - 0.75 * across**2, 0.05, 1.0))
    body = torso * (0.62 + 0.38 * thickness)
    for side in (-1, 1):
        body = np.maximum(body, 0.55 * _soft(_arm(a, side), size, 0.02))

    right, left = _lung(a, -1), _lung(a, 1)
    lungs = np.maximum(_soft(right, size, 0.008), _soft(left, size, 0.008))
    body -= 0.62 * lungs * (1.0 - 0.22 * y)

    # Below the domes there is liver and gut; the lungs' lower edge comes from this contrast.
    body += 0.20 * torso * _step(y - (a.base_right + a.base_left) / 2 - 0.02, 0.03)
    if a.stomach:
        bubble = _ellipse(0.62, a.base_left + 0.07, a.stomach, a.stomach * 0.7, -15.0)
        body -= 0.22 * _soft(bubble, size, 0.012)

    apex_low = _ellipse(
        0.5 + 0.34 * a.heart, a.base_left - 0.85 * a.heart, a.heart, 1.3 * a.heart, -32.0
    )
    heart = _soft(apex_low, size, 0.014) * _step(a.base_left + 0.03 - y, 0.05)
    middle = np.exp(-(((x - 0.505) / (0.060 + 0.02 * y)) ** 2)) * torso
    body += np.maximum(0.42 * heart, 0.27 * middle)
    lungs *= 1.0 - 0.85 * np.maximum(heart, middle)

    body += _spine(a, x, y) * torso + _bones(a, size)
    body += a.vessels * _vessels(rng, a, size) * (0.3 + 0.7 * lungs)
    body += 0.035 * _noise(rng, 40, size) * torso + 0.03 * _noise(rng, 12, size) * torso
    return body.astype(np.float32), lungs.astype(np.float32)


def _torso(a: Anatomy) -> Floats:
    """Outline from the neck over the shoulders down the flanks."""
    down = [-0.05, 0.02, 0.06, 0.10, 0.16, 0.24, 0.36, 0.55, 0.80, 1.10]
    wide = [0.09, 0.10, 0.16, 0.30, 0.40, a.chest, a.chest, a.chest + 0.01, a.chest, a.chest - 0.01]
    y = np.linspace(down[0], down[-1], 48)
    x = np.interp(y, down, wide)
    right, left = np.stack([0.5 - x, y], axis=1), np.stack([0.5 + x, y], axis=1)
    return np.concatenate([right, left[::-1]]).astype(np.float32)


def _arm(a: Anatomy, side: int) -> Floats:
    """The upper arm, leaving the film sideways."""
    near, far = 0.5 + side * 0.34, 0.5 + side * 0.62
    low = 0.14 + a.shoulders
    points = [(near, 0.10), (far, 0.02 + 0.8 * a.shoulders), (far, 0.30 + 2.2 * a.shoulders)]
    return np.asarray(
        [*points, (0.5 + side * (a.chest + 0.02), low + 0.12), (near, low)], np.float32
    )


def _lung(a: Anatomy, side: int) -> Floats:
    """Outline of one lung; side -1 is the patient's right, at the left of the image."""
    base = a.base_right if side < 0 else a.base_left
    t = np.linspace(0.0, 1.0, 24)
    bottom = base + 0.07  # the angle beside the dome lies deeper than the dome
    widest = min(a.chest - a.wall, a.lung + 0.10)
    round_top = (1.0 - (1.0 - np.clip(t / 0.8, 0, 1)) ** 2.0) ** 0.60
    outer = 0.075 + (widest - 0.075) * round_top
    inner = 0.075 - 0.035 * np.clip(t / 0.25, 0, 1) ** 0.7
    dome = np.linspace(1.0, 0.0, 14)[1:]  # from the outer angle to the spine
    floor = base + 0.07 * np.clip((dome - 0.42) / 0.58, 0, 1) ** 1.7 + 0.05 * (1 - dome) ** 3
    edge_x = np.concatenate([outer, inner[-1] + (outer[-1] - inner[-1]) * dome, inner[::-1]])
    height = bottom - a.apex
    edge_y = np.concatenate([a.apex + height * t, floor, a.apex + (height - 0.03) * t[::-1]])
    return np.stack([0.5 + side * edge_x, edge_y], axis=1).astype(np.float32)


def _spine(a: Anatomy, x: Floats, y: Floats) -> Floats:
    """A column with a gap between vertebrae."""
    column = np.exp(-(((x - 0.5) / a.spine) ** 4))  # (1, W)
    gaps = 0.5 + 0.5 * np.cos(2 * np.pi * y / 0.062)  # (H, 1)
    result: Floats = column * (0.17 - 0.09 * gaps**4)
    return result


def _bones(a: Anatomy, size: int) -> Floats:
    """Ribs and clavicles, with a bright cortex on both edges."""
    thick, thin = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    front = np.zeros((size, size), np.uint8)
    s = np.linspace(0.0, 1.0, 16)
    broad = max(1, round(0.024 * size))
    backs, fronts, collars = [], [], []
    for side in (-1, 1):
        for index in range(a.ribs):
            share = index / (a.ribs - 1)
            top = a.apex - 0.03 + share * (a.base_left - a.apex + 0.04)
            reach = (a.chest - 0.4 * a.wall) * (0.55 + 0.45 * min(1.0, share * 2.2) ** 0.5)
            x = 0.5 + side * (a.spine + (reach - a.spine) * np.sin(0.5 * np.pi * s))
            y = top - 0.035 * np.sin(np.pi * np.clip(s * 1.4, 0, 1)) + a.rib_slope * s**2.2
            backs.append((x, y))
            bend = 0.5 + side * (reach - 0.6 * reach * s**1.5)  # the part in front, fainter
            fronts.append((bend, y[-1] + (0.09 + 0.5 * a.rib_slope) * s**0.8))
        rise = a.apex + 0.035 - 0.07 * s + 0.02 * np.sin(2 * np.pi * s)
        collars.append((0.5 + side * (0.06 + 0.30 * s), rise))
    _draw_lines(thick, backs, broad)
    _draw_lines(thick, collars, broad + 1)
    _draw_lines(thin, backs + collars, max(1, broad // 2))
    _draw_lines(front, fronts, broad)
    bones = thick.astype(np.float32) - 0.4 * thin + 0.38 * front
    result: Floats = a.rib_strength * cv2.GaussianBlur(bones / 255.0, (0, 0), 0.0035 * size + 0.15)
    return result


def _vessels(rng: np.random.Generator, a: Anatomy, size: int) -> Floats:
    """Branches from both hila, thinner with the distance."""
    canvas = np.zeros((size, size), np.uint8)
    middle = 0.5 * (a.apex + a.base_left)
    s = np.linspace(0.0, 1.0, 10)
    for side in (-1, 1):
        for _ in range(13):
            angle = rng.uniform(-1.4, 1.4)
            length = rng.uniform(0.10, 0.26)
            bow = rng.uniform(-0.12, 0.12)
            x = 0.5 + side * (0.075 + length * s * np.cos(angle))
            y = middle + 0.02 + length * s * np.sin(angle) * 1.15 + bow * s**2
            _draw_lines(canvas, [(x, y)], max(1, round(rng.uniform(0.003, 0.008) * size)))
        hilum = _ellipse(0.5 + side * 0.085, middle + 0.02, 0.035, 0.06, side * -20.0)
        cv2.fillPoly(canvas, [_fixed(hilum, size)], 255, cv2.LINE_AA, SHIFT)
    result: Floats = cv2.GaussianBlur(canvas.astype(np.float32) / 255.0, (0, 0), 0.007 * size + 0.2)
    return result


# ---- what is ill ---------------------------------------------------------------------------------


def _opacity(rng: np.random.Generator, lungs: Floats, size: int) -> tuple[Floats, Floats]:
    """Added attenuation of a positive film, and where it is centred, in [0, 1].

    Patches, a consolidated zone, or haze; one in five is faint.
    """
    kind = rng.choice(["patches", "zone", "haze"], p=[0.45, 0.25, 0.3])
    faint = rng.random() < 0.2
    strength = rng.uniform(0.08, 0.22) if faint else rng.uniform(0.28, 0.68)
    y, x = _grid(size)
    inside = np.argwhere(lungs > 0.7)
    cloud = np.clip(0.85 + 0.2 * _noise(rng, 14, size) + 0.28 * _noise(rng, 38, size), 0.2, 1.4)

    def spot(radius: float) -> Floats:
        row, column = (inside[rng.integers(len(inside))] / size).tolist()
        stretch = rng.uniform(0.7, 1.4)
        distance = ((x - column) * stretch) ** 2 + ((y - row) / stretch) ** 2
        result: Floats = np.exp(-distance * np.sqrt(distance) / radius**3)
        return result

    if kind == "patches":
        shape = spot(rng.uniform(0.07, 0.13))
        for _ in range(int(rng.integers(1, 6))):
            shape = np.maximum(shape, rng.uniform(0.5, 1.0) * spot(rng.uniform(0.04, 0.11)))
    elif kind == "zone":
        shape = spot(rng.uniform(0.15, 0.24))
    else:
        right, left = rng.permutation([1.0, rng.choice([0.3, 1.0])]).tolist()  # one lung, or both
        shape = np.where(x < 0.5, right, left).astype(np.float32) * _step(
            y - rng.uniform(0.25, 0.45), 0.35
        )
        strength *= 0.8
    focus = (shape * lungs).astype(np.float32)
    spread = np.maximum(shape, 0.15)  # the rest of the lungs is a little less clear, too
    return (strength * spread * cloud * lungs).astype(np.float32), focus


# ---- the film ------------------------------------------------------------------------------------


def _pose(rng: np.random.Generator, size: int) -> Floats:
    """Affine map of a small turn, zoom and shift, shape (2, 3)."""
    centre = (size / 2, size / 2)
    pose = cv2.getRotationMatrix2D(centre, rng.normal(0.0, 2.2), 1.06 + rng.normal(0.0, 0.035))
    pose[:, 2] += rng.normal(0.0, 0.015 * size, 2)
    return np.asarray(pose, np.float32)


def _expose(rng: np.random.Generator, attenuation: Floats, size: int) -> Bytes:
    """Attenuation becomes grey values: field, tone curve, blur, noise, marker."""
    y, x = _grid(size)
    tilt = rng.normal(0.0, 0.06), rng.normal(0.0, 0.06)
    field = 1.0 + tilt[0] * (x - 0.5) + tilt[1] * (y - 0.5) + 0.045 * _noise(rng, 3, size)
    seen = np.clip(attenuation * field, 0.0, None)
    gain, gamma, fog = rng.uniform(0.92, 1.18), rng.uniform(1.1, 1.45), rng.uniform(0.0, 0.04)
    grey = fog + (1.0 - fog) * (1.0 - np.exp(-gain * seen**gamma)) * 1.15
    grey = cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.3, 0.8) * size / 224)
    grain = rng.uniform(0.006, 0.016)
    grey += grain * rng.standard_normal((size, size), dtype=np.float32)
    film: Bytes = np.clip(grey * 255.0, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        place = (round(rng.uniform(0.02, 0.10) * size), round(rng.uniform(0.08, 0.5) * size))
        scale, bold = rng.uniform(0.0016, 0.0032) * size, max(1, round(0.007 * size))
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(film, str(rng.choice(["R", "L"])), place, font, scale, 245, bold, cv2.LINE_AA)
    if rng.random() < 0.15:  # collimated: a dark border
        film[:, : round(rng.uniform(0.01, 0.05) * size)] = 3
        film[:, size - round(rng.uniform(0.01, 0.05) * size) :] = 3
    return film


# ---- small tools ---------------------------------------------------------------------------------


def _entropy(seed: Seed, stream: int) -> list[int]:
    return [seed, stream] if isinstance(seed, int) else [*seed, stream]


def _grid(size: int) -> tuple[Floats, Floats]:
    """y of shape (H, 1) and x of shape (1, W), shares of the side: what is separable stays cheap."""
    steps: Floats = (np.arange(size) / size).astype(np.float32)
    return steps[:, None], steps[None, :]


def _fixed(points: Floats, size: int) -> npt.NDArray[np.int32]:
    """Points in shares of the side as OpenCV's fixed-point pixels."""
    pixels: npt.NDArray[np.int32] = np.round(points * size * 2**SHIFT).astype(np.int32)
    return pixels


def _soft(outline: Floats, size: int, blur: float) -> Floats:
    """A filled outline with soft edges, in [0, 1]."""
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [_fixed(outline, size)], 255, cv2.LINE_AA, SHIFT)
    result: Floats = cv2.GaussianBlur(canvas.astype(np.float32) / 255.0, (0, 0), blur * size)
    return result


def _draw_lines(canvas: Bytes, lines: Sequence[tuple[Any, Any]], width: int) -> None:
    """Open polylines, each as its x and y."""
    pixels = [_fixed(np.stack(line, axis=1), len(canvas)) for line in lines]
    cv2.polylines(
        canvas,
        pixels,
        isClosed=False,
        color=255,
        thickness=width,
        lineType=cv2.LINE_AA,
        shift=SHIFT,
    )


def _ellipse(x: float, y: float, rx: float, ry: float, turn_deg: float) -> Floats:
    angle = np.linspace(0.0, 2.0 * np.pi, 40, endpoint=False)
    turn = np.deg2rad(turn_deg)
    u, v = rx * np.cos(angle), ry * np.sin(angle)
    points = [x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)]
    return np.stack(points, axis=1).astype(np.float32)


def _step(value: Floats, width: float) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(np.clip(-4.0 * value / width, -30, 30)))
    return result


def _noise(rng: np.random.Generator, cells: int, size: int) -> Floats:
    """Smooth noise of unit variance or so, with about ``cells`` bumps along a side."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    result: Floats = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return result


def _distinct(rng: np.random.Generator, count: int) -> list[int]:
    """Different 32-bit numbers in random order, so that an id tells nothing."""
    found: dict[int, None] = {}
    while len(found) < count:
        found[int(rng.integers(2**32))] = None
    return list(found)


def _draw_patients(rng: np.random.Generator, count: int, first: int) -> list[tuple[int, int]]:
    """(patient, label) of each film of a split; every film of a patient has the patient's label."""
    films: list[tuple[int, int]] = []
    wanted = {1: round(POSITIVE_SHARE * count)}
    wanted[0] = count - wanted[1]
    for label, number in wanted.items():
        while number > 0:
            here = min(number, int(rng.choice([1, 2, 3, 4], p=[0.6, 0.2, 0.12, 0.08])))
            films += [(first + len(films), label)] * here
            number -= here
    return [films[index] for index in rng.permutation(count)]


def _public_name(patient: int, number: int, label: int) -> str:
    """A file's name in the public set: the patient's number, then the film's."""
    if label:
        subtype = "virus" if patient % 3 == 0 else "bacteria"
        return f"person{patient + 1}_{subtype}_{number + 1}"
    prefix = "NORMAL2-" if patient % 2 else ""
    return f"{prefix}IM-{patient + 1:04d}-{number + 1:04d}"


def write_jpeg(path: Path, film: Bytes) -> None:
    """A gray film as a JPEG (OSError when it cannot be encoded)."""
    done, data = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise OSError(f"OpenCV could not encode {path.name}")
    path.write_bytes(data.tobytes())


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
