"""Strategy 1 end to end on drawn films, and the promises it makes: no labels in SimSiam, a frozen backbone,
files that load, the same numbers again."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pipeline_runs import drawn_tables, rows_of, run_into, single_thread

from kernels.blocks.checkpoints import load_classifier
from kernels.blocks.devices import choose_compute
from kernels.blocks.frozen import fit_feature_head, head_logits, run_random_views
from kernels.blocks.images import load_images
from kernels.blocks.pretraining import (
    draw_pairs,
    paired_views,
    pretrain,
    set_ssl_rates,
    ssl_optimiser,
)
from kernels.blocks.seed import derive_seed
from kernels.blocks.simsiam import SimSiam, prediction_head, projection_head
from kernels.blocks.tables import Tables
from kernels.config import (
    AugmentConfig,
    FoldsConfig,
    HeadConfig,
    OptimConfig,
    SimSiamConfig,
    TrainConfig,
    check_plain,
)
from kernels.pipelines.simsiam import choose_partners, run
from kernels.stats.auc import auc_score
from kernels.strategies.ssl import AS_WRITTEN, STRATEGY

CONFIG = SimSiamConfig(
    folds=FoldsConfig(count=2),
    backbone="tf_efficientnet_lite0.in1k",
    weights="random",
    image_size=32,
    glcm_levels=16,
    ssl_epochs=1,
    ssl_batch_size=16,
    ssl_augment=AugmentConfig(crop_scale_min=0.7, rotation_deg=10),
    projector_hidden=32,
    projector_out=32,
    predictor_hidden=8,
    cached_views=2,
    head=HeadConfig(hidden=(16,), dropout=(0.2,)),
    train=TrainConfig(epochs=2, batch_size=8, optim=OptimConfig(lr=1e-3)),
    tta_views=2,
    device="cpu",
    precision="float32",
)
STEM = "tf_efficientnet_lite0"


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Tables:
    return drawn_tables(tmp_path_factory.mktemp("films"), 32, 24, 8)


@pytest.fixture(scope="module")
def frozen_run(tables, tmp_path_factory) -> Path:
    return run_into(tmp_path_factory.mktemp("frozen"), run, CONFIG, tables)


def test_predicts_every_labelled_film_once_and_every_test_film_in_each_fold(frozen_run, tables):
    oof, test = (
        rows_of(frozen_run / "oof_predictions.csv"),
        rows_of(frozen_run / "test_predictions.csv"),
    )
    assert sorted(row["id"] for row in oof) == sorted(tables.labelled["id"])
    assert len(test) == 2 * len(tables.test)
    assert all(0 < float(row["pred_label"]) < 1 for row in oof + test)


def test_writes_the_write_ups_files_with_seed_and_fold(frozen_run):
    checkpoints = {path.name for path in (frozen_run / "checkpoints").iterdir()}
    assert checkpoints == {
        f"{STEM}_ssl_backbone.pth",
        f"{STEM}_simsiam_full.pth",
        f"{STEM}_best_classifier_seed0_fold0.pth",
        f"{STEM}_best_classifier_seed0_fold1.pth",
    }
    assert (frozen_run / f"{STEM}_training_history_seed0_fold1.csv").is_file()
    history = rows_of(frozen_run / f"{STEM}_ssl_history.csv")
    assert [row["epoch"] for row in history] == ["0", "1"]
    assert -1 <= float(history[1]["loss"]) <= 1 and float(history[1]["effective_rank"]) > 1


def test_facts_about_pairs_and_collapse_reach_the_metrics(frozen_run):
    metrics = json.loads((frozen_run / "metrics.json").read_text())
    pairs, ssl = metrics["pairs"], metrics["ssl"]
    assert pairs["label_purity"]["rows"] == 24 and 0 < pairs["label_purity"]["chance"] < 1
    assert pairs["max_in_degree"] >= 1 and 0 <= pairs["mutual_share"] <= 1
    assert ssl["films"] == 32 and ssl["std_uniform"] == pytest.approx(32**-0.5, abs=1e-6)
    assert {"loss_first", "loss_last", "knn_auc_before", "knn_auc_after"} <= set(ssl)
    assert metrics["tta"]["logit_spread"] > 0


def test_example_pairs_are_pictures_with_names_and_cost_little(frozen_run, tables):
    shown = json.loads((frozen_run / "neighbours" / "pairs.json").read_text())["pairs"]
    assert [item["kind"] for item in shown] == ["nearest"] * 2 + ["typical"] * 2 + ["farthest"] * 2
    assert shown[0]["distance"] <= shown[2]["distance"] <= shown[-2]["distance"]
    assert len({frozenset((item["film"], item["neighbour"])) for item in shown}) == 6
    assert {item["film"] for item in shown} <= set(tables.unlabelled["id"])
    picture = cv2.imread(str(frozen_run / "neighbours" / shown[0]["file"]))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert sum(path.stat().st_size for path in (frozen_run / "neighbours").iterdir()) < 200_000


def test_classifiers_load_with_the_ssl_backbone_untouched(frozen_run):
    folder = frozen_run / "checkpoints"
    model, facts = load_classifier(folder / f"{STEM}_best_classifier_seed0_fold1.pth")
    assert facts["model_name"] == CONFIG.backbone and facts["epoch"] == 2
    assert facts["img_size"] == 32 and facts["freeze_backbone"] is True
    assert 0 <= facts["val_auc"] <= 1 and (facts["seed"], facts["fold"]) == (0, 1)
    saved = torch.load(folder / f"{STEM}_ssl_backbone.pth", weights_only=True)
    assert {
        "model_name",
        "model_state_dict",
        "epoch",
        "val_auc",
        "img_size",
        "freeze_backbone",
    } == set(saved)
    # Frozen: parameters and batch-norm statistics are those that SimSiam left, bit for bit.
    trunk = saved["model_state_dict"]
    assert set(trunk) == set(model.backbone.trunk.state_dict())
    for key, value in model.backbone.trunk.state_dict().items():
        assert torch.equal(value, trunk[key]), key


def test_the_saved_classifier_gives_the_written_predictions(frozen_run, tables):
    model, _ = load_classifier(
        frozen_run / "checkpoints" / f"{STEM}_best_classifier_seed0_fold0.pth"
    )
    films, _ = load_images(tables.test["path"].tolist(), 32, frozen_run.parent / "temp", "test")
    views = run_random_views(
        model, films, CONFIG.train.augment, 2, derive_seed(0, "tta", "test"), 8,
        choose_compute("cpu", "float32"),
    )  # fmt: skip
    probs = torch.sigmoid(torch.from_numpy(views.mean(axis=0)[:, 0])).numpy()
    written = [row for row in rows_of(frozen_run / "test_predictions.csv") if row["fold"] == "0"]
    assert np.allclose(probs, [float(row["pred_label"]) for row in written], atol=1e-5)


def test_the_same_config_gives_the_same_numbers_and_labels_never_reach_simsiam(
    frozen_run, tables, tmp_path
):
    again = run_into(tmp_path / "again", run, CONFIG, tables)
    for name in ("oof_predictions.csv", "test_predictions.csv"):
        assert (again / name).read_bytes() == (frozen_run / name).read_bytes()
    swapped = replace(tables, labelled=tables.labelled.assign(label=1 - tables.labelled["label"]))
    other = run_into(tmp_path / "swapped", run, CONFIG, swapped)
    one, two = (
        torch.load(folder / "checkpoints" / f"{STEM}_simsiam_full.pth", weights_only=True)
        for folder in (frozen_run, other)
    )
    assert all(
        torch.equal(value, two["model_state_dict"][key])
        for key, value in one["model_state_dict"].items()
    )
    first, second = (rows_of(folder / "oof_predictions.csv") for folder in (frozen_run, other))
    assert [row["pred_label"] for row in first] != [row["pred_label"] for row in second]


def test_a_fine_tuned_backbone_moves_and_each_fold_starts_from_the_same_weights(tables, tmp_path):
    config = replace(
        CONFIG, freeze_backbone=False, pairs="views", train=replace(CONFIG.train, epochs=1)
    )
    folder = run_into(tmp_path / "tuned", run, config, tables) / "checkpoints"
    saved = [
        torch.load(folder / f"{STEM}_best_classifier_seed0_fold{fold}.pth", weights_only=True)
        for fold in (0, 1)
    ]
    assert not saved[0]["freeze_backbone"]
    key = "backbone.trunk.conv_stem.weight"
    trunk = torch.load(folder / f"{STEM}_ssl_backbone.pth", weights_only=True)["model_state_dict"]
    moved = [
        (one["model_state_dict"][key] - trunk["conv_stem.weight"]).abs().max() for one in saved
    ]
    assert all(0 < float(change) < 0.1 for change in moved)


def test_a_competition_without_unlabelled_films_is_refused_at_once(tables, tmp_path):
    with pytest.raises(ValueError, match="0 unlabelled films"):
        run_into(tmp_path, run, CONFIG, replace(tables, unlabelled=tables.unlabelled.iloc[:0]))


def films(count: int, size: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)


def test_pairs_join_a_film_with_its_partner_in_the_share_asked_for():
    partners = (np.arange(4000) + 1) % 4000
    for share in (0.0, 0.5, 1.0):
        first, second = draw_pairs(4000, partners, share, np.random.default_rng(1))
        assert sorted(first) == list(range(4000))
        apart = second != first
        assert apart.mean() == pytest.approx(share, abs=0.03)
        assert np.array_equal(second[apart], partners[first[apart]])


def test_views_of_a_pair_differ_and_batches_are_full():
    config = replace(CONFIG, ssl_image_size=20, pair_share=0.0)
    batches = list(paired_views(films(21), np.arange(21), 8, config, np.random.default_rng(0)))
    assert len(batches) == 2
    for first, second in batches:
        assert first.shape == second.shape == (8, 20, 20) and not np.array_equal(first, second)


def test_neighbour_pairs_are_of_other_films_and_plain_ones_of_the_same():
    unlabelled, labelled, targets = films(12), films(8), np.arange(8) % 2
    near, facts = choose_partners(CONFIG, unlabelled, labelled, targets)
    assert (near.neighbour != np.arange(12)).all() and facts["kind"] == "neighbours"
    none, _ = choose_partners(replace(CONFIG, pairs="views"), unlabelled, labelled, targets)
    assert none is None  # every film is its own partner
    with pytest.raises(ValueError, match="neighbours, views"):
        replace(CONFIG, pairs="random")


class TinyBackbone(torch.nn.Sequential):
    def pool(self, maps):
        return maps.mean(dim=(2, 3))


def tiny_simsiam() -> SimSiam:
    torch.manual_seed(0)
    backbone = TinyBackbone(torch.nn.Conv2d(1, 8, 3, 2), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    return SimSiam(backbone, projection_head(8, 16, 16), prediction_head(16, 4))


def test_predictor_keeps_its_rate_while_the_others_fall():
    optim = OptimConfig(name="sgd", lr=0.01, head_lr=0.05, momentum=0.9)
    model = tiny_simsiam()
    optimiser = ssl_optimiser(model, replace(CONFIG, ssl_optim=optim))
    assert set_ssl_rates(optimiser, 0.1) == pytest.approx(0.001)
    rates = {
        id(value): group["lr"] for group in optimiser.param_groups for value in group["params"]
    }
    assert len(rates) == len(list(model.parameters()))
    assert {round(rates[id(value)], 9) for value in model.predictor.parameters()} == {0.05}
    assert {round(rates[id(value)], 9) for value in model.projector.parameters()} == {0.005}
    moving = ssl_optimiser(model, replace(CONFIG, ssl_optim=optim, fix_predictor_lr=False))
    set_ssl_rates(moving, 0.1)
    assert max(group["lr"] for group in moving.param_groups) == pytest.approx(0.005)


def test_norm_statistics_stay_when_they_are_frozen_and_move_when_not():
    for frozen in (True, False):
        model = tiny_simsiam()
        before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
        config = replace(CONFIG, ssl_frozen_norm=frozen, ssl_optim=OptimConfig(name="sgd", lr=0.1))
        pretrain(model, films(16), np.arange(16), config, choose_compute("cpu", "float32"), 0, dict)
        after = model.backbone.state_dict()
        assert torch.equal(before["1.running_mean"], after["1.running_mean"]) == frozen
        assert not torch.equal(before["0.weight"], after["0.weight"])
        assert not torch.equal(before["1.weight"], after["1.weight"])


def test_pretraining_stops_on_a_loss_that_is_no_number():
    model = tiny_simsiam()
    with torch.no_grad():
        model.projector[0].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"ssl_optim\.lr"):
        pretrain(model, films(16), np.arange(16), CONFIG, choose_compute("cpu", "float32"), 0, dict)


def test_a_head_on_cached_features_learns_and_early_stopping_keeps_the_best_epoch():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 1)) < 0.5).astype(int)
    features = (rng.normal(size=(3, 60, 6)) + 2 * targets).astype(np.float32)
    config = TrainConfig(
        epochs=30, batch_size=16, optim=OptimConfig(lr=3e-2), early_stop_patience=8
    )
    head, history = fit_feature_head(
        features[:, :40], targets[:40], (features[0, 40:], targets[40:]), HeadConfig(hidden=(8,)),
        config, 1, lambda truth, probs: auc_score(truth[:, 0], probs[:, 0]),
    )  # fmt: skip
    kept = next(row for row in history if row["kept"])
    assert kept["val_auc"] == max(row["val_auc"] for row in history) > 0.95
    logits = head_logits(head, features[:, 40:])
    assert logits.shape == (3, 20, 1)
    assert auc_score(targets[40:, 0], logits[0, :, 0]) == pytest.approx(kept["val_auc"])


def test_strategy_profiles_are_plain_and_the_written_variant_keeps_the_write_ups_numbers():
    for strategy in (STRATEGY, AS_WRITTEN):
        for profile in ("full", "cpu", "small"):
            check_plain(strategy.profiles.pick(profile), profile)
    written = AS_WRITTEN.profiles.full
    assert (written.backbone, written.image_size) == ("tf_efficientnet_b0.ns_jft_in1k", 224)
    assert (written.ssl_optim.lr, written.ssl_epochs, written.glcm_levels) == (0.03, 20, 256)
    assert (written.train.optim.name, written.train.optim.lr) == ("rmsprop", 1e-4)
    assert written.train.optim.weight_decay == 1e-6 and written.train.early_stop_patience == 15
    assert written.head.hidden == (1024, 512) and written.head.dropout == (0.5, 0.5)
    assert (
        written.tta_views == 5
        and written.freeze_backbone
        and written.ssl_augment.rotation_deg == 40
    )
