"""Reading films and drawing views beside PIL and torchvision, as training scripts do it, on one core.

    python -m benchmarks.images [--quick] [--data FOLDER]

The first read decodes, shrinks and fills the uint8 cache; every later epoch gathers from it. The peer has
no cache: each of its epochs is a first read.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as moves

from benchmarks.films import drawn_films, jpeg_files, real_paths
from benchmarks.racing import Line, Options, Same, race, run_benchmark
from kernels.blocks.augment import augment_batch, geometry_of_views, retone, warp_view
from kernels.blocks.devices import Compute
from kernels.blocks.images import load_images
from kernels.blocks.predicting import gray_tensor
from kernels.config import AugmentConfig

BATCH = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = Compute("cpu", None, "benchmark")
STORED, VIEW = 256, 224  # pixels of the films that views are drawn from, and of the views
RECIPE = AugmentConfig(
    crop_scale_min=(VIEW / STORED) ** 2,
    rotation_deg=40.0,
    perspective=0.2,
    perspective_p=0.5,
    brightness=0.2,
    contrast=0.2,
)


class FilmFiles(Dataset):
    """Files as a training script reads them: RGB, resized, a tensor, normalised."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        with Image.open(self.paths[row]) as film:
            return self.transform(film.convert("RGB"))


def peer_epoch(paths: Sequence[str], size: int) -> list[Tensor]:
    """One epoch of the peer's loader in this process, as batches (B, 3, size, size)."""
    return list(DataLoader(FilmFiles(paths, size), batch_size=BATCH))


def first_read(paths: Sequence[str], size: int) -> np.ndarray:
    """Our first read on one thread, with the cache that it writes: uint8 (N, size, size)."""
    with TemporaryDirectory(prefix="images-") as name:
        return np.array(load_images(paths, size, Path(name), workers=1)[0])


def cached_epoch(films: np.ndarray, order: np.ndarray) -> Tensor:
    """One epoch from the cache as inference and training take it: (B, 1, S, S) in [0, 1]; the last batch."""
    batch = torch.empty(0)
    for start in range(0, len(order), BATCH):
        batch = CPU.put(gray_tensor(films[order[start : start + BATCH]]))
    return batch


def normalised_epoch(films: np.ndarray, order: np.ndarray) -> Tensor:
    """The same with the three normalised channels that ``Backbone.forward`` makes of a grey one."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    batch = torch.empty(0)
    for start in range(0, len(order), BATCH):
        batch = (CPU.put(gray_tensor(films[order[start : start + BATCH]])) - mean) / std
    return batch


def grey_levels(batches: Sequence[Tensor]) -> np.ndarray:
    """What the peer's normalised tensors show, in grey levels (N, S, S)."""
    red = torch.cat(list(batches))[:, 0]
    return ((red * STD[0] + MEAN[0]) * 255).numpy()


def levels_close(ours: np.ndarray, peer: np.ndarray) -> Same:
    """Two ways of shrinking (area means, and triangles) differ by some tenths of a grey level."""
    gap = np.abs(ours[: len(peer)].astype(float) - peer).mean()
    return Same(float(gap), 1.5, "mean grey levels")


def peer_views(films: Sequence[Image.Image], transform: Callable[[Any], Tensor]) -> Tensor:
    """One view of each film by torchvision's transforms on PIL images, as a batch."""
    return torch.stack([transform(film) for film in films])


def same_move(films: np.ndarray) -> Same:
    """Both libraries' draws differ, so one drawn move is shared: a crop, a flip, a turn, darker, flatter.

    Grey levels are compared in the middle of the view: outside the film ours repeats its edge, the peer's
    is black.
    """
    film = films[0]
    draws = np.full((1, 19), 0.5)
    draws[0, 0], draws[0, 3], draws[0, 4] = 0.0, 0.0, 0.75  # smallest crop, flipped, half the angle
    config = AugmentConfig(
        crop_scale_min=RECIPE.crop_scale_min, hflip=1.0, rotation_deg=RECIPE.rotation_deg
    )
    ours = retone(warp_view(film, geometry_of_views(draws, config)[0], VIEW), 0.9, 0.8)
    peer = moves.hflip(moves.center_crop(Image.fromarray(film), [VIEW, VIEW]))
    turned = moves.rotate(peer, -RECIPE.rotation_deg / 2, InterpolationMode.BILINEAR)
    # Brightness and contrast by the definition: the mean is that of the whole view, edges included.
    bright = np.asarray(turned).astype(float) * 0.9
    mean = 0.9 * warp_view(film, geometry_of_views(draws, config)[0], VIEW).mean()
    peer_tone = (bright - mean) * 0.8 + mean
    gap = np.abs(middle(ours).astype(float) - middle(peer_tone)).mean()
    return Same(float(gap), 1.0, "mean grey levels of one shared move")


def middle(view: np.ndarray) -> np.ndarray:
    """The central half of each side, which no turn takes out of the film."""
    quarter = len(view) // 4
    return view[quarter:-quarter, quarter:-quarter]


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    count = options.pick(256, 64, 4)
    height, width = options.pick((800, 1000), (800, 1000), (240, 300))
    with jpeg_files(count, height, width) as drawn:
        paths = drawn if options.data is None else real_paths(options.data)[:count]
        named = f"{height} x {width}" if options.data is None else "real"
        for size, target in ((224, 3.0), (384, None)):
            yield from first_reads(options, paths, named, size, target)
        for size, target in ((224, 100.0), (384, 40.0)):
            yield from later_epochs(options, paths, size, target)
    yield from augmentation(options)


def first_reads(
    options: Options, paths: Sequence[str], named: str, size: int, target: float | None
) -> Iterator[Line]:
    """From files, nothing cached."""

    def decoded() -> None:
        for path in paths:
            cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)

    yield race(
        f"first read of {len(paths)} {named} JPEGs at {size} px, 1 core",
        lambda: first_read(paths, size),
        lambda: peer_epoch(paths, size),
        same=lambda ours, peer: levels_close(ours, grey_levels(peer)),
        peer_name="PIL RGB + torchvision",
        target=target,
        rounds=options.rounds,
        floor=decoded,
        clock="cpu",
        note="ours writes its cache, and checks what is odd about each file",
    )


def later_epochs(
    options: Options, paths: Sequence[str], size: int, target: float
) -> Iterator[Line]:
    """From the memory-mapped cache; it repeats our epoch, for it takes milliseconds."""
    order = np.random.default_rng(0).permutation(len(paths))
    rows = order[: options.pick(64, 32, 4)]  # the peer reads a part; its time is proportional
    some = [paths[row] for row in rows]
    with TemporaryDirectory(prefix="images-") as name:
        films, _ = load_images(paths, size, Path(name), workers=1)
        whole = np.resize(order, options.pick(1024, 512, 8))

        def same(_: Tensor, peer: Sequence[Tensor]) -> Same:
            read = CPU.put(gray_tensor(films[rows]))[:, 0].numpy() * 255
            return levels_close(read, grey_levels(peer))

        def gathered() -> None:
            for start in range(0, len(whole), BATCH):
                films[whole[start : start + BATCH]]

        for what, epoch, wanted in (
            ("grey floats", cached_epoch, target),
            ("three normalised channels", normalised_epoch, None),
        ):
            yield race(
                f"a later epoch of {len(whole)} films at {size} px, {what}, 1 core",
                lambda epoch=epoch: epoch(films, whole),
                lambda: peer_epoch(some, size),
                same=same,
                peer_name=f"PIL + torchvision DataLoader ({len(some)} films, scaled)",
                target=wanted,
                rounds=options.rounds,
                floor=gathered,
                scale=len(whole) / len(some),
                clock="cpu",
            )


def augmentation(options: Options) -> Iterator[Line]:
    """One view of each film of a batch, from films in memory to normalised tensors."""
    count = options.pick(BATCH, BATCH, 4)
    films = drawn_films(count, STORED)
    pictures = [Image.fromarray(film).convert("RGB") for film in films]
    recipe = transforms.Compose(
        [
            transforms.RandomCrop(VIEW),
            transforms.RandomHorizontalFlip(RECIPE.hflip),
            transforms.RandomRotation(RECIPE.rotation_deg, InterpolationMode.BILINEAR),
            transforms.ColorJitter(RECIPE.brightness, RECIPE.contrast),
            transforms.RandomPerspective(RECIPE.perspective, RECIPE.perspective_p),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    rng = np.random.default_rng(0)

    def ours() -> Tensor:
        grey = CPU.put(gray_tensor(augment_batch(films, RECIPE, VIEW, rng)))
        return (grey - MEAN[0]) / STD[0]

    def one_warp() -> None:
        move = np.array([[0.8, 0.1, 10.0], [-0.1, 0.8, 20.0], [0.0, 0.0, 1.0]])
        for film in films:
            cv2.warpPerspective(film, move, (VIEW, VIEW), flags=cv2.INTER_LINEAR)

    torch.manual_seed(0)
    yield race(
        f"augmentation, one view of {count} films, {STORED} -> {VIEW} px, 1 core",
        ours,
        lambda: peer_views(pictures, recipe),
        same=lambda *_: same_move(films),
        peer_name="torchvision v1, PIL RGB",
        target=5.0,
        rounds=options.pick(11, 7, 1),
        floor=one_warp,
        repeat=options.pick(10, 4, 1),
        clock="cpu",
    )


if __name__ == "__main__":
    raise SystemExit(run_benchmark(lines, __doc__))
