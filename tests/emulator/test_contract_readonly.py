"""What only reads, checked the same way here and, with HARNESS_LIVE=1, on the real service.

    HARNESS_LIVE=1 pytest tests/emulator/test_contract_readonly.py

uses the credentials of whoever runs it and changes nothing there. HARNESS_LIVE_COMPETITION (one whose
rules were accepted) and HARNESS_LIVE_DATASET (a small public one) choose what is looked at.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import requests

from harness.emulator import UNSET, CompetitionSpec, Server, environment
from tests.emulator.forked_cli import kaggle
from tests.emulator.support import Local, scores

LIVE = os.environ.get("HARNESS_LIVE") == "1"
# As it was before any fixture moved HOME.
REAL_ENVIRONMENT = dict(os.environ)
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Service:
    """A service, ours or theirs, and names of things that are on it."""

    run: Run
    env: dict[str, str]
    competition: str
    dataset: str

    def rows(self, *arguments: str) -> list[dict]:
        done = self.run(*arguments, "--format", "json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    scratch = tmp_path_factory.mktemp("readonly")

    def runner(env: dict[str, str]) -> Run:
        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return kaggle(("-W", *arguments), env, scratch)

        return run

    if LIVE:
        yield Service(
            runner(REAL_ENVIRONMENT), REAL_ENVIRONMENT,
            os.environ.get("HARNESS_LIVE_COMPETITION", "titanic"),
            os.environ.get("HARNESS_LIVE_DATASET", "uciml/iris"),
        )  # fmt: skip
        return
    with Server(scratch / "state") as server:
        local = Local(server, scratch / "state")
        local.state.configure(dataset_delay_s=0.0)
        local.make_dataset("iris-flowers", {"Iris.csv": b"a,b\n1,2\n", "database.sqlite": b"x" * 9})
        data = scratch / "data"
        data.mkdir()
        (data / "sample_submission.csv").write_text("id,label\n")
        (data / "train.csv").write_text("id,label\nx,1\n")
        answers = scratch / "answers.csv"
        answers.write_text(scores(lambda i: i % 2))
        spec = CompetitionSpec("titanic", "Titanic", "id", ("label",))
        local.state.add_competition(spec, data, answers)
        local.submit(scores(lambda i: i % 2), "titanic")
        env = {key: value for key, value in os.environ.items() if key not in UNSET}
        env |= environment(local.endpoint, scratch / "client")
        yield Service(runner(env), env, "titanic", "local/iris-flowers")


def test_competitions_are_listed_with_an_address_and_a_deadline(service: Service):
    rows = service.rows("competitions", "list")
    assert rows
    for row in rows:
        assert "/competitions/" in row["ref"]
        assert datetime.fromisoformat(str(row["deadline"]).replace(" ", "T").rstrip("Z"))


def test_the_files_of_a_competition_have_names_and_sizes(service: Service):
    rows = service.rows("competitions", "files", service.competition)
    assert {row["name"] for row in rows} >= {"train.csv"}
    assert all(int(row["size"]) >= 0 for row in rows)


def test_a_leaderboard_has_teams_with_scores(service: Service):
    rows = service.rows("competitions", "leaderboard", service.competition, "-s")
    assert rows
    assert all(row["teamName"] and float(row["score"]) >= 0 for row in rows)


def test_limits_count_submissions(service: Service):
    done = service.run("competitions", "submission-limits", service.competition, "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout).get("numAllowedNow", 0) >= 0


def test_the_files_of_a_dataset_are_listed_a_page_at_a_time(service: Service):
    rows = service.rows("datasets", "files", service.dataset)
    assert rows
    assert all(row["name"] and int(row["size"]) > 0 for row in rows)
    page = service.run("datasets", "files", service.dataset, "--page-size", "1", "--csv")
    names = [row["name"] for row in rows]
    assert sum(name in page.stdout for name in names) == 1, page


def test_a_dataset_is_downloaded_as_it_is_listed(service: Service, tmp_path: Path):
    rows = service.rows("datasets", "files", service.dataset)
    done = service.run(
        "datasets", "download", service.dataset, "-p", str(tmp_path), "--unzip", "-q"
    )
    assert done.returncode == 0, done
    for row in rows:
        assert (tmp_path / row["name"]).stat().st_size == int(row["size"])


def test_the_quota_has_gpu_and_tpu_hours(service: Service):
    done = service.run("quota", "--format", "json")
    assert done.returncode == 0, done
    assert "GPU" in done.stdout.upper()
    assert "TPU" in done.stdout.upper()


def test_ones_own_kernels_can_be_listed(service: Service):
    assert service.run("kernels", "list", "-m").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("datasets", "files", "local/there-is-no-such-set-0815"),
        ("datasets", "status", "local/there-is-no-such-set-0815"),
        ("kernels", "status", "local/there-is-no-such-kernel-0815"),
        ("competitions", "files", "there-is-no-such-competition-0815"),
    ],
)
def test_what_does_not_exist_ends_with_code_1(service: Service, arguments: tuple[str, ...]):
    done = service.run(*arguments)
    assert done.returncode == 1, done
    assert done.stderr + done.stdout


def test_an_error_is_nested_and_says_why(service: Service, monkeypatch: pytest.MonkeyPatch):
    code = (
        "import json, requests\n"
        "from kaggle.api.kaggle_api_extended import KaggleApi\n"
        "api = KaggleApi(); api.authenticate()\n"
        "try: api.dataset_list_files('local/there-is-no-such-set-0815')\n"
        "except requests.HTTPError as e: print(json.dumps([e.response.status_code, e.response.json()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=service.env, capture_output=True, text=True, timeout=120
    )
    status, body = json.loads(done.stdout.splitlines()[-1])
    assert status in (403, 404)
    assert body["error"]["code"] == status
    assert body["error"]["message"]


def test_without_an_account_the_answer_is_401(service: Service):
    base = "https://api.kaggle.com/v1" if LIVE else f"{service.env['http_proxy']}/api/v1"
    session = requests.Session()
    session.trust_env = LIVE
    answer = session.post(
        f"{base}/kernels.KernelsApiService/ListKernels", json={"group": "PROFILE"}
    )
    assert answer.status_code == 401
