"""The training loop, once for every story: films, cached features, pseudo-labels.

``fit_model`` knows nothing of films. Its data is a callable: batches(epoch) gives (inputs, targets)
for one epoch, inputs being uint8 films (B, 1, H, W) or float features (B, C), targets floats (B,
K). ``fit_classifier`` is that loop with augmented films from the uint8 cache. Everything random is
drawn from generators made of (seed, epoch), so that an epoch does not depend on what ran before it.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kernels.blocks.augment import augment_batch
from kernels.blocks.devices import Compute
from kernels.blocks.ema import ModelEma
from kernels.blocks.entry import say
from kernels.blocks.folds import refuse_shared_rows
from kernels.blocks.goal import INDEPENDENT, Goal
from kernels.blocks.losses import LossFunction, build_loss, smooth_targets
from kernels.blocks.mixing import mix_batch, mixing_on
from kernels.blocks.optimisers import Schedule, build_optimiser
from kernels.blocks.predicting import gray_tensor, predict_probs
from kernels.blocks.resuming import StatefulPart, TrainingSlot
from kernels.blocks.samplers import count_batches, epoch_order, split_batches, subset_rows
from kernels.blocks.seed import derive_seed
from kernels.config import TrainConfig

EpochBatches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
PrefetchedItem = TypeVar("PrefetchedItem")


def fit_model(
    model: nn.Module,
    batches: EpochBatches,
    steps: int,
    config: TrainConfig,
    compute: Compute,
    seed: int,
    loss: LossFunction,
    validate: Callable[[nn.Module], float],
    label: str = "",
    slot: TrainingSlot | None = None,
    goal: Goal = INDEPENDENT,
) -> list[dict[str, Any]]:
    """Train a network in place; one line in the log for each epoch.

    Args:
        model: Inputs -> logits (B, K); a frozen part takes no gradients and stays in eval mode by
            itself. Afterwards it holds the last epoch's weights (averaged ones with EMA), or the
            best epoch's when ``config.early_stop_patience`` is set.
        batches: Data of epoch 0, 1, ...; the same epoch always gives the same batches.
        steps: Batches in an epoch.
        seed: Decides dropout and mixing.
        loss: Of logits (B, K) and soft targets (B, K).
        validate: The metric of the network as it would be kept.
        label: Starts each log line.
        slot: Where this fit is kept when the session's time runs out, and goes on from.
        goal: Says which of two scores is better, and whether targets are classes.

    Returns:
        One row an epoch: epoch (from 1), loss, val_auc (the metric, whichever it is), lr (the head's,
        at the last step), seconds, and kept, 1 for the epoch whose weights the network holds.

    Raises:
        ValueError: When the loss is no longer a finite number.
        BudgetSpent: Between two epochs, after everything was saved in the slot.
    """
    compute.place(model)
    optimiser = build_optimiser(model, config.optim)
    schedule = Schedule(optimiser, config.optim, config.epochs, steps)
    scaler = compute.scaler()
    average = None if config.ema_decay is None else ModelEma(model, config.ema_decay)
    keeper = BestKeeper(config.early_stop_patience)
    history: list[dict[str, Any]] = []
    parts: dict[str, StatefulPart] = {
        "model": model, "optimiser": optimiser, "schedule": schedule, "scaler": scaler, "keeper": keeper
    }  # fmt: skip
    if average is not None:
        parts["average"] = average
    named = "AUC" if goal.metric == "auc" else goal.metric
    done = 0 if slot is None else slot.restore(parts, history)
    for epoch in range(config.epochs if done is None else done, config.epochs):
        if slot is not None:
            longest = max((float(row["seconds"]) for row in history), default=0.0)
            slot.pause_if_due(parts, history, epoch, config.epochs, longest)
        started = time.monotonic()
        torch.manual_seed(derive_seed(seed, "epoch", epoch))
        mix_rng = np.random.default_rng(derive_seed(seed, "mix", epoch))
        mixed = mixing_on(config.mix, epoch, config.epochs)
        model.train()
        losses, lr = [], 0.0
        for step, (inputs, targets) in enumerate(prefetch(compute.pinned(batches(epoch)))):
            lr = schedule.before_step(epoch * steps + step)
            inputs = compute.put(inputs)
            targets = smooth_targets(compute.put(targets), config.label_smoothing, goal.exclusive)
            if mixed:
                inputs, targets = mix_batch(inputs, targets, config.mix, mix_rng)
            with compute.autocast():
                logits = model(inputs)
            value = loss(logits.float(), targets)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(value).backward()
            if config.optim.clip_grad_norm is not None:
                scaler.unscale_(optimiser)
                nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_grad_norm)
            scaler.step(optimiser)
            scaler.update()
            if average is not None:
                average.update(model)
            losses.append(value.detach())
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise ValueError(
                f"{label}loss is {mean_loss} in epoch {epoch + 1}; lower the learning rate"
            )
        candidate = model if average is None else average.model
        score = validate(candidate)
        seconds = time.monotonic() - started
        say(
            f"{label}epoch {epoch + 1}/{config.epochs} | loss {mean_loss:.4f} | val {named} {score:.4f} | "
            f"lr {lr:.2e} | {seconds:.1f} s"
        )
        row = {"epoch": epoch + 1, "loss": mean_loss, "val_auc": score, "lr": lr}
        history.append({**row, "seconds": round(seconds, 2), "kept": 0})
        schedule.after_epoch(goal.gain(score))
        stop = keeper.should_stop(epoch, goal.gain(score), candidate)
        if slot is not None:
            slot.session.worked()
        if stop:
            say(f"{label}stopped: no better epoch than {keeper.epoch + 1} since")
            break
    if slot is not None:
        slot.finish(parts, history, len(history))
    keeper.give_back(model if average is None else average.model, model)
    history[keeper.epoch]["kept"] = 1
    return history


class BestKeeper:
    """Which epoch's weights a training ends with: the last, or with a patience the best.

    The best of many epochs on a small fold looks better than it is: fixed epochs are the default.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.epoch = 0
        self.score = -math.inf
        self.state: dict[str, Any] | None = None

    def should_stop(self, epoch: int, score: float, model: nn.Module) -> bool:
        """Look at one epoch's score, greater is better; True when the patience is used up."""
        if self.patience is None:
            self.epoch, self.score = epoch, score
            return False
        if score > self.score:
            self.epoch, self.score = epoch, score
            self.state = copy.deepcopy(model.state_dict())
        return epoch - self.epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, with its weights."""
        return {"epoch": self.epoch, "score": self.score, "state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.score = int(state["epoch"]), float(state["score"])
        self.state = state["state"]

    def give_back(self, final: nn.Module, model: nn.Module) -> None:
        """Put the kept weights into the trained network."""
        if self.state is not None:
            model.load_state_dict(self.state)
        elif final is not model:
            model.load_state_dict(final.state_dict())


def fit_classifier(
    model: nn.Module,
    images: np.ndarray,
    targets: np.ndarray,
    rows: np.ndarray,
    held_rows: np.ndarray,
    config: TrainConfig,
    image_size: int,
    seed: int,
    compute: Compute,
    score: Callable[[np.ndarray, np.ndarray], float],
    label: str = "",
    slot: TrainingSlot | None = None,
    goal: Goal = INDEPENDENT,
) -> list[dict[str, Any]]:
    """Train on augmented films from the uint8 cache.

    Args:
        model: Films (B, 1, S, S) in [0, 1] -> logits (B, K).
        images: uint8, shape (N, H, W).
        targets: In [0, 1], shape (N, K); held-out rows are 0 or 1.
        rows: Rows to train on.
        held_rows: Rows whose score is logged (and watched by early stopping and plateau); never
            trained on.
        image_size: Side S of the augmented views; held-out films are seen as they are.
        seed: Decides order, views, mixing and dropout.
        score: The metric, of targets and probabilities, both (M, K).
        label: Starts each log line.
        slot, goal: See fit_model.

    Returns:
        History rows, see fit_model.

    Raises:
        ValueError: When a row is both trained on and held out.
    """
    refuse_shared_rows(rows, held_rows)
    rows = subset_rows(targets, rows, config.rows_per_class, derive_seed(seed, "subset"))
    truth = targets[rows].astype(np.float32)
    held_images = np.asarray(images[held_rows])

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(derive_seed(seed, "data", epoch))
        order = epoch_order(truth, config.sampler, rng)
        for places in split_batches(order, config.batch_size):
            films = np.asarray(images[rows[places]])
            views = augment_batch(films, config.augment, image_size, rng)
            yield gray_tensor(views), torch.from_numpy(truth[places])

    def validate(candidate: nn.Module) -> float:
        probs = predict_probs(
            candidate, held_images, ("plain",), config.batch_size, compute, goal=goal
        )
        return score(targets[held_rows], probs)

    return fit_model(
        model,
        batches,
        count_batches(len(rows), config.batch_size),
        config,
        compute,
        seed,
        build_loss(
            config, np.stack([(1.0 - truth).sum(axis=0), truth.sum(axis=0)]), goal.exclusive
        ),
        validate,
        label,
        slot,
        goal,
    )


def prefetch(items: Iterable[PrefetchedItem]) -> Iterator[PrefetchedItem]:
    """The same items, the next one made in a thread while this one is used.

    Drawing views leaves the interpreter's lock in OpenCV, so a GPU waits less; order and content
    stay.
    """
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = worker.submit(next, iterator, end)
            yield item  # type: ignore[misc]
