"""A frozen pretrained backbone and a logistic regression: the bar for everything trained.

films -> uint8 cache -> features of the backbone (plain and mirrored, averaged) -> in each fold:
standardise, fit, predict. Nothing of a held-out film touches what is fitted; the backbone has never
seen any of them.
"""

import time

import numpy as np

from kernels.blocks.devices import choose_compute
from kernels.blocks.entry import say
from kernels.blocks.folds import iterate_folds
from kernels.blocks.grouping import groups_of, strata_of
from kernels.blocks.images import load_images
from kernels.blocks.models import create_backbone
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.predicting import encode_images
from kernels.blocks.tables import Tables
from kernels.config import ProbeConfig


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

    backbone = create_backbone(config.backbone, config.weights, size, writer.datasets, frozen=True)
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

    ids, test_ids = tables.labelled["id"].to_numpy(), list(tables.test["id"])
    strata = strata_of(targets, config.folds.count)
    for seed, fold, train, held_out in iterate_folds(strata, groups, config.folds):
        held_probs, test_probs = fit_probes(
            features[train],
            targets[train],
            (features[held_out], test_features),
            config.inverse_regularisation,
        )
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


def fit_probes(
    features: np.ndarray,
    targets: np.ndarray,
    others: tuple[np.ndarray, ...],
    inverse_regularisation: float,
) -> list[np.ndarray]:
    """Standardise, fit a logistic regression for each target, predict.

    Args:
        features: Shape (N, C); the scaler sees these rows only.
        targets: 0 or 1, shape (N, K).
        others: Feature tables to predict, each of shape (M, C).
        inverse_regularisation: scikit-learn's C.

    Returns:
        Probabilities of shape (M, K) for each of ``others``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    scaled = [scaler.transform(table) for table in others]
    columns: list[list[np.ndarray]] = [[] for _ in others]
    for column in targets.T:
        probe = LogisticRegression(C=inverse_regularisation, max_iter=5000)
        probe.fit(scaler.transform(features), column)
        for place, table in zip(columns, scaled, strict=True):
            place.append(probe.predict_proba(table)[:, 1])
    return [np.stack(place, axis=1) for place in columns]
