"""Self-training inside the folds: what is cached equals what is computed, and no label crosses a fold."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline_runs import drawn_tables, rows_of, run_into, single_thread

from harness.synthetic import draw_film
from kernels.blocks.checkpoints import load_classifier
from kernels.blocks.devices import Compute
from kernels.blocks.early_maps import EarlyMaps, LateClassifier, late_logits, map_tensor
from kernels.blocks.goal import logistic
from kernels.blocks.models import Classifier, create_backbone
from kernels.blocks.optimisers import parameter_groups
from kernels.blocks.predicting import gray_tensor
from kernels.blocks.tables import Tables
from kernels.config import (
    AugmentConfig,
    DistilConfig,
    FoldsConfig,
    HeadConfig,
    NetworkConfig,
    OptimConfig,
    TrainConfig,
)
from kernels.pipelines import distil
from kernels.pipelines.distil import run, student_rows, student_targets

LITE0, LITE1 = "tf_efficientnet_lite0.in1k", "tf_efficientnet_lite1.in1k"
CPU = Compute("cpu", None, "test")
FIT = TrainConfig(
    optim=OptimConfig(lr=1e-3, head_lr=5e-3, schedule="one_cycle"),
    epochs=2,
    batch_size=8,
    label_smoothing=0.05,
)
CONFIG = DistilConfig(
    folds=FoldsConfig(count=2),
    backbone=LITE0,
    weights="random",
    image_size=32,
    frozen_stages=3,
    augment=AugmentConfig(hflip=0.5, rotation_deg=5.0),
    labelled_views=2,
    unlabelled_views=1,
    teacher=FIT,
    student=replace(FIT, epochs=1, label_smoothing=0.0),
    precision="float32",
)


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Tables:
    return drawn_tables(tmp_path_factory.mktemp("films"), 12, 24, 6)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, tables) -> Path:
    torch.set_num_threads(1)
    return run_into(tmp_path_factory.mktemp("run"), run, CONFIG, tables)


def films_of(count: int, size: int = 32) -> np.ndarray:
    films = [draw_film(number, positive=True, size=size)[0] for number in range(count)]
    return np.stack(films)


@pytest.mark.parametrize("stages", [1, 3, 5])
def test_early_and_late_stages_are_the_whole_network(stages):
    backbone = create_backbone(LITE0, "random", 32, {}, frozen_stages=stages).eval()
    gray = CPU.put(gray_tensor(films_of(3)))
    with torch.inference_mode():
        assert torch.equal(backbone.late(backbone.early(gray)), backbone(gray))


def test_frozen_stages_keep_weights_and_statistics_while_the_rest_moves():
    torch.manual_seed(0)
    model = Classifier(
        create_backbone(LITE0, "random", 32, {}, frozen_stages=2), HeadConfig(), 1
    ).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(CPU.put(gray_tensor(films_of(8)))).sum().backward()
    optimiser.step()
    moved = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    early = ("backbone.trunk.conv_stem", "backbone.trunk.bn1", "backbone.trunk.blocks.0.")
    assert not [key for key in moved if key.startswith((*early, "backbone.trunk.blocks.1."))]
    assert "backbone.trunk.blocks.2.0.bn1.running_mean" in moved
    assert "backbone.trunk.conv_head.weight" in moved


def test_stages_that_a_network_does_not_have_are_refused():
    with pytest.raises(ValueError, match="frozen_stages is 9"):
        create_backbone(LITE0, "random", 32, {}, frozen_stages=9)
    with pytest.raises(ValueError, match="no stem of that kind"):
        create_backbone("convnext_atto.d2_in1k", "random", 32, {}, frozen_stages=1)


def test_cached_maps_predict_what_the_films_predict(tmp_path):
    torch.manual_seed(0)
    backbone = create_backbone(LITE0, "random", 32, {}, frozen_stages=3).eval()
    classifier = Classifier(backbone, HeadConfig(), 1).eval()
    films = films_of(5)
    maker = EarlyMaps(backbone, 32, AugmentConfig(), tmp_path, CPU, batch_size=2)
    maps = maker.of(films, "labelled", "plain")
    assert maps.dtype == np.float16
    with torch.inference_mode():
        direct = classifier(CPU.put(gray_tensor(films))).numpy()
    late = LateClassifier(backbone, HeadConfig(), 1)
    late.load_state_dict(classifier.state_dict())
    cached = late_logits(late, maps, 2, CPU)
    # Half precision rounds a map by a relative 5e-4; logits stay that near.
    np.testing.assert_allclose(cached, direct, atol=2e-3 * max(1.0, np.abs(direct).max()))


def test_the_backbone_keeps_its_own_learning_rate_when_it_is_fed_maps():
    model = LateClassifier(
        create_backbone(LITE0, "random", 32, {}, frozen_stages=5), HeadConfig(), 1
    )
    groups = parameter_groups(model, OptimConfig(lr=1e-4, head_lr=1e-2))
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {"backbone": 1e-4, "head": 1e-2}


def test_maps_are_made_once_and_again_for_other_films_or_views(tmp_path):
    backbone = create_backbone(LITE0, "random", 32, {}, frozen_stages=3).eval()
    maker = EarlyMaps(backbone, 32, AugmentConfig(rotation_deg=9.0), tmp_path, CPU)
    films = films_of(3)
    first = np.array(maker.of(films, "labelled", 0))
    assert np.array_equal(maker.of(films, "labelled", 0), first)
    assert len(list(tmp_path.glob("*.npy"))) == 1
    assert not np.array_equal(maker.of(films, "labelled", 1), first)
    assert not np.array_equal(maker.of(films[::-1], "labelled", 0)[::-1], first)
    assert not list(tmp_path.glob("*.part"))


def test_maps_of_another_network_or_precision_are_not_taken(tmp_path):
    films = films_of(3)

    def maker(stages: torch.nn.Module, compute: Compute = CPU) -> EarlyMaps:
        return EarlyMaps(stages, 32, AugmentConfig(), tmp_path, compute)

    backbone = create_backbone(LITE0, "random", 32, {}, frozen_stages=3).eval()
    other = copy.deepcopy(backbone)
    with torch.no_grad():  # the same stem, another statistic two stages on
        other.trunk.blocks[2][0].bn1.running_mean += 1.0
    later = copy.deepcopy(backbone)
    with torch.no_grad():  # what is trained makes no maps
        later.trunk.blocks[4][0].bn1.running_mean += 1.0
    key = maker(backbone).key(films)
    assert maker(other).key(films) != key
    assert maker(later).key(films) == key
    assert maker(backbone, replace(CPU, low_precision=torch.bfloat16)).key(films) != key
    first = np.array(maker(backbone).of(films, "labelled", "plain"))
    assert not np.array_equal(maker(other).of(films, "labelled", "plain"), first)


def test_every_film_is_predicted_and_files_carry_seed_and_fold(outputs, tables):
    oof, test = rows_of(outputs / "oof_predictions.csv"), rows_of(outputs / "test_predictions.csv")
    assert sorted(row["id"] for row in oof) == sorted(tables.labelled["id"])
    assert len(test) == 2 * 6
    names = {path.name for path in outputs.rglob("*")}
    stem = "tf_efficientnet_lite0_in1k"
    for fold in (0, 1):
        assert f"{stem}_best_seed0_fold{fold}.pth" in names
        assert f"{stem}_history_seed0_fold{fold}.csv" in names
        assert f"{stem}_teacher_history_seed0_fold{fold}.csv" in names


def test_the_checkpoint_is_the_student_that_made_the_predictions(outputs, tables):
    checkpoint = next(outputs.rglob("*_best_seed0_fold0.pth"))
    model, facts = load_classifier(checkpoint)
    rows = [row for row in rows_of(outputs / "oof_predictions.csv") if row["fold"] == "0"]
    paths = dict(zip(tables.labelled["id"], tables.labelled["path"], strict=True))
    from kernels.blocks.images import read_gray

    films = np.stack([read_gray(paths[row["id"]], facts["img_size"]) for row in rows])
    with torch.inference_mode():
        logits = sum(
            model(CPU.put(gray_tensor(view))) for view in (films, films[:, :, ::-1].copy())
        )
    probs = logistic(logits.numpy()[:, 0] / 2)
    told = np.array([float(row["pred_label"]) for row in rows])
    np.testing.assert_allclose(probs, told, atol=5e-3)


def test_the_same_seed_predicts_the_same_bits(outputs, tables, tmp_path):
    again = run_into(tmp_path, run, CONFIG, tables)
    for name in ("oof_predictions.csv", "test_predictions.csv"):
        assert (again / name).read_bytes() == (outputs / name).read_bytes()


def test_held_out_labels_do_not_reach_what_predicts_them(tables, outputs, tmp_path):
    """Turn every label of the held-out fold round: its predictions must stay to the last bit."""
    oof = rows_of(outputs / "oof_predictions.csv")
    held = [row["id"] for row in oof if row["fold"] == "1"]
    # The same split must come out, so that labels change inside the fold only: swap two of different
    # class in the held-out fold.
    truth = dict(zip(tables.labelled["id"], tables.labelled["label"], strict=True))
    one = next(name for name in held if truth[name] == 1)
    other = next(name for name in held if truth[name] == 0)
    fixed = {row["id"]: int(row["fold"]) for row in oof}
    turned = tables.labelled.copy()
    turned.loc[turned["id"] == one, "label"] = 0
    turned.loc[turned["id"] == other, "label"] = 1

    def same_folds(strata, groups, config):
        places = np.array([fixed[name] for name in turned["id"]])
        yield 0, 1, np.flatnonzero(places != 1), np.flatnonzero(places == 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distil, "iterate_folds", same_folds)
        changed = run_into(tmp_path, run, CONFIG, replace(tables, labelled=turned))
    wanted = {row["id"]: row["pred_label"] for row in oof if row["fold"] == "1"}
    told = {row["id"]: row["pred_label"] for row in rows_of(changed / "oof_predictions.csv")}
    assert told == wanted


def test_co_teachers_teach_and_without_a_student_their_mean_is_the_prediction(tables, tmp_path):
    config = replace(
        CONFIG,
        folds=FoldsConfig(count=2, run_folds=(0,)),
        co_teachers=(NetworkConfig(LITE1, 32, 3),),
        student=None,
    )
    outputs = run_into(tmp_path, run, config, tables)
    metrics = json.loads((outputs / "metrics.json").read_text())
    assert "student" not in metrics["training"][0]
    assert metrics["training"][0]["score"] == metrics["training"][0]["teachers"]
    assert list(outputs.rglob("tf_efficientnet_lite1_in1k_teacher_history_seed0_fold0.csv"))


def test_a_student_without_unlabelled_films_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match="no unlabelled films"):
        run_into(tmp_path, run, CONFIG, replace(tables, unlabelled=tables.unlabelled.iloc[:0]))


def test_a_students_epoch_holds_labelled_rows_repeatedly_and_unlabelled_ones_once():
    rows = student_rows(np.array([0, 2]), labelled=3, unlabelled=2, repeats=2)
    assert rows.tolist() == [0, 2, 0, 2, 3, 4]
    targets = student_targets(
        np.array([[1], [0], [0]]), np.array([0, 2]), 0.1, np.array([[0.7], [0.2]])
    )
    np.testing.assert_allclose(targets[:, 0], [0.95, 0.0, 0.05, 0.7, 0.2])


def test_maps_become_channels_first_tensors():
    maps = np.arange(24, dtype=np.float16).reshape(1, 2, 3, 4)
    tensor = map_tensor(maps)
    assert tensor.shape == (1, 4, 2, 3)
    assert tensor[0, 1, 0, 2] == maps[0, 0, 2, 1]
