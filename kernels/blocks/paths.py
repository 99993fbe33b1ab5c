"""Where things are inside a kernel: every mount layout Kaggle has used, and a way to move /kaggle.

Never hard-code a mount: datasets moved from /kaggle/input/<slug> to /kaggle/input/datasets/<owner>/<slug>,
competitions likewise, and both are still seen. ``HARNESS_KAGGLE_ROOT`` replaces /kaggle where a script runs
without a sandbox.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernels.contract import (
    CHECKPOINT_FOLDER,
    MANIFEST_FILE,
    FileRecord,
    file_faults,
    is_safe_relative,
    sha256_file,
)

DATASET_MANIFEST = "PACKAGE_MANIFEST.json"
CARRIED = CHECKPOINT_FOLDER + "/"  # what kernels read of each other's outputs


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


def damaged_files(folder: Path) -> list[str]:
    """What a packaged dataset's manifest lists and the mount does not hold, by name and size."""
    manifest = json.loads((folder / DATASET_MANIFEST).read_text(encoding="utf-8"))
    faults = []
    for entry in manifest.get("files", []):
        path = folder / entry["path"]
        if not path.is_file():
            faults.append(f"{entry['path']} is missing")
        elif path.stat().st_size != entry["size"]:
            faults.append(f"{entry['path']} has {path.stat().st_size} bytes, not {entry['size']}")
    return faults


def check_datasets(paths: KagglePaths, expected: dict[str, str]) -> dict[str, Path]:
    """Find every dataset the script was rendered for and compare digests with the baked ones.

    Args:
        expected: slug -> digest; an empty digest accepts any content.

    Raises:
        FileNotFoundError: A dataset is not mounted.
        ValueError: The mounted version is not the one the script was rendered for (both digests named),
            or lacks some of its files.
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
        if mounted is not None and (faults := damaged_files(folder)):
            raise ValueError(f"dataset {slug!r} is incomplete: {'; '.join(faults[:3])}")
        found[slug] = folder
    return found


def output_candidates(paths: KagglePaths, slug: str) -> Iterator[Path]:
    """Folders where a kernel's output may be: by slug in either layout, then any with a manifest.

    The latter finds it under another name: packaged as a dataset, in a folder of that. Competition data
    is left out, it may hold a hundred thousand files.
    """
    yield from sorted(paths.input.glob(f"notebooks/*/{slug}"))
    yield paths.input / slug
    for depth in range(1, 5):
        for manifest in sorted(paths.input.glob("/".join(["*"] * depth + [MANIFEST_FILE]))):
            if manifest.relative_to(paths.input).parts[0] != "competitions":
                yield manifest.parent


def find_run_output(paths: KagglePaths, slug: str, manifest_sha256: str) -> Path:
    """The mounted output of another kernel's run, by the hash of its manifest, every checkpoint checked.

    Args:
        slug: The kernel's slug, whoever owns it.
        manifest_sha256: Of the run's manifest.json as harness pulled it.

    Raises:
        FileNotFoundError: Nothing of it is mounted (with the input tree).
        ValueError: Another run of the kernel is mounted (both hashes named), or files of it are
            missing or altered (the first one named).
    """
    other: tuple[Path, str] | None = None
    for folder in output_candidates(paths, slug):
        manifest = folder / MANIFEST_FILE
        if not manifest.is_file():
            continue
        digest = sha256_file(manifest)
        if digest != manifest_sha256:
            if folder.name == slug:
                other = (folder, digest)
            continue
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        records = [
            FileRecord(str(entry["path"]), int(entry["size"]), str(entry["sha256"]))
            for entry in listed
            if str(entry["path"]).startswith(CARRIED)
        ]
        faults = [f"{r.path} leaves the folder" for r in records if not is_safe_relative(r.path)]
        faults = faults or file_faults(folder, records)
        if faults:
            raise ValueError(f"output of kernel {slug!r} at {folder}: {faults[0]}")
        return folder
    if other is not None:
        raise ValueError(
            f"stale output of kernel {slug!r}: the script was rendered for the run with manifest "
            f"{manifest_sha256[:12]}, mounted at {other[0]} is {other[1][:12]}. Push again: it takes the "
            "newest finished run."
        )
    raise FileNotFoundError(
        f"the output of kernel {slug!r} is not mounted.\n" + describe_inputs(paths)
    )
