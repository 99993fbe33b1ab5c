"""Films from disk: decoded once, made grey, squashed to model size and kept as uint8 in one file.

Everything later (features, pairs, augmentation, test-time views) reads that memory-mapped array. One
decoder and one way of shrinking for every film, whatever its format: a film's container predicts its
label in public data, so nothing may branch on it. The cache's key names both.

Policy on odd films. Refused, all together in one ValueError: missing, empty, undecodable, larger than
MAX_PIXELS, pixels that are not 8 or 16 bit integers. Handled and counted (ImageFaults, for metrics.json):
16-bit, alpha, palette, colour, tiny, blank and truncated files. Nothing is ever dropped.
"""

import hashlib
import json
import os
import struct
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import DTypeLike

from kernels.blocks.seed import worker_count

DECODER = f"cv2 {cv2.__version__}, grey, halves then area, 2"  # last: this file's own version
MAX_PIXELS = 100_000_000  # a film has some 2 to 20 million; more is a mistake or a bomb
TINY_SIDE = 32  # pixels; below this there is no film to see
PROGRESS_SECONDS = 5.0
ERROR_EXAMPLES = 5
JPEG_END = b"\xff\xd9"
PNG_KINDS = {2: ("colour",), 3: ("palette",), 4: ("alpha",), 6: ("alpha", "colour")}


@dataclass(frozen=True)
class ImageFaults:
    """What was odd about a set of films and was handled: kind -> count, kind -> first file name."""

    images: int
    counts: dict[str, int]
    first: dict[str, str]
    unreadable: tuple[int, ...] = ()  # rows that are black because they were to be spared

    def as_json(self) -> dict[str, Any]:
        """Plain values for metrics.json."""
        return asdict(self)


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says about itself before it is decoded."""

    width: int
    height: int
    oddities: tuple[str, ...]


def load_images(
    paths: Sequence[str],
    size: int,
    cache: Path,
    label: str = "images",
    clahe: tuple[float, int] | None = None,
    workers: int | None = None,
    spare: bool = False,
) -> tuple[np.ndarray, ImageFaults]:
    """Every film as grey uint8 of one size, from the cache when it has been decoded before.

    Args:
        paths: Image files; rows of the result keep this order.
        size: Side of the squares in pixels.
        cache: Folder for the array. The key covers paths, sizes and times of the files, size, clahe
            and the decoder's version; a killed run leaves nothing that a later one would trust.
        label: What the films are, for progress lines and errors.
        clahe: Clip limit and tiles per side, applied after the resize; None leaves it out.
        workers: Threads; decoding leaves the interpreter's lock. None: every core.
        spare: Films that cannot be read are black and listed in the report, not refused.

    Returns:
        uint8 array (N, size, size), memory-mapped and read-only; and what was handled.

    Raises:
        ValueError: If any film cannot be read: how many, and the first ones with the reason for each.
        OSError: If the cache folder has no room.
    """
    if not len(paths):
        return np.empty((0, size, size), np.uint8), ImageFaults(0, {}, {})
    key = images_key(paths, size, clahe) + ("_spared" if spare else "")
    array_file = cache / f"images_{key}.npy"
    report_file = cache / f"images_{key}.json"
    cached = open_cached_images(array_file, report_file, (len(paths), size, size))
    if cached is not None:
        return cached
    cache.mkdir(parents=True, exist_ok=True)
    temporary = cache / f"images_{key}.{os.getpid()}.part"
    try:
        images = reserve_array(temporary, (len(paths), size, size))
        faults = decode_all(paths, images, label, clahe, workers or worker_count(), spare)
        del images  # the mapping goes with it; its pages belong to the file already
        report_part = temporary.with_suffix(".json.part")
        report_part.write_text(json.dumps(faults.as_json()), encoding="utf-8")
        report_part.replace(report_file)
        temporary.replace(array_file)  # last: the array's name says that everything is there
    finally:
        temporary.unlink(missing_ok=True)
    fresh = open_cached_images(array_file, report_file, (len(paths), size, size))
    assert fresh is not None, f"{array_file} was written and cannot be read"
    return fresh


def read_gray(path: str | Path, size: int) -> np.ndarray:
    """One film as grey uint8, shape (size, size), squashed: aspect ratio is a label shortcut.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be decoded, with the reason.
    """
    image, _ = decode_gray(Path(path).read_bytes())
    return resize_square(image, size)


def decode_gray(data: bytes) -> tuple[np.ndarray, list[str]]:
    """Bytes of an image file as grey uint8 (H, W), and what had to be handled to get there.

    Colour is weighed to luma by the decoder; alpha is left out; a palette is expanded; EXIF rotation is
    followed. 16-bit films are scaled from the smallest scanner depth (8, 10, 12, 14, 16 bits) that
    holds their maximum, since a 12-bit film divided by 256 would be black. A JPEG that
    ends early is decoded as far as it goes and called truncated; a PNG that does is refused.

    Raises:
        ValueError: With the reason, when there is no picture in it.
    """
    if not data:
        raise ValueError("empty file")
    header = read_header(data)
    if header.width * header.height > MAX_PIXELS:
        raise ValueError(f"{header.width} x {header.height} pixels, over {MAX_PIXELS:,}")
    if "truncated" in header.oddities:
        data += (
            JPEG_END  # without it OpenCV gives nothing, where from a path it gives what is there
        )
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
        )
    except cv2.error as error:
        raise ValueError(f"cannot be decoded: {str(error).strip().splitlines()[-1]}") from error
    if image is None:
        raise ValueError("cannot be decoded")
    if image.size > MAX_PIXELS:  # a format whose header is not read here
        raise ValueError(f"{image.shape[1]} x {image.shape[0]} pixels, over {MAX_PIXELS:,}")
    oddities = list(header.oddities)
    if image.dtype == np.uint16:
        oddities.append("16-bit")
        image = scale_to_bytes(image)
    elif image.dtype != np.uint8:
        raise ValueError(f"{image.dtype} pixels; 8 or 16 bit integers are read")
    if min(image.shape) < TINY_SIDE:
        oddities.append("tiny")
    if image.min() == image.max():
        oddities.append("blank")
    return image, oddities


def read_header(data: bytes) -> ImageHeader:
    """Size and oddities of a JPEG, PNG, BMP or TIFF; other formats give (0, 0) and are left to the decoder."""
    oddities: list[str] = []
    if data[:2] == b"BM" and len(data) >= 30:
        width, height, _, bits = struct.unpack("<iiHH", data[18:30])
        kinds = {1: ("palette",), 4: ("palette",), 8: ("palette",), 32: ("alpha", "colour")}
        return ImageHeader(abs(width), abs(height), kinds.get(bits, ("colour",)))
    if data[:4] in (b"II*\0", b"MM\0*"):
        return read_tiff_header(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 26:
        width, height, _, kind = struct.unpack(">IIBB", data[16:26])
        oddities += PNG_KINDS.get(kind, ())
        return ImageHeader(width, height, tuple(oddities))
    if data[:2] != b"\xff\xd8":
        return ImageHeader(0, 0, ())
    if JPEG_END not in data[-4096:]:  # notes may follow it; in compressed data FF has 00 after it
        oddities.append("truncated")
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header
            height, width, channels = struct.unpack(">HHB", data[place + 5 : place + 10])
            oddities += ["colour"] if channels > 1 else []
            return ImageHeader(width, height, tuple(oddities))
        if marker == 0xFF:  # padding
            place += 1
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return ImageHeader(0, 0, tuple(oddities))


def read_tiff_header(data: bytes) -> ImageHeader:
    """Size and oddities of a TIFF's first image, from the tags of its first directory (TIFF 6.0, 2)."""
    order = "<" if data[:2] == b"II" else ">"
    tags: dict[int, int] = {}
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, start)
        for place in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", data, place)
            if count == 1 and kind in (3, 4):  # SHORT, LONG: the value itself stands there
                (tags[tag],) = struct.unpack_from(
                    order + ("H" if kind == 3 else "I"), data, place + 8
                )
    except struct.error:
        return ImageHeader(0, 0, ())
    width, height, photometric, samples = (tags.get(tag, 0) for tag in (256, 257, 262, 277))
    found = {
        "palette": photometric == 3,
        "alpha": 338 in tags or samples in (2, 4),  # ExtraSamples, or one that no tag names
        "colour": samples >= 3,
    }
    return ImageHeader(width, height, tuple(name for name, holds in found.items() if holds))


def scale_to_bytes(image: np.ndarray) -> np.ndarray:
    """uint16 to uint8, from the smallest usual depth that holds the maximum; rounded."""
    brightest = int(image.max())
    depth = next(bits for bits in (8, 10, 12, 14, 16) if brightest < 1 << bits)
    table = np.rint(np.arange(1 << depth) * (255.0 / ((1 << depth) - 1))).astype(np.uint8)
    scaled: np.ndarray = table[image]
    return scaled


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """Grey uint8 (H, W) to (size, size): area means where it shrinks, linear where it grows.

    While both sides are at least three times the target, the film is halved first (linear at a factor
    of two is the mean of 2 x 2): a third of the time of one area step, and some 0.3 grey levels from
    it at 224 pixels.
    """
    while min(image.shape) >= 3 * size:
        halves = (image.shape[1] // 2, image.shape[0] // 2)
        image = cv2.resize(image, halves, interpolation=cv2.INTER_LINEAR)
    height, width = image.shape
    shrunk = (min(width, size), min(height, size))
    if shrunk != (width, height):
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if image.shape != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return image


def apply_clahe(image: np.ndarray, clip: float, grid: int) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of one grey uint8 image, any (H, W).

    Run it after the resize: before and after differ by tens of grey levels. The clip that really acts is
    max(1, floor(clip x pixels of a tile / 256)), so small images ignore fine steps of ``clip``.

    Raises:
        ValueError: If clip or grid is not positive.
    """
    if clip <= 0 or grid < 1:
        raise ValueError(f"CLAHE clip {clip} and grid {grid} must be positive")
    # A new object each time: one object must not be shared between threads.
    return cv2.createCLAHE(clipLimit=clip, tileGridSize=(grid, grid)).apply(image)


def images_key(paths: Sequence[str], size: int, clahe: tuple[float, int] | None) -> str:
    """Names a cached array: 24 hex digits over everything that decides its bytes."""
    digest = hashlib.sha256(json.dumps([DECODER, size, clahe]).encode())
    for path in paths:
        try:
            facts = Path(path).stat()
            digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        except OSError:  # named with all other faults when it is read
            digest.update(f"{path}\0missing\n".encode())
    return digest.hexdigest()[:24]


def open_cached_images(
    array_file: Path, report_file: Path, shape: tuple[int, int, int]
) -> tuple[np.ndarray, ImageFaults] | None:
    """A cached array and its report; None when either is absent or not what it should be."""
    try:
        report = json.loads(report_file.read_text(encoding="utf-8"))
        images = np.load(array_file, mmap_mode="r")
        faults = ImageFaults(**report)
    except (OSError, ValueError, TypeError):
        return None
    if images.shape != shape or images.dtype != np.uint8:
        return None
    return images, faults


def reserve_array(path: Path, shape: tuple[int, ...], kind: DTypeLike = np.uint8) -> np.ndarray:
    """A writable memory-mapped .npy with its disk space taken: a full disk fails here, not by a signal.

    Raises:
        OSError: No room; nothing is left behind.
    """
    array: np.ndarray = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):
        try:
            with path.open("r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
        except OSError as error:
            path.unlink()
            raise OSError(
                error.errno,
                f"no room for {array.nbytes / 1e6:.0f} MB ({error.strerror}). Free some, or take smaller "
                "images (--set image_size=...)",
                str(path.parent),
            ) from error
    return array


def decode_all(
    paths: Sequence[str],
    images: np.ndarray,
    label: str,
    clahe: tuple[float, int] | None,
    workers: int,
    spare: bool = False,
) -> ImageFaults:
    """Fill ``images`` row by row; one ValueError for all films that cannot be read, unless they are spared."""
    size = images.shape[1]

    def decode_row(row: int) -> tuple[list[str], str | None]:
        try:
            image, oddities = decode_gray(Path(paths[row]).read_bytes())
        except FileNotFoundError:
            return [], "missing"
        except (OSError, ValueError, MemoryError) as error:
            return [], str(error) or type(error).__name__
        square = resize_square(image, size)
        images[row] = square if clahe is None else apply_clahe(square, *clahe)
        return oddities, None

    counts: dict[str, int] = {}
    first: dict[str, str] = {}
    broken: list[str] = []
    unreadable: list[int] = []
    started = spoken = time.monotonic()
    with single_threaded_cv2(), ThreadPoolExecutor(workers) as pool:
        for row, (oddities, reason) in enumerate(pool.map(decode_row, range(len(paths)))):
            name = Path(paths[row]).name
            if reason is not None:
                broken.append(f"{name} ({reason})")
                unreadable.append(row)
            for kind in oddities:
                counts[kind] = counts.get(kind, 0) + 1
                first.setdefault(kind, name)
            now = time.monotonic()
            if now - spoken >= PROGRESS_SECONDS:
                spoken = now
                rate = (row + 1) / (now - started)
                print(f"{label}: {row + 1:,} of {len(paths):,} decoded, {rate:.0f}/s", flush=True)
    if broken and not spare:
        rest = f", and {len(broken) - ERROR_EXAMPLES} more" if len(broken) > ERROR_EXAMPLES else ""
        raise ValueError(
            f"{len(broken)} of {len(paths)} {label} cannot be read: "
            + ", ".join(broken[:ERROR_EXAMPLES])
            + rest
        )
    return ImageFaults(
        len(paths),
        dict(sorted(counts.items())),
        dict(sorted(first.items())),
        tuple(unreadable),
    )


@contextmanager
def single_threaded_cv2() -> Iterator[None]:
    """OpenCV's own threads off while ours are on: both together only get in each other's way."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
