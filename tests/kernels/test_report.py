"""The report of a run: its numbers against oracles, thresholds that never saw what they judge, its files."""

import json
import sys
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from kernels.blocks.checkpoints import load_classifier, save_classifier
from kernels.blocks.devices import Compute
from kernels.blocks.gallery import Showcase, typical_and_worst
from kernels.blocks.gradcam import grad_cam
from kernels.blocks.linear_models import fit_linear_model, predict_linear_model
from kernels.blocks.model_card import card_text
from kernels.blocks.models import Classifier, create_backbone
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import KagglePaths
from kernels.blocks.plots import PLOT_NAMES, calibration_points, pr_points, roc_points
from kernels.blocks.predicting import encode_images, gray_tensor, predict_probs
from kernels.blocks.report import build_report, score_films
from kernels.blocks.verdicts import PredictionRows, Verdicts
from kernels.config import Competition, FeaturesConfig, HeadConfig, ProbeConfig
from kernels.pipelines.probe import fill_linear_head
from kernels.stats.auc import auc_score
from kernels.stats.decisions import average_precision
from kernels.stats.probabilities import expected_calibration_error

COMPETITION = Competition("toy", "Toy films", "id", ("ill",), positive_label="illness")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn_rows(count, seed=0, targets=1, folds=4, seeds=(0,)) -> PredictionRows:
    """Predictions that are right more often than not."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((count, targets)) < 0.6).astype(int)
    truth[:2] = [[0], [1]]
    scores = truth * 1.5 + rng.normal(size=(len(seeds), count, targets))
    cells = [(s, int(row % folds)) for s in seeds for row in range(count)]
    ids = [f"film {row}" for _ in seeds for row in range(count)]
    flat = scores.reshape(-1, targets)
    return PredictionRows(ids, cells, np.tile(truth, (len(seeds), 1)), 1 / (1 + np.exp(-flat)))


def report_of(rows, test=None, answers=None, groups=None, competition=COMPETITION):
    test = test or PredictionRows(["t"], [(0, 0)], np.empty((1, 0), int), rows.probs[:1])
    return build_report(competition, rows, test, answers, groups or {}, FeaturesConfig(), {})


def judged(targets, calls) -> Verdicts:
    """Films that were called 0 or 1."""
    ids = [str(row) for row in range(len(targets))]
    calls = np.array(calls, float)[:, None]
    return Verdicts(
        ids, [(0, 0)] * len(ids), np.array(targets)[:, None], calls, np.full_like(calls, 0.5), None
    )


# ---- numbers -------------------------------------------------------------------------------------


def test_write_up_b_confusion_table_gives_its_metrics():  # ml-notes 2.2 and oracle 61
    targets = [0] * 234 + [1] * 390
    found = score_films(judged(targets, [0] * 136 + [1] * 98 + [0] * 19 + [1] * 371), 0)
    assert list(found["confusion"].values()) == [136, 98, 19, 371]
    estimates = {name: value["estimate"] for name, value in found["metrics"].items()}
    expected = {
        "accuracy": 0.8125, "precision": 0.7910, "recall": 0.9513, "f1": 0.8638,
        "specificity": 0.5812, "balanced_accuracy": 0.7662, "mcc": 0.5966,
        "negative_predictive_value": 0.8774,
    }  # fmt: skip
    assert {name: round(estimates[name], 4) for name in expected} == expected
    assert found["majority_accuracy"] == 0.625
    accuracy = found["metrics"]["accuracy"]
    assert (round(accuracy["low"], 5), round(accuracy["high"], 5)) == (0.77962, 0.84239)
    assert accuracy["method"] == "clopper-pearson"


def test_every_metric_lies_in_its_interval():
    found = report_of(drawn_rows(120)).results["targets"]["ill"]["out_of_fold"]["metrics"]
    assert {"auc", "auc_mean_fold", "average_precision", "brier", "log_loss", "ece"} <= set(found)
    for name, value in found.items():
        if name == "ece":  # resampling can only add to a sum of absolute gaps
            continue
        assert value["low"] <= value["estimate"] <= value["high"], name


def test_threshold_of_a_fold_does_not_know_its_labels():
    rows = drawn_rows(80)
    before = report_of(rows).oof.thresholds
    own = np.array([fold == 2 for _, fold in rows.cells])
    flipped = np.where(own[:, None], 1 - rows.targets, rows.targets)
    after = report_of(PredictionRows(rows.ids, rows.cells, flipped, rows.probs)).oof.thresholds
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).any()


def test_test_labels_move_nothing_but_the_test_section():
    rows = drawn_rows(80)
    test = drawn_rows(30, seed=5, folds=1)
    ids = [f"test {row}" for row in range(30)]
    blind = PredictionRows(ids, test.cells, np.empty((30, 0), int), test.probs)
    answers = {name: tuple(row) for name, row in zip(ids, test.targets.tolist(), strict=True)}
    without = report_of(rows, blind).results
    with_labels = report_of(rows, blind, answers).results
    wrong = report_of(rows, blind, {name: (1 - a[0],) for name, a in answers.items()}).results
    sections = [r["targets"]["ill"] for r in (without, with_labels, wrong)]
    assert all(s["out_of_fold"] == sections[0]["out_of_fold"] for s in sections)
    assert all(s["threshold"] == sections[0]["threshold"] for s in sections)
    assert "test" not in sections[0]
    calls = blind.probs[:, 0] >= sections[0]["threshold"]["value"]
    accuracy = sections[1]["test"]["metrics"]["accuracy"]["estimate"]
    assert accuracy == pytest.approx((calls == test.targets[:, 0]).mean())
    assert sections[2]["test"]["metrics"]["accuracy"]["estimate"] == pytest.approx(1 - accuracy)


def test_several_seeds_count_each_film_once():
    rows = drawn_rows(60, seeds=(0, 1, 2))
    report = report_of(rows)
    assert report.results["targets"]["ill"]["out_of_fold"]["n"] == 60
    np.testing.assert_allclose(report.oof.probs, rows.probs.reshape(3, 60, 1).mean(axis=0))


def test_films_of_a_patient_are_drawn_together():
    rows = drawn_rows(60)
    groups = {name: f"patient {row // 3}" for row, name in enumerate(rows.ids)}
    found = report_of(rows, groups=groups).results["targets"]["ill"]["out_of_fold"]
    assert found["n_groups"] == 20
    assert "group" in found["metrics"]["auc"]["method"]
    alone = report_of(rows).results["targets"]["ill"]["out_of_fold"]
    assert alone["n_groups"] == 60
    assert alone["metrics"]["auc"]["method"].startswith("delong")


def test_one_fold_alone_says_that_its_threshold_is_optimistic():
    threshold = report_of(drawn_rows(40, folds=1)).results["targets"]["ill"]["threshold"]
    assert threshold["nested"] is False
    assert "optimistic" in threshold["rule"]


def test_what_is_undefined_is_null_with_a_reason():
    rows = PredictionRows(
        ["a", "b"], [(0, 0), (0, 1)], np.array([[1], [1]]), np.array([[0.2], [0.9]])
    )
    found = report_of(rows).results["targets"]["ill"]["out_of_fold"]["metrics"]
    assert found["auc"]["estimate"] is None
    assert found["auc"]["note"]
    assert found["specificity"]["trials"] == 0
    json.dumps(found, allow_nan=False)


def test_several_targets_get_a_section_each_and_a_mean():
    competition = Competition("toy", "Toy", "id", ("a", "b"), metric="macro_auc")
    results = report_of(drawn_rows(60, targets=2), competition=competition).results
    aucs = [results["targets"][n]["out_of_fold"]["metrics"]["auc"]["estimate"] for n in "ab"]
    assert results["macro"]["out_of_fold"]["auc"] == pytest.approx(np.mean(aucs))


def test_drawn_curves_have_the_areas_that_are_reported():
    rows = drawn_rows(200)
    targets, probs = rows.targets[:, 0], rows.probs[:, 0].round(2)  # rounded: ties
    x, y = roc_points(targets, probs)
    assert np.trapezoid(y, x) == pytest.approx(auc_score(targets, probs))
    recall, precision = pr_points(targets, probs)
    area = float(np.diff(recall) @ precision[1:])
    assert area == pytest.approx(average_precision(targets, probs))
    mean, share, counts = calibration_points(targets, probs)
    gap = float(np.abs(mean - share) @ counts / counts.sum())
    assert gap == pytest.approx(expected_calibration_error(targets, probs))


# ---- files ---------------------------------------------------------------------------------------


def writer_with(folder, rows=None) -> OutputWriter:
    folder.mkdir(exist_ok=True)
    rows = rows or drawn_rows(40)
    writer = OutputWriter(COMPETITION, KagglePaths(folder / "input", folder, folder))
    for cell in sorted(set(rows.cells)):
        own = [row for row, other in enumerate(rows.cells) if other == cell]
        ids = [rows.ids[row] for row in own]
        writer.add_oof(ids, *cell, rows.targets[own], rows.probs[own])
        writer.add_test(["x", "y"], *cell, np.array([0.2, 0.7]))
    return writer


def finish(writer: OutputWriter) -> dict:
    writer.finish({"strategy": "toy"}, FeaturesConfig(), {}, "0" * 64)
    return json.loads((writer.paths.working / "results.json").read_text())


def test_a_run_without_a_network_gets_metrics_plots_and_card(tmp_path):
    writer = writer_with(tmp_path)
    writer.test_targets = {"x": (0,), "y": (1,)}
    results = finish(writer)
    for name in PLOT_NAMES:
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None, name
        assert min(picture.shape[:2]) > 300
        assert (tmp_path / name).stat().st_size < 100_000
    card = (tmp_path / "README.md").read_text()
    assert "Not for clinical use" in card
    auc = results["targets"]["ill"]["out_of_fold"]["metrics"]["auc"]
    assert f"{auc['estimate']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]" in card
    assert "model.pt" not in card
    assert results["hyperparameters"]["glcm_levels"] == 32
    assert results["class_distribution"]["test"] == {"ill": {"negative": 1, "positive": 1}}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    listed = {entry["path"] for entry in manifest["files"]}
    assert {"results.json", "README.md", *PLOT_NAMES} <= listed


def test_without_matplotlib_everything_else_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    results = finish(writer_with(tmp_path))
    assert results["plots"] == "matplotlib is not installed"
    assert not list(tmp_path.glob("*.png"))
    assert (tmp_path / "README.md").is_file()


def test_a_picture_that_fails_does_not_cost_the_run(tmp_path, capsys):
    writer = writer_with(tmp_path)

    def broken(report, folder):
        raise RuntimeError("no such layer")

    writer.add_section(broken)
    results = finish(writer)
    assert results["incomplete"] == ["RuntimeError: no such layer"]
    assert "no such layer" in capsys.readouterr().out
    assert (tmp_path / "manifest.json").is_file()
    assert (tmp_path / "roc.png").is_file()


def test_card_names_only_files_that_exist(tmp_path):
    text = card_text(report_of(drawn_rows(20)).results, tmp_path)
    assert "roc.png" not in text
    assert "gradcam" not in text
    (tmp_path / "roc.png").touch()
    assert "roc.png" in card_text(report_of(drawn_rows(20)).results, tmp_path)


# ---- pictures and model.pt -----------------------------------------------------------------------


def test_typical_films_are_right_and_the_worst_errors_come_first():
    probs = np.array([0.1, 0.2, 0.3, 0.9, 0.6, 0.7, 0.8, 0.05, 0.4])[:, None]
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])[:, None]
    films = Verdicts(
        [str(row) for row in range(9)], [(0, 0)] * 9, truth, probs, np.full((9, 1), 0.5), None
    )
    picks = typical_and_worst(films, 0)
    assert (picks["n_0"], picks["p_0"]) == (1, 5)  # the medians of 0.1 0.2 0.3 and 0.6 0.7 0.8
    assert (picks["fn_0"], picks["fn_1"], picks["fp_0"]) == (7, 8, 3)
    assert "fp_1" not in picks


def test_gallery_and_model_come_from_the_network_that_held_a_film_out(tmp_path):
    rows = drawn_rows(24, folds=2)
    films = np.random.default_rng(0).integers(0, 256, (24, 32, 32)).astype(np.uint8)
    torch.manual_seed(0)
    head = HeadConfig(outputs=2)
    networks = {
        (0, fold): Classifier(
            create_backbone("tf_efficientnet_lite0.in1k", "random", 32, {}), head
        ).eval()
        for fold in (0, 1)
    }
    asked = []

    def model_of(seed, fold):
        asked.append((seed, fold))
        return networks[seed, fold], {"img_size": 32, "head": asdict(head), "epoch": 3}

    writer = writer_with(tmp_path, rows)
    compute = Compute("cpu", None, "test")
    ids = rows.ids[::-1]  # films may come in another order than predictions
    writer.add_section(Showcase(films[::-1], ids, model_of, compute).add_to)
    results = finish(writer)
    assert asked == [(0, 0), (0, 1)]  # each once: the first for model.pt too
    shown = results["gradcam"]
    assert {"n_0.png", "n_1.png", "p_0.png", "p_1.png"} <= set(shown)
    assert set(shown) == {path.name for path in (tmp_path / "gradcam").iterdir()}
    for name, facts in shown.items():
        row = rows.ids.index(facts["id"])
        assert (facts["seed"], facts["fold"]) == rows.cells[row], name
        assert cv2.imread(str(tmp_path / "gradcam" / name)).shape == (224 + 34, 448, 3)
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert (saved["model_name"], saved["img_size"], saved["epoch"]) == (
        "tf_efficientnet_lite0.in1k", 32, 3,
    )  # fmt: skip
    assert eval(saved["config"], {"FeaturesConfig": FeaturesConfig, **_config_names()})
    assert json.loads(saved["results"])["targets"] == results["targets"]
    again = Classifier(create_backbone(saved["model_name"], "random", 32, {}), head)
    again.load_state_dict(saved["model_state_dict"])
    before = predict_probs(networks[0, 0], films, ("plain",), 8, compute)
    np.testing.assert_allclose(predict_probs(again, films, ("plain",), 8, compute), before)


def _config_names() -> dict:
    from kernels import config

    return vars(config)


@pytest.mark.parametrize("levels", [0, 3])
def test_a_linear_probe_as_one_network_predicts_what_scikit_learn_does(levels, tmp_path):
    torch.manual_seed(0)
    films = np.random.default_rng(1).integers(0, 256, (20, 32, 32)).astype(np.uint8)
    targets = (np.arange(20) % 3 == 0).astype(int)[:, None]
    backbone = create_backbone(ProbeConfig().backbone, "random", 32, {}, frozen=True, levels=levels)
    compute = Compute("cpu", None, "test")
    features = encode_images(backbone, films, ("plain",), 8, compute)
    fitted = fit_linear_model(features, targets, 0.01, exclusive=False)
    model = Classifier(backbone, HeadConfig())
    fill_linear_head(model, fitted)
    probs = predict_probs(model, films, ("plain",), 8, compute)
    np.testing.assert_allclose(probs, predict_linear_model(fitted, features), atol=1e-4)
    facts = {"epoch": 0, "val_auc": 0.5, "img_size": 32}
    save_classifier(tmp_path / "model.pt", model, HeadConfig(), **facts)
    loaded, _ = load_classifier(tmp_path / "model.pt")
    np.testing.assert_array_equal(predict_probs(loaded, films, ("plain",), 8, compute), probs)
    batch = compute.put(gray_tensor(films))
    cams = torch.stack([grad_cam(loaded, batch, 0, positive=side) for side in (True, False)])
    assert cams.isfinite().all()
    assert float(cams.max()) == 1.0
