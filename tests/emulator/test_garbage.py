"""Disk is given back when nothing refers to it, and never before."""

import os
import time
from pathlib import Path

import pytest

from tests.emulator.support import DATASETS, KERNELS, Local

WAITS = "import time; print('ready', flush=True); time.sleep(60)"


def blobs(local: Local) -> list[Path]:
    return sorted(path for path in (local.folder / "blobs").glob("*/*"))


def test_bytes_of_a_deleted_dataset_go_and_shared_ones_stay(local: Local):
    local.make_dataset("first-set", {"a.txt": b"only here", "b.txt": b"shared"})
    local.make_dataset("other-set", {"c.txt": b"shared"})
    local.call(f"{DATASETS}/DeleteDataset", ownerSlug="local", datasetSlug="first-set")
    assert local.state.collect_garbage().blobs == 0  # too young
    found = local.state.collect_garbage(0.0)
    assert (found.blobs, found.bytes >= len(b"only here")) == (1, True)
    assert [path.read_bytes() for path in blobs(local)] == [b"shared"]
    local.make_dataset("again-set", {"a.txt": b"only here"})  # it can come back
    url = local.call(
        f"{DATASETS}/DownloadDataset", ownerSlug="local", datasetSlug="again-set", fileName="a.txt"
    )
    assert local.session.get(url).content == b"only here"


def test_an_upload_that_is_complete_but_not_used_yet_is_kept(local: Local):
    token = local.upload("a.txt", b"soon to be used")
    local.state.collect_garbage(0.0)
    answer = local.make_dataset("first-set", {}, files=[{"token": token}])
    assert answer["status"] == "ok"


def test_an_abandoned_upload_goes_after_a_week(local: Local):
    ticket = local.start_upload("big.bin", 10)
    local.session.put(ticket["createUrl"], data=b"12345", headers={"Content-Range": "bytes 0-4/10"})
    (part,) = (local.folder / "uploads").glob("*.part")
    assert local.state.collect_garbage(0.0).uploads == 0
    old = time.time() - 8 * 24 * 3600
    os.utime(part, (old, old))
    assert local.state.collect_garbage().uploads == 1
    asked = local.session.put(ticket["createUrl"], headers={"Content-Range": "bytes */10"})
    assert (asked.status_code, asked.headers.get("Range")) == (308, None)  # begin again


def test_a_deleted_kernel_gives_back_its_folder_at_once(local: Local):
    session = local.run("kernel-one", "open('big.bin','wb').write(b'x' * 10000)")
    local.call(f"{KERNELS}/DeleteKernel", userName="local", kernelSlug="kernel-one")
    assert not session["folder"].exists()


def test_the_folder_of_a_stopping_kernel_goes_with_the_next_collection(local: Local):
    local.push("kernel-one", WAITS)
    session = local.state.sessions()[0]
    while "ready" not in local.log(session):
        time.sleep(0.02)
    local.call(f"{KERNELS}/DeleteKernel", userName="local", kernelSlug="kernel-one")
    deadline = time.monotonic() + 20
    while session["folder"].exists():
        local.state.collect_garbage()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("what", ["dataset", "kernel"])
def test_what_a_running_kernel_reads_is_kept(local: Local, what: str):
    local.make_dataset("first-set", {"a.txt": b"read me"})
    producer = local.run("producer", "open('made.txt','w').write('read me')")
    local.push("reader", WAITS, datasetDataSources=["local/first-set"],
               kernelDataSources=["local/producer"])  # fmt: skip
    reader = local.state.sessions(active=True)[0]
    if what == "dataset":
        local.call(f"{DATASETS}/DeleteDataset", ownerSlug="local", datasetSlug="first-set")
        local.state.collect_garbage(0.0)
        (mount,) = (local.folder / "mounts").iterdir()
        assert (mount / "a.txt").read_bytes() == b"read me"
    else:
        local.call(f"{KERNELS}/DeleteKernel", userName="local", kernelSlug="producer")
        local.state.collect_garbage(0.0)
        assert (producer["folder"] / "working" / "made.txt").exists()
    local.state.cancel(reader["id"])
    local.state.wait(reader["id"])
    found = local.state.collect_garbage(0.0)
    assert (found.mounts if what == "dataset" else found.runs) == 1
