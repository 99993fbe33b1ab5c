"""Side-by-side measurements: ours and a peer or the naive way, in interleaved rounds of one run.

python -m benchmarks [--only features,pairs] [--quick] [--json FILE] [--data FOLDER]
python -m benchmarks.features --quick
"""

import os

for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # they pin old kernels; before numpy loads
    os.environ.pop(_name, None)
