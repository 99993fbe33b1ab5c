"""Uploads: whole, in pieces, cut, chunked, empty, resumed by another server, and abused."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from harness.emulator import Server
from tests.emulator.support import DATASETS, Local, Refused

BODY = bytes(range(256)) * 40


def put(local: Local, url: str, data: bytes | Iterator[bytes], content_range: str = ""):
    headers = {"Content-Range": content_range} if content_range else {}
    return local.session.put(url, data=data, headers=headers, timeout=30, allow_redirects=False)


def stored(local: Local, token: str) -> bytes:
    local.call(
        f"{DATASETS}/CreateDataset", ownerSlug="local", slug="the-upload", title="The Upload",
        licenseName="CC0-1.0", files=[{"token": token}],
    )  # fmt: skip
    url = local.call(
        f"{DATASETS}/DownloadDataset", ownerSlug="local", datasetSlug="the-upload", fileName="a.bin"
    )
    return local.session.get(url).content


def cut_upload(url: str, sent: bytes, announced: int) -> None:
    """Send the beginning of a body and vanish."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        head = (
            f"PUT {parts.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {announced}\r\n\r\n"
        )
        connection.sendall(head.encode() + sent)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)


def test_a_cut_upload_is_resumed_from_where_it_broke(local: Local):
    ticket = local.start_upload("a.bin", len(BODY))
    url, total = ticket["createUrl"], len(BODY)
    empty = put(local, url, b"", f"bytes */{total}")
    assert (empty.status_code, "Range" in empty.headers) == (308, False)
    cut_upload(url, BODY[:1000], total)
    asked = put(local, url, b"", f"bytes */{total}")
    assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-999")
    done = put(local, url, BODY[1000:], f"bytes 1000-{total - 1}/{total}")
    assert done.status_code == 200
    again = put(local, url, b"", f"bytes */{total}")
    assert again.status_code == 200  # the client asks again after a completed upload
    assert stored(local, ticket["token"]) == BODY


def test_a_second_whole_attempt_replaces_the_cut_one(local: Local):
    ticket = local.start_upload("a.bin", len(BODY))
    cut_upload(ticket["createUrl"], b"z" * 500, len(BODY))
    assert put(local, ticket["createUrl"], BODY).status_code == 200
    assert stored(local, ticket["token"]) == BODY


def test_a_gap_is_not_accepted(local: Local):
    ticket = local.start_upload("a.bin", len(BODY))
    total = len(BODY)
    answer = put(local, ticket["createUrl"], BODY[500:], f"bytes 500-{total - 1}/{total}")
    assert answer.status_code == 308
    assert "Range" not in answer.headers


def test_chunked_and_empty_bodies_are_understood(local: Local):
    ticket = local.start_upload("a.bin", len(BODY))
    pieces = iter([BODY[:5000], BODY[5000:]])
    assert put(local, ticket["createUrl"], pieces).status_code == 200
    assert stored(local, ticket["token"]) == BODY
    empty = local.start_upload("empty.bin", 0)
    assert put(local, empty["createUrl"], iter([])).status_code == 200


def test_more_bytes_than_announced_are_refused(local: Local):
    ticket = local.start_upload("a.bin", 10)
    assert put(local, ticket["createUrl"], b"x" * 11).status_code == 400
    with pytest.raises(Refused, match="not complete"):
        stored(local, ticket["token"])


def test_an_upload_goes_on_at_another_server_of_the_same_folder(local: Local):
    ticket = local.start_upload("a.bin", len(BODY))
    cut_upload(ticket["createUrl"], BODY[:3000], len(BODY))
    with Server(local.folder, owner=False) as other:
        url = ticket["createUrl"].replace(local.url, other.url)
        asked = put(local, url, b"", f"bytes */{len(BODY)}")
        assert asked.headers["Range"] == "bytes=0-2999"
        span = f"bytes 3000-{len(BODY) - 1}/{len(BODY)}"
        assert put(local, url, BODY[3000:], span).status_code == 200
    assert stored(local, ticket["token"]) == BODY


def test_upload_addresses_outlive_a_restart(tmp_path: Path):
    with Server(tmp_path / "state") as server:
        ticket = Local(server, tmp_path / "state").start_upload("a.bin", 3)
    with Server(tmp_path / "state"):
        session = requests.Session()
        session.trust_env = False
        assert session.put(ticket["createUrl"], data=b"abc").status_code == 200


def test_tokens_are_for_one_dataset_one_kind_and_one_owner(local: Local):
    def create(slug: str, token: str, user: str = "local") -> None:
        local.call(
            f"{DATASETS}/CreateDataset", user=user, ownerSlug=user, slug=slug, licenseName="other",
            title=slug.title(), files=[{"token": token}],
        )  # fmt: skip

    token = local.upload("a.bin", b"a")
    with pytest.raises(Refused, match="Invalid upload token"):
        create("for-another", token, user="somebody")
    create("first-use", token)
    with pytest.raises(Refused, match="Invalid upload token"):
        create("second-use", token)
    with pytest.raises(Refused, match="Invalid upload token"):
        create("model-file", local.upload("m.bin", b"m", kind="MODEL"))
    with pytest.raises(Refused, match="Invalid upload token"):
        create("made-up-one", "made-up")
    names = [row["slug"] for row in local.state.datasets()]
    assert names == ["first-use"]  # nothing of the refused ones is left


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "..", "a\\b", "x" * 300])
def test_file_names_that_are_paths_are_refused(local: Local, name: str):
    with pytest.raises(Refused) as caught:
        local.start_upload(name, 1)
    assert caught.value.status == 400


def test_a_large_upload_needs_little_memory(local: Local):
    """64 MiB in pieces; the server must never hold more than a few of them."""
    import tracemalloc

    size = 64 << 20
    ticket = local.start_upload("big.bin", size)
    parts = urlsplit(ticket["createUrl"])
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    block = b"x" * (1 << 20)
    tracemalloc.start()
    try:
        connection.putrequest("PUT", parts.path)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for _ in range(64):
            connection.send(block)
        assert connection.getresponse().status == 200
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20, peak
