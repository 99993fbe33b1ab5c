"""Pictures of neighbour pairs: whoever looks at them sees at once what the features call alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kernels.blocks.pairs import Pairs
from kernels.contract import NEIGHBOURS_FOLDER, PAIRS_FILE, write_json

PAIRS_OF_A_KIND = (
    2  # nearest, typical and farthest: six small files, neither the best nor the worst alone
)
PAIR_SIDE = 112  # pixels of each film
PAIR_GAP = 4


def choose_examples(pairs: Pairs) -> list[tuple[str, int]]:
    """(kind, row) of pairs to show, no two of them made of the same films."""
    order = np.argsort(pairs.distance, kind="stable").tolist()
    half = len(order) // 2
    middle = [order[place] for place in sorted(range(len(order)), key=lambda at: abs(at - half))]
    seen: set[frozenset[int]] = set()
    chosen = []
    for kind, rows in (("nearest", order), ("typical", middle), ("farthest", order[::-1])):
        count = 0
        for row in rows:
            films = frozenset((row, int(pairs.neighbour[row])))
            if count < PAIRS_OF_A_KIND and films not in seen:
                seen.add(films)
                chosen.append((kind, row))
                count += 1
    return chosen


def write_neighbours(
    films: np.ndarray, ids: Sequence[str], pairs: Pairs, folder: Path
) -> list[dict[str, Any]]:
    """A picture for each example pair, film left and neighbour right, and pairs.json with their names.

    Args:
        films: uint8 (N, S, S), in the order of ``ids`` and ``pairs``.

    Raises:
        OSError: A file cannot be written.
    """
    target = folder / NEIGHBOURS_FOLDER
    target.mkdir(exist_ok=True)
    shown: list[dict[str, Any]] = []
    gap = np.full((PAIR_SIDE, PAIR_GAP), 255, np.uint8)
    for number, (kind, row) in enumerate(choose_examples(pairs)):
        other = int(pairs.neighbour[row])
        left, right = (
            cv2.resize(
                np.asarray(films[index]), (PAIR_SIDE, PAIR_SIDE), interpolation=cv2.INTER_AREA
            )
            for index in (row, other)
        )
        done, data = cv2.imencode(".png", np.hstack([left, gap, right]))
        if not done:
            raise OSError(f"OpenCV could not encode pair {number}")
        name = f"pair_{number}.png"
        (target / name).write_bytes(data.tobytes())
        shown.append(
            {
                "file": name,
                "kind": kind,
                "film": str(ids[row]),
                "neighbour": str(ids[other]),
                "distance": float(pairs.distance[row]),
            }
        )
    write_json(target / PAIRS_FILE, {"pairs": shown})
    return shown
