"""Scripts that are cut into sessions or train folds side by side: same predictions, and clear ends.

The scripts here are rendered from a pipeline of numpy alone, so that a run takes seconds; the slow test does
the same with a network.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from e2e_tools import ROOT

from harness.records import RunSpec
from harness.registry import load_competition, load_strategy
from harness.render import render_kernel
from harness.synthetic import draw_competition
from kernels.config import FeaturesConfig, FoldsConfig, Profiles, Strategy
from kernels.contract import MANIFEST_FILE, OOF_FILE, SUBMISSION_FILE, TEST_FILE, resume_of

PIPELINE = '''"""Folds of noise: everything around a training, without one."""

import os
import time

import numpy as np

from kernels.blocks.entry import say
from kernels.blocks.folds import iterate_folds
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.tables import Tables
from kernels.blocks.workers import FoldProcess
from kernels.config import FeaturesConfig


def run(config: FeaturesConfig, tables: Tables, writer: OutputWriter) -> None:
    """One draw a fold."""
    targets = tables.labelled["label"].to_numpy()
    ids = tables.labelled["id"].to_numpy()
    test_ids = list(tables.test["id"])
    processes = [FoldProcess(f"worker {n}", {"NUMBER": str(n)}) for n in range(config.folds.parallel)]
    cells = iterate_folds(targets, np.arange(len(ids)), config.folds)
    for seed, fold, _, held in writer.folds(cells, processes):
        say(f"fold {fold} begins")
        if os.environ.get("TEST_FAILS") == str(fold):
            raise ValueError(f"fold {fold} is broken")
        if os.environ.get("TEST_SLEEPS"):
            time.sleep(120)
        rng = np.random.default_rng((seed, fold))
        writer.add_oof(ids[held].tolist(), seed, fold, targets[held], rng.random(len(held)))
        writer.add_test(test_ids, seed, fold, rng.random(len(test_ids)))
        writer.note_fold(seed, fold, by=os.environ.get("NUMBER", "the parent"))
    writer.note(training=writer.noted_folds())
'''
SMALL = FeaturesConfig(folds=FoldsConfig(count=4), image_size=32)
NOISE = Strategy(
    name="noise",
    title="Noise for a test",
    competition="masked_xray",
    pipeline="noise",
    profiles=Profiles(SMALL, SMALL, SMALL),
)
SLUG = "masked-xray-challenge"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(
        ROOT / "kernels", folder / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "kernels" / "pipelines" / "noise.py").write_text(PIPELINE)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    return draw_competition(folder, n_unlabelled=24, n_labelled=32, n_test=12, size=96).data_folder


def write_script(folder: Path, workspace: Path, name: str, *overrides: tuple[str, object]) -> Path:
    strategy = NOISE if name == "noise" else load_strategy(workspace, name)
    assert load_competition(workspace, strategy.competition).slug == SLUG
    spec = RunSpec(name, profile="small", overrides=overrides)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "script.py"
    path.write_text(render_kernel(workspace, strategy, spec, "me", SLUG, {}).source)
    return path


def environment(root: Path, **extra: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "HARNESS_KAGGLE_ROOT": str(root),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        **extra,
    }


def make_root(root: Path, data: Path, earlier: Path | None = None) -> Path:
    """A /kaggle with the competition, and perhaps the output of an earlier session, mounted."""
    (root / "input" / "competitions").mkdir(parents=True)
    (root / "input" / "competitions" / SLUG).symlink_to(data)
    if earlier is not None:
        (root / "input" / "notebooks" / "me").mkdir(parents=True)
        (root / "input" / "notebooks" / "me" / "part").symlink_to(earlier)
    return root


def run_script(
    script: Path, root: Path, ok: bool = True, **extra: str
) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment(root, **extra),
        cwd=root,
        timeout=1500,
    )
    if ok:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def same_predictions(one: Path, other: Path) -> None:
    for name in (OOF_FILE, TEST_FILE, SUBMISSION_FILE):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def manifest_of(working: Path) -> dict:
    return json.loads((working / MANIFEST_FILE).read_text())


@pytest.fixture(scope="module")
def whole(package, data, tmp_path_factory) -> Path:
    """The working folder of a run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    script = write_script(folder, package, "noise")
    done = run_script(script, make_root(folder / "kaggle", data))
    for part in (
        "inputs: 32 labelled, 24 unlabelled, 12 test",
        "disk: ",
        "submission: 12 rows fit",
    ):
        assert f"self-test: {part}" in done.stdout
    return folder / "kaggle" / "working"


def test_sessions_that_mount_each_other_end_in_the_bits_of_one_run(package, data, whole, tmp_path):
    script = write_script(tmp_path, package, "noise")
    earlier, sessions = None, 0
    while True:
        sessions += 1
        root = make_root(tmp_path / f"kaggle{sessions}", data, earlier)
        done = run_script(script, root, HARNESS_BUDGET_MINUTES="0")
        earlier = root / "working"
        resume = resume_of(manifest_of(earlier))
        if resume is None:
            break
        assert resume.session == sessions
        assert len(resume.done) == sessions
        assert "time budget of 0 min is spent" in done.stdout
        assert not (earlier / OOF_FILE).exists()
    assert sessions == 4
    assert "session 4: going on from" in done.stdout
    same_predictions(earlier, whole)
    assert json.loads((earlier / "metrics.json").read_text())["sessions"] == 4


def test_an_unfinished_run_of_another_experiment_stops_at_once(package, data, tmp_path):
    first = write_script(tmp_path / "a", package, "noise")
    root = make_root(tmp_path / "kaggle1", data)
    run_script(first, root, HARNESS_BUDGET_MINUTES="0")
    other = write_script(tmp_path / "b", package, "noise", ("folds.seeds", (1,)))
    second = make_root(tmp_path / "kaggle2", data, root / "working")
    done = run_script(other, second, ok=False)
    assert done.returncode == 1
    assert "cannot be continued: its spec differs" in done.stderr


def test_folds_side_by_side_predict_what_one_process_does(package, data, whole, tmp_path):
    script = write_script(tmp_path, package, "noise", ("folds.parallel", 2))
    done = run_script(script, make_root(tmp_path / "kaggle", data))
    working = tmp_path / "kaggle" / "working"
    same_predictions(working, whole)
    by = [entry["by"] for entry in json.loads((working / "metrics.json").read_text())["training"]]
    assert by == ["0", "1", "0", "1"]
    assert "[worker 0] fold 0 begins" in done.stdout
    assert "[worker 1] fold 3 begins" in done.stdout
    assert not (working / "resume").exists()
    assert manifest_of(working)["complete"] is True


def test_a_budget_ends_workers_too_and_nothing_they_did_is_lost(package, data, whole, tmp_path):
    script = write_script(tmp_path, package, "noise", ("folds.parallel", 2))
    root = make_root(tmp_path / "kaggle1", data)
    run_script(script, root, HARNESS_BUDGET_MINUTES="0")
    resume = resume_of(manifest_of(root / "working"))
    assert resume is not None
    assert resume.done == ((0, 0), (0, 1))
    assert resume.stage == "seed 0 fold 2 and seed 0 fold 3"
    second = make_root(tmp_path / "kaggle2", data, root / "working")
    run_script(script, second)
    same_predictions(second / "working", whole)


def test_a_worker_that_fails_ends_the_run_with_its_reason(package, data, tmp_path):
    script = write_script(tmp_path, package, "noise", ("folds.parallel", 2))
    root = make_root(tmp_path / "kaggle", data)
    done = run_script(script, root, ok=False, TEST_FAILS="1")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "RuntimeError: worker 1 ended with exit code 1: ValueError: fold 1 is broken"
    )
    assert not (root / "working" / MANIFEST_FILE).exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_run(package, data, tmp_path, how):
    script = write_script(tmp_path, package, "noise", ("folds.parallel", 2))
    root = make_root(tmp_path / "kaggle", data)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(root, TEST_SLEEPS="1"),
        cwd=root,
    )
    assert process.stdout is not None
    begun = 0
    while begun < 2:
        begun += "begins" in process.stdout.readline()
    assert len(processes_in(root)) == 3
    process.send_signal(how)
    process.wait(timeout=60)
    deadline = time.monotonic() + 30
    while processes_in(root) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_in(root) == []


def processes_in(root: Path) -> list[int]:
    """Ids of the processes whose environment names this /kaggle."""
    mark, found = f"HARNESS_KAGGLE_ROOT={root}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes() + b"\0":
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["effnetv2_s", "lite0"])
def test_a_network_in_two_processes_and_in_sessions_gives_the_same_bits(name, data, tmp_path):
    script = write_script(tmp_path / "serial", ROOT, name)
    serial = make_root(tmp_path / "serial" / "kaggle", data)
    run_script(script, serial)
    two = write_script(tmp_path / "two", ROOT, name, ("folds.parallel", 2))
    side_by_side = make_root(tmp_path / "two" / "kaggle", data)
    done = run_script(two, side_by_side)
    assert "[worker 1] " in done.stdout
    same_predictions(side_by_side / "working", serial / "working")
    earlier = None
    for number in range(20):
        root = make_root(tmp_path / f"part{number}", data, earlier)
        run_script(script, root, HARNESS_BUDGET_MINUTES="0")
        earlier = root / "working"
        if resume_of(manifest_of(earlier)) is None:
            break
    assert number >= 2
    same_predictions(earlier, serial / "working")


STOPS_EARLY = """
writer.session.budget_s, writer.session.keeps = 0.0, True
targets = tables.labelled["label"].to_numpy()
ids = tables.labelled["id"].to_numpy()
folds = assign_folds(targets, np.arange(len(ids)), 2, 0)
cells = [(0, fold, np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in (0, 1)]
for seed, fold, _, held in writer.folds(cells):
    writer.add_oof(ids[held].tolist(), seed, fold, targets[held], np.full(len(held), 0.5))
    writer.add_test(tables.test["id"].tolist(), seed, fold, np.full(len(tables.test), 0.5))
"""


def test_pull_takes_an_unfinished_run_for_what_it_is(joined):
    joined.add_strategy("stops_early", STOPS_EARLY)
    joined.run("push", "stops_early", "--profile", "small")
    joined.run("watch", "--follow")
    pulled = joined.run("pull").stdout
    assert (
        "stops_early-small-1: unfinished, 1 of 2 folds done; stopped at its time budget" in pulled
    )
    (run,) = [r for r in joined.json("runs") if r["spec"]["strategy"] == "stops_early"]
    assert run["state"] == "COMPLETE"
    assert run["score_mean_fold"] is None
    assert run["unfinished"].endswith("seed 0 fold 1")
    assert not list((joined.folder / ".harness").rglob("stops_early*/outputs/resume/*"))
    refused = joined.run("blend-and-submit", "--profile", "small", "--dry-run", ok=False)
    assert refused.returncode == 1
    assert "There are no pulled runs yet" in refused.stderr
