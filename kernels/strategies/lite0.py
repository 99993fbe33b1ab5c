"""The family that anyone can train on a CPU: tf_efficientnet_lite0, its later stages fine-tuned.

Not in the write-ups. ImageNet weights come from pip (Apache-2.0), two cores are enough. The recipe:

- The stem and the first five of seven stages stay as ImageNet left them: edges and textures need no
  relearning on some hundred films. What they make of each view is computed once and kept, so that a step
  costs the last stages only: a fold trains in two minutes on one core.
- AdamW, one cycle over 6 epochs, head rate five times the backbone's, smoothing 0.05, an average of the
  weights, light geometric and tonal views. No epoch is chosen by the held-out fold.
- Plain and mirrored film are averaged (logits).

``lite1`` and ``lite2`` are the same recipe on larger networks, ``lite_student`` learns from all three.
"""

from dataclasses import replace

from kernels.config import (
    AugmentConfig,
    DistilConfig,
    FoldsConfig,
    HeadConfig,
    OptimConfig,
    Profiles,
    Strategy,
    TrainConfig,
)

TEACHER = TrainConfig(
    optim=OptimConfig(name="adamw", lr=4e-4, head_lr=2e-3, weight_decay=0.01, schedule="one_cycle"),
    epochs=6,
    batch_size=32,
    label_smoothing=0.05,
    ema_decay=0.98,
)

DISTIL = DistilConfig(
    backbone="tf_efficientnet_lite0.in1k",
    image_size=224,
    frozen_stages=5,
    head=HeadConfig(final_dropout=0.2),
    augment=AugmentConfig(
        hflip=0.5, rotation_deg=10.0, translate=0.05, scale=0.1, brightness=0.15, contrast=0.15
    ),
    teacher=TEACHER,
    student=None,
)


def distil_rehearsal(config: DistilConfig) -> DistilConfig:
    """The same story in seconds: every block runs, on few small films and for few steps."""
    student = config.student
    return replace(
        config,
        folds=FoldsConfig(count=2),
        image_size=64,
        co_teachers=tuple(replace(other, image_size=64) for other in config.co_teachers[:1]),
        labelled_views=2,
        unlabelled_views=1,
        teacher=replace(config.teacher, epochs=4, batch_size=16, ema_decay=None),
        student=None if student is None else replace(student, batch_size=16, ema_decay=None),
        max_images=96,
        max_unlabelled=64,
    )


STRATEGY = Strategy(
    name="lite0",
    title="EfficientNet-lite0, last stages tuned",
    competition="masked_xray",
    pipeline="distil",
    profiles=Profiles(full=DISTIL, cpu=DISTIL, small=distil_rehearsal(DISTIL)),
    packages=("torch", "timm"),
)
