"""Frozen ImageNet features and logistic regression: the baseline beside every trained network.

Not in the write-ups. The small backbone is one that anybody can install (Apache-2.0, from pip) and
that gives 0.987 pooled out-of-fold AUC on 814 films in two minutes on two cores: a trained network
that does not beat it has learned nothing that ImageNet did not know.

``CHEST_PNEUMONIA`` is the same on the public folder layout (``--variant chest-pneumonia``), the bar for
pneumonia_b0.
"""

from dataclasses import replace

from kernels.config import FoldsConfig, ProbeConfig, Profiles, Strategy


def rehearsal(config: ProbeConfig) -> ProbeConfig:
    """The same in seconds: few small films."""
    return replace(config, folds=FoldsConfig(count=2), image_size=64, batch_size=16, max_images=96)


STRATEGY = Strategy(
    name="linear_probe",
    title="Linear probe on ImageNet features",
    competition="masked_xray",
    pipeline="probe",
    profiles=Profiles(full=ProbeConfig(), cpu=ProbeConfig(), small=rehearsal(ProbeConfig())),
    packages=("torch", "timm"),
)

CHEST_PNEUMONIA = replace(STRATEGY, competition="chest_pneumonia")
