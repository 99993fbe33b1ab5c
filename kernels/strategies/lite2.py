"""tf_efficientnet_lite2: the recipe of lite0 at 260 pixels."""

from dataclasses import replace

from kernels.config import Profiles, Strategy
from kernels.strategies.lite0 import DISTIL, distil_rehearsal

LITE2 = replace(DISTIL, backbone="tf_efficientnet_lite2.in1k", image_size=260)

STRATEGY = Strategy(
    name="lite2",
    title="EfficientNet-lite2, last stages tuned",
    competition="masked_xray",
    pipeline="distil",
    profiles=Profiles(full=LITE2, cpu=LITE2, small=distil_rehearsal(LITE2)),
    packages=("torch", "timm"),
)
