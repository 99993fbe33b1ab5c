"""`harness local`, as people type it: each command in a process of its own, without a workspace."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from harness.cli import main
from harness.commands.local import Place, describe_competition, shell_lines
from harness.emulator import UNSET, State
from harness.errors import ConfigError
from tests.emulator.support import scores

ROOT = Path(__file__).parents[2]


def harness(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """`harness local serve` in the foreground of another process; state folder and address."""
    folder = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "local", "serve", "--state", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    yield folder, line.split()[3]
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


def write_competition(tmp_path: Path) -> tuple[Path, Path]:
    data = tmp_path / "Cats & Dogs"
    data.mkdir()
    (data / "sample_submission.csv").write_text("id,label\nr0,0.5\n")
    answers = tmp_path / "answers.csv"
    answers.write_text(scores(lambda i: i % 2))
    return data, answers


def test_the_official_client_talks_to_what_is_served(served: tuple[Path, str], tmp_path: Path):
    folder, url = served
    data, answers = write_competition(tmp_path)
    state = ("--state", str(folder))
    added = harness("local", "competition", "add", str(data), "--solution", str(answers), *state)
    assert added.stdout.startswith("cats-dogs: "), added
    assert "cats-dogs  csv  auc" in harness("local", "competition", "list", *state).stdout
    script = 'eval "$($HARNESS local env --state "$0")" && kaggle competitions list'
    bash = subprocess.run(
        ["bash", "-c", script, str(folder)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HARNESS": f"{sys.executable} -m harness",
             "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert "competitions/cats-dogs" in bash.stdout, bash
    assert "Local Kaggle" in requests.get(url).text
    armed = harness(
        "local", "faults", "arm", "rate-limit", "--times", "2", "--set", "retry_after=3", *state,
    )  # fmt: skip
    assert armed.stdout == "Armed: rate-limit\n", armed
    listed = json.loads(harness("local", "faults", "list", "--json", *state).stdout)
    assert listed["armed"][0]["args"] == {"status": 429, "retry_after": 3}
    answer = requests.post(f"{url}/api/v1/kernels.KernelsApiService/ListKernels", auth=("a", "b"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert harness("local", "faults", "clear", *state).stdout == "Nothing is armed.\n"
    assert harness("local", "gc", *state).stdout.startswith("Freed 0.0 MB")
    refused = harness("local", "reset", "--yes", *state)
    assert (refused.exit_code, "Stop it first" in refused.stderr) == (1, True)


def test_what_changes_the_local_kaggle_says_so_as_json(tmp_path: Path):
    state = ("--state", str(tmp_path / "s"), "--json")
    armed = harness("local", "faults", "arm", "push-lost-ack", "--times", "3", *state)
    assert json.loads(armed.stdout)["armed"] == "push-lost-ack", armed
    listed = json.loads(harness("local", "faults", "list", *state).stdout)
    assert len(listed["armed"]) == 1
    assert json.loads(harness("local", "faults", "clear", *state).stdout) == {"armed": []}
    assert json.loads(harness("local", "faults", "list", *state).stdout)["armed"] == []
    gone = json.loads(harness("local", "reset", "--yes", *state).stdout)
    assert gone == {"folder": str(tmp_path / "s"), "deleted": True}
    assert not (tmp_path / "s").exists()
    assert json.loads(harness("local", "reset", "--yes", *state).stdout)["deleted"] is False


def test_wrong_orders_are_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (("local", "env", "--state", "s"), "is not running"),
        (("local", "serve"), "--state FOLDER"),
        (("local", "faults", "arm", "nonsense", "--state", "s"), "faults list"),
        (("local", "competition", "add", "empty", "--state", "s"), "sample_submission.csv"),
        (("local", "serve", "--state", "s", "--host", "256.1.1.1"), "cannot start"),
        (("local", "reset", "--yes", "--state", "empty"), "is no state folder"),
    ):
        done = harness(*arguments)
        assert done.exit_code == 1, arguments
        assert words in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_competition_can_be_described_by_its_sample_and_options(tmp_path: Path):
    data, _ = write_competition(tmp_path)
    place = Place(tmp_path / "state")
    spec = describe_competition(place, data, "my-cats", {"metric": "log_loss", "kind": "code"})
    assert (spec.slug, spec.title, spec.id_column) == ("my-cats", "My Cats", "id")
    assert (spec.target_columns, spec.metric, spec.kind) == (("label",), "log_loss", "code")
    with pytest.raises(ConfigError, match="metric 'mape'"):
        describe_competition(place, data, None, {"metric": "mape"})


NASTY = {"A": "plain", "B": "with space $HOME `x` \"q\" 'q' \\ ; | & %x%"}


def test_bash_and_fish_and_powershell_are_quoted():
    fish = shell_lines("fish", NASTY, ["GONE"])
    assert fish[0] == "set -e GONE;"
    assert fish[2] == r"""set -gx B 'with space $HOME `x` "q" \'q\' \\ ; | & %x%';"""
    shell = shell_lines("powershell", NASTY, ["GONE"])
    assert shell[0] == "Remove-Item Env:GONE -ErrorAction SilentlyContinue"
    assert shell[2] == """$env:B = 'with space $HOME `x` "q" ''q'' \\ ; | & %x%'"""


@pytest.mark.parametrize("shell", ["bash", "fish"])  # Debian has no package of PowerShell
def test_a_real_shell_reads_the_values_back(shell: str):
    if shutil.which(shell) is None:
        pytest.skip(f"needs the package {shell}")
    lines = shell_lines(shell, NASTY, UNSET)
    code = "import os; print(os.environ['B'])"
    last = f'"{sys.executable}" -c "{code}"'
    done = subprocess.run(
        [shell, "-c", "\n".join([*lines, last])], capture_output=True, text=True,
        env={**os.environ, "KAGGLE_TOKEN": "x"},
    )  # fmt: skip
    assert done.stdout.strip() == NASTY["B"], done.stderr


def test_serving_to_others_prints_the_token_they_need(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "local", "serve", "--state", "state", "--host", "0.0.0.0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        token = process.stdout.readline().split()[-1]
        call = f"{url}/api/v1/kernels.KernelsApiService/ListKernels"
        introspect = f"{url}/api/v1/security.OAuthService/IntrospectToken"
        for given, status, active in (("guess", 401, False), (token, 200, True)):
            head = {"Authorization": f"Bearer {given}"}
            assert requests.post(call, json={}, headers=head).status_code == status
            said = requests.post(introspect, json={"token": given}).json()
            assert bool(said.get("active")) is active
        state = State(tmp_path / "state")
        assert token == state.key_for({})
        state.close()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_a_program_reads_the_address_from_one_line(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "local", "serve", "--state", "state", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        about = json.loads(process.stdout.readline())
        assert requests.get(about["url"], timeout=20).status_code == 200
        assert (Path(about["state"]).is_dir(), about["token"]) == (True, None)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_help_is_light():
    code = (
        "import sys; from harness.cli import main\n"
        "try: main(['local', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'pandas', 'kagglesdk', 'kaggle', 'werkzeug', 'torch'} & set(sys.modules)))"
    )
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.strip().endswith("[]"), done
    assert "competition" in done.stdout
    assert time.monotonic() - begin < 30
