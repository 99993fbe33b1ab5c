"""Where exactly one target is 1 in a row, all of them share one softmax: losses, linear models, whole runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pipeline_runs import rows_of, run_into, single_thread
from torch.nn import functional

from harness.synthetic_kinds import CLASSES, draw_classes_competition
from kernels.blocks.csv_tables import read_csv_tables
from kernels.blocks.goal import Goal
from kernels.blocks.images import load_images
from kernels.blocks.linear_models import fit_linear_model, predict_linear_model
from kernels.blocks.losses import build_loss, smooth_targets, softmax_loss, weights_of_classes
from kernels.blocks.mixing import mixup
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.predictors import member_checkpoints, predict_member
from kernels.config import (
    Competition,
    FoldsConfig,
    HeadConfig,
    MixConfig,
    SupervisedConfig,
    TrainConfig,
)
from kernels.contract import OOF_FILE, TEST_FILE
from kernels.pipelines import distil, features, probe, simsiam, supervised
from kernels.strategies.features_lr import STRATEGY as FEATURES
from kernels.strategies.linear_probe import STRATEGY as PROBE
from kernels.strategies.lite0 import STRATEGY as LITE0
from kernels.strategies.ssl import STRATEGY as SSL

COMPETITION = Competition(
    "classes-of-films", "Classes", "image_id", CLASSES, metric="multiclass_log_loss"
)

CODES = torch.tensor([0, 2, 1, 2, 2])
TARGETS = functional.one_hot(CODES, 3).double()
LOGITS = torch.tensor(
    [[1.0, -2.0, 0.5], [0.0, 0.0, 3.0], [-1.0, 2.0, 2.0], [4.0, 0.1, 0.2], [0.3, 0.2, 0.1]],
    dtype=torch.float64,
)
COUNTS = np.array([[4, 4, 2], [1, 1, 3]])  # rows with 0, rows with 1


def test_the_loss_is_the_cross_entropy_of_one_softmax():
    for loss in ("bce", "focal"):
        config = TrainConfig(loss=loss, focal_gamma=0.0)
        found = build_loss(config, COUNTS, exclusive=True)(LOGITS, TARGETS)
        assert found.item() == pytest.approx(functional.cross_entropy(LOGITS, CODES).item())
    weights = torch.tensor(weights_of_classes(COUNTS[1]))
    np.testing.assert_allclose(weights / weights[2], [3.0, 3.0, 1.0])
    found = build_loss(TrainConfig(loss="weighted_ce"), COUNTS, exclusive=True)(LOGITS, TARGETS)
    expected = functional.cross_entropy(LOGITS, CODES, weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_gamma_turns_easy_films_down_and_keeps_gradients_finite():
    sure = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0, 0.0]])
    value = softmax_loss(sure, target, gamma=0.5)
    value.backward()
    assert torch.isfinite(sure.grad).all()
    focal, plain = (softmax_loss(LOGITS, TARGETS, gamma) for gamma in (2.0, 0.0))
    probs = torch.softmax(LOGITS, dim=1)[torch.arange(5), CODES]
    assert focal.item() == pytest.approx((-((1 - probs) ** 2) * probs.log()).mean().item())
    assert focal < plain


def test_the_loss_of_a_mix_is_the_mix_of_losses():
    other = TARGETS[[1, 2, 0, 3, 4]]
    mixed = softmax_loss(LOGITS, mixup(TARGETS, other, 0.3), 2.0)
    parts = 0.3 * softmax_loss(LOGITS, TARGETS, 2.0) + 0.7 * softmax_loss(LOGITS, other, 2.0)
    assert mixed.item() == pytest.approx(parts.item())


def test_smoothed_classes_still_sum_to_one():
    soft = smooth_targets(TARGETS, 0.3, exclusive=True)
    np.testing.assert_allclose(soft.sum(dim=1), 1.0)
    np.testing.assert_allclose(soft[0], [0.8, 0.1, 0.1])


def test_what_means_nothing_of_classes_is_refused():
    with pytest.raises(ValueError, match="class_weights are of class 0 and 1"):
        build_loss(
            TrainConfig(loss="weighted_ce", class_weights=(1.0, 2.0)), COUNTS, exclusive=True
        )
    with pytest.raises(ValueError, match="every class needs rows"):
        build_loss(TrainConfig(loss="weighted_ce"), np.array([[3, 5], [5, 0]]), exclusive=True)


def test_a_goal_knows_which_way_is_up_and_what_logits_mean():
    assert Goal("multiclass_log_loss").gain(0.4) == -0.4
    assert Goal("auc").gain(0.4) == 0.4
    logits = np.array([[1000.0, 0.0, -1000.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(Goal(exclusive=True).probs(logits), [[1, 0, 0], [1 / 3] * 3])
    np.testing.assert_allclose(Goal().probs(logits), [[1, 0.5, 0], [0.5] * 3])


@pytest.mark.parametrize("classes", [2, 3])
def test_one_regression_over_all_classes_is_scikit_learns(classes):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(classes)
    features = rng.normal(size=(90, 4)) * [1, 10, 1, 1] + [0, 5, 0, 0]
    codes = np.arange(90) % classes
    features[:, 0] += codes
    targets = np.eye(classes, dtype=int)[codes]
    model = json.loads(json.dumps(fit_linear_model(features, targets, 1.0, exclusive=True)))
    scaled = (features - np.array(model["mean"])) / np.array(model["scale"])
    expected = LogisticRegression(C=1.0, max_iter=5000).fit(scaled, codes).predict_proba(scaled)
    np.testing.assert_allclose(predict_linear_model(model, features), expected, atol=1e-9)
    absent = np.hstack([targets, np.zeros((90, 1), dtype=int)])
    with pytest.raises(ValueError, match=f"class {classes} of {classes + 1} has no rows"):
        fit_linear_model(features, absent, 1.0, exclusive=True)


one_thread = pytest.fixture(autouse=True)(single_thread)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Thirty films of three classes."""
    folder = tmp_path_factory.mktemp("classes")
    drawn = draw_classes_competition(folder, 3, n_labelled=30, n_test=6, size=40)
    found = read_csv_tables(drawn.data_folder, COMPETITION)
    return replace(found, unlabelled=found.test)  # SimSiam learns from films without labels


def stories():
    """A pipeline and its smallest config, for each way to train a classifier."""
    epochs = {"epochs": 1, "batch_size": 8}
    shared = {"image_size": 32, "weights": "random"}
    lite, own = LITE0.profiles.small, SSL.profiles.small
    return {
        "features": (features, replace(FEATURES.profiles.small, image_size=32)),
        "probe": (probe, replace(PROBE.profiles.small, **shared)),
        "supervised": (
            supervised,
            SupervisedConfig(
                folds=FoldsConfig(count=2),
                backbone=lite.backbone,
                head=HeadConfig(hidden=(8,), dropout=(0.0,)),
                train=TrainConfig(**epochs, label_smoothing=0.1, mix=MixConfig(mixup_alpha=0.4)),
                tta=("plain", "hflip"),
                precision="float32",
                **shared,
            ),
        ),
        "frozen head": (
            simsiam,
            replace(own, ssl_epochs=0, ssl_image_size=32, cached_views=1, **shared),
        ),
        "distil": (
            distil,
            replace(lite, labelled_views=1, teacher=replace(lite.teacher, **epochs), **shared),
        ),
    }


@pytest.mark.parametrize("name", ["features", "probe", "supervised", "frozen head", "distil"])
def test_every_story_predicts_rows_that_sum_to_one_and_its_models_say_the_same(
    name, tables, tmp_path, monkeypatch
):
    pipeline, config = stories()[name]
    # Without the writer's own division: what a softmax gives sums to 1 by itself.
    monkeypatch.setattr("kernels.blocks.outputs.rows_of_classes", lambda probs: probs)
    monkeypatch.setattr(OutputWriter, "_write_report", lambda *_: None)
    working = run_into(tmp_path, pipeline.run, config, tables, COMPETITION)
    columns = [f"pred_{target}" for target in COMPETITION.target_columns]
    for file in (OOF_FILE, TEST_FILE):
        values = np.array([[float(r[c]) for c in columns] for r in rows_of(working / file)])
        np.testing.assert_allclose(values.sum(axis=1), 1.0, atol=1e-9)
    assert np.ptp(values) > 1e-4

    def load_films(size, clahe):
        return load_images(list(tables.test["path"]), size, tmp_path / "cache", "films", clahe)[0]

    goal = Goal(COMPETITION.metric, COMPETITION.exclusive)
    again = [cell[2] for cell in predict_member(config, working, load_films, "cpu", goal)]
    # Self-training predicts from maps that it keeps in half precision.
    tolerance = 1e-4 if name == "distil" else 1e-6
    np.testing.assert_allclose(np.concatenate(again), values, atol=tolerance, rtol=0)

    if name in ("supervised", "frozen head", "distil"):
        # Of what earlier code saved nobody can tell whether its logits are for a softmax.
        path = next(iter(member_checkpoints(working).values()))
        saved = torch.load(path, weights_only=True)
        assert saved.pop("exclusive") is True
        torch.save(saved, path)
        with pytest.raises(ValueError, match=f"{path.name} does not say .* Train it again"):
            list(predict_member(config, working, load_films, "cpu", goal))
        independent = replace(goal, exclusive=False)
        assert len(list(predict_member(config, working, load_films, "cpu", independent))) == 2
