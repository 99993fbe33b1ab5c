"""Values that no run could use are refused when a config is made, by name."""

import pytest

from kernels.config import AugmentConfig, SimSiamConfig, apply_overrides


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_scale_min", 0.0),
        ("crop_scale_min", 1.5),
        ("hflip", 2.0),
        ("translate", -0.1),
        ("scale", 1.0),
        ("perspective", 1.1),
        ("perspective_p", -1.0),
        ("rotation_deg", -5.0),
        ("brightness", -0.1),
        ("contrast", -0.1),
    ],
)
def test_views_that_cannot_be_drawn_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        AugmentConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pair_share", 7.0),
        ("cached_views", 0),
        ("tta_views", 0),
        ("image_size", 1),
        ("ssl_image_size", 8),
        ("glcm_levels", 9999),
        ("ssl_epochs", -1),
        ("ssl_batch_size", 1),
        ("probe_every", 0),
        ("projector_out", 0),
        ("pairs", "x"),
        ("device", "tpu"),
        ("precision", "int4"),
    ],
)
def test_a_simsiam_story_that_cannot_run_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        SimSiamConfig(**{name: value})
    with pytest.raises(ValueError, match=name):
        apply_overrides(SimSiamConfig(), ((name, value),))


def test_an_override_deep_inside_is_looked_at_too():
    with pytest.raises(ValueError, match=r"crop_scale_min is -1\.0"):
        apply_overrides(SimSiamConfig(), (("train.augment.crop_scale_min", -1.0),))
