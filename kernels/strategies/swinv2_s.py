"""SwinV2-S with spatial attention: write-up A, strategy 2, where it reached 0.836 and was dropped.

The write-up blames the number of films; its recipe explains the result as well. Differences from it are
those of effnetv2_s, and:

- Layer decay 0.8, warm-up over 10 % of the steps, stochastic depth 0.2, gradients clipped at 1: what
  fine-tuning a transformer needs.
- 30 epochs.

In both variants: window 8 of the two published ones, since the write-up names none; and the map, which
leaves the network channels last, is turned once, at the backbone's exit. A Conv1x1 head fed (B, H, W, C)
mixes positions instead of channels, which may be what happened there.
"""

from dataclasses import replace

from kernels.config import Profiles
from kernels.strategies.effnetv2_s import (
    CORRECTED,
    STAND_IN,
    STAND_IN_WRITTEN,
    STRATEGY,
    WRITTEN,
    rehearsal,
)

SWINV2_S = replace(
    CORRECTED,
    backbone="swinv2_small_window8_256.ms_in1k",
    image_size=256,
    train=replace(
        CORRECTED.train,
        epochs=30,
        optim=replace(CORRECTED.train.optim, layer_decay=0.8, warmup_share=0.1),
    ),
    drop_path=0.2,
)
SWINV2_S_WRITTEN = replace(WRITTEN, backbone="swinv2_small_window8_256.ms_in1k", image_size=256)

STRATEGY = replace(
    STRATEGY,
    name="swinv2_s",
    title="SwinV2-S with attention",
    profiles=Profiles(
        full=SWINV2_S,
        cpu=replace(STAND_IN, image_size=192),  # another size for each: see convnext_s
        small=rehearsal(SWINV2_S),
    ),
)

AS_WRITTEN = replace(
    STRATEGY,
    profiles=Profiles(
        full=SWINV2_S_WRITTEN,
        cpu=replace(STAND_IN_WRITTEN, image_size=192),
        small=rehearsal(SWINV2_S_WRITTEN),
    ),
)
