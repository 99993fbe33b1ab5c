"""A session knows its budget, finds what an earlier one left, and takes up nothing that does not fit."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import KagglePaths
from kernels.blocks.session import (
    BudgetSpent,
    RunSession,
    read_budget,
    rows_digest,
    take_up,
    unfinished_runs,
)
from kernels.blocks.tables import Tables
from kernels.blocks.workers import WORKER_VARIABLE, FoldProcess, ShareDone, train_side_by_side
from kernels.config import Competition, FeaturesConfig
from kernels.contract import BUDGET_VARIABLE, MANIFEST_FILE, RESUME_FOLDER, resume_key

COMPETITION = Competition(slug="toy", title="Toy", id_column="id", target_columns=("label",))
SPEC = {"strategy": "toy", "profile": "full"}
DIGEST = "f" * 64
CONFIG = FeaturesConfig()


def folders(root: Path) -> KagglePaths:
    paths = KagglePaths(root / "input", root / "working", root / "temp")
    for folder in (paths.input, paths.working, paths.temp):
        folder.mkdir(parents=True, exist_ok=True)
    return paths


def stop_after_one_fold(root: Path, key: str, number: int = 1, seconds: float = 60.0) -> Path:
    """The output of a session that trained one of two folds."""
    paths = folders(root)
    session = RunSession(
        paths.working / RESUME_FOLDER, 0.0, number=number, earlier_s=seconds, keeps=True
    )
    writer = OutputWriter(COMPETITION, paths, session)
    rows = np.arange(4)

    def train() -> None:
        for seed, fold, _, _ in writer.folds([(0, 0, rows, rows), (0, 1, rows, rows)]):
            writer.add_oof(["a", "b"], seed, fold, np.array([0, 1]), np.array([0.1, 1 / 3]))
            writer.add_test(["c"], seed, fold, np.array([2 / 3]))
            writer.note_fold(seed, fold, epoch=7)
            writer.note(weights_from="a package")

    with pytest.raises(BudgetSpent) as stopped:
        train()
    (paths.working / "checkpoints").mkdir()
    (paths.working / "checkpoints" / "fold0.pth").write_bytes(b"w")
    writer.stop(SPEC, CONFIG, {}, DIGEST, session.describe(key, str(stopped.value)))
    return paths.working


def mount(output: Path, root: Path, place: str = "notebooks/me/toy") -> KagglePaths:
    paths = folders(root)
    target = paths.input / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(output)
    return paths


@pytest.mark.parametrize("place", ["toy", "notebooks/me/toy", "datasets/me/toy", "toy/versions/2"])
def test_an_unfinished_run_is_found_in_every_mount_layout(tmp_path, place):
    output = stop_after_one_fold(tmp_path / "first", "k" * 64)
    paths = mount(output, tmp_path / "second", place)
    (found,) = unfinished_runs(paths)
    assert found.resume.done == ((0, 0),)
    assert found.resume.left == ((0, 1),)


def test_a_continued_run_has_the_folds_of_both_sessions(tmp_path):
    key = "k" * 64
    output = stop_after_one_fold(tmp_path / "first", key)
    paths = mount(output, tmp_path / "second")
    session = RunSession(paths.working / RESUME_FOLDER)
    said = take_up(session, paths, key, SPEC, repr(CONFIG))
    assert said is not None
    assert said.startswith("session 2: going on from")
    assert "1 of 2 folds done" in said
    assert (session.number, session.earlier_s >= 60.0, session.keeps) == (2, True, True)
    assert (paths.working / "checkpoints" / "fold0.pth").read_bytes() == b"w"
    writer = OutputWriter(COMPETITION, paths, session)
    rows = np.arange(4)
    trained = []
    for seed, fold, _, _ in writer.folds([(0, 0, rows, rows), (0, 1, rows, rows)]):
        trained.append(fold)
        writer.add_oof(["d", "e"], seed, fold, np.array([0, 1]), np.array([0.2, 0.7]))
        writer.add_test(["c"], seed, fold, np.array([0.5]))
        writer.note_fold(seed, fold, epoch=8)
    assert trained == [1]
    assert writer.notes["weights_from"] == "a package"
    assert [entry["epoch"] for entry in writer.noted_folds()] == [7, 8]
    writer.finish(SPEC, CONFIG, {}, DIGEST)
    manifest = json.loads((paths.working / MANIFEST_FILE).read_text())
    assert manifest["complete"] is True
    assert manifest["resumed_from"]["session"] == 1
    assert not (paths.working / RESUME_FOLDER).exists()
    oof = pd.read_csv(paths.working / "oof_predictions.csv", float_precision="round_trip")
    assert oof["pred_label"].tolist() == [0.1, 1 / 3, 0.2, 0.7]  # the floats came back to the bit


def test_the_part_that_came_farthest_is_taken_up(tmp_path):
    key = "k" * 64
    for number in (2, 1):
        output = stop_after_one_fold(tmp_path / f"part{number}", key, number, seconds=10.0 * number)
        paths = mount(output, tmp_path / "next", f"notebooks/me/part-{number}")
    session = RunSession(paths.working / RESUME_FOLDER)
    take_up(session, paths, key, SPEC, repr(CONFIG))
    assert session.number == 3


@pytest.mark.parametrize(
    ("spec", "config", "part"),
    [
        ({**SPEC, "tag": "x"}, repr(CONFIG), "spec"),
        (SPEC, "FeaturesConfig(glcm_levels=16)", "config"),
        (SPEC, repr(CONFIG), "data or its datasets"),
    ],
)
def test_an_unfinished_run_of_something_else_stops_the_run_at_once(tmp_path, spec, config, part):
    paths = mount(stop_after_one_fold(tmp_path / "first", "k" * 64), tmp_path / "second")
    session = RunSession(paths.working / RESUME_FOLDER)
    with pytest.raises(ValueError, match=f"its {part} differs"):
        take_up(session, paths, "other", spec, config)
    assert not list(paths.working.iterdir())


def test_a_damaged_state_is_refused_with_the_files_name(tmp_path):
    key = "k" * 64
    output = stop_after_one_fold(tmp_path / "first", key)
    (output / RESUME_FOLDER / "seed0_fold0.json").write_text("{}")
    paths = mount(output, tmp_path / "second")
    with pytest.raises(ValueError, match=r"resume/seed0_fold0.json has .* Mount its whole output"):
        take_up(RunSession(paths.working / RESUME_FOLDER), paths, key, SPEC, repr(CONFIG))


def test_other_manifests_among_the_inputs_are_left_alone(tmp_path):
    paths = folders(tmp_path)
    for name, text in {"a": "[]", "b": "{", "c": '{"files": []}'}.items():
        (paths.input / name).mkdir()
        (paths.input / name / MANIFEST_FILE).write_text(text)
    assert take_up(RunSession(paths.working), paths, "k", SPEC, repr(CONFIG)) is None


@pytest.mark.parametrize(
    ("variable", "baked", "seconds"),
    [
        (None, None, None),
        (None, 480, 28800.0),
        ("", 480, None),
        ("1.5", 480, 90.0),
        ("0", None, 0.0),
    ],
)
def test_the_environment_wins_over_the_baked_budget(monkeypatch, variable, baked, seconds):
    monkeypatch.delenv(BUDGET_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(BUDGET_VARIABLE, variable)
    assert read_budget(baked) == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_budget_that_is_no_time_is_refused(monkeypatch, text):
    monkeypatch.setenv(BUDGET_VARIABLE, text)
    with pytest.raises(ValueError, match="write minutes"):
        read_budget(None)


def test_no_session_ends_before_it_has_finished_something():
    session = RunSession(Path("nowhere"), budget_s=0.0)
    session.check("the start", expected_s=1e9)
    session.worked()
    with pytest.raises(BudgetSpent, match="the start"):
        session.check("the start")


def test_a_worker_trains_its_share_and_never_starts_workers(tmp_path, monkeypatch):
    paths = folders(tmp_path)
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: started.append(1))
    script = tmp_path / "script.py"
    session = RunSession(paths.working / RESUME_FOLDER, script=script, share=((0, 1),))
    writer = OutputWriter(COMPETITION, paths, session)
    rows = np.arange(4)
    cells = [(0, fold, rows, rows) for fold in range(3)]
    two = [FoldProcess("a", {}), FoldProcess("b", {})]
    seen = []

    def train() -> None:
        seen.extend(fold for _, fold, _, _ in writer.folds(cells, two))

    with pytest.raises(ShareDone):
        train()
    assert seen == [1]
    with pytest.raises(RuntimeError, match="must not start workers"):
        train_side_by_side(session, [(0, 0), (0, 1)], two)
    monkeypatch.setenv(WORKER_VARIABLE, '{"cells": []}')
    with pytest.raises(RuntimeError, match="must not start workers"):
        train_side_by_side(RunSession(paths.working, script=script), [(0, 0), (0, 1)], two)
    assert started == []


def test_the_key_moves_with_whatever_decides_the_result():
    frame = pd.DataFrame({"id": ["a", "b"], "label": [0, 1]})
    tables = Tables(unlabelled=frame[["id"]], labelled=frame, test=frame[["id"]])
    other = Tables(unlabelled=frame[["id"]], labelled=frame.assign(label=1), test=frame[["id"]])
    rows = rows_digest(tables, ("label",))
    assert rows_digest(other, ("label",)) != rows
    base = (SPEC, repr(CONFIG), {"weights": "d"}, rows)
    keys = {resume_key(*base)}
    for place, value in enumerate(({}, "C()", {"weights": "e"}, "r")):
        keys.add(resume_key(*(value if i == place else part for i, part in enumerate(base))))
    assert len(keys) == 5
