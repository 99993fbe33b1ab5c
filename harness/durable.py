"""Files that are there whole or not at all: written under another name, synced, renamed, and the rename synced."""

import contextlib
import os
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content in one step that survives a power cut.

    The caller keeps other processes from writing the same file; the name in between, ``<name>.part``, is
    always the same, so that what a killed process left there is taken up by the next.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        settle(partial, path)
    except OSError:  # a full disk above all: half a file would only make it fuller
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """As write_bytes, in UTF-8 and with the line ends as they are."""
    write_bytes(path, text.encode())


def settle(partial: Path, path: Path) -> None:
    """Give a finished and synced file its name, and make the name last."""
    partial.replace(path)
    # Some file systems refuse to sync a folder; they have nothing to offer instead.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
