"""EVA-02-S with spatial attention: write-up A, strategy 2, where it reached 0.704 and was dropped.

0.704 on films it had trained on is less than a frozen network gives: a fault, not a lack of films.
Differences from the write-up are those of effnetv2_s, and:

- Layer decay 0.75, warm-up over 10 % of the steps, stochastic depth 0.1, gradients clipped at 1, 30 epochs.

In both variants: tokens become a map at the backbone's exit, the prefix token left out; the layer norm that
timm applies after pooling is kept; and mean and std are CLIP's, which this tag was trained with.
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

EVA02_S = replace(
    CORRECTED,
    backbone="eva02_small_patch14_336.mim_in22k_ft_in1k",
    image_size=336,
    train=replace(
        CORRECTED.train,
        epochs=30,
        optim=replace(CORRECTED.train.optim, layer_decay=0.75, warmup_share=0.1),
    ),
)
EVA02_S_WRITTEN = replace(
    WRITTEN, backbone="eva02_small_patch14_336.mim_in22k_ft_in1k", image_size=336
)

STRATEGY = replace(
    STRATEGY,
    name="eva02_s",
    title="EVA-02-S with attention",
    profiles=Profiles(
        full=EVA02_S,
        cpu=replace(STAND_IN, image_size=160),  # another size for each: see convnext_s
        small=rehearsal(EVA02_S),
    ),
)

AS_WRITTEN = replace(
    STRATEGY,
    profiles=Profiles(
        full=EVA02_S_WRITTEN,
        cpu=replace(STAND_IN_WRITTEN, image_size=160),
        small=rehearsal(EVA02_S_WRITTEN),
    ),
)
