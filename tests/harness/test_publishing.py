"""Publishing sends what changed and nothing else; nothing half-published is ever used, and the next run goes on.

Each test talks to a local Kaggle through the code that talks to the real one.
"""

import errno
import json
import re

import pytest

from harness import publishing, transport
from harness import remote as remote_module
from harness.emulator import State, connect, faults
from harness.errors import ConfigError, PushRejected, RemoteUnavailable
from harness.ledger import Ledger
from harness.package import MANIFEST, build_dataset
from harness.publishing import publish_build
from harness.records import Handle, KernelBuild, RunSpec
from harness.remote import Credentials, KaggleRemote, Upload

BIG = 3_000_000


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(transport, "retry_wait", lambda attempt, response: 0.01)
    monkeypatch.setattr(publishing, "VERIFY_WAITS_S", (0.05, 0.1))
    monkeypatch.setattr(publishing, "LOOK_AGAIN_S", (0.05, 0.1))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local-kaggle")
    state = State(folder)
    state.configure(dataset_delay_s=0.05)
    with connect(folder) as endpoint:
        yield endpoint, state
    state.close()


@pytest.fixture
def remote(server):
    endpoint, state = server
    client = KaggleRemote("local", Credentials(endpoint.username, key=endpoint.key), endpoint.url)
    yield client
    faults.clear(state)
    state.configure(dataset_delay_s=0.05, dataset_quota_bytes=0)
    client.close()


@pytest.fixture
def arm(server):
    return lambda name, **changes: faults.switch(server[1], name, **changes)


@pytest.fixture
def ledger(tmp_path):
    book = Ledger(tmp_path / "ledger.sqlite3")
    yield book
    book.close()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "set"
    (place / "inner" / "deep").mkdir(parents=True)
    (place / "top.bin").write_bytes(b"t" * BIG)
    (place / "inner" / "one.txt").write_text("one")
    (place / "inner" / "deep" / "two.txt").write_text("two")
    return place


@pytest.fixture
def send(remote, ledger, folder, tmp_path):
    """Builds the folder and publishes it under a slug."""

    def run(slug, said=None, **options):
        build = build_dataset(folder, slug, slug.replace("-", " "), "other", "About.")
        say = said.append if said is not None else (lambda _: None)
        return publish_build(
            build, remote, ledger, "local", say, places=tmp_path / "places", **options
        )

    def published(slug, **options):
        for stale in ("dataset-metadata.json", MANIFEST, "README.md"):
            (folder / stale).unlink(missing_ok=True)  # one folder plays several datasets here
        return run(slug, **options)

    return published


def listed(remote, slug):
    return remote.dataset_files(Handle("local", slug))


def test_equal_content_sends_no_byte(send, server):
    first = send("no-byte-twice")
    assert first.state == "sent"
    assert first.sent > BIG
    faults.add(server[1], "PUT /upload*", "error", {"status": 400}, times=-1)
    again = send("no-byte-twice")
    assert (again.version, again.sent, again.state) == (1, 0, "current")


def test_folders_survive_as_archives_and_as_plain_files(send, remote, monkeypatch):
    wanted = {"top.bin": BIG, "inner/one.txt": 3, "inner/deep/two.txt": 3}
    for slug, limit in (("small-folders", publishing.ZIP_LIMIT), ("large-folders", 0)):
        monkeypatch.setattr(publishing, "ZIP_LIMIT", limit)
        assert send(slug).version == 1
        there = listed(remote, slug)
        assert {name: there[name] for name in wanted} == wanted


def test_large_folders_are_never_copied_into_an_archive(folder, tmp_path, monkeypatch):
    build = build_dataset(folder, "no-archive", "no archive", "other", "About.")
    monkeypatch.setattr(publishing, "ZIP_LIMIT", 5)
    plan = publishing.plan_uploads(build, tmp_path)
    assert {(upload.folder, upload.name) for upload in plan[2:]} == {
        ("", "top.bin"), ("inner", "one.txt"), ("inner/deep", "two.txt"),
    }  # fmt: skip
    assert all(upload.path.is_relative_to(folder) for upload in plan)


def test_a_dataset_of_another_make_is_never_replaced(send, remote, folder):
    foreign = Upload(folder / "inner" / "one.txt", "")
    token = remote.upload_file(Upload(foreign.path, None))
    build = build_dataset(folder, "made-by-hand", "made by hand", "other", "About.")
    remote.create_dataset(Handle("local", "made-by-hand"), build, [(foreign, token)])
    remote.wait_for_dataset(Handle("local", "made-by-hand"), 0, lambda _: None)
    with pytest.raises(PushRejected, match="not made by harness"):
        send("made-by-hand")
    assert remote.dataset_version(Handle("local", "made-by-hand")) == 1


def test_a_name_that_a_kernel_has_is_told(send, remote):
    metadata = {
        "id": "local/taken-by-a-kernel", "title": "taken by a kernel", "language": "python", "kernel_type": "script",
        "is_private": True, "enable_gpu": False, "enable_tpu": False, "enable_internet": False, "dataset_sources": [],
        "competition_sources": [], "kernel_sources": [], "model_sources": [],
    }  # fmt: skip
    handle = Handle("local", "taken-by-a-kernel")
    remote.push_kernel(KernelBuild(handle, metadata["title"], "", metadata, RunSpec("toy")))
    with pytest.raises(PushRejected, match="already in use by a kernel"):
        send("taken-by-a-kernel")


def test_a_title_that_is_taken_says_where_to_write_another(send, folder, ledger, remote):
    send("the-first-one")
    (folder / "dataset-metadata.json").unlink()
    build = build_dataset(folder, "the-second-one", "the first one", "other", "About.")
    with pytest.raises(PushRejected, match=r"title.*datasets/the-second-one/dataset-metadata.json"):
        publish_build(build, remote, ledger, "local", lambda _: None)
    assert remote.dataset_version(Handle("local", "the-second-one")) is None


def test_an_owner_who_is_somebody_else_is_told(remote, ledger, folder):
    build = build_dataset(folder, "of-somebody", "of somebody", "other", "About.")
    with pytest.raises(PushRejected, match="denied"):
        publish_build(build, remote, ledger, "somebody", lambda _: None)


def test_a_full_quota_is_told_and_the_next_run_publishes(send, remote, server, ledger):
    server[1].configure(dataset_quota_bytes=1000)
    with pytest.raises(PushRejected, match=r"reports FAILED.*quota"):
        send("beyond-the-quota")
    assert remote.dataset_version(Handle("local", "beyond-the-quota")) == 0
    assert {
        version for _, version in ledger.dataset_history("local", "local/beyond-the-quota")
    } == {None}
    server[1].configure(dataset_quota_bytes=0)
    assert send("beyond-the-quota").version == 2  # the failed version took number 1
    assert listed(remote, "beyond-the-quota")["top.bin"] == BIG


def test_a_dataset_that_vanishes_after_its_creation_is_told(send, arm, monkeypatch):
    monkeypatch.setattr(remote_module, "VANISHED_S", 0.3)
    arm("dataset-vanishes", times=-1)
    with pytest.raises(PushRejected, match=r"accepted and is not there.*quota"):
        send("vanishes-at-once")


def test_an_upload_that_was_killed_goes_on_where_it_stopped(send, server, monkeypatch, remote):
    monkeypatch.setattr(transport, "UPLOAD_ROUNDS", 1)
    # The third upload is the large file: it is cut after two of its three megabytes.
    faults.add(server[1], "PUT /upload*", "cut", {"bytes": 2_000_000}, skip=2)
    with pytest.raises(RemoteUnavailable):
        send("cut-half-way")
    assert remote.dataset_version(Handle("local", "cut-half-way")) is None
    monkeypatch.undo()
    done = send("cut-half-way")
    assert done.version == 1
    assert 0 < done.sent < BIG - 1_000_000
    assert listed(remote, "cut-half-way")["top.bin"] == BIG


def test_a_cut_within_one_run_sends_only_the_rest(send, server, remote):
    faults.add(server[1], "PUT /upload*", "cut", {"bytes": 2_000_000}, skip=2)
    assert send("cut-and-resumed").version == 1
    text = remote.dataset_text(Handle("local", "cut-and-resumed"), "top.bin")
    assert text == "t" * BIG


def test_places_of_another_kaggle_do_not_stop_a_publish(send, tmp_path, folder, remote):
    places = publishing.Places(tmp_path / "places")
    build = build_dataset(folder, "old-places", "old places", "other", "About.")
    for upload in publishing.plan_uploads(build, tmp_path):
        places.keep(upload, "a-token-of-nobody", "http://127.0.0.1:1/upload/a-token-of-nobody")
    done = publish_build(
        build, remote, Ledger(tmp_path / "l"), "local", lambda _: None, places=places.folder
    )
    assert (done.version, done.sent > BIG) == (1, True)


def test_a_file_that_changes_while_it_is_sent_publishes_nothing(send, remote, folder, monkeypatch):
    original = transport.Sending.read

    def restless(self, size=-1):
        chunk = original(self, size)
        with (folder / "top.bin").open("r+b") as handle:
            handle.seek(BIG - 1)
            handle.write(b"!")
        return chunk

    monkeypatch.setattr(transport.Sending, "read", restless)
    with pytest.raises(ConfigError, match="changed while it was sent"):
        send("changing-file")
    assert remote.dataset_version(Handle("local", "changing-file")) is None
    monkeypatch.undo()
    assert send("changing-file").version == 1
    assert remote.dataset_text(Handle("local", "changing-file"), "top.bin")[-1] == "!"


def test_a_file_that_was_cut_off_before_it_is_sent_is_told_as_changed(send, remote, folder, ledger):
    build = build_dataset(folder, "shrunk-file", "shrunk file", "other", "About.")
    original = remote._read

    def shrinks(what, call, request):
        answer = original(what, call, request)
        if what == "upload of top.bin":
            (folder / "top.bin").write_bytes(b"begun anew")
        return answer

    remote._read = shrinks
    with pytest.raises(ConfigError, match=r"top\.bin changed while it was sent"):
        publish_build(build, remote, ledger, "local", lambda _: None)
    assert remote.dataset_version(Handle("local", "shrunk-file")) is None


def test_a_file_that_changes_while_it_is_packed_publishes_nothing(send, remote, folder):
    build = build_dataset(folder, "changing-pack", "changing pack", "other", "About.")
    (folder / "inner" / "one.txt").write_text("ONE")
    with pytest.raises(ConfigError, match="changed while it was packed"):
        publishing.plan_uploads(build, folder.parent)


def test_a_full_disk_while_packing_publishes_nothing(send, remote, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publishing, "_write_zip", full)
    with pytest.raises(ConfigError, match=r"No space left.*Nothing was published"):
        send("disk-full-pack")
    assert remote.dataset_version(Handle("local", "disk-full-pack")) is None
    monkeypatch.undo()
    assert send("disk-full-pack").version == 1


def test_a_lost_answer_is_settled_without_sending_again(send, arm):
    arm("create-lost-ack")
    with pytest.raises(RemoteUnavailable):
        send("answer-was-lost")
    arm("dataset-not-ready", times=3)  # the first is still being processed
    done = send("answer-was-lost")
    assert (done.version, done.sent) == (1, 0)


def test_tokens_that_were_spent_unnoticed_are_replaced(send, server, remote):
    # The version arrived, its answer was lost, and its processing failed: its tokens are used up.
    server[1].configure(dataset_quota_bytes=1000)
    faults.switch(server[1], "create-lost-ack")
    with pytest.raises(RemoteUnavailable):
        send("spent-tokens")
    server[1].configure(dataset_quota_bytes=0)
    remote_status = remote.dataset_status(Handle("local", "spent-tokens"))
    assert remote_status in ("FAILED", "BLOBS_RECEIVED", "BLOBS_DECOMPRESSED", "INDIVIDUAL_BLOBS_COMPRESSED")  # fmt: skip
    while remote.dataset_status(Handle("local", "spent-tokens")) != "FAILED":
        pass
    assert send("spent-tokens").version == 2


def test_a_version_that_lost_a_file_is_not_used(send, server, ledger, folder):
    answer = {"datasetFiles": [{"name": "top.bin", "totalBytes": BIG}], "nextPageToken": ""}
    pattern = "datasets.DatasetApiService/ListDatasetFiles"
    faults.add(server[1], pattern, "answer", {"body": answer}, times=-1)
    with pytest.raises(PushRejected, match=r"inner/\S+ is missing there"):
        send("lost-a-file")
    digest, version = ledger.dataset_history("local", "local/lost-a-file")[-1]
    assert version is None
    # A run that finds its own digest there looks at the listing too, and publishes anew when that lasts.
    faults.clear(server[1])
    looks = len(publishing.LOOK_AGAIN_S) + 1
    faults.add(server[1], pattern, "answer", {"body": answer}, times=looks)
    assert send("lost-a-file").version == 2
    assert ledger.dataset_version("local", "local/lost-a-file", digest) == 2


def test_a_version_of_somebody_else_meanwhile_is_not_taken_for_ours(send, remote, folder, server):
    send("two-publishers")
    theirs = {"slug": "two-publishers", "digest": "f" * 64, "files": []}
    faults.add(
        server[1], "GET /files*", "answer", {"body": theirs}, times=-1,
    )  # fmt: skip
    (folder / "top.bin").write_bytes(b"u" * BIG)
    with pytest.raises(PushRejected, match="its manifest has digest ffffffffffff"):
        send("two-publishers")


def test_a_manifest_that_is_not_there_for_a_moment_or_comes_damaged_is_asked_for_again(
    send, arm, server, ledger
):
    assert send("moment").version == 1
    with ledger._db:  # a publish that was not waited for leaves no version
        ledger._db.execute("UPDATE datasets SET version = NULL")
    pattern = "datasets.DatasetApiService/DownloadDataset"
    for kind, what, skip in (("error", {"status": 404}, 0), ("error", {"status": 403}, 1)):
        faults.add(server[1], pattern, kind, what, times=1, skip=skip)
        done = send("moment")
        assert (done.version, done.sent) == (1, 0)
        assert faults.listed(server[1]) == []  # it was met
        with ledger._db:
            ledger._db.execute("UPDATE datasets SET version = NULL")
    faults.add(server[1], "GET /files*", "corrupt", {"at": 3}, times=1)
    done = send("moment")
    assert (done.version, done.sent) == (1, 0)


def test_a_listing_that_comes_late_is_waited_for(send, arm):
    arm("new-version-404", times=1)
    assert send("late-listing").version == 1


def test_publishing_without_waiting_is_not_repeated_while_it_goes_on(send, arm, server):
    assert send("not-waited-for", wait=False).state == "processing"
    arm("dataset-not-ready", times=-1)
    again = send("not-waited-for", wait=False)
    assert (again.state, again.sent) == ("processing", 0)
    faults.clear(server[1])
    assert send("not-waited-for").version == 1


def test_progress_tells_bytes(send, monkeypatch):
    monkeypatch.setattr(publishing.Transfer, "EVERY_S", 0.0)
    said = []
    send("told-in-bytes", said=said)
    shown = [line for line in said if "MB/s" in line]
    assert re.search(r"[\d.]+ of 3\.0 MB \(\d+ %\), [\d.]+ MB/s, \d+ s left", shown[-1])


def test_the_manifest_there_is_the_manifest_here(send, remote, folder):
    send("same-manifest")
    there = remote.dataset_text(Handle("local", "same-manifest"), MANIFEST)
    assert json.loads(there) == json.loads((folder / MANIFEST).read_text())
