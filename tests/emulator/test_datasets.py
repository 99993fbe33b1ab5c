"""The rules of datasets: names, versions, archives, processing."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from harness.emulator import ManualClock, Server
from tests.emulator.support import DATASETS, Local, Refused


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def status(local: Local, slug: str) -> str:
    answer = local.call(f"{DATASETS}/GetDatasetStatus", ownerSlug="local", datasetSlug=slug)
    return answer.get("status", "NOT_YET_PERSISTED")


@pytest.mark.parametrize(
    "slug", ["short", "x" * 51, "Has-Capitals", "has_underscore", "-starts", "a b c d"]
)
def test_slugs_that_cannot_be_addresses_are_a_400(local: Local, slug: str):
    with pytest.raises(Refused) as caught:
        local.make_dataset(slug, {"a.txt": b"a"})
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"title": "short"}, "title"),
        ({"licenseName": "MIT"}, "license"),
        ({"subtitle": "x"}, "subtitle"),
    ],
)
def test_other_rules_are_explained_inside_a_200(local: Local, change: dict[str, str], word: str):
    answer = local.make_dataset("my-data-set", {"a.txt": b"a"}, **change)
    assert answer["status"] == "error"
    assert word in answer["error"].lower()
    assert local.state.datasets() == []


def test_a_taken_slug_or_title_is_refused(local: Local):
    assert local.make_dataset("my-data-set", {"a.txt": b"a"})["status"] == "ok"
    assert "already in use" in local.make_dataset("my-data-set", {"a.txt": b"a"})["error"]
    assert "already in use" in local.make_dataset("other-name", {}, title="My Data Set")["error"]


def test_two_files_of_one_name_are_refused(local: Local):
    tokens = [{"token": local.upload("a.txt", text)} for text in (b"1", b"2")]
    answer = local.make_dataset("my-data-set", {}, files=tokens)
    assert "Duplicate" in answer["error"]
    both = local.make_dataset("my-data-set", {"sub": b"a file", "sub.zip": zipped(x=b"")})
    assert "both a file and a folder" in both["error"]


def test_a_dataset_cannot_be_made_for_somebody_else(local: Local):
    with pytest.raises(Refused) as caught:
        local.make_dataset("my-data-set", {}, ownerSlug="somebody")
    assert caught.value.status == 403


def test_a_version_of_an_unknown_dataset_is_a_403(local: Local):
    with pytest.raises(Refused) as caught:
        local.make_version("never-made", {"a.txt": b"a"})
    assert caught.value.status == 403


def test_a_private_dataset_does_not_exist_for_others(local: Local):
    local.make_dataset("my-data-set", {"a.txt": b"a"})
    local.make_dataset("open-data", {"a.txt": b"a"}, isPrivate=False)
    for slug, visible in (("my-data-set", False), ("open-data", True)):
        body = {"ownerSlug": "local", "datasetSlug": slug}
        answer = local.post(f"{DATASETS}/GetDataset", body, user="somebody")
        assert (answer.status_code == 200) is visible


def test_a_version_is_current_only_after_its_processing(tmp_path: Path):
    clock = ManualClock()
    with Server(tmp_path / "state", clock=clock) as server:
        local = Local(server, tmp_path / "state")
        local.state.configure(dataset_delay_s=60.0)
        local.make_dataset("my-data-set", {"a.txt": b"1"})
        seen = []
        for _ in range(4):
            seen.append(status(local, "my-data-set"))
            clock.advance(20)
        assert seen == [
            "BLOBS_RECEIVED", "BLOBS_DECOMPRESSED", "INDIVIDUAL_BLOBS_COMPRESSED", "READY",
        ]  # fmt: skip
        local.make_version("my-data-set", {"b.txt": b"2"})
        current = local.call(f"{DATASETS}/GetDataset", ownerSlug="local", datasetSlug="my-data-set")
        assert current["currentVersionNumber"] == 1
        assert local.list_files("my-data-set") == ["a.txt"]
        with pytest.raises(Refused, match="version not found"):
            local.list_files("my-data-set", datasetVersionNumber=2)
        clock.advance(60)
        assert local.list_files("my-data-set") == ["b.txt"]
        assert local.list_files("my-data-set", datasetVersionNumber=1) == ["a.txt"]


def test_readiness_can_also_be_counted_in_polls(local: Local):
    local.state.configure(dataset_polls=2)
    local.make_dataset("my-data-set", {"a.txt": b"1"})
    assert [status(local, "my-data-set") == "READY" for _ in range(3)] == [False, False, True]


def test_old_versions_can_be_deleted_with_a_new_one(local: Local):
    local.make_dataset("my-data-set", {"a.txt": b"1"})
    local.make_version("my-data-set", {"b.txt": b"2"}, deleteOldVersions=True)
    with pytest.raises(Refused):
        local.list_files("my-data-set", datasetVersionNumber=1)
    assert local.list_files("my-data-set") == ["b.txt"]


def test_archives_become_folders(local: Local):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("deep/b.txt")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"tar"))
    local.make_dataset(
        "my-data-set",
        {"one.zip": zipped(**{"x.txt": b"zip"}), "two.tar.gz": buffer.getvalue(), "not.zip": b"no"},
    )
    assert local.list_files("my-data-set") == ["not.zip", "one/x.txt", "two/deep/b.txt"]


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../evil", "C:/evil"])
def test_an_archive_that_leaves_its_folder_fails_in_processing(local: Local, name: str):
    local.make_dataset("my-data-set", {"bad.zip": zipped(**{name: b"evil"})})
    assert status(local, "my-data-set") == "FAILED"
    assert not list(local.folder.parent.rglob("evil*"))


def test_an_archive_bomb_fails_in_processing(local: Local, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("harness.emulator.archives._RATIO_FREE_BYTES", 1000)
    monkeypatch.setattr("harness.emulator.archives.MAX_RATIO", 10)
    local.make_dataset("my-data-set", {"bomb.zip": zipped(zeros=b"\0" * 10_000_000)})
    assert status(local, "my-data-set") == "FAILED"


def test_links_in_a_tar_are_not_followed(local: Local):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("plain"), io.BytesIO(b""))
    local.make_dataset("my-data-set", {"x.tar": buffer.getvalue()})
    assert local.list_files("my-data-set") == ["x/plain"]


def test_a_file_name_the_service_chokes_on_fails_later(local: Local):
    assert local.make_dataset("my-data-set", {"a@b.txt": b""})["status"] == "ok"
    assert status(local, "my-data-set") == "FAILED"


def test_the_title_and_licence_can_be_changed(local: Local):
    local.make_dataset("my-data-set", {"a.txt": b"a"})
    body = {"ownerSlug": "local", "datasetSlug": "my-data-set"}
    settings = {"title": "Another Title", "isPrivate": False, "licenses": [{"name": "PDDL"}]}
    local.call(f"{DATASETS}/UpdateDatasetMetadata", {**body, "settings": settings})
    info = local.call(f"{DATASETS}/GetDatasetMetadata", body)["info"]
    assert (info["title"], info["licenses"]) == ("Another Title", [{"name": "PDDL"}])


def test_folders_sent_as_a_tree_are_kept(local: Local):
    token = local.upload("x.txt", b"x")
    tree = [{"name": "a", "directories": [{"name": "b", "files": [{"token": token}]}]}]
    local.make_dataset("my-data-set", {}, directories=tree)
    assert local.list_files("my-data-set") == ["a/b/x.txt"]
    with pytest.raises(Refused):
        local.make_dataset("other-data", {}, directories=[{"name": ".."}])
