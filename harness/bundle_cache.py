"""Bundles of earlier commands: flattening reads every module's syntax, which is most of a push with nothing to do.

A bundle is kept under a hash of all that it follows from, so an entry never gets old; those not used for
longest are dropped. An entry that is damaged, or half written by a command that was killed, is made again.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness import bundle as bundling
from harness.bundle import PACKAGE, Bundle
from harness.records import text_digest

# The rules as they are in this process: what is on the disk may be newer by the time they are applied.
RULES = tuple(Path(str(file)).read_text("utf-8") for file in (bundling.__file__, __file__))
KEPT = 64  # entries of up to half a megabyte; a workspace has about a dozen pipelines


def cached_bundle(
    folder: Path | None,
    entry_modules: Sequence[str],
    root: Path,
    reserved: Collection[str] = (),
    given: Collection[str] = (),
) -> Bundle:
    """``bundle.bundle`` of these arguments, from ``folder`` when nothing has changed since.

    Args:
        folder: Where bundles are kept, made when it is needed; None: nowhere.

    Raises:
        BundleError: As ``bundle.bundle``; refusals are not kept.
    """
    if folder is None:
        return bundling.bundle(entry_modules, root, reserved, given)

    def key() -> str:
        arguments = [sorted(set(entry_modules)), sorted(reserved), sorted(given)]
        return text_digest(sys.version, json.dumps(arguments), *_sources(root))

    before = key()
    path = folder / f"{before}.json"
    kept = _read(path)
    if kept is not None:
        with contextlib.suppress(OSError):
            os.utime(path)
        return kept
    made = bundling.bundle(entry_modules, root, reserved, given)
    if key() == before:  # else a module was saved in the middle of it
        with contextlib.suppress(OSError):  # no space: then not
            _write(path, made)
            _drop_oldest(folder)
    return made


def _sources(root: Path) -> Iterator[str]:
    """Everything that a bundle is made from: the rules, and the modules, those behind links too."""
    yield from RULES
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(root / PACKAGE, followlinks=True):
        numbers = Path(place).stat()
        if (numbers.st_dev, numbers.st_ino) in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add((numbers.st_dev, numbers.st_ino))
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = Path(place, name)
                yield ascii(path.relative_to(root).as_posix())
                with contextlib.suppress(OSError):  # gone, or a dangling link: bundle says so
                    yield hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> Bundle | None:
    try:
        digest, text = path.read_text("utf-8").split("\n", 1)
        if text_digest(text) != digest:
            return None
        fields = json.loads(text)
        return Bundle(
            modules=tuple(fields["modules"]),
            imports=fields["imports"],
            body=fields["body"],
            names=frozenset(fields["names"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, made: Bundle) -> None:
    text = json.dumps({**vars(made), "names": sorted(made.names)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text_digest(text)}\n{text}", "utf-8")


def _drop_oldest(folder: Path) -> None:
    entries = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[KEPT:]:
        path.unlink(missing_ok=True)
