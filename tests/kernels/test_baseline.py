"""pneumonia_b0 on the folder layout: write-up B's settings, one correction, the report end to end."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.synthetic import draw_folder_competition
from kernels.blocks.entry import run_kernel
from kernels.blocks.losses import build_loss
from kernels.blocks.model_card import limits_text
from kernels.blocks.plots import PLOT_NAMES
from kernels.blocks.samplers import subset_rows
from kernels.competitions.chest_pneumonia import COMPETITION, read_tables
from kernels.config import OptimConfig, Profiles, TrainConfig, check_plain
from kernels.pipelines.supervised import run
from kernels.strategies.pneumonia_b0 import AS_WRITTEN, MASKED_XRAY, STRATEGY


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---- settings ------------------------------------------------------------------------------------


def test_as_written_holds_the_write_ups_settings():
    config = AS_WRITTEN.profiles.full
    train, views = config.train, config.train.augment
    assert config.backbone.startswith("efficientnet_b0.")
    assert (config.image_size, config.clahe, config.tta) == (224, False, ("plain",))
    assert (config.head.outputs, config.head.hidden, config.head.attention) == (2, (), "none")
    assert (train.optim.name, train.optim.lr, train.optim.weight_decay) == ("adamw", 1e-4, 1e-4)
    assert (train.optim.head_lr, train.optim.schedule) == (None, "constant")
    assert (train.epochs, train.batch_size, train.rows_per_class) == (5, 16, 200)
    assert (train.loss, train.sampler) == ("weighted_ce", "balanced")
    assert (views.hflip, views.rotation_deg) == (0.5, 15.0)
    assert (views.brightness, views.contrast) == (0.05, 0.05)
    assert config.folds.seeds == (42,)
    assert not AS_WRITTEN.in_blend


def test_corrected_default_corrects_the_imbalance_once_and_sees_every_film():
    for profile in ("full", "cpu"):
        train = STRATEGY.profiles.pick(profile).train
        assert (train.loss, train.sampler, train.rows_per_class) == ("weighted_ce", "shuffle", None)
    assert STRATEGY.profiles.full.device == "cuda"
    assert STRATEGY.profiles.full.folds.count == 5
    assert MASKED_XRAY.competition == "masked_xray"
    for strategy in (STRATEGY, AS_WRITTEN, MASKED_XRAY):
        check_plain(strategy.profiles, strategy.name)


def test_subset_is_balanced_drawn_once_and_inside_the_rows():
    targets = (np.arange(300) % 4 > 0).astype(int)[:, None]
    rows = np.arange(0, 300, 2)
    subset = subset_rows(targets, rows, 20, seed=3)
    assert set(subset) <= set(rows)
    assert targets[subset, 0].sum() == 20
    assert len(np.unique(subset)) == 40
    np.testing.assert_array_equal(subset, subset_rows(targets, rows, 20, seed=3))
    assert (subset != subset_rows(targets, rows, 20, seed=4)).any()
    assert len(subset_rows(targets, rows, 10_000, seed=0)) == len(rows)
    assert subset_rows(targets, rows, None, seed=0) is rows
    with pytest.raises(ValueError, match="one target"):
        subset_rows(np.repeat(targets, 2, axis=1), rows, 20, seed=0)


def test_class_weights_may_come_from_other_counts_than_the_rows():  # oracles 37 and 38 of ml-notes.md
    logits = torch.tensor([[-1.0], [2.0], [0.0]])  # second score minus first
    targets = torch.tensor([[0.0], [1.0], [0.0]])
    balanced = np.array([[200], [200]])
    given = TrainConfig(loss="weighted_ce", class_weights=(1.4858128834, 0.5141871166))
    assert build_loss(given, balanced)(logits, targets).item() == pytest.approx(0.4477004539)
    own = build_loss(replace(given, class_weights=None), balanced)(logits, targets)
    assert own.item() == pytest.approx(0.3777789597)  # equal counts: no weights at all
    full = build_loss(replace(given, class_weights=None), np.array([[1341], [3875]]))
    assert full(logits, targets).item() == pytest.approx(0.4477004539)
    with pytest.raises(ValueError, match="class_weights"):
        TrainConfig(class_weights=(1.0, 0.0))


# ---- end to end ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_folder_competition(
        tmp_path_factory.mktemp("drawn"), n_train=44, n_val=4, n_test=12, size=64
    )


def mount(root: Path, drawn, monkeypatch) -> None:
    """Make ``root`` what /kaggle is to a kernel, with the drawn competition mounted."""
    inputs = root / "input" / "competitions"
    inputs.mkdir(parents=True)
    (inputs / COMPETITION.slug).symlink_to(drawn.data_folder)
    monkeypatch.setenv("HARNESS_KAGGLE_ROOT", str(root))
    monkeypatch.chdir(root)


def run_small(root: Path, drawn, strategy, monkeypatch) -> Path:
    mount(root, drawn, monkeypatch)
    monkeypatch.setenv("HARNESS_PROFILE", "small")
    torch.set_num_threads(1)
    spec = {"strategy": strategy.name, "profile": "small"}
    run_kernel(run, COMPETITION, read_tables, strategy.profiles, spec, {}, __file__)
    return root / "working"


@pytest.fixture(scope="module", params=["default", "as-written"])
def outputs(request, tmp_path_factory, drawn) -> Path:
    strategy = {"default": STRATEGY, "as-written": AS_WRITTEN}[request.param]
    with pytest.MonkeyPatch.context() as patch:
        return run_small(tmp_path_factory.mktemp("run"), drawn, strategy, patch)


def test_run_writes_the_whole_report(outputs):
    results = json.loads((outputs / "results.json").read_text())
    assert "incomplete" not in results
    section = results["targets"]["pneumonia"]
    assert (section["out_of_fold"]["n"], section["test"]["n"]) == (48, 12)
    assert len(section["test"]["models"]) == 2
    assert results["strategy"] == "pneumonia_b0"
    assert results["hyperparameters"]["train"]["loss"] == "weighted_ce"
    assert results["class_distribution"]["labelled"]["pneumonia"]["negative"] > 0
    for name in (*PLOT_NAMES, "README.md", "model.pt"):
        assert (outputs / name).is_file(), name
    assert {path.name for path in (outputs / "gradcam").iterdir()} == set(results["gradcam"])
    assert len(results["gradcam"]) >= 4
    saved = torch.load(outputs / "model.pt", weights_only=True)
    assert set(json.loads(saved["results"])["targets"]) == {"pneumonia"}


def test_no_training_code_sees_a_test_label(drawn, tmp_path, monkeypatch):
    seen = []

    def pipeline(config, tables, writer):
        seen.append((tables.test_targets, list(tables.test.columns), writer.test_targets))
        raise KeyboardInterrupt

    mount(tmp_path, drawn, monkeypatch)
    spec = {"strategy": "x", "profile": "small"}
    with pytest.raises(KeyboardInterrupt):
        run_kernel(pipeline, COMPETITION, read_tables, STRATEGY.profiles, spec, {}, __file__)
    assert seen == [(None, ["id", "path", "group"], None)]


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({}, False),
        ({"early_stop_patience": 3}, True),
        ({"optim": OptimConfig(schedule="plateau")}, True),
    ],
)
def test_a_training_that_its_held_out_fold_steers_says_so(
    drawn, tmp_path, monkeypatch, capsys, changes, noted
):
    notes = {}

    def pipeline(config, tables, writer):
        notes.update(writer.notes)
        raise KeyboardInterrupt

    config = STRATEGY.profiles.small
    config = replace(config, train=replace(config.train, **changes))
    mount(tmp_path, drawn, monkeypatch)
    spec = {"strategy": "x", "profile": "small"}
    profiles = Profiles(config, config, config)
    with pytest.raises(KeyboardInterrupt):
        run_kernel(pipeline, COMPETITION, read_tables, profiles, spec, {}, __file__)
    assert ("epoch_chosen_on" in notes) is noted
    assert ("held-out fold steered" in capsys.readouterr().out) is noted


def test_the_card_of_such_a_run_says_so():
    assert "optimistic: because" in limits_text({"epoch_chosen_on": "because"})
    assert "optimistic" not in limits_text({})


def test_folds_keep_patients_together(outputs, drawn):
    with (outputs / "oof_predictions.csv").open() as handle:
        folds = {row["id"]: row["fold"] for row in csv.DictReader(handle)}
    of_patient: dict[int, set[str]] = {}
    for name, fold in folds.items():
        of_patient.setdefault(drawn.patients[name], set()).add(fold)
    assert all(len(found) == 1 for found in of_patient.values())
