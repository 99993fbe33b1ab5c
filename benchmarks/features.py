"""The 22 hand-crafted features beside scikit-image: in memory, from full-size JPEGs, the whole job.

python -m benchmarks.features [--quick] [--data FOLDER]
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.films import RECIPE_FILMS, films_in_memory, jpeg_files
from benchmarks.racing import Line, Options, Same, array_gap, race, run_benchmark
from kernels.blocks.features import extract_features
from kernels.blocks.images import load_images, read_gray

ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
DISTANCES = (1, 3, 5)
PROPERTIES = ("contrast", "homogeneity", "energy")


def peer_features(image: np.ndarray, levels: int, one_call: bool = False) -> list[float]:
    """As the write-up computes them: numpy, and scikit-image once a distance (or once for all three)."""
    from skimage.feature import graycomatrix, graycoprops
    from skimage.filters import sobel
    from skimage.measure import shannon_entropy

    values = [image.mean(), image.std(), np.median(image), image.min(), image.max()]
    values += [np.percentile(image, share) for share in (25, 75, 90)]
    values += [shannon_entropy(image), image.var()]
    seen = image if levels == 256 else (image.astype(int) * levels // 256).astype(np.uint8)
    groups = [DISTANCES] if one_call else [(distance,) for distance in DISTANCES]
    texture: dict[tuple[str, int], float] = {}
    for group in groups:
        matrix = graycomatrix(seen, list(group), ANGLES, levels, symmetric=True, normed=True)
        for name in PROPERTIES:
            means = graycoprops(matrix, name).mean(axis=1)
            texture.update({(name, group[row]): float(means[row]) for row in range(len(group))})
    values += [texture[name, distance] for name in PROPERTIES for distance in DISTANCES]
    edges = sobel(image)
    return [float(value) for value in (*values, edges.mean(), edges.std(), edges.max())]


def peer_table(films: Sequence[np.ndarray], levels: int, one_call: bool = False) -> np.ndarray:
    """float64 (N, 22) on one thread."""
    return np.array([peer_features(film, levels, one_call) for film in films])


def peer_of_file(path: str, levels: int = 256) -> list[float]:
    """Full decoding, one area step to 224 pixels, scikit-image."""
    film = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    return peer_features(cv2.resize(film, (224, 224), interpolation=cv2.INTER_AREA), levels)


def ours_of_files(paths: list[str], levels: int = 256) -> np.ndarray:
    """Our reader and our features on one thread, nothing cached."""
    return extract_features(np.stack([read_gray(path, 224) for path in paths]), levels, workers=1)


def close(ours: np.ndarray, peer: np.ndarray) -> Same:
    """As the two libraries agree: to 1e-9."""
    return array_gap(ours[: len(peer)], peer, 1e-9, relative=True)


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    cv2.setNumThreads(1)
    count = options.pick(64, 16, 3)
    films = films_in_memory(options, count)
    some = films[: options.pick(16, 8, 3)]
    scale = len(films) / len(some)  # the peer takes a part of the films; its time is proportional

    def one_pass() -> float:
        return sum(float(cv2.mean(film)[0]) for film in films)

    for levels, one_call, target in (
        (256, False, 25.0),
        (256, True, 15.0),
        (32, False, 5.0),
    ):
        calls = "one call" if one_call else "a call per distance"
        yield race(
            f"22 features, {levels} levels, {count} films of 224 px in memory, 1 core",
            lambda levels=levels: extract_features(films, levels, workers=1),
            lambda levels=levels, one_call=one_call: peer_table(some, levels, one_call),
            same=close,
            peer_name=f"scikit-image, {calls}",
            target=target,
            rounds=options.rounds,
            floor=one_pass,
            scale=scale,
            clock="cpu",
        )

    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for levels, target in ((256, 25.0), (32, 5.0)):

            def peer_in_two(levels: int = levels) -> np.ndarray:
                halves = np.array_split(some, 2)
                return np.concatenate(list(pool.map(peer_table, halves, [levels, levels])))

            yield race(
                f"22 features, {levels} levels, {count} films, 2 cores",
                lambda levels=levels: extract_features(films, levels, workers=2),
                peer_in_two,
                same=close,
                peer_name="scikit-image, 2 processes",
                target=target,
                rounds=options.rounds,
                scale=scale,
            )

    with jpeg_files(
        options.pick(RECIPE_FILMS, 256, 4), *options.pick((1000, 1300), (1000, 1300), (300, 390))
    ) as paths:
        sample = paths[: options.pick(32, 12, 2)]

        def decoded() -> None:
            for path in sample:
                cv2.imread(path, cv2.IMREAD_GRAYSCALE)

        for levels, target in ((256, 10.0), (32, None)):

            def as_the_peer(ours: np.ndarray, _: np.ndarray, levels: int = levels) -> Same:
                """Ours halves a film first, so pixels differ a little: theirs is asked about our pixels."""
                return close(ours, peer_table([read_gray(path, 224) for path in sample], levels))

            yield race(
                f"22 features, {levels} levels, from {len(sample)} JPEGs of 1300x1000, 1 core",
                lambda levels=levels: ours_of_files(sample, levels),
                lambda levels=levels: np.array([peer_of_file(path, levels) for path in sample]),
                same=as_the_peer,
                peer_name="cv2 + scikit-image",
                target=target,
                rounds=options.rounds,
                floor=decoded,
                clock="cpu",
                note="floor: decoding",
            )

        def pixels_close(*_: np.ndarray) -> Same:
            """How far our pixels are from one area step."""
            one_step = [
                cv2.resize(
                    cv2.imread(path, cv2.IMREAD_GRAYSCALE), (224, 224), interpolation=cv2.INTER_AREA
                )
                for path in sample
            ]
            halved = [read_gray(path, 224) for path in sample]
            gaps = np.abs(np.array(halved, dtype=float) - np.array(one_step, dtype=float))
            return Same(float(gaps.mean()), 0.5, "mean grey levels")

        def whole_job() -> np.ndarray:
            with TemporaryDirectory(prefix="features-") as name:
                read, _ = load_images(paths, 224, Path(name), workers=1)
                return extract_features(np.asarray(read), 256, workers=1)

        yield race(
            f"22 features, 256 levels, the whole job of {len(paths):,} JPEGs, 1 core, cold cache",
            whole_job,
            lambda: np.array([peer_of_file(path) for path in sample]),
            same=pixels_close,
            peer_name=f"cv2 + scikit-image (of {len(sample)} films, scaled)",
            target=10.0,
            rounds=options.pick(2, 1, 1),
            floor=None,
            scale=len(paths) / len(sample),
            clock="cpu",
        )


if __name__ == "__main__":
    raise SystemExit(run_benchmark(lines, __doc__))
