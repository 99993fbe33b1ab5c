"""Several processes on one folder, and processes that are killed at bad moments."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from harness.emulator import Server, State, StateError, connect, environment
from tests.emulator.support import DATASETS, KERNELS, Local, end_all

SERVE = """
import sys, time
from pathlib import Path
from harness.emulator import Server
with Server(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    time.sleep(600)
"""


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own."""
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Elsewhere(Local):
    """Talk to a server of another process."""

    address = ""

    @property
    def url(self) -> str:
        return self.address


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[tuple[Elsewhere, subprocess.Popen[str]]]:
    folder = tmp_path / "state"
    with served(folder) as (process, url):
        helper = Elsewhere(Server(folder, owner=False), folder)
        helper.address = url
        helper.state.configure(dataset_delay_s=0.0)
        yield helper, process
        end_all(helper.state)


def test_what_was_acknowledged_survives_a_kill(elsewhere, tmp_path: Path):
    local, process = elsewhere
    acknowledged: list[str] = []

    def work() -> None:
        for number in range(1000):
            slug = f"dataset-{number:04d}"
            try:
                answer = local.make_dataset(slug, {"a.txt": slug.encode()})
            except (requests.RequestException, AssertionError):
                return
            if answer["status"] == "ok":
                acknowledged.append(slug)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 60
    while len(acknowledged) < 5 and time.monotonic() < deadline:  # then at some moment of the next
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()  # a killed server owns its folder until the kernel has taken it away
    thread.join(20)
    assert acknowledged
    with Server(local.folder) as server:
        again = Local(server, local.folder)
        for slug in acknowledged:
            assert again.list_files(slug) == ["a.txt"]
            url = again.call(
                f"{DATASETS}/DownloadDataset", ownerSlug="local", datasetSlug=slug, fileName="a.txt"
            )
            assert again.session.get(url).content == slug.encode()


def test_a_kernel_survives_the_kill_of_its_server(elsewhere):
    local, process = elsewhere
    local.push("kernel-one", "import time; time.sleep(1); open('a.txt', 'w').write('late')")
    process.send_signal(signal.SIGKILL)
    process.wait()
    session = local.state.wait(1)
    assert session["status"] == "COMPLETE", session
    assert local.output(session, "a.txt") == "late"


def test_connect_uses_the_server_that_owns_the_folder(elsewhere):
    local, process = elsewhere
    with connect(local.folder, extra_env={"SOME_NAME": "some value"}) as endpoint:
        assert (endpoint.url, endpoint.embedded, endpoint.pid) == (local.url, False, process.pid)
        answer = requests.post(
            f"{endpoint.url}/api/v1/{KERNELS}/SaveKernel",
            json={"slug": "local/kernel-one", "newTitle": "Kernel One", "language": "python",
                  "kernelType": "script", "text": "import os; print(os.environ['SOME_NAME'])"},
            auth=(endpoint.username, endpoint.key),
        )  # fmt: skip
        assert answer.json()["versionNumber"] == 1
    # The key carried the variables to a server that knows nothing of this process.
    assert local.log(local.state.wait(1)) == "some value\n"


def test_connect_embeds_a_server_and_ends_it(tmp_path: Path):
    folder = tmp_path / "state"
    with connect(folder) as endpoint:
        assert endpoint.embedded
        assert endpoint.pid == os.getpid()
        assert requests.get(f"{endpoint.url}/__emu__").status_code == 200
        with connect(folder) as second:  # each verb has its own, since the first may end earlier
            assert second.url != endpoint.url
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{endpoint.url}/__emu__")


def test_connect_is_not_fooled_by_a_foreign_server_on_the_port(tmp_path: Path):
    with Server(tmp_path / "other") as other:
        folder = tmp_path / "state"
        State(folder).close()
        record = {"url": other.url, "pid": 1, "nonce": "from another life"}
        (folder / "server.json").write_text(json.dumps(record))
        with connect(folder) as endpoint:
            assert endpoint.embedded
            assert endpoint.url != other.url


def test_a_folder_has_one_owner(tmp_path: Path):
    with Server(tmp_path / "state"), pytest.raises(StateError, match="already owns"):
        Server(tmp_path / "state").start()
    with Server(tmp_path / "state"):
        pass


def test_a_port_that_is_taken_is_an_error_and_not_the_end_of_the_process(tmp_path: Path):
    with Server(tmp_path / "one") as one:
        two = Server(tmp_path / "two", port=one.port)
        with pytest.raises(StateError, match="cannot listen"):
            two.start()


def test_two_servers_agree_on_everything(local: Local):
    with Server(local.folder, owner=False) as other:
        local.make_dataset("my-data-set", {"a.txt": b"a"})
        there = Local(other, local.folder)
        assert there.list_files("my-data-set") == ["a.txt"]
        there.push("kernel-one", "print(1)")
        assert local.state.wait(1)["status"] == "COMPLETE"


def test_many_clients_at_once_lose_nothing(local: Local):
    def one(number: int) -> None:
        helper = Local(local.server, local.folder)
        assert helper.make_dataset(f"dataset-{number:03d}", {"a.txt": b"a"})["status"] == "ok"

    threads = [threading.Thread(target=one, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(local.state.datasets()) == 30


def test_pushes_at_once_never_pass_the_session_cap(local: Local):
    local.state.configure(max_running=1)
    answers: list[dict] = []

    def one(number: int) -> None:
        helper = Local(local.server, local.folder)
        answers.append(helper.push(f"kernel-{number}", "import time; time.sleep(60)"))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum("versionNumber" in answer for answer in answers) == 5


def test_another_address_than_loopback_wants_the_folders_own_key(tmp_path: Path):
    with Server(tmp_path / "state", host="0.0.0.0") as server:
        url = f"http://127.0.0.1:{server.port}/api/v1/{KERNELS}/ListKernels"
        key = server.state.key_for({})
        assert requests.post(url, json={}, auth=("local", "anything")).status_code == 401
        assert requests.post(url, json={}, auth=("local", key)).status_code == 200


def test_the_environment_points_only_at_the_endpoint(local: Local, tmp_path: Path):
    env = environment(local.endpoint, tmp_path / "scratch")
    assert env["KAGGLE_API_ENVIRONMENT"] == "LOCALHOST"
    assert {env[name] for name in ("http_proxy", "https_proxy")} == {local.url}
    assert Path(env["HOME"]).is_relative_to(tmp_path / "scratch")
    assert Path(env["TMPDIR"]).is_dir()


def test_a_state_of_another_version_is_refused_and_left_alone(tmp_path: Path):
    state = State(tmp_path / "state")
    with state.write() as db:
        db.execute("PRAGMA user_version = 99")
    state.close()
    with pytest.raises(StateError, match="schema 99"):
        State(tmp_path / "state")
