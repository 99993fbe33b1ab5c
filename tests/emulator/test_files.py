"""Downloads: ranges, conditions, addresses, and archives that never exist on disk."""

import io
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.emulator.zipstream import Member, ZipPlan
from tests.emulator.support import COMPETITIONS, DATASETS, Local, Refused

BODY = bytes(range(256)) * 20


@pytest.fixture
def address(local: Local) -> str:
    local.make_dataset("my-data-set", {"a b.bin": BODY})
    return local.call(
        f"{DATASETS}/DownloadDataset", ownerSlug="local", datasetSlug="my-data-set",
        fileName="a b.bin",
    )  # fmt: skip


def test_a_file_needs_no_account_and_says_what_it_is(local: Local, address: str):
    answer = local.session.get(address)
    assert answer.content == BODY
    assert answer.headers["Content-Length"] == str(len(BODY))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Accept-Ranges"] == "bytes"
    # The client parses exactly this form.
    assert time.strptime(answer.headers["Last-Modified"], "%a, %d %b %Y %H:%M:%S GMT")
    assert address.endswith("/a%20b.bin")
    head = local.session.head(address)
    assert (head.headers["Content-Length"], head.content) == (str(len(BODY)), b"")


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("0-9", 0, 10), ("1000-", 1000, 5120), ("-7", 5113, 5120), ("5100-99999", 5100, 5120)],
)
def test_a_range_gives_206(local: Local, address: str, wanted: str, start: int, stop: int):
    answer = local.session.get(address, headers={"Range": f"bytes={wanted}"})
    assert (answer.status_code, answer.content) == (206, BODY[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/5120"
    assert answer.headers["Content-Length"] == str(stop - start)


def test_a_range_beyond_the_end_gives_416(local: Local, address: str):
    answer = local.session.get(address, headers={"Range": "bytes=99999-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(BODY)}"


def test_if_range_gives_the_rest_only_of_the_same_file(local: Local, address: str):
    first = local.session.get(address)
    for condition, status in (
        (first.headers["ETag"], 206),
        (first.headers["Last-Modified"], 206),
        ('"another"', 200),
    ):
        answer = local.session.get(address, headers={"Range": "bytes=5-", "If-Range": condition})
        assert answer.status_code == status, condition


def test_an_address_cannot_be_guessed_or_bent(local: Local, address: str):
    head, signature, kind, number, name = address.rsplit("/", 4)
    for bent in (
        f"{head}/{'0' * 40}/{kind}/{number}/{name}",
        f"{head}/{signature}/{kind}/2/{name}",
        f"{head}/{signature}/kernel/{number}/{name}",
        f"{head}/{signature}/{kind}/{number}/other",
    ):
        assert local.session.get(bent).status_code == 404


def test_an_archive_of_everything_can_be_resumed(local: Local):
    local.make_dataset("my-data-set", {"a.bin": BODY, "b.txt": b"b", "empty": b""})
    url = local.call(f"{DATASETS}/DownloadDataset", ownerSlug="local", datasetSlug="my-data-set")
    whole = local.session.get(url)
    assert whole.headers["Content-Length"] == str(len(whole.content))
    archive = zipfile.ZipFile(io.BytesIO(whole.content))
    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist()} == {
        "a.bin": BODY, "b.txt": b"b", "empty": b"",
    }  # fmt: skip
    rest = local.session.get(
        url, headers={"Range": "bytes=100-", "If-Range": whole.headers["ETag"]}
    )
    assert whole.content[:100] + rest.content == whole.content


def test_a_competitions_archive_follows_its_folder(local: Local, tmp_path: Path):
    local.add_competition(tmp_path)
    for text in ("id,label\nx,1\n", "id,label\ny,0\n"):
        (tmp_path / "data" / "train.csv").write_text(text)
        url = local.call(f"{COMPETITIONS}/DownloadDataFiles", competitionName="my-comp")
        assert url.endswith("my-comp.zip")
        archive = zipfile.ZipFile(io.BytesIO(local.session.get(url).content))
        assert archive.testzip() is None
        assert archive.read("train.csv").decode() == text


def test_a_missing_file_is_a_404_before_the_redirect(local: Local, address: str):
    with pytest.raises(Refused) as caught:
        local.call(
            f"{DATASETS}/DownloadDataset", ownerSlug="local", datasetSlug="my-data-set",
            fileName="none",
        )  # fmt: skip
    assert caught.value.status == 404


def test_any_slice_of_a_planned_archive_is_right(tmp_path: Path):
    members = []
    for number, size in enumerate((0, 1, 1000)):
        path = tmp_path / f"{number}é.bin"
        path.write_bytes(bytes(size))
        members.append(Member(path.name, path, size, zipfile.crc32(bytes(size))))
    plan = ZipPlan(members, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    whole = b"".join(plan.read(0, plan.size))
    assert len(whole) == plan.size
    archive = zipfile.ZipFile(io.BytesIO(whole))
    assert archive.testzip() is None
    assert archive.infolist()[0].date_time == (2026, 1, 2, 3, 4, 4)
    for start in range(0, plan.size, 37):
        for stop in (start + 1, start + 200, plan.size):
            assert b"".join(plan.read(start, min(stop, plan.size))) == whole[start:stop]


def test_archives_beyond_4_gib_carry_the_wide_fields(tmp_path: Path):
    """Sparse files: nothing of that size is written or read."""
    big = tmp_path / "big.bin"
    size = (4 << 30) + 5
    with big.open("wb") as stream:
        stream.truncate(size)
    small = tmp_path / "small.txt"
    small.write_bytes(b"small")
    plan = ZipPlan(
        [Member("big.bin", big, size, 0), Member("small.txt", small, 5, zipfile.crc32(b"small"))],
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    archive = zipfile.ZipFile(_Lazy(plan))
    assert [info.file_size for info in archive.infolist()] == [size, 5]
    assert archive.read("small.txt") == b"small"


class _Lazy(io.RawIOBase):
    """A planned archive as a file that can be searched."""

    def __init__(self, plan: ZipPlan) -> None:
        self._plan, self._at = plan, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._plan.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        stop = min(self._at + len(buffer), self._plan.size)
        data = b"".join(self._plan.read(self._at, stop))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
