"""The ledger keeps whole transactions, refuses what it cannot read, and numbers runs for people."""

import sqlite3
import threading
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.ledger import SCHEMA, SCHEMA_VERSION, Ledger
from harness.records import (
    Handle,
    ImportedMember,
    PackedFile,
    Run,
    RunSpec,
    RunState,
    Submission,
)


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


def test_a_kernel_that_was_deleted_and_made_anew_counts_from_one_again(ledger):
    def pushed(version, **changes):
        run = ledger.add_run(new_run(**changes))
        ledger.retire_kernel(run, version)
        return ledger.update_run(run.run_id, version=version)

    old = [pushed(1), pushed(2)]
    other = pushed(1, kernel=Handle("me", "x"))
    assert ledger.runs("local") == [*old, other]
    again = pushed(1)
    assert ledger.runs("local") == [other, again]
    assert all(ledger.run(run.run_id).remote.startswith("local until ") for run in old)
    newer = pushed(2)
    assert ledger.runs("local") == [other, again, newer]


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


def new_submission(**changes):
    values = {
        "submission_id": "s1",
        "remote": "local",
        "competition": "c",
        "csv": Path("s.csv"),
        "sha256": "h",
        "message": "m",
        "nonce": "n",
        "created_at": "2026-01-01T00:00:00.000Z",
    }
    return Submission(**{**values, **changes})


def test_a_ledger_of_the_first_schema_is_migrated_with_what_it_holds(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA)
        db.execute(
            "INSERT INTO submissions VALUES ('s1','local','c','s.csv','h','m','n',"
            "'2026-01-01T00:00:00.000Z',7,'COMPLETE','0.9',NULL,NULL)"
        )
        db.execute("PRAGMA user_version = 1")
    book = Ledger(path)
    (kept,) = book.submissions()
    assert kept == new_submission(ref=7, status="COMPLETE", public_score="0.9")
    assert book.imports() == []
    scored = new_submission(submission_id="s2", blend_id="b", cv_score=0.9, cv_low=0.8, cv_high=1.0)
    book.add_submission(scored)
    book.close()
    again = Ledger(path)
    assert again.submissions()[1] == scored
    again.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_a_new_ledger_and_a_migrated_one_have_the_same_tables(tmp_path):
    def tables(path):
        with sqlite3.connect(path) as db:
            names = [
                row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            return {name: list(db.execute(f"PRAGMA table_info({name})")) for name in sorted(names)}

    old, new = tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    with sqlite3.connect(old) as db:
        db.executescript(SCHEMA)
        db.execute("PRAGMA user_version = 1")
    for path in (old, new):
        Ledger(path).close()
    assert tables(old) == tables(new)


def test_an_import_of_the_same_name_replaces_the_earlier_one(ledger):
    item = ImportedMember(
        "mate", "c", "2026", "a.csv", "b.csv", "1", "2", "3", "4", None, "note", 0.9
    )
    ledger.add_import(item)
    newer = ImportedMember("mate", "c", "2027", "a.csv", "b.csv", "1", "2", "5", "6", "run-1", "")
    ledger.add_import(newer)
    assert ledger.imports("c") == [newer]
    assert ledger.imports("other") == []
