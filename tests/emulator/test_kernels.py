"""Kernels: queueing, versions, sources, limits, ends of every kind."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from harness.emulator import ManualClock, Server
from harness.emulator.lifecycle import LOST
from tests.emulator.support import KERNELS, OWN_WORDS, Local, Refused, end_all, needs_bwrap

WAITS = "import time; print('ready', flush=True); time.sleep(60)"


def until(condition, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def supervisor_of(session: dict) -> int:
    """Find the process that watches over a session."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"harness.emulator.supervisor" in words and str(session["folder"]).encode() in words:
                return int(entry.name)
    raise AssertionError("no supervisor")


def test_logs_are_in_order_with_times_and_streams(local: Local):
    session = local.run(
        "kernel-one",
        "import sys, time\n"
        "print('one'); time.sleep(0.3); print('two', file=sys.stderr); time.sleep(0.1)\n"
        "sys.stdout.write('no newline')",
    )
    lines = [json.loads(x) for x in (session["folder"] / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if not line["data"].startswith(OWN_WORDS)]
    assert [(line["stream_name"], line["data"]) for line in lines] == [
        ("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "no newline"),
    ]  # fmt: skip
    assert lines[1]["time"] - lines[0]["time"] >= 0.25


def test_outputs_and_log_are_empty_while_it_runs(local: Local):
    local.push("kernel-one", "open('a.txt','w').write('a')\n" + WAITS)
    session = local.state.sessions()[0]
    until(lambda: "ready" in local.log(session))
    body = {"userName": "local", "kernelSlug": "kernel-one"}
    assert local.status("kernel-one") == "RUNNING"
    running = local.call(f"{KERNELS}/ListKernelSessionOutput", body)
    assert not {"files", "log"} & set(running)
    local.state.configure(live_logs=True)
    assert "ready" in local.call(f"{KERNELS}/ListKernelSessionOutput", body)["log"]
    local.state.cancel(session["id"])
    local.state.wait(session["id"])
    assert local.call(f"{KERNELS}/ListKernelSessionOutput", body)["files"][0]["fileName"] == "a.txt"


def test_a_crash_is_an_error_that_keeps_outputs_and_tells_the_last_line(local: Local):
    session = local.run("kernel-one", "open('a.txt','w').write('a'); raise ValueError('no luck')")
    answer = local.call(
        f"{KERNELS}/GetKernelSessionStatus", userName="local", kernelSlug="kernel-one"
    )
    assert answer["status"] == "ERROR"
    assert "ValueError: no luck" in answer["failureMessage"]
    assert local.output(session, "a.txt") == "a"


def test_a_killed_supervisor_means_the_machine_went_away_and_leaves_no_process(local: Local):
    marker = f"marker-{os.getpid()}-{time.time_ns()}"
    local.push("kernel-one", f"NAME = {marker!r}\nimport sys\n{WAITS}")
    session = local.state.sessions()[0]
    until(lambda: "ready" in local.log(session))
    os.kill(supervisor_of(session), signal.SIGKILL)
    ended = local.state.wait(session["id"], 10)
    assert (ended["status"], ended["failure"]) == ("ERROR", LOST)
    script = str(session["folder"])
    until(lambda: not any_process_mentions(script))


def any_process_mentions(text: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


def test_time_is_limited(local: Local):
    session = local.run("kernel-one", WAITS, sessionTimeoutSeconds=1)
    assert session["status"] == "ERROR"
    assert "max allowed execution duration" in session["failure"]
    with pytest.raises(Refused):
        local.push("kernel-two", "1", sessionTimeoutSeconds=10**6)


def test_memory_is_limited_over_all_processes(local: Local):
    local.state.configure(memory_limit_bytes=150 << 20)
    session = local.run(
        "kernel-one",
        "import os, time\n"
        "for _ in range(2): os.fork()\n"
        "x = bytearray(b'x') * (70 << 20)\n"
        "time.sleep(30)",
    )
    assert session["status"] == "ERROR"
    assert "more memory" in session["failure"]


def test_output_is_limited(local: Local):
    local.state.configure(output_limit_bytes=1000)
    session = local.run("kernel-one", "open('big','wb').write(b'x' * 2000)")
    assert session["status"] == "ERROR"
    assert "limit of 1000 bytes" in session["failure"]


def test_sessions_are_capped_with_the_services_words_and_no_version_is_made(local: Local):
    local.state.configure(max_running=1)
    gpu = {"enableGpu": True, "machineShape": "NvidiaTeslaT4"}
    for number in (1, 2):
        assert local.push(f"gpu-kernel-{number}", WAITS, **gpu)["versionNumber"] == 1
    answer = local.push("gpu-kernel-3", WAITS, **gpu)
    assert answer == {"error": "Maximum batch GPU session count of 2 reached."}
    assert local.push("cpu-kernel-1", "print(1)")["versionNumber"] == 1  # counted apart
    with pytest.raises(Refused):
        local.status("gpu-kernel-3")


def test_kernels_wait_their_turn_in_the_order_they_were_pushed(local: Local):
    local.state.configure(max_running=1)
    local.push("first-one", WAITS)
    until(lambda: local.status("first-one") == "RUNNING")
    later = ["second-one", "third-one", "fourth-one"]
    for slug in later:
        local.push(slug, "import time; print(time.time()); time.sleep(0.05)")
    time.sleep(0.3)
    assert [local.status(slug) for slug in later] == ["QUEUED"] * 3
    first, *rest = local.state.sessions()
    local.state.cancel(rest[1]["id"])  # one that never ran
    assert local.state.wait(rest[1]["id"])["status"] == "CANCEL_ACKNOWLEDGED"
    local.state.cancel(first["id"])
    times = [float(local.log(local.state.wait(row["id"]))) for row in (rest[0], rest[2])]
    assert times == sorted(times)


def test_sources_that_do_not_exist_are_named_and_the_run_goes_on_without(local: Local):
    answer = local.push(
        "kernel-one",
        "print(1)",
        datasetDataSources=["local/none-here", "bad handle"],
        competitionDataSources=["nothing"],
        kernelDataSources=["local/nobody"],
        modelDataSources=["a/b/c/d/1"],
    )
    assert answer["versionNumber"] == 1
    assert answer["invalidDatasetSources"] == ["local/none-here", "bad handle"]
    assert answer["invalidCompetitionSources"] == ["nothing"]
    assert answer["invalidKernelSources"] == ["local/nobody"]
    assert answer["invalidModelSources"] == ["a/b/c/d/1"]


@needs_bwrap
def test_dataset_versions_are_pinned_at_the_push(local: Local):
    local.state.configure(max_running=1)
    local.make_dataset("my-data-set", {"v.txt": b"one"})
    local.push("blocker", WAITS)
    read = "import pathlib; print([p.read_text() for p in pathlib.Path('/kaggle/input').rglob('v.txt')])"
    local.push("reader-new", read, datasetDataSources=["local/my-data-set"])
    local.make_version("my-data-set", {"v.txt": b"two"})
    local.push("reader-old", read, datasetDataSources=["local/my-data-set/1"])
    local.push("reader-now", read, datasetDataSources=["datasets/local/my-data-set"])
    blocker, *readers = local.state.sessions()
    local.state.cancel(blocker["id"])
    said = [local.log(local.state.wait(row["id"])).strip() for row in readers]
    assert said == ["['one']", "['one']", "['two']"]


@needs_bwrap
def test_a_kernel_reads_the_output_of_another(local: Local):
    local.run("producer", "open('made.txt','w').write('from producer')")
    session = local.run(
        "consumer",
        "import pathlib; p = next(pathlib.Path('/kaggle/input').rglob('made.txt'))\n"
        "print(p.parent, p.read_text())",
        kernelDataSources=["local/producer"],
    )
    assert "notebooks/local/producer from producer" in local.log(session)


@needs_bwrap
def test_the_old_mount_layout_can_be_chosen(local: Local):
    local.state.configure(mount_layout="old")
    local.make_dataset("my-data-set", {"v.txt": b"one"})
    session = local.run(
        "kernel-one",
        "import os; print(os.listdir('/kaggle/input'), os.listdir('/kaggle/input/my-data-set'))",
        datasetDataSources=["local/my-data-set"],
    )
    assert local.log(session) == "['my-data-set'] ['v.txt']\n"


def test_a_source_over_1_mib_is_refused_and_one_below_is_not(local: Local):
    assert local.push("kernel-one", "#" * (1 << 20))["versionNumber"] == 1
    with pytest.raises(Refused) as caught:
        local.push("kernel-one", "#" * ((1 << 20) + 1))
    assert caught.value.status == 400


def test_the_title_names_a_new_kernel(local: Local):
    local.push("kernel-one", "print(1)", newTitle="Something Else")
    assert local.status("something-else")
    again = local.push("kernel-one", "print(1)", newTitle="Something Else")
    assert "already in use" in again["error"]


def test_other_peoples_kernels_are_out_of_reach(local: Local):
    local.push("kernel-one", "print(1)")
    body = {"userName": "local", "kernelSlug": "kernel-one"}
    for method in (
        "GetKernel",
        "GetKernelSessionStatus",
        "ListKernelSessionOutput",
        "DeleteKernel",
    ):
        assert local.post(f"{KERNELS}/{method}", body, user="somebody").status_code == 403
    pushed = local.post(
        f"{KERNELS}/SaveKernel",
        {"slug": "local/kernel-one", "newTitle": "Kernel One", "text": "2", "language": "python",
         "kernelType": "script"},
        user="somebody",
    )  # fmt: skip
    assert pushed.status_code == 403


def test_retired_machines_are_silently_replaced(local: Local):
    local.push("kernel-one", "print(1)", machineShape="NvidiaTeslaP100", enableGpu=True)
    answer = local.call(f"{KERNELS}/GetKernel", userName="local", kernelSlug="kernel-one")
    assert answer["metadata"]["machineShape"] == "NvidiaTeslaT4"


def test_a_gpu_that_is_not_here_is_said_so_in_the_log(local: Local):
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")
    session = local.run("kernel-one", "print(1)", machineShape="NvidiaTeslaT4", enableGpu=True)
    assert "no GPU is here" in local.notes(session)


def test_the_weekly_quota_counts_and_refreshes(tmp_path: Path):
    clock = ManualClock()
    with Server(tmp_path / "state", clock=clock) as server:
        local = Local(server, tmp_path / "state")
        local.state.configure(kernel_polls=1, gpu_quota_s=3600)
        local.push("gpu-kernel-1", "1", enableGpu=True)
        clock.advance(1800)
        quota = local.call(f"{KERNELS}/GetAcceleratorQuotaStatistics", {})
        assert quota["gpuQuota"]["timeUsed"] == "1800s"
        clock.advance(1800)
        assert [local.status("gpu-kernel-1") for _ in range(2)] == ["RUNNING", "COMPLETE"]
        refused = local.push("gpu-kernel-2", "1", enableGpu=True)
        assert refused["error"].startswith("Maximum weekly GPU quota")
        clock.advance(7 * 24 * 3600)
        assert local.push("gpu-kernel-2", "1", enableGpu=True)["versionNumber"] == 1


def test_sessions_can_complete_after_polls_without_running(local: Local):
    local.state.configure(kernel_polls=2)
    local.push("kernel-one", "raise SystemExit(1)")
    assert [local.status("kernel-one") for _ in range(3)] == ["RUNNING", "RUNNING", "COMPLETE"]


def test_a_push_can_be_made_to_cancel_the_running_version(local: Local):
    local.state.configure(push_cancels=True, max_running=2)
    local.push("kernel-one", WAITS)
    first = local.state.sessions()[0]
    until(lambda: "ready" in local.log(first))
    local.push("kernel-one", "print(2)")
    assert local.state.wait(first["id"])["status"] == "CANCEL_ACKNOWLEDGED"
    assert local.status("kernel-one", versionLabel="v1") == "CANCEL_ACKNOWLEDGED"


def test_a_notebook_runs_as_its_code_cells(local: Local):
    cells = [
        {"cell_type": "markdown", "source": ["# title"], "metadata": {}},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "x = 20"], "metadata": {},
         "outputs": [], "execution_count": None},
        {"cell_type": "code", "source": "!pip list\nprint(x + 1)", "metadata": {}, "outputs": [],
         "execution_count": None},
    ]  # fmt: skip
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    session = local.run("kernel-one", text, kernelType="notebook")
    assert session["status"] == "COMPLETE"
    assert "21\n" in local.log(session)
    with pytest.raises(Refused):
        local.push("kernel-two", "not json", kernelType="notebook")
    with pytest.raises(Refused, match="type cannot be changed"):
        local.push("kernel-one", "print(1)")


def test_a_deleted_kernel_stops(local: Local):
    local.push("kernel-one", WAITS)
    session = local.state.sessions()[0]
    until(lambda: "ready" in local.log(session))
    local.call(f"{KERNELS}/DeleteKernel", userName="local", kernelSlug="kernel-one")
    until(lambda: not any_process_mentions(str(session["folder"])))


def test_the_live_log_replays_and_ends_with_its_sentinel(local: Local):
    local.push("kernel-one", "import time\nfor i in range(4): print(i); time.sleep(0.2)")
    url = f"{local.url}/api/v1/kernels/logs/stream/local/kernel-one"
    live = local.session.get(url, auth=("local", "key"), stream=True, timeout=30)
    assert live.headers["Content-Type"].startswith("text/event-stream")
    events = [x.decode() for x in live.iter_lines() if x.startswith(b"data:")]
    said = [json.loads(x.removeprefix("data: "))["data"] for x in events[:-1]]
    said = [text for text in said if not text.startswith(OWN_WORDS)]
    assert said == ["0\n", "1\n", "2\n", "3\n"]
    assert events[-1] == "data: END_OF_LOG"
    after = local.session.get(url, auth=("local", "key"), timeout=30)
    assert [entry["data"] for entry in after.json()][-4:] == said


def test_a_kernel_cannot_publish_the_hosts_files_through_links(local: Local, tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    session = local.run(
        "kernel-one",
        f"import os; os.symlink({str(secret)!r}, 'leak.txt'); os.symlink('/etc', 'etc')\n"
        "open('fine.txt', 'w').write('fine')",
    )
    assert session["status"] == "COMPLETE"
    listed = local.call(
        f"{KERNELS}/ListKernelSessionOutput", userName="local", kernelSlug="kernel-one"
    )
    assert [file["fileName"] for file in listed["files"]] == ["fine.txt"]
    for name in ("leak.txt", "etc/passwd", "../job.json"):
        with pytest.raises(Refused):
            local.call(
                f"{KERNELS}/DownloadKernelOutput", ownerSlug="local", kernelSlug="kernel-one",
                filePath=name,
            )  # fmt: skip


def test_kernels_outlive_the_server_and_the_next_one_finds_them(tmp_path: Path):
    folder = tmp_path / "state"
    with Server(folder) as server:
        local = Local(server, folder)
        local.push("kernel-one", "import time; time.sleep(1); open('a.txt','w').write('late')")
    with Server(folder) as server:
        local = Local(server, folder)
        session = local.state.wait(1)
        assert session["status"] == "COMPLETE"
        assert local.output(session, "a.txt") == "late"
        end_all(server.state)
