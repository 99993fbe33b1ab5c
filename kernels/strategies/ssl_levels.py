"""Four levels of the network of a finished ``ssl`` run, and a regression: what SimSiam taught it, asked whole.

``ssl`` puts a classifier on the last features of its network. Its inner levels have moved to films as well:
mean and standard deviation of every channel of the four deepest, as ``levels_probe`` takes them from
ImageNet's weights. The kernel mounts that run's output and reads its backbone from there.
"""

from kernels.config import Profiles, Strategy, starting_from
from kernels.strategies.levels_probe import LEVELS
from kernels.strategies.linear_probe import rehearsal
from kernels.strategies.ssl import SSL_CPU, SSL_FULL, SSL_SMALL

STRATEGY = Strategy(
    name="ssl_levels",
    title="Linear probe on four levels of SimSiam's backbone",
    competition="masked_xray",
    pipeline="probe",
    profiles=Profiles(
        full=starting_from(SSL_FULL, LEVELS),
        cpu=starting_from(SSL_CPU, LEVELS),
        small=starting_from(SSL_SMALL, rehearsal(LEVELS)),
    ),
    packages=("torch", "timm"),
    needs=("ssl",),
)
