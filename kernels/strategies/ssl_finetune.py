"""The network of a finished ``ssl`` run, trained whole on the labelled films: what self-supervision is worth.

``ssl`` keeps its backbone frozen behind the classifier; here it is a starting point, in the place of ImageNet.
The kernel mounts that run's output and reads its backbone from there. Everything else is the corrected
recipe of ``effnetv2_s`` (the ``cpu`` profile: of its stand-in), so that the two differ in the start only
where they share a network.
"""

from dataclasses import replace

from kernels.config import Profiles, Strategy
from kernels.strategies.effnetv2_s import CORRECTED, STAND_IN, rehearsal
from kernels.strategies.ssl import SSL_CPU, SSL_FULL, SSL_SMALL

FINETUNE_FULL = replace(
    CORRECTED,
    backbone=SSL_FULL.backbone,
    weights="tf_efficientnet_b0_ssl_backbone.pth",
    image_size=SSL_FULL.image_size,
)

FINETUNE_CPU = replace(
    STAND_IN, backbone=SSL_CPU.backbone, weights="tf_efficientnet_lite0_ssl_backbone.pth"
)

FINETUNE_SMALL = replace(
    rehearsal(STAND_IN),
    backbone=SSL_SMALL.backbone,
    weights="tf_efficientnet_lite0_ssl_backbone.pth",
)

STRATEGY = Strategy(
    name="ssl_finetune",
    title="Fine-tuned from SimSiam's backbone",
    competition="masked_xray",
    pipeline="supervised",
    profiles=Profiles(full=FINETUNE_FULL, cpu=FINETUNE_CPU, small=FINETUNE_SMALL),
    accelerator="gpu",
    packages=("torch", "timm"),
    needs=("ssl",),
)
