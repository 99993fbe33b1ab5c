"""Bytes to and from an endpoint: one session with timeouts, resumable uploads, checked downloads.

Reads are retried with back-off that honours Retry-After. Writes are sent once: whether an unanswered
write arrived is for the caller to ask. The official client checks neither status nor length of what it
fetches and drops files whose upload failed; nothing of that kind passes here unnoticed.
"""

import hashlib
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

from harness.durable import settle
from harness.errors import ConfigError, ContractError, PushRejected, RemoteUnavailable
from kernels.contract import sha256_file

Answer = TypeVar("Answer")

LOGGER = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0  # between two bytes, not for a whole transfer
READ_ATTEMPTS = 6
LONGEST_WAIT_S = 60.0
UPLOAD_ROUNDS = 10
CHUNK = 1 << 20

TRANSIENT = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
RETRIED_STATUS = (429, 500, 502, 503, 504, 507)
# What the SDK raises when an answer was cut or damaged: half of a JSON, or a field of another type.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class _TimeoutAdapter(HTTPAdapter):
    """Every request gets a timeout: kagglesdk sends none."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        return super().send(request, *args, **kwargs)


def new_session(*, trust_environment: bool) -> requests.Session:
    """A session with timeouts. Untrusting sessions use no proxy, netrc or certificate from outside."""
    session = requests.Session()
    session.trust_env = trust_environment
    session.mount("http://", _TimeoutAdapter())
    session.mount("https://", _TimeoutAdapter())
    return session


def error_text(response: requests.Response) -> str:
    """The service's own reason, from either shape of its error bodies, else the status line."""
    try:
        body = response.json()
    except (ValueError, requests.RequestException):  # no JSON, or it broke off
        return f"{response.status_code} {response.reason}"
    if isinstance(body, dict):
        inner = body.get("error")
        if isinstance(inner, dict) and inner.get("message"):
            return str(inner["message"])
        if body.get("message"):
            return str(body["message"])
    return f"{response.status_code} {response.reason}"


def retry_wait(attempt: int, response: requests.Response | None) -> float:
    """Seconds before the next try: Retry-After when given, else exponential with jitter."""
    if response is not None and (asked := response.headers.get("Retry-After")):
        try:
            wait = float(asked)
        except ValueError:
            try:
                date = parsedate_to_datetime(asked)
                # "-0000" dates carry no zone; HTTP's are in GMT.
                wait = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
            except (ValueError, OverflowError):
                wait = 1.0
        return min(max(wait, 0.0), LONGEST_WAIT_S) if math.isfinite(wait) else 1.0
    return min(0.5 * 2.0**attempt, LONGEST_WAIT_S) * random.uniform(0.7, 1.3)


def retrying(what: str, call: Callable[[], Answer]) -> Answer:
    """Repeat an idempotent call on connection errors, 429 and 5xx.

    Raises:
        RemoteUnavailable: After the last attempt, with the last reason.
        requests.HTTPError: At once, for any other status.
    """
    reason = ""
    for attempt in range(READ_ATTEMPTS):
        response: requests.Response | None = None
        try:
            return call()
        except requests.HTTPError as error:
            response = error.response
            if response is None or response.status_code not in RETRIED_STATUS:
                raise
            reason = error_text(response)
        except TRANSIENT as error:
            reason = f"{type(error).__name__}"
        except UNREADABLE:
            reason = "an unreadable answer"
        if attempt + 1 < READ_ATTEMPTS:
            wait = retry_wait(attempt, response)
            LOGGER.info("%s: %s; trying again in %.1f s", what, reason, wait)
            time.sleep(wait)
    raise RemoteUnavailable(
        f"{what} failed {READ_ATTEMPTS} times ({reason}).", "Run the same command again later."
    )


class Sending:
    """A file as a request's body, from an offset on: counts what goes out and hashes what is read.

    What lies before the offset is hashed from the disk too, so that the hash is that of the whole file.
    """

    def __init__(self, path: Path, offset: int, sent: Callable[[int], None]) -> None:
        self._handle = path.open("rb")
        self._sent = sent
        self._digest = hashlib.sha256()
        self._left = path.stat().st_size - offset
        while offset > 0 and (chunk := self._handle.read(min(CHUNK, offset))):
            self._digest.update(chunk)
            offset -= len(chunk)

    def __enter__(self) -> "Sending":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def __len__(self) -> int:
        return self._left

    def __iter__(self) -> Iterator[bytes]:  # what tells requests that this is a stream
        while chunk := self.read(CHUNK):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as a file gives them."""
        chunk = self._handle.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(chunk)
        self._digest.update(chunk)
        self._sent(len(chunk))
        return chunk

    @property
    def sha256(self) -> str:
        """Of everything before the offset and everything read since."""
        return self._digest.hexdigest()


def upload(
    session: requests.Session,
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    begun: bool = False,
    sent: Callable[[int], None] = lambda _: None,
) -> None:
    """PUT a file to an upload URL, resuming where the server says it stopped.

    Args:
        sha256: What the file's content must be while it is sent.
        begun: An earlier process may have sent a part: ask before sending.
        sent: Told the size of every piece that goes out.

    Raises:
        RemoteUnavailable: The transfer did not complete within the allowed rounds.
        PushRejected: The server refused the bytes.
        ConfigError: The file is not what it was when its hash was taken.
    """
    size = path.stat().st_size
    offset = 0
    for round_number in range(UPLOAD_ROUNDS):
        if round_number or begun:
            # A failed round may still have arrived, in part or whole: ask before sending again.
            if round_number:
                time.sleep(retry_wait(min(round_number - 1, 4), None))
            try:
                query = session.put(url, data=b"", headers={"Content-Range": f"bytes */{size}"})
            except TRANSIENT:
                continue
            if query.status_code in (200, 201):
                if sha256 is not None:
                    _check_unchanged(path, sha256, sha256_file(path))
                return
            if query.status_code == 308:
                last = query.headers.get("Range", "").rpartition("-")[2]
                offset = min(int(last) + 1, size) if last.isdecimal() else 0
            elif query.status_code in RETRIED_STATUS:
                continue
            else:
                raise _refusal(path, sha256, query)
        try:
            headers = {"Content-Length": str(size - offset)}
            if offset:
                headers["Content-Range"] = f"bytes {offset}-{size - 1}/{size}"
            with Sending(path, offset, sent) as body:
                response = session.put(url, data=body if size > offset else b"", headers=headers)
                whole = body.sha256
        except TRANSIENT as error:
            LOGGER.info("upload of %s broke off (%s)", path.name, type(error).__name__)
            continue
        if response.status_code in (200, 201):
            if sha256 is not None:
                _check_unchanged(path, sha256, whole)
            return
        if response.status_code not in RETRIED_STATUS and response.status_code != 308:
            raise _refusal(path, sha256, response)
    raise RemoteUnavailable(
        f"Upload of {path.name} ({size} bytes) did not complete.", "Run the same command again."
    )


def _refusal(path: Path, expected: str | None, answer: requests.Response) -> PushRejected:
    """The server's refusal; ConfigError for a file that grew or shrank, whose length it refuses."""
    if expected is not None:
        _check_unchanged(path, expected, sha256_file(path))
    return PushRejected(f"Upload of {path.name} was refused: {error_text(answer)}.")


def _check_unchanged(path: Path, expected: str, found: str) -> None:
    if found != expected:
        raise ConfigError(
            f"{path} changed while it was sent; nothing was published.",
            "Run the same command again once it is written.",
        )


def download(
    session: requests.Session,
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    limit: int | None = None,
) -> None:
    """GET a file to a temporary name, check status, length and hash, then rename it into place.

    Args:
        size: Bytes it must have, when known.
        sha256: Hash it must have, when known.
        limit: Bytes it may have at most.

    Raises:
        RemoteUnavailable: It could not be fetched whole.
        ContractError: It was fetched whole and is not what it should be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    mismatch = ""
    for attempt in range(READ_ATTEMPTS):
        response: requests.Response | None = None
        try:
            with session.get(url, stream=True, headers={"Accept-Encoding": "identity"}) as response:
                response.raise_for_status()
                announced = response.headers.get("Content-Length")
                digest, count = hashlib.sha256(), 0
                with partial.open("wb") as handle:
                    for chunk in response.iter_content(CHUNK):
                        count += len(chunk)
                        if limit is not None and count > limit:
                            raise ContractError(f"{target.name} is larger than {limit} bytes.")
                        if size is not None and count > size:
                            announced = None  # more than there should be: no need to fill the disk
                            break
                        digest.update(chunk)
                        handle.write(chunk)
                    handle.flush()
                    os.fsync(handle.fileno())
            if announced is not None and announced.isdecimal() and count != int(announced):
                raise requests.ConnectionError(f"{count} of {announced} bytes")
        except requests.HTTPError as error:
            if error.response.status_code not in RETRIED_STATUS:
                raise ContractError(
                    f"{target.name} cannot be fetched: {error_text(error.response)}."
                ) from error
            mismatch = error_text(error.response)
        except TRANSIENT as error:
            mismatch = str(error) or type(error).__name__
        else:
            if size is not None and count != size:
                mismatch = f"{count} bytes came, {size} were expected"
            elif sha256 is not None and digest.hexdigest() != sha256:
                mismatch = f"sha256 is {digest.hexdigest()[:12]}, expected {sha256[:12]}"
            else:
                settle(partial, target)
                return
            # Whole but wrong: bytes may have been damaged on the way, so one more try is fair.
            if attempt >= 1:
                partial.unlink(missing_ok=True)
                raise ContractError(f"{target.name}: {mismatch}.", "Run the kernel again.")
        time.sleep(retry_wait(attempt, response))
    partial.unlink(missing_ok=True)
    raise RemoteUnavailable(
        f"{target.name} could not be fetched ({mismatch}).", "Run the same command again."
    )
