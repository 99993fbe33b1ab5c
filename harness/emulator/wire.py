"""Kaggle's JSON, in and out, through the SDK's own message classes.

The classes accept almost anything, so `parse` checks types first and answers 400 where the real
service would. `render` leaves out what is at its default, as the service does, and never writes a
null: a null list crashes the official client.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

from kagglesdk import kaggle_object as ko

from harness.emulator.errors import bad_request

Message = TypeVar("Message", bound=ko.KaggleObject)
Item = TypeVar("Item")

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 200
_INT_LIMIT = 2**63


def parse(kind: type[Message], data: object) -> Message:
    """Build a message from decoded JSON.

    Raises:
        ApiError: With status 400 when a field has the wrong type or an unknown enum name.
    """
    if not isinstance(data, dict):
        raise bad_request("the request body must be a JSON object")
    present = {key: value for key, value in data.items() if value is not None}
    for field in kind._fields:
        if field.json_name in present:
            _check(field.serializer, field.field_type, present[field.json_name], field.json_name)
    try:
        message: Message = kind.from_dict(_without_nulls(present))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as problem:
        raise bad_request(f"the request could not be read: {problem}") from problem
    return message


def _without_nulls(value: Any) -> Any:
    """Drop nulls inside objects; the service treats them as absent."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _check(serializer: Any, kind: Any, value: Any, name: str) -> None:
    """Refuse a value that the field's serializer would mangle or crash on."""
    if isinstance(serializer, ko.ListSerializer):
        if not isinstance(value, list):
            raise bad_request(f"{name} must be a list")
        inner = (
            ko.KaggleObjectSerializer()
            if isinstance(kind, type) and issubclass(kind, ko.KaggleObject)
            else _scalar_serializer(kind)
        )
        for item in value:
            _check(inner, kind, item, name)
    elif isinstance(serializer, ko.KaggleObjectSerializer):
        if not isinstance(value, dict):
            raise bad_request(f"{name} must be an object")
        for field in kind._fields:
            if value.get(field.json_name) is not None:
                _check(
                    field.serializer,
                    field.field_type,
                    value[field.json_name],
                    f"{name}.{field.json_name}",
                )
    elif isinstance(serializer, ko.EnumSerializer):
        _check_enum(serializer, kind, value, name)
    elif isinstance(serializer, ko.MapSerializer):
        if not isinstance(value, dict):
            raise bad_request(f"{name} must be an object")
    elif isinstance(serializer, ko.PredefinedSerializer):
        _check_scalar(kind, value, name)
    elif not isinstance(value, str):
        raise bad_request(f"{name} must be a string")


def _check_enum(serializer: Any, kind: Any, value: Any, name: str) -> None:
    """Refuse names that the SDK's lenient matching turns into something that is no member."""
    try:
        good = isinstance(value, str) and isinstance(serializer.from_dict_value(kind, value), kind)
    except (KeyError, AttributeError, TypeError):
        good = False
    if not good:
        raise bad_request(f"{name} must be the name of a {kind.__name__}")


def _scalar_serializer(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ko.EnumSerializer()
    return ko.PredefinedSerializer()


def _check_scalar(kind: Any, value: Any, name: str) -> None:
    good = {
        str: isinstance(value, str),
        bool: isinstance(value, bool),
        int: isinstance(value, int)
        and not isinstance(value, bool)
        and -_INT_LIMIT <= value < _INT_LIMIT,
        float: isinstance(value, int | float) and not isinstance(value, bool),
    }
    if not good.get(kind, True):
        raise bad_request(f"{name} must be of type {kind.__name__}")
    if isinstance(value, str):
        if "\x00" in value:
            raise bad_request(f"{name} contains a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError as problem:
            raise bad_request(f"{name} is not valid Unicode") from problem


def render(message: ko.KaggleObject) -> dict[str, Any]:
    """Give the JSON object of a message, defaults left out."""
    answer: dict[str, Any] = message.to_dict()
    return answer


def duration(span: timedelta) -> str:
    """Write a duration as `5400s`; the SDK's own serializer loses whole days."""
    seconds = span.total_seconds()
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:.3f}s"


def page(items: Sequence[Item], token: str, size: int | None) -> tuple[list[Item], str]:
    """Cut one page out of a list.

    Returns:
        The items of the page, and the token of the next one, empty on the last page.

    Raises:
        ApiError: With status 400 for a token that is not ours, or a size below zero.
    """
    start = 0
    if token:
        if not (token.isascii() and token.isdigit() and len(token) < 12):
            raise bad_request("invalid page token")
        start = int(token)
    if size is not None and size < 0:
        raise bad_request("the page size must not be negative")
    count = min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    after = start + count
    return list(items[start:after]), str(after) if after < len(items) else ""
