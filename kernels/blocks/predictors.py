"""What a finished run's checkpoints say of other films: test predictions again, without training.

Each story predicts here as its pipeline does at its end: the same preprocessing, views, batches and order of
sums, so that the same films get the same numbers.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from kernels.blocks.checkpoints import load_classifier, probe_backbone_file
from kernels.blocks.devices import Compute, choose_compute
from kernels.blocks.features import extract_features
from kernels.blocks.frozen import head_logits, run_random_views
from kernels.blocks.goal import INDEPENDENT, Goal
from kernels.blocks.linear_models import predict_linear_model
from kernels.blocks.models import Backbone, Classifier, create_backbone
from kernels.blocks.predicting import encode_images, predict_probs
from kernels.blocks.seed import derive_seed
from kernels.config import (
    AnyConfig,
    FeaturesConfig,
    ProbeConfig,
    SimSiamConfig,
    SupervisedConfig,
)
from kernels.contract import CHECKPOINT_FOLDER, checkpoint_cell

# A side in pixels and CLAHE (clip, grid) -> films (N, S, S) as uint8
LoadFilms = Callable[[int, tuple[float, int] | None], np.ndarray]
CellProbs = tuple[int, int, np.ndarray]  # seed, fold, probabilities (N, K)


def member_checkpoints(folder: Path) -> dict[tuple[int, int], Path]:
    """The model of each (seed, fold) in a run's output, in order.

    Raises:
        ValueError: There is none, or two are of one (seed, fold).
    """
    found: dict[tuple[int, int], Path] = {}
    for path in sorted((folder / CHECKPOINT_FOLDER).glob("*")):
        cell = checkpoint_cell(f"{CHECKPOINT_FOLDER}/{path.name}")
        if cell is None:
            continue
        if cell in found:
            raise ValueError(f"{folder}: {path.name} and {found[cell].name} are of one fold")
        found[cell] = path
    if not found:
        raise ValueError(f"{folder} holds no model of a fold that can be loaded")
    return dict(sorted(found.items()))


def predict_member(
    config: AnyConfig, folder: Path, load_films: LoadFilms, device: str, goal: Goal = INDEPENDENT
) -> Iterator[CellProbs]:
    """Predictions of every (seed, fold) of a run on other films.

    Args:
        config: The run's own.
        folder: Its output.
        load_films: Gives the films as this run wants them.
        device: auto | cpu | cuda, in place of the run's own.
        goal: What the competition asks for.
    """
    models = member_checkpoints(folder)
    if isinstance(config, FeaturesConfig):
        return predict_by_features(config, models, load_films)
    compute = choose_compute(device, config.precision)
    if isinstance(config, ProbeConfig):
        return predict_by_probe(config, folder, models, load_films, compute)
    if isinstance(config, SimSiamConfig):
        return predict_by_simsiam(config, models, load_films, compute, goal)
    if isinstance(config, SupervisedConfig):
        clahe = (config.clahe_clip, config.clahe_grid) if config.clahe else None
        films = load_films(config.image_size, clahe)
        size, space = config.train.batch_size, config.tta_space
    else:
        # Its own predictions went through maps kept in half precision: equal to some 1e-3.
        films = load_films(config.image_size, None)
        size, space = config.teacher.batch_size, "logits"
    return predict_by_networks(models, films, config.tta, size, space, compute, goal)


def predict_by_features(
    config: FeaturesConfig, models: dict[tuple[int, int], Path], load_films: LoadFilms
) -> Iterator[CellProbs]:
    """pipelines/features.py: hand-crafted features and a regression for each fold."""
    features = extract_features(load_films(config.image_size, None), config.glcm_levels)
    for (seed, fold), path in models.items():
        yield seed, fold, predict_linear_model(json.loads(path.read_text("utf-8")), features)


def predict_by_probe(
    config: ProbeConfig,
    folder: Path,
    models: dict[tuple[int, int], Path],
    load_films: LoadFilms,
    compute: Compute,
) -> Iterator[CellProbs]:
    """pipelines/probe.py: one frozen backbone and a regression for each fold."""
    name = probe_backbone_file(config.backbone)
    folders = {"probe": folder / CHECKPOINT_FOLDER}
    backbone = create_backbone(
        config.backbone, name, config.image_size, folders, frozen=True, levels=config.levels
    )
    compute.place(backbone)
    views = ("plain", "hflip") if config.hflip_tta else ("plain",)
    films = load_films(config.image_size, None)
    features = encode_images(backbone, films, views, config.batch_size, compute)
    for (seed, fold), path in models.items():
        yield seed, fold, predict_linear_model(json.loads(path.read_text("utf-8")), features)


def load_network(path: Path, goal: Goal) -> tuple[Classifier, Goal]:
    """A fold's network, and what it was trained for.

    Raises:
        ValueError: The targets are classes, and the checkpoint is from before it was noted whether they
            share a softmax: sigmoid and softmax of its logits are different predictions.
    """
    model, facts = load_classifier(path)
    exclusive = facts.get("exclusive")
    if exclusive is None and goal.exclusive:
        raise ValueError(
            f"{path.name} does not say whether its classes share a softmax: it was trained by earlier code. "
            "Train it again"
        )
    return model, replace(goal, exclusive=bool(exclusive))


def predict_by_simsiam(
    config: SimSiamConfig,
    models: dict[tuple[int, int], Path],
    load_films: LoadFilms,
    compute: Compute,
    goal: Goal,
) -> Iterator[CellProbs]:
    """pipelines/simsiam.py: random views; a frozen backbone, shared by all folds, sees them once."""
    films = load_films(config.image_size, None)
    seed_of_views = derive_seed(config.folds.seeds[0], "tta", "test")
    frozen = config.freeze_backbone and config.head.attention == "none"
    features: np.ndarray | None = None
    for (seed, fold), path in models.items():
        model, own = load_network(path, goal)
        compute.place(model)
        if features is None or not frozen:
            features = run_random_views(
                pooled_features(model.backbone) if frozen else model,
                films,
                config.train.augment,
                config.tta_views,
                seed_of_views,
                config.train.batch_size,
                compute,
            )
        logits = head_logits(model.head.cpu(), features) if frozen else features.astype(float)
        yield seed, fold, own.probs(logits.mean(axis=0))


def pooled_features(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """Films (B, 1, S, S) -> pooled features (B, C)."""
    return lambda gray: backbone.pool(backbone(gray))


def predict_by_networks(
    models: dict[tuple[int, int], Path],
    films: np.ndarray,
    views: tuple[str, ...],
    batch_size: int,
    space: str,
    compute: Compute,
    goal: Goal,
) -> Iterator[CellProbs]:
    """pipelines/supervised.py and distil.py: named views of every fold's network."""
    for (seed, fold), path in models.items():
        model, own = load_network(path, goal)
        compute.place(model)
        yield seed, fold, predict_probs(model, films, views, batch_size, compute, space, own)
