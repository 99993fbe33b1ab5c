"""How a script's process starts: again, with settings that have to be there before the interpreter.

Rendered above everything else, so standard library only: what is imported before it starts again is
imported twice.
"""

import os
import sys

TUNED_VARIABLE = "HARNESS_PROCESS_TUNED"

# glibc gives large buffers back to the kernel after each step and faults them in again: that halves CPU
# training. OpenMP's threads spin while they wait for each other: with two runs (or data workers) on the
# same cores a step then takes several times as long, and without it hardly longer when alone.
# These must be in the environment when the interpreter starts. Bytes: 4 GiB, 16 GiB, 256 MiB.
START_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "OMP_WAIT_POLICY": "passive",
}


def tune_process(script: str | None) -> None:
    """Start the interpreter again with settings that keep CPU training out of page faults and spinning.

    What the environment says already stays. Only for a script run as a program on Linux, and once.

    Args:
        script: The caller's ``__file__``; None in a notebook, which is left alone.
    """
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    if script is None or main_file is None:
        return
    if os.path.realpath(main_file) != os.path.realpath(script):
        return
    if sys.platform != "linux" or os.environ.get(TUNED_VARIABLE):
        return
    os.environ.update({**START_VARIABLES, **os.environ, TUNED_VARIABLE: "1"})
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
