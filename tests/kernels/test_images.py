"""Films of every kind come out as grey squares, odd ones are counted, broken ones are all named at once."""

import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from kernels.blocks import images as images_module
from kernels.blocks.images import (
    apply_clahe,
    decode_gray,
    load_images,
    read_gray,
    resize_square,
    scale_to_bytes,
)

RAMP = (2 * np.arange(64)[:, None] + np.arange(64)[None, :]).astype(np.uint8)  # D of ml-notes


def film(seed: int = 0, height: int = 90, width: int = 120) -> np.ndarray:
    """A smooth grey picture that uses many levels."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.rint(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> str:
    assert cv2.imwrite(str(path), image)
    return str(path)


def as_png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


# ---- CLAHE: oracles 20 and 21 --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clip", "grid", "mean", "digest"),
    [
        (2.0, 8, 115.22900390625, "862f0ebed453426c"),
        (40.0, 8, 147.716796875, "cbeb03268ce53cb3"),
        (2.0, 4, 141.503662109375, "cf5b8f363c0b1430"),
    ],
)
def test_clahe_equals_the_oracles_bit_for_bit(
    clip: float, grid: int, mean: float, digest: str
) -> None:
    equalised = apply_clahe(RAMP, clip, grid)
    assert equalised.mean() == mean
    assert hashlib.sha256(equalised.tobytes()).hexdigest().startswith(digest)


def test_clahe_of_the_ramp_in_detail() -> None:
    equalised = apply_clahe(RAMP, 2.0, 8)
    assert (equalised.min(), equalised.max()) == (8, 215)
    assert equalised.ravel()[:5].tolist() == [8, 12, 16, 20, 24]


def test_clahe_comes_after_the_resize(tmp_path: Path) -> None:
    path = save(tmp_path / "film.png", film())
    loaded, _ = load_images([path], 48, tmp_path / "cache", clahe=(2.0, 8))
    after = apply_clahe(read_gray(path, 48), 2.0, 8)
    before = resize_square(apply_clahe(film(), 2.0, 8), 48)
    assert np.array_equal(loaded[0], after)
    assert not np.array_equal(loaded[0], before)


@pytest.mark.parametrize(("clip", "grid"), [(0.0, 8), (-1.0, 8), (2.0, 0)])
def test_clahe_refuses_values_that_opencv_would_take_silently(clip: float, grid: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        apply_clahe(RAMP, clip, grid)


# ---- decoding ------------------------------------------------------------------------------------


def test_grey_jpeg_equals_plain_opencv(tmp_path: Path) -> None:
    path = save(tmp_path / "film.jpg", film())
    plain = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    image, oddities = decode_gray(Path(path).read_bytes())
    assert np.array_equal(image, plain)
    assert oddities == []


def test_colour_container_of_a_grey_film_gives_the_same_pixels() -> None:
    grey = film()
    image, oddities = decode_gray(as_png(cv2.merge([grey, grey, grey])))
    assert np.array_equal(image, grey)
    assert oddities == ["colour"]


def test_alpha_is_left_out_whatever_it_holds() -> None:
    grey = film()
    clear = np.zeros_like(grey)
    image, oddities = decode_gray(as_png(cv2.merge([grey, grey, grey, clear])))
    assert np.array_equal(image, grey)
    assert oddities == ["alpha", "colour"]


def test_palette_is_expanded(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    picture = pillow.fromarray((film() // 16 * 16).astype(np.uint8)).convert("RGB").convert("P")
    picture.save(tmp_path / "palette.png")
    image, oddities = decode_gray((tmp_path / "palette.png").read_bytes())
    assert oddities == ["palette"]
    expected = np.asarray(picture.convert("RGB").convert("L"), dtype=int)
    assert np.abs(image.astype(int) - expected).max() <= 1  # two roundings of luma


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_deep_films_are_scaled_from_their_scanner_depth(depth: int) -> None:
    deep = (film().astype(np.uint32) * ((1 << depth) - 1) // 255).astype(np.uint16)
    image, oddities = decode_gray(as_png(deep))
    assert oddities == ["16-bit"]
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - film()).max() <= 1
    assert (image.min(), image.max()) == (0, 255)


def test_twelve_bits_are_not_divided_by_256() -> None:
    assert scale_to_bytes(np.array([[0, 2048, 4095]], np.uint16)).tolist() == [[0, 128, 255]]
    assert scale_to_bytes(np.array([[0, 255]], np.uint16)).tolist() == [[0, 255]]
    assert scale_to_bytes(np.array([[0, 65535]], np.uint16)).tolist() == [[0, 255]]


def test_one_pixel_becomes_a_flat_counted_square(tmp_path: Path) -> None:
    path = save(tmp_path / "dot.png", np.full((1, 1), 77, np.uint8))
    loaded, faults = load_images([path], 20, tmp_path / "cache")
    assert (loaded == 77).all()
    assert loaded.shape == (1, 20, 20)
    assert faults.counts == {"blank": 1, "tiny": 1}


def test_truncated_jpeg_is_counted(tmp_path: Path) -> None:
    whole = Path(save(tmp_path / "film.jpg", film(height=300, width=300))).read_bytes()
    (tmp_path / "short.jpg").write_bytes(whole[: len(whole) // 2])
    loaded, faults = load_images(
        [str(tmp_path / "film.jpg"), str(tmp_path / "short.jpg")], 32, tmp_path / "cache"
    )
    assert np.array_equal(loaded[0, :12], loaded[1, :12])  # what is there is kept
    assert not np.array_equal(loaded[0], loaded[1])
    assert faults.counts == {"truncated": 1}
    assert faults.first == {"truncated": "short.jpg"}


def test_header_is_read_past_padding_and_thumbnail_segments() -> None:
    data = cv2.imencode(".jpg", film())[1].tobytes()
    exif = b"\xff\xe1" + (2 + 40).to_bytes(2, "big") + b"\xff\xc0" * 20  # looks like frame headers
    header = images_module.read_header(data[:2] + b"\xff" + exif + data[2:])
    assert (header.width, header.height) == (120, 90)


def test_huge_film_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(as_png(film()))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded 3.6 billion pixels"))
    with pytest.raises(ValueError, match="60000 x 60000 pixels"):
        decode_gray(bytes(data))


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "film.tiff", film().astype(np.float32))
    with pytest.raises(ValueError, match="float32 pixels"):
        read_gray(path, 32)


def test_missing_file_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_gray(tmp_path / "absent.png", 32)


# ---- resize --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (90, 120), (257, 643), (10, 300), (300, 10), (7, 7)])
def test_resize_gives_squares_within_the_range_of_the_film(shape: tuple[int, int]) -> None:
    image = np.clip(film(1, *shape), 40, 200)
    square = resize_square(image, 64)
    assert square.shape == (64, 64)
    assert square.dtype == np.uint8
    assert image.min() <= square.min()
    assert square.max() <= image.max()


def test_resize_keeps_an_image_of_the_right_size() -> None:
    assert np.array_equal(resize_square(RAMP, 64), RAMP)


def test_halving_first_stays_near_one_area_step() -> None:
    for height, width in ((1000, 800), (1001, 803)):
        image = cv2.GaussianBlur(film(2, height, width), (0, 0), 6)
        exact = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
        gap = np.abs(resize_square(image, 224).astype(int) - exact)
        assert gap.mean() < 0.5
        assert gap.max() <= 3


def test_shrinking_is_a_mean_not_a_sample() -> None:
    checkers = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for size in (48, 100, 128):
        assert resize_square(checkers, size).min() >= 120
        assert resize_square(checkers, size).max() <= 135


# ---- many films, and the cache -------------------------------------------------------------------


def test_rows_keep_the_order_of_paths_for_any_number_of_workers(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{seed}.png", film(seed)) for seed in range(12)]
    one, _ = load_images(paths, 32, tmp_path / "one", workers=1)
    four, _ = load_images(paths, 32, tmp_path / "four", workers=4)
    assert np.array_equal(one, four)
    for row, path in enumerate(paths):
        assert np.array_equal(one[row], read_gray(path, 32))


def test_every_unreadable_film_is_counted_in_one_error(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", film())
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a film")
    (tmp_path / "half.png").write_bytes(as_png(film())[:3000])
    names = ("empty.png", "text.jpg", "half.png", "absent.png")
    paths = [good, *(str(tmp_path / name) for name in names)]
    with pytest.raises(ValueError, match="4 of 5 films cannot be read") as caught:
        load_images(paths, 32, tmp_path / "cache", label="films")
    reasons = ("empty file", "cannot be decoded", "cannot be decoded", "missing")
    for name, reason in zip(names, reasons, strict=True):
        assert f"{name} ({reason})" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []  # nothing half-made is left


def test_a_long_list_of_faults_is_cut(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(9)]
    with pytest.raises(ValueError, match=r"9 of 9 images .*4\.png \(missing\), and 4 more$"):
        load_images(paths, 32, tmp_path / "cache")


def test_second_load_decodes_nothing_and_reports_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = save(tmp_path / "deep.png", film().astype(np.uint16) * 257)
    first, faults = load_images([deep], 32, tmp_path / "cache")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded again"))
    again, faults_again = load_images([deep], 32, tmp_path / "cache")
    assert isinstance(again, np.memmap)
    assert np.array_equal(first, again)
    assert faults == faults_again
    assert faults.counts == {"16-bit": 1}
    assert json.loads(json.dumps(faults.as_json()))["images"] == 1


def test_cached_array_cannot_be_written_to(tmp_path: Path) -> None:
    loaded, _ = load_images([save(tmp_path / "film.png", film())], 32, tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        loaded[0, 0, 0] = 1


def test_changed_film_is_decoded_again(tmp_path: Path) -> None:
    path = save(tmp_path / "film.png", film(0))
    before, _ = load_images([path], 32, tmp_path / "cache")
    save(tmp_path / "film.png", film(1))
    os.utime(path, ns=(1, 1))  # even at the same size, another time is another film
    after, _ = load_images([path], 32, tmp_path / "cache")
    assert not np.array_equal(before, after)


def test_key_covers_order_size_contrast_and_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (save(tmp_path / f"{name}.png", film()) for name in "ab")
    keys = [
        images_module.images_key([a, b], 32, None),
        images_module.images_key([b, a], 32, None),
        images_module.images_key([a, b], 33, None),
        images_module.images_key([a, b], 32, (2.0, 8)),
        images_module.images_key([a, b], 32, (2.0, 4)),
    ]
    monkeypatch.setattr(images_module, "DECODER", "another")
    keys.append(images_module.images_key([a, b], 32, None))
    assert len(set(keys)) == len(keys)


def test_damaged_cache_is_made_again(tmp_path: Path) -> None:
    path = save(tmp_path / "film.png", film())
    first, _ = load_images([path], 32, tmp_path / "cache")
    expected = np.array(first)
    [array_file] = (tmp_path / "cache").glob("*.npy")
    array_file.write_bytes(array_file.read_bytes()[:200])
    again, _ = load_images([path], 32, tmp_path / "cache")
    assert np.array_equal(again, expected)


def test_no_films_give_an_empty_array_and_no_file(tmp_path: Path) -> None:
    loaded, faults = load_images([], 32, tmp_path / "cache")
    assert loaded.shape == (0, 32, 32)
    assert faults.images == 0
    assert not (tmp_path / "cache").exists()


def test_slow_loads_say_how_far_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images_module, "PROGRESS_SECONDS", 0.0)
    paths = [save(tmp_path / f"{seed}.png", film(seed)) for seed in range(3)]
    load_images(paths, 32, tmp_path / "cache", label="test films")
    assert "test films: 2 of 3 decoded" in capsys.readouterr().out


def test_opencv_threads_are_given_back(tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    with pytest.raises(ValueError, match="missing"):
        load_images([str(tmp_path / "absent.png")], 32, tmp_path / "cache")
    assert cv2.getNumThreads() == before


def tiff_bytes(tmp_path: Path, image: np.ndarray) -> bytes:
    path = tmp_path / "film.tif"
    assert cv2.imwrite(str(path), image)
    return path.read_bytes()


def test_headers_of_tiff_and_bmp_are_read(tmp_path: Path) -> None:
    grey = film()
    colour = np.dstack([grey, grey, grey])
    alpha = np.dstack([colour, np.full_like(grey, 9)])
    for image, oddities in ((grey, ()), (colour, ("colour",)), (alpha, ("alpha", "colour"))):
        header = images_module.read_header(tiff_bytes(tmp_path, image))
        assert (header.width, header.height, header.oddities) == (120, 90, oddities)
    big_endian = (
        b"MM\0*" + (8).to_bytes(4, "big") + (2).to_bytes(2, "big")
        + b"\1\0\0\3\0\0\0\1\0\7\0\0" + b"\1\1\0\4\0\0\0\1\0\0\0\5"
    )  # fmt: skip
    header = images_module.read_header(big_endian)
    assert (header.width, header.height) == (7, 5)
    assert images_module.read_header(big_endian[:20]).width == 0  # cut off: left to the decoder
    done, bmp = cv2.imencode(".bmp", colour)
    header = images_module.read_header(bmp.tobytes())
    assert done
    assert (header.width, header.height, header.oddities) == (120, 90, ("colour",))


def test_huge_tiff_and_bmp_are_refused_and_other_formats_after_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = film()
    files = [
        tiff_bytes(tmp_path, grey),
        cv2.imencode(".bmp", grey)[1].tobytes(),
        cv2.imencode(".webp", grey)[1].tobytes(),
    ]
    monkeypatch.setattr(images_module, "MAX_PIXELS", 1000)
    for data in files:
        with pytest.raises(ValueError, match="120 x 90 pixels, over 1,000"):
            decode_gray(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for data in files[:2]:
        with pytest.raises(ValueError, match="120 x 90 pixels"):
            decode_gray(data)


def test_a_full_disk_is_an_error_with_the_next_step_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"no room for 2 MB.*--set image_size") as caught:
        images_module.reserve_array(tmp_path / "maps.part", (10, 100, 1000), np.float16)
    assert caught.value.errno == 28
    assert not list(tmp_path.iterdir())
