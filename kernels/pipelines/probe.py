"""A frozen pretrained backbone and a logistic regression: the bar for everything trained.

films -> uint8 cache -> features of the backbone, or of several of its levels (plain and mirrored,
averaged) -> in each fold: standardise, fit, predict. Nothing of a held-out film touches what is
fitted; the backbone has never seen any of them.
"""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from kernels.blocks.checkpoints import file_stem, probe_backbone_file
from kernels.blocks.devices import choose_compute
from kernels.blocks.entry import say
from kernels.blocks.folds import iterate_folds
from kernels.blocks.gallery import Showcase
from kernels.blocks.grouping import groups_of, strata_of
from kernels.blocks.images import load_images
from kernels.blocks.linear_models import fit_linear_model, predict_linear_model
from kernels.blocks.models import Classifier, create_backbone
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.predicting import encode_images
from kernels.blocks.seed import derive_seed
from kernels.blocks.shortcuts import note_shortcuts
from kernels.blocks.tables import Tables
from kernels.config import HeadConfig, ProbeConfig
from kernels.contract import write_json


def run(config: ProbeConfig, tables: Tables, writer: OutputWriter) -> None:
    """Features once, then logistic regression in folds, one for each target column."""
    compute = choose_compute(config.device, config.precision)
    say(f"device {compute.describe()}")
    tables = tables.head(config.max_images)
    size, cache = config.image_size, writer.paths.temp / "images"
    labelled, faults = load_images(list(tables.labelled["path"]), size, cache, "labelled films")
    test, test_faults = load_images(list(tables.test["path"]), size, cache, "test films")
    targets = tables.labelled[list(writer.competition.target_columns)].to_numpy(dtype=np.int64)
    groups, groups_report = groups_of(tables.labelled, config.folds, cache)
    say(f"groups: {groups_report['finding']}")

    torch.manual_seed(derive_seed(config.folds.seeds[0], "backbone"))  # for weights="random"
    backbone = create_backbone(
        config.backbone, config.weights, size, writer.datasets, frozen=True, levels=config.levels
    )
    compute.place(backbone)
    say(
        f"backbone {config.backbone}: {backbone.channels} features, weights from {backbone.weights_from}"
    )
    views = ("plain", "hflip") if config.hflip_tta else ("plain",)
    started = time.monotonic()
    features = encode_images(backbone, labelled, views, config.batch_size, compute)
    test_features = encode_images(backbone, test, views, config.batch_size, compute)
    seconds = time.monotonic() - started
    say(f"encoded {len(labelled) + len(test)} films x {len(views)} views in {seconds:.0f} s")

    paths = list(tables.labelled["path"])
    note_shortcuts(writer, paths, targets, groups, config.folds, labelled, test)

    ids, test_ids = tables.labelled["id"].to_numpy(), list(tables.test["id"])
    strata = strata_of(targets, config.folds.count)
    fitted: dict[tuple[int, int], dict[str, Any]] = {}
    stem = file_stem(config.backbone)
    torch.save(
        {"model_name": config.backbone, "model_state_dict": backbone.trunk.state_dict()},
        writer.checkpoint_path(probe_backbone_file(config.backbone)),
    )
    for seed, fold, train, held_out in iterate_folds(strata, groups, config.folds):
        probe = fit_linear_model(
            features[train],
            targets[train],
            config.inverse_regularisation,
            writer.competition.exclusive,
        )
        fitted[seed, fold] = probe
        held_probs, test_probs = (
            predict_linear_model(probe, table) for table in (features[held_out], test_features)
        )
        write_json(writer.checkpoint_path(f"{stem}_probe_seed{seed}_fold{fold}.json"), probe)
        writer.add_oof(ids[held_out].tolist(), seed, fold, targets[held_out], held_probs)
        writer.add_test(test_ids, seed, fold, test_probs)
        score = writer.fold_score(targets[held_out], held_probs)
        say(f"seed {seed} fold {fold}: {writer.competition.metric} {score:.4f}")
    writer.note(
        images={"labelled": faults.as_json(), "test": test_faults.as_json()},
        groups=groups_report,
        weights_from=backbone.weights_from,
        device=compute.describe(),
    )

    def model_of(seed: int, fold: int) -> tuple[Classifier, dict[str, Any]]:
        model = Classifier(backbone, HeadConfig(), targets.shape[1])
        fill_linear_head(model, fitted[seed, fold])
        facts = {"img_size": size, "seed": seed, "fold": fold, "head": asdict(HeadConfig())}
        return model.eval(), facts

    writer.add_section(Showcase(labelled, ids.tolist(), model_of, compute).add_to)


def fill_linear_head(model: Classifier, fitted: dict[str, Any]) -> None:
    """Write scaler and regressions into a head of one linear layer: one network that predicts alone."""
    weights = np.array(fitted["weights"]) / np.array(fitted["scale"])
    bias = np.array(fitted["bias"]) - weights @ np.array(fitted["mean"])
    layer = model.head.layers[-1]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.from_numpy(bias))
