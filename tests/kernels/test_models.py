"""Backbones leave one kind of map and lose no norm; counts match the oracles of ml-notes."""

import pytest
import timm
import torch
from torch import nn

from kernels.blocks.gradcam import grad_cam
from kernels.blocks.models import (
    Classifier,
    ClassifierHead,
    SpatialAttention,
    count_parameters,
    create_backbone,
    shrink,
)
from kernels.config import HeadConfig

# name, image size here, parameters without classifier (ml-notes 1.6), map at that size, mean
BACKBONES = [
    ("tf_efficientnet_lite0.in1k", 64, 3_371_008, (1280, 2, 2), 0.5),
    ("tf_efficientnet_b0.ns_jft_in1k", 64, 4_007_548, (1280, 2, 2), 0.485),
    ("tf_efficientnetv2_s.in21k_ft_in1k", 64, 20_177_488, (1280, 2, 2), 0.5),
    ("convnext_small.fb_in22k_ft_in1k_384", 64, 49_454_688, (768, 2, 2), 0.485),
    ("swinv2_small_window8_256.ms_in1k", 64, 48_959_418, (768, 2, 2), 0.485),
    # Its position table has 17 places at 56 pixels and 577 at 336.
    (
        "eva02_small_patch14_336.mim_in22k_ft_in1k",
        56,
        21_744_000 - 560 * 384,
        (384, 4, 4),
        0.48145466,
    ),
]
SMALL = "tf_efficientnet_lite0.in1k"
HEAD_S1 = HeadConfig(hidden=(1024, 512), dropout=(0.5, 0.5))
HEAD_S2 = HeadConfig(hidden=(1024, 512), dropout=(0.5, 0.25), batch_norm=True, attention="spatial")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def perturb(module: nn.Module) -> None:
    """Move every weight of a norm: at random start a forgotten norm would not show."""
    with torch.no_grad():
        for value in module.parameters():
            if value.ndim <= 1:
                value.add_(torch.rand_like(value))


@pytest.mark.parametrize(("name", "size", "parameters", "shape", "mean"), BACKBONES)
def test_backbone_gives_timms_own_features_as_a_map(name, size, parameters, shape, mean):
    backbone = create_backbone(name, "random", size, {}).eval()
    assert count_parameters(backbone) == parameters
    assert float(backbone.mean[0, 0]) == pytest.approx(mean)
    perturb(backbone)
    extra = {"img_size": size} if backbone.trunk.pretrained_cfg["fixed_input_size"] else {}
    stock = timm.create_model(name, pretrained=False, num_classes=0, **extra).eval()
    stock.load_state_dict(backbone.trunk.state_dict())
    data = timm.data.resolve_model_data_config(stock, use_test_size=True)
    films = torch.rand(2, 1, size, size)
    with torch.inference_mode():
        maps = backbone(films)
        pooled = backbone.pool(maps)
        color = films.repeat(1, 3, 1, 1)
        for channel in range(3):
            color[:, channel] = (color[:, channel] - data["mean"][channel]) / data["std"][channel]
        expected = stock.forward_head(stock.forward_features(color), pre_logits=True)
    assert maps.shape == (2, *shape)
    assert backbone.channels == shape[0]
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4)


def test_map_keeps_positions_for_tokens_and_channels_last():
    """A change in one corner of the film moves that corner of the map most, whatever the layout."""
    for name, size in (
        ("swinv2_tiny_window8_256.ms_in1k", 128),
        ("eva02_tiny_patch14_336.mim_in22k_ft_in1k", 112),
    ):
        backbone = create_backbone(name, "random", size, {}).eval()
        film = torch.full((1, 1, size, size), 0.5)
        marked = film.clone()
        marked[..., : size // 8, -size // 8 :] = 1.0  # top right
        with torch.inference_mode():
            change = (backbone(marked) - backbone(film)).norm(dim=1)[0]
        assert int(change.argmax()) == change.shape[1] - 1, name


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        (SMALL, 72, 40 + 112 + 320),
        ("test_convnext.r160_in1k", 64, 32 + 48 + 64),
        ("test_vit.r160_in1k", 64, 3 * 64),
    ],
)
def test_levels_are_mean_and_deviation_of_every_channel(name, size, channels):
    backbone = create_backbone(name, "random", size, {}, frozen=True, levels=3)
    perturb(backbone)
    films = torch.rand(2, 1, size, size)
    with torch.inference_mode():
        color = (films - backbone.mean) / backbone.std
        maps = backbone.trunk.forward_intermediates(color, intermediates_only=True)[-3:]
        found = backbone(films)
        pooled = backbone.pool(found)
    assert sum(part.shape[1] for part in maps) == channels
    assert found.shape[-2:] == maps[-1].shape[-2:]  # one grid, for Grad-CAM
    assert pooled.shape == (2, backbone.channels)
    means, deviations = pooled.chunk(2, dim=1)
    expected = torch.cat([part.mean((2, 3)) for part in maps], 1)
    torch.testing.assert_close(means, expected, rtol=1e-4, atol=1e-5)
    expected = torch.cat([part.std((2, 3), unbiased=False) for part in maps], 1)
    torch.testing.assert_close(deviations, expected, rtol=1e-3, atol=2e-4)


def test_texture_is_seen_where_it_is_whatever_the_brightness():
    """The evidence of a deviation lies where the channel deviates, not where it is bright."""
    backbone = create_backbone(SMALL, "random", 32, {}, frozen=True, levels=1)

    class Flat(nn.Module):
        """A network whose one level is what it is given."""

        def forward_intermediates(self, color, **_):
            return [color[:, :1]]

    backbone.trunk = Flat()
    backbone.channels = 2
    film = torch.full((1, 1, 8, 8), 0.5)
    film[0, 0, :4, 4:] += torch.tensor([0.1, -0.1]).repeat(4, 2)  # top right
    model = Classifier(backbone, HeadConfig())
    with torch.no_grad():
        model.head.layers[-1].weight.copy_(torch.tensor([[0.0, 1.0]]))  # the deviation alone
    cam = grad_cam(model.eval(), film, 0, positive=True)[0]
    assert cam[:4, 4:].min() > 0.99
    assert cam[4:].max() < 0.1
    assert cam[:4, :4].max() < 0.1


def test_a_flat_level_has_no_deviation_and_keeps_gradients_finite():
    backbone = create_backbone(SMALL, "random", 32, {}, frozen=True, levels=1)
    maps = torch.zeros(1, backbone.channels, 2, 2, requires_grad=True)
    pooled = backbone.pool(maps)
    assert pooled[0, -1].item() == pytest.approx(0, abs=1e-3)
    pooled.sum().backward()
    assert maps.grad.isfinite().all()


def test_levels_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"levels is 6; .* has 5"):
        create_backbone(SMALL, "random", 32, {}, levels=6)
    with pytest.raises(ValueError, match="both set"):
        create_backbone(SMALL, "random", 32, {}, levels=2, frozen_stages=1)
    with pytest.raises(ValueError, match="weighs one map"):
        Classifier(create_backbone(SMALL, "random", 32, {}, levels=2), HEAD_S2)


def test_shrinking_keeps_the_mean_whatever_the_sizes():
    maps = torch.rand(2, 3, 15, 7, dtype=torch.float64)
    assert shrink(maps, (8, 4)).mean((2, 3)).sub(maps.mean((2, 3))).abs().max() < 1e-12
    halves = maps[..., :14, :6]
    expected = torch.nn.functional.avg_pool2d(halves, 2)
    torch.testing.assert_close(shrink(halves, (7, 3)), expected)


def test_frozen_backbone_stays_bit_identical_through_training():
    backbone = create_backbone(SMALL, "random", 32, {}, frozen=True)
    model = Classifier(backbone, HEAD_S2)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    optimiser = torch.optim.SGD(
        [value for value in model.parameters() if value.requires_grad], lr=1.0, weight_decay=0.1
    )
    model.train()
    assert not backbone.trunk.bn1.training
    head = [value.clone() for value in model.head.parameters()]
    for _ in range(2):
        optimiser.zero_grad()
        model(torch.rand(4, 1, 32, 32)).square().sum().backward()
        optimiser.step()
    after = backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not all(torch.equal(a, b) for a, b in zip(head, model.head.parameters(), strict=True))


def test_unfrozen_batch_norms_do_move():
    """The test above could not fail if nothing moved anyway."""
    backbone = create_backbone(SMALL, "random", 32, {}).train()
    before = backbone.trunk.bn1.running_mean.clone()
    backbone(torch.rand(4, 1, 32, 32))
    assert not torch.equal(before, backbone.trunk.bn1.running_mean)


@pytest.mark.parametrize(
    ("channels", "one", "two"),
    [(1280, 1_837_057, 1_840_129), (768, 1_312_769, 1_315_841), (384, 919_553, 922_625)],
)
def test_head_counts_of_both_strategies(channels, one, two):  # oracle 25
    assert count_parameters(ClassifierHead(channels, HEAD_S1)) == one
    assert count_parameters(ClassifierHead(channels, HEAD_S2)) == two


@pytest.mark.parametrize(
    ("channels", "spatial", "gates"),
    [(1280, 205_121, 411_040), (768, 73_921, 148_320), (384, 18_529, 37_296)],
)
def test_attention_counts(channels, spatial, gates):  # oracle 26
    assert count_parameters(SpatialAttention(channels)) == spatial
    assert count_parameters(SpatialAttention(channels, outputs=channels)) == gates


def test_undecided_attention_halves_features_unless_residual():
    maps = torch.randn(2, 16, 3, 3)
    for residual, factor in ((False, 0.5), (True, 1.5)):
        attention = SpatialAttention(16, residual=residual)
        nn.init.zeros_(attention.score.weight)
        nn.init.zeros_(attention.score.bias)
        torch.testing.assert_close(attention(maps), factor * maps)


def test_standardised_attention_ignores_the_scale_of_a_raw_map():
    maps = torch.randn(2, 16, 3, 3)
    plain, scaled = SpatialAttention(16), SpatialAttention(16, standardise=True)
    scaled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(
        scaled.attention_map(maps * 1000.0), scaled.attention_map(maps * 10.0), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(plain.attention_map(maps * 1000.0), plain.attention_map(maps * 10.0))


def test_two_class_head_returns_the_logit_of_its_softmax():
    head = ClassifierHead(8, HeadConfig(outputs=2), n_targets=3)
    features = torch.randn(5, 8)
    scores = head.layers(features).reshape(5, 3, 2)
    assert head(features).shape == (5, 3)
    torch.testing.assert_close(torch.sigmoid(head(features)), scores.softmax(dim=2)[..., 1])


def test_write_up_b_has_its_count():
    head = ClassifierHead(1280, HeadConfig(outputs=2))
    assert count_parameters(head) == 2_562
    assert BACKBONES[1][2] + 2_562 == 4_010_110  # "4.01M"


def test_classifier_puts_the_parts_in_order_and_keeps_full_precision_logits():
    model = Classifier(create_backbone(SMALL, "random", 32, {}), HEAD_S2, n_targets=2).eval()
    films = torch.rand(3, 1, 32, 32)
    with torch.inference_mode():
        maps = model.backbone(films)
        by_hand = model.head(model.attention(maps).mean(dim=(2, 3)))
        torch.testing.assert_close(model(films), by_hand)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(films).dtype == torch.float32
    assert by_hand.shape == (3, 2)


def test_bad_names_and_heads_are_refused_by_name():
    with pytest.raises(ValueError, match=r"no model 'tf_efficientnet_b9000'"):
        create_backbone("tf_efficientnet_b9000", "random", 32, {})
    with pytest.raises(ValueError, match="Invalid pretrained tag"):
        create_backbone("tf_efficientnet_b0.wrong", "random", 32, {})
    with pytest.raises(ValueError, match="1 values for 2 hidden"):
        HeadConfig(hidden=(4, 4), dropout=(0.5,))
    with pytest.raises(ValueError, match="attention_reduction is 9"):
        SpatialAttention(8, reduction=9)
    with pytest.raises(ValueError, match="attention is 'both', not one of none"):
        HeadConfig(attention="both")
    with pytest.raises(ValueError, match="outputs is 3"):
        HeadConfig(outputs=3)
