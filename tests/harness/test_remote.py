"""The remote turns every silent failure of the service into an error, and never sends a write twice.

Each test talks to a local Kaggle through the same code that talks to the real one.
"""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_ledger import new_run

from harness import transport
from harness.commands.pull import safe_listing
from harness.emulator import CompetitionSpec, State, connect, faults
from harness.errors import (
    ConfigError,
    ContractError,
    PushRejected,
    RemoteUnavailable,
    SubmissionInvalid,
)
from harness.ledger import Ledger
from harness.package import build_dataset
from harness.publishing import publish
from harness.records import Handle, KernelBuild, RunSpec, RunState
from harness.remote import Credentials, KaggleRemote, OutputListing, log_text

SCRIPT = "from pathlib import Path\nprint('hello')\nPath('out.bin').write_bytes(bytes(5000))\n"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(transport, "retry_wait", lambda attempt, response: 0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local-kaggle")
    data = tmp_path_factory.mktemp("data")
    (data / "sample_submission.csv").write_text("image_id,label\na,0.5\nb,0.5\nc,0.5\nd,0.5\n")
    solution = data.parent / "solution.csv"
    solution.write_text("image_id,label\na,0\nb,1\nc,0\nd,1\n")
    state = State(folder)
    state.configure(dataset_delay_s=0.05)
    state.add_competition(CompetitionSpec("toy", "Toy", "image_id", ("label",)), data, solution)
    with connect(folder) as endpoint:
        yield endpoint, state, data
    state.close()


@pytest.fixture
def remote(server):
    endpoint, state, _ = server
    client = KaggleRemote("local", Credentials(endpoint.username, key=endpoint.key), endpoint.url)
    yield client
    faults.clear(state)
    client.close()


@pytest.fixture
def arm(server):
    return lambda name, **changes: faults.switch(server[1], name, **changes)


def kernel(slug, source=SCRIPT, **metadata):
    title = slug.replace("-", " ")
    values = {
        "id": f"local/{slug}",
        "title": title,
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": False,
        "enable_tpu": False,
        "enable_internet": False,
        "dataset_sources": [],
        "competition_sources": [],
        "kernel_sources": [],
        "model_sources": [],
    }
    return KernelBuild(Handle("local", slug), title, source, {**values, **metadata}, RunSpec("toy"))


def finished(remote, slug, source=SCRIPT):
    handle = Handle("local", slug, remote.push_kernel(kernel(slug, source)))
    deadline = time.monotonic() + 60
    while not remote.kernel_status(handle).state.is_final and time.monotonic() < deadline:
        time.sleep(0.1)
    return handle


def test_outputs_arrive_whole_with_their_log(remote, tmp_path):
    handle = finished(remote, "whole-outputs")
    listing = remote.kernel_outputs(handle)
    assert remote.kernel_status(handle).state is RunState.COMPLETE
    assert log_text(listing.log) == "hello\n"
    ((name, url),) = listing.files
    remote.fetch(url, tmp_path / name, size=5000)
    assert (tmp_path / name).read_bytes() == bytes(5000)


@pytest.mark.parametrize("fault", ["file-500", "file-truncated"])
def test_a_broken_download_is_repeated(remote, arm, tmp_path, fault):
    ((name, url),) = remote.kernel_outputs(finished(remote, f"broken-{fault}")).files
    arm(fault)
    remote.fetch(url, tmp_path / name, size=5000)
    assert (tmp_path / name).stat().st_size == 5000


def test_an_error_page_is_never_saved_as_an_output(remote, arm, tmp_path):
    ((name, url),) = remote.kernel_outputs(finished(remote, "error-page")).files
    arm("file-404", times=-1)
    with pytest.raises(ContractError, match="cannot be fetched"):
        remote.fetch(url, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_byte_is_noticed_by_its_hash(remote, arm, tmp_path):
    ((name, url),) = remote.kernel_outputs(finished(remote, "flipped-byte")).files
    arm("file-corrupted", times=-1)
    import hashlib

    with pytest.raises(ContractError, match="sha256"):
        remote.fetch(
            url, tmp_path / name, size=5000, sha256=hashlib.sha256(bytes(5000)).hexdigest()
        )
    assert list(tmp_path.iterdir()) == []


def test_status_and_outputs_are_those_of_the_asked_version(remote):
    first = finished(remote, "two-versions", "print('one')\n")
    second = finished(remote, "two-versions", "print('two')\nraise SystemExit(3)\n")
    assert second.version == first.version + 1
    assert remote.kernel_status(first).state is RunState.COMPLETE
    assert remote.kernel_status(second).state is RunState.ERROR
    assert log_text(remote.kernel_outputs(first).log) == "one\n"


def test_an_error_inside_a_200_is_a_rejected_push(remote, arm):
    arm("session-cap")
    with pytest.raises(PushRejected, match="session count of 2 reached"):
        remote.push_kernel(kernel("session-cap"))


def test_a_source_that_the_service_ignores_is_a_rejected_push(remote):
    with pytest.raises(PushRejected, match="ignored the dataset local/missing-data"):
        remote.push_kernel(kernel("ignored-source", dataset_sources=["local/missing-data"]))


def test_a_missing_competition_tells_how_to_get_it(remote):
    with pytest.raises(PushRejected, match="harness local competition add"):
        remote.push_kernel(kernel("no-competition", competition_sources=["elsewhere"]))


def test_a_lost_answer_is_unknown_not_repeated(remote, arm):
    arm("push-lost-ack")
    with pytest.raises(RemoteUnavailable, match="asks first"):
        remote.push_kernel(kernel("lost-answer"))
    version, source = remote.kernel_source(Handle("local", "lost-answer"))
    assert (version, source) == (1, SCRIPT)


@pytest.mark.parametrize("fault", ["rate-limit", "rate-limit-retry-after", "server-error"])
def test_reads_are_repeated(remote, arm, fault):
    arm(fault, times=3)
    assert remote.submission_limits("toy").allowed_now > 0


def test_reads_give_up_with_a_next_step(remote, arm):
    arm("server-error", times=-1)
    with pytest.raises(RemoteUnavailable, match="later"):
        remote.submission_limits("toy")


def test_writes_are_not_repeated_on_a_server_error(remote, arm, server):
    arm("server-error", times=1)
    with pytest.raises(RemoteUnavailable):
        remote.push_kernel(kernel("server-error-push"))
    assert remote.kernel_source(Handle("local", "server-error-push")) is None


def test_wrong_credentials_are_told_in_one_line(server):
    server[1].revoke("wrong")
    client = KaggleRemote("local", Credentials("local", token="wrong"), server[0].url)
    with pytest.raises(ConfigError, match="does not accept these credentials"):
        client.submission_limits("toy")
    client.close()


# ---- datasets -------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "set"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha")
    (folder / "inner" / "b.txt").write_text("beta")

    def build(slug):
        return build_dataset(folder, slug, slug.replace("-", " "), "other", "About.")

    return build


@pytest.fixture
def book(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    yield ledger
    ledger.close()


def test_folders_survive_and_the_listing_is_verified(remote, dataset, book):
    assert publish(dataset("with-folders"), remote, book, "local", lambda _: None) == 1
    listed = remote.dataset_files(Handle("local", "with-folders"))
    assert listed["a.txt"] == 5
    assert listed["inner/b.txt"] == 4


def test_equal_content_is_not_sent_again(remote, dataset, book, tmp_path):
    said = []
    build = dataset("sent-once")
    publish(build, remote, book, "local", said.append)
    assert any("sending" in line for line in said)
    said.clear()
    assert publish(build, remote, book, "local", said.append) == 1
    other = Ledger(tmp_path / "other.sqlite3")  # a workspace that never heard of it
    assert publish(build, remote, other, "local", said.append) == 1
    other.close()
    assert said == []


def test_changed_content_is_a_new_version(remote, dataset, book):
    build = dataset("changed-content")
    publish(build, remote, book, "local", lambda _: None)
    (build.folder / "a.txt").write_text("other")
    assert publish(dataset("changed-content"), remote, book, "local", lambda _: None) == 2


@pytest.mark.parametrize("fault", ["upload-503", "upload-cut"])
def test_a_broken_upload_is_resumed_not_dropped(remote, arm, dataset, book, fault):
    arm(fault)
    slug = f"resumed-{fault}"
    publish(dataset(slug), remote, book, "local", lambda _: None)
    assert remote.dataset_files(Handle("local", slug))["a.txt"] == 5


def test_a_refused_upload_creates_no_dataset(remote, server, dataset, book):
    faults.add(server[1], "PUT /upload*", "error", {"status": 400}, times=-1)
    with pytest.raises(PushRejected, match="refused"):
        publish(dataset("refused-upload"), remote, book, "local", lambda _: None)
    assert remote.dataset_version(Handle("local", "refused-upload")) is None


def test_a_lost_answer_to_a_new_dataset_is_settled_by_its_digest(remote, arm, dataset, book):
    arm("create-lost-ack")
    build = dataset("lost-dataset")
    with pytest.raises(RemoteUnavailable):
        publish(build, remote, book, "local", lambda _: None)
    time.sleep(0.3)
    assert publish(build, remote, book, "local", lambda _: None) == 1


# ---- submissions ----------------------------------------------------------------------------------


def submission_file(tmp_path, score=0.5):
    path = tmp_path / "mine.csv"
    path.write_text(f"image_id,label\na,0.1\nb,{score}\nc,0.3\nd,0.9\n")
    return path


def test_a_submission_is_scored_by_its_reference(remote, tmp_path):
    ref = remote.submit("toy", submission_file(tmp_path, 0.8), "good [n1]")
    other = remote.submit("toy", submission_file(tmp_path, 0.0), "bad [n2]")
    assert remote.submission(ref).public_score != ""
    assert remote.find_submission("toy", "n2").ref == other
    assert remote.find_submission("toy", "n3") is None


def test_an_empty_answer_to_a_submission_is_a_question_to_be_asked(remote, arm, tmp_path):
    # The official client takes it for success. It may have arrived: to call it refused would send it twice.
    arm("submit-empty-answer")
    with pytest.raises(RemoteUnavailable, match=r"no reference.*asks first"):
        remote.submit("toy", submission_file(tmp_path), "empty")


def test_a_used_up_day_is_told_as_the_service_tells_it(remote, arm, tmp_path):
    arm("daily-cap")
    with pytest.raises(SubmissionInvalid, match="used all submissions"):
        remote.submit("toy", submission_file(tmp_path), "late")


# ---- what comes from outside ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil.txt", "/abs", "a/../../b", "a\\..\\b", "", "a//b"])
def test_listings_cannot_leave_the_output_folder(name):
    with pytest.raises(ContractError, match="outside the output folder"):
        safe_listing(new_run(), OutputListing(((name, "http://x/"),), ""))


def test_logs_that_are_no_json_are_shown_as_they_are():
    assert log_text("plain words") == "plain words"
    assert log_text('[{"stream_name":"stdout","time":1,"data":"a\\n"}\n,{"data":"b"}]') == "a\nb"


def test_planted_credentials_never_leave_for_the_local_kaggle(server, monkeypatch, tmp_path):
    """A listening server stands in for the local Kaggle and keeps every header it gets."""
    seen = []

    class Recorder(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(dict(self.headers))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b'{"numAllowedNow": 3}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    home = tmp_path / "home"
    (home / ".kaggle").mkdir(parents=True)
    (home / ".kaggle" / "access_token").write_text("planted-token")
    (home / ".netrc").write_text("default login planted-login password planted-password\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_API_TOKEN", "planted-token")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{listener.server_port}"
        client = KaggleRemote("local", Credentials("local", key="local-key"), url)
        assert client.submission_limits("toy").allowed_now == 3
        client.close()
    finally:
        listener.shutdown()
        listener.server_close()
    assert seen
    assert "planted" not in str(seen)
