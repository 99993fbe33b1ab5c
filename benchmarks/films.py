"""Films to measure with: a folder of real ones, or drawn by the harness from seeds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.racing import Options
from harness.synthetic import draw_film

RECIPE_FILMS = 4099  # as many as the competition of the write-ups has
DISTINCT = 64  # drawn films; beyond it they repeat: what is measured does not look at content twice


def drawn_films(count: int, side: int = 224) -> np.ndarray:
    """uint8 (count, side, side), both classes."""
    distinct = [draw_film(seed, seed % 2 == 0, side)[0] for seed in range(min(count, DISTINCT))]
    return np.stack([distinct[place % DISTINCT] for place in range(count)])


def films_in_memory(options: Options, count: int) -> np.ndarray:
    """uint8 (count, 224, 224), real ones where a folder was given."""
    if options.data is None:
        return drawn_films(count)
    paths = real_paths(options.data)
    films = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in paths[: min(count, len(paths))]]
    return np.stack([cv2.resize(films[place % len(films)], (224, 224)) for place in range(count)])


def real_paths(folder: Path) -> list[str]:
    """Every JPEG and PNG below a folder, sorted."""
    found = sorted(
        str(path) for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if not found:
        raise FileNotFoundError(f"{folder} holds no films")
    return found


@contextmanager
def jpeg_files(count: int, height: int, width: int) -> Iterator[list[str]]:
    """Paths of drawn grey JPEGs of one size, quality 92, as scanners' exports have."""
    with TemporaryDirectory(prefix="films-") as name:
        paths = []
        for place, film in enumerate(drawn_films(min(count, DISTINCT), max(height, width))):
            film = cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)
            noise = np.random.default_rng(place).normal(0, 1.5, film.shape)  # a sensor's
            film = np.clip(film + noise, 0, 255).astype(np.uint8)
            data = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
            for copy in range(place, count, DISTINCT):
                path = Path(name) / f"film{copy:05d}.jpg"
                path.write_bytes(data)
                paths.append(str(path))
        yield sorted(paths)
