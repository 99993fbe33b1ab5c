"""MixUp and CutMix: the share in the target is the share in the film, also at the border."""

import numpy as np
import pytest
import torch

from kernels.blocks.mixing import cutmix_box, kept_share, mix_batch, mixing_on, mixup
from kernels.config import MixConfig

MIXUP = MixConfig(mixup_alpha=0.4)
CUTMIX = MixConfig(cutmix_alpha=1.0)


def films_of_one_grey(count: int = 8, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Film i is grey i all over, and its target is i: a mix can be read off its pixels."""
    values = torch.arange(count, dtype=torch.float64)
    return values.view(-1, 1, 1, 1).expand(-1, 1, size, size).clone(), values[:, None]


@pytest.mark.parametrize(
    ("size", "lam", "centre", "box", "kept"),
    [
        (32, 0.7, (16, 16), (8, 8, 24, 24), 0.75),
        (32, 0.7, (5, 20), (0, 12, 13, 28), 0.796875),
        (384, 0.5, (192, 192), None, 0.505615234375),
        (384, 0.5, (0, 0), None, 0.87640380859375),
    ],
)
def test_cutmix_box_and_the_lambda_that_holds(size, lam, centre, box, kept):  # oracles 39, 40
    found = cutmix_box(size, size, lam, centre)
    assert box is None or found == box
    assert kept_share(found, size, size) == kept


def test_mixup_value_and_identity():  # oracle 41
    first = torch.tensor([10.0, 20.0], dtype=torch.float64)
    second = torch.tensor([30.0, 60.0], dtype=torch.float64)
    torch.testing.assert_close(mixup(first, second, 0.3), torch.tensor([24.0, 48.0]).double())
    assert torch.equal(mixup(first, second, 1.0), first)


@pytest.mark.parametrize("config", [MIXUP, CUTMIX, MixConfig(mixup_alpha=0.4, cutmix_alpha=1.0)])
def test_target_is_the_mean_grey_of_the_mixed_film(config):
    films, targets = films_of_one_grey()
    original = films.clone()
    for seed in range(20):
        mixed, soft = mix_batch(films, targets, config, np.random.default_rng(seed))
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), soft[:, 0])
        assert mixed.shape == films.shape
    assert torch.equal(films, original)


def test_mixup_blends_everywhere_and_cutmix_cuts():
    films, targets = films_of_one_grey()
    blended, _ = mix_batch(films, targets, MIXUP, np.random.default_rng(0))
    assert all(len(film.unique()) == 1 for film in blended)
    cut, _ = mix_batch(films, targets, CUTMIX, np.random.default_rng(3))
    assert set(cut.unique().tolist()) <= set(range(8))
    assert any(len(film.unique()) == 2 for film in cut)


def test_both_kinds_take_turns_by_their_share():
    films, targets = films_of_one_grey()
    kinds = []
    for seed in range(200):
        config = MixConfig(mixup_alpha=1.0, cutmix_alpha=1.0, cutmix_share=0.3)
        mixed, _ = mix_batch(films, targets, config, np.random.default_rng(seed))
        kinds.append(bool(torch.equal(mixed, mixed.round())))
    assert 0.2 < np.mean(kinds) < 0.4


def test_same_generator_state_gives_the_same_batch():
    films, targets = torch.rand(6, 1, 16, 16), torch.rand(6, 1)
    config = MixConfig(mixup_alpha=0.4, cutmix_alpha=1.0)
    runs = [mix_batch(films, targets, config, np.random.default_rng(4)) for _ in range(2)]
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    other, _ = mix_batch(films, targets, config, np.random.default_rng(5))
    assert not torch.equal(runs[0][0], other)


def test_features_can_be_mixed_up_but_not_cut():
    features, targets = torch.rand(6, 20), torch.rand(6, 2)
    mixed, _ = mix_batch(features, targets, MIXUP, np.random.default_rng(0))
    assert mixed.shape == (6, 20)
    with pytest.raises(ValueError, match="CutMix needs films"):
        mix_batch(features, targets, CUTMIX, np.random.default_rng(0))


def test_switched_off_is_the_identity_and_the_last_epochs_are_clean():
    films, targets = films_of_one_grey()
    assert mix_batch(films, targets, MixConfig(), np.random.default_rng(0))[0] is films
    assert not mixing_on(MixConfig(), 0, 5)
    late = MixConfig(mixup_alpha=0.4, clean_last_epochs=2)
    assert [mixing_on(late, epoch, 5) for epoch in range(5)] == [True, True, True, False, False]
