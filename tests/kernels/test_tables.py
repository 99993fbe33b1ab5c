"""Tables that cannot be trained on are one error with the first id; odd films are handled and counted."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from harness.synthetic import draw_competition, draw_film
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import KagglePaths
from kernels.blocks.tables import Tables, check_tables
from kernels.competitions.masked_xray import COMPETITION, read_tables
from kernels.config import FeaturesConfig, FoldsConfig
from kernels.pipelines.features import run


def frame(prefix: str, count: int, labelled: bool = False) -> pd.DataFrame:
    names = [f"{prefix}{number}" for number in range(count)]
    made = pd.DataFrame({"id": names, "path": [f"/{name}.png" for name in names]})
    return made.assign(label=[number % 2 for number in range(count)]) if labelled else made


def sound() -> Tables:
    return Tables(frame("u", 3), frame("l", 6, labelled=True), frame("t", 2))


def test_sound_tables_pass():
    check_tables(sound(), ("label",))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "labelled",
            lambda f: f.assign(label=f.label.where(f.id != "l2")),
            "1 labels .* empty .*l2",
        ),
        ("labelled", lambda f: f.assign(label=f.label * 2), "3 labels .* not 0 or 1 .first: l1"),
        ("labelled", lambda f: pd.concat([f, f.iloc[4:]]), "2 duplicated ids among labelled .*l4"),
        ("test", lambda f: pd.concat([f, f.iloc[:1]]), "1 duplicated ids among test .*t0"),
        ("unlabelled", lambda f: pd.concat([f, f]), "3 duplicated ids among unlabelled"),
        ("labelled", lambda f: f.iloc[:0], "no labelled images"),
        ("test", lambda f: f.iloc[:0], "no test images"),
        ("test", lambda f: f.assign(id=["l5", "t1"]), "1 ids are both labelled and test .*l5"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_named(name, change, words):
    tables = sound()
    parts = {key: getattr(tables, key) for key in ("unlabelled", "labelled", "test")}
    with pytest.raises(ValueError, match=words):
        check_tables(Tables(**{**parts, name: change(parts[name])}), ("label",))


@pytest.fixture
def data(tmp_path) -> Path:
    return draw_competition(
        tmp_path / "drawn", n_unlabelled=2, n_labelled=16, n_test=4, size=48
    ).data_folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [rows[0], rows[1].split(",")[0] + ",", *rows[2:]], "1 labels .* empty"),
        (lambda rows: [*rows, rows[1]], "1 duplicated ids among labelled"),
        (lambda rows: ["image_id,truth", *rows[1:]], "val.csv has no column 'label'"),
        (lambda rows: [*rows, "nobody,1"], "1 of 17 images listed in val.csv .*nobody"),
    ],
)
def test_a_broken_label_file_is_one_error(data, change, words):
    path = data / "val.csv"
    path.write_text("\n".join(change(path.read_text().split())) + "\n")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_tables(data)


def test_two_images_of_one_id_are_an_error_and_other_formats_are_read(data):
    first, second, *_ = sorted((data / "train").iterdir())
    picture = cv2.imread(str(first), cv2.IMREAD_GRAYSCALE)
    second.unlink()
    assert cv2.imwrite(str(second.with_suffix(".bmp")), picture)
    assert cv2.imwrite(str(data / "train" / "more.tif"), picture)
    (data / "train" / "._more.tif").write_bytes(b"a Mac's")
    assert len(read_tables(data).unlabelled) == 3
    assert cv2.imwrite(str(first.with_suffix(".png")), picture)
    with pytest.raises(
        ValueError, match=rf"train/ holds two images of id '{first.stem}'.*Keep one"
    ):
        read_tables(data)


def odd_film(kind: str, number: int) -> np.ndarray:
    """A film in another container: 16 bits, alpha, colour, one pixel, very large."""
    film, _ = draw_film(number, positive=bool(number % 2), size=64)
    if kind == "16-bit":
        return film.astype(np.uint16) * 16  # a 12-bit scanner
    if kind == "alpha":
        return np.dstack([film, film, film, np.full_like(film, 128)])
    if kind == "colour":
        return np.dstack([film, film, film])
    return film[:1, :1] if kind == "one pixel" else cv2.resize(film, (3000, 2000))


def test_odd_films_are_handled_and_counted_in_metrics(data, tmp_path):
    kinds = ("16-bit", "alpha", "colour", "one pixel", "large")
    files = sorted((data / "val").iterdir())
    for number, (path, kind) in enumerate(zip(files, kinds, strict=False)):
        path.unlink()
        assert cv2.imwrite(str(path.with_suffix(".png")), odd_film(kind, number))
    paths = KagglePaths(tmp_path / "input", tmp_path / "working", tmp_path / "temp")
    for folder in (paths.working, paths.temp):
        folder.mkdir()
    writer = OutputWriter(COMPETITION, paths)
    tables = read_tables(data)
    run(FeaturesConfig(folds=FoldsConfig(count=2), image_size=32), tables, writer)
    writer.finish({"strategy": "test"}, FeaturesConfig(), {}, "0" * 64)
    metrics = json.loads((paths.working / "metrics.json").read_text())
    counts = metrics["images"]["labelled"]["counts"]
    assert counts == {"16-bit": 1, "alpha": 1, "blank": 1, "colour": 2, "tiny": 1}
    assert metrics["images"]["labelled"]["first"]["16-bit"] == files[0].with_suffix(".png").name
    assert metrics["n_labelled"] == 16  # nothing was dropped


def test_a_class_with_fewer_rows_than_folds_is_named(data, tmp_path):
    tables = read_tables(data)
    few = tables.labelled.sort_values("label", ascending=False).iloc[
        : int(tables.labelled.label.sum()) + 2
    ]
    paths = KagglePaths(tmp_path / "input", tmp_path / "working", tmp_path / "temp")
    for folder in (paths.working, paths.temp):
        folder.mkdir()
    short = Tables(tables.unlabelled, few.reset_index(drop=True), tables.test)
    with pytest.raises(ValueError, match="class 0 has 2 rows, fewer than 3 folds; use fewer folds"):
        run(
            FeaturesConfig(folds=FoldsConfig(count=3), image_size=32),
            short,
            OutputWriter(COMPETITION, paths),
        )
