"""The HTTP side: one threaded server, its doors, and what is let through them.

Only loopback names are answered, whatever a request says its target is, and nothing is ever
forwarded, because the official client is pointed here by a proxy setting: a stray call for the real
service must end here.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hmac
import ipaddress
import json
import logging
import os
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

from kagglesdk.kaggle_object import KaggleObject
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wrappers import Request, Response

from harness.emulator import blobs, downloads, faults, files, pages, wire
from harness.emulator.clock import Clock
from harness.emulator.errors import ApiError, StateError, bad_request, not_found
from harness.emulator.routes import Context, all_routes
from harness.emulator.routes_kernels import stream_logs
from harness.emulator.state import State, replace_file

log = logging.getLogger(__name__)

HANDSHAKE = "/__emu__"
_JSON_LIMIT = 64 << 20
_DRAIN_LIMIT = 64 << 20
_IDLE_S = 300
_REALM = 'Basic realm="Local Kaggle: any name, and the token as password", charset="UTF-8"'


class _Handler(WSGIRequestHandler):
    """HTTP/1.1, silent, and not waiting forever for a client that says nothing."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002 (given)
        """Tell of a request only when somebody wants to debug."""
        # A request whose first line makes no sense has neither.
        known = vars(self)
        log.debug("%s %s -> %s", known.get("command"), known.get("path"), code)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed first line with a status too, and call it the client's mistake."""
        # Otherwise it is taken for HTTP/0.9, whose answers have no status.
        self.request_version = self.protocol_version
        super().send_error(400 if code == 505 else code, message, explain)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, ARG002 (given)
        """Keep the web server's own lines off the terminal."""
        log.debug(message, *args)


class _ThreadedServer(ThreadedWSGIServer):
    """Threads that do not keep the process alive, and room for many clients at once."""

    daemon_threads = True
    request_queue_size = 256

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002, ARG002 (given)
        """Keep the web server's own lines off the terminal."""
        log.debug(message, *args)


class Server:
    """A local Kaggle on a port, over a state folder.

    Several servers may stand on one folder. The one with `owner` announces itself in
    `server.json`, so that `connect` finds it, and there is at most one of those.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        owner: bool = True,
        *,
        extra_env: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare a server; `start` opens the port.

        Args:
            folder: The state folder.
            host: Address to listen on; another than loopback demands the folder's own key.
            port: Port to listen on; 0 takes the last one used if it is free, or any.
            owner: Whether to announce this server as the folder's own.
            extra_env: Environment variables for kernels pushed through this server.
            clock: Where the time comes from.
        """
        self.state = State(folder, clock)
        self.host = host
        self._wanted_port = port
        self._owner = owner
        self._owner_lock: IO[str] | None = None
        self._env = dict(extra_env or {})
        self._nonce = secrets.token_hex(16)
        self._http: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self._routes = all_routes()

    # -- life -------------------------------------------------------------------------------

    def start(self) -> Server:
        """Open the port and serve in a thread.

        Raises:
            StateError: If another server owns the folder, or the port cannot be had.
        """
        if self._http is not None:
            return self
        if self._owner:
            self._own()
        try:
            self._http = self._listen()
        except (OSError, SystemExit) as problem:
            self._disown()
            raise StateError(
                f"cannot listen on {self.host}:{self._wanted_port}: {problem}"
            ) from problem
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        self.state.put_setting("last_port", self.port)
        if self._owner:
            replace_file(
                self.state.folder / "server.json",
                json.dumps({"url": self.url, "pid": os.getpid(), "nonce": self._nonce}),
            )
        return self

    def stop(self) -> None:
        """Close the port; kernels go on."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        self._disown()
        self.state.close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that is open."""
        if self._http is None:
            raise StateError("the server is not started")
        return int(self._http.port)

    @property
    def url(self) -> str:
        """Scheme, address and port; the API's base is this and `/api/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def _own(self) -> None:
        lock = (self.state.folder / "server.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            lock.close()
            raise StateError(
                f"another server already owns {self.state.folder}; stop it, or use another folder"
            ) from problem
        self._owner_lock = lock

    def _disown(self) -> None:
        if self._owner_lock is not None:
            (self.state.folder / "server.json").unlink(missing_ok=True)
            self._owner_lock.close()
            self._owner_lock = None

    def _listen(self) -> BaseWSGIServer:
        """Open the port: the one asked for, else the last one, else any."""
        ports = [self._wanted_port]
        if not self._wanted_port:
            # Upload addresses that were handed out before a restart then still work.
            last = self.state.setting("last_port")
            ports = [last, 0] if last else [0]
        for port in ports[:-1]:
            with contextlib.suppress(OSError):
                return self._bind(port)
        return self._bind(ports[-1])

    def _bind(self, port: int) -> BaseWSGIServer:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # werkzeug ends the process when a port is taken, so the socket is opened here.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((self.host, port))
            probe.listen(256)
            return _ThreadedServer(self.host, port, self._application, _Handler, fd=probe.fileno())

    # -- requests ---------------------------------------------------------------------------

    def _application(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        request = Request(environ)
        response = self._respond(request)
        if response is None:
            _hang_up(environ)
            return []
        if not response.is_streamed or environ["REQUEST_METHOD"] != "PUT":
            _drain(request)
        body: Iterable[bytes] = response(environ, start_response)
        return body

    def _respond(self, request: Request) -> Response | None:
        """Answer a request, or None to drop the connection."""
        path = "?"
        try:
            path = self._check_target(request)
            # The control path and the pages must always answer, whatever `*/*` was armed with.
            mine = path.startswith(HANDSHAKE) or pages.is_page(path)
            hits = [] if mine else faults.take(self.state, self._name(request, path))
            return _Faulty(self, request, hits).respond(lambda: self._route(request, path))
        except ApiError as problem:
            return self._error(problem)
        except HTTPException as problem:
            return self._error(ApiError(problem.code or 500, problem.description or problem.name))
        except ConnectionError:
            return None
        except (OSError, sqlite3.OperationalError) as problem:
            log.error("%s %s: %s", request.method, path, problem)
            return self._error(ApiError(507, f"The local Kaggle cannot write: {problem}"))
        except Exception:
            log.exception("%s %s failed", request.method, path)
            return self._error(ApiError(500, "Internal error of the local Kaggle"))

    def _error(self, problem: ApiError) -> Response:
        body = json.dumps(problem.body(self.state.options.error_shape))
        return Response(body, problem.status, problem.headers, content_type="application/json")

    def _check_target(self, request: Request) -> str:
        """Refuse what is not meant for this server, and give the path.

        Raises:
            ApiError: With status 501 for a tunnel, 403 for another host.
        """
        if request.method == "CONNECT":
            log.warning("refused to tunnel to %s", request.environ.get("REQUEST_URI"))
            raise ApiError(501, "The local Kaggle does not tunnel to other servers")
        host = request.environ.get("HTTP_HOST", "")
        if not self._is_ours(host):
            log.warning("refused a request for %s", host)
            raise ApiError(403, f"The local Kaggle does not answer for {host or 'no host'!r}")
        path: str = request.path
        if "\x00" in path:
            raise bad_request("the path contains a NUL character")
        return path

    def _is_ours(self, authority: str) -> bool:
        try:
            name = urlsplit(f"//{authority}").hostname
        except ValueError:
            return False
        if not name:
            return False
        if name in ("localhost", self.host):
            return True
        # A server that was opened to others asks for its own key instead of trusting names.
        opened = not self._is_loopback()
        try:
            return ipaddress.ip_address(name).is_loopback or opened
        except ValueError:
            return opened and name == socket.gethostname().lower()

    def _name(self, request: Request, path: str) -> str:
        """Name a request as fault patterns do."""
        rest = _api_path(path)
        if rest is None:
            return f"{request.method} /{path.split('/')[1] if '/' in path else ''}"
        return "GET /logs" if rest.startswith("kernels/logs/") else rest

    def _route(self, request: Request, path: str) -> Response:
        if path.rstrip("/") == HANDSHAKE and request.method == "GET":
            return _json({"nonce": self._nonce, "identity": self.state.identity})
        if path.startswith(f"{HANDSHAKE}/faults"):
            self._authenticate(request)
            return self._control_faults(request)
        page = self._page(request, path)
        if page is not None:
            return page
        if path.startswith("/upload/"):
            return self._upload(request, path.removeprefix("/upload/"))
        if path.startswith("/files/"):
            return self._file(request, path)
        rest = _api_path(path)
        if rest is None:
            log.warning("no such address: %s %s", request.method, path)
            raise not_found(f"Not found: {path}")
        if rest.startswith("kernels/logs/stream/"):
            return self._stream(request, rest)
        if request.method != "POST":
            raise ApiError(405, "API methods are called with POST")
        return self._call(request, rest)

    def _page(self, request: Request, path: str) -> Response | None:
        """Answer the address of a page for people; when others may reach it, with a login."""
        if not pages.is_page(path):
            return None
        if not self._is_loopback():
            self._authenticate(request)
        return pages.show(self.state, request, path)

    def _call(self, request: Request, name: str) -> Response:
        """Run one API method."""
        route = self._routes.get(name)
        if route is None:
            log.warning("API method %s is not answered", name)
            raise not_found(f"The local Kaggle has no method {name}")
        user, key = ("", "") if route.open else self._authenticate(request)
        message = wire.parse(route.message, _read_json(request))
        answer = route.handler(self._context(request, user, key), message)
        if isinstance(answer, Response):
            return answer
        return _json(wire.render(answer) if isinstance(answer, KaggleObject) else answer)

    def _context(self, request: Request, user: str, key: str) -> Context:
        # The authority was checked; through a proxy setting it is plain `localhost`.
        base = f"http://{request.environ['HTTP_HOST']}"
        return Context(self.state, request, user, key, base, self._env, not self._is_loopback())

    def _authenticate(self, request: Request) -> tuple[str, str]:
        """Give the account of a request and its key.

        Raises:
            ApiError: With status 401.
        """
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        user, key = "", value.strip()
        if kind.lower() == "basic":
            try:
                text = base64.b64decode(value.strip(), validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                text = ""
            user, _, key = text.partition(":")
        elif kind.lower() == "bearer":
            user = self.state.options.username
        user = user.lower()
        known = bool(key) and user.replace("-", "").replace("_", "").isalnum() and user.isascii()
        if not known or "\x00" in key or self.state.is_revoked(key):
            raise ApiError(401, "Unauthenticated", {"WWW-Authenticate": _REALM})
        if not self._is_loopback() and not self.state.knows_key(key):
            raise ApiError(401, "Unauthenticated", {"WWW-Authenticate": _REALM})
        return user, key

    def _is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def _stream(self, request: Request, rest: str) -> Response:
        parts = rest.removeprefix("kernels/logs/stream/").split("/")
        if request.method != "GET" or len(parts) != 2:
            raise not_found("Not found")
        user, key = self._authenticate(request)
        return stream_logs(self._context(request, user, key), parts[0], parts[1])

    def _file(self, request: Request, path: str) -> Response:
        parts = path.removeprefix("/files/").split("/", 3)
        if request.method not in ("GET", "HEAD") or len(parts) != 4:
            raise not_found("File not found")
        if not hmac.compare_digest(
            parts[0].encode(), self.state.sign("/".join(parts[1:])).encode()
        ):
            raise not_found("File not found")
        return files.send(request, downloads.open_address(self.state, *parts))

    # -- uploads ----------------------------------------------------------------------------

    def _upload(self, request: Request, token: str) -> Response:
        """Take bytes, or tell how many there are; the resumable protocol of cloud storage."""
        upload = blobs.find(self.state, token)
        if request.method not in ("PUT", "POST"):
            raise ApiError(405, "Uploads are sent with PUT")
        header = request.headers.get("Content-Range", "")
        offset = 0
        if header:
            start, total = _content_range(header)
            if total is not None and total != upload.size:
                raise bad_request(f"the upload was announced with {upload.size} bytes")
            if start is None:
                return self._upload_state(upload)
            offset = start
        done = blobs.append(self.state, upload, _body(request), offset)
        return Response(b"", 200) if done else self._upload_state(upload)

    def _upload_state(self, upload: blobs.Upload) -> Response:
        upload = blobs.find(self.state, upload.token)
        have = blobs.received(self.state, upload)
        if upload.sha256 is None and upload.size == 0:
            blobs.append(self.state, upload, [], 0)
        if upload.sha256 is not None or upload.size == 0:
            return Response(b"", 200)
        return Response(b"", 308, {"Range": f"bytes=0-{have - 1}"} if have else {})

    # -- faults -----------------------------------------------------------------------------

    def _control_faults(self, request: Request) -> Response:
        """Let a test in any language arm (POST), list (GET) and clear (DELETE) faults."""
        if request.method == "POST":
            order = _read_json(request)
            if not isinstance(order, dict):
                raise bad_request("the request body must be a JSON object")
            counts = {key: int(order.pop(key)) for key in ("times", "skip") if key in order}
            try:
                if "switch" in order:
                    faults.switch(self.state, order.pop("switch"), **counts, **order)
                else:
                    faults.add(
                        self.state, order["pattern"], order["kind"], order.get("args"), **counts
                    )
            except (ValueError, KeyError, TypeError) as problem:
                raise bad_request(f"no such fault: {problem}") from problem
        elif request.method == "DELETE":
            faults.clear(self.state)
        return _json({"faults": faults.listed(self.state)})


class _Faulty:
    """Plays the faults that hit one request."""

    def __init__(self, server: Server, request: Request, hits: list[faults.Fault]) -> None:
        self._server = server
        self._request = request
        self._hits = hits

    def respond(self, act: Callable[[], Response]) -> Response | None:
        """Answer as the faults say, acting or not."""
        lost, after = False, []
        for hit in self._hits:
            if hit.kind == "slow":
                self._sleep(float(hit.args.get("seconds", 1.0)))
            elif hit.kind == "drop":
                return None
            elif hit.kind == "error":
                return self._error(hit.args)
            elif hit.kind == "answer":
                return _json(hit.args.get("body", {}))
            elif hit.kind == "lost_ack":
                lost = True
            elif hit.kind == "cut" and self._request.method == "PUT":
                self._request.environ["emulator.cut"] = int(hit.args.get("bytes", 0))
            else:
                after.append(hit)
        response = act()
        if lost:
            return None
        # What is cut or corrupted can no longer be patched.
        for hit in sorted(after, key=lambda hit: hit.kind != "patch"):
            response = self._spoil(response, hit)
        return response

    def _sleep(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        end = time.monotonic() + seconds
        while self._server._http is not None and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _error(self, args: dict[str, Any]) -> Response:
        headers = {"Retry-After": str(args["retry_after"])} if "retry_after" in args else {}
        status = int(args.get("status", 500))
        return self._server._error(
            ApiError(status, args.get("message", "fault of the local Kaggle"), headers)
        )

    def _spoil(self, response: Response, hit: faults.Fault) -> Response:
        if hit.kind == "patch":
            body = json.loads(response.get_data() or b"{}")
            return _json(_overlay(body, hit.args.get("body", {})), response.status_code)
        if hit.kind == "cut":
            response.response = _cut(
                response.response, int(hit.args.get("bytes", 0)), self._request.environ
            )
        elif hit.kind == "corrupt":
            response.response = _corrupt(response.response, int(hit.args.get("at", 0)))
        return response


def _overlay(value: Any, patch: Any) -> Any:
    """Lay a patch over JSON; the key `*` stands for every item of a list."""
    if isinstance(value, list) and isinstance(patch, dict) and "*" in patch:
        return [_overlay(item, patch["*"]) for item in value]
    if isinstance(value, dict) and isinstance(patch, dict):
        return {**value, **{key: _overlay(value.get(key), patch[key]) for key in patch}}
    return patch


def _cut(body: Iterable[Any], limit: int, environ: dict[str, Any]) -> Iterator[bytes]:
    for chunk in body:
        part = chunk[:limit]
        limit -= len(part)
        if part:
            yield part
        if limit <= 0:
            break
    _hang_up(environ)


def _corrupt(body: Iterable[Any], at: int) -> Iterator[bytes]:
    for chunk in body:
        data = bytearray(chunk)
        if 0 <= at < len(data):
            data[at] ^= 0xFF
        at -= len(data)
        yield bytes(data)


def _hang_up(environ: dict[str, Any]) -> None:
    """Close the connection under the client."""
    connection: socket.socket = environ["werkzeug.socket"]
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _api_path(path: str) -> str | None:
    for prefix in ("/api/v1/", "/v1/"):
        if path.startswith(prefix):
            return path[len(prefix) :]
    return None


def _json(data: object, status: int = 200) -> Response:
    return Response(json.dumps(data), status, content_type="application/json")


def _read_json(request: Request) -> object:
    body = b""
    for chunk in _body(request):
        body += chunk
        if len(body) > _JSON_LIMIT:
            raise ApiError(413, f"the request is larger than {_JSON_LIMIT} bytes")
    try:
        return json.loads(body or b"{}")
    except (ValueError, RecursionError) as problem:
        raise bad_request("the request body is not valid JSON") from problem


def _body(request: Request) -> Iterator[bytes]:
    """Give the request's body as it comes, chunked or with a length."""
    environ = request.environ
    if environ.get("emulator.drained"):
        return
    environ["emulator.drained"] = True
    stream = environ["wsgi.input"]
    cut = environ.get("emulator.cut")
    left = None if environ.get("wsgi.input_terminated") else (request.content_length or 0)
    while left is None or left > 0:
        size = blobs.CHUNK if left is None else min(blobs.CHUNK, left)
        if cut is not None:
            size = min(size, max(cut, 1))
        try:
            chunk = stream.read(size) if left is None else stream.read1(size)
        except (OSError, ValueError):
            return
        if not chunk:
            return
        if left is not None:
            left -= len(chunk)
        if cut is not None:
            if cut <= 0:
                _hang_up(environ)
                raise ConnectionError("cut by a fault")
            cut -= len(chunk)
        yield chunk


def _drain(request: Request) -> None:
    """Read what is left of a body, so that the client reads the answer and not a reset."""
    total = 0
    for chunk in _body(request):
        total += len(chunk)
        if total > _DRAIN_LIMIT:
            return


def _content_range(header: str) -> tuple[int | None, int | None]:
    """Read `bytes a-b/N` or `bytes */N`; the start is None for a question about the state."""
    unit, _, rest = header.partition(" ")
    span, _, total = rest.partition("/")
    try:
        if unit != "bytes":
            raise ValueError(unit)
        size = None if total == "*" else int(total)
        if span == "*":
            return None, size
        start, end = (int(part) for part in span.split("-"))
        if start < 0 or end < start or (size is not None and end >= size):
            raise ValueError(span)
    except ValueError as problem:
        raise bad_request(f"cannot read Content-Range {header!r}") from problem
    return start, size
