"""Self-training inside the folds: teachers, their soft labels for unlabelled films, a student.

films -> maps of the frozen first stages, once -> in each fold: pretrained networks fine-tuned on the
other folds (the teachers) -> their mean probabilities for the unlabelled films -> a fresh pretrained
network trained on those and on the same labelled rows (the student) -> held-out and test films,
test-time views averaged.

Fold-clean: no label of a held-out film has touched anything that predicts it, since every fold has
teachers of its own. Soft labels instead of hard ones above a threshold: what the teachers doubt stays
doubtful, and there is no threshold to choose.

Source: self-training with a student that sees noised inputs, Xie et al. 2020 (Noisy Student,
arXiv:1911.04252); soft targets, and one network taught by several, Hinton et al. 2015 (arXiv:1503.02531).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kernels.blocks.checkpoints import file_stem, load_classifier, save_classifier
from kernels.blocks.devices import Compute, choose_compute, fold_processes
from kernels.blocks.early_maps import (
    EarlyMaps,
    LateClassifier,
    late_logits,
    late_probs,
    map_tensor,
)
from kernels.blocks.entry import say
from kernels.blocks.folds import iterate_folds, refuse_shared_rows
from kernels.blocks.gallery import Showcase
from kernels.blocks.grouping import groups_of, strata_of
from kernels.blocks.images import load_images
from kernels.blocks.losses import build_loss, smooth_targets
from kernels.blocks.models import Backbone, count_parameters, create_backbone
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.resuming import TrainingSlot, fold_slot
from kernels.blocks.samplers import count_batches, epoch_order, split_batches
from kernels.blocks.seed import derive_seed
from kernels.blocks.shortcuts import note_shortcuts
from kernels.blocks.tables import Tables
from kernels.blocks.training import fit_model
from kernels.blocks.tta import view_move
from kernels.config import DistilConfig, NetworkConfig, TrainConfig

SETS = ("labelled", "unlabelled", "test")


@dataclass(frozen=True)
class MappedNetwork:
    """One pretrained network and the maps its frozen stages made of every film.

    random: Set -> maps of the random views, each (N, h, w, c). fixed: (set, view's name) -> maps.
    """

    network: NetworkConfig
    backbone: Backbone
    films: np.ndarray  # labelled, uint8 (N, S, S), for the gallery
    random: dict[str, list[np.ndarray]]
    fixed: dict[tuple[str, str], np.ndarray]

    @property
    def stem(self) -> str:
        """Of its files' names."""
        return file_stem(self.network.backbone)


def run(config: DistilConfig, tables: Tables, writer: OutputWriter) -> None:
    """Train, predict and save every (seed, fold) that the config asks for."""
    compute = choose_compute(config.device, config.precision)
    say(f"device {compute.describe()}")
    tables = tables.head(config.max_images, config.max_unlabelled)
    for name in (*config.tta, *config.teacher_tta):
        view_move(name)  # a misspelt view is refused now, not after the first fold
    if config.student is not None and not len(tables.unlabelled):
        raise ValueError("no unlabelled films for a student to learn from; set student=None")
    cache = writer.paths.temp / "images"
    targets = tables.labelled[list(writer.competition.target_columns)].to_numpy(dtype=np.int64)
    groups, groups_report = groups_of(tables.labelled, config.folds, cache)
    say(f"groups: {groups_report['finding']}")
    networks = [
        map_films(network, config, tables, writer, compute) for network in config.networks()
    ]
    own = networks[0]
    films = tables.test["path"].tolist()
    test_films, _ = load_images(films, config.image_size, cache, "test films")
    paths = tables.labelled["path"].tolist()
    note_shortcuts(writer, paths, targets, groups, config.folds, own.films, test_films)

    ids, test_ids = tables.labelled["id"].to_numpy(), list(tables.test["id"])
    cells = iterate_folds(strata_of(targets, config.folds.count), groups, config.folds)
    processes = fold_processes(config.folds.parallel, compute)
    share = config.teacher_share if config.student is not None else 1.0
    # Teachers that have no say in the prediction need not look at the test films.
    spoken = SETS if share else ("labelled", "unlabelled")
    for seed, fold, train, held_out in writer.folds(cells, processes):
        started = time.monotonic()
        label = f"seed {seed} fold {fold} "
        truth = targets[held_out]
        note: dict[str, float] = {}
        taught = FoldLogits(config, held_out)
        for place, network in enumerate(networks):
            teacher, history = fit_late(
                network,
                config,
                config.teacher,
                targets.astype(np.float64),
                train,
                held_out,
                derive_seed(seed, fold, place),
                compute,
                writer,
                label=f"{label}teacher {network.network.backbone} ",
                slot=fold_slot(writer.session, seed, fold, f"teacher{place}"),
            )
            writer.write_history(f"{network.stem}_teacher_history_seed{seed}_fold{fold}", history)
            taught.add(teacher, network, compute, spoken)
            if place == 0:
                kept = teacher, history
        note["teachers"] = writer.fold_score(truth, writer.goal.probs(taught.held))
        predicted = taught
        if config.student is not None:
            soft = writer.goal.probs(taught.unlabelled)
            say(f"{label}teachers {note['teachers']:.4f}; {describe_labels(soft)}")
            student, history = fit_late(
                own,
                config,
                config.student,
                student_targets(
                    targets, train, config.teacher.label_smoothing, soft, writer.goal.exclusive
                ),
                student_rows(train, len(targets), len(soft), config.labelled_repeats),
                held_out,
                derive_seed(seed, fold, "student"),
                compute,
                writer,
                label=f"{label}student ",
                slot=fold_slot(writer.session, seed, fold),
            )
            writer.write_history(f"{own.stem}_history_seed{seed}_fold{fold}", history)
            kept = student, history
            predicted = FoldLogits(config, held_out)
            predicted.add(student, own, compute, ("labelled", "test"))
            note["student"] = writer.fold_score(truth, writer.goal.probs(predicted.held))
        held, test = predicted.held, predicted.test
        if share:
            held = share * taught.held + (1.0 - share) * held
            test = share * taught.test + (1.0 - share) * test
        held_probs, test_probs = writer.goal.probs(held), writer.goal.probs(test)
        save_kept(own, config, writer, kept, seed, fold)
        writer.add_oof(ids[held_out].tolist(), seed, fold, truth, held_probs)
        writer.add_test(test_ids, seed, fold, test_probs)
        note["score"] = writer.fold_score(truth, held_probs)
        parts = ", ".join(
            f"{key} {note[key]:.4f}" for key in ("teachers", "student") if key in note
        )
        say(
            f"{label}{writer.competition.metric} {note['score']:.4f} ({parts}) | "
            f"{time.monotonic() - started:.0f} s"
        )
        writer.note_fold(seed, fold, **note)
    writer.note(groups=groups_report, training=writer.noted_folds(), device=compute.describe())
    showcase = Showcase(
        own.films,
        ids.tolist(),
        lambda seed, fold: load_classifier(
            writer.checkpoint_path(f"{own.stem}_best_seed{seed}_fold{fold}.pth")
        ),
        compute,
    )
    writer.add_section(showcase.add_to)


def map_films(
    network: NetworkConfig,
    config: DistilConfig,
    tables: Tables,
    writer: OutputWriter,
    compute: Compute,
) -> MappedNetwork:
    """Every film through the frozen stages of one network, in every view that is needed."""
    films, faults = {}, {}
    for name in SETS:
        paths = getattr(tables, name)["path"].tolist()
        images = writer.paths.temp / "images"
        films[name], report = load_images(paths, network.image_size, images, f"{name} films")
        faults[name] = report.as_json()
    torch.manual_seed(derive_seed(config.folds.seeds[0], "backbone"))  # for weights="random"
    backbone = create_backbone(
        network.backbone,
        config.weights,
        network.image_size,
        writer.datasets,
        frozen_stages=network.frozen_stages,
    )
    backbone.eval()
    compute.place(backbone)
    if "weights_from" not in writer.notes:
        writer.note(weights_from=backbone.weights_from, images=faults)
    say(f"backbone {network.backbone}: weights from {backbone.weights_from}")
    maker = EarlyMaps(
        backbone, network.image_size, config.augment, writer.paths.temp / "maps", compute
    )
    views = {"labelled": range(config.labelled_views), "unlabelled": range(0)}
    fixed = [("labelled", name) for name in dict.fromkeys(("plain", *config.tta))]
    fixed += [("test", name) for name in config.tta]
    if config.student is not None:
        fixed += [("unlabelled", name) for name in config.teacher_tta]
        if network == config.networks()[0]:  # only the student trains on unlabelled films
            views["unlabelled"] = range(config.unlabelled_views)
    return MappedNetwork(
        network,
        backbone,
        films["labelled"],
        {
            name: [maker.of(films[name], name, view) for view in numbers]
            for name, numbers in views.items()
        },
        {(name, view): maker.of(films[name], name, view) for name, view in fixed},
    )


class FoldLogits:
    """Mean logits over networks and test-time views, of held-out, test and unlabelled films."""

    def __init__(self, config: DistilConfig, held_out: np.ndarray) -> None:
        self.config = config
        self.held_out = held_out
        self.parts: dict[str, list[np.ndarray]] = {name: [] for name in SETS}

    def add(
        self,
        model: LateClassifier,
        network: MappedNetwork,
        compute: Compute,
        sets: tuple[str, ...] = SETS,
    ) -> None:
        """Let one more network speak of these sets; each network counts the same."""
        for name in SETS:
            views = self.config.teacher_tta if name == "unlabelled" else self.config.tta
            known = [network.fixed[name, view] for view in views if (name, view) in network.fixed]
            if known and name in sets:
                rows = self.held_out if name == "labelled" else np.arange(len(known[0]))
                size = self.config.teacher.batch_size
                seen = [late_logits(model, maps[rows], size, compute) for maps in known]
                self.parts[name].append(np.mean(seen, axis=0))

    @property
    def held(self) -> np.ndarray:
        """Of the held-out films, shape (M, K)."""
        return np.asarray(np.mean(self.parts["labelled"], axis=0))

    @property
    def test(self) -> np.ndarray:
        """Of the test films, shape (T, K)."""
        return np.asarray(np.mean(self.parts["test"], axis=0))

    @property
    def unlabelled(self) -> np.ndarray:
        """Of the unlabelled films, shape (U, K)."""
        return np.asarray(np.mean(self.parts["unlabelled"], axis=0))


def fit_late(
    network: MappedNetwork,
    config: DistilConfig,
    fit: TrainConfig,
    targets: np.ndarray,
    rows: np.ndarray,
    held_out: np.ndarray,
    seed: int,
    compute: Compute,
    writer: OutputWriter,
    label: str,
    slot: TrainingSlot,
) -> tuple[LateClassifier, list[dict[str, Any]]]:
    """A fresh pretrained classifier whose later stages are trained on cached maps; and its history.

    Args:
        targets: In [0, 1], shape (L + U, K) or (L, K): labelled rows first, then unlabelled ones.
        rows: Rows of ``targets`` to train on; a row that is there twice is seen twice in an epoch.
        held_out: Labelled rows that are only scored.

    Raises:
        ValueError: When a row is both trained on and held out.
    """
    refuse_shared_rows(rows, held_out)
    torch.manual_seed(seed)
    fresh = create_backbone(
        network.network.backbone,
        "random",
        network.network.image_size,
        {},
        frozen_stages=network.network.frozen_stages,
    )
    fresh.load_state_dict(network.backbone.state_dict())
    fresh.weights_from = network.backbone.weights_from
    model = LateClassifier(fresh, config.head, targets.shape[1])
    if "parameters" not in writer.notes:
        writer.note(parameters=count_parameters(model))
    labelled, unlabelled = network.random["labelled"], network.random["unlabelled"]
    truth = targets.astype(np.float32)
    plain = network.fixed["labelled", "plain"][held_out]

    def maps_of(places: np.ndarray, epoch: int) -> np.ndarray:
        """Maps of rows of the joined table, each epoch in another view."""
        first = labelled[epoch % len(labelled)]
        if not len(unlabelled):
            return first[places]
        second = unlabelled[epoch % len(unlabelled)]
        out = np.empty((len(places), *first.shape[1:]), dtype=first.dtype)
        known = places < len(first)
        out[known] = first[places[known]]
        out[~known] = second[places[~known] - len(first)]
        return out

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(derive_seed(seed, "data", epoch))
        for places in split_batches(epoch_order(truth[rows], "shuffle", rng), fit.batch_size):
            chosen = rows[places]
            yield map_tensor(maps_of(chosen, epoch)), torch.from_numpy(truth[chosen])

    def validate(candidate: nn.Module) -> float:
        assert isinstance(candidate, LateClassifier)
        probs = late_probs(candidate, plain, fit.batch_size, compute, writer.goal)
        return writer.fold_score(targets[held_out].astype(np.int64), probs)

    kept = truth[rows]
    history = fit_model(
        model,
        batches,
        count_batches(len(rows), fit.batch_size),
        fit,
        compute,
        derive_seed(seed, "fit"),
        build_loss(
            fit, np.stack([(1.0 - kept).sum(axis=0), kept.sum(axis=0)]), writer.goal.exclusive
        ),
        validate,
        label,
        slot,
        writer.goal,
    )
    return model, history


def save_kept(
    network: MappedNetwork,
    config: DistilConfig,
    writer: OutputWriter,
    kept: tuple[LateClassifier, list[dict[str, Any]]],
    seed: int,
    fold: int,
) -> None:
    """The checkpoint of a fold: the student, or without one the first teacher."""
    model, history = kept
    row = next(row for row in history if row["kept"])
    save_classifier(
        writer.checkpoint_path(f"{network.stem}_best_seed{seed}_fold{fold}.pth"),
        model,
        config.head,
        epoch=row["epoch"],
        val_auc=row["val_auc"],
        img_size=network.network.image_size,
        seed=seed,
        fold=fold,
        exclusive=writer.goal.exclusive,
        weights_from=network.backbone.weights_from,
    )


def student_rows(train: np.ndarray, labelled: int, unlabelled: int, repeats: int) -> np.ndarray:
    """Rows of an epoch: the fold's labelled rows ``repeats`` times, every unlabelled row once."""
    return np.concatenate([np.tile(train, repeats), labelled + np.arange(unlabelled)])


def student_targets(
    targets: np.ndarray,
    train: np.ndarray,
    smoothing: float,
    soft: np.ndarray,
    exclusive: bool = False,
) -> np.ndarray:
    """What a student learns: labels as the teachers were taught them, then the teachers' own.

    Training rows are smoothed, so that labels and soft labels speak one scale; held-out rows stay 0
    and 1, since they are only scored.
    """
    labels = targets.astype(np.float64)
    known = torch.from_numpy(labels[train])
    labels[train] = smooth_targets(known, smoothing, exclusive).numpy()
    return np.concatenate([labels, soft])


def describe_labels(soft: np.ndarray) -> str:
    """How many pseudo-labels there are and how sure the teachers are, for the log."""
    sure = float(np.mean(np.abs(soft - 0.5) > 0.4))
    return f"{len(soft)} pseudo-labels, mean {float(soft.mean()):.3f}, {sure:.0%} of them sure"
