"""One network per fold: CLAHE -> mixed batches -> attention classifier -> test-time views.

films -> uint8 cache at model size, CLAHE applied -> in each fold: a fresh pretrained classifier,
trained on the other folds only -> held-out and test films seen several ways and averaged. The
strategy files hold every setting; what each part does is in its block.
"""

import time

import numpy as np
import torch

from kernels.blocks.checkpoints import file_stem, load_classifier, save_classifier
from kernels.blocks.devices import Compute, choose_compute, fold_processes
from kernels.blocks.entry import say
from kernels.blocks.folds import iterate_folds
from kernels.blocks.gallery import Showcase
from kernels.blocks.grouping import groups_of, strata_of
from kernels.blocks.images import load_images
from kernels.blocks.models import Classifier, count_parameters, create_backbone
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.predicting import predict_probs
from kernels.blocks.resuming import fold_slot
from kernels.blocks.seed import derive_seed
from kernels.blocks.shortcuts import note_shortcuts
from kernels.blocks.tables import Tables
from kernels.blocks.training import fit_classifier
from kernels.blocks.tta import view_move
from kernels.config import SupervisedConfig


def run(config: SupervisedConfig, tables: Tables, writer: OutputWriter) -> None:
    """Train, predict and save every (seed, fold) that the config asks for."""
    compute = choose_compute(config.device, config.precision)
    say(f"device {compute.describe()}")
    tables = tables.head(config.max_images)
    size, cache = config.image_size, writer.paths.temp / "images"
    for name in config.tta:
        view_move(name)  # a misspelt view is refused now, not after the first fold
    clahe = (config.clahe_clip, config.clahe_grid) if config.clahe else None
    films, faults = load_images(list(tables.labelled["path"]), size, cache, "labelled films", clahe)
    test, test_faults = load_images(list(tables.test["path"]), size, cache, "test films", clahe)
    targets = tables.labelled[list(writer.competition.target_columns)].to_numpy(dtype=np.int64)
    groups, groups_report = groups_of(tables.labelled, config.folds, cache)
    say(f"groups: {groups_report['finding']}")

    paths = list(tables.labelled["path"])
    note_shortcuts(writer, paths, targets, groups, config.folds, films, test)

    ids, test_ids = tables.labelled["id"].to_numpy(), list(tables.test["id"])
    stem, batch_size = file_stem(config.backbone), config.train.batch_size
    strata = strata_of(targets, config.folds.count)
    cells = iterate_folds(strata, groups, config.folds)
    processes = fold_processes(config.folds.parallel, compute)
    for seed, fold, train, held_out in writer.folds(cells, processes):
        started = time.monotonic()
        model = create_classifier(
            config, writer, targets.shape[1], derive_seed(seed, fold), compute
        )
        history = fit_classifier(
            model,
            films,
            targets,
            train,
            held_out,
            config.train,
            size,
            derive_seed(seed, fold, "fit"),
            compute,
            writer.fold_score,
            label=f"seed {seed} fold {fold} ",
            slot=fold_slot(writer.session, seed, fold),
            goal=writer.goal,
        )
        kept = next(row for row in history if row["kept"])
        writer.write_history(f"{stem}_history_seed{seed}_fold{fold}", history)
        save_classifier(
            writer.checkpoint_path(f"{stem}_best_seed{seed}_fold{fold}.pth"),
            model,
            config.head,
            epoch=kept["epoch"],
            val_auc=kept["val_auc"],
            img_size=size,
            seed=seed,
            fold=fold,
            exclusive=writer.goal.exclusive,
            weights_from=model.backbone.weights_from,
            clahe_clip=config.clahe_clip if config.clahe else None,
            clahe_grid=config.clahe_grid if config.clahe else None,
        )
        probs, test_probs = (
            predict_probs(
                model, images, config.tta, batch_size, compute, config.tta_space, writer.goal
            )
            for images in (films[held_out], test)
        )
        writer.add_oof(ids[held_out].tolist(), seed, fold, targets[held_out], probs)
        writer.add_test(test_ids, seed, fold, test_probs)
        score = writer.fold_score(targets[held_out], probs)
        seconds = time.monotonic() - started
        say(
            f"seed {seed} fold {fold}: {writer.competition.metric} {score:.4f} with "
            f"{len(config.tta)} views, {kept['val_auc']:.4f} with one | {seconds:.0f} s"
        )
        writer.note_fold(seed, fold, epoch=kept["epoch"], plain=kept["val_auc"])
    writer.note(
        images={"labelled": faults.as_json(), "test": test_faults.as_json()},
        groups=groups_report,
        training=writer.noted_folds(),
        device=compute.describe(),
    )
    showcase = Showcase(
        films,
        ids.tolist(),
        lambda seed, fold: load_classifier(
            writer.checkpoint_path(f"{stem}_best_seed{seed}_fold{fold}.pth")
        ),
        compute,
    )
    writer.add_section(showcase.add_to)


def create_classifier(
    config: SupervisedConfig, writer: OutputWriter, n_targets: int, seed: int, compute: Compute
) -> Classifier:
    """The network of one fold at its start: pretrained backbone, head drawn from the seed."""
    torch.manual_seed(seed)
    backbone = create_backbone(
        config.backbone,
        config.weights,
        config.image_size,
        writer.datasets,
        frozen=config.freeze_backbone,
        drop_path=config.drop_path,
    )
    model = Classifier(backbone, config.head, n_targets)
    compute.place(model)
    if not writer.notes.get("weights_from"):
        writer.note(weights_from=backbone.weights_from, parameters=count_parameters(model))
        say(
            f"classifier {config.backbone}: {count_parameters(model):,} parameters, weights from "
            f"{backbone.weights_from}"
        )
    return model
