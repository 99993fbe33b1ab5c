"""The reader accepts what the writer writes, and refuses anything that was altered since."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from contract_runs import COMPETITION, SCRIPT, read_run, write_run
from test_ledger import new_run

from harness.commands.members import groups_of_runs
from harness.errors import ContractError
from harness.members import line_up
from harness.outputs import is_small, read_manifest, read_outputs
from kernels.config import Competition
from kernels.contract import (
    MANIFEST_FILE,
    OOF_FILE,
    RESUME_FOLDER,
    TEST_FILE,
    record_files,
    resume_of,
    write_json,
)
from kernels.stats.decisions import best_threshold
from kernels.stats.folds import fold_scores
from kernels.stats.thresholds import nested_decisions


def reseal(folder):
    """Make the manifest agree with changed files, as a faulty kernel would."""
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["files"] = [vars(record) for record in record_files(folder)]
    write_json(path, manifest)


def rewrite(folder, name, change):
    frame = pd.read_csv(folder / name, dtype={"id": str})
    change(frame).to_csv(folder / name, index=False)
    reseal(folder)


def test_a_written_run_reads_back_to_the_bit(tmp_path):
    outputs = read_run(write_run(tmp_path / "r"))
    assert len(outputs.oof) == 60
    assert len(outputs.test) == 60
    assert outputs.metrics["n_labelled"] == 60
    raw = pd.read_csv(tmp_path / "r" / OOF_FILE)
    assert set(outputs.oof["pred_label"]) == set(raw["pred_label"])


def test_several_targets_have_a_column_each(tmp_path):
    competition = Competition("multi", "Multi", "id", ("a", "b"), metric="macro_auc")
    folder = write_run(tmp_path / "r", competition=competition)
    outputs = read_outputs(folder, "r", competition, SCRIPT)
    assert list(outputs.oof.columns) == [
        "id",
        "seed",
        "fold",
        "target_a",
        "target_b",
        "pred_a",
        "pred_b",
    ]


@pytest.mark.parametrize("name", [OOF_FILE, TEST_FILE, "metrics.json"])
def test_a_changed_byte_is_noticed(tmp_path, name):
    folder = write_run(tmp_path / "r")
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ContractError, match=name):
        read_run(folder)


def test_a_missing_checkpoint_is_no_fault_but_a_missing_table_is(tmp_path):
    folder = write_run(tmp_path / "r")
    (folder / "checkpoints" / "model_fold0.bin").unlink()
    read_run(folder)
    (folder / OOF_FILE).unlink()
    with pytest.raises(ContractError, match="missing"):
        read_run(folder)


def test_outputs_of_another_script_are_refused(tmp_path):
    folder = write_run(tmp_path / "r")
    with pytest.raises(ContractError, match="another version of the kernel"):
        read_outputs(folder, "r", Competition("toy", "Toy", "image_id", ("label",)), "f" * 64)


def test_another_schema_version_is_refused(tmp_path):
    folder = write_run(tmp_path / "r")
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(ContractError, match="99"):
        read_run(folder)


@pytest.mark.parametrize("path", ["../escape.csv", "/etc/passwd", "a/../../b", "a\\b"])
def test_a_manifest_cannot_name_files_outside_its_folder(tmp_path, path):
    folder = write_run(tmp_path / "r")
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["files"].append({"path": path, "size": 1, "sha256": "0"})
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(ContractError, match="leaves the output folder"):
        read_run(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema_version": 1}', '"x"'])
def test_a_manifest_of_another_form_is_one_clear_error(tmp_path, text):
    folder = write_run(tmp_path / "r")
    (folder / MANIFEST_FILE).write_text(text)
    with pytest.raises(ContractError, match="manifest"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (OOF_FILE, lambda f: f.assign(pred_label=f.pred_label.where(f.id != "img003")), "bad rows"),
        (OOF_FILE, lambda f: f.assign(pred_label=f.pred_label + 1), "outside 0..1"),
        (OOF_FILE, lambda f: f.drop(columns="fold"), "columns"),
        (OOF_FILE, lambda f: f.iloc[:0], "no rows"),
        (OOF_FILE, lambda f: pd.concat([f, f.iloc[:1]]), "repeats"),
        (OOF_FILE, lambda f: pd.concat([f, f.iloc[:1].assign(fold=2)]), "two folds"),
        (TEST_FILE, lambda f: f[~((f.id == "test03") & (f.fold == 1))], "same ids"),
        (TEST_FILE, lambda f: f[f.fold != 1], "same ids"),
    ],
)
def test_tables_that_make_no_sense_are_refused_even_when_sealed(tmp_path, name, change, words):
    folder = write_run(tmp_path / "r")
    rewrite(folder, name, change)
    with pytest.raises(ContractError, match=words):
        read_run(folder)


def stop_early(folder, **changes):
    """Turn a finished output folder into one that stopped at its time budget."""
    for name in (OOF_FILE, TEST_FILE, "metrics.json"):
        (folder / name).unlink()
    (folder / RESUME_FOLDER).mkdir()
    (folder / RESUME_FOLDER / "seed0_fold1.pt").write_bytes(b"state")
    reseal(folder)
    resume = {
        "key": "k",
        "session": 1,
        "seconds": 60.5,
        "stage": "seed 0 fold 1, epoch 3 of 8",
        "done": [[0, 0]],
        "left": [[0, 1], [0, 2]],
    }
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    write_json(
        folder / MANIFEST_FILE, {**manifest, "complete": False, "resume": {**resume, **changes}}
    )


def test_an_unfinished_run_has_a_sound_manifest_and_no_outputs(tmp_path):
    folder = write_run(tmp_path / "r")
    stop_early(folder)
    resume = resume_of(read_manifest(folder, "r", SCRIPT))
    assert resume.left == ((0, 1), (0, 2))
    assert resume.describe().startswith("1 of 3 folds done; ")
    with pytest.raises(ContractError, match=r"unfinished: 1 of 3 folds .* epoch 3 of 8"):
        read_run(folder)


def test_an_unfinished_run_must_say_how_far_it_came(tmp_path):
    folder = write_run(tmp_path / "r")
    stop_early(folder, left="soon")
    with pytest.raises(ContractError, match="'resume' of an unfinished run"):
        read_manifest(folder, "r", SCRIPT)


def test_unfinished_training_is_no_small_file():
    assert not is_small("resume/seed0_fold1.pt")
    assert is_small("oof_predictions.csv")


def test_a_run_for_f1_hands_in_decisions_and_scores_folds_by_the_others_threshold(tmp_path):
    competition = replace(COMPETITION, metric="f1")
    outputs = read_run(write_run(tmp_path / "run", n=90, competition=competition), competition)
    sent = pd.read_csv(tmp_path / "run" / "submission.csv")
    assert set(sent["label"]) == {0, 1}
    (threshold,) = outputs.metrics["thresholds"]
    truth, probs = outputs.oof["target_label"], outputs.oof["pred_label"]
    assert best_threshold(truth, probs, "f1").threshold == threshold
    decided = nested_decisions("f1", truth, probs, outputs.oof["seed"], outputs.oof["fold"])
    slow = fold_scores("f1", truth, decided, (outputs.oof["seed"], outputs.oof["fold"])).mean()
    assert outputs.metrics["score_mean_fold"] == pytest.approx(slow)


def test_a_run_names_its_groups_and_members_are_resampled_by_them(tmp_path):
    write_run(tmp_path / "run" / "outputs", films_a_patient=4)
    run = new_run(run_id="run")
    bench = SimpleNamespace(outputs_folder=lambda run: tmp_path / run.run_id / "outputs")
    groups = groups_of_runs(bench, [run])
    assert groups["img000"] == groups["img003"]
    assert groups.nunique() == 15
    outputs = read_outputs(tmp_path / "run" / "outputs", "run", COMPETITION, None)
    table = line_up([outputs], COMPETITION, 1, groups=groups)
    assert table.grouped
    assert len(np.unique(table.units)) == 15
    assert groups_of_runs(bench, []) is None
