"""The doors: who is answered, how errors look, and what malformed requests get."""

import http.client
import json
import socket

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.emulator.routes import all_routes
from tests.emulator.support import DATASETS, KERNELS, Local, Refused


def raw(local: Local, text: str) -> str:
    """Send bytes as they are and give the first line of the answer."""
    with socket.create_connection(("127.0.0.1", local.server.port), timeout=10) as connection:
        connection.sendall(text.encode())
        return connection.makefile("rb").readline().decode().strip()


def test_errors_are_nested_by_default_and_flat_on_request(local: Local):
    body = {"ownerSlug": "local", "datasetSlug": "missing"}
    nested = local.post(f"{DATASETS}/GetDatasetStatus", body)
    assert nested.status_code == 404
    assert nested.json() == {
        "error": {"code": 404, "message": "Dataset not found", "status": "NOT_FOUND"}
    }
    local.state.configure(error_shape="flat")
    flat = local.post(f"{DATASETS}/GetDatasetStatus", body)
    assert flat.json() == {"code": 404, "message": "Dataset not found"}


@pytest.mark.parametrize("auth", [None, ("local", ""), ("../x", "key"), ("", "key")])
def test_calls_without_an_account_get_401(local: Local, auth: tuple[str, str] | None):
    session = requests.Session()
    session.trust_env = False
    answer = session.post(f"{local.url}/api/v1/{KERNELS}/ListKernels", json={}, auth=auth)
    assert answer.status_code == 401


def test_both_prefixes_lead_to_the_api(local: Local):
    for prefix in ("/api/v1", "/v1"):
        answer = local.session.post(
            f"{local.url}{prefix}/{KERNELS}/ListKernels", json={}, auth=("local", "key")
        )
        assert answer.json() == {}


def test_absolute_targets_for_loopback_are_answered_and_others_are_not(local: Local):
    for host, expected in (("localhost", "200"), ("127.0.0.1:1", "200"), ("evil.example", "403")):
        line = raw(local, f"GET http://{host}/__emu__ HTTP/1.1\r\nHost: {host}\r\n\r\n")
        assert line.split()[1] == expected, (host, line)


def test_the_host_header_must_be_a_loopback_name(local: Local):
    assert "403" in raw(local, "GET /__emu__ HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert "403" in raw(local, "GET /__emu__ HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n")
    assert "200" in raw(local, "GET /__emu__ HTTP/1.1\r\nHost: [::1]:80\r\n\r\n")


def test_tunnels_are_refused_with_501(local: Local):
    assert "501" in raw(local, "CONNECT api.kaggle.com:443 HTTP/1.0\r\n\r\n")


def test_an_unknown_method_or_address_is_a_404(local: Local):
    for method in (f"{KERNELS}/NoSuchMethod", "nothing"):
        with pytest.raises(Refused) as caught:
            local.call(method, {})
        assert caught.value.status == 404
    assert local.session.get(f"{local.url}/favicon.ico").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b'{"ownerSlug": 3}', b'{"ownerSlug": "a\\u0000b"}',
        b'{"ownerSlug": "\\ud800"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_malformed_bodies_get_a_4xx(local: Local, body: bytes):
    answer = local.session.post(
        f"{local.url}/api/v1/{DATASETS}/GetDataset", data=body, auth=("local", "key")
    )
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("name", ["", "_", "name", "mro", "NO_SUCH", 1, ["DATASET"]])
def test_an_unknown_enum_name_is_a_400(local: Local, name: object):
    """The SDK's matching by suffix would turn some of these into methods of the class."""
    answer = local.post(
        "blobs.BlobApiService/StartBlobUpload", {"type": name, "name": "a", "contentLength": 1}
    )
    assert answer.status_code == 400


def test_nulls_count_as_absent(local: Local):
    assert local.call(f"{KERNELS}/ListKernels", {"search": None, "pageToken": None}) == {}


def test_oversize_headers_get_a_4xx(local: Local):
    connection = http.client.HTTPConnection("127.0.0.1", local.server.port, timeout=10)
    connection.request("GET", "/__emu__", headers={"X-Long": "x" * 100_000})
    assert connection.getresponse().status == 431


@pytest.mark.parametrize(
    "path",
    ["/files/x/dataset/1/../../state.sqlite", "/files/x/kernel/1/%2e%2e%2fjob.json", "/files/a",
     "/files/%00/dataset/1/x", "/upload/../state.sqlite", "/upload/%00", "//etc/passwd"],
)  # fmt: skip
def test_path_tricks_get_a_4xx(local: Local, path: str):
    assert raw(local, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").split()[1][0] == "4"


def test_pages_follow_their_tokens_and_foreign_tokens_are_refused(local: Local):
    local.make_dataset("many-files", {f"f{i:02d}.txt": b"x" for i in range(23)})
    names, token = [], ""
    for _ in range(4):
        page = local.call(
            f"{DATASETS}/ListDatasetFiles", ownerSlug="local", datasetSlug="many-files",
            pageSize=10, pageToken=token,
        )  # fmt: skip
        names.append([file["name"] for file in page["datasetFiles"]])
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert [len(page) for page in names] == [10, 10, 3]
    assert sorted(name for page in names for name in page) == [f"f{i:02d}.txt" for i in range(23)]
    for bad in ("-1", "x", "9" * 50):
        with pytest.raises(Refused):
            local.call(
                f"{DATASETS}/ListDatasetFiles", ownerSlug="local", datasetSlug="many-files",
                pageToken=bad,
            )  # fmt: skip


_FIELDS = sorted(
    {field.json_name for route in all_routes().values() for field in route.message._fields}
)
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
    st.sampled_from(["local", "my-comp", "..", "/etc/passwd", "READY", "v1", "\x00"]),
    st.lists(st.one_of(st.text(max_size=5), st.none(), st.dictionaries(
        st.sampled_from(["token", "name", "files"]), st.text(max_size=5)))),
    st.dictionaries(st.sampled_from(_FIELDS), st.text(max_size=5), max_size=3),
)  # fmt: skip


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), method=st.sampled_from(sorted(all_routes())))
def test_no_request_makes_the_server_fail(local: Local, data: st.DataObject, method: str):
    own = [field.json_name for field in all_routes()[method].message._fields] or ["x"]
    body = data.draw(st.dictionaries(st.sampled_from(own), _VALUES, max_size=6))
    text = json.dumps(body)
    answer = local.session.post(
        f"{local.url}/api/v1/{method}", data=text, auth=("local", "key"), allow_redirects=False
    )
    assert answer.status_code < 500, (method, text, answer.text)


def digest(local: Local) -> str:
    """Everything that is remembered: the database, and every file beside it."""
    names = sorted(
        f"{path.relative_to(local.folder)} {path.stat().st_size}"
        for path in local.folder.rglob("*")
        if path.is_file() and not path.name.startswith("state.sqlite")
    )
    with local.state.read() as db:
        return "\n".join([*db.iterdump(), *names])


TRICKS = (
    "../evil", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "a\x00b", "\ud800", "x" * 300,
    "x" * 100_000,
)  # fmt: skip


def test_names_that_are_paths_are_refused_and_change_nothing(local: Local):
    local.make_dataset("my-data-set", {"a.txt": b"a"})
    before = digest(local)
    for name in TRICKS:
        text = json.dumps({"type": "DATASET", "name": name, "contentLength": 1})
        for method, body in (
            ("blobs.BlobApiService/StartBlobUpload", text),
            (f"{DATASETS}/CreateDataset", json.dumps({
                "ownerSlug": "local", "slug": name, "title": "A New Set", "licenseName": "CC0-1.0",
            })),
            (f"{DATASETS}/CreateDataset", json.dumps({
                "ownerSlug": name or "x", "slug": "another-set", "title": "A New Set",
                "licenseName": "CC0-1.0",
            })),
            (f"{DATASETS}/DownloadDataset", json.dumps({
                "ownerSlug": "local", "datasetSlug": "my-data-set", "fileName": name or "x",
            })),
            (f"{KERNELS}/GetKernelSessionStatus", json.dumps({"userName": "local", "kernelSlug": name})),
        ):  # fmt: skip
            answer = local.session.post(
                f"{local.url}/api/v1/{method}", data=text if body is text else body,
                auth=("local", "key"), allow_redirects=False,
            )  # fmt: skip
            assert 400 <= answer.status_code < 500, (method, name[:20], answer.text)
    assert digest(local) == before


def test_requests_without_a_good_token_change_nothing(local: Local):
    local.make_dataset("my-data-set", {"a.txt": b"a"})
    local.state.revoke("bad")
    before = digest(local)
    for method in sorted(all_routes()):
        if all_routes()[method].open:
            continue
        body = {"ownerSlug": "local", "datasetSlug": "my-data-set", "slug": "local/kernel-one"}
        answer = local.session.post(
            f"{local.url}/api/v1/{method}", json=body, auth=("local", "bad")
        )
        assert answer.status_code == 401, method
    assert digest(local) == before


@pytest.mark.parametrize(
    "head",
    [
        "GARBAGE\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", "POST /x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /" + "a" * 70_000 + " HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n" + "X: y\r\n" * 200 + "\r\n", "GET / HTTP/1.1\r\nX: " + "y" * 70_000 + "\r\n\r\n",
        "GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", "\x00\x01\x02 \x03\r\n\r\n",
    ],
)  # fmt: skip
def test_a_malformed_head_gets_a_4xx(local: Local, head: str, capfd: pytest.CaptureFixture[str]):
    before = digest(local)
    answer = raw(local, head)
    assert answer.split()[1][0] == "4", answer
    assert digest(local) == before
    assert "Traceback" not in capfd.readouterr().err


def test_a_chunked_or_overlong_body_is_read_no_further_than_it_may(local: Local):
    before = digest(local)
    for extra in ("Content-Length: abc", "Content-Length: -5", "Transfer-Encoding: gzip"):
        line = raw(
            local,
            f"POST /api/v1/{DATASETS}/CreateDataset HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n"
            "Authorization: Basic bG9jYWw6a2V5\r\nConnection: close\r\n\r\n{}",
        )
        assert line.split()[1][0] == "4", (extra, line)
    assert digest(local) == before
