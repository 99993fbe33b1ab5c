"""Losses against the numerical oracles of ml-notes.md, against torch, and at their minima."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from kernels.blocks.losses import (
    binary_cross_entropy,
    build_loss,
    class_weights,
    focal_loss,
    focal_terms,
    smooth_targets,
    weighted_cross_entropy,
)
from kernels.config import TrainConfig

LOGITS = torch.tensor([-2.0, 0.0, 1.5, 3.0, -1.0], dtype=torch.float64)[:, None]
TARGETS = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)[:, None]


def close(actual, expected) -> None:
    np.testing.assert_allclose(np.asarray(actual).ravel(), expected, rtol=0, atol=2e-9)


def minimiser(loss, target: float) -> float:
    """The probability at which a loss of one film is least, by a fine grid."""
    probs = torch.linspace(1e-4, 1 - 1e-4, 99_981, dtype=torch.float64)[:, None]
    terms = loss(torch.logit(probs), torch.full_like(probs, target))
    return float(probs[terms.argmin()])


def test_bce():  # oracle 28
    each = functional.binary_cross_entropy_with_logits(LOGITS, TARGETS, reduction="none")
    close(each, [0.1269280110, 0.6931471806, 0.2014132780, 3.0485873516, 1.3132616875])
    close(binary_cross_entropy(LOGITS, TARGETS), 1.0766675017)


def test_focal_of_hard_targets():  # oracles 29, 30
    each = focal_terms(LOGITS, TARGETS, 0.25, 2.0)
    close(each, [0.0013526721, 0.0433216988, 0.0016757117, 2.0747103308, 0.1754670759])
    close(focal_loss(LOGITS, TARGETS), 0.4593054979)
    each = focal_terms(LOGITS, TARGETS, None, 2.0)
    close(each, [0.0018035629, 0.1732867951, 0.0067028469, 2.7662804410, 0.7018683034])


def test_focal_of_smoothed_targets_is_linear():  # oracle 31
    soft = smooth_targets(TARGETS, 0.1)
    close(soft, [0.05, 0.95, 0.95, 0.05, 0.95])
    each = focal_terms(LOGITS, soft, 0.25, 2.0)
    close(each, [0.0219110158, 0.0476538687, 0.0442396380, 1.9709761803, 0.1675433992])
    close(focal_loss(LOGITS, soft), 0.4504648204)


def test_torchvisions_focal_loss_undoes_smoothing_and_ours_does_not():  # oracle 32
    from torchvision.ops import sigmoid_focal_loss

    soft = smooth_targets(TARGETS, 0.1)
    theirs = sigmoid_focal_loss(LOGITS, soft, alpha=0.25, gamma=2.0)
    close(theirs, [0.0040699365, 0.0476538687, 0.0034870765, 1.7299845395, 0.1741143353])
    close(theirs.mean(), 0.3918619513)
    assert float(focal_loss(LOGITS, soft)) > float(theirs.mean())


def test_focal_of_a_mix_is_the_mix_of_focals():  # oracle 33
    logit = torch.tensor([[0.7]], dtype=torch.float64)
    mixed = focal_loss(logit, torch.full_like(logit, 0.3))
    close(mixed, 0.2619153511)
    one, zero = (
        focal_loss(logit, torch.ones_like(logit)),
        focal_loss(logit, torch.zeros_like(logit)),
    )
    close(mixed, 0.3 * one + 0.7 * zero)


@pytest.mark.parametrize(
    ("target", "alpha_quarter", "alpha_half", "bce"),
    [(0.95, 0.6657, 0.7498, 0.95), (0.3, 0.3260, 0.4215, 0.3), (0.5, 0.3988, 0.5, 0.5)],
)
def test_where_losses_are_least(target, alpha_quarter, alpha_half, bce):  # oracles 34, 35
    found = minimiser(lambda z, t: focal_terms(z, t, 0.25, 2.0), target)
    assert found == pytest.approx(alpha_quarter, abs=1e-4)
    found = minimiser(lambda z, t: focal_terms(z, t, 0.5, 2.0), target)
    assert found == pytest.approx(alpha_half, abs=1e-4)
    found = minimiser(
        lambda z, t: functional.binary_cross_entropy_with_logits(z, t, reduction="none"), target
    )
    assert found == pytest.approx(bce, abs=1e-4)


@pytest.mark.parametrize(("target", "gradient"), [(0.0, 0.2237150964), (1.0, -0.0745716988)])
def test_focal_gradient_of_an_undecided_film(target, gradient):  # oracle 36
    logit = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    focal_loss(logit, torch.full((1, 1), target, dtype=torch.float64)).backward()
    close(logit.grad, gradient)


def test_focal_without_gamma_is_half_the_cross_entropy():
    half = focal_loss(LOGITS, TARGETS, alpha=0.5, gamma=0.0)
    close(half, 0.5 * binary_cross_entropy(LOGITS, TARGETS))


def test_focal_stays_finite_far_out():
    far = torch.tensor([[-200.0], [200.0]], requires_grad=True)
    value = focal_loss(far, torch.tensor([[1.0], [0.0]]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(far.grad).all()


def test_class_weights():  # oracle 37
    counts = np.array([1341, 3875])
    close(class_weights(counts), [1.4858128834, 0.5141871166])
    close(class_weights(counts, "balanced"), [1.9448173005, 0.6730322581])
    with pytest.raises(ValueError, match="both classes need rows"):
        class_weights(np.array([0, 5]))


def test_weighted_cross_entropy_equals_torchs_on_two_scores():  # oracle 38
    scores = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 0])
    weights = torch.from_numpy(class_weights(np.array([1341, 3875])))
    logits = (scores[:, 1] - scores[:, 0])[:, None]
    targets = labels.double()[:, None]
    close(weighted_cross_entropy(logits, targets, weights), 0.4477004539)
    close(
        weighted_cross_entropy(logits, targets, weights, reduction="none"),
        [0.4654482513, 0.0652647480, 1.0298870110],
    )
    close(weighted_cross_entropy(logits, targets, torch.ones(2)), 0.3777789597)
    expected = functional.cross_entropy(scores, labels, weight=weights)
    close(weighted_cross_entropy(logits, targets, weights), expected)


def test_weights_scale_cancels_and_each_target_has_its_own():
    counts = np.array([[30, 5], [10, 35]])
    weights = torch.from_numpy(class_weights(counts))
    logits, targets = torch.randn(6, 2).double(), torch.rand(6, 2).double().round()
    once = weighted_cross_entropy(logits, targets, weights)
    close(weighted_cross_entropy(logits, targets, weights * 7), once)
    flipped = weighted_cross_entropy(logits, targets, weights.flip(1))
    assert not torch.isclose(once, flipped)


@pytest.mark.parametrize("name", ["bce", "focal", "weighted_ce"])
def test_config_builds_each_loss_and_shapes_must_agree(name):
    loss = build_loss(TrainConfig(loss=name), np.array([[3.0], [9.0]]))
    assert float(loss(LOGITS.float(), TARGETS.float())) > 0
    with pytest.raises(ValueError, match=r"\(5, 1\), targets \(5,\)"):
        loss(LOGITS, TARGETS[:, 0])


def test_config_passes_its_numbers_on():
    config = TrainConfig(loss="focal", focal_alpha=0.6, focal_gamma=1.0)
    value = build_loss(config, np.array([[1.0], [1.0]]))(LOGITS, TARGETS)
    close(value, focal_loss(LOGITS, TARGETS, 0.6, 1.0))
    with pytest.raises(ValueError, match="loss is 'hinge', not one of bce, focal"):
        TrainConfig(loss="hinge")
    with pytest.raises(ValueError, match=r"label_smoothing is 1\.5"):
        smooth_targets(TARGETS, 1.5)
