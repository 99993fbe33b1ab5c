"""Sending files: length, Range, If-Range, ETag and Last-Modified, without authentication.

An address carries a signature instead, `/files/<signature>/<kind>/<id>/<path>`, so it cannot be
guessed, needs no table, and is good on every server that stands on the same state folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from werkzeug.http import http_date, parse_date, quote_etag, unquote_etag
from werkzeug.wrappers import Request, Response

from harness.emulator.errors import not_found
from harness.emulator.state import State
from harness.emulator.zipstream import ZipPlan, _read_file


@dataclass(frozen=True)
class Content:
    """Something that can be sent, wholly or in part."""

    size: int
    etag: str
    modified: float
    read: Callable[[int, int], Iterator[bytes]]


def of_file(path: Path, etag: str | None = None, modified: float | None = None) -> Content:
    """Describe a file on disk.

    Raises:
        ApiError: With status 404 if it is not there.
    """
    try:
        facts = path.stat()
    except OSError as problem:
        raise not_found("File not found") from problem
    tag = etag or hashlib.sha256(f"{facts.st_size}:{facts.st_mtime_ns}".encode()).hexdigest()
    return Content(
        facts.st_size,
        tag[:32],
        facts.st_mtime if modified is None else modified,
        lambda start, stop: _read_file(path, start, stop),
    )


def of_zip(plan: ZipPlan, etag: str, modified: float) -> Content:
    """Describe an archive made on the fly."""
    return Content(plan.size, hashlib.sha256(etag.encode()).hexdigest()[:32], modified, plan.read)


def address(state: State, base: str, kind: str, owner: str | int, path: str) -> str:
    """Make the absolute, signed address of a file."""
    signature = state.sign(f"{kind}/{owner}/{path}")
    return f"{base}/files/{signature}/{kind}/{owner}/{quote(path)}"


def send(
    request: Request, content: Content, media_type: str = "application/octet-stream"
) -> Response:
    """Answer a GET or HEAD, honouring one byte range."""
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": quote_etag(content.etag),
        "Last-Modified": http_date(content.modified),
    }
    start, stop, status = 0, content.size, 200
    wanted = request.range
    if (
        wanted is not None
        and wanted.units == "bytes"
        and len(wanted.ranges) == 1
        and _fresh(request, content)
    ):
        span = wanted.range_for_length(content.size)
        if span is None:
            headers["Content-Range"] = f"bytes */{content.size}"
            return Response(b"", 416, headers, content_type=media_type)
        start, stop = span
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    headers["Content-Length"] = str(stop - start)
    body = [] if request.method == "HEAD" else content.read(start, stop)
    return Response(body, status, headers, content_type=media_type, direct_passthrough=True)


def _fresh(request: Request, content: Content) -> bool:
    """Tell whether an If-Range condition, when there is one, still describes the file."""
    condition = request.headers.get("If-Range")
    if condition is None:
        return True
    date = parse_date(condition)
    if date is not None:
        return int(date.timestamp()) == int(content.modified)
    return unquote_etag(condition)[0] == content.etag
