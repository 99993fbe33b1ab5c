"""Strategy 1 of the write-up: SimSiam on unlabelled films, then a classifier on what it learned.

films -> 22 features -> nearest-neighbour pairs -> SimSiam -> features of augmented views -> in each fold a
classifier -> test-time views. Self-supervised training sees unlabelled films only: no label, no test film
and no labelled film either, so one network serves every fold and every seed.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kernels.blocks.checkpoints import load_classifier, save_classifier
from kernels.blocks.devices import Compute, choose_compute, fold_processes
from kernels.blocks.entry import say
from kernels.blocks.features import extract_features
from kernels.blocks.folds import iterate_folds
from kernels.blocks.frozen import fit_feature_head, head_logits, run_random_views
from kernels.blocks.gallery import Showcase
from kernels.blocks.grouping import groups_of, strata_of
from kernels.blocks.images import load_images
from kernels.blocks.knn_probe import knn_auc
from kernels.blocks.models import Backbone, Classifier, create_backbone
from kernels.blocks.neighbours import write_neighbours
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.pairs import Pairs, find_pairs, label_purity
from kernels.blocks.predicting import encode_images
from kernels.blocks.pretraining import pretrain
from kernels.blocks.resuming import TrainingSlot, fold_slot
from kernels.blocks.seed import derive_seed
from kernels.blocks.shortcuts import note_shortcuts
from kernels.blocks.simsiam import SimSiam, effective_rank, prediction_head, projection_head
from kernels.blocks.tables import Tables
from kernels.blocks.training import fit_classifier
from kernels.config import SimSiamConfig, ssl_file_stem, ssl_weights_file

# (seed, fold, training rows, held-out rows) -> classifier, history, and logits of each test-time view for
# the held-out and the test films, (T, M, K) both.
FittedFold = tuple[Classifier, list[dict[str, Any]], np.ndarray, np.ndarray]
FitFold = Callable[[int, int, np.ndarray, np.ndarray], FittedFold]


def run(config: SimSiamConfig, tables: Tables, writer: OutputWriter) -> None:
    """The whole story: see the module's docstring."""
    compute = choose_compute(config.device, config.precision)
    say(f"device {compute.describe()}")
    tables = tables.head(config.max_images, config.max_unlabelled)
    if len(tables.unlabelled) < 2:
        raise ValueError(
            f"{len(tables.unlabelled)} unlabelled films; this strategy learns from them before anything else"
        )
    films, faults = load_all_films(tables, config.image_size, writer.paths.temp)
    groups, group_report = groups_of(tables.labelled, config.folds, writer.paths.temp)
    targets = tables.labelled[list(writer.competition.target_columns)].to_numpy(dtype=int)
    paths, levels = tables.labelled["path"].tolist(), config.glcm_levels
    note_shortcuts(
        writer, paths, targets, groups, config.folds, films["labelled"], films["test"], levels
    )
    found, pair_facts = choose_partners(
        config, films["unlabelled"], films["labelled"], targets[:, 0]
    )
    partners = np.arange(len(films["unlabelled"])) if found is None else found.neighbour
    if found is not None and writer.session.share is None:
        write_neighbours(
            films["unlabelled"], tables.unlabelled["id"].tolist(), found, writer.paths.working
        )

    torch.manual_seed(derive_seed(config.folds.seeds[0], "backbone"))  # for weights="random"
    backbone = create_backbone(config.backbone, config.weights, config.image_size, writer.datasets)
    compute.place(backbone)
    say(
        f"backbone {config.backbone}: {backbone.channels} features, weights from {backbone.weights_from}"
    )
    ssl_facts = learn_from_unlabelled(
        backbone, films, partners, targets[:, 0], groups, config, compute, writer
    )
    writer.note(
        images=faults,
        groups=group_report,
        pairs=pair_facts,
        ssl=ssl_facts,
        weights_from=backbone.weights_from,
        device=compute.describe(),
    )
    classify_in_folds(backbone, films, tables, targets, groups, config, compute, writer)


def load_all_films(
    tables: Tables, size: int, cache: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The three sets as uint8 (N, size, size), and what was odd about their files."""
    films, faults = {}, {}
    for name in ("unlabelled", "labelled", "test"):
        paths = getattr(tables, name)["path"].tolist()
        films[name], report = load_images(paths, size, cache, name)
        faults[name] = report.as_json()
    return films, faults


def choose_partners(
    config: SimSiamConfig, unlabelled: np.ndarray, labelled: np.ndarray, targets: np.ndarray
) -> tuple[Pairs | None, dict[str, Any]]:
    """Whom each unlabelled film may be paired with, and whether such pairs mean anything.

    Returns:
        Neighbours; None when ``config.pairs`` is views: each film is its own partner. And facts: hubness,
        mutual share, and the label purity of the same kind of pairs among the labelled films, beside
        chance: pairs no purer than chance would teach noise.
    """
    purity = label_purity(
        find_pairs(extract_features(labelled, config.glcm_levels)).neighbour, targets
    )
    facts: dict[str, Any] = {"kind": config.pairs, "label_purity": purity.as_json()}
    said = f"label purity {purity.purity:.3f} among labelled films, chance {purity.chance:.3f}"
    if config.pairs == "views":
        say(f"pairs: two views of one film; neighbours would have {said}")
        return None, facts
    found = find_pairs(extract_features(unlabelled, config.glcm_levels))
    facts.update(found.as_json())
    say(
        f"pairs: {config.pair_share:.0%} nearest neighbours; {said}; mutual {found.mutual_share:.2f}, "
        f"largest in-degree {found.max_in_degree}, duplicates {found.duplicates}"
    )
    return found, facts


def learn_from_unlabelled(
    backbone: Backbone,
    films: dict[str, np.ndarray],
    partners: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    config: SimSiamConfig,
    compute: Compute,
    writer: OutputWriter,
) -> dict[str, Any]:
    """SimSiam in place, its history and two checkpoints; returns facts for metrics.json."""
    stem = ssl_file_stem(config.backbone)
    torch.manual_seed(derive_seed(config.folds.seeds[0], "simsiam heads"))
    projector = projection_head(backbone.channels, config.projector_hidden, config.projector_out)
    model = SimSiam(
        backbone, projector, prediction_head(config.projector_out, config.predictor_hidden)
    )
    compute.place(model)

    def probe() -> dict[str, float]:
        """How well labelled films lie apart by class; labels are read here, and nothing is chosen."""
        features = encode_images(
            backbone, films["labelled"], ("plain",), config.train.batch_size, compute
        )
        return {
            "knn_auc": round(knn_auc(features, targets, groups), 4),
            "feature_rank": round(effective_rank(torch.from_numpy(features)), 1),
        }

    history: list[dict[str, Any]] = []
    if config.ssl_epochs:
        seed = derive_seed(config.folds.seeds[0], "simsiam")
        slot = TrainingSlot(writer.session, "simsiam", "SimSiam", keep_finished=True)
        history = pretrain(model, films["unlabelled"], partners, config, compute, seed, probe, slot)
    if writer.session.share is None:  # else the parent has written them
        writer.write_history(f"{stem}_ssl_history", history)
        save_ssl_weights(
            writer.checkpoint_path(ssl_weights_file(config.backbone)), backbone.trunk, config
        )
        save_ssl_weights(writer.checkpoint_path(f"{stem}_simsiam_full.pth"), model, config)
    if not history:
        return {"epochs": 0}
    first, last, before = history[1], history[-1], history[0]
    return {
        "epochs": config.ssl_epochs,
        "films": len(films["unlabelled"]),
        "loss_first": first["loss"],
        "loss_last": last["loss"],
        "std_last": last["std"],
        "std_uniform": round(config.projector_out**-0.5, 6),
        "effective_rank_last": last["effective_rank"],
        "knn_auc_before": before["knn_auc"],
        "knn_auc_after": last["knn_auc"],
        "feature_rank_before": before["feature_rank"],
        "feature_rank_after": last["feature_rank"],
        "seconds": round(sum(row["seconds"] for row in history[1:]), 1),
    }


def classify_in_folds(
    backbone: Backbone,
    films: dict[str, np.ndarray],
    tables: Tables,
    targets: np.ndarray,
    groups: np.ndarray,
    config: SimSiamConfig,
    compute: Compute,
    writer: OutputWriter,
) -> None:
    """A classifier in each fold, and predictions averaged over test-time views (logits)."""
    stem = ssl_file_stem(config.backbone)
    frozen = config.freeze_backbone and config.head.attention == "none"
    fit = frozen_fits if frozen else film_fits
    fit_fold = fit(backbone, films, targets, config, compute, writer)
    ids, test_ids = tables.labelled["id"].to_numpy(), tables.test["id"].tolist()
    # Heads on cached features take seconds: not worth processes of their own.
    processes = [] if frozen else fold_processes(config.folds.parallel, compute)
    cells = iterate_folds(strata_of(targets, config.folds.count), groups, config.folds)
    for seed, fold, train, held in writer.folds(cells, processes):
        model, history, logits, test_logits = fit_fold(seed, fold, train, held)
        probs = writer.goal.probs(logits.mean(axis=0))
        writer.add_oof(ids[held].tolist(), seed, fold, targets[held], probs)
        writer.add_test(test_ids, seed, fold, writer.goal.probs(test_logits.mean(axis=0)))
        score = writer.fold_score(targets[held], probs)
        plain_score = writer.fold_score(targets[held], writer.goal.probs(logits[0]))
        writer.note_fold(seed, fold, plain=plain_score, spread=float(logits.std(axis=0).mean()))
        say(
            f"seed {seed} fold {fold}: {writer.competition.metric} {score:.4f} over {config.tta_views} views, "
            f"{plain_score:.4f} with the plain one"
        )
        writer.write_history(f"{stem}_training_history_seed{seed}_fold{fold}", history)
        kept = next(row for row in history if row["kept"])
        save_classifier(
            writer.checkpoint_path(f"{stem}_best_classifier_seed{seed}_fold{fold}.pth"),
            model,
            config.head,
            epoch=int(kept["epoch"]),
            val_auc=float(kept["val_auc"]),
            img_size=config.image_size,
            seed=seed,
            fold=fold,
            exclusive=writer.goal.exclusive,
        )
    noted = writer.noted_folds()
    writer.note(
        tta={
            "views": config.tta_views,
            "score_mean_fold_plain": float(np.mean([entry["plain"] for entry in noted])),
            "logit_spread": float(np.mean([entry["spread"] for entry in noted])),
        }
    )
    showcase = Showcase(
        films["labelled"],
        ids.tolist(),
        lambda seed, fold: load_classifier(
            writer.checkpoint_path(f"{stem}_best_classifier_seed{seed}_fold{fold}.pth")
        ),
        compute,
    )
    writer.add_section(showcase.add_to)


def frozen_fits(
    backbone: Backbone,
    films: dict[str, np.ndarray],
    targets: np.ndarray,
    config: SimSiamConfig,
    compute: Compute,
    writer: OutputWriter,
) -> FitFold:
    """Fits of a head on cached features: the backbone sees every view of every film once."""
    freeze(backbone)
    started = time.monotonic()

    def encode(name: str, purpose: str, count: int) -> np.ndarray:
        return run_random_views(
            lambda gray: backbone.pool(backbone(gray)),
            films[name],
            config.train.augment,
            count,
            derive_seed(config.folds.seeds[0], purpose, name),
            config.train.batch_size,
            compute,
        )

    views = encode("labelled", "train views", config.cached_views)
    seen, seen_test = (encode(name, "tta", config.tta_views) for name in ("labelled", "test"))
    passes = (config.cached_views + config.tta_views) * len(targets) + config.tta_views * len(
        films["test"]
    )
    say(f"encoded {passes} views for the frozen backbone in {time.monotonic() - started:.0f} s")

    def fit_fold(seed: int, fold: int, train: np.ndarray, held: np.ndarray) -> FittedFold:
        head, history = fit_feature_head(
            views[:, train],
            targets[train],
            (views[0, held], targets[held]),
            config.head,
            config.train,
            derive_seed(seed, fold),
            writer.fold_score,
            f"seed {seed} fold {fold} | ",
            fold_slot(writer.session, seed, fold),
            writer.goal,
        )
        model = Classifier(backbone, config.head, targets.shape[1])
        model.head = head
        return model, history, head_logits(head, seen[:, held]), head_logits(head, seen_test)

    return fit_fold


def film_fits(
    backbone: Backbone,
    films: dict[str, np.ndarray],
    targets: np.ndarray,
    config: SimSiamConfig,
    compute: Compute,
    writer: OutputWriter,
) -> FitFold:
    """Fits on augmented films, for a backbone that moves or a head that wants whole maps."""

    def fit_fold(seed: int, fold: int, train: np.ndarray, held: np.ndarray) -> FittedFold:
        own = deepcopy(backbone)  # each fold starts from the same self-supervised weights
        if config.freeze_backbone:
            freeze(own)
        torch.manual_seed(derive_seed(seed, fold, "head"))
        model = Classifier(own, config.head, targets.shape[1])
        history = fit_classifier(
            model,
            films["labelled"],
            targets,
            train,
            held,
            config.train,
            config.image_size,
            derive_seed(seed, fold),
            compute,
            writer.fold_score,
            f"seed {seed} fold {fold} | ",
            fold_slot(writer.session, seed, fold),
            writer.goal,
        )
        model.eval()
        logits, test_logits = (
            run_random_views(
                model,
                images,
                config.train.augment,
                config.tta_views,
                derive_seed(config.folds.seeds[0], "tta", name),
                config.train.batch_size,
                compute,
            )
            for name, images in (("labelled", films["labelled"][held]), ("test", films["test"]))
        )
        return model, history, logits.astype(np.float64), test_logits.astype(np.float64)

    return fit_fold


def freeze(backbone: Backbone) -> None:
    """No gradients, and batch norms that stay as SimSiam left them."""
    backbone.requires_grad_(requires_grad=False)
    backbone.frozen = True
    backbone.eval()


def save_ssl_weights(path: Path, module: nn.Module, config: SimSiamConfig) -> None:
    """Weights and plain values under the write-up's keys; loads with weights_only=True."""
    torch.save(
        {
            "model_name": config.backbone,
            "model_state_dict": {key: value.cpu() for key, value in module.state_dict().items()},
            "epoch": int(config.ssl_epochs),
            "val_auc": None,  # no label was seen
            "img_size": int(config.image_size),
            "freeze_backbone": bool(config.freeze_backbone),
        },
        path,
    )
