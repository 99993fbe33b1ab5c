"""Doctor tells which credentials win and why, never what they are, and how each red line is mended."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.commands import doctor as module
from harness.commands.doctor import (
    BAD,
    OK,
    WARN,
    check_credentials,
    check_disk,
    check_image,
    check_workspace,
    credential_sources,
    doctor,
)
from harness.settings import Settings
from harness.workbench import open_workbench

ROOT = Path(__file__).resolve().parents[2]
SECRET = "KGAT_planted_0123456789"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / ".kaggle").mkdir(parents=True)
    return folder


def open_bench(tmp_path, remote="local"):
    return open_workbench(Settings(ROOT, tmp_path / "state", remote=remote), print)


def test_the_environment_comes_before_files_and_a_token_before_a_key(home):
    (home / ".kaggle" / "kaggle.json").write_text("{}")
    (home / ".kaggle" / "access_token").write_text(SECRET)
    values = {
        "HOME": str(home), "KAGGLE_API_TOKEN": SECRET, "KAGGLE_USERNAME": "me", "KAGGLE_KEY": SECRET,
    }  # fmt: skip
    places = [place for _, place in credential_sources(values)]
    assert places == [
        "KAGGLE_API_TOKEN", "~/.kaggle/access_token", "KAGGLE_USERNAME and KAGGLE_KEY", "~/.kaggle/kaggle.json",
    ]  # fmt: skip


def test_no_finding_holds_a_secret_and_an_open_file_is_told(home, tmp_path):
    path = home / ".kaggle" / "kaggle.json"
    path.write_text(f'{{"username": "me", "key": "{SECRET}"}}')
    path.chmod(0o644)
    values = {"HOME": str(home), "KAGGLE_API_TOKEN": SECRET}
    with open_bench(tmp_path, "kaggle") as bench:
        found = check_credentials(bench, values)
    assert SECRET not in repr(found)
    assert [item.state for item in found] == [OK, WARN, WARN]
    assert found[0].fact.startswith(
        "token from KAGGLE_API_TOKEN (a token comes before a key; not used: ~/"
    )
    assert found[1].mend == f"chmod 600 {path}"
    assert found[2].mend == "unset KAGGLE_API_TOKEN"


def test_missing_credentials_are_red_only_where_they_are_needed(home, tmp_path):
    values = {"HOME": str(home)}
    with open_bench(tmp_path) as bench:
        assert check_credentials(bench, values)[0].state == OK
    with open_bench(tmp_path, "kaggle") as bench:
        (found,) = check_credentials(bench, values)
    assert found.state == BAD
    assert "kaggle.json" in found.mend


def test_a_damaged_ledger_is_red(tmp_path):
    with open_bench(tmp_path) as bench:
        assert check_workspace(bench)[-1].state == OK
        bench.ledger.close()
        for name in ("ledger.sqlite3-wal", "ledger.sqlite3-shm"):
            (tmp_path / "state" / name).unlink(missing_ok=True)
        (tmp_path / "state" / "ledger.sqlite3").write_bytes(b"no database" * 200)
        assert check_workspace(bench)[-1].state == BAD


def test_little_room_is_told_with_what_gives_some_back(tmp_path, monkeypatch):
    for free, state in ((20e9, OK), (3e9, WARN), (0.2e9, BAD)):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _, usage=usage: usage)
        (found,) = check_disk(tmp_path / "not" / "there")
        assert found.state == state
        assert (found.mend == "harness local gc") is (state != OK)


def test_old_facts_about_the_image_are_yellow():
    year = int(module.IMAGE_DATE[:4])
    assert check_image(datetime(year, 12, 1, tzinfo=UTC))[0].state == OK
    assert check_image(datetime(year + 1, 12, 1, tzinfo=UTC))[0].state == WARN


def test_everything_is_looked_at_and_every_broken_thing_has_a_mend(tmp_path, home):
    with open_bench(tmp_path) as bench:
        found = doctor(bench, {"HOME": str(home)})
    assert {item.what for item in found} >= {
        "harness", "kaggle client", "libraries", "workspace", "settings", "ledger", "credentials", "endpoint",
        "sandbox", "disk", "kaggle image",
    }  # fmt: skip
    assert all(item.mend for item in found if item.state == BAD)
