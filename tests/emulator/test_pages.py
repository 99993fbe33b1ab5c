"""The pages for people, in a real browser and out of one."""

import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import requests

from harness.emulator import Server, faults
from tests.emulator.browser import Browser
from tests.emulator.support import Local, needs_chromium, scores

NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>&\"'"
LIVE = (
    "import sys, time\n"
    f"print({NASTY!r}, flush=True)\nprint('a complaint', file=sys.stderr, flush=True)\n"
    "for i in range(600): print(f'epoch {i} of it', flush=True); time.sleep(0.1)"
)


def get(local: Local, path: str) -> str:
    answer = local.session.get(f"{local.url}{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    return answer.text


def fill(local: Local, tmp_path: Path) -> None:
    """Something of everything."""
    local.make_dataset("my-data-set", {"a.txt": b"hello", "b <i>&.txt": b""}, title=f"{NASTY[:50]}")
    local.make_version("my-data-set", {"a.txt": b"hello again"})
    local.add_competition(tmp_path, title=NASTY, description=NASTY)
    local.submit(scores(lambda i: i % 2))
    local.submit("id,wrong\n1,2\n", user="another-team")
    local.run("finished-one", f"print({NASTY!r}); open('a<b>&.txt','w').write('x')",
              datasetDataSources=["local/my-data-set"])  # fmt: skip
    local.run("crashed-one", "raise ValueError('<b>no luck</b>')")


ADDRESSES = (
    "/", "/kernels/local/finished-one", "/kernels/local/crashed-one?v=1",
    "/datasets/local/my-data-set", "/datasets/local/my-data-set?v=1", "/competitions/my-comp",
)  # fmt: skip


class Strict(HTMLParser):
    """Collects the tags and attributes there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def test_every_page_escapes_what_others_wrote_and_needs_nothing_from_elsewhere(
    local: Local, tmp_path: Path
):
    fill(local, tmp_path)
    for address in ADDRESSES:
        page = Strict(get(local, address))
        assert not {"script", "img", "iframe", "form"} & set(page.tags), address
        names = {name for name, _ in page.attributes}
        assert not any(name.startswith("on") for name in names)
        links = [value for name, value in page.attributes if name in ("href", "src")]
        assert all(link.startswith(("/", "?", "data:,")) for link in links), address
    home = get(local, "/")
    for words in (
        "local/finished-one",
        "complete",
        "error",
        "my-comp",
        "local/my-data-set",
        "30.00 h",
    ):
        assert words in home
    assert "no luck" in get(local, "/kernels/local/crashed-one")
    board = get(local, "/competitions/my-comp")
    assert "1.00000" in board
    assert "missing columns: label" in board
    assert "another-team" in board


def test_what_is_linked_can_be_fetched(local: Local, tmp_path: Path):
    fill(local, tmp_path)
    seen, todo = set(), ["/"]
    while todo:
        address = todo.pop()
        answer = local.session.get(f"{local.url}{address}")
        assert answer.status_code == 200, (address, answer.text)
        seen.add(address)
        if answer.headers["Content-Type"].startswith("text/html"):
            here = address.partition("?")[0]
            for name, value in Strict(answer.text).attributes:
                if name == "href" and not value.startswith("data:"):
                    link = here + value if value.startswith("?") else value
                    todo += [] if link in seen else [link]
        else:
            assert answer.headers["Content-Type"] in (
                "application/octet-stream", "text/plain; charset=utf-8",
            )  # fmt: skip
    kinds = {address.split("/")[1] for address in seen}
    assert kinds == {"", "kernels", "datasets", "competitions", "files"}


def test_long_lists_are_cut_into_pages(local: Local):
    local.make_dataset("many-files", {f"f{i:03d}.txt": b"x" for i in range(0)})
    with local.state.write() as db:
        db.executemany(
            "INSERT INTO dataset_files VALUES (1, ?, 'x', 1, '')",
            [(f"f{i:03d}.txt",) for i in range(120)],
        )
    first = get(local, "/datasets/local/many-files")
    assert "f049.txt" in first
    assert "f050.txt" not in first
    assert "f119.txt" in get(local, "/datasets/local/many-files?v=1&files=3")
    assert "f119.txt" in get(local, "/datasets/local/many-files?v=1&files=99")


@pytest.mark.parametrize(
    "path",
    ["/kernels/local/none", "/kernels/local/none/log", "/kernels/x", "/kernels/a/b/c/d", "/datasets/a/b",
     "/competitions/none", "/competitions/%00", "/models/a/b", "/kernels/local/..%2f..%2fetc/log",
     "/datasets/local/%ff", "/datasets/local/x?v=99999999999999999999"],
)  # fmt: skip
def test_what_is_not_there_is_a_404(local: Local, path: str):
    assert 400 <= local.session.get(f"{local.url}{path}").status_code < 500


def test_pages_only_show(local: Local, tmp_path: Path):
    fill(local, tmp_path)
    for method in ("POST", "PUT", "DELETE"):
        for address in ADDRESSES:
            assert local.session.request(method, f"{local.url}{address}").status_code == 404
    assert local.session.head(f"{local.url}/").content == b""


def test_armed_faults_are_shown_and_do_not_hit_the_page(local: Local):
    faults.switch(local.state, "rate-limit", times=1)
    assert "error on */*" in get(local, "/")
    assert "error on */*" in get(local, "/")


def test_a_page_that_others_can_reach_wants_the_token(tmp_path: Path):
    with Server(tmp_path / "state", host="0.0.0.0") as server:
        url = f"http://127.0.0.1:{server.port}/"
        refused = requests.get(url)
        assert (refused.status_code, refused.headers["WWW-Authenticate"][:5]) == (401, "Basic")
        key = server.state.key_for({})
        assert requests.get(url, auth=("me", "guess")).status_code == 401
        assert requests.get(url, auth=("me", key)).status_code == 200


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@needs_chromium
def test_pages_fit_a_phone_and_a_desktop_in_both_schemes(
    local: Local, tmp_path: Path, browser: Browser
):
    fill(local, tmp_path)
    for width, phone, dark in ((1200, False, False), (360, True, True)):
        browser.size(width, 800, phone, dark)
        for address in ADDRESSES:
            browser.open(f"{local.url}{address}")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width, address
            assert browser.evaluate("document.title") != "owned"
            assert browser.complaints() == [], address
            asked = [url for url in browser.requested() if not url.startswith("data:")]
            assert asked == [f"{local.url}{address}"]
            ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(20, 24, 27)") is dark
            small = browser.evaluate(
                "Math.min(...[...document.querySelectorAll('td,dd,p')].map("
                "x => parseFloat(getComputedStyle(x).fontSize)))"
            )
            assert small >= 13
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


@needs_chromium
def test_a_running_kernels_log_grows_under_the_eyes_of_the_reader(local: Local, browser: Browser):
    local.push("running-one", LIVE)
    browser.size(390, 844, phone=True)

    def epochs() -> int:
        return browser.text().count(" of it")

    deadline = time.monotonic() + 30
    while epochs_seen(browser, local) == 0 or "a complaint" not in browser.text():
        assert time.monotonic() < deadline
    first = epochs()
    assert NASTY in browser.text()  # as text, not as markup
    browser.wait_for("Page.loadEventFired")  # the page comes again by itself
    assert epochs() > first
    end = "(x => x.scrollTop >= -1)(document.querySelector('pre.log'))"
    assert browser.evaluate(end)  # the newest line is in view
    session = local.state.sessions()[0]
    local.state.cancel(session["id"])
    local.state.wait(session["id"])
    browser.open(f"{local.url}/kernels/local/running-one")
    assert "cancel acknowledged" in browser.text()
    assert "http-equiv" not in browser.evaluate("document.head.innerHTML")


def epochs_seen(browser: Browser, local: Local) -> int:
    browser.open(f"{local.url}/kernels/local/running-one")
    return browser.text().count(" of it")
