"""The only file that knows the service's calls: kagglesdk pointed at the chosen endpoint.

Local and real Kaggle share this code; they differ in the endpoint and in where credentials come from.
Every way the service has of saying "no" inside a success (push errors in a 200, sources it ignored,
datasets that lost a file) becomes an error here.
"""

import contextlib
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest
from kagglesdk.competitions.types import competition_api_service as competition_types
from kagglesdk.datasets.types import dataset_api_service as dataset_types
from kagglesdk.kaggle_client import KaggleClient
from kagglesdk.kaggle_env import KaggleEnv
from kagglesdk.kaggle_http_client import KaggleHttpClient
from kagglesdk.kernels.types import kernels_api_service as kernel_types
from kagglesdk.models.types import model_api_service as model_types
from kagglesdk.models.types.model_enums import ModelFramework

from harness.durable import write_bytes
from harness.errors import ConfigError, PushRejected, RemoteUnavailable, SubmissionInvalid
from harness.records import DatasetBuild, Handle, KernelBuild, RunState
from harness.terminal import plain
from harness.transport import UNREADABLE, Answer, download, error_text, new_session, retrying
from harness.transport import upload as upload_bytes

LOGGER = logging.getLogger(__name__)

PAGE_SIZE = 200
DATASET_WAIT_S = 600.0
VANISHED_S = 120.0  # a dataset that is accepted and not seen for so long will not come
STORAGE_HINT = (
    "The usual reasons are a file name it does not keep and a full quota of private datasets: see "
    "kaggle.com under Your Work, Datasets. Then run the same command again."
)
COPIES_TRIED = 5  # of a file that nothing vouches for, until two are equal
UNKNOWN_SIZE_LIMIT = 64 << 20  # bytes of a file that nothing vouches for, such as a manifest
ASK_FIRST = "Run the same command again: it asks first whether it arrived."


@dataclass(frozen=True)
class Credentials:
    """Who calls: a token, or a user name with its key."""

    username: str
    key: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.username!r})"  # never the secret


@dataclass(frozen=True)
class Upload:
    """A file on its way into a dataset: its bytes as hashed, and the folder it goes into."""

    path: Path
    sha256: str
    folder: str = ""  # POSIX, "" for the top

    @property
    def name(self) -> str:
        """Its name there."""
        return self.path.name


@dataclass(frozen=True)
class KernelStatus:
    """A session's state, with the service's reason when it failed."""

    state: RunState
    failure: str | None


@dataclass(frozen=True)
class OutputListing:
    """Output files as (relative name, URL) and the log as the service serves it."""

    files: tuple[tuple[str, str], ...]
    log: str


@dataclass(frozen=True)
class SubmissionStatus:
    """A submission as the service reports it. Scores are strings, "" while unknown."""

    ref: int
    status: str  # PENDING COMPLETE ERROR
    public_score: str
    private_score: str
    error: str
    description: str


@dataclass(frozen=True)
class SubmissionLimits:
    """What is left today. Counts are per UTC day and team."""

    today: int
    allowed_now: int


@dataclass(frozen=True)
class CompetitionInfo:
    """What the service says about a competition now. Times are ISO 8601 in UTC."""

    deadline: str | None
    team_count: int
    our_rank: int | None  # None before the first scored submission
    closed: bool  # takes no submissions
    kernels_only: bool  # takes kernels, not files


@dataclass(frozen=True)
class Standing:
    """One line of a leaderboard, best first. The score is a string, as served."""

    rank: int
    team_id: int
    team: str
    score: str
    date: str


class ReadRefused(ConfigError):
    """The service answered a question with no: the thing is not there, or not this account's to see."""

    def __init__(self, what: str, reason: str, status: int) -> None:
        super().__init__(
            f"Kaggle refused to tell the {what}: {reason} (status {status}).",
            "Check that it exists and that this account may see it.",
        )
        self.reason = reason
        self.status = status


class SessionsFull(PushRejected):
    """The account runs as many kernels of this kind as it may: later it will go."""


class SourcesIgnored(PushRejected):
    """A version was saved and runs, but without one of its inputs: it takes a session and must fail."""

    def __init__(self, message: str, hint: str, version: int) -> None:
        super().__init__(message, hint)
        self.version = version


class _HttpClient(KaggleHttpClient):  # type: ignore[misc]  # kagglesdk has no types
    """kagglesdk's client with our session: timeouts, no credentials but ours, no files in HOME."""

    def __init__(self, endpoint: str | None, credentials: Credentials) -> None:
        super().__init__(env=KaggleEnv.PROD if endpoint is None else KaggleEnv.LOCAL)
        if endpoint is not None:
            self._endpoint = endpoint
        self._session = new_session(trust_environment=endpoint is None)
        self._session.headers.update({"User-Agent": "", "Content-Type": "application/json"})
        self._session.auth = (
            KaggleHttpClient.BearerAuth(credentials.token)
            if credentials.token
            else (credentials.username, credentials.key or "")
        )
        self._signed_in = True

    @property
    def base(self) -> str:
        """URL under which services are found."""
        return str(self._get_request_url("", "")).rstrip("/")

    @property
    def session(self) -> requests.Session:
        """The authenticated session, for calls that the SDK does not make."""
        return self._session


class KaggleRemote:
    """Kaggle, or a local Kaggle, as the harness uses it."""

    def __init__(self, name: str, credentials: Credentials, endpoint: str | None = None) -> None:
        """Connect to an endpoint (None: the real service). Nothing is sent yet.

        Args:
            name: What the ledger calls it: local or kaggle.
            endpoint: Like http://127.0.0.1:41234, without a path.
        """
        self.name = name
        self.owner = credentials.username
        self._endpoint = endpoint
        self._sdk = KaggleClient(
            env=KaggleEnv.LOCAL, username=credentials.username, password=credentials.key or "-"
        )
        self._http = _HttpClient(endpoint, credentials)
        # The SDK builds its services around a client of its own; ours takes its place in each.
        self._kernels = type(self._sdk.kernels.kernels_api_client)(self._http)
        self._datasets = type(self._sdk.datasets.dataset_api_client)(self._http)
        self._competitions = type(self._sdk.competitions.competition_api_client)(self._http)
        self._models = type(self._sdk.models.model_api_client)(self._http)
        self._blobs = type(self._sdk.blobs.blob_api_client)(self._http)
        # Uploads and output files are served without credentials: they carry a token in their URL.
        self._files = new_session(trust_environment=endpoint is None)

    def close(self) -> None:
        """Close all connections."""
        self._http.session.close()
        self._files.close()

    # ---- kernels ---------------------------------------------------------------------------------

    def push_kernel(self, build: KernelBuild) -> int:
        """Save a kernel, which starts it. Sent once, never repeated by itself.

        Returns:
            The version number.

        Raises:
            PushRejected: The service refused, or would run without one of the inputs.
            RemoteUnavailable: No answer; whether it arrived must be asked with kernel_source.
        """
        meta = build.metadata
        request = kernel_types.ApiSaveKernelRequest()
        request.slug = meta["id"]
        request.new_title = meta["title"]
        request.text = build.source
        request.language = meta["language"]
        request.kernel_type = meta["kernel_type"]
        request.is_private = meta["is_private"]
        request.enable_gpu = meta["enable_gpu"]
        request.enable_tpu = meta["enable_tpu"]
        request.enable_internet = meta["enable_internet"]
        request.dataset_data_sources = meta["dataset_sources"]
        request.competition_data_sources = meta["competition_sources"]
        request.kernel_data_sources = meta["kernel_sources"]
        request.model_data_sources = meta["model_sources"]
        request.category_ids = []
        if "machine_shape" in meta:
            request.machine_shape = meta["machine_shape"]
        answer = self._write("push of " + str(build.handle), self._kernels.save_kernel, request)
        if answer.error:
            refusal = f"Push of {build.handle} was refused: {answer.error}"
            if "session count" in answer.error:
                raise SessionsFull(
                    refusal,
                    "Wait with: harness watch --follow. Then push again: what is there is skipped.",
                )
            raise PushRejected(refusal)
        for kind in ("dataset", "competition", "kernel", "model"):
            ignored = list(getattr(answer, f"invalid_{kind}_sources") or [])
            if ignored:
                raise SourcesIgnored(
                    f"Push of {build.handle}: the service ignored the {kind} {', '.join(ignored)}; "
                    f"version {answer.version_number} runs without it and will fail.",
                    _missing_source_hint(kind, ignored[0], self.name),
                    int(answer.version_number or 0),
                )
        if not answer.version_number:
            # The official client takes this for success, others for failure: ask, as for silence.
            raise RemoteUnavailable(f"Push of {build.handle} got no version number.", ASK_FIRST)
        return int(answer.version_number)

    def kernel_source(self, handle: Handle) -> tuple[int, str] | None:
        """Newest version number and the source of the handle's version (without one: of the newest).

        None when there is no such kernel.
        """
        request = kernel_types.ApiGetKernelRequest()
        request.user_name, request.kernel_slug = handle.owner, handle.slug
        if handle.version:
            request.version_label = f"v{handle.version}"
        answer = self._find(f"kernel {handle}", self._kernels.get_kernel, request)
        if answer is None:
            return None
        return int(answer.metadata.current_version_number or 0), str(answer.blob.source or "")

    def kernel_status(self, handle: Handle) -> KernelStatus:
        """The state of one version's session: without the version label it would be the newest one's."""
        request = kernel_types.ApiGetKernelSessionStatusRequest()
        request.user_name, request.kernel_slug = handle.owner, handle.slug
        request.version_label = f"v{handle.version}"
        answer = self._read(f"status of {handle}", self._kernels.get_kernel_session_status, request)
        return KernelStatus(
            RunState(answer.status.name), plain(answer.failure_message or "") or None
        )

    def kernel_outputs(self, handle: Handle) -> OutputListing:
        """Every output file of one version, over all pages, and its log."""
        files: list[tuple[str, str]] = []
        log, token = "", ""
        while True:
            request = kernel_types.ApiListKernelSessionOutputRequest()
            request.user_name, request.kernel_slug = handle.owner, handle.slug
            request.version_label = f"v{handle.version}"
            request.page_size, request.page_token = PAGE_SIZE, token
            answer = self._read(
                f"outputs of {handle}", self._kernels.list_kernel_session_output, request
            )
            files += [(str(item.file_name), str(item.url)) for item in answer.files or []]
            log = log or str(answer.log or "")
            token = _next_page(token, str(answer.next_page_token or ""))
            if not token:
                return OutputListing(tuple(files), log)

    def fetch(
        self, url: str, target: Path, *, size: int | None = None, sha256: str | None = None
    ) -> None:
        """Download one output file, a small one when its size is not known; see transport.download."""
        limit = UNKNOWN_SIZE_LIMIT if size is None else None
        download(self._files, url, target, size=size, sha256=sha256, limit=limit)

    def follow_log(self, handle: Handle) -> Iterator[str]:
        """Text of a running session's log as it comes; ends when the session does.

        A dropped connection ends the iteration early: logs are a courtesy, states come from status.
        """
        url = f"{self._http.base}/kernels/logs/stream/{handle.owner}/{handle.slug}"
        headers = {"Accept": "text/event-stream, */*"}
        try:
            with self._http.session.get(url, headers=headers, stream=True) as response:
                if response.status_code != 200:
                    return
                if "event-stream" not in response.headers.get("Content-Type", ""):
                    yield log_text(response.text)
                    return
                for line in response.iter_lines():
                    text = line.decode("utf-8", "replace")
                    if not text.startswith("data:"):
                        continue
                    payload = text[5:].strip()
                    if payload == "END_OF_LOG":
                        return
                    with contextlib.suppress(ValueError, AttributeError):
                        yield str(json.loads(payload).get("data", ""))
        except requests.RequestException:
            return

    def accelerator_quota(self) -> dict[str, tuple[float, float]]:
        """Seconds used and allowed this week, by accelerator ("gpu", "tpu"); empty when it is not told."""
        request = kernel_types.ApiGetAcceleratorQuotaStatisticsRequest()
        answer = self._read(
            "accelerator quota", self._kernels.get_accelerator_quota_statistics, request
        )
        found = {}
        for name in ("gpu", "tpu"):
            quota = getattr(answer, f"{name}_quota")
            if quota is not None:
                found[name] = (
                    quota.time_used.total_seconds(),
                    quota.total_time_allowed.total_seconds(),
                )
        return found

    # ---- datasets --------------------------------------------------------------------------------

    def dataset_version(self, handle: Handle) -> int | None:
        """The dataset's current version number, or None when it does not exist (or is not ours)."""
        request = dataset_types.ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = handle.owner, handle.slug
        answer = self._find(f"dataset {handle}", self._datasets.get_dataset, request)
        return None if answer is None else int(answer.current_version_number or 0)

    def dataset_files(self, handle: Handle) -> dict[str, int]:
        """Name -> bytes of every file of a version, over all pages."""
        found: dict[str, int] = {}
        token = ""
        while True:
            request = dataset_types.ApiListDatasetFilesRequest()
            request.owner_slug, request.dataset_slug = handle.owner, handle.slug
            request.page_size, request.page_token = PAGE_SIZE, token
            if handle.version:
                request.dataset_version_number = handle.version
            answer = self._read(f"files of {handle}", self._datasets.list_dataset_files, request)
            found |= {str(file.name): int(file.total_bytes) for file in answer.dataset_files or []}
            token = _next_page(token, str(answer.next_page_token or ""))
            if not token:
                return found

    def dataset_text(self, handle: Handle, name: str) -> str | None:
        """A small text file of a dataset's current version, or None when it has none of that name."""
        request = dataset_types.ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = handle.owner, handle.slug
        request.file_name = name
        if handle.version:
            request.dataset_version_number = handle.version
        return self._agreed_text(f"{name} of {handle}", self._datasets.download_dataset, request)

    def upload_file(
        self,
        upload: Upload,
        place: tuple[str, str] | None = None,
        sent: Callable[[int], None] = lambda _: None,
        started: Callable[[str, str], None] = lambda _token, _url: None,
        kind: ApiBlobType = ApiBlobType.DATASET,
    ) -> str:
        """Send one file of a dataset (or a model) to be; the token under which the service keeps it.

        Args:
            place: Token and URL that an earlier, unfinished upload of the same bytes was given.
            sent: Told the size of every piece that goes out.
            started: Told token and URL before the first byte, for the next process to go on with.

        Raises:
            ConfigError: The file changed while it was sent.
            PushRejected, RemoteUnavailable: See transport.upload.
        """
        if place is None:
            request = ApiStartBlobUploadRequest()
            request.type, request.name = kind, upload.name
            stat = upload.path.stat()
            request.content_length = stat.st_size
            request.last_modified_epoch_seconds = int(stat.st_mtime)
            # Asking for a place to upload to changes nothing that anybody sees: safe to repeat.
            answer = self._read(f"upload of {upload.name}", self._blobs.start_blob_upload, request)
            token, url = str(answer.token), str(answer.create_url)
            started(token, url)
        else:
            token, url = place
        upload_bytes(
            self._files,
            self._reachable(url),
            upload.path,
            sha256=upload.sha256,
            begun=place is not None,
            sent=sent,
        )
        return token

    def _reachable(self, url: str) -> str:
        """An address that a local Kaggle gave out, on the port where it is now."""
        if self._endpoint is None:
            return url
        now, then = urlsplit(self._endpoint), urlsplit(url)
        return urlunsplit(then._replace(scheme=now.scheme, netloc=now.netloc))

    def create_dataset(
        self, handle: Handle, build: DatasetBuild, files: Sequence[tuple[Upload, str]]
    ) -> None:
        """Create a dataset of uploaded files (each with its token), private, as version 1.

        See wait_for_dataset for what follows.
        """
        request = dataset_types.ApiCreateDatasetRequest()
        request.owner_slug, request.slug, request.title = handle.owner, handle.slug, build.title
        request.license_name, request.is_private = build.license, True
        request.files, request.directories = _tree(files)
        answer = self._write(f"creation of {handle}", self._datasets.create_dataset, request)
        _check_dataset_answer(handle, answer)

    def create_dataset_version(
        self, handle: Handle, files: Sequence[tuple[Upload, str]], notes: str
    ) -> None:
        """Make uploaded files a new version: a full snapshot."""
        body = dataset_types.ApiCreateDatasetVersionRequestBody()
        body.version_notes = notes
        body.files, body.directories = _tree(files)
        request = dataset_types.ApiCreateDatasetVersionRequest()
        request.owner_slug, request.dataset_slug, request.body = handle.owner, handle.slug, body
        answer = self._write(
            f"new version of {handle}", self._datasets.create_dataset_version, request
        )
        _check_dataset_answer(handle, answer)

    def dataset_status(self, handle: Handle) -> str:
        """Where the newest version's processing stands, in the service's words; "" when it is not there."""
        request = dataset_types.ApiGetDatasetStatusRequest()
        request.owner_slug, request.dataset_slug = handle.owner, handle.slug
        answer = self._find(f"status of {handle}", self._datasets.get_dataset_status, request)
        return "" if answer is None else str(answer.status.name)

    def wait_for_dataset(
        self, handle: Handle, newer_than: int, progress: Callable[[str], None]
    ) -> int:
        """Wait until a version above ``newer_than`` is current and ready; its number.

        Raises:
            PushRejected: Processing failed.
            RemoteUnavailable: Not ready within DATASET_WAIT_S.
        """
        started = time.monotonic()
        wait, told, next_told = 0.2, "", 0.0
        while (waited := time.monotonic() - started) < DATASET_WAIT_S:
            # A new dataset or version may be unknown for some seconds.
            status = self.dataset_status(handle)
            if status in ("FAILED", "DELETED"):
                raise PushRejected(
                    f"Dataset {handle}: the service took it and then reports {status}.",
                    STORAGE_HINT,
                )
            version = self.dataset_version(handle) or 0
            if status == "READY" and version > newer_than:
                return version
            if not status and waited > VANISHED_S:
                raise PushRejected(
                    f"Dataset {handle} was accepted and is not there after {waited:.0f} s.",
                    STORAGE_HINT,
                )
            line = (
                f"dataset {handle}: {status.lower() or 'not visible yet'}, "
                f"version {version or 'none'} is current; {waited:.0f} s"
            )
            if waited > 2 and (line.partition(";")[0] != told or waited > next_told):
                progress(line)
                told, next_told = line.partition(";")[0], waited + 15.0
            time.sleep(wait)
            wait = min(wait * 1.5, 10.0)
        raise RemoteUnavailable(
            f"Dataset {handle} was not ready after {DATASET_WAIT_S:.0f} s.",
            "Run the same command again.",
        )

    # ---- models ----------------------------------------------------------------------------------

    def model_exists(self, handle: Handle) -> bool:
        """Whether there is a model owner/slug that this account may see."""
        request = model_types.ApiGetModelRequest()
        request.owner_slug, request.model_slug = handle.owner, handle.slug
        return self._find(f"model {handle}", self._models.get_model, request) is not None

    def create_model(self, handle: Handle, title: str, subtitle: str, *, private: bool) -> None:
        """Create a model without variations.

        Raises:
            PushRejected: The service refused it.
        """
        request = model_types.ApiCreateModelRequest()
        request.owner_slug, request.slug, request.title = handle.owner, handle.slug, title
        request.subtitle, request.is_private = subtitle, private
        answer = self._write(f"creation of model {handle}", self._models.create_model, request)
        _check_model_answer(handle, answer)

    def variation_version(self, handle: Handle, framework: str, variation: str) -> int | None:
        """The newest version of a model's variation, or None when there is none."""
        request = model_types.ApiGetModelInstanceRequest()
        request.owner_slug, request.model_slug = handle.owner, handle.slug
        request.framework, request.instance_slug = ModelFramework[framework], variation
        what = f"variation {variation} of model {handle}"
        answer = self._find(what, self._models.get_model_instance, request)
        return None if answer is None else int(answer.version_number or 0)

    def variation_text(
        self, handle: Handle, framework: str, variation: str, version: int, name: str
    ) -> str | None:
        """A small text file of a variation's version, or None when it has none of that name."""
        request = model_types.ApiDownloadModelInstanceVersionRequest()
        request.owner_slug, request.model_slug = handle.owner, handle.slug
        request.framework, request.instance_slug = ModelFramework[framework], variation
        request.version_number, request.path = version, name
        return self._agreed_text(
            f"{name} of model {handle}", self._models.download_model_instance_version, request
        )

    def upload_model_file(self, upload: Upload) -> str:
        """Send one file of a model to be; its token."""
        return self.upload_file(upload, kind=ApiBlobType.MODEL)

    def add_variation_version(
        self,
        handle: Handle,
        framework: str,
        variation: str,
        tokens: Sequence[str],
        *,
        license_name: str,
        notes: str,
        new: bool,
    ) -> None:
        """Make a variation of uploaded files (``new``), or its next version.

        Raises:
            PushRejected: The service refused it.
        """
        files = []
        for token in tokens:
            file = dataset_types.ApiDatasetNewFile()
            file.token = token
            files.append(file)
        what = f"variation {variation} of model {handle}"
        if new:
            request = model_types.ApiCreateModelInstanceRequest()
            request.owner_slug, request.model_slug = handle.owner, handle.slug
            body = model_types.ApiCreateModelInstanceRequestBody()
            body.framework, body.instance_slug = ModelFramework[framework], variation
            body.license_name, body.overview, body.files = license_name, notes, files
            request.body = body
            answer = self._write(what, self._models.create_model_instance, request)
        else:
            again = model_types.ApiCreateModelInstanceVersionRequest()
            again.owner_slug, again.model_slug = handle.owner, handle.slug
            again.framework, again.instance_slug = ModelFramework[framework], variation
            version = model_types.ApiCreateModelInstanceVersionRequestBody()
            version.version_notes, version.files = notes, files
            again.body = version
            answer = self._write(what, self._models.create_model_instance_version, again)
        _check_model_answer(handle, answer)

    # ---- competitions ----------------------------------------------------------------------------

    def check_competition(self, slug: str) -> None:
        """Make sure that kernels may mount a competition's data, before one is started.

        Raises:
            ConfigError: It is not there, or its rules are not accepted.
        """
        request = competition_types.ApiListDataFilesRequest()
        request.competition_name, request.page_size = slug, 1
        if self._find(f"files of {slug}", self._competitions.list_data_files, request) is None:
            raise ConfigError(
                f"The local Kaggle has no competition {slug!r} yet."
                if self.name == "local"
                else f"Competition {slug!r} is not on Kaggle, or you have not joined it.",
                _competition_hint(slug, self.name),
            )

    def competition_file(self, slug: str, name: str, target: Path) -> None:
        """Download one file of a competition's data.

        Raises:
            ConfigError: The competition or the file is not there, or its rules are not accepted.
        """
        request = competition_types.ApiDownloadDataFileRequest()
        request.competition_name, request.file_name = slug, name
        what = f"{name} of {slug}"
        try:
            content = self._agreed(what, self._competitions.download_data_file, request)
        except ReadRefused as error:
            raise ConfigError(
                f"{name} of competition {slug!r} cannot be fetched: {error.reason}.",
                _competition_hint(slug, self.name),
            ) from error
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, content)

    def competition_info(self, slug: str) -> CompetitionInfo:
        """Deadline, number of teams, our place, and what it takes.

        Raises:
            ConfigError: There is no such competition, or it cannot be seen.
        """
        request = competition_types.ApiGetCompetitionRequest()
        request.competition_name = slug
        try:
            answer = self._read(f"competition {slug}", self._competitions.get_competition, request)
        except ReadRefused as error:
            raise ConfigError(
                f"Competition {slug!r} cannot be read: {error.reason}.",
                _competition_hint(slug, self.name),
            ) from error
        return CompetitionInfo(
            _utc_text(answer.deadline),
            int(answer.team_count or 0),
            int(answer.user_rank) if answer.user_rank else None,
            bool(answer.submissions_disabled),
            bool(answer.is_kernels_submissions_only),
        )

    def leaderboard(self, slug: str, public: bool = False) -> list[Standing]:
        """Every team from the first place down, over all pages.

        Args:
            public: The public leaderboard even when the private one is out.
        """
        found: list[Standing] = []
        token = ""
        while True:
            request = competition_types.ApiGetLeaderboardRequest()
            request.competition_name, request.override_public = slug, public
            request.page_size, request.page_token = PAGE_SIZE, token
            answer = self._read(
                f"leaderboard of {slug}", self._competitions.get_leaderboard, request
            )
            for item in answer.submissions or []:
                date = _utc_text(item.submission_date) or ""
                found.append(
                    Standing(
                        len(found) + 1,
                        int(item.team_id or 0),
                        plain(str(item.team_name or "")),
                        str(item.score or ""),
                        date,
                    )
                )
            token = _next_page(token, str(answer.next_page_token or ""))
            if not token:
                return found

    def submission_limits(self, slug: str) -> SubmissionLimits:
        """Submissions made and left today."""
        request = competition_types.ApiGetSubmissionLimitsRequest()
        request.competition_name = slug
        answer = self._read(
            f"submission limits of {slug}", self._competitions.get_submission_limits, request
        )
        return SubmissionLimits(int(answer.num_today or 0), int(answer.num_allowed_now or 0))

    def submit(self, slug: str, csv: Path, message: str) -> int:
        """Submit a file. Sent once; its reference number.

        Raises:
            SubmissionInvalid: The service refused it.
            RemoteUnavailable: No answer; find_submission tells whether it arrived.
        """
        request = competition_types.ApiStartSubmissionUploadRequest()
        request.competition_name, request.file_name = slug, csv.name
        request.content_length = csv.stat().st_size
        request.last_modified_epoch_seconds = int(csv.stat().st_mtime)
        try:
            place = self._read(
                f"upload of {csv.name}", self._competitions.start_submission_upload, request
            )
        except ReadRefused as error:
            raise SubmissionInvalid(f"{slug} takes no submission: {error.reason}.") from error
        upload_bytes(self._files, place.create_url, csv)
        submission = competition_types.ApiCreateSubmissionRequest()
        submission.competition_name, submission.blob_file_tokens = slug, place.token
        submission.submission_description = message
        try:
            answer = self._write(
                f"submission to {slug}", self._competitions.create_submission, submission
            )
        except PushRejected as error:
            raise SubmissionInvalid(error.message, error.hint) from error
        if not answer.ref:
            raise RemoteUnavailable(
                f"{slug} gave the submission no reference: {answer.message or 'no reason given'}.",
                ASK_FIRST,
            )
        return int(answer.ref)

    def submit_kernel(self, slug: str, kernel: Handle, file: str, message: str) -> int:
        """Submit the output of a kernel's version to a code competition. Sent once; its reference number.

        Raises:
            SubmissionInvalid: The service refused it.
            RemoteUnavailable: No answer; find_submission tells whether it arrived.
        """
        request = competition_types.ApiCreateCodeSubmissionRequest()
        request.competition_name, request.file_name = slug, file
        request.kernel_owner, request.kernel_slug = kernel.owner, kernel.slug
        request.kernel_version = int(kernel.version or 0)
        request.submission_description = message
        try:
            answer = self._write(
                f"submission of {kernel} to {slug}",
                self._competitions.create_code_submission,
                request,
            )
        except PushRejected as error:
            raise SubmissionInvalid(error.message, error.hint) from error
        if not answer.ref:
            raise SubmissionInvalid(
                f"{slug} gave the submission no reference: {answer.message or 'no reason given'}."
            )
        return int(answer.ref)

    def submission(self, ref: int) -> SubmissionStatus:
        """One submission by its reference."""
        request = competition_types.ApiGetSubmissionRequest()
        request.ref = ref
        answer = self._read(f"submission {ref}", self._competitions.get_submission, request)
        return _submission_status(answer)

    def submissions(self, slug: str) -> list[SubmissionStatus]:
        """All of the team's submissions, newest first, over all pages."""
        found: list[SubmissionStatus] = []
        page, token = 1, ""
        while True:
            request = competition_types.ApiListSubmissionsRequest()
            request.competition_name = slug
            request.page, request.page_token, request.page_size = page, token, PAGE_SIZE
            answer = self._read(
                f"submissions to {slug}", self._competitions.list_submissions, request
            )
            found += [_submission_status(item) for item in answer.submissions or []]
            page, token = page + 1, str(answer.next_page_token or "")
            if not token:
                return found

    def find_submission(self, slug: str, nonce: str) -> SubmissionStatus | None:
        """The submission whose description holds a nonce, or None."""
        return next((item for item in self.submissions(slug) if nonce in item.description), None)

    # ---- calls -----------------------------------------------------------------------------------

    def _read(self, what: str, method: Callable[[Any], Any], request: Any) -> Any:
        """A call that may be repeated.

        Raises:
            ReadRefused: The service answered no (4xx); ConfigError when it is the credentials.
            RemoteUnavailable: No answer after several tries.
        """
        try:
            return retrying(what, lambda: method(request))
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 401:
                raise _login_error(self.name) from error
            raise ReadRefused(what, _reason(error), status) from error

    def _find(self, what: str, method: Callable[[Any], Any], request: Any) -> Any | None:
        """A read that answers None for what is not there (or not ours: the service says 403 to both)."""
        return _or_none(lambda: self._read(what, method, request))

    def _agreed(self, what: str, method: Callable[[Any], requests.Response], request: Any) -> bytes:
        """A small file for which the service gives no hash: two equal copies vouch for each other.

        Raises:
            ReadRefused: It is not there.
            RemoteUnavailable: It comes different each time.
        """
        before: bytes | None = None
        for _ in range(COPIES_TRIED):
            try:
                content: bytes = self._read(what, whole(method), request).content
            except ReadRefused:
                if before is None:
                    raise
                continue  # it was there a moment ago
            if content == before:
                return content
            before = content
        raise RemoteUnavailable(f"The {what} comes damaged.", "Run the same command again.")

    def _agreed_text(
        self, what: str, method: Callable[[Any], requests.Response], request: Any
    ) -> str | None:
        """_agreed as text, None as in _find."""
        return _or_none(lambda: self._agreed(what, method, request).decode("utf-8", "replace"))

    def _write(self, what: str, method: Callable[[Any], Any], request: Any) -> Any:
        """A call that is sent once."""
        try:
            return method(request)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 429 or status >= 500:
                raise RemoteUnavailable(
                    f"The {what} was not answered ({_reason(error)}).", ASK_FIRST
                ) from error
            if status == 401:
                raise _login_error(self.name) from error
            raise PushRejected(f"The {what} was refused: {_reason(error)}.") from error
        except requests.RequestException as error:
            raise RemoteUnavailable(
                f"The {what} was not answered ({type(error).__name__}).", ASK_FIRST
            ) from error
        except UNREADABLE as error:
            raise RemoteUnavailable(
                f"The answer to the {what} is unreadable.", ASK_FIRST
            ) from error


def _or_none(read: Callable[[], Answer]) -> Answer | None:
    """What a read answers, or None when the service says 403 or 404."""
    try:
        return read()
    except ReadRefused as error:
        if error.status in (403, 404):
            return None
        raise


def whole(method: Callable[[Any], requests.Response]) -> Callable[[Any], requests.Response]:
    """A download that also reads the body, so that one that breaks off is tried again.

    The SDK hands the body over as a stream.
    """

    def call(request: Any) -> requests.Response:
        answer = method(request)
        _ = answer.content  # kept by the answer from here on
        return answer

    return call


def _next_page(asked: str, given: str) -> str:
    """The token of the page after this one, "" after the last; a service that leads in a circle is left."""
    if given and given == asked:
        raise RemoteUnavailable(
            "The service lists the same page again and again.", "Run the same command again later."
        )
    return given


def _reason(error: requests.HTTPError) -> str:
    return error_text(error.response).rstrip(".") if error.response is not None else str(error)


def _login_error(remote: str) -> ConfigError:
    return ConfigError(
        f"The remote {remote!r} does not accept these credentials.",
        "Create a new token on kaggle.com under Settings, API.",
    )


def _missing_source_hint(kind: str, name: str, remote: str) -> str:
    if kind == "competition":
        return _competition_hint(name, remote)
    if kind == "kernel":
        return (
            f"Check that {name} exists and that this account may read it. If it was deleted, its pulled "
            "output can travel as a dataset: HARNESS_CHAIN=dataset"
        )
    return f"Check that {name} exists and that this account may read it."


def _competition_hint(slug: str, remote: str) -> str:
    if remote == "local":
        return (
            "Add it to the local Kaggle: harness local competition add FOLDER "
            "[--solution CSV]; or see the whole loop with: harness demo"
        )
    return f"Join it and accept its rules at kaggle.com/competitions/{slug}."


def _tree(files: Sequence[tuple[Upload, str]]) -> tuple[list[Any], list[Any]]:
    """Uploaded files as the service takes them: those at the top, and folders in folders."""
    top = dataset_types.ApiUploadDirectoryInfo()
    for upload, token in files:
        place = top
        for name in filter(None, upload.folder.split("/")):
            inner = next((item for item in place.directories if item.name == name), None)
            if inner is None:
                inner = dataset_types.ApiUploadDirectoryInfo()
                inner.name = name
                place.directories = [*place.directories, inner]
            place = inner
        new_file = dataset_types.ApiDatasetNewFile()
        new_file.token = token
        place.files = [*place.files, new_file]
    return list(top.files), list(top.directories)


def _check_model_answer(handle: Handle, answer: Any) -> None:
    if answer.error or not answer.id:
        raise PushRejected(f"Model {handle} was refused: {answer.error or 'no reason given'}.")


def _check_dataset_answer(handle: Handle, answer: Any) -> None:
    if str(answer.status or "").lower() == "ok":
        return
    reason = str(answer.error or "no reason given").rstrip(".")
    hint = None
    if "title" in reason and "already in use" in reason:
        hint = f"Write another title into datasets/{handle.slug}/dataset-metadata.json."
    raise PushRejected(f"Dataset {handle} was refused: {reason}.", hint)


def _utc_text(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC; the service's times carry no zone, or UTC."""
    if moment is None or moment.year <= 1:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return zoned.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _submission_status(item: Any) -> SubmissionStatus:
    return SubmissionStatus(
        ref=int(item.ref),
        status=str(item.status.name),
        public_score=str(item.public_score or ""),
        private_score=str(item.private_score or ""),
        error=plain(str(item.error_description or "")),
        description=str(item.description or ""),
    )


def log_text(served: str) -> str:
    """Plain text of a log in Kaggle's form: a JSON array of {"stream_name", "time", "data"}."""
    try:
        entries = json.loads(served)
    except (ValueError, RecursionError):
        return served
    if not isinstance(entries, list):
        return served
    return "".join(str(entry.get("data", "")) for entry in entries if isinstance(entry, dict))


def find_credentials() -> Credentials:
    """Credentials of the real Kaggle, found by the official client in its own order.

    Raises:
        ConfigError: There are none.
    """
    hint = (
        "Create a token on kaggle.com under Settings, API, and save it as ~/.kaggle/kaggle.json "
        "(or set KAGGLE_API_TOKEN). Without an account use the local Kaggle: --remote local"
    )
    # The client prints help on stdout when it finds nothing: that is no output of ours.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
            values = dict(api.config_values)
        except SystemExit as error:
            raise ConfigError("No Kaggle credentials were found.", hint) from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise RemoteUnavailable(
                f"Kaggle's credentials could not be checked ({type(error).__name__}).",
                "Check the network, or use the local Kaggle: --remote local",
            ) from error
    username = values.get("username")
    if not username:
        raise ConfigError("No Kaggle credentials were found.", hint)
    # Only a token that the client has found valid: an expired one would win over a good key.
    return Credentials(username=username, key=values.get("key"), token=values.get("token"))
