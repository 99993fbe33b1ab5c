"""Misbehaviour on demand: each kind does what it says, as often as it says, and no longer."""

import time
from importlib import metadata

import pytest
import requests

from harness.emulator import Server, faults
from tests.emulator.support import DATASETS, KERNELS, Local, Refused, scores

STATUS = {"userName": "local", "kernelSlug": "kernel-one"}


def status(local: Local) -> str:
    return local.call(f"{KERNELS}/GetKernelSessionStatus", STATUS).get("status", "QUEUED")


def test_an_error_comes_as_often_as_asked_and_can_wait(local: Local):
    faults.switch(local.state, "rate-limit-retry-after", times=2, skip=1)
    seen = []
    for _ in range(4):
        answer = local.post(f"{KERNELS}/ListKernels", {})
        seen.append((answer.status_code, answer.headers.get("Retry-After")))
    assert seen == [(200, None), (429, "1"), (429, "1"), (200, None)]
    assert faults.listed(local.state) == []


def test_a_stale_status_hides_the_new_version_for_a_while(local: Local):
    local.push("kernel-one", "import time; time.sleep(30)")
    faults.switch(local.state, "stale-status", times=2)
    seen = [status(local) for _ in range(3)]
    assert seen[:2] == ["COMPLETE", "COMPLETE"]
    assert seen[2] in ("QUEUED", "RUNNING")


def test_a_lost_acknowledgement_happens_after_the_act(local: Local):
    faults.switch(local.state, "push-lost-ack")
    with pytest.raises(requests.ConnectionError):
        local.push("kernel-one", "print(1)")
    assert len(local.state.sessions()) == 1


def test_a_dropped_request_never_acts(local: Local):
    faults.add(local.state, f"{KERNELS}/SaveKernel", "drop")
    with pytest.raises(requests.ConnectionError):
        local.push("kernel-one", "print(1)")
    assert local.state.sessions() == []


def test_the_session_cap_and_bad_sources_can_be_played(local: Local):
    faults.switch(local.state, "session-cap")
    assert "Maximum batch GPU session count" in local.push("kernel-one", "print(1)")["error"]
    assert local.state.sessions() == []
    faults.switch(local.state, "invalid-sources")
    answer = local.push("kernel-one", "print(1)")
    assert answer["versionNumber"] == 1
    assert answer["invalidDatasetSources"] == ["local/missing-data"]


def test_a_submission_can_look_pending_or_failed(local: Local, tmp_path):
    local.add_competition(tmp_path)
    local.submit(scores(lambda i: i % 2))
    faults.switch(local.state, "submission-pending", times=2)
    faults.switch(local.state, "submission-error", skip=2)
    seen = [local.submissions()[0]["status"] for _ in range(4)]
    assert seen == ["PENDING", "PENDING", "ERROR", "COMPLETE"]


def test_a_slow_answer_is_slow(local: Local):
    faults.add(local.state, "*/ListKernels", "slow", {"seconds": 0.4})
    begin = time.monotonic()
    local.call(f"{KERNELS}/ListKernels", {})
    assert time.monotonic() - begin >= 0.4


def test_a_hanging_answer_ends_with_the_server(tmp_path):
    server = Server(tmp_path / "state").start()
    local = Local(server, tmp_path / "state")
    faults.switch(server.state, "hang")
    with pytest.raises(requests.Timeout):
        local.session.post(
            f"{local.url}/api/v1/{KERNELS}/ListKernels", json={}, auth=("local", "x"), timeout=0.3
        )
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 5


def test_downloads_can_break_off_or_be_wrong(local: Local):
    body = bytes(range(256)) * 10
    local.make_dataset("my-data-set", {"a.bin": body})
    url = local.call(
        f"{DATASETS}/DownloadDataset",
        ownerSlug="local",
        datasetSlug="my-data-set",
        fileName="a.bin",
    )
    faults.switch(local.state, "file-truncated")
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        local.session.get(url)
    faults.switch(local.state, "file-corrupted", at=5)
    spoiled = local.session.get(url).content
    assert (len(spoiled), [i for i in range(len(body)) if spoiled[i] != body[i]]) == (
        len(body),
        [5],
    )
    faults.switch(local.state, "file-404")
    assert local.session.get(url).status_code == 404
    assert local.session.get(url).content == body


def test_an_upload_can_break_off_and_keeps_what_came(local: Local):
    ticket = local.start_upload("a.bin", 5000)
    faults.switch(local.state, "upload-cut", bytes=1200)
    with pytest.raises(requests.ConnectionError):
        local.session.put(ticket["createUrl"], data=b"x" * 5000)
    asked = local.session.put(ticket["createUrl"], headers={"Content-Range": "bytes */5000"})
    assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-1199")


def test_the_command_line_resumes_an_upload_that_got_a_503(local: Local, tmp_path):
    from tests.emulator.test_contract_cli import write_dataset

    folder = write_dataset(tmp_path / "ds", "my-data-set", a="hello" * 1000)
    faults.switch(local.state, "upload-503")
    made = local.cli("datasets", "create", "-p", str(folder))
    assert "is being created" in made.stdout, made
    assert local.list_files("my-data-set") == ["a.txt"]


def test_the_command_line_loses_a_file_whose_upload_failed_for_good(local: Local, tmp_path):
    """The known trap up to kaggle 2.2.4: the dataset is made without the file, and the exit code is 0."""
    from tests.emulator.test_contract_cli import write_dataset

    folder = write_dataset(tmp_path / "ds", "my-data-set", a="hello")
    faults.switch(local.state, "upload-500", times=-1)
    made = local.cli("datasets", "create", "-p", str(folder))
    if tuple(map(int, metadata.version("kaggle").split(".")[:3])) < (2, 2, 5):
        assert made.returncode == 0
        assert local.list_files("my-data-set") == []
    else:  # newer clients tell, and make no dataset
        assert made.returncode != 0
        with pytest.raises(Refused, match="not found"):
            local.list_files("my-data-set")


def test_faults_are_seen_by_every_server_of_the_folder(local: Local):
    with Server(local.folder, owner=False) as other:
        faults.switch(other.state, "server-error")
        with pytest.raises(Refused) as caught:
            local.call(f"{KERNELS}/ListKernels", {})
        assert caught.value.status == 503


def test_faults_can_be_ordered_over_http(local: Local):
    url, auth = f"{local.url}/__emu__/faults", ("local", "key")
    assert local.session.post(url, json={"switch": "rate-limit"}).status_code == 401
    armed = local.session.post(url, json={"switch": "rate-limit", "times": 3}, auth=auth).json()
    assert armed["faults"][0]["times"] == 3
    assert local.post(f"{KERNELS}/ListKernels", {}).status_code == 429
    assert local.session.post(url, json={"switch": "nonsense"}, auth=auth).status_code == 400
    assert local.session.delete(url, auth=auth).json() == {"faults": []}
    assert local.post(f"{KERNELS}/ListKernels", {}).status_code == 200


@pytest.mark.parametrize("name", sorted(faults.SWITCHES))
def test_every_switch_names_something_that_exists(name: str):
    from fnmatch import fnmatchcase

    from harness.emulator.routes import all_routes

    pattern, kind, _ = faults.SWITCHES[name]
    known = [*all_routes(), "PUT /upload", "GET /files", "GET /logs"]
    assert kind in faults.KINDS
    assert any(fnmatchcase(request, pattern) for request in known)
