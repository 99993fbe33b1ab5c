"""Corrected and as-written variants: what differs is said in the docstring, and what is said differs."""

from dataclasses import fields, is_dataclass

import pytest

from kernels.strategies import convnext_s, effnetv2_s, eva02_s, pneumonia_b0, ssl, swinv2_s

# Words that the docstring of a strategy (or of effnetv2_s, which three others start from) has for a field.
WORDS = {
    "backbone": "tag tuned at 384",
    "cached_views": "views cached",
    "drop_path": "stochastic depth",
    "fix_predictor_lr": "predictor's rate",
    "folds.seeds": "Fold seed",
    "glcm_levels": "grey levels",
    "head.attention_residual": "1 + a",
    "head.batch_norm": "batch norm",
    "head.dropout": "dropout",
    "head.final_dropout": "dropout",
    "head.hidden": "linear layer",
    "head.outputs": "One logit",
    "pair_share": "half of the pairs",
    "probe_every": "watched every",
    "ssl_augment.brightness": "jitter",
    "ssl_augment.contrast": "jitter",
    "ssl_augment.perspective": "perspective",
    "ssl_augment.rotation_deg": "rotation 15",
    "ssl_batch_size": "batch 128",
    "ssl_epochs": "100 epochs",
    "ssl_frozen_norm": "batch norms keep",
    "ssl_optim.decay_norm_and_bias": "norms and biases",
    "ssl_optim.head_lr": "fifth of the heads' rate",
    "ssl_optim.lr": "fifth of the heads' rate",
    "ssl_optim.warmup_share": "warm-up",
    "train.augment.brightness": ("tonal augmentation", "jitter", "milder views"),
    "train.augment.contrast": ("tonal augmentation", "jitter", "milder views"),
    "train.augment.crop_scale_min": "milder views",
    "train.augment.hflip": "geometric",
    "train.augment.perspective": "milder views",
    "train.augment.rotation_deg": ("geometric", "Rotation", "milder views"),
    "train.augment.scale": ("geometric", "zoom"),
    "train.augment.translate": ("geometric", "shift"),
    "train.batch_size": "batch 32",
    "train.early_stop_patience": ("fixed number of epochs", "fixed epochs"),
    "train.ema_decay": "EMA 0.995",
    "train.epochs": "epochs",
    "train.label_smoothing": "smoothing",
    "train.loss": "focal",
    "train.mix.clean_last_epochs": "without MixUp",
    "train.optim.clip_grad_norm": ("clipped at 1", "Gradients clipped"),
    "train.optim.decay_norm_and_bias": ("norms and biases", "norms and\n  biases"),
    "train.optim.head_lr": ("Head lr", "rate of its own"),
    "train.optim.layer_decay": "Layer decay",
    "train.optim.lr": ("backbone lr", "3e-4", "5e-4"),
    "train.optim.name": "AdamW",
    "train.optim.schedule": "cosine",
    "train.optim.warmup_share": "warm-up",
    "train.optim.weight_decay": "eight decay",
    "train.rows_per_class": "200 + 200",
    "train.sampler": "sampler",
    "tta": "Mirrored views",
    "tta_space": ("Logits are averaged", "logits averaged"),
}


def flat(config, prefix=""):
    found = {}
    for field in fields(config):
        value = getattr(config, field.name)
        name = prefix + field.name
        found.update(flat(value, name + ".") if is_dataclass(value) else {name: value})
    return found


@pytest.mark.parametrize(
    "module",
    [ssl, effnetv2_s, convnext_s, swinv2_s, eva02_s, pneumonia_b0],
    ids=lambda module: module.STRATEGY.name,
)
def test_every_difference_from_what_was_written_is_named(module):
    ours, written = (
        flat(strategy.profiles.full) for strategy in (module.STRATEGY, module.AS_WRITTEN)
    )
    assert set(ours) == set(written)
    said = module.__doc__
    if "those of effnetv2_s" in said.replace("\n", " "):
        said += effnetv2_s.__doc__
    for name in (name for name in ours if ours[name] != written[name]):
        assert name in WORDS, f"{name}: {written[name]} as written, {ours[name]} now; name it"
        words = WORDS[name] if isinstance(WORDS[name], tuple) else (WORDS[name],)
        assert any(word in said for word in words), (name, words)


def test_numbers_of_the_docstrings_are_those_of_the_configs():
    train = effnetv2_s.STRATEGY.profiles.full.train
    assert (train.ema_decay, train.optim.clip_grad_norm, train.epochs) == (0.995, 1.0, 20)
    assert effnetv2_s.STRATEGY.profiles.full.head.final_dropout == 0.3
    depths = {
        module.STRATEGY.name: module.STRATEGY.profiles.full.drop_path
        for module in (effnetv2_s, convnext_s, swinv2_s, eva02_s)
    }
    assert depths == {"effnetv2_s": 0.1, "convnext_s": 0.2, "swinv2_s": 0.2, "eva02_s": 0.1}
    fit = ssl.STRATEGY.profiles.full.train
    assert (fit.optim.lr, fit.optim.weight_decay, fit.epochs) == (5e-4, 0.05, 30)
    fit = pneumonia_b0.STRATEGY.profiles.full.train
    assert (fit.optim.lr, fit.optim.weight_decay, fit.batch_size) == (3e-4, 0.02, 32)
