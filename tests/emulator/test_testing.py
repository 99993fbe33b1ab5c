"""The fixture for other projects: its documented example runs, as another project would run it."""

import subprocess
import sys
import textwrap
from pathlib import Path

from harness.emulator import testing
from harness.emulator.testing import LocalKaggle, local_kaggle, local_kaggle_options
from tests.emulator.support import scores

__all__ = ["local_kaggle", "local_kaggle_options"]


def example() -> str:
    """The test in the module's documentation."""
    assert testing.__doc__ is not None
    _, _, rest = testing.__doc__.partition("and in a test:\n")
    text, _, _ = rest.partition("\nEach test has")
    return textwrap.dedent(text).strip() + "\n"


def test_the_documented_example_runs_in_another_project(tmp_path: Path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["harness.emulator.testing"]\n')
    (tmp_path / "test_example.py").write_text(example())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path),
             "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_whole_loop_in_one_test(local_kaggle: LocalKaggle, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "sample_submission.csv").write_text("id,label\n")
    answers = tmp_path / "answers.csv"
    answers.write_text(scores(lambda i: i % 2))
    local_kaggle.add_competition("my-comp", data, answers)
    session = local_kaggle.push("make-it", f"open('s.csv','w').write({scores(lambda i: i % 2)!r})")
    assert local_kaggle.wait(session)["status"] == "COMPLETE"
    local_kaggle.run(
        "kaggle", "competitions", "submit", "my-comp", "-m", "x",
        "-f", str(local_kaggle.output(session, "s.csv")),
    )  # fmt: skip
    assert local_kaggle.submissions("my-comp")[0]["public"] == 1.0


def test_the_client_in_this_process_is_pointed_here_too(local_kaggle: LocalKaggle):
    import os

    assert os.environ["KAGGLE_API_ENVIRONMENT"] == "LOCALHOST"
    assert os.environ["http_proxy"] == local_kaggle.url
    from kaggle.api.kaggle_api_extended import KaggleApi

    api = KaggleApi()
    api.authenticate()
    assert api.dataset_list(mine=True) == []
