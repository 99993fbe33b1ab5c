"""SimSiam's parts against the paper, the oracles of ml-notes.md, and each other."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from kernels.blocks.knn_probe import knn_auc, knn_scores
from kernels.blocks.pretraining import keep_norm_statistics
from kernels.blocks.simsiam import (
    SimSiam,
    effective_rank,
    embedding_std,
    negative_cosine,
    prediction_head,
    projection_head,
    simsiam_loss,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pooling(nn.Sequential):
    """A tiny backbone: maps, and the mean over positions."""

    def pool(self, maps):
        return maps.mean(dim=(2, 3))


def parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_parameter_counts():  # oracle 24
    assert parameters(projection_head(1280, 2048, 2048)) == 11_018_240
    assert parameters(projection_head(1280, 1280, 2048)) == 5_903_360
    assert parameters(prediction_head(2048, 512)) == 2_100_224


def test_norms_that_keep_their_statistics_do_not_move():  # oracle 27
    films = (torch.arange(16.0) + 10).view(4, 1, 2, 2)
    moving, kept = nn.BatchNorm2d(1), nn.Sequential(nn.BatchNorm2d(1))
    moving.train()(films)
    assert float(moving.running_mean) == pytest.approx(1.75)
    assert float(moving.running_var) == pytest.approx(3.1666666667)
    keep_norm_statistics(kept.train())
    kept(films)
    assert (float(kept[0].running_mean), float(kept[0].running_var)) == (0.0, 1.0)
    assert kept[0].weight.requires_grad  # scales and shifts still learn


def test_projections_are_standardised_and_predictions_are_not():
    torch.manual_seed(0)
    z = projection_head(8, 16, 12)(torch.randn(64, 8) * 5 + 2)
    torch.testing.assert_close(z.mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(12), atol=1e-3, rtol=0)
    p = prediction_head(12, 4)(z)
    assert p.shape == z.shape and torch.linalg.matrix_rank(p - p.mean(0)) == 4  # the bottleneck


P1 = torch.tensor([[1.0, 2, 0], [0, 1, 1]])
Z2 = torch.tensor([[1.0, 2, 2], [0, 1, 1]])
P2 = torch.tensor([[1.0, 0, 0], [0, 2, 1]])
Z1 = torch.tensor([[2.0, 1, 0], [0, 1, -1]])


def test_loss_values():  # oracle 22
    assert float(negative_cosine(P1, Z2)) == pytest.approx(-0.8726779962, abs=1e-6)
    assert float(negative_cosine(P2, Z1)) == pytest.approx(-0.6053274785, abs=1e-6)
    assert float(simsiam_loss(P1, P2, Z1, Z2)) == pytest.approx(-0.7390027374, abs=1e-6)


def test_loss_is_symmetric_scale_free_and_minus_one_for_equal_views():
    assert torch.equal(simsiam_loss(P1, P2, Z1, Z2), simsiam_loss(P2, P1, Z2, Z1))
    torch.testing.assert_close(simsiam_loss(P1 * 7, P2, Z1, Z2 * 3), simsiam_loss(P1, P2, Z1, Z2))
    torch.testing.assert_close(simsiam_loss(P1, P2, P2, P1), torch.tensor(-1.0))


def test_targets_carry_no_gradient():
    tensors = [value.clone().requires_grad_() for value in (P1, P2, Z1, Z2)]
    simsiam_loss(*tensors).backward()
    assert tensors[0].grad is not None and tensors[0].grad.abs().sum() > 0
    assert tensors[2].grad is None and tensors[3].grad is None


def test_loss_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="equal"):
        simsiam_loss(P1, P2, Z1, Z2[:1])


@pytest.mark.parametrize(("width", "wanted"), [(2048, 0.022097), (1280, 0.027951), (512, 0.044194)])
def test_std_of_spread_directions(width, wanted):  # oracle 23
    torch.manual_seed(0)
    assert embedding_std(torch.randn(2000, width)) == pytest.approx(wanted, rel=2e-3)
    assert embedding_std(torch.randn(1, width).expand(50, -1)) == pytest.approx(0, abs=1e-7)


def test_effective_rank_counts_equal_directions():
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert effective_rank(corners) == pytest.approx(6)
    assert effective_rank(torch.arange(9.0)[:, None] * torch.ones(1, 5)) == pytest.approx(
        1, abs=1e-4
    )
    assert effective_rank(torch.ones(8, 5)) == 1.0


def test_effective_rank_equals_the_definition_for_wide_and_tall_tables():
    torch.manual_seed(0)
    for shape in ((20, 50), (50, 20)):
        rows = torch.randn(shape) * torch.rand(shape[1])
        values = torch.linalg.svdvals((rows - rows.mean(0)).double())
        shares = values / values.sum()
        wanted = math.exp(-sum(float(s) * math.log(float(s)) for s in shares if s > 1e-12))
        assert effective_rank(rows) == pytest.approx(wanted, rel=1e-4)


def test_network_pools_the_map_and_sees_views_apart():
    torch.manual_seed(0)
    backbone = Pooling(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6))
    model = SimSiam(backbone, projection_head(6, 10, 10), prediction_head(10, 4))
    first, second = torch.rand(8, 1, 9, 9), torch.rand(8, 1, 9, 9) * 4
    p1, p2, z1, _ = model(first, second)
    alone = projection_head(6, 10, 10)
    alone.load_state_dict(model.projector.state_dict())
    torch.testing.assert_close(z1, alone(backbone(first).mean(dim=(2, 3))))
    assert p1.shape == p2.shape == (8, 10)


def test_training_raises_the_agreement_of_pairs_without_collapse():
    torch.manual_seed(0)
    backbone = Pooling(
        nn.Conv2d(1, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, 2)
    )
    model = SimSiam(backbone, projection_head(24, 32, 32), prediction_head(32, 8))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    films = torch.rand(64, 1, 16, 16)
    losses = []
    for _ in range(30):
        noise = torch.rand(2, 64, 1, 16, 16) * 0.3
        p1, p2, z1, z2 = model(films + noise[0], films + noise[1])
        loss = simsiam_loss(p1, p2, z1, z2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.2
    assert embedding_std(z1) > 0.5 / math.sqrt(32)


def clusters():
    rng = np.random.default_rng(0)
    targets = np.arange(60) % 2
    features = rng.normal(size=(60, 8)) + 4 * targets[:, None]
    return features, targets


def test_probe_separates_clusters_and_is_lost_on_noise():
    features, targets = clusters()
    assert knn_auc(features, targets, np.arange(60), 5) > 0.99
    noise = np.random.default_rng(1).normal(size=(400, 8))
    assert abs(knn_auc(noise, np.arange(400) % 2, np.arange(400), 20) - 0.5) < 0.1


def test_a_row_never_votes_for_its_own_group():
    # Each noise row has an exact copy with the same label: only the copy could give the answer away.
    noise = np.random.default_rng(1).normal(size=(200, 8))
    copies, targets = np.repeat(noise, 2, axis=0), np.repeat(np.arange(200) % 2, 2)
    leaky = knn_auc(copies, targets, np.arange(400), 1)
    clean = knn_auc(copies, targets, np.repeat(np.arange(200), 2), 1)
    assert leaky > 0.99 and clean < 0.65


def test_probe_votes_are_shares_and_a_single_group_is_refused():
    features, targets = clusters()
    scores = knn_scores(features, targets, np.arange(60), 500)
    assert scores.shape == (60,) and scores.min() >= 0 and scores.max() <= 1
    with pytest.raises(ValueError, match="group"):
        knn_scores(features, targets, np.zeros(60, int))
