"""Every benchmark's answers in its smallest size, and what a missed target or another answer does.

Ratios are not looked at: a test machine is busy. The targets are measured by ``make bench``.
"""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks import blending, features, loop, packaging, pairs, training
from benchmarks.__main__ import TOPICS as ALL_TOPICS
from benchmarks.racing import Line, Options, Same, array_gap, equal, finish, line_of, race, table
from harness.ledger import Ledger
from harness.records import Handle, Run, RunSpec, RunState

TOPICS = {
    "blending": blending.lines,
    "features": features.lines,
    "packaging": packaging.lines,
    "pairs": pairs.lines,
}


SAME = Same(0.0, 0.0)


def a_line(ours: float = 1.0, target: float | None = 2.0, same: Same = SAME) -> Line:
    return line_of("item", [(ours, 3.0)], same=same, peer_name="peer", target=target, floor=0.5)


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_both_give_the_same_answer(topic: str) -> None:
    lines = list(TOPICS[topic](Options("tiny")))
    assert len(lines) >= 4
    assert [line.item for line in lines if not line.same.holds] == []
    assert all(line.ours > 0 and line.peer > 0 for line in lines)


def test_reading_and_augmentation_show_the_same_films() -> None:
    images = pytest.importorskip("benchmarks.images")  # torchvision
    lines = list(images.lines(Options("tiny")))
    assert len(lines) == 7
    assert [line.item for line in lines if not line.same.holds] == []


@pytest.mark.parametrize(
    ("peer", "ours", "tolerance"),
    [
        ("simsiam lightly", "simsiam same maths", 1e-4),
        ("simsiam lightly", "simsiam ours", 1e-3),
        ("fit plain", "fit ours", 1e-3),
        ("tta plain", "tta ours", 0.02),
    ],
)
def test_a_variant_of_training_computes_what_its_peer_does(
    peer: str, ours: str, tolerance: float
) -> None:
    pytest.importorskip("timm")
    if "lightly" in peer:
        pytest.importorskip("lightly")  # make bench installs it
    sizes = training.sizes_of(Options("tiny"))
    answers = [training.VARIANTS[name](sizes)["answer"] for name in (ours, peer)]
    assert array_gap(*answers, tolerance).holds


@pytest.mark.slow
@pytest.mark.parametrize("topic", ["loop", "startup", "training"])
def test_topics_that_start_processes_give_the_same_answer(topic: str) -> None:
    pytest.importorskip("lightly")
    lines = list(import_module(f"benchmarks.{topic}").lines(Options("tiny")))
    assert [line.item for line in lines if not line.same.holds] == []


def test_every_topic_is_a_module_with_lines() -> None:
    for topic in ALL_TOPICS:
        assert callable(getattr(pytest.importorskip(f"benchmarks.{topic}"), "lines", None))


def test_copied_runs_fill_a_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / ".harness" / "ledger.sqlite3")
    ledger.add_run(
        Run(
            run_id="",
            remote="local",
            spec=RunSpec("features_lr", profile="small"),
            competition="c",
            kernel=Handle("me", "features-lr"),
            digest="d",
            script_sha256="s",
            commit=None,
            dirty=False,
            datasets={},
            created_at="2026-01-01T00:00:00.000Z",
            state=RunState.COMPLETE,
        )
    )
    ledger.close()
    loop.fill_ledger(tmp_path, 5)
    loop.fill_ledger(tmp_path, 5)
    ledger = Ledger(tmp_path / ".harness" / "ledger.sqlite3")
    runs = ledger.runs()
    ledger.close()
    assert len(runs) == len({run.digest for run in runs}) == len({run.kernel for run in runs}) == 5


def test_a_missed_target_is_told_by_the_exit_code(tmp_path: Path) -> None:
    assert finish([a_line(ours=1.0)], tmp_path / "met.json") == 0
    assert finish([a_line(ours=1.0), a_line(ours=2.0)], tmp_path / "missed.json") == 1
    found = json.loads((tmp_path / "missed.json").read_text("utf-8"))["lines"]
    assert [line["verdict"] for line in found] == ["met", "MISSED"]
    assert found[0]["ratio"] == 3.0
    assert found[0]["floor_share"] == 0.5


def test_another_answer_fails_however_fast_it_comes() -> None:
    assert a_line(same=equal(False)).verdict == "DIFFERS"
    assert a_line(target=None, same=Same(float("nan"), 1.0)).verdict == "DIFFERS"
    assert finish([a_line(ours=0.001, same=Same(2.0, 1.0))], None) == 1


def test_rounds_alternate_after_one_call_each() -> None:
    calls = []
    line = race(
        "item",
        lambda: calls.append("ours"),
        lambda: calls.append("peer"),
        same=lambda ours, peer: equal(ours is None and peer is None),
        peer_name="peer",
        target=None,
        rounds=2,
        floor=lambda: calls.append("floor"),
    )
    assert calls == ["ours", "peer", "floor"] + ["peer", "ours", "floor"] * 2
    assert line.verdict == "info"


def test_a_line_has_the_median_of_the_rounds_ratios() -> None:
    line = line_of(
        "item", [(1.0, 2.0), (2.0, 10.0), (1.0, 30.0)], same=equal(True), peer_name="p", target=5.0
    )
    assert (line.ratio_low, line.ratio, line.ratio_high) == (2.0, 5.0, 30.0)
    assert line.verdict == "met"
    assert "| met " in table([line])


def test_gaps_are_relative_when_asked_and_shapes_must_agree() -> None:
    assert array_gap([100.0], [101.0], 0.02, relative=True).holds
    assert not array_gap([100.0], [101.0], 0.02).holds
    assert not array_gap(np.zeros(2), np.zeros(3), 1.0).holds


def test_grad_cam_equals_the_librarys() -> None:
    pytest.importorskip("pytorch_grad_cam")  # make bench installs it
    gradcam = pytest.importorskip("benchmarks.gradcam")
    assert [line.item for line in gradcam.lines(Options("tiny")) if not line.same.holds] == []
