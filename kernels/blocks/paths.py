"""Where things are inside a kernel: every mount layout Kaggle has used, and a way to move /kaggle.

Never hard-code a mount: datasets moved from /kaggle/input/<slug> to /kaggle/input/datasets/<owner>/<slug>,
competitions likewise, and both are still seen. ``HARNESS_KAGGLE_ROOT`` replaces /kaggle where a script runs
without a sandbox.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

DATASET_MANIFEST = "PACKAGE_MANIFEST.json"


@dataclass(frozen=True)
class KagglePaths:
    """The folders of a run: inputs (read-only), working (becomes the output), temp (not kept)."""

    input: Path
    working: Path
    temp: Path


def kaggle_paths() -> KagglePaths:
    """Folders of this run; working and temp exist afterwards."""
    root = Path(os.environ.get("HARNESS_KAGGLE_ROOT", "/kaggle"))
    paths = KagglePaths(root / "input", root / "working", root / "temp")
    for folder in (paths.working, paths.temp):
        folder.mkdir(parents=True, exist_ok=True)
    return paths


def describe_inputs(paths: KagglePaths, limit: int = 40) -> str:
    """The input tree, three levels deep, as text for an error message."""
    if not paths.input.is_dir():
        return f"{paths.input} does not exist"
    lines = []
    for path in sorted(paths.input.rglob("*")):
        depth = len(path.relative_to(paths.input).parts)
        if depth <= 3 and (path.is_dir() or depth <= 2):
            lines.append("  " * depth + path.name + ("/" if path.is_dir() else ""))
    shown = lines[:limit] + ([f"  ... and {len(lines) - limit} more"] if len(lines) > limit else [])
    return f"{paths.input}/\n" + "\n".join(shown)


def find_competition(paths: KagglePaths, slug: str) -> Path:
    """The competition's data folder in either layout.

    Raises:
        FileNotFoundError: With the input tree, when it is not mounted.
    """
    for candidate in (paths.input / "competitions" / slug, paths.input / slug):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"competition {slug!r} is not mounted. Add it to competition_sources and join the competition.\n"
        + describe_inputs(paths)
    )


def find_dataset(paths: KagglePaths, slug: str) -> Path | None:
    """A dataset's folder by slug in either layout, whoever owns it; None when it is not mounted."""
    for candidate in (*sorted(paths.input.glob(f"datasets/*/{slug}")), paths.input / slug):
        if candidate.is_dir():
            return candidate
    return None


def dataset_digest(folder: Path) -> str | None:
    """The content digest in a packaged dataset's manifest, or None for a dataset of another make."""
    manifest = folder / DATASET_MANIFEST
    if not manifest.is_file():
        return None
    return str(json.loads(manifest.read_text(encoding="utf-8")).get("digest"))


def check_datasets(paths: KagglePaths, expected: dict[str, str]) -> dict[str, Path]:
    """Find every dataset the script was rendered for and compare digests with the baked ones.

    Args:
        expected: slug -> digest; an empty digest accepts any content.

    Raises:
        FileNotFoundError: A dataset is not mounted.
        ValueError: The mounted version is not the one the script was rendered for (both digests named).
    """
    found = {}
    for slug, digest in sorted(expected.items()):
        folder = find_dataset(paths, slug)
        if folder is None:
            raise FileNotFoundError(f"dataset {slug!r} is not mounted.\n" + describe_inputs(paths))
        mounted = dataset_digest(folder)
        if digest and mounted != digest:
            raise ValueError(
                f"stale dataset {slug!r}: the script was rendered for digest {digest[:12]}, "
                f"mounted is {str(mounted)[:12]}. Push again once the new version is current."
            )
        found[slug] = folder
    return found
