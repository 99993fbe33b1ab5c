"""Strategy 1's 22 hand-crafted features with a logistic regression: what texture alone can tell.

The write-up uses these features to find pairs only. As a classifier of their own they are the floor that
every network has to beat.
"""

from kernels.config import FeaturesConfig, FoldsConfig, Profiles, Strategy

STRATEGY = Strategy(
    name="features_lr",
    title="Masked X-ray: 22 features, logistic",
    competition="masked_xray",
    pipeline="features",
    profiles=Profiles(
        full=FeaturesConfig(folds=FoldsConfig(seeds=(0, 1, 2))),
        cpu=FeaturesConfig(),
        small=FeaturesConfig(folds=FoldsConfig(count=2), image_size=64, max_images=96),
    ),
    packages=("PIL",),
)
