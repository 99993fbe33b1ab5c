"""How the local Kaggle holds: many clients, large files, many files, many runs, sudden death, nonsense.

    python benchmarks/local_kaggle.py all                 everything, at full size
    python benchmarks/local_kaggle.py kill --rounds 20    one part
    python benchmarks/local_kaggle.py all --small         seconds instead of minutes

The server is a process of its own; clients talk to it over HTTP only. Each part prints one JSON
record; the exit code is 1 if a request failed, an acknowledged object was lost, or the server wrote a
traceback.
"""

import argparse
import base64
import concurrent.futures
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.emulator import CompetitionSpec, State  # noqa: E402 (after the path)
from harness.emulator.routes import all_routes  # noqa: E402

DATASETS = "datasets.DatasetApiService"
KERNELS = "kernels.KernelsApiService"
COMPETITIONS = "competitions.CompetitionApiService"
MODELS = "models.ModelApiService"
SERVE = """
import logging, sys, time
from pathlib import Path
from harness.emulator import Server
logging.basicConfig(level=logging.ERROR)
with Server(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    time.sleep(3600)
"""


class Served:
    """A server process on a state folder, its memory and its complaints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.parent / "server.log"
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> "Served":
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(self.folder)],
                stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def memory_mb(self, what: str = "VmHWM") -> float:
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(rf"{what}:\s+(\d+) kB", text)
        return int(match[1]) / 1024 if match else 0.0

    def tracebacks(self) -> int:
        return self.log.read_text(errors="replace").count("Traceback")


class Client:
    """One client with a connection of its own; counts and times what it asks."""

    def __init__(self, url: str, user: str = "local") -> None:
        self.url, self.user = url, user
        self.session = requests.Session()
        self.session.trust_env = False
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def request(self, method: str, url: str, **more: Any) -> requests.Response:
        begin = time.perf_counter()
        answer = self.session.request(method, url, timeout=300, **more)
        self.seconds.append(time.perf_counter() - begin)
        return answer

    def call(self, method: str, **fields: Any) -> Any:
        answer = self.request(
            "POST", f"{self.url}/api/v1/{method}", json=fields, auth=(self.user, "key"),
            allow_redirects=False,
        )  # fmt: skip
        if answer.status_code == 302:
            return answer.headers["Location"]
        if answer.status_code >= 400:
            raise RuntimeError(f"{method}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def upload(self, name: str, content: bytes) -> str:
        ticket = self.call(
            "blobs.BlobApiService/StartBlobUpload", type="DATASET", name=name,
            contentLength=len(content),
        )  # fmt: skip
        answer = self.request("PUT", ticket["createUrl"], data=content)
        if answer.status_code != 200:
            raise RuntimeError(f"PUT: {answer.status_code}")
        return ticket["token"]

    def create(self, slug: str, tokens: list[str]) -> None:
        answer = self.call(
            f"{DATASETS}/CreateDataset", ownerSlug=self.user, slug=slug,
            title=slug.replace("-", " ").title(), licenseName="CC0-1.0", isPrivate=True,
            files=[{"token": token} for token in tokens],
        )  # fmt: skip
        if answer["status"] != "ok":
            raise RuntimeError(answer["error"])

    def push(self, slug: str, text: str) -> int:
        answer = self.call(
            f"{KERNELS}/SaveKernel", slug=f"{self.user}/{slug}", text=text, language="python",
            newTitle=slug.replace("-", " ").title(), kernelType="script", enableInternet=False,
        )  # fmt: skip
        if answer.get("error"):
            raise RuntimeError(answer["error"])
        return int(answer["versionNumber"])

    def fetch(self, slug: str, name: str) -> bytes:
        place = self.call(
            f"{DATASETS}/DownloadDataset", ownerSlug=self.user, datasetSlug=slug, fileName=name
        )
        return self.request("GET", place).content


def summary(clients: list[Client], began: float) -> dict[str, Any]:
    seconds = sorted(value for client in clients for value in client.seconds)
    took = time.perf_counter() - began
    failures = [text for client in clients for text in client.failures]
    return {
        "requests": len(seconds),
        "failures": len(failures),
        "first_failure": failures[0] if failures else None,
        "seconds": round(took, 1),
        "requests_per_s": round(len(seconds) / took, 1),
        "median_ms": round(1000 * seconds[len(seconds) // 2], 1),
        "p99_ms": round(1000 * seconds[int(len(seconds) * 0.99)], 1),
        "slowest_ms": round(1000 * seconds[-1], 1),
    }


def at_once(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_state(folder: Path, **options: Any) -> State:
    state = State(folder)
    state.configure(dataset_delay_s=0.0, cpu_sessions=10**6, **options)
    return state


# -- the parts ------------------------------------------------------------------------------


def clients(folder: Path, count: int = 100, rounds: int = 5) -> dict[str, Any]:
    """Many clients at once: upload, create, list, download, push, look."""
    state = in_state(folder, kernel_polls=1)
    served = Served(folder).start()
    everyone = [Client(served.url, f"user{number:03d}") for number in range(count)]
    lost = Counter[str]()
    began = time.perf_counter()

    def work(number: int) -> None:
        me = everyone[number]
        for step in range(rounds):
            slug, body = f"data-{number:03d}-{step}", os.urandom(20_000)
            try:
                me.create(slug, [me.upload("a.bin", body)])
                me.call(f"{DATASETS}/GetDatasetStatus", ownerSlug=me.user, datasetSlug=slug)
                listed = me.call(
                    f"{DATASETS}/ListDatasetFiles", ownerSlug=me.user, datasetSlug=slug
                )
                if [file["name"] for file in listed["datasetFiles"]] != ["a.bin"]:
                    lost["listing"] += 1
                if me.fetch(slug, "a.bin") != body:
                    lost["bytes"] += 1
                me.push(f"kernel-{number:03d}", f"print({step})")
                me.call(
                    f"{KERNELS}/GetKernelSessionStatus", userName=me.user,
                    kernelSlug=f"kernel-{number:03d}",
                )  # fmt: skip
                me.call(f"{KERNELS}/ListKernels", group="PROFILE")
            except (RuntimeError, requests.RequestException) as problem:
                me.failures.append(str(problem))

    at_once(count, work)
    result = summary(everyone, began)
    made = len(state.datasets())
    state.close()
    memory = served.memory_mb()
    served.kill()
    return {
        "clients": count, **result, "datasets": made,
        "lost": sum(lost.values()) + count * rounds - made,
        "server_peak_mb": round(memory), "tracebacks": served.tracebacks(),
    }  # fmt: skip


def large(folder: Path, gigabytes: float = 2.0) -> dict[str, Any]:
    """One large upload and its download; the server's memory must not follow its size."""
    in_state(folder).close()
    served = Served(folder).start()
    me = Client(served.url)
    me.create("small-first", [me.upload("a.bin", b"x" * 100_000)])
    before = served.memory_mb()
    size = int(gigabytes * 1e9)
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()

    def body() -> Iterator[bytes]:
        left, number = size, 0
        while left > 0:
            part = (number.to_bytes(8, "big") + block[8:])[:left]
            digest.update(part)
            left, number = left - len(part), number + 1
            yield part

    began = time.perf_counter()
    ticket = me.call(
        "blobs.BlobApiService/StartBlobUpload", type="DATASET", name="big.bin", contentLength=size
    )
    # A generator without a length would be sent chunked; the official client sends a length.
    prepared = requests.Request("PUT", ticket["createUrl"], data=body()).prepare()
    prepared.headers.pop("Transfer-Encoding", None)
    prepared.headers["Content-Length"] = str(size)
    answer = me.session.send(prepared, timeout=3600)
    sent = time.perf_counter() - began
    me.create("large-set", [ticket["token"]])
    place = me.call(
        f"{DATASETS}/DownloadDataset",
        ownerSlug="local",
        datasetSlug="large-set",
        fileName="big.bin",
    )
    began = time.perf_counter()
    back = hashlib.sha256()
    with me.session.get(place, stream=True, timeout=3600) as stream:
        for chunk in stream.iter_content(1 << 20):
            back.update(chunk)
    got = time.perf_counter() - began
    after = served.memory_mb()
    served.kill()
    same = back.hexdigest() == digest.hexdigest()
    return {
        "bytes": size, "failures": int(answer.status_code != 200), "lost": int(not same),
        "upload_s": round(sent, 1), "download_s": round(got, 1), "memory_before_mb": round(before),
        "server_peak_mb": round(after), "grew_mb": round(after - before, 1),
        "tracebacks": served.tracebacks(),
    }  # fmt: skip


def files(folder: Path, count: int = 10_000, workers: int = 8) -> dict[str, Any]:
    """Many files in one dataset, each uploaded by itself; listed, fetched, and fetched as a zip."""
    in_state(folder).close()
    served = Served(folder).start()
    everyone = [Client(served.url) for _ in range(workers)]
    tokens = [""] * count
    began = time.perf_counter()

    def work(number: int) -> None:
        me = everyone[number]
        for index in range(number, count, workers):
            try:
                tokens[index] = me.upload(f"f{index:05d}.txt", f"file {index}".encode())
            except (RuntimeError, requests.RequestException) as problem:
                me.failures.append(str(problem))

    at_once(workers, work)
    uploaded = time.perf_counter() - began
    me = everyone[0]
    mark = time.perf_counter()
    me.create("many-files", tokens)
    created = time.perf_counter() - mark
    mark = time.perf_counter()
    names: list[str] = []
    token = ""
    while True:
        page = me.call(
            f"{DATASETS}/ListDatasetFiles", ownerSlug="local", datasetSlug="many-files",
            pageSize=200, pageToken=token,
        )  # fmt: skip
        names += [file["name"] for file in page["datasetFiles"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    listed = time.perf_counter() - mark
    mark = time.perf_counter()
    place = me.call(f"{DATASETS}/DownloadDataset", ownerSlug="local", datasetSlug="many-files")
    archive = zipfile.ZipFile(io.BytesIO(me.request("GET", place).content))
    whole = {name: archive.read(name) for name in archive.namelist()}
    zipped = time.perf_counter() - mark
    wanted = {f"f{index:05d}.txt": f"file {index}".encode() for index in range(count)}
    sample = random.Random(0).sample(sorted(wanted), 50)
    mark = time.perf_counter()
    single = sum(me.fetch("many-files", name) != wanted[name] for name in sample)
    one = (time.perf_counter() - mark) / len(sample)
    lost = len(set(wanted.items()) - set(whole.items())) + len(set(wanted) - set(names)) + single
    result = summary(everyone, began)
    memory = served.memory_mb()
    served.kill()
    return {
        "files": count, **result, "lost": lost, "upload_s": round(uploaded, 1),
        "create_s": round(created, 2), "list_s": round(listed, 2), "zip_s": round(zipped, 2),
        "one_file_ms": round(1000 * one, 1), "server_peak_mb": round(memory),
        "tracebacks": served.tracebacks(),
    }  # fmt: skip


def runs(folder: Path, count: int = 1000, real: int = 100) -> dict[str, Any]:
    """Many runs, played by polls; then real ones in the sandbox, each leaving its own file."""
    state = in_state(folder, kernel_polls=1)
    served = Served(folder).start()
    everyone = [Client(served.url) for _ in range(8)]
    began = time.perf_counter()
    unfinished = Counter[str]()

    def work(number: int) -> None:
        me = everyone[number]
        for index in range(number, count, len(everyone)):
            slug = f"kernel-{index % 50:02d}"
            try:
                version = me.push(f"{slug}-{number}", f"print({index})")
                status = ""
                for _ in range(5):
                    status = me.call(
                        f"{KERNELS}/GetKernelSessionStatus", userName="local",
                        kernelSlug=f"{slug}-{number}", versionLabel=f"v{version}",
                    ).get("status", "QUEUED")  # fmt: skip
                    if status == "COMPLETE":
                        break
                unfinished[status] += 1
            except (RuntimeError, requests.RequestException) as problem:
                me.failures.append(str(problem))

    at_once(len(everyone), work)
    result = summary(everyone, began)
    listed = len(state.sessions())
    state.configure(kernel_polls=-1, max_running=4)
    me = everyone[0]
    mark = time.perf_counter()
    for index in range(real):
        me.push(f"real-{index % 10}", f"open('n.txt', 'w').write('{index}')")
    sessions = [row["id"] for row in state.sessions() if row["slug"].startswith("real-")]
    wrong = 0
    for index, session in enumerate(sessions):
        ended = state.wait(session, 600)
        made = ended["folder"] / "working" / "n.txt"
        wrong += ended["status"] != "COMPLETE" or made.read_text() != str(index)
    took = time.perf_counter() - mark
    memory = served.memory_mb()
    state.close()
    served.kill()
    return {
        "runs": count, **result, "lost": count - unfinished["COMPLETE"] + count - listed + wrong,
        "real_runs": real, "real_s": round(took, 1), "server_peak_mb": round(memory),
        "tracebacks": served.tracebacks(),
    }  # fmt: skip


def kill(folder: Path, rounds: int = 20, workers: int = 8) -> dict[str, Any]:
    """SIGKILL at random moments under load; then everything acknowledged must be there, whole."""
    data = folder.parent / "data"
    data.mkdir()
    (data / "sample_submission.csv").write_text("id,label\n")
    answers = folder.parent / "answers.csv"
    answers.write_text("id,label\n" + "".join(f"r{i},{i % 2}\n" for i in range(20)))
    state = in_state(folder, kernel_polls=1)
    spec = CompetitionSpec("kill-comp", "Kill", "id", ("label",), max_daily_submissions=10**9)
    state.add_competition(spec, data, answers)
    state.close()
    generator = random.Random(1)
    sets: dict[str, bytes] = {}
    kernels: dict[str, int] = {}
    sent: dict[int, str] = {}
    requests_made = 0
    torn = 0
    csv = answers.read_text().encode()
    began = time.perf_counter()

    def submit(me: Client, note: str) -> None:
        ticket = me.call(
            f"{COMPETITIONS}/StartSubmissionUpload", competitionName="kill-comp",
            contentLength=len(csv), fileName="s.csv",
        )  # fmt: skip
        me.request("PUT", ticket["createUrl"], data=csv)
        answer = me.call(
            f"{COMPETITIONS}/CreateSubmission", competitionName="kill-comp",
            blobFileTokens=ticket["token"], submissionDescription=note,
        )  # fmt: skip
        sent[answer["ref"]] = note

    for turn in range(rounds):
        served = Served(folder).start()
        stop = threading.Event()
        everyone = [Client(served.url) for _ in range(workers)]

        # The first score of a server waits for pandas; that wait is not what is measured here.
        submit(everyone[0], f"{turn} first")

        def work(number: int, turn: int, everyone: list[Client], stop: threading.Event) -> None:
            me, step = everyone[number], 0
            while not stop.is_set():
                step += 1
                slug, body = f"set-{turn}-{number}-{step}", os.urandom(5000)
                try:
                    me.create(slug, [me.upload("a.bin", body)])
                    sets[slug] = body
                    name = f"kernel-{turn}-{number}"
                    kernels[name] = me.push(name, f"print({step})")
                    if step % 3 == 0:
                        note = f"{turn} {number} {step}"
                        submit(me, note)
                except (RuntimeError, requests.RequestException):
                    if stop.is_set():
                        return

        threads = [
            threading.Thread(target=work, args=(number, turn, everyone, stop))
            for number in range(workers)
        ]
        for thread in threads:
            thread.start()
        time.sleep(generator.uniform(0.1, 1.5))
        stop.set()
        served.kill()
        for thread in threads:
            thread.join()
        requests_made += sum(len(client.seconds) for client in everyone)
    served = Served(folder).start()
    me = Client(served.url)
    lost = _missing(me, sets, kernels)
    state = State(folder)
    rows = {row["ref"]: row for row in state.submissions("kill-comp")}
    lost += sum(rows.get(ref, {}).get("description") != note for ref, note in sent.items())
    unscored = sum(row["public"] != 1.0 for row in rows.values())
    # What was never acknowledged may be there or not, but never a half of it.
    with state.read() as db:
        for row in db.execute("SELECT sha256, size FROM dataset_files"):
            path = folder / "blobs" / row["sha256"][:2] / row["sha256"]
            whole = path.is_file() and path.stat().st_size == row["size"]
            torn += not (whole and hashlib.sha256(path.read_bytes()).hexdigest() == row["sha256"])
        intact = db.execute("PRAGMA integrity_check").fetchone()[0]
    state.close()
    served.kill()
    return {
        "kills": rounds, "requests": requests_made, "acknowledged_datasets": len(sets),
        "acknowledged_kernels": sum(kernels.values()), "acknowledged_submissions": len(sent),
        "lost": lost, "torn": torn, "unscored": unscored, "database": intact,
        "failures": int(intact != "ok") + unscored + torn, "tracebacks": served.tracebacks(),
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def _missing(me: Client, sets: dict[str, bytes], kernels: dict[str, int]) -> int:
    """Count acknowledged datasets and kernel versions that are not there, or not the same."""
    lost = 0
    for slug, body in sets.items():
        try:
            lost += me.fetch(slug, "a.bin") != body
        except RuntimeError:
            lost += 1
    for slug, number in kernels.items():
        try:
            found = me.call(f"{KERNELS}/GetKernel", userName="local", kernelSlug=slug)
            lost += found["metadata"]["currentVersionNumber"] < number
        except RuntimeError:
            lost += 1
    return lost


# -- nonsense -------------------------------------------------------------------------------

_NASTY = (
    "", "..", "../../etc/passwd", "/etc/passwd", "a/../../b", "%2e%2e%2f", "\x00", "a\x00b", "\ud800",
    "\ufffe", "\u202eevil", "e\u0301" * 40, "A" * 70_000, "local/../x", "local/kernel-one", "local", "v1",
    "v99999999999999999999", "my-set", "kernel-one", "fuzz-comp", "SAVE_AND_RUN_ALL", "DATASET",
    "fuzz-model", "base", "MODEL_FRAMEWORK_PY_TORCH",
    "C:\\windows", "con", "a.txt", "🙂" * 100, "'; DROP TABLE datasets; --", "{{7*7}}", "<script>",
)  # fmt: skip


# What a field is meant to hold, so that requests also get past the first check.
_LIKELY: dict[str, tuple[Any, ...]] = {
    "ownerSlug": ("local",), "userName": ("local",), "datasetSlug": ("my-set",),
    "kernelSlug": ("kernel-one",), "modelSlug": ("fuzz-model",), "instanceSlug": ("base",),
    "framework": ("MODEL_FRAMEWORK_PY_TORCH",), "competitionName": ("fuzz-comp",),
    "versionNumber": (1, 2, 0, -1), "versionLabel": ("v1", "v2", "1"), "kernelVersion": (1, 2, -1),
    "pageSize": (1, 200, 10**6, -1), "pageToken": ("", "1", "x"), "kernelSessionId": (1, 2, -1),
    "slug": ("local/kernel-one", "new-set-here", "local/new-kernel-here"), "language": ("python",),
    "kernelType": ("script", "notebook"), "newTitle": ("Kernel One",), "title": ("New Set Here",),
    "licenseName": ("CC0-1.0",), "type": ("DATASET", "MODEL"), "contentLength": (0, 5, -1),
}  # fmt: skip


def _value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(12)
    if kind < 5:
        return chance.choice(_NASTY)
    if kind == 5:
        return chance.choice([0, -1, 1, 2**31, 2**63, -(2**70), 10**30])
    if kind == 6:
        return chance.choice([True, False, None, 0.5, -1e308])
    if kind == 7:
        return "".join(chance.choices(string.printable, k=chance.randrange(30)))
    if kind < 10 and depth < 3:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if depth < 3:
        keys = (
            "token",
            "name",
            "files",
            "directories",
            "body",
            "settings",
            "paths",
            "licenses",
            "x",
        )
        return {chance.choice(keys): _value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return chance.choice(_NASTY)


def _api_request(chance: random.Random) -> bytes:
    """A request for a real method whose fields hold anything."""
    method = chance.choice([name for name in sorted(all_routes()) if "/Delete" not in name])
    if chance.random() < 0.002:
        method = chance.choice([name for name in sorted(all_routes()) if "/Delete" in name])
    fields = [field.json_name for field in all_routes()[method].message._fields] or ["x"]
    body: Any = {name: _value(chance) for name in chance.sample(fields, min(len(fields), 6))}
    for name in fields:
        if name in _LIKELY and chance.random() < 0.7:
            body[name] = chance.choice(_LIKELY[name])
    text = json.dumps(body if chance.random() < 0.95 else _value(chance)).encode()
    if chance.random() < 0.05:
        text = text[: chance.randrange(len(text) + 1)]
    head = f"POST /api/v1/{method} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic "
    head += base64.b64encode(b"local:key").decode()
    return f"{head}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


def _raw_request(chance: random.Random) -> bytes:
    """A request whose own form may be wrong."""
    verbs = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "BREW", "get")
    paths = (
        "/", "/kernels/local/kernel-one", "/datasets/local/my-set?v=1", "/competitions/fuzz-comp",
        "/files/x/dataset/1/a.txt", "/files/x/../../state.sqlite", "/files/%00/kernel/1/%2e%2e/job.json",
        "/upload/none", "/upload/../x", "/__emu__", "/__emu__/faults", "//etc/passwd", "/%ff%fe", "*",
        "http://localhost/api/v1/x", "http://evil.example/", "/api/v1/", "/api/v1/../../x",
        "/api/v1/kernels/logs/stream/local/..", "/kernels/local/kernel-one/log?v=-1",
        "/?kernels=99999999999999999999", "/" + "a" * chance.choice([10, 5000, 70_000]),
    )  # fmt: skip
    heads = (
        "Host: localhost", "Host: evil.example", "Host: [", "Host: localhost:99999999", "Host:",
        "Content-Length: -1", "Content-Length: abc", "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Range: bytes x",
        "Content-Range: bytes 5-1/2", "Range: bytes=9999999-", "Range: bytes=-", "If-Range: x",
        "Authorization: Basic ####", "Authorization: Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Authorization: Bearer", "Expect: 100-continue", "X: " + "y" * chance.choice([10, 70_000]),
        "Connection: close", ": nothing", "no colon", "X\x00: y",
    )  # fmt: skip
    lines = [f"{chance.choice(verbs)} {chance.choice(paths)} {chance.choice(['HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/9.9', ''])}"]  # fmt: skip
    if chance.random() < 0.8:
        lines.append("Host: localhost")
    lines += chance.sample(heads, chance.randrange(4))
    if chance.random() < 0.05:
        lines += [f"X-{number}: y" for number in range(300)]
    body = chance.choice([b"", b"{}", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", os.urandom(50)])
    text = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body
    return text if chance.random() < 0.95 else text[: chance.randrange(len(text))]


def _send(port: int, payload: bytes) -> int:
    """Send bytes, give the status of the answer, 0 for none."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(payload)
            connection.shutdown(socket.SHUT_WR)
            line = connection.makefile("rb").readline(200)
        except OSError:
            return 0
    match = re.match(rb"HTTP/\d\.\d (\d+)", line)
    return int(match[1]) if match else 0


def fuzz(folder: Path, count: int = 20_000, workers: int = 4) -> dict[str, Any]:
    """Requests that make no sense: no 5xx (but 501 to CONNECT and unknown verbs), no traceback."""
    data = folder.parent / "fuzz-data"
    data.mkdir()
    (data / "sample_submission.csv").write_text("id,label\n")
    state = in_state(folder, kernel_polls=1)
    state.add_competition(CompetitionSpec("fuzz-comp", "Fuzz", "id", ("label",)), data)
    served = Served(folder).start()
    me = Client(served.url)
    me.create("my-set", [me.upload("a.txt", b"hello")])
    me.push("kernel-one", "print(1)")
    me.call(f"{MODELS}/CreateModel", ownerSlug="local", slug="fuzz-model", title="Fuzz")
    ticket = me.call(
        "blobs.BlobApiService/StartBlobUpload", type="MODEL", name="w", contentLength=0
    )
    me.request("PUT", ticket["createUrl"])
    me.call(
        f"{MODELS}/CreateModelInstance", ownerSlug="local", modelSlug="fuzz-model",
        body={"instanceSlug": "base", "framework": "MODEL_FRAMEWORK_PY_TORCH",
              "files": [{"token": ticket["token"]}]},
    )  # fmt: skip
    port = int(served.url.rpartition(":")[2])
    began = time.perf_counter()
    bad: list[bytes] = []

    def work(seed: int) -> Counter[int]:
        chance, seen = random.Random(seed), Counter[int]()
        for _ in range(count // workers):
            payload = (_api_request if chance.random() < 0.6 else _raw_request)(chance)
            status = _send(port, payload)
            seen[status] += 1
            if status >= 500 and status not in (501, 505):
                bad.append(payload[:300])
        return seen

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        seen = sum(pool.map(work, range(workers)), Counter[int]())
    took = time.perf_counter() - began
    before = _digest(state)
    unauthorised = Counter[int]()
    chance = random.Random(99)
    for _ in range(count // 20):
        payload = _api_request(chance).replace(b"Authorization: Basic ", b"Authorization: Basic #")
        # The check of a token is the one method that needs none.
        if b"IntrospectToken" not in payload:
            unauthorised[_send(port, payload)] += 1
    changed = _digest(state) != before
    me.create("last-set", [me.upload("a.txt", b"hello")])
    alive = me.fetch("last-set", "a.txt") == b"hello"
    state.close()
    memory = served.memory_mb()
    served.kill()
    if bad:
        print(*bad[:5], sep="\n", file=sys.stderr)
    return {
        "requests": sum(seen.values()), "seconds": round(took, 1), "statuses": dict(sorted(seen.items())),
        "failures": len(bad) + (not alive) + changed, "without_account": dict(unauthorised),
        "changed_without_account": changed, "server_peak_mb": round(memory),
        "tracebacks": served.tracebacks(), "lost": int(not alive),
    }  # fmt: skip


def _digest(state: State) -> str:
    """Everything the database holds, as one hash."""
    with state.read() as db:
        return hashlib.sha256("\n".join(db.iterdump()).encode("utf-8", "replace")).hexdigest()


PARTS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
    "clients": (clients, {"count": 20, "rounds": 2}),
    "large": (large, {"gigabytes": 0.05}),
    "files": (files, {"count": 500}),
    "runs": (runs, {"count": 100, "real": 5}),
    "kill": (kill, {"rounds": 2}),
    "fuzz": (fuzz, {"count": 2000}),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--rounds", type=int, help="of kill, or of clients")
    parser.add_argument("--count", type=int, help="of clients, files, runs or nonsense requests")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--keep-log", type=Path, help="where to copy what the server complained of")
    options = parser.parse_args()
    chosen = {key: value for key in ("rounds", "count") if (value := getattr(options, key))}
    good = True
    for name in PARTS if options.part == "all" else [options.part]:
        part, small = PARTS[name]
        known = part.__code__.co_varnames[: part.__code__.co_argcount]
        values = {**(small if options.small else {}), **chosen}
        folder = Path(tempfile.mkdtemp(prefix="local-kaggle-", dir=options.folder))
        try:
            record = part(
                folder / "state", **{key: value for key, value in values.items() if key in known}
            )
        finally:
            if (folder / "server.log").exists() and options.keep_log:
                shutil.copy(folder / "server.log", options.keep_log)
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps({"part": name, **record}), flush=True)
        good &= not (record["failures"] or record["lost"] or record["tracebacks"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
