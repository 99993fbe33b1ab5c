"""tf_efficientnet_lite1: the recipe of lite0 at 240 pixels."""

from dataclasses import replace

from kernels.config import Profiles, Strategy
from kernels.strategies.lite0 import DISTIL, distil_rehearsal

LITE1 = replace(DISTIL, backbone="tf_efficientnet_lite1.in1k", image_size=240)

STRATEGY = Strategy(
    name="lite1",
    title="EfficientNet-lite1, last stages tuned",
    competition="masked_xray",
    pipeline="distil",
    profiles=Profiles(full=LITE1, cpu=LITE1, small=distil_rehearsal(LITE1)),
    packages=("torch", "timm"),
)
