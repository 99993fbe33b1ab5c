"""A script starts again once, before it has imported anything, with the settings it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records import RunSpec
from harness.registry import load_strategy
from harness.render import render_kernel
from kernels.blocks.process import START_VARIABLES, TUNED_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import os, sys
from kernels.blocks.process import tune_process
print("start", os.environ.get("MALLOC_TOP_PAD_"), os.environ.get("OMP_WAIT_POLICY"), sys.argv[1:], flush=True)
if {condition}:
    tune_process({script})
print("end", flush=True)
"""


def lines_of(tmp_path, condition="True", script="__file__", **environment):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(condition=condition, script=script))
    done = subprocess.run(
        [sys.executable, str(path), "an argument"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_a_script_starts_again_once_and_what_was_set_stays(tmp_path):
    pad = START_VARIABLES["MALLOC_TOP_PAD_"]
    assert lines_of(tmp_path, OMP_WAIT_POLICY="active") == [
        "start None active ['an argument']",
        f"start {pad} active ['an argument']",
        "end",
    ]


@pytest.mark.parametrize(
    ("script", "environment"),
    [("None", {}), ("'/elsewhere/script.py'", {}), ("__file__", {TUNED_VARIABLE: "1"})],
)
def test_a_notebook_a_package_in_place_and_a_worker_go_on(tmp_path, script, environment):
    assert lines_of(tmp_path, script=script, **environment)[1:] == ["end"]


def test_nothing_that_loads_slowly_is_imported_before():
    strategy = load_strategy(ROOT, "linear_probe")
    source = render_kernel(
        ROOT, strategy, RunSpec("linear_probe", profile="small"), "me", "masked-xray-challenge", {}
    ).source
    above, _, below = source.partition("tune_process(globals()")
    imported = [line for line in above.splitlines() if line.startswith(("import ", "from "))]
    assert imported == ["import os", "import sys"]
    assert "\nimport torch\n" in below
