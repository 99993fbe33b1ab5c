"""Two kinds of no: what a client asked for, and what was wrong with the setup.

`ApiError` becomes an HTTP answer in one of Kaggle's two shapes. `StateError` is for the person or
program that runs the local Kaggle, and never reaches the wire.
"""

from __future__ import annotations

from typing import Any

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class StateError(ValueError):
    """The state folder, or what was put into it, is not usable as asked."""


class ApiError(Exception):
    """An answer with an HTTP status of 400 or more.

    Attributes:
        status: The HTTP status.
        message: What the client is told.
        headers: Extra headers, such as Retry-After.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}

    def body(self, shape: str) -> dict[str, Any]:
        """Build the JSON body; the real service nests it, older ones were flat."""
        if shape == "flat":
            return {"code": self.status, "message": self.message}
        name = _STATUS_NAMES.get(self.status, "UNKNOWN")
        return {"error": {"code": self.status, "message": self.message, "status": name}}


def bad_request(message: str) -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, message)


def forbidden(message: str) -> ApiError:
    """The account may not do that."""
    return ApiError(403, message)


def not_found(message: str) -> ApiError:
    """There is no such thing, or it belongs to somebody else and is private."""
    return ApiError(404, message)
