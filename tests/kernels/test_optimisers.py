"""Optimiser steps and schedules against the oracles, torch's schedulers and the groups they act on."""

import numpy as np
import pytest
import torch
from torch import nn

from kernels.blocks.ema import ModelEma
from kernels.blocks.models import Classifier, create_backbone
from kernels.blocks.optimisers import Schedule, build_optimiser, lr_factor, parameter_groups
from kernels.blocks.samplers import count_batches, epoch_order, split_batches
from kernels.config import HeadConfig, OptimConfig

SMALL = "tf_efficientnet_lite0.in1k"


class OneWeight(nn.Module):
    """A network of one number, so that steps can be followed by hand."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[start]], dtype=torch.float64))


def classifier(frozen: bool = False, name: str = SMALL, size: int = 32) -> Classifier:
    return Classifier(create_backbone(name, "random", size, {}, frozen=frozen), HeadConfig())


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            OptimConfig(name="rmsprop", lr=1e-4, weight_decay=1e-6),
            [0.9990000002, 0.9982911191, 0.9977108701],
        ),
        (
            OptimConfig(name="adamw", lr=1e-4, weight_decay=1e-5),
            [0.9998999990, 0.9997999980, 0.9996999970],
        ),
        (
            OptimConfig(name="sgd", lr=0.03, weight_decay=1e-4, momentum=0.9),
            [0.984997, 0.9564913450, 0.9158333864],
        ),
    ],
    ids=["rmsprop", "adamw", "sgd"],
)
def test_three_steps_of_each_optimiser(config, expected):  # oracles 45, 46, 47
    model = OneWeight()
    optimiser = build_optimiser(model, config)
    seen = []
    for _ in range(3):
        model.weight.grad = torch.full_like(model.weight, 0.5)
        optimiser.step()
        seen.append(model.weight.item())
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-9)


def rates(config: OptimConfig, epochs: int, wanted: list[int], steps: int = 1) -> list[float]:
    """Learning rate at the start of epochs, as the training loop sets it."""
    schedule = Schedule(build_optimiser(OneWeight(), config), config, epochs, steps)
    return [schedule.before_step(epoch * steps) for epoch in wanted]


def test_warm_restarts():  # oracle 42
    config = OptimConfig(lr=1e-4, schedule="warm_restarts", restart_epochs=10, restart_factor=2)
    expected = [1e-4, 5e-5, 2.447174e-6, 1e-4, 5e-5, 6.155830e-7, 1e-4, 5e-5, 1.752760e-5]
    expected += [1.464466e-5, 1e-4]
    epochs = [0, 5, 9, 10, 20, 29, 30, 50, 59, 60, 70]
    for steps in (1, 7, 54):  # an epoch's start must not fall to the wrong side of a restart
        np.testing.assert_allclose(rates(config, 71, epochs, steps), expected, rtol=1e-6)


def test_cosine():  # oracle 43
    config = OptimConfig(lr=0.03, schedule="cosine")
    expected = [0.0298153251, 0.0256066017, 0.015, 0.0043933983, 0.0001846749, 0.0]
    np.testing.assert_allclose(rates(config, 20, [1, 5, 10, 15, 19, 20]), expected, atol=1e-9)


def test_plateau_follows_torch_in_max_mode():  # oracle 44
    config = OptimConfig(lr=1e-4, schedule="plateau", plateau_factor=0.5, plateau_patience=5)
    optimiser = build_optimiser(OneWeight(), config)
    schedule = Schedule(optimiser, config, 40, 1)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(other, mode="max", factor=0.5, patience=5)
    scores = [0.90] + [0.95] * 12 + [0.97] + [0.97005] * 14 + [0.99] + [0.98] * 8
    seen = []
    for epoch, score in enumerate(scores):
        schedule.after_epoch(score)
        peer.step(score)
        seen.append(schedule.before_step(epoch))
        assert seen[-1] == pytest.approx(other.param_groups[0]["lr"]), epoch
    assert seen[:8] == pytest.approx([1e-4] * 7 + [5e-5])
    assert seen[-1] < seen[8]


def test_one_cycle_follows_torch():
    config = OptimConfig(name="sgd", lr=0.1, schedule="one_cycle")
    steps = 2000
    schedule = Schedule(build_optimiser(OneWeight(), config), config, 10, steps // 10)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    peer = torch.optim.lr_scheduler.OneCycleLR(other, 0.1, total_steps=steps, cycle_momentum=False)
    for step in range(steps - 1):
        assert schedule.before_step(step) == pytest.approx(other.param_groups[0]["lr"], abs=2e-4), (
            step
        )
        other.step()
        peer.step()


def test_warm_up_climbs_to_the_full_rate_and_scales_every_group_alike():
    config = OptimConfig(lr=1e-4, head_lr=1e-3, schedule="cosine", warmup_share=0.1)
    assert lr_factor(config, 0.05, 10) == pytest.approx(0.5)
    assert lr_factor(config, 0.1, 10) == pytest.approx(1.0)
    assert lr_factor(config, 1.0, 10) == pytest.approx(0.0)
    optimiser = build_optimiser(classifier(), config)
    schedule = Schedule(optimiser, config, 10, 10)
    assert schedule.before_step(5) == pytest.approx(0.5e-3)
    assert {group["name"]: group["lr"] for group in optimiser.param_groups} == pytest.approx(
        {"backbone": 0.5e-4, "head": 0.5e-3}
    )


def test_groups_hold_every_trainable_weight_once_and_spare_norms_and_biases():
    model = classifier()
    config = OptimConfig(lr=1e-4, head_lr=1e-3, weight_decay=0.05)
    groups = parameter_groups(model, config)
    listed = [id(value) for group in groups for value in group["params"]]
    assert sorted(listed) == sorted(id(value) for value in model.parameters())
    by_id = {
        id(value): (group["lr"], group["weight_decay"])
        for group in groups
        for value in group["params"]
    }
    assert by_id[id(model.backbone.trunk.conv_stem.weight)] == (1e-4, 0.05)
    assert by_id[id(model.backbone.trunk.bn1.weight)] == (1e-4, 0.0)
    assert by_id[id(model.head.layers[-1].weight)] == (1e-3, 0.05)
    assert by_id[id(model.head.layers[-1].bias)] == (1e-3, 0.0)
    everything = parameter_groups(model, OptimConfig(weight_decay=0.05, decay_norm_and_bias=True))
    assert {group["weight_decay"] for group in everything} == {0.05}


def test_frozen_backbone_is_in_no_group_and_a_bare_head_is_all_head():
    model = classifier(frozen=True)
    groups = parameter_groups(model, OptimConfig(lr=1e-4, head_lr=1e-3))
    assert {group["name"] for group in groups} == {"head"}
    assert sum(len(group["params"]) for group in groups) == 2
    bare = parameter_groups(nn.Linear(3, 1), OptimConfig(lr=1e-4))
    assert {group["lr"] for group in bare} == {1e-4}
    with pytest.raises(ValueError, match="no parameter is trainable"):
        parameter_groups(model.backbone, OptimConfig())


@pytest.mark.parametrize(
    ("name", "size", "first", "last"),
    [
        (SMALL, 32, "conv_stem.weight", "bn2.weight"),
        ("convnext_atto.d2_in1k", 32, "stem.0.weight", "head.norm.weight"),
        (
            "eva02_tiny_patch14_336.mim_in22k_ft_in1k",
            28,
            "patch_embed.proj.weight",
            "fc_norm.weight",
        ),
    ],
)
def test_layer_decay_slows_the_first_layers_most(name, size, first, last):
    model = classifier(name=name, size=size)
    groups = parameter_groups(model, OptimConfig(lr=1e-3, head_lr=5e-3, layer_decay=0.8))
    lr = {id(value): group["lr"] for group in groups for value in group["params"]}
    weights = dict(model.backbone.trunk.named_parameters())
    in_order = [lr[id(value)] for value in weights.values()]
    assert lr[id(weights[first])] == min(in_order)
    assert lr[id(weights[last])] == max(in_order) == pytest.approx(0.8e-3)
    assert len(set(in_order)) > 5
    assert lr[id(model.head.layers[-1].weight)] == 5e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "adam"}, "optim.name is 'adam', not one of adamw"),
        ({"schedule": "linear"}, "schedule is 'linear', not one of constant"),
        ({"lr": 0.0}, "lr is 0.0; it must be positive"),
        ({"layer_decay": 1.5}, r"layer_decay is 1.5, not in \(0, 1\]"),
        ({"warmup_share": 1.0}, "warmup_share is 1.0"),
        ({"restart_epochs": 0}, "restart_epochs is 0"),
    ],
)
def test_a_config_refuses_what_no_optimiser_can_follow(values, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**values)


# ---- moving average ------------------------------------------------------------------------------


def test_ema_after_three_ones():  # oracle 60
    model = OneWeight(0.0)
    average = ModelEma(model, 0.9, warm_up=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for _ in range(3):
        average.update(model)
    assert average.model.weight.item() == pytest.approx(0.271)


def test_ema_warms_up_copies_buffers_and_never_trains():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ModelEma(model, 0.999)
    model.train()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    model(torch.randn(8, 2))
    before = average.model[0].weight.clone()
    average.update(model)
    # The first update moves 0.9 of the way: (1 + 0) / (10 + 0) is the decay.
    torch.testing.assert_close(average.model[0].weight, before + 0.9)
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)
    assert not average.model[1].training
    assert not any(value.requires_grad for value in average.model.parameters())
    with pytest.raises(ValueError, match="ema_decay is 1"):
        ModelEma(model, 1.0)


# ---- samplers ------------------------------------------------------------------------------------


def test_shuffled_epoch_shows_every_row_once_and_differs_by_seed():
    targets = np.zeros((50, 1))
    first, again, other = (
        epoch_order(targets, "shuffle", np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert sorted(first) == list(range(50))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_balanced_epoch_shows_as_much_of_each_class_as_the_notes_say():
    targets = np.array([1] * 641 + [0] * 237)[:, None]
    shares, positives, negatives = [], [], []
    for seed in range(40):
        order = epoch_order(targets, "balanced", np.random.default_rng(seed))
        assert len(order) == 878
        seen = np.unique(order)
        shares.append(targets[order].mean())
        positives.append(np.sum(seen < 641) / 641)
        negatives.append(np.sum(seen >= 641) / 237)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.01)
    assert np.mean(positives) == pytest.approx(0.496, abs=0.01)  # ml-notes 1.11
    assert np.mean(negatives) == pytest.approx(0.843, abs=0.01)


def test_sampler_refuses_what_it_cannot_balance():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="both classes"):
        epoch_order(np.ones((5, 1)), "balanced", rng)
    with pytest.raises(ValueError, match="one target, not 2"):
        epoch_order(np.ones((5, 2)), "balanced", rng)
    with pytest.raises(ValueError, match="'weighted', not shuffle"):
        epoch_order(np.ones((5, 1)), "weighted", rng)


@pytest.mark.parametrize(("rows", "sizes"), [(10, [4, 4]), (8, [4, 4]), (3, [3])])
def test_batches_are_full_and_a_single_row_never_remains(rows, sizes):
    batches = list(split_batches(np.arange(rows), 4))
    assert [len(batch) for batch in batches] == sizes
    assert count_batches(rows, 4) == len(sizes)
