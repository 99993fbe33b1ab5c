"""What the tests of the local Kaggle share: short ways to talk to a server."""

import functools
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.emulator import UNSET, CompetitionSpec, Endpoint, Server, State, environment
from tests.emulator.browser import CHROMIUM
from tests.emulator.forked_cli import kaggle

DATASETS = "datasets.DatasetApiService"
KERNELS = "kernels.KernelsApiService"
COMPETITIONS = "competitions.CompetitionApiService"
OWN_WORDS = "[local Kaggle]"


class Refused(Exception):
    """The server answered 400 or more."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"{response.status_code} {response.text}")
        self.status = response.status_code
        self.response = response

    @property
    def message(self) -> str:
        body = self.response.json()
        return body["error"]["message"] if "error" in body else body["message"]


def _said(session: dict[str, Any]) -> list[str]:
    path = session["folder"] / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line)["data"] for line in lines]


def works(*command: str) -> bool:
    """Tell whether a command ends well here."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


# Where one is missing the test is skipped, or fails if that was forbidden: see `conftest.py`.
needs_bwrap = pytest.mark.bwrap
needs_chromium = pytest.mark.chromium


@functools.cache
def missing(mark: str) -> str:
    """Say what a marked test lacks here, empty when it is all there."""
    if mark == "chromium":
        return "" if CHROMIUM else "needs the package chromium"
    here = works("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true")
    return "" if here else "needs the package bubblewrap, and namespaces"


@dataclass
class Local:
    """A server and the short ways to talk to it."""

    server: Server
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False

    @property
    def state(self) -> State:
        return self.server.state

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, "local", self.state.key_for(self.env), True, os.getpid())

    def call(self, method: str, message: Any = None, /, user: str = "local", **fields: Any) -> Any:
        """Call an API method and give its JSON."""
        response = self.post(method, fields if message is None else message, user)
        if response.status_code >= 400:
            raise Refused(response)
        if response.status_code in (301, 302):
            return response.headers["Location"]
        return response.json()

    def post(self, method: str, body: Any, user: str = "local") -> requests.Response:
        return self.session.post(
            f"{self.url}/api/v1/{method}",
            json=body,
            auth=(user, self.endpoint.key),
            allow_redirects=False,
            timeout=60,
        )

    def start_upload(self, name: str, size: int, kind: str = "DATASET", user: str = "local") -> Any:
        return self.call(
            "blobs.BlobApiService/StartBlobUpload",
            user=user,
            type=kind,
            name=name,
            contentLength=size,
        )

    def upload(self, name: str, content: bytes, kind: str = "DATASET", user: str = "local") -> str:
        ticket = self.start_upload(name, len(content), kind, user)
        answer = self.session.put(ticket["createUrl"], data=content, timeout=60)
        assert answer.status_code == 200, answer.text
        return ticket["token"]

    def make_dataset(
        self, slug: str, contents: dict[str, bytes], /, user: str = "local", **more: Any
    ) -> Any:
        tokens = [
            {"token": self.upload(name, content, user=user)} for name, content in contents.items()
        ]
        body = {
            "ownerSlug": user,
            "slug": slug,
            "title": slug.replace("-", " ").title(),
            "licenseName": "CC0-1.0",
            "isPrivate": True,
            "files": tokens,
            **more,
        }
        return self.call(f"{DATASETS}/CreateDataset", body, user=user)

    def make_version(self, slug: str, files: dict[str, bytes], **more: Any) -> Any:
        tokens = [{"token": self.upload(name, content)} for name, content in files.items()]
        return self.call(
            f"{DATASETS}/CreateDatasetVersion",
            ownerSlug="local",
            datasetSlug=slug,
            body={"versionNotes": "next", "files": tokens, **more},
        )

    def list_files(self, slug: str, **more: Any) -> list[str]:
        answer = self.call(
            f"{DATASETS}/ListDatasetFiles",
            ownerSlug="local",
            datasetSlug=slug,
            pageSize=200,
            **more,
        )
        return [file["name"] for file in answer.get("datasetFiles", [])]

    def push(self, slug: str, text: str, user: str = "local", **more: Any) -> Any:
        body = {
            "slug": f"{user}/{slug}",
            "newTitle": slug.replace("-", " ").title(),
            "text": text,
            "language": "python",
            "kernelType": "script",
            "isPrivate": True,
            "enableInternet": False,
            **more,
        }
        return self.call(f"{KERNELS}/SaveKernel", body, user=user)

    def run(self, slug: str, text: str, **more: Any) -> dict[str, Any]:
        """Push a script, wait for its end and give the session."""
        answer = self.push(slug, text, **more)
        assert answer.get("versionNumber"), answer
        newest = max(row["id"] for row in self.state.sessions() if row["slug"] == slug)
        return self.state.wait(newest, 60)

    def status(self, slug: str, **more: Any) -> str:
        body = {"userName": "local", "kernelSlug": slug, **more}
        return self.call(f"{KERNELS}/GetKernelSessionStatus", body).get("status", "QUEUED")

    def log(self, session: dict[str, Any]) -> str:
        """Give everything a script wrote, without what the local Kaggle itself had to say."""
        return "".join(text for text in _said(session) if not text.startswith(OWN_WORDS))

    def notes(self, session: dict[str, Any]) -> str:
        """Give what the local Kaggle had to say about a run."""
        return "".join(text for text in _said(session) if text.startswith(OWN_WORDS))

    def output(self, session: dict[str, Any], name: str) -> str:
        return (session["folder"] / "working" / name).read_text(encoding="utf-8")

    def add_competition(
        self, tmp_path: Path, solution: bool = True, **changes: Any
    ) -> CompetitionSpec:
        data = tmp_path / "data"
        (data / "images").mkdir(parents=True, exist_ok=True)
        (data / "train.csv").write_text("id,label\nx,1\n")
        (data / "sample_submission.csv").write_text("id,label\n")
        (data / "images" / "0.png").write_bytes(b"not really an image")
        answers = tmp_path / "solution.csv"
        answers.write_text("id,label\n" + "".join(f"r{i},{i % 2}\n" for i in range(40)))
        values = {
            "slug": "my-comp",
            "title": "My Comp",
            "id_column": "id",
            "target_columns": ("label",),
            **changes,
        }
        spec = CompetitionSpec(**values)
        self.state.add_competition(spec, data, answers if solution else None)
        return spec

    def submit(self, text: str, slug: str = "my-comp", user: str = "local") -> Any:
        content = text.encode()
        ticket = self.call(
            f"{COMPETITIONS}/StartSubmissionUpload",
            user=user,
            competitionName=slug,
            contentLength=len(content),
            lastModifiedEpochSeconds=1,
            fileName="submission.csv",
        )
        assert self.session.put(ticket["createUrl"], data=content).status_code == 200
        return self.call(
            f"{COMPETITIONS}/CreateSubmission",
            user=user,
            competitionName=slug,
            blobFileTokens=ticket["token"],
            submissionDescription="a try",
        )

    def submissions(self, slug: str = "my-comp", user: str = "local") -> list[dict[str, Any]]:
        return self.call(f"{COMPETITIONS}/ListSubmissions", user=user, competitionName=slug).get(
            "submissions", []
        )

    def cli(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the unmodified command line in a process of its own."""
        scratch = self.folder.parent / "scratch"
        env = {key: value for key, value in os.environ.items() if key not in UNSET}
        env |= environment(self.endpoint, scratch) | more
        env = {key: value for key, value in env.items() if value}
        return kaggle(arguments, env, scratch)


def scores(guess: Callable[[int], float]) -> str:
    """A submission for the competition of `add_competition`."""
    return "id,label\n" + "".join(f"r{i},{guess(i)}\n" for i in range(40))


def end_all(state: State) -> None:
    """Stop every kernel that a test started."""
    for row in state.sessions(active=True):
        state.cancel(row["id"])
    deadline = time.monotonic() + 20
    while state.sessions(active=True) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not state.sessions(active=True)
