"""EfficientNet-B0 on the public chest X-ray folders: write-up B, as written and corrected.

It runs on the supervised pipeline: what write-up B adds (a two-class softmax head, a drawn subset,
class weights) is configuration there, and its metrics and pictures are the report of every run.

The corrected default, and why it differs from the write-up:

- All labelled films instead of 200 + 200: the subset threw away nine films in ten, to balance what a
  weight balances.
- One correction of the imbalance, weighted cross-entropy. The write-up stacks three (balanced subset,
  weighted sampler, weighted loss).
- Five folds by patient, scored out of fold, instead of 8 + 8 films, on which an AUC moves in steps
  of 1/64 and 15 of 16 right means anything from 0.70 to 1.00.
- The threshold is chosen on out-of-fold predictions. The write-up's 0.5 gave specificity 0.58 at recall
  0.95 on the test set: the fault was the threshold and the shift, less the ranking.
- A warm-up, 3e-4 for the network and a rate of its own for the new head, a cosine over 10 epochs of
  batch 32, gradients clipped at 1. 125 steps at 1e-4 for everything, as written, end before the head is
  trained.
- Weight decay 0.02 instead of 1e-4, which is none, and not on norms and biases; dropout 0.2.
- One logit instead of two with a softmax: the same model with half of the weights, and all that pools
  logits works on it.
- Rotation 10 instead of 15 degrees, shift 4 %, zoom 10 %, jitter 10 % instead of 5 %: films are placed and
  exposed unevenly, and hardly turned.
- Mirrored views at test time, logits averaged.
- Fold seed 0, as everywhere here, instead of 42.

``AS_WRITTEN`` holds the write-up's settings: the subset, sampler and weights, AdamW 1e-4 with decay 1e-4,
5 epochs of batch 16, flips, 15 degrees, jitter 5 %, 224 pixels, seed 42. The tag's own normalisation is
ImageNet's, which it names. Where it is silent, our choice: a constant rate, the last epoch (it does not
say that it kept the best), edges repeated in rotated corners, and class weights from the rows trained on.
On 200 + 200 rows these are 1 and 1, and the sampler changes nothing either. Weights from all 5,216 films
would be ``train.class_weights=(1.4858128834, 0.5141871166)``; they push towards normal, while its
specificity says the opposite. It is trained in our folds: each of five models sees 200 + 200 films of four
folds, and results.json lists what each gives alone on the labelled test films.

The ``cpu`` profile trains a stand-in, tf_efficientnet_lite0 at 160 pixels (as written: at 224), for which
ImageNet weights come from pip; its normalisation is 0.5.

``MASKED_XRAY`` is the corrected default on the masked X-ray challenge (``--variant masked-xray``).
"""

from dataclasses import replace

from kernels.config import (
    AugmentConfig,
    FoldsConfig,
    HeadConfig,
    OptimConfig,
    Profiles,
    Strategy,
    SupervisedConfig,
    TrainConfig,
)

B0_VIEWS = AugmentConfig(
    hflip=0.5, rotation_deg=10.0, translate=0.04, scale=0.1, brightness=0.1, contrast=0.1
)

B0_FULL = SupervisedConfig(
    backbone="efficientnet_b0.ra_in1k",
    image_size=224,
    clahe=False,
    head=HeadConfig(final_dropout=0.2),
    train=TrainConfig(
        optim=OptimConfig(
            name="adamw",
            lr=3e-4,
            head_lr=1e-3,
            weight_decay=0.02,
            schedule="cosine",
            warmup_share=0.1,
            clip_grad_norm=1.0,
        ),
        augment=B0_VIEWS,
        epochs=10,
        batch_size=32,
        loss="weighted_ce",
    ),
    tta=("plain", "hflip"),
    device="cuda",
)

B0_CPU = replace(
    B0_FULL,
    backbone="tf_efficientnet_lite0.in1k",
    image_size=160,
    train=replace(
        B0_FULL.train,
        optim=OptimConfig(
            name="adamw", lr=4e-4, head_lr=2e-3, weight_decay=0.02, schedule="one_cycle"
        ),
        epochs=4,
    ),
    device="auto",
)

B0_WRITTEN = SupervisedConfig(
    folds=FoldsConfig(seeds=(42,)),
    backbone="efficientnet_b0.ra_in1k",
    image_size=224,
    clahe=False,
    head=HeadConfig(outputs=2),
    train=TrainConfig(
        optim=OptimConfig(
            name="adamw",
            lr=1e-4,
            weight_decay=1e-4,
            schedule="constant",
            decay_norm_and_bias=True,
        ),
        augment=AugmentConfig(hflip=0.5, rotation_deg=15.0, brightness=0.05, contrast=0.05),
        epochs=5,
        batch_size=16,
        loss="weighted_ce",
        sampler="balanced",
        rows_per_class=200,
    ),
    tta=("plain",),
    tta_space="probs",
    device="cuda",
)

B0_WRITTEN_CPU = replace(B0_WRITTEN, backbone="tf_efficientnet_lite0.in1k", device="auto")


def small_b0(config: SupervisedConfig) -> SupervisedConfig:
    """The same story in seconds: every block runs, little is learned."""
    rows = None if config.train.rows_per_class is None else 8
    return replace(
        config,
        folds=replace(config.folds, count=2),
        image_size=64,
        train=replace(config.train, epochs=1, batch_size=8, rows_per_class=rows),
        max_images=48,
    )


STRATEGY = Strategy(
    name="pneumonia_b0",
    title="Pneumonia classifier, EfficientNet-B0",
    competition="chest_pneumonia",
    pipeline="supervised",
    profiles=Profiles(full=B0_FULL, cpu=B0_CPU, small=small_b0(B0_CPU)),
    accelerator="gpu",
    internet=True,  # weights come from the hub unless a dataset of them is mounted
    packages=("torch", "timm"),
)

AS_WRITTEN = replace(
    STRATEGY,
    profiles=Profiles(full=B0_WRITTEN, cpu=B0_WRITTEN_CPU, small=small_b0(B0_WRITTEN_CPU)),
    in_blend=False,
)

MASKED_XRAY = replace(STRATEGY, competition="masked_xray")
