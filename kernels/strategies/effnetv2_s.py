"""EfficientNetV2-S with spatial attention: write-up A, strategy 2, as written and corrected.

The corrected default, and why it differs from the write-up:

- Scored out of fold, near-copies kept together. The write-up trained and validated on the same 878 films.
- BCE with smoothing 0.05 instead of focal 0.25/2 with smoothing 0.1. Focal's minimum is not at the label,
  and its alpha, the balanced sampler and gamma all correct the same imbalance; AUC needs none of them.
- Plain shuffling instead of the balanced sampler, which shows half of the positives in an epoch.
- Head lr 1e-3, backbone lr 1e-4, 5 % warm-up, weight decay 0.05 but none on norms and biases. One rate for
  a random head and a pretrained backbone, without warm-up, breaks what the backbone knows; decay 1e-5 is none.
- One cosine over 20 epochs instead of warm restarts: 60 epochs of (10, 2) end inside the third cycle, and a
  patience of 12 is shorter than cycles of 20 and 40.
- A fixed number of epochs and an average of the weights (EMA 0.995) instead of the best epoch of a small
  fold, which looks better than it is: as written the held-out fold stops its own training, and the run's
  metrics say so.
- Gradients clipped at 1, so that one odd batch of a small set undoes nothing.
- The last 3 epochs without MixUp and CutMix, so that the end sees films as they are predicted.
- Attention multiplies by 1 + a instead of a: a sigmoid starts near 0.5 and would halve the features. One
  linear layer with dropout 0.3 behind it, instead of 1024 and 512 units with batch norm and dropout 0.5 and
  0.25: 1.8 million weights on top are too many for 700 films.
- Light geometric and tonal augmentation, which the write-up does not mention; stochastic depth 0.1.
- Logits are averaged over the five views, so that a confident view counts.

``AS_WRITTEN`` holds the write-up's settings. Where it is silent, our choice: CLAHE clip 2 with 8 x 8 tiles,
attention reduction 8 with one output map, centre crop 0.9, probabilities averaged over views, weight decay
on everything (torch's default), the linear form of focal loss for soft targets, our folds.

In both variants, so no difference between them shows here: the tag's own mean and std (the write-up names
one normalisation for four networks, or none), and features as the network ends them, its last norm
included; where there is one, attention sees the map normed as well (blocks/models.py).

On a CPU and without the hub this network can be neither fetched nor trained. The ``cpu`` profile trains a
stand-in, tf_efficientnet_lite0 at 224 px, for which ImageNet weights come from pip.
"""

from dataclasses import replace

from kernels.config import (
    AugmentConfig,
    FoldsConfig,
    HeadConfig,
    MixConfig,
    OptimConfig,
    Profiles,
    Strategy,
    SupervisedConfig,
    TrainConfig,
)

LIGHT_AUGMENT = AugmentConfig(
    hflip=0.5, rotation_deg=8.0, translate=0.04, scale=0.1, brightness=0.1, contrast=0.1
)

CORRECTED = SupervisedConfig(
    backbone="tf_efficientnetv2_s.in21k_ft_in1k",
    image_size=384,
    head=HeadConfig(attention="spatial", final_dropout=0.3),
    train=TrainConfig(
        optim=OptimConfig(
            name="adamw",
            lr=1e-4,
            head_lr=1e-3,
            weight_decay=0.05,
            schedule="cosine",
            warmup_share=0.05,
            clip_grad_norm=1.0,
        ),
        augment=LIGHT_AUGMENT,
        mix=MixConfig(mixup_alpha=0.4, cutmix_alpha=1.0, clean_last_epochs=3),
        epochs=20,
        batch_size=16,
        loss="bce",
        label_smoothing=0.05,
        ema_decay=0.995,
    ),
    drop_path=0.1,
    device="cuda",  # on a CPU this would take days: it stops at once instead
)

WRITTEN = SupervisedConfig(
    backbone="tf_efficientnetv2_s.in21k_ft_in1k",
    image_size=384,
    head=HeadConfig(
        attention="spatial",
        attention_residual=False,
        hidden=(1024, 512),
        batch_norm=True,
        dropout=(0.5, 0.25),
    ),
    train=TrainConfig(
        optim=OptimConfig(
            name="adamw",
            lr=1e-4,
            weight_decay=1e-5,
            schedule="warm_restarts",
            restart_epochs=10,
            restart_factor=2,
            decay_norm_and_bias=True,
        ),
        augment=AugmentConfig(hflip=0.0),  # it names MixUp and CutMix only
        mix=MixConfig(mixup_alpha=0.4, cutmix_alpha=1.0, cutmix_share=0.5),
        epochs=60,
        batch_size=16,
        loss="focal",
        focal_alpha=0.25,
        focal_gamma=2.0,
        label_smoothing=0.1,
        sampler="balanced",
        early_stop_patience=12,
    ),
    tta=("plain", "hflip", "rot+5", "rot-5", "crop0.9"),
    tta_space="probs",
    device="cuda",
)

STAND_IN = replace(
    CORRECTED,
    backbone="tf_efficientnet_lite0.in1k",
    image_size=224,
    clahe=False,
    head=HeadConfig(attention="spatial", final_dropout=0.2),
    train=TrainConfig(
        optim=OptimConfig(
            name="adamw", lr=4e-4, head_lr=2e-3, weight_decay=0.01, schedule="one_cycle"
        ),
        augment=LIGHT_AUGMENT,
        epochs=8,
        batch_size=32,
        label_smoothing=0.05,
    ),
    tta=("plain", "hflip"),
    drop_path=0.0,
    device="auto",
)

STAND_IN_WRITTEN = replace(
    WRITTEN,
    backbone="tf_efficientnet_lite0.in1k",
    image_size=224,
    train=replace(WRITTEN.train, epochs=10),  # the first cycle of its restarts
    device="auto",
)


def rehearsal(config: SupervisedConfig) -> SupervisedConfig:
    """The same story in seconds: every block runs, on few small films and for few steps.

    Without the average of the weights: after so few steps it still is the start.
    """
    return replace(
        config,
        folds=FoldsConfig(count=2),
        backbone="tf_efficientnet_lite0.in1k",
        image_size=64,
        train=replace(
            config.train,
            optim=replace(config.train.optim, lr=1e-3, head_lr=5e-3, schedule="cosine"),
            mix=replace(config.train.mix, clean_last_epochs=3),
            epochs=6,
            batch_size=16,
            ema_decay=None,
        ),
        tta=config.tta[:2],
        device="auto",
        max_images=96,
    )


STRATEGY = Strategy(
    name="effnetv2_s",
    title="EfficientNetV2-S with attention",
    competition="masked_xray",
    pipeline="supervised",
    profiles=Profiles(full=CORRECTED, cpu=STAND_IN, small=rehearsal(CORRECTED)),
    accelerator="gpu",
    internet=True,  # weights come from the hub unless a dataset of them is mounted
    packages=("torch", "timm"),
)

AS_WRITTEN = replace(
    STRATEGY,
    profiles=Profiles(full=WRITTEN, cpu=STAND_IN_WRITTEN, small=rehearsal(WRITTEN)),
)
