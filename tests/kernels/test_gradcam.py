"""Grad-CAM: the hand-computed case, its range, and that it points at a lesion drawn for the purpose."""

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from kernels.blocks.gradcam import grad_cam, overlay
from kernels.blocks.models import Backbone, Classifier
from kernels.config import HeadConfig


class TwoParts(nn.Module):
    """What grad_cam asks of a model."""

    def __init__(self, backbone: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.backbone, self.tail = backbone, tail


class PooledTail(nn.Module):
    """ReLU, global average, one linear row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 1)

    def forward(self, maps):
        return self.linear(functional.relu(maps).mean(dim=(2, 3)))[:, 0]


def hand_model(row: list[float]):
    conv, tail = nn.Conv2d(1, 2, 1, bias=False), PooledTail(2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        tail.linear.weight.copy_(torch.tensor([row]))
        tail.linear.bias.zero_()
    return TwoParts(conv, tail).eval()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


HAND_FILM = torch.tensor([[[[1.0, 2.0], [-1.0, 3.0]]]])


def test_hand_computed_map():  # oracle 59 of ml-notes.md
    cam = grad_cam(hand_model([2.0, -1.0]), HAND_FILM)
    torch.testing.assert_close(cam, torch.tensor([[[1 / 3, 2 / 3], [0.0, 1.0]]]))


def test_negative_class_is_explained_by_what_lowers_the_logit():
    cam = grad_cam(hand_model([2.0, -1.0]), HAND_FILM, positive=False)
    torch.testing.assert_close(cam, torch.tensor([[[0.0, 0.0], [1.0, 0.0]]]))


def test_no_evidence_gives_zeros_not_nan():
    cam = grad_cam(hand_model([0.0, 0.0]), HAND_FILM)
    assert torch.equal(cam, torch.zeros(1, 2, 2))


def test_a_batch_equals_its_films_one_by_one_and_parameters_get_no_gradient():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval()
    tail = PooledTail(4).eval()
    films = torch.rand(5, 1, 12, 12)
    together = grad_cam(TwoParts(backbone, tail).eval(), films)
    singles = torch.cat([grad_cam(TwoParts(backbone, tail).eval(), film[None]) for film in films])
    torch.testing.assert_close(together, singles)
    assert together.shape == (5, 8, 8) and together.min() >= 0 and together.max() <= 1
    assert all(p.grad is None for p in [*backbone.parameters(), *tail.parameters()])


def test_equals_the_plain_way_with_a_gradient_through_everything():
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval()
    tail, films = PooledTail(4).eval(), torch.rand(3, 1, 12, 12)
    maps = backbone(films)
    maps.retain_grad()
    tail(maps).sum().backward()
    plain = functional.relu((maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)).detach()
    plain = plain / plain.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)
    torch.testing.assert_close(grad_cam(TwoParts(backbone, tail).eval(), films), plain)


def test_one_of_two_logits_can_be_chosen():
    conv = hand_model([1.0, 1.0]).backbone
    tail = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        tail[3].weight.copy_(torch.tensor([[2.0, -1.0], [-2.0, 1.0]]))
    first, second = (
        grad_cam(TwoParts(conv, tail).eval(), HAND_FILM, output=index) for index in (0, 1)
    )
    assert first[0].argmax() == 3 and second[0].argmax() == 2


def test_training_mode_is_refused():
    with pytest.raises(ValueError, match="eval"):
        grad_cam(hand_model([1.0, 1.0]).train(), HAND_FILM)


def lesion_films(count: int, rng: np.random.Generator):
    """Noise, and for half of the films a soft bright spot; its place as (row, column)."""
    films = rng.normal(0.3, 0.1, (count, 1, 32, 32))
    places = rng.integers(6, 26, (count, 2))
    sick = np.arange(count) % 2 == 0
    y, x = np.mgrid[:32, :32]
    for index in np.flatnonzero(sick):
        row, column = places[index]
        films[index, 0] += 0.6 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    return torch.tensor(films, dtype=torch.float32), torch.tensor(sick), places


def test_peaks_where_the_lesion_is():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    backbone = nn.Sequential(
        nn.Conv2d(1, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1)
    )
    tail = PooledTail(16)
    optimiser = torch.optim.Adam([*backbone.parameters(), *tail.parameters()], lr=0.02)
    for _ in range(60):
        films, sick, _ = lesion_films(32, rng)
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(tail(backbone(films)), sick.float()).backward()
        optimiser.step()
    films, sick, places = lesion_films(64, rng)
    cams = grad_cam(TwoParts(backbone, tail).eval(), films)[sick].flatten(1)
    peaks = cams.argmax(dim=1).numpy()
    at = np.stack([peaks // 8, peaks % 8], axis=1) * 4 + 1.5  # cells of 4 pixels
    distance = np.abs(at - places[sick.numpy()]).max(axis=1)
    assert (distance <= 5).mean() > 0.9  # by chance about one in seven


def test_overlay_colours_only_where_the_map_is_warm():
    film = np.full((16, 24), 100, np.uint8)
    picture = overlay(film, np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert picture.shape == (16, 24, 3) and picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [100, 100, 100]
    red, green, blue = picture[-1, -1].tolist()
    assert red > green and red > blue  # RGB: the hot end of the scale is red
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        overlay(film, np.array([[0.0, np.nan]]))


# A map of each kind at the trunk's exit: NCHW with the norm in the map, NCHW with a late norm, NHWC, tokens.
@pytest.mark.parametrize(
    ("name", "arguments", "size", "grid"),
    [
        ("tf_efficientnet_lite0.in1k", {}, 64, 2),
        ("convnext_atto.d2_in1k", {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 24)}, 64, 2),
        ("swinv2_tiny_window8_256.ms_in1k", {"depths": (1, 1), "embed_dim": 24, "num_heads": (1, 2)}, 64, 8),
        ("eva02_tiny_patch14_224.mim_in22k", {"depth": 2, "embed_dim": 24, "num_heads": 2}, 56, 4),
    ],
)  # fmt: skip
def test_every_architecture_gives_maps_from_its_own_grid(name, arguments, size, grid):
    torch.manual_seed(0)
    extra = {} if "lite" in name or "convnext" in name else {"img_size": size}
    trunk = timm.create_model(name, pretrained=False, num_classes=0, **arguments, **extra)
    head = HeadConfig(attention="spatial", hidden=(8,), dropout=(0.1,))
    model = Classifier(Backbone(trunk, name), head).eval()
    films = torch.rand(3, 1, size, size)
    cams = torch.cat([grad_cam(model, films), grad_cam(model, films, positive=False)])
    assert cams.shape == (6, grid, grid)
    assert cams.min() >= 0 and torch.isfinite(cams).all()
    assert cams.max() == 1  # at least one of the two classes has evidence somewhere
    assert overlay(np.zeros((size, size), np.uint8), cams[0].numpy()).shape == (size, size, 3)
