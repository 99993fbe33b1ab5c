"""The linear probe end to end on drawn films, and that nothing leaks into what it fits."""

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline_runs import drawn_tables, rows_of, run_into, single_thread

from harness.synthetic import draw_film
from kernels.blocks.devices import choose_compute
from kernels.blocks.linear_models import fit_linear_model, predict_linear_model
from kernels.blocks.models import create_backbone
from kernels.blocks.predicting import encode_images
from kernels.blocks.tables import Tables
from kernels.config import FoldsConfig, ProbeConfig
from kernels.pipelines.probe import run
from kernels.stats.metrics import score_metric

TINY = "tf_efficientnet_lite0.in1k"
CONFIG = ProbeConfig(
    folds=FoldsConfig(count=2, seeds=(0, 1)),
    backbone=TINY,
    weights="random",
    image_size=32,
    batch_size=8,
    precision="float32",
)


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Tables:
    return drawn_tables(tmp_path_factory.mktemp("films"), 0, 40, 12)


def probe_outputs(folder: Path, config: ProbeConfig, tables: Tables) -> tuple[dict, list, list]:
    """metrics.json and the rows of both prediction tables of one run."""
    working = run_into(folder, run, config, tables)
    read = [rows_of(working / name) for name in ("oof_predictions.csv", "test_predictions.csv")]
    return json.loads((working / "metrics.json").read_text()), *read


def test_every_film_is_predicted_once_a_seed_and_every_test_film_by_every_model(tmp_path, tables):
    metrics, oof, test = probe_outputs(tmp_path, CONFIG, tables)
    assert metrics["n_labelled"] == 40
    assert metrics["weights_from"] == "random"
    assert metrics["images"]["labelled"]["images"] == 40
    for seed in ("0", "1"):
        assert sorted(row["id"] for row in oof if row["seed"] == seed) == sorted(
            tables.labelled["id"]
        )
    assert len(test) == 12 * 4
    assert {(row["seed"], row["fold"]) for row in test} == {
        ("0", "0"),
        ("0", "1"),
        ("1", "0"),
        ("1", "1"),
    }
    truth = dict(zip(tables.labelled["id"], tables.labelled["label"], strict=True))
    assert all(int(row["target_label"]) == truth[row["id"]] for row in oof)
    assert all(0.0 < float(row["pred_label"]) < 1.0 for row in oof + test)


def test_same_seed_gives_the_same_predictions(tmp_path, tables):
    first = probe_outputs(tmp_path / "a", CONFIG, tables)
    second = probe_outputs(tmp_path / "b", CONFIG, tables)
    assert first[1:] == second[1:]


def test_rehearsal_keeps_both_classes_and_all_test_rows(tmp_path, tables):
    small = ProbeConfig(**{**vars(CONFIG), "max_images": 16, "folds": FoldsConfig(count=2)})
    metrics, oof, test = probe_outputs(tmp_path, small, tables)
    assert metrics["n_labelled"] == len(oof) == 16
    assert metrics["n_test"] == 12
    assert len(test) == 24


def test_probe_fits_on_training_rows_only():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5))
    targets = (features[:, :2] + 0.1 * rng.normal(size=(60, 2)) > 0).astype(int)
    rows = rng.normal(size=(8, 5))
    probes = fit_linear_model(features, targets, 1.0, exclusive=False)
    alone = predict_linear_model(probes, rows[:1])
    crowd = predict_linear_model(probes, np.vstack([rows[:1], rows[1:] * 1e4]))
    np.testing.assert_allclose(alone, crowd[:1])
    assert alone.shape == (1, 2)


def test_probe_learns_each_target_from_its_own_column():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(200, 6)) * [1, 100, 1, 1, 1, 1]
    targets = (features[:, :2] > 0).astype(int)
    probs = predict_linear_model(
        fit_linear_model(features[:120], targets[:120], 1.0, exclusive=False), features[120:]
    )
    for column in range(2):
        assert score_metric("auc", targets[120:, column], probs[:, column]) > 0.95
        assert score_metric("auc", targets[120:, 1 - column], probs[:, column]) < 0.75


def test_mirrored_films_have_the_same_features_when_both_views_are_averaged():
    backbone = create_backbone(TINY, "random", 32, {}, frozen=True)
    compute = choose_compute("cpu", "float32")
    images = np.stack([draw_film(number, positive=True, size=32)[0] for number in range(3)])
    mirrored = images[:, :, ::-1].copy()
    plain = [encode_images(backbone, films, ("plain",), 2, compute) for films in (images, mirrored)]
    both = [
        encode_images(backbone, films, ("plain", "hflip"), 2, compute)
        for films in (images, mirrored)
    ]
    assert plain[0].shape == (3, 1280)
    assert not np.allclose(plain[0], plain[1], atol=1e-3)
    np.testing.assert_allclose(both[0], both[1], rtol=1e-4, atol=1e-4)
