"""Publishing: make the remote's current version of a dataset hold exactly a build, or leave it alone.

Files are sent first and named as one version afterwards, so an upload that breaks off changes nothing
that anybody sees; what arrived is used by the next run. The version counts only once its listing and the
digest in its manifest are those of the build. Nothing is sent when that holds already, and a dataset that
harness did not make is never replaced.
"""

import contextlib
import hashlib
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.durable import write_text
from harness.errors import ConfigError, PushRejected
from harness.ledger import Ledger
from harness.package import MANIFEST, README, disk_error
from harness.records import DatasetBuild, Handle, PackedFile
from harness.remote import KaggleRemote, ReadRefused, Upload
from harness.terminal import Transfer
from harness.transport import Answer
from harness.workbench import Workbench
from kernels.contract import sha256_file

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # archives of equal content are equal bytes
ZIP_LIMIT = (
    64_000_000  # a larger folder is sent file by file: nothing big is copied into an archive
)
PLACES_KEPT_S = 6 * 24 * 3600.0  # as long as the official client goes on with an upload
VERIFY_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # a new version may not be listed at once
LOOK_AGAIN_S = (0.5, 1.0, 2.0, 4.0)  # before what may be there already is sent again
PROCESSING = frozenset(
    {
        "BLOBS_RECEIVED", "BLOBS_DECOMPRESSED", "BLOBS_COPIED_TO_SDS", "INDIVIDUAL_BLOBS_COMPRESSED", "REPROCESSING",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """What became of one dataset."""

    version: int | None  # None: sent and still being processed
    sent: int  # bytes that went out
    state: str  # current: nothing to do; sent: a new version; processing: not waited for


class Places:
    """Where unfinished uploads can go on, by the content of the file: one small file each."""

    def __init__(self, folder: Path | None) -> None:
        """Keep them below a folder; None keeps nothing."""
        self.folder = folder

    def find(self, upload: Upload) -> tuple[str, str] | None:
        """Token and URL that these bytes were given and that were not used yet."""
        if self.folder is None:
            return None
        try:
            kept = json.loads(self._path(upload).read_text("utf-8"))
            if time.time() - kept["created"] < PLACES_KEPT_S:
                return str(kept["token"]), str(kept["url"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def keep(self, upload: Upload, token: str, url: str) -> None:
        """Remember where an upload goes. A disk that refuses only costs sending it again."""
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(
                self._path(upload),
                json.dumps({"token": token, "url": url, "created": time.time()}),
            )

    def forget(self, upload: Upload) -> None:
        """Its token is used up, or no good."""
        if self.folder is not None:
            self._path(upload).unlink(missing_ok=True)

    def _path(self, upload: Upload) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(f"{upload.folder}/{upload.name} {upload.sha256}".encode()).hexdigest()
        return self.folder / f"{name[:32]}.json"


def publish_dataset(bench: Workbench, build: DatasetBuild, wait: bool = True) -> Published:
    """Publish a build on a command's remote, one process at a time; see publish_build."""
    with bench.locked(f"dataset-{build.slug}"):
        return publish_build(
            build,
            bench.remote,
            bench.ledger,
            bench.owner,
            bench.progress,
            wait=wait,
            places=bench.settings.state / "uploads" / bench.settings.remote,
        )


def publish(
    build: DatasetBuild,
    remote: KaggleRemote,
    ledger: Ledger,
    owner: str,
    progress: Callable[[str], None],
    wait: bool = True,
) -> int | None:
    """The version of the dataset that holds this build; see publish_build."""
    return publish_build(build, remote, ledger, owner, progress, wait=wait).version


def publish_build(
    build: DatasetBuild,
    remote: KaggleRemote,
    ledger: Ledger,
    owner: str,
    progress: Callable[[str], None],
    *,
    wait: bool = True,
    places: Path | None = None,
) -> Published:
    """Make the remote's current version hold this build.

    The caller keeps other processes from the same dataset.

    Args:
        wait: False leaves a version that is still being processed to itself.
        places: Folder where unfinished uploads are remembered.

    Raises:
        PushRejected: The service refused, the name belongs to a dataset of another make, or what was
            published is not what was sent.
        ConfigError: A file changed meanwhile, or the disk refused.
        RemoteUnavailable: No answer; the next run asks first what arrived.
    """
    handle = Handle(owner, build.slug)
    known = ledger.dataset_version(remote.name, str(handle), build.digest)
    current = remote.dataset_version(handle)
    if known is not None and known == current:
        return Published(known, 0, "current")
    if current is not None:
        history = ledger.dataset_history(remote.name, str(handle))
        if remote.dataset_status(handle) in PROCESSING:
            # Perhaps this very build: a publish that was cut off, or was not waited for.
            if not wait and history and history[-1] == (build.digest, None):
                return Published(None, 0, "processing")
            if wait:
                progress(f"dataset {handle}: an earlier version is still being processed")
                current = remote.wait_for_dataset(handle, 0, progress)
        if current:
            found = patiently(
                lambda: _remote_digest(remote, handle),
                lambda digest: digest is not None,
                LOOK_AGAIN_S if history else (),
            )
            if found is None and not history:
                raise PushRejected(
                    f"Dataset {handle} exists and was not made by harness (it has no {MANIFEST}).",
                    f"Rename the folder datasets/{build.slug}, or delete that dataset on Kaggle.",
                )
            same = found == build.digest
            if same and _lasting_fault(build, remote, handle, current, LOOK_AGAIN_S) is None:
                ledger.dataset_confirmed(remote.name, str(handle), build.digest, current)
                return Published(current, 0, "current")
    ledger.dataset_intent(remote.name, str(handle), build.digest)
    sent = _send(build, remote, handle, current, progress, Places(places))
    if not wait:
        return Published(None, sent, "processing")
    version = remote.wait_for_dataset(handle, current or 0, progress)
    fault = _lasting_fault(build, remote, handle, version, VERIFY_WAITS_S)
    if fault is not None:
        raise PushRejected(
            f"Dataset {handle} version {version} is not what was sent: {fault}.",
            "It is not used. Run the same command again to publish anew.",
        )
    ledger.dataset_confirmed(remote.name, str(handle), build.digest, version)
    progress(f"dataset {handle}: version {version} is current")
    return Published(version, sent, "sent")


def _send(
    build: DatasetBuild,
    remote: KaggleRemote,
    handle: Handle,
    current: int | None,
    progress: Callable[[str], None],
    places: Places,
) -> int:
    """Upload everything, then name it as one version. Bytes that went out.

    Tokens of an earlier process may have been used up without our knowing: one refusal of reused ones
    is answered by sending everything anew.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            uploads = plan_uploads(build, Path(scratch))
            sizes = [upload.path.stat().st_size for upload in uploads]
        except OSError as error:
            raise disk_error(Path(scratch), error) from error
        total = sum(sizes)
        progress(f"dataset {handle}: sending {total / 1e6:.1f} MB")
        transfer = Transfer(progress, f"dataset {handle}", total)
        for attempt in range(2):
            reused = False
            files = []
            for upload, size in zip(uploads, sizes, strict=True):
                place = places.find(upload)
                before = transfer.done
                try:
                    token = _upload(remote, upload, place, transfer, places)
                except PushRejected:
                    # The place is no good any more (too old, or another Kaggle): the bytes may be.
                    places.forget(upload)
                    if place is None:
                        raise
                    token, place = _upload(remote, upload, None, transfer, places), None
                except ConfigError:
                    places.forget(upload)
                    raise
                reused = reused or place is not None
                transfer.skip(size - (transfer.done - before))
                files.append((upload, token))
            transfer.end()
            try:
                if current is None:
                    remote.create_dataset(handle, build, files)
                else:
                    remote.create_dataset_version(handle, files, f"digest {build.digest}")
            except PushRejected:
                for upload in uploads:
                    places.forget(upload)
                if not reused or attempt:
                    raise
                continue
            for upload in uploads:
                places.forget(upload)
            return transfer.sent
    raise AssertionError("the second attempt returns or raises")


def _upload(
    remote: KaggleRemote,
    upload: Upload,
    place: tuple[str, str] | None,
    transfer: Transfer,
    places: Places,
) -> str:
    try:
        return remote.upload_file(
            upload,
            place,
            transfer.add,
            lambda token, url: places.keep(upload, token, url),
        )
    except OSError as error:
        if error.errno is None:  # requests' own errors derive from OSError too
            raise
        raise disk_error(upload.path, error) from error


def patiently(
    ask: Callable[[], Answer], good: Callable[[Answer], bool], pauses: Sequence[float]
) -> Answer:
    """An answer, asked for again after each pause (s) until it is good: what is not listed yet may be there."""
    answer = ask()
    for pause in pauses:
        if good(answer):
            break
        time.sleep(pause)
        answer = ask()
    return answer


def _lasting_fault(
    build: DatasetBuild,
    remote: KaggleRemote,
    handle: Handle,
    version: int,
    pauses: Sequence[float],
) -> str | None:
    """_fault, with time for a listing to appear."""
    return patiently(
        lambda: _fault(build, remote, handle, version), lambda fault: fault is None, pauses
    )


def _fault(build: DatasetBuild, remote: KaggleRemote, handle: Handle, version: int) -> str | None:
    """Why a published version is not the build, or None when it is."""
    exact = Handle(handle.owner, handle.slug, version)
    try:
        listed = remote.dataset_files(exact)
        digest = _remote_digest(remote, exact)
    except ReadRefused as error:
        return f"it is not listed ({error.reason})"
    for file in build.files:
        if listed.get(file.path) != file.size:
            there = f"{listed[file.path]} bytes" if file.path in listed else "missing"
            return f"{file.path} is {there} there and {file.size} bytes here"
    extra = sorted(set(listed) - {file.path for file in build.files} - {MANIFEST, README})
    if extra:
        return f"{extra[0]} is there and not here"
    if digest != build.digest:
        return f"its manifest has digest {str(digest)[:12]}, the folder here {build.digest[:12]}"
    return None


def _remote_digest(remote: KaggleRemote, handle: Handle) -> str | None:
    """The digest in a published manifest, None when there is no manifest of ours."""
    return digest_in(remote.dataset_text(handle, MANIFEST))


def digest_in(text: str | None) -> str | None:
    """The digest in a manifest or a publication's record, or None when it is neither."""
    try:
        return str(json.loads(text)["digest"]) if text else None
    except (ValueError, KeyError, TypeError):
        return None


def plan_uploads(build: DatasetBuild, scratch: Path) -> list[Upload]:
    """What is sent: large files and those at the top as they are, each small folder as one stored zip.

    The service unpacks a zip into the folder of its name.

    Raises:
        ConfigError: A file is not what the build says.
    """
    uploads = [
        Upload(build.folder / name, sha256_file(build.folder / name)) for name in (MANIFEST, README)
    ]
    folders: dict[str, list[PackedFile]] = {}
    for file in build.files:
        top, separator, _ = file.path.partition("/")
        if separator:
            folders.setdefault(top, []).append(file)
        else:
            uploads.append(Upload(build.folder / file.path, file.sha256))
    for top, files in folders.items():
        if len(files) > 1 and sum(file.size for file in files) <= ZIP_LIMIT:
            archive = scratch / f"{top}.zip"
            _write_zip(archive, build.folder, top, files)
            uploads.append(Upload(archive, sha256_file(archive)))
            continue
        for file in files:
            parent = file.path.rpartition("/")[0]
            uploads.append(Upload(build.folder / file.path, file.sha256, parent))
    return uploads


def _write_zip(archive: Path, folder: Path, top: str, files: list[PackedFile]) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for file in files:
            data = (folder / file.path).read_bytes()
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise ConfigError(
                    f"{folder / file.path} changed while it was packed; nothing was published.",
                    "Run the same command again.",
                )
            packed.writestr(zipfile.ZipInfo(file.path[len(top) + 1 :], ZIP_EPOCH), data)
