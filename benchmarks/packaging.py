"""What packaging costs beside the naive ways: hashing, archives, and bytes and seconds through a local Kaggle.

    python -m benchmarks.packaging [--quick]

The local Kaggle is a server in this process that is spoken to over HTTP. The naive publisher sends every
file of a dataset again with each version, as the official client does; the naive archive is its zip.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import requests

from benchmarks.local_kaggle import DATASETS, Client
from benchmarks.racing import (
    ROOT,
    Line,
    Options,
    Same,
    equal,
    line_of,
    race,
    run_benchmark,
    timed,
)
from harness.emulator import State, connect
from harness.hashing import FINE_MARGIN_NS, look
from harness.ledger import Ledger
from harness.package import Packer, build_dataset
from harness.publishing import plan_uploads, publish_build
from harness.records import DatasetBuild
from harness.remote import Credentials, KaggleRemote

FILES = 4099  # as many films as the competition of the write-ups has
MANY_FILES = 10_000
FILE_BYTES = 8000
WEIGHTS_BYTES = 18_800_000  # as tf_efficientnet_lite0's
CHECKPOINT_BYTES = 200_000_000
BIG_CHECKPOINT_BYTES = 500_000_000


def write_random(path: Path, size: int) -> None:
    """Bytes that no compression shortens, as weights are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = os.urandom(1 << 20)
    with path.open("wb") as out:
        while size > 0:
            out.write(block[: min(size, len(block))])
            size -= len(block)
            block = hashlib.sha256(block[:64]).digest() + block[32:]


def write_films(folder: Path, count: int) -> None:
    """Small files in twenty folders."""
    for number in range(count):
        path = folder / f"part{number % 20}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(FILE_BYTES))


def grow_old() -> None:
    """Until an index believes what was written: young files are not believed."""
    time.sleep(4 * FINE_MARGIN_NS / 1e9)


def file_sha256(path: str | Path) -> str:
    """SHA-256 at its fastest."""
    with open(path, "rb") as handle:  # noqa: PTH123 (the naive way is not to wait for pathlib)
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_everything(folder: Path) -> dict[str, str]:
    """The naive way: every file's SHA-256, each time."""
    return {
        f"{place}/{name}": file_sha256(f"{place}/{name}")
        for place, _, names in os.walk(folder)
        for name in names
    }


def walk_everything(folder: Path) -> None:
    """A look at every file's entry: less cannot tell that nothing changed."""
    for place, _, _ in os.walk(folder):
        with os.scandir(place) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    with TemporaryDirectory(prefix="packaging-") as name:
        scratch = Path(name)
        yield from hashing(options, scratch / "hashing")
        yield from archive(options, scratch / "archive")
        yield from publishing(options, scratch / "publishing")


def same_digests(tree: Path, index: Path, nothing_read: bool = True) -> Same:
    """What the index says is what reading everything says, and it has read nothing for it."""
    seen, everything = look(tree, index), look(tree)
    peer = sorted(hash_everything(tree).values())
    return equal(
        seen.digest == everything.digest
        and sorted(file.sha256 for file in seen.files) == peer
        and (seen.read == 0 or not nothing_read),
        "digests differ, or files are read:",
    )


def hashing(options: Options, scratch: Path) -> Iterator[Line]:
    """h1: first look, nothing changed, one file changed; how it grows."""
    count, many = options.pick((FILES, MANY_FILES), (1000, 2440), (40, 80))
    tree, index = scratch / "tree", scratch / "index.json"
    write_films(tree, count)
    grow_old()
    rounds = options.pick(7, 5, 1)
    yield race(
        f"first look at {count:,} files, index written",
        lambda: look(tree, index, rehash=True),
        lambda: hash_everything(tree),
        same=lambda *_: same_digests(tree, index, nothing_read=False),
        peer_name="SHA-256 of every file",
        target=None,
        note="ours sorts and writes its index too",
        rounds=rounds,
        floor=lambda: walk_everything(tree),
    )
    yield nothing_changed(f"{count:,} files", tree, index, 3.0, rounds)
    grown, grown_index = scratch / "grown", scratch / "grown.json"
    write_films(grown, many)
    grow_old()
    look(grown, grown_index)
    same = same_digests(grown, grown_index)
    pairs = []
    for _ in range(rounds):
        few = timed(lambda: look(tree, index)) / count
        pairs.append((timed(lambda: look(grown, grown_index)) / many, few))
    yield line_of(
        f"h1 nothing changed, one of {many:,} files",
        pairs,
        same=same,
        peer_name=f"one of {count:,} files",
        target=0.7,
        note="linear growth is 1",
    )
    size = options.pick(CHECKPOINT_BYTES, CHECKPOINT_BYTES // 4, 1_000_000)
    write_random(tree / "checkpoint.bin", size)
    grow_old()
    what = f"{count:,} files and a {size / 1e6:.0f} MB checkpoint"
    yield nothing_changed(what, tree, index, 8.0, rounds)


def nothing_changed(what: str, tree: Path, index: Path, target: float, rounds: int) -> Line:
    """A look at a tree whose index is up to date."""
    look(tree, index)
    return race(
        f"h1 nothing changed, {what}",
        lambda: look(tree, index),
        lambda: hash_everything(tree),
        same=lambda *_: same_digests(tree, index),
        peer_name="SHA-256 of every file",
        target=target,
        rounds=rounds,
        floor=lambda: walk_everything(tree),
    )


def archive(options: Options, scratch: Path) -> Iterator[Line]:
    """h2: a checkpoint made ready to send."""
    folder = scratch / "checkpoints-bench"
    size = options.pick(CHECKPOINT_BYTES, CHECKPOINT_BYTES // 2, 1_000_000)
    path = folder / "checkpoints" / "model.bin"
    write_random(path, size)

    def ours() -> DatasetBuild:
        """Read and hash everything, as for a first publish, and plan what is sent."""
        build = build_dataset(
            folder, "checkpoints-bench", "Checkpoints", "other", "Bench.", rehash=True
        )
        with TemporaryDirectory(dir=scratch) as place:
            plan_uploads(build, Path(place))
        return build

    def peer() -> None:
        """What the official client does with a folder: zip it beside the others."""
        with TemporaryDirectory(dir=scratch) as place:
            shutil.make_archive(f"{place}/checkpoints", "zip", folder / "checkpoints")

    yield race(
        f"h2 a {size / 1e6:.0f} MB checkpoint made ready to send",
        ours,
        peer,
        same=lambda build, _: equal(file_sha256(path) in {file.sha256 for file in build.files}),
        peer_name="the official client's zip of a folder",
        target=10.0,
        rounds=options.pick(3, 2, 1),
        floor=lambda: file_sha256(path),
    )


@dataclass(frozen=True)
class Cost:
    """What one publish sent, of how much, what it read, and how long it took."""

    sent: int
    whole: int
    read: int
    seconds: float


class Publisher:
    """A workspace on a local Kaggle; notes what every publish sent and took."""

    def __init__(self, scratch: Path, remote: KaggleRemote, ledger: Ledger) -> None:
        self.remote, self.ledger = remote, ledger
        self.workspace = scratch / "workspace"
        shutil.copytree(
            ROOT / "kernels",
            self.workspace / "kernels",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.packer = Packer(self.workspace, self.workspace / "datasets", scratch / "indexes")

    def publish(self, *makers: Callable[[], DatasetBuild]) -> Cost:
        """Build and publish."""
        done: list[tuple[DatasetBuild, int]] = []

        def run() -> None:
            for make in makers:
                build = make()
                published = publish_build(
                    build, self.remote, self.ledger, self.remote.owner, lambda _: None
                )
                done.append((build, published.sent))

        seconds = timed(run)
        return Cost(
            sum(sent for _, sent in done),
            sum(build.size for build, _ in done),
            sum(build.read for build, _ in done),
            seconds,
        )


def publishing(options: Options, scratch: Path) -> Iterator[Line]:
    """First publish, nothing changed, one changed source file; then a large file both ways."""
    state = State(scratch / "kaggle")
    state.configure(dataset_delay_s=0.0)
    ledger = Ledger(scratch / "ledger.sqlite3")
    with connect(scratch / "kaggle") as endpoint:
        remote = KaggleRemote(
            "local", Credentials(endpoint.username, key=endpoint.key), endpoint.url
        )
        try:
            bench = Publisher(scratch, remote, ledger)
            yield from versions(options, bench)
            client = Client(endpoint.url, endpoint.username)
            yield from transfers(options, bench, client, scratch)
        finally:
            remote.close()
            ledger.close()
            state.close()


def versions(options: Options, bench: Publisher) -> Iterator[Line]:
    """What later versions cost beside the first, which sends everything."""
    weights = bench.packer.datasets_folder / "weights-bench-lite0" / "lite0.safetensors"
    write_random(weights, options.pick(WEIGHTS_BYTES, WEIGHTS_BYTES, 500_000))
    everyday = (bench.packer.code, lambda: bench.packer.folder("weights-bench-lite0"))
    first = bench.publish(*everyday)
    grow_old()
    bench.publish(*everyday)  # by now the files are old enough to be believed
    still = [bench.publish(*everyday) for _ in range(options.rounds)]
    untouched = equal(not any(cost.sent or cost.read for cost in still), "sent or read something:")
    yield line_of(
        f"publish code and weights ({first.whole / 1e6:.0f} MB), nothing changed",
        [(cost.seconds, first.seconds) for cost in still],
        same=untouched,
        peer_name="sending everything (our first publish, once)",
        target=3.0,
        note="sends and reads nothing",
    )
    changes = []
    module = bench.workspace / "kernels" / "config.py"
    for number in range(options.rounds):
        module.write_text(module.read_text("utf-8") + f"\n# line {number}\n", encoding="utf-8")
        changes.append(bench.publish(*everyday))
    yield line_of(
        "bytes that one changed source file sends",
        [(cost.sent / 1e6, cost.whole / 1e6) for cost in changes],
        same=equal(all(cost.sent > 0 for cost in changes), "nothing was sent:"),
        peer_name="every file of code and weights",
        target=10.0 if options.size != "tiny" else None,
        unit="MB",
    )
    yield line_of(
        "seconds that one changed source file takes",
        [(cost.seconds, first.seconds) for cost in changes],
        same=equal(all(cost.sent > 0 for cost in changes), "nothing was sent:"),
        peer_name="sending everything (our first publish, once)",
        target=None,
    )


def transfers(options: Options, bench: Publisher, client: Client, scratch: Path) -> Iterator[Line]:
    """A checkpoint up and down, hashed and checked, beside a bare PUT and a bare GET of the same bytes."""
    size = options.pick(BIG_CHECKPOINT_BYTES, BIG_CHECKPOINT_BYTES // 10, 1_000_000)
    path = bench.packer.datasets_folder / "checkpoints-bench" / "fold0.pt"
    uploads = []
    owner = bench.remote.owner

    def plain_upload() -> None:
        ticket = client.call(
            "blobs.BlobApiService/StartBlobUpload",
            type="DATASET",
            name=path.name,
            contentLength=size,
        )
        with path.open("rb") as handle:
            assert client.request("PUT", ticket["createUrl"], data=handle).status_code == 200

    for _ in range(options.pick(2, 2, 1)):
        write_random(path, size)  # others each time: what is there already is not sent
        plain = timed(plain_upload)
        cost = bench.publish(lambda: bench.packer.folder("checkpoints-bench"))
        uploads.append((cost.seconds, plain))
    speeds = [size / seconds / 1e6 for seconds, _ in uploads]
    yield line_of(
        f"publish a {size / 1e6:.0f} MB checkpoint",
        uploads,
        same=equal(cost.sent >= size, "not all of it was sent:"),
        peer_name="a bare PUT of the file, no version made",
        target=None,
        note=f"{sorted(speeds)[len(speeds) // 2]:.0f} MB/s, hashed first",
    )
    located = client.call(
        f"{DATASETS}/DownloadDataset",
        ownerSlug=owner,
        datasetSlug="checkpoints-bench",
        fileName=path.name,
    )
    ours, peer = scratch / "ours.pt", scratch / "peer.pt"
    sha256 = file_sha256(path)
    session = requests.Session()
    session.trust_env = False

    def plain_download() -> None:
        with session.get(located, stream=True, timeout=300) as answer, peer.open("wb") as out:
            for piece in answer.iter_content(1 << 20):
                out.write(piece)

    yield race(
        f"download a {size / 1e6:.0f} MB checkpoint, checked",
        lambda: bench.remote.fetch(located, ours, size=size, sha256=sha256),
        plain_download,
        same=lambda *_: equal(file_sha256(ours) == sha256 == file_sha256(peer)),
        peer_name="a bare GET into a file",
        target=None,
        rounds=options.pick(3, 2, 1),
        note="in one process with the server",
    )


if __name__ == "__main__":
    raise SystemExit(run_benchmark(lines, __doc__))
