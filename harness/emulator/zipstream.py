"""A zip archive that exists only as a plan: headers in memory, file bodies read when asked for.

Members are stored, not compressed, so every offset is known beforehand: the answer has a length,
can be resumed with Range, needs no disk and no memory, and is the same bytes each time.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_CHUNK = 1 << 20
_FULL_32 = 0xFFFFFFFF
_UTF8_NAMES = 0x800
_REGULAR_FILE = 0o100644 << 16


@dataclass(frozen=True)
class Member:
    """One file of the archive."""

    name: str
    path: Path
    size: int
    crc32: int


class ZipPlan:
    """The layout of an archive: pieces that are either bytes or files, with their offsets."""

    def __init__(self, members: list[Member], moment: datetime) -> None:
        """Lay out the members in order, all dated at one moment."""
        self._pieces: list[bytes | Member] = []
        self._starts: list[int] = []
        self.size = 0
        directory = b""
        for member in members:
            directory += self._add(member, moment)
        self._append(directory + self._end(len(members), len(directory)))

    def _append(self, piece: bytes | Member) -> None:
        self._pieces.append(piece)
        self._starts.append(self.size)
        self.size += len(piece) if isinstance(piece, bytes) else piece.size

    def _add(self, member: Member, moment: datetime) -> bytes:
        """Append a member and give its entry in the central directory."""
        name = member.name.encode()
        year = min(max(moment.year, 1980), 2107)
        date = (year - 1980) << 9 | moment.month << 5 | moment.day
        time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
        offset = self.size
        big = member.size >= _FULL_32
        far = offset >= _FULL_32
        size = _FULL_32 if big else member.size
        version = 45 if big or far else 20
        common = struct.pack(
            "<HHHHHIII", version, _UTF8_NAMES, 0, time, date, member.crc32, size, size
        )
        local = struct.pack("<HHQQ", 1, 16, member.size, member.size) if big else b""
        self._append(b"PK\3\4" + common + struct.pack("<HH", len(name), len(local)) + name + local)
        self._append(member)
        wide = ([member.size, member.size] if big else []) + ([offset] if far else [])
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        return (
            b"PK\1\2"
            + struct.pack("<H", 3 << 8 | version)
            + common
            + struct.pack("<HHHHH", len(name), len(extra), 0, 0, 0)
            + struct.pack("<II", _REGULAR_FILE, _FULL_32 if far else offset)
            + name
            + extra
        )

    def _end(self, count: int, length: int) -> bytes:
        """Close the archive, with the 64-bit records when a number does not fit."""
        start, end = self.size, b""
        if count >= 0xFFFF or start >= _FULL_32 or length >= _FULL_32:
            end = b"PK\6\6" + struct.pack(
                "<QHHIIQQQQ", 44, 3 << 8 | 45, 45, 0, 0, count, count, length, start
            )
            end += b"PK\6\7" + struct.pack("<IQI", 0, start + length, 1)
        short = min(count, 0xFFFF)
        return (
            end
            + b"PK\5\6"
            + struct.pack(
                "<HHHHIIH", 0, 0, short, short, min(length, _FULL_32), min(start, _FULL_32), 0
            )
        )

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the bytes from start up to stop."""
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            piece, base = self._pieces[index], self._starts[index]
            if isinstance(piece, bytes):
                part = piece[start - base : stop - base]
                if part:
                    yield part
                start += len(part)
            else:
                for part in _read_file(piece.path, start - base, min(piece.size, stop - base)):
                    yield part
                    start += len(part)
            index += 1


def _read_file(path: Path, start: int, stop: int) -> Iterator[bytes]:
    if start >= stop:
        return
    with path.open("rb") as stream:
        stream.seek(start)
        while start < stop:
            chunk = stream.read(min(_CHUNK, stop - start))
            if not chunk:
                raise OSError(f"{path} became shorter while it was being sent")
            yield chunk
            start += len(chunk)
