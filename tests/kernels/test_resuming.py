"""A run cut into sessions ends in the bits of an uninterrupted one, wherever it was cut."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline_runs import drawn_tables, paths_in, single_thread

from kernels.blocks.ema import ModelEma
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.resuming import GeneratorPart, TrainingSlot, fold_slot
from kernels.blocks.session import BudgetSpent, RunSession
from kernels.blocks.tables import Tables
from kernels.competitions.masked_xray import COMPETITION
from kernels.config import (
    AugmentConfig,
    DistilConfig,
    FoldsConfig,
    HeadConfig,
    MixConfig,
    OptimConfig,
    SimSiamConfig,
    SupervisedConfig,
    TrainConfig,
)
from kernels.contract import MANIFEST_FILE, OOF_FILE, RESUME_FOLDER, TEST_FILE
from kernels.pipelines import distil, simsiam, supervised

TRAIN = TrainConfig(
    optim=OptimConfig(lr=1e-3, head_lr=5e-3, schedule="one_cycle"),
    augment=AugmentConfig(hflip=0.5, rotation_deg=5.0),
    mix=MixConfig(mixup_alpha=0.4),
    epochs=3,
    batch_size=8,
    ema_decay=0.9,
)
SUPERVISED = SupervisedConfig(
    folds=FoldsConfig(count=2, group_near_duplicates=False),
    backbone="tf_efficientnet_lite0.in1k",
    weights="random",
    image_size=32,
    clahe=False,
    head=HeadConfig(attention="spatial", hidden=(8,), dropout=(0.1,)),
    train=TRAIN,
    tta=("plain", "hflip"),
    drop_path=0.1,
    device="cpu",
    precision="float32",
)
EARLY = replace(
    SUPERVISED,
    train=replace(
        TRAIN,
        optim=OptimConfig(
            name="sgd", lr=1e-3, momentum=0.9, schedule="plateau", plateau_patience=0
        ),
        ema_decay=None,
        early_stop_patience=1,
    ),
)
SIMSIAM = SimSiamConfig(
    folds=FoldsConfig(count=2, group_near_duplicates=False),
    backbone="tf_efficientnet_lite0.in1k",
    weights="random",
    image_size=32,
    glcm_levels=16,
    ssl_epochs=2,
    ssl_batch_size=8,
    ssl_augment=AugmentConfig(crop_scale_min=0.7),
    projector_hidden=16,
    projector_out=16,
    predictor_hidden=8,
    cached_views=2,
    head=HeadConfig(hidden=(8,), dropout=(0.2,)),
    train=replace(TRAIN, epochs=2),
    tta_views=2,
    device="cpu",
    precision="float32",
)
DISTIL = DistilConfig(
    folds=FoldsConfig(count=2, group_near_duplicates=False),
    weights="random",
    image_size=32,
    frozen_stages=5,
    labelled_views=2,
    unlabelled_views=1,
    teacher=replace(TRAIN, mix=MixConfig(), epochs=2),
    student=replace(TRAIN, mix=MixConfig(), epochs=2),
    device="cpu",
    precision="float32",
)
MOVING = replace(SIMSIAM, freeze_backbone=False)  # the second phase trains on films


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(
        OutputWriter, "_write_report", lambda *_: None
    )  # seconds, and not the point
    yield from single_thread()


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Tables:
    return drawn_tables(tmp_path_factory.mktemp("films"), 16, 20, 8)


def run_sessions(folder: Path, pipeline, config, tables, budget_s) -> tuple[Path, list[str]]:
    """Sessions until the run is finished; its working folder, and the stage each session ended in."""
    paths = paths_in(folder)
    stages: list[str] = []
    for number in range(1, 30):
        session = RunSession(
            paths.working / RESUME_FOLDER, budget_s, number=number, keeps=budget_s is not None
        )
        writer = OutputWriter(COMPETITION, paths, session)
        try:
            pipeline.run(config, tables, writer)
        except BudgetSpent as spent:
            stages.append(str(spent))
            continue
        writer.finish({"strategy": "test"}, config, {}, "0" * 64)
        return paths.working, stages
    raise AssertionError(f"no end in sight: {stages}")


@pytest.mark.parametrize(
    ("pipeline", "config"),
    [
        (supervised, SUPERVISED),
        (supervised, EARLY),
        (simsiam, SIMSIAM),
        (simsiam, MOVING),
        (distil, DISTIL),
    ],
    ids=["supervised", "early-stop", "simsiam-frozen", "simsiam-moving", "distil"],
)
def test_one_epoch_a_session_gives_the_bits_of_a_run_in_one(pipeline, config, tables, tmp_path):
    whole, none = run_sessions(tmp_path / "whole", pipeline, config, tables, None)
    parts, stages = run_sessions(tmp_path / "parts", pipeline, config, tables, 0.0)
    assert not none
    assert len(set(stages)) == len(stages) >= 3  # every session came farther
    if pipeline is simsiam:
        assert stages[0] == "SimSiam, epoch 2 of 2"
    for name in (OOF_FILE, TEST_FILE, "submission.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = (json.loads((f / "metrics.json").read_text()) for f in (parts, whole))
    assert ours["score_mean_fold"] == theirs["score_mean_fold"]
    assert ours.get("training") == theirs.get("training")
    for key in ("metadata_auc", "adversarial_auc"):  # beside every result
        assert 0.0 <= ours[key]["boosting"] <= 1.0
        assert ours[key] == theirs[key]
    listed = [
        {entry["path"] for entry in json.loads((f / MANIFEST_FILE).read_text())["files"]}
        for f in (parts, whole)
    ]
    assert listed[0] == listed[1]  # same checkpoints and histories, and nothing of the state


def test_a_fold_that_is_done_is_not_trained_again(tables, tmp_path, monkeypatch):
    trained = []

    def counting(*arguments, **named):
        trained.append(named["label"])
        return fit(*arguments, **named)

    fit = supervised.fit_classifier
    monkeypatch.setattr(supervised, "fit_classifier", counting)
    config = replace(SUPERVISED, train=replace(TRAIN, epochs=1))
    run_sessions(tmp_path, supervised, config, tables, 0.0)
    assert trained == ["seed 0 fold 0 ", "seed 0 fold 1 "]


def slot_in(folder: Path, budget_s: float = 0.0) -> TrainingSlot:
    session = RunSession(folder / RESUME_FOLDER, budget_s)
    session.worked()
    return fold_slot(session, 0, 0)


def test_a_state_of_another_training_is_refused_by_name(tmp_path):
    slot = slot_in(tmp_path)
    model = torch.nn.Linear(2, 1)
    with pytest.raises(BudgetSpent, match="seed 0 fold 0, epoch 2 of 5"):
        slot.pause_if_due({"model": model}, [{"epoch": 1}], 1, 5, 0.0)
    history: list = []
    with pytest.raises(ValueError, match=r"seed0_fold0.pt: its model does not fit"):
        slot.restore({"model": torch.nn.Linear(3, 1)}, history)
    with pytest.raises(ValueError, match="another training"):
        slot.restore({"model": model, "average": ModelEma(model, 0.9)}, history)
    assert slot.restore({"model": model}, history) == 1
    assert history == [{"epoch": 1}]


def test_a_generator_goes_on_where_it_was(tmp_path):
    rng = np.random.default_rng(5)
    rng.random(7)
    state = GeneratorPart(rng).state_dict()
    expected = rng.random(3)
    other = np.random.default_rng(0)
    GeneratorPart(other).load_state_dict(state)
    assert (other.random(3) == expected).all()


def test_the_longest_epoch_must_still_fit_into_the_budget(tmp_path):
    slot = slot_in(tmp_path, budget_s=100.0)
    parts = {"model": torch.nn.Linear(2, 1)}
    slot.pause_if_due(parts, [], 1, 5, expected_s=50.0)
    with pytest.raises(BudgetSpent):
        slot.pause_if_due(parts, [], 1, 5, expected_s=101.0)


def test_the_first_of_two_fits_in_a_fold_is_kept_and_the_last_is_not(tmp_path):
    session = RunSession(tmp_path / RESUME_FOLDER)
    session.folder.mkdir()
    parts = {"model": torch.nn.Linear(2, 1)}
    first, last = fold_slot(session, 0, 3, "teacher"), fold_slot(session, 0, 3)
    first.finish(parts, [{"epoch": 1}], 1)
    last.finish(parts, [{"epoch": 1}], 1)
    history: list = []
    assert first.restore(parts, history) is None  # nothing left to train
    assert last.restore(parts, history) == 0
