"""Hand-crafted features and a standardised logistic regression: the cheapest honest number.

films -> one grey size -> 22 features -> in each fold: scaler and regression -> out-of-fold and test
predictions. Minutes become seconds here, so it also carries the checks that belong beside every
result: groups, label purity of neighbours, metadata-only AUC, shift between labelled and test films.
"""

import time
from typing import Any

import numpy as np

from kernels.blocks.entry import say
from kernels.blocks.features import FEATURE_NAMES, extract_features
from kernels.blocks.folds import assign_folds, iterate_folds
from kernels.blocks.grouping import groups_of, strata_of
from kernels.blocks.images import load_images
from kernels.blocks.linear_models import fit_linear_model, predict_linear_model
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.pairs import find_pairs, label_purity
from kernels.blocks.shortcuts import shortcut_facts
from kernels.blocks.tables import Tables
from kernels.config import FeaturesConfig
from kernels.contract import write_json


def run(config: FeaturesConfig, tables: Tables, writer: OutputWriter) -> None:
    """Fit one model per target in every fold of every seed and hand its predictions to the writer.

    Checkpoints are ``features_lr_seed<s>_fold<f>.json``: plain numbers that predict without scikit-learn.
    """
    tables = tables.head(config.max_images, config.max_images)
    labelled, test = tables.labelled, tables.test
    columns = list(writer.competition.target_columns)
    targets = labelled[columns].to_numpy(dtype=np.int64)  # (N, K)
    cache = writer.paths.temp / "images"

    films, faults = load_images(list(labelled["path"]), config.image_size, cache, "labelled films")
    test_films, test_faults = load_images(
        list(test["path"]), config.image_size, cache, "test films"
    )
    started = time.monotonic()
    features = extract_features(films, config.glcm_levels)
    test_features = extract_features(test_films, config.glcm_levels)
    rate = (len(films) + len(test_films)) / (time.monotonic() - started)
    say(
        f"{len(FEATURE_NAMES)} features of {len(films)} + {len(test_films)} films, {rate:.0f} films/s"
    )

    groups, groups_report = groups_of(labelled, config.folds, cache)
    say(f"groups: {groups_report['finding']}")
    strata = strata_of(targets, config.folds.count)
    writer.note(
        images={"labelled": faults.as_json(), "test": test_faults.as_json()},
        groups=groups_report,
        **side_checks(config, tables, targets[:, 0], strata, groups, features, test_features),
    )

    ids, test_ids = list(labelled["id"]), list(test["id"])
    for seed, fold, train, held_out in iterate_folds(strata, groups, config.folds):
        model = {
            "model_name": "features_lr",
            "img_size": config.image_size,
            "glcm_levels": config.glcm_levels,
            "features": list(FEATURE_NAMES),
            **fit_linear_model(
                features[train],
                targets[train],
                config.inverse_regularisation,
                writer.competition.exclusive,
            ),
        }
        probs = predict_linear_model(model, features[held_out])
        writer.add_oof([ids[row] for row in held_out], seed, fold, targets[held_out], probs)
        writer.add_test(test_ids, seed, fold, predict_linear_model(model, test_features))
        write_json(
            writer.checkpoint_path(f"features_lr_seed{seed}_fold{fold}.json"),
            {**model, "targets": columns, "seed": seed, "fold": fold},
        )
        score = fold_score_of(writer, targets[held_out], probs)
        say(
            f"seed {seed} fold {fold}: {writer.competition.metric} {score:.4f} on {len(held_out)} films"
        )


def side_checks(
    config: FeaturesConfig,
    tables: Tables,
    target: np.ndarray,
    strata: np.ndarray,
    groups: np.ndarray,
    features: np.ndarray,
    test_features: np.ndarray,
) -> dict[str, Any]:
    """What stands beside the score in metrics.json: neighbours, metadata-only AUC, shift to the test films."""
    pairs = find_pairs(features)
    purity = label_purity(pairs.neighbour, target)
    folds = assign_folds(strata, groups, config.folds.count, config.folds.seeds[0])
    say(f"label purity of neighbours {purity.purity:.4f}, chance {purity.chance:.4f}")
    return {
        "pairs": pairs.as_json(),
        "label_purity": purity.as_json(),
        **shortcut_facts(list(tables.labelled["path"]), target, folds, features, test_features),
    }


def fold_score_of(writer: OutputWriter, targets: np.ndarray, probs: np.ndarray) -> float:
    """The competition's metric for a log line; one target is a vector, several are columns."""
    if targets.shape[1] == 1:
        return writer.fold_score(targets[:, 0], probs[:, 0])
    return writer.fold_score(targets, probs)
