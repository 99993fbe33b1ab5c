"""Four levels of the network of a finished ``ssl`` run, and a regression: what SimSiam taught it, asked whole.

``ssl`` puts a classifier on the last features of its network. Its inner levels have moved to films as well:
mean and standard deviation of every channel of the four deepest, as ``levels_probe`` takes them from
ImageNet's weights. The kernel mounts that run's output and reads its backbone from there.
"""

from dataclasses import replace

from kernels.config import Profiles, Strategy
from kernels.strategies.levels_probe import LEVELS, rehearsal
from kernels.strategies.ssl import SSL_CPU, SSL_FULL

FULL = replace(
    LEVELS,
    backbone=SSL_FULL.backbone,
    weights="tf_efficientnet_b0_ssl_backbone.pth",
    image_size=SSL_FULL.image_size,
)
CPU = replace(
    LEVELS,
    backbone=SSL_CPU.backbone,
    weights="tf_efficientnet_lite0_ssl_backbone.pth",
    image_size=SSL_CPU.image_size,
)

STRATEGY = Strategy(
    name="ssl_levels",
    title="Linear probe on four levels of SimSiam's backbone",
    competition="masked_xray",
    pipeline="probe",
    profiles=Profiles(full=FULL, cpu=CPU, small=rehearsal(CPU)),
    packages=("torch", "timm"),
    needs=("ssl",),
)
