"""placeholder docstring"""

from dataclasses import replace

from kernels.config import (
    AugmentConfig,
    FoldsConfig,
    HeadConfig,
    OptimConfig,
    Profiles,
    SimSiamConfig,
    Strategy,
    TrainConfig,
)

SSL_FULL = SimSiamConfig(
    ssl_epochs=100,
    ssl_batch_size=128,
    ssl_optim=OptimConfig(
        name="sgd", lr=0.005, head_lr=0.025, weight_decay=1e-4, momentum=0.9, warmup_share=0.05
    ),
    ssl_augment=AugmentConfig(
        crop_scale_min=0.5, rotation_deg=15.0, perspective=0.2, brightness=0.3, contrast=0.3
    ),
    probe_every=10,
    head=HeadConfig(hidden=(1024, 512), dropout=(0.5, 0.5)),
    train=TrainConfig(
        optim=OptimConfig(name="adamw", lr=5e-4, weight_decay=0.05),
        augment=AugmentConfig(crop_scale_min=0.8, rotation_deg=5.0, brightness=0.1, contrast=0.1),
        epochs=30,
        label_smoothing=0.05,
    ),
    device="cuda",
)

SSL_CPU = replace(
    SSL_FULL,
    backbone="tf_efficientnet_lite0.in1k",
    ssl_image_size=128,
    ssl_epochs=4,
    ssl_batch_size=64,
    ssl_optim=replace(SSL_FULL.ssl_optim, lr=0.002, head_lr=0.0125),
    probe_every=2,
    device="cpu",
)

STRATEGY = Strategy(
    name="ssl",
    title="SimSiam with nearest neighbour pairs",
    competition="masked_xray",
    pipeline="simsiam",
    profiles=Profiles(
        full=SSL_FULL,
        cpu=SSL_CPU,
        small=replace(
            SSL_CPU,
            folds=FoldsConfig(count=2),
            image_size=64,
            ssl_image_size=48,
            ssl_epochs=1,
            ssl_batch_size=16,
            projector_hidden=128,
            projector_out=128,
            predictor_hidden=32,
            cached_views=2,
            tta_views=2,
            head=HeadConfig(hidden=(64,), dropout=(0.5,)),
            train=replace(SSL_CPU.train, epochs=4),
            max_images=48,
            max_unlabelled=64,
        ),
    ),
    accelerator="gpu",
    packages=("torch", "timm"),
)
