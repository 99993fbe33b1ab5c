"""A trained model leaves the house once, with its card, and not before the competition's deadline."""

import base64
import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from harness.commands.publish_model import Publication, check_deadline, to_folder
from harness.errors import ConfigError
from harness.ledger import utc_now
from harness.records import Handle, Run, RunSpec, RunState

RUN = Run(
    "toy-cpu-1", "local", RunSpec("toy", profile="cpu"), "toy", Handle("me", "toy", 1), "d" * 64,
    "s" * 64, None, dirty=False, datasets={}, created_at=utc_now(), state=RunState.COMPLETE,
)  # fmt: skip


@pytest.fixture
def publication(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "README.md").write_text("# toy: a model\n")
    (folder / "model.pt").write_bytes(b"weights" * 10)
    (folder / "publication.json").write_text(json.dumps({"digest": "a" * 64}))
    files = ("README.md", "model.pt", "publication.json")
    return Publication(RUN, folder, files, "a" * 64, str(folder))


def bench_with(deadline):
    remote = SimpleNamespace(competition_info=lambda _: SimpleNamespace(deadline=deadline))
    return SimpleNamespace(remote=remote)


def test_nothing_leaves_before_the_deadline():
    now = datetime(2026, 11, 25, tzinfo=UTC)
    with pytest.raises(ConfigError, match="runs until 2026-12-01"):
        check_deadline(bench_with("2026-12-01T00:00:00Z"), RUN, now)
    check_deadline(bench_with("2026-11-24T23:59:00Z"), RUN, now)
    check_deadline(bench_with(None), RUN, now)


def test_a_folder_is_written_once_and_replaced_by_a_newer_publication(publication, tmp_path):
    target = tmp_path / "out" / "toy"
    assert not to_folder(publication, target).already_there
    assert to_folder(publication, target).already_there
    (publication.folder / "publication.json").write_text(json.dumps({"digest": "b" * 64}))
    newer = Publication(**{**vars(publication), "digest": "b" * 64})
    assert not to_folder(newer, target).already_there
    assert "b" * 64 in (target / "publication.json").read_text()


def test_a_place_where_no_folder_can_be_is_told_in_a_line(publication, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file.*Nothing was published"):
        to_folder(publication, tmp_path / "file" / "below")


def test_a_folder_with_other_things_is_left_alone(publication, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something else"):
        to_folder(publication, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").is_file()


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as an upload of small files asks for; keeps what it is told."""

    calls: list[tuple[str, bytes]]

    def log_message(self, *_):
        pass

    def _answer(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.server.calls.append((self.path, b""))
        self._answer({"id": "me/toy", "sha": "0" * 40, "siblings": [], "private": True})

    def do_POST(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append((self.path, body))
        if self.path.endswith("/repos/create"):
            self._answer({"url": f"http://{self.headers['Host']}/me/toy", "name": "me/toy"})
        elif "/preupload/" in self.path:
            files = [
                {"path": item["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for item in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            host = self.headers["Host"]
            self._answer({"commitUrl": f"http://{host}/me/toy/commit/1", "commitOid": "1" * 40})
        else:
            self._answer({"errors": [], "warnings": []})


def test_the_hub_gets_every_file_private_with_front_matter(publication):
    pytest.importorskip("huggingface_hub")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.calls = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # In a process of its own: huggingface_hub reads its environment when it is imported.
    code = (
        "import sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_publish_model import RUN, Publication\n"
        "from harness.commands.publish_model import to_hub\n"
        "made = Publication(RUN, Path(sys.argv[1]), (), 'a' * 64, '')\n"
        "print(to_hub(made, 'me/toy', 'mit', public=False, tags=('chest-x-ray',)).where)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(publication.folder), str(__file__).rpartition("/")[0]],
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(publication.folder.parent),
                "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "HF_TOKEN": "hf_planted",
                "PYTHONPATH": ":".join(path for path in sys.path if path),
            },
            capture_output=True,
            text=True,
        )
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/me/toy/commit/1")
    created = next(json.loads(body) for path, body in server.calls if path.endswith("/create"))
    assert created.get("private") is True or created.get("visibility") == "private"
    commit = next(body for path, body in server.calls if "/commit/" in path)
    lines = [json.loads(line) for line in commit.splitlines()]
    sent = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"])
        for line in lines
        if line["key"] == "file"
    }
    assert sent["model.pt"] == b"weights" * 10
    assert sent["README.md"].startswith(b"---\nlicense: mit\ntags:\n- chest-x-ray\n---\n")
    assert set(sent) == {"README.md", "model.pt", "publication.json"}
