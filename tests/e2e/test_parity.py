"""Parity: the package run in place and the script run alone write identical predictions from one seed.

Every strategy runs its small profile twice, each time in a process of its own with one thread, without
a sandbox: /kaggle is moved by HARNESS_KAGGLE_ROOT.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records import RunSpec
from harness.registry import load_competition, load_strategy, module_names
from harness.render import render_kernel
from harness.synthetic import draw_competition
from kernels.contract import OOF_FILE, SUBMISSION_FILE, TEST_FILE

ROOT = Path(__file__).resolve().parents[2]

IN_PLACE = """
import sys
from pathlib import Path
from kernels.blocks.entry import run_kernel
from kernels.competitions.{competition} import COMPETITION, read_tables
from kernels.pipelines.{pipeline} import run
from kernels.strategies.{name} import STRATEGY
run_kernel(run, COMPETITION, read_tables, STRATEGY.profiles, {spec!r}, {{}}, sys.argv[1])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return draw_competition(folder, n_unlabelled=24, n_labelled=32, n_test=12, size=96).data_folder


def run_python(arguments, root, data, **environment):
    (root / "input" / "competitions").mkdir(parents=True)
    (root / "input" / "competitions" / "masked-xray-challenge").symlink_to(data)
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "HARNESS_KAGGLE_ROOT": str(root),
            "HARNESS_PROFILE": "small",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        cwd=root,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "working"


ONE_OF_EACH_PIPELINE = ("features_lr", "linear_probe", "ssl", "effnetv2_s", "lite0")


@pytest.mark.parametrize(
    "name",
    [
        name if name in ONE_OF_EACH_PIPELINE else pytest.param(name, marks=pytest.mark.slow)
        for name in module_names(ROOT, "strategies")
    ],
)
def test_package_and_script_predict_the_same(name, data, tmp_path):
    strategy = load_strategy(ROOT, name)
    slug = load_competition(ROOT, strategy.competition).slug
    if strategy.needs:
        pytest.skip("starts from another kernel's output: see test_finetune_from_ssl")
    if slug != "masked-xray-challenge":
        pytest.skip("drawn data is of the masked X-ray challenge")
    build = render_kernel(ROOT, strategy, RunSpec(name, profile="small"), "me", slug, {})
    script = tmp_path / "script.py"
    script.write_text(build.source)
    in_place = IN_PLACE.format(
        competition=strategy.competition,
        pipeline=strategy.pipeline,
        name=name,
        spec={"strategy": name, "profile": "small"},
    )
    alone = run_python([str(script)], tmp_path / "alone", data)
    package = run_python(
        ["-c", in_place, str(script)], tmp_path / "package", data, PYTHONPATH=str(ROOT)
    )
    for file in (OOF_FILE, TEST_FILE, SUBMISSION_FILE):
        assert (alone / file).read_bytes() == (package / file).read_bytes(), file
