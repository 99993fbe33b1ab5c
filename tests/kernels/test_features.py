"""The 22 features equal ml-notes' oracles 1 to 17 and a slow, obvious version made of library calls."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kernels.blocks.features import (
    FEATURE_NAMES,
    GLCM_NAMES,
    GlcmCounter,
    SobelMeter,
    extract_features,
    glcm_offsets,
    intensity_features,
)
from kernels.blocks.linear_models import predict_linear_model
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import KagglePaths
from kernels.blocks.tables import Tables
from kernels.config import Competition, FeaturesConfig, FoldsConfig
from kernels.pipelines.features import run
from kernels.strategies.features_lr import STRATEGY

A = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2], [2, 2, 3, 3]], np.uint8)
ROWS, COLUMNS = np.indices((8, 8))
B = ((3 * ROWS**2 + 5 * COLUMNS + ROWS * COLUMNS) % 16).astype(np.uint8)
B_BYTES = (16 * B + 7).astype(np.uint8)  # B' of ml-notes


def column(features: np.ndarray, *names: str) -> list[float]:
    return [float(features[0, FEATURE_NAMES.index(name)]) for name in names]


def symmetric(table: np.ndarray) -> np.ndarray:
    """Counts by lower level and gap -> the symmetric GLCM's counts, one pair counted from both its ends."""
    counts = np.zeros_like(table)
    for low, gap in np.argwhere(table):
        counts[low, low + gap] = table[low, gap]
    return counts + counts.T


def features_of(image: np.ndarray, glcm_levels: int = 32) -> np.ndarray:
    return extract_features(image[None], glcm_levels, workers=1)


def slow_features(image: np.ndarray, glcm_levels: int) -> np.ndarray:
    """As the definitions read, one library call after another."""
    from skimage.feature import graycomatrix, graycoprops
    from skimage.filters import sobel
    from skimage.measure import shannon_entropy

    grey = image.astype(np.float64)
    values = [
        grey.mean(),
        grey.std(),
        np.median(grey),
        grey.min(),
        grey.max(),
        *np.percentile(grey, [25, 75, 90]),
        shannon_entropy(image, base=2),
        grey.var(),
    ]
    levels = (image.astype(int) * glcm_levels // 256).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    for prop in ("contrast", "homogeneity", "energy"):
        for distance in (1, 3, 5):
            matrix = graycomatrix(
                levels, [distance], angles, levels=glcm_levels, symmetric=True, normed=True
            )
            values.append(graycoprops(matrix, prop).mean())
    edges = sobel(image)
    return np.array([*values, edges.mean(), edges.std(), edges.max()])


# ---- oracles -------------------------------------------------------------------------------------


def test_oracle_1_symmetric_counts() -> None:
    counts = symmetric(GlcmCounter(4).pair_counts(A, 0, 1))
    assert counts.tolist() == [[4, 2, 1, 0], [2, 4, 0, 0], [1, 0, 6, 1], [0, 0, 1, 2]]


def test_oracles_2_to_4_one_angle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.blocks.features.GLCM_ANGLES_DEG", (0,))
    expected = [
        [0.5833333333, 1.75, 0],
        [0.8083333333, 0.425, 0],
        [0.3818813079, 0.4330127019, 0],
    ]
    assert np.allclose(GlcmCounter(4).properties(A), expected, rtol=0, atol=1e-9)
    by_16 = GlcmCounter(16).properties(B)  # oracle 10
    assert np.allclose(by_16[0], [57.5, 40.7, 56.1666666667], rtol=0, atol=1e-9)
    assert np.allclose(by_16[2], [0.1406072835, 0.1436140662, 0.1613743061], rtol=0, atol=1e-9)


def test_oracle_5_mean_of_four_angles() -> None:
    expected = [
        [0.9513888889, 3.3125, 0],
        [0.6993055556, 0.31875, 0],
        [0.3704817321, 0.4980074241, 0],
    ]
    assert np.allclose(GlcmCounter(4).properties(A), expected, rtol=0, atol=1e-9)


def test_oracle_7_contrast_per_angle() -> None:
    apart = (np.arange(4)[:, None] - np.arange(4)) ** 2
    contrasts = []
    for rows, columns in glcm_offsets(1):
        counts = symmetric(GlcmCounter(4).pair_counts(A, rows, columns))
        contrasts.append((counts * apart).sum() / counts.sum())
    assert np.allclose(
        contrasts, [0.5833333333, 1.7777777778, 1.0, 0.4444444444], rtol=0, atol=1e-9
    )


ORACLE_8_9 = {
    "contrast": [45.5102040816, 41.5277777778, 42.4166666667],
    "homogeneity": [0.1300683508, 0.1787429229, 0.1996009959],
    "energy": [0.1371424346, 0.1598711429, 0.1958825779],
}


def test_oracles_8_and_9_sixteen_levels() -> None:
    expected = [ORACLE_8_9[name] for name in ("contrast", "homogeneity", "energy")]
    assert np.allclose(GlcmCounter(16).properties(B), expected, rtol=0, atol=1e-9)
    # 16 levels of B' = 16 B + 7 are B again.
    whole = column(features_of(B_BYTES, 16), *GLCM_NAMES)
    assert np.allclose(whole, np.ravel(expected), rtol=0, atol=1e-9)


def test_oracle_11_pooled_matrices_are_something_else() -> None:
    pooled = np.zeros((16, 16))
    for rows, columns in glcm_offsets(1):
        pooled += symmetric(GlcmCounter(16).pair_counts(B, rows, columns))
    apart = (np.arange(16)[:, None] - np.arange(16)) ** 2
    pooled_contrast = (pooled * apart).sum() / pooled.sum()
    assert pooled_contrast == pytest.approx(46.2142857143, abs=1e-9)
    assert GlcmCounter(16).properties(B)[0, 0] != pytest.approx(pooled_contrast, abs=0.5)


def test_oracle_12_all_levels() -> None:
    features = features_of(B_BYTES, 256)
    expected = [11650.612244898, 10631.1111111111, 10858.6666666667]
    expected += [0.0445340493, 0.0749364515, 0.1461062531]
    expected += ORACLE_8_9["energy"]
    assert np.allclose(column(features, *GLCM_NAMES), expected, rtol=1e-12, atol=1e-9)


def test_oracles_13_and_14_intensity() -> None:
    features = features_of(A)
    names = ("mean", "std", "variance", "median", "min", "max", "p25", "p75", "p90", "entropy")
    expected = [1.25, 1.0307764064, 1.0625, 1, 0, 3, 0, 2, 2.5, 1.9237949407]
    assert np.allclose(column(features, *names), expected, rtol=0, atol=1e-9)


def test_oracle_15_intensity() -> None:
    names = ("mean", "std", "variance", "median", "p25", "p75", "p90", "entropy")
    expected = [135, 73.7563556583, 5440, 143, 55, 187, 242.2, 3.7097929109]
    assert np.allclose(column(features_of(B_BYTES), *names), expected, rtol=0, atol=1e-9)


def test_oracles_16_and_17_sobel_is_scikit_images_not_opencvs() -> None:
    mean, std, largest = SobelMeter(8, 8).features(B_BYTES)
    assert [mean, std, largest] == pytest.approx(
        [0.1947700372, 0.1140800918, 0.4985176026], abs=1e-9
    )
    raw = 255 * 4 * np.sqrt(2)  # ndimage's hypot, unscaled
    assert [mean * raw, std * raw, largest * raw] == pytest.approx(
        [280.9553567486, 164.5602845294, 719.1105617358], abs=1e-6
    )


def test_offsets_are_rounded_not_chebyshev() -> None:
    assert glcm_offsets(1) == [(0, 1), (1, 1), (1, 0), (1, -1)]
    assert glcm_offsets(3)[1] == (2, 2)
    assert glcm_offsets(5)[3] == (4, -4)


def test_order_of_features() -> None:
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 22
    assert FEATURE_NAMES[:3] == ("mean", "std", "median")
    assert FEATURE_NAMES[9] == "variance"
    assert FEATURE_NAMES[10:13] == ("glcm_contrast_d1", "glcm_contrast_d3", "glcm_contrast_d5")
    assert FEATURE_NAMES[18] == "glcm_energy_d5"
    assert FEATURE_NAMES[19:] == ("sobel_mean", "sobel_std", "sobel_max")


# ---- against the libraries -----------------------------------------------------------------------


@pytest.mark.parametrize("glcm_levels", [2, 7, 32, 256])
def test_equals_the_slow_version_on_films(glcm_levels: int) -> None:
    rng = np.random.default_rng(3)
    films = []
    for blur in (0.5, 3.0, 12.0):
        smooth = cv2.GaussianBlur(rng.normal(size=(97, 83)).astype(np.float32), (0, 0), blur)
        films.append(cv2.normalize(smooth, None, 3, 250, cv2.NORM_MINMAX).astype(np.uint8))
    fast = extract_features(np.stack(films), glcm_levels)
    slow = np.stack([slow_features(image, glcm_levels) for image in films])
    assert np.allclose(fast, slow, rtol=1e-11, atol=1e-9)


small_images = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
)


@settings(max_examples=60, deadline=None)
@given(small_images, st.sampled_from([2, 5, 32, 256]))
def test_equals_the_slow_version_on_any_small_image(image: np.ndarray, glcm_levels: int) -> None:
    fast, slow = features_of(image, glcm_levels)[0], slow_features(image, glcm_levels)
    assert np.allclose(fast, slow, rtol=1e-11, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, st.integers(1, 60)))
def test_histogram_statistics_equal_numpys(values: np.ndarray) -> None:
    histogram = np.bincount(values, minlength=256)[None].astype(np.float64)
    grey = values.astype(np.float64)
    found = intensity_features(histogram)[0]
    assert found[:2] == pytest.approx([grey.mean(), grey.std()], abs=1e-9)
    assert found[2] == pytest.approx(np.median(grey), abs=1e-9)
    assert found[5:8] == pytest.approx(np.percentile(grey, [25, 75, 90]), abs=1e-9)
    assert found[9] == pytest.approx(grey.var(), abs=1e-9)


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("grey", [0, 100, 255])
def test_flat_image_has_exact_zeros(grey: int) -> None:
    features = features_of(np.full((32, 32), grey, np.uint8))
    assert column(features, "mean", "std", "variance", "entropy") == [grey, 0, 0, 0]
    assert column(features, "glcm_contrast_d1", "glcm_homogeneity_d3", "glcm_energy_d5") == [
        0,
        1,
        1,
    ]
    assert column(features, "sobel_mean", "sobel_std", "sobel_max") == [0, 0, 0]


def test_one_pixel_gives_zeros_for_pairs_not_nan() -> None:
    features = features_of(np.full((1, 1), 9, np.uint8))
    assert column(features, "mean", "median", "p90") == [9, 9, 9]
    assert column(features, *GLCM_NAMES) == [0] * 9


def test_workers_and_chunks_do_not_change_a_bit() -> None:
    films = np.random.default_rng(0).integers(0, 256, (70, 24, 24)).astype(np.uint8)
    one = extract_features(films, workers=1)
    assert np.array_equal(one, extract_features(films, workers=3))
    assert np.array_equal(one[40:41], extract_features(films[40:41]))


def test_no_images_give_an_empty_table() -> None:
    assert extract_features(np.empty((0, 8, 8), np.uint8)).shape == (0, 22)


@pytest.mark.parametrize(
    ("images", "glcm_levels", "message"),
    [
        (np.zeros((2, 8, 8)), 32, "float64"),
        (np.zeros((8, 8), np.uint8), 32, r"\(8, 8\)"),
        (np.zeros((1, 0, 8), np.uint8), 32, "0, 8"),
        (np.zeros((1, 8, 8), np.uint8), 1, "glcm_levels is 1"),
        (np.zeros((1, 8, 8), np.uint8), 257, "glcm_levels is 257"),
    ],
)
def test_bad_input_is_named(images: np.ndarray, glcm_levels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_features(images, glcm_levels)


# ---- the pipeline: from drawn films to predictions -----------------------------------------------


def draw_films(folder: Path, count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Films whose label is their texture: label 1 is finer. Labels alternate."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    labels = np.arange(count) % 2
    paths = []
    for row, label in enumerate(labels):
        noise = rng.normal(size=(48, 48)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 1.2 if label else 4.0)
        image = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        paths.append(str(folder / f"{row}.png"))
        assert cv2.imwrite(paths[-1], image)
    return paths, labels


def drawn_tables(tmp_path: Path) -> Tables:
    paths, labels = draw_films(tmp_path / "labelled", 30, 0)
    other = (np.arange(30) // 2) % 2  # cannot be seen on the films
    test_paths, _ = draw_films(tmp_path / "test", 8, 1)
    return Tables(
        unlabelled=pd.DataFrame({"id": [], "path": []}),
        labelled=pd.DataFrame(
            {"id": [f"a{row}" for row in range(30)], "path": paths, "fine": labels, "other": other}
        ),
        test=pd.DataFrame({"id": [f"t{row}" for row in range(8)], "path": test_paths}),
    )


def run_features(
    tmp_path: Path, config: FeaturesConfig, targets: tuple[str, ...], tables: Tables
) -> None:
    working, temp = tmp_path / "working", tmp_path / "temp"
    working.mkdir()
    metric = "auc" if len(targets) == 1 else "macro_auc"
    competition = Competition("drawn", "Drawn", "id", targets, metric=metric)
    writer = OutputWriter(competition, KagglePaths(tmp_path / "input", working, temp))
    run(config, tables, writer)
    writer.finish({}, config, {}, "")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    """The working folder of one run over two seeds of three folds, and the tables it read."""
    folder = tmp_path_factory.mktemp("drawn")
    tables = drawn_tables(folder)
    config = FeaturesConfig(folds=FoldsConfig(count=3, seeds=(0, 1)), image_size=48)
    run_features(folder, config, ("fine",), tables)
    return folder / "working", tables


def test_pipeline_learns_a_texture_and_reports_what_stands_beside_it(
    finished: tuple[Path, Tables],
) -> None:
    working, _ = finished
    metrics = json.loads((working / "metrics.json").read_text())
    assert metrics["score_mean_fold"] > 0.95
    assert len(metrics["folds"]) == 6
    assert metrics["n_labelled"] == 30
    assert metrics["images"]["labelled"]["images"] == 30
    assert metrics["groups"]["source"] == "near_duplicates"
    assert metrics["label_purity"]["purity"] > 0.9
    assert metrics["label_purity"]["chance"] == pytest.approx(14 / 29)
    assert set(metrics["metadata_auc"]) >= {"logistic", "boosting"}
    assert set(metrics["adversarial_auc"]) >= {"logistic", "boosting", "shift"}
    submission = pd.read_csv(working / "submission.csv")
    assert submission["id"].tolist() == [f"t{row}" for row in range(8)]
    assert submission["fine"].between(0, 1).all()


def test_checkpoint_predicts_the_out_of_fold_rows_again(finished: tuple[Path, Tables]) -> None:
    working, tables = finished
    saved = json.loads((working / "checkpoints/features_lr_seed1_fold1.json").read_text())
    oof = pd.read_csv(working / "oof_predictions.csv").query("seed == 1 and fold == 1")
    paths = tables.labelled.set_index("id").loc[oof["id"], "path"]
    films = np.stack([cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in paths])
    again = predict_linear_model(saved, extract_features(films, saved["glcm_levels"]))
    assert np.allclose(again[:, 0], oof["pred_fine"], rtol=0, atol=1e-12)


def test_scaler_is_fitted_inside_the_fold(finished: tuple[Path, Tables]) -> None:
    working, tables = finished
    oof = pd.read_csv(working / "oof_predictions.csv").query("seed == 0")
    films = np.stack([cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in tables.labelled["path"]])
    features = extract_features(films)
    for fold in range(3):
        held_out = tables.labelled["id"].isin(oof.loc[oof["fold"] == fold, "id"]).to_numpy()
        path = working / f"checkpoints/features_lr_seed0_fold{fold}.json"
        mean = json.loads(path.read_text())["mean"]
        assert np.allclose(mean, features[~held_out].mean(axis=0), rtol=1e-12)


def test_several_targets_get_a_model_each(tmp_path: Path) -> None:
    config = FeaturesConfig(folds=FoldsConfig(count=3), image_size=48)
    run_features(tmp_path, config, ("fine", "other"), drawn_tables(tmp_path))
    oof = pd.read_csv(tmp_path / "working/oof_predictions.csv")
    fine = ((oof["pred_fine"] > 0.5) == oof["target_fine"]).mean()
    other = ((oof["pred_other"] > 0.5) == oof["target_other"]).mean()
    assert fine > 0.9
    assert other < 0.8


def test_a_run_repeats_itself_and_says_a_line_per_fold(
    tmp_path: Path, finished: tuple[Path, Tables], capsys: pytest.CaptureFixture[str]
) -> None:
    working, tables = finished
    config = FeaturesConfig(folds=FoldsConfig(count=3, seeds=(0, 1)), image_size=48)
    run_features(tmp_path, config, ("fine",), tables)
    for name in ("oof_predictions.csv", "test_predictions.csv", "submission.csv", "metrics.json"):
        assert (tmp_path / "working" / name).read_text() == (working / name).read_text()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("seed ") for line in lines) == 6


def test_max_images_thins_the_labelled_table(tmp_path: Path) -> None:
    config = FeaturesConfig(folds=FoldsConfig(count=2), image_size=48, max_images=12)
    run_features(tmp_path, config, ("fine",), drawn_tables(tmp_path))
    assert pd.read_csv(tmp_path / "working/oof_predictions.csv")["id"].nunique() == 12


def test_strategy_names_this_pipeline() -> None:
    assert (STRATEGY.name, STRATEGY.pipeline) == ("features_lr", "features")
    profiles = [STRATEGY.profiles.pick(name) for name in ("full", "cpu", "small")]
    assert all(isinstance(profile, FeaturesConfig) for profile in profiles)
