"""A kernel never runs on another dataset or code than its script was rendered for: it stops at once and says so."""

import json
import shutil
import threading
import time

import pytest
from e2e_tools import QUICK_PIPELINE

from harness.emulator import State, connect, faults
from harness.ledger import Ledger
from harness.package import CODE_SLUG, MANIFEST, build_dataset
from harness.publishing import publish
from harness.remote import Credentials, KaggleRemote

SLUG = "checkpoints-mine"


@pytest.fixture(scope="module")
def packed(joined):
    """A strategy that mounts a checkpoint dataset made outside Kaggle."""
    joined.add_strategy("mounted", QUICK_PIPELINE)
    strategy = joined.folder / "kernels" / "strategies" / "mounted.py"
    text = strategy.read_text().replace("profiles=", f'datasets=("{SLUG}",), profiles=')
    strategy.write_text(text)
    folder = joined.folder / "datasets" / SLUG
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"one")
    return joined


@pytest.fixture
def local_kaggle(packed):
    state = State(packed.folder / ".harness" / "local-kaggle")
    yield state
    faults.clear(state)
    state.close()


def publish_elsewhere(workspace, slug, source, edit, tmp_path):
    """Another machine on the same account publishes its own version of a dataset."""
    folder = tmp_path / slug
    shutil.copytree(source, folder)
    edit(folder)
    theirs = Ledger(tmp_path / "ledger.sqlite3")
    with connect(workspace.folder / ".harness" / "local-kaggle") as endpoint:
        remote = KaggleRemote(
            "local", Credentials(endpoint.username, key=endpoint.key), endpoint.url
        )
        build = build_dataset(folder, slug, slug.replace("-", " "), "other", "Theirs.")
        publish(build, remote, theirs, "local", lambda _: None)
        remote.close()
    theirs.close()
    return build.digest


def stale_run(workspace, local_kaggle, *push_options, slug, source, edit, tmp_path):
    """Push while somebody publishes another version between our check and the kernel's start."""
    faults.add(local_kaggle, "*SaveKernel", "slow", {"seconds": 12.0})
    thread = threading.Thread(target=workspace.run, args=("push", "mounted", "--profile", "small", *push_options))  # fmt: skip
    thread.start()
    deadline = time.monotonic() + 60
    while faults.listed(local_kaggle) and time.monotonic() < deadline:
        time.sleep(0.05)  # until the push has checked its datasets and is about to save the kernel
    theirs = publish_elsewhere(workspace, slug, source, edit, tmp_path)
    thread.join(timeout=120)
    started = time.monotonic()
    workspace.run("watch", "--follow")
    seconds = time.monotonic() - started
    run = workspace.json("runs")[-1]
    return run, theirs, seconds


def test_a_kernel_on_a_stale_dataset_stops_within_a_minute_and_names_both(
    packed, local_kaggle, tmp_path
):
    run, theirs, seconds = stale_run(
        packed, local_kaggle, slug=SLUG, source=packed.folder / "datasets" / SLUG, tmp_path=tmp_path,
        edit=lambda folder: (folder / "model.bin").write_bytes(b"two"),
    )  # fmt: skip
    ours = run["datasets"][SLUG]["digest"]
    assert run["state"] == "ERROR"
    assert f"stale dataset '{SLUG}'" in run["failure"]
    assert ours[:12] in run["failure"]
    assert theirs[:12] in run["failure"]
    assert seconds < 60
    pulled = packed.run("pull", run["run_id"], ok=False)
    assert "stale dataset" in pulled.stderr
    # Pushing again publishes ours anew, waits until it is current, and runs.
    packed.run("push", "mounted", "--profile", "small")
    packed.run("watch", "--follow")
    again = packed.json("runs")[-1]
    assert again["state"] == "COMPLETE"
    assert again["datasets"][SLUG]["version"] == 3


def test_a_thin_script_runs_the_mounted_code_and_nothing_else(packed, local_kaggle, tmp_path):
    text = packed.run("render", "mounted", "--profile", "small", "--bundle", "dataset").stdout
    assert "def find_pairs" not in text
    assert len(text) < 40_000  # of more than 200,000 in one script
    packed.run("push", "mounted", "--profile", "small", "--bundle", "dataset", "--tag", "thin")
    packed.run("watch", "--follow")
    run = packed.json("runs")[-1]
    assert run["state"] == "COMPLETE", run["failure"]
    digest = json.loads((packed.folder / "datasets" / CODE_SLUG / MANIFEST).read_text())["digest"]
    assert run["datasets"][CODE_SLUG] == {"digest": digest, "version": 1}
    packed.run("pull", run["run_id"])
    log = (packed.folder / ".harness" / "runs" / run["run_id"]).glob("*.log")
    assert f"code from dataset {CODE_SLUG}, digest {digest[:12]}" in next(log).read_text()


PARALLEL_PIPELINE = '''"""Folds of noise, side by side."""

import os

import numpy as np

from kernels.blocks.folds import iterate_folds
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.tables import Tables
from kernels.blocks.workers import FoldProcess
from kernels.config import FeaturesConfig


def run(config: FeaturesConfig, tables: Tables, writer: OutputWriter) -> None:
    """One draw a fold."""
    targets = tables.labelled["label"].to_numpy()
    ids = tables.labelled["id"].to_numpy()
    test_ids = tables.test["id"].tolist()
    processes = [FoldProcess(f"worker {n}", {"NUMBER": str(n)}) for n in range(config.folds.parallel)]
    cells = iterate_folds(targets, np.arange(len(ids)), config.folds)
    for seed, fold, _, held in writer.folds(cells, processes):
        rng = np.random.default_rng((seed, fold))
        writer.add_oof(ids[held].tolist(), seed, fold, targets[held], rng.random(len(held)))
        writer.add_test(test_ids, seed, fold, rng.random(len(test_ids)))
        writer.note_fold(seed, fold, by=os.environ.get("NUMBER", "the parent"))
    writer.note(training=writer.noted_folds())
'''


def test_thin_scripts_train_folds_side_by_side_as_whole_ones_do_one_by_one(packed):
    packed.add_strategy("parallel", "pass")
    (packed.folder / "kernels" / "pipelines" / "parallel.py").write_text(PARALLEL_PIPELINE)
    outputs = {}
    for tag, options in (
        ("thin", ("--bundle", "dataset", "--set", "folds.parallel=2")),
        ("whole", ()),
    ):
        packed.run("push", "parallel", "--profile", "small", "--tag", tag, *options)
        packed.run("watch", "--follow")
        run = packed.json("runs")[-1]
        assert run["state"] == "COMPLETE", run["failure"]
        packed.run("pull", run["run_id"])
        outputs[tag] = packed.folder / ".harness" / "runs" / run["run_id"]
    log = next(outputs["thin"].glob("*.log")).read_text()
    # Each process took its code from the mounted dataset, after it had compared the digest.
    for worker in (0, 1):
        assert f"[worker {worker}] code from dataset {CODE_SLUG}" in log
    thin, whole = (
        json.loads((outputs[tag] / "outputs" / "metrics.json").read_text()) for tag in outputs
    )
    assert {item["by"] for item in thin["training"]} == {"0", "1"}
    assert {item["by"] for item in whole["training"]} == {"the parent"}
    for name in ("oof_predictions.csv", "test_predictions.csv", "submission.csv"):
        one, other = (outputs[tag] / "outputs" / name for tag in outputs)
        assert one.read_bytes() == other.read_bytes(), name


def test_a_thin_script_on_other_code_stops(packed, local_kaggle, tmp_path):
    def edit(folder):
        path = folder / "kernels" / "config.py"
        path.write_text(path.read_text() + "\n# last week's code\n")

    run, theirs, seconds = stale_run(
        packed, local_kaggle, "--bundle", "dataset", "--tag", "other-code", slug=CODE_SLUG, tmp_path=tmp_path,
        source=packed.folder / "datasets" / CODE_SLUG, edit=edit,
    )  # fmt: skip
    assert run["state"] == "ERROR"
    assert f"stale dataset '{CODE_SLUG}'" in run["failure"]
    assert theirs[:12] in run["failure"]
    assert seconds < 60
