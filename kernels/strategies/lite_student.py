"""One small network taught by three: lite0 on labels and on soft labels of every unlabelled film.

In each fold lite0, lite1 and lite2 learn from the other folds; their mean probability for each unlabelled
film, as it is, becomes a label. The student starts from ImageNet again (continuing a teacher would keep
its mistakes) and sees every unlabelled film once and every labelled film twice an epoch. No label of a
held-out film reaches what predicts it.
"""

from dataclasses import replace

from kernels.config import NetworkConfig, Profiles, Strategy
from kernels.strategies.lite0 import DISTIL, TEACHER, distil_rehearsal

TAUGHT = replace(
    DISTIL,
    co_teachers=(
        NetworkConfig("tf_efficientnet_lite1.in1k", 240, 5),
        NetworkConfig("tf_efficientnet_lite2.in1k", 260, 5),
    ),
    student=replace(TEACHER, epochs=3, label_smoothing=0.0),
)

STRATEGY = Strategy(
    name="lite_student",
    title="EfficientNet-lite0, taught by three",
    competition="masked_xray",
    pipeline="distil",
    profiles=Profiles(full=TAUGHT, cpu=TAUGHT, small=distil_rehearsal(TAUGHT)),
    packages=("torch", "timm"),
)
