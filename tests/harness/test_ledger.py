"""The ledger keeps whole transactions, refuses what it cannot read, and numbers runs for people."""

import sqlite3
import threading

import pytest

from harness.errors import ConfigError
from harness.ledger import SCHEMA_VERSION, Ledger
from harness.records import Handle, PackedFile, Run, RunSpec, RunState


def new_run(**changes):
    values = {
        "run_id": "",
        "remote": "local",
        "spec": RunSpec("ssl", profile="cpu", overrides=(("train.epochs", 3),)),
        "competition": "c",
        "kernel": Handle("me", "ssl"),
        "digest": "d1",
        "script_sha256": "s1",
        "commit": None,
        "dirty": False,
        "datasets": {"weights": {"digest": "x", "version": 2}},
        "created_at": "2026-01-01T00:00:00.000Z",
        "state": RunState.INTENT,
    }
    return Run(**{**values, **changes})


@pytest.fixture
def ledger(tmp_path):
    book = Ledger(tmp_path / "ledger.sqlite3")
    yield book
    book.close()


def test_a_run_comes_back_as_it_was_written(ledger, tmp_path):
    run = ledger.add_run(new_run())
    other = Ledger(tmp_path / "ledger.sqlite3")
    assert other.run(run.run_id) == run
    other.close()


def test_runs_of_one_spec_are_numbered(ledger):
    assert [ledger.add_run(new_run()).run_id[-2:] for _ in range(3)] == ["-1", "-2", "-3"]


def test_two_confirmed_runs_cannot_claim_one_kernel_version(ledger):
    first, second = ledger.add_run(new_run()), ledger.add_run(new_run())
    ledger.update_run(first.run_id, version=1)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.update_run(second.run_id, version=1)


def test_open_runs_are_those_whose_state_may_change(ledger):
    run = ledger.add_run(new_run())
    assert ledger.open_runs("local") == [run]
    ledger.update_run(run.run_id, state=RunState.COMPLETE)
    assert ledger.open_runs("local") == []
    assert ledger.open_runs("kaggle") == []


def test_an_unknown_run_is_named_with_the_known_ones(ledger):
    run = ledger.add_run(new_run())
    with pytest.raises(ConfigError, match=run.run_id):
        ledger.run("ssl-9")


def test_outputs_and_datasets_are_remembered(ledger):
    run = ledger.add_run(new_run())
    files = [PackedFile("a.csv", 3, "h"), PackedFile("checkpoints/b.pth", 9, "k")]
    ledger.record_outputs(run.run_id, files, {"a.csv"})
    assert ledger.outputs(run.run_id) == [(files[0], True), (files[1], False)]
    ledger.dataset_intent("local", "me/w", "digest")
    assert ledger.dataset_version("local", "me/w", "digest") is None
    ledger.dataset_confirmed("local", "me/w", "digest", 4)
    assert ledger.dataset_version("local", "me/w", "digest") == 4


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(ConfigError, match="newer harness"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"not a database, but long enough to be read as a header" * 40)
    with pytest.raises(ConfigError, match="no readable ledger"):
        Ledger(path)
    assert path.read_bytes().startswith(b"not a database")


def test_runs_added_at_once_get_different_ids(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    Ledger(path).close()
    ids = []

    def add():
        book = Ledger(path)
        ids.append(book.add_run(new_run()).run_id)
        book.close()

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 8
