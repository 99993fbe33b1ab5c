"""The network of a finished ``ssl`` run, trained whole on the labelled films: what self-supervision is worth.

``ssl`` keeps its backbone frozen behind the classifier; here it is a starting point, in the place of ImageNet.
The kernel mounts that run's output and reads its backbone from there. Everything else is the corrected
recipe of ``effnetv2_s`` (the ``cpu`` profile: of its stand-in), so that the two differ in the start only
where they share a network.
"""

from kernels.config import Profiles, Strategy, starting_from
from kernels.strategies.effnetv2_s import CORRECTED, STAND_IN, rehearsal
from kernels.strategies.ssl import SSL_CPU, SSL_FULL, SSL_SMALL

STRATEGY = Strategy(
    name="ssl_finetune",
    title="Fine-tuned from SimSiam's backbone",
    competition="masked_xray",
    pipeline="supervised",
    profiles=Profiles(
        full=starting_from(SSL_FULL, CORRECTED),
        cpu=starting_from(SSL_CPU, STAND_IN),
        small=starting_from(SSL_SMALL, rehearsal(STAND_IN)),
    ),
    accelerator="gpu",
    packages=("torch", "timm"),
    needs=("ssl",),
)
