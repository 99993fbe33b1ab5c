"""Settings come from pyproject, then environment, then options, and say what is wrong with themselves."""

import shutil
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.settings import choose_profile, find_workspace, load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_harness_variables(monkeypatch):
    for name in ("REMOTE", "PROFILE", "STATE", "OWNER"):
        monkeypatch.delenv(f"HARNESS_{name}", raising=False)


def workspace_with(tmp_path, table, monkeypatch):
    (tmp_path / "kernels").mkdir()
    shutil.copy(ROOT / "kernels" / "config.py", tmp_path / "kernels")
    (tmp_path / "pyproject.toml").write_text(table)
    # These tests read settings only: the kernels package already imported stays the repository's.
    monkeypatch.setattr("harness.settings.activate_workspace", lambda _: None)
    return tmp_path


def test_a_fresh_clone_uses_the_local_remote():
    settings = load_settings(ROOT)
    assert settings.remote == "local"
    assert settings.state == ROOT / ".harness"


def test_the_workspace_is_found_from_below():
    assert find_workspace(ROOT / "tests" / "harness") == ROOT


def test_outside_of_a_workspace_the_error_says_where_to_go(tmp_path):
    with pytest.raises(ConfigError, match="harness init"):
        find_workspace(tmp_path)


def test_options_beat_environment_beat_table(tmp_path, monkeypatch):
    folder = workspace_with(
        tmp_path, '[tool.harness]\nremote = "kaggle"\nprofile = "cpu"\n', monkeypatch
    )
    assert load_settings(folder).remote == "kaggle"
    monkeypatch.setenv("HARNESS_REMOTE", "local")
    monkeypatch.setenv("HARNESS_PROFILE", "small")
    assert load_settings(folder).remote == "local"
    assert load_settings(folder).profile == "small"
    assert load_settings(folder, remote="kaggle", profile="full").profile == "full"


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ('[tool.harness]\nremot = "local"\n', "remot"),
        ('[tool.harness]\nremote = "moon"\n', "moon"),
        ('[tool.harness]\nprofile = "tiny"\n', "tiny"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, monkeypatch, table, word):
    folder = workspace_with(tmp_path, table, monkeypatch)
    with pytest.raises(ConfigError, match=word):
        load_settings(folder)


def test_kaggle_means_full_size():
    assert choose_profile(load_settings(ROOT, remote="kaggle"))[0] == "full"
    assert choose_profile(load_settings(ROOT, remote="kaggle", profile="small"))[0] == "small"
