"""ConvNeXt-S with spatial attention: write-up A, strategy 2.

Differences from the write-up are those of effnetv2_s, and:

- The tag tuned at 384 px (``fb_in22k_ft_in1k_384``); as written it is ``fb_in22k_ft_in1k``, tuned at 224.
  The bare name ``convnext_small`` would fetch other weights still (``in12k_ft_in1k``).
- Layer decay 0.8 and stochastic depth 0.2: ImageNet-22k features are good, and 50 million weights overfit.

In both variants the last layer norm, which timm keeps in the head, is kept, and the map is normed before
attention: without them the features have wild scale.
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

CONVNEXT_S = replace(
    CORRECTED,
    backbone="convnext_small.fb_in22k_ft_in1k_384",
    train=replace(CORRECTED.train, optim=replace(CORRECTED.train.optim, layer_decay=0.8)),
    drop_path=0.2,
)
CONVNEXT_S_WRITTEN = replace(WRITTEN, backbone="convnext_small.fb_in22k_ft_in1k")

STRATEGY = replace(
    STRATEGY,
    name="convnext_s",
    title="ConvNeXt-S with attention",
    profiles=Profiles(
        full=CONVNEXT_S,
        # The same stand-in at another size, so that a blend of CPU runs is not one run four times.
        cpu=replace(STAND_IN, image_size=256),
        small=rehearsal(CONVNEXT_S),
    ),
)

AS_WRITTEN = replace(
    STRATEGY,
    profiles=Profiles(
        full=CONVNEXT_S_WRITTEN,
        cpu=replace(STAND_IN_WRITTEN, image_size=256),
        small=rehearsal(CONVNEXT_S_WRITTEN),
    ),
)
