"""The first minute's self-test: whatever can be wrong is found before hours are spent, with the next step.

One line for each check. Inputs, free disk and a dummy submission are tried here, without torch; the
device is tried where it is chosen (blocks/devices.py), with one forward and backward pass.
"""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels.blocks.paths import KagglePaths
from kernels.blocks.tables import Tables
from kernels.config import AnyConfig, Competition

SAMPLE_SUBMISSION = "sample_submission.csv"
THUMBNAIL_BYTES = 64 * 64  # near-copies are looked for among films of this size (grouping.py)
WORKING_BYTES = 500_000_000  # checkpoints, pictures and tables of the largest strategies, and room


def self_test(
    competition: Competition,
    folder: Path,
    tables: Tables,
    config: AnyConfig,
    paths: KagglePaths,
    datasets: dict[str, Path],
    say: Callable[[str], None],
) -> None:
    """Try inputs, disk and submission; raises at the first fault.

    Args:
        folder: The competition's data.
        datasets: Mounted packages by slug; their digests have been checked.
        say: Gets one line for each check.

    Raises:
        FileNotFoundError, ValueError, OSError: What is wrong, with the item and what to do.
    """
    for check in (
        lambda: inputs_line(tables, datasets),
        lambda: disk_line(config, tables, paths),
        lambda: submission_line(competition, folder, tables, paths.temp),
    ):
        say(f"self-test: {check()}")


def inputs_line(tables: Tables, datasets: dict[str, Path]) -> str:
    """Count images and files; every image of every table must be there (FileNotFoundError)."""
    counts = []
    listings: dict[Path, set[str]] = {}
    for name in ("labelled", "unlabelled", "test"):
        files = [Path(path) for path in getattr(tables, name)["path"]]
        lost = []
        for path in files:
            if path.parent not in listings:  # one listing is cheaper than a look at every file
                there = path.parent.is_dir()
                listings[path.parent] = {p.name for p in path.parent.iterdir()} if there else set()
            if path.name not in listings[path.parent]:
                lost.append(path)
        if lost:
            raise FileNotFoundError(
                f"{len(lost)} of {len(files)} {name} images have no file (first: {lost[0]}). Mount the "
                "whole competition, or correct its table."
            )
        counts.append(f"{len(files)} {name}")
    mounted = ", ".join(sorted(datasets)) or "none needed"
    return f"inputs: {', '.join(counts)} images; datasets as rendered for: {mounted}"


def cache_bytes(config: AnyConfig, tables: Tables) -> int:
    """What decoded images take in the temporary folder, at most."""
    count = sum(len(frame) for frame in (tables.labelled, tables.unlabelled, tables.test))
    return count * (int(config.image_size) ** 2 + THUMBNAIL_BYTES)


def disk_line(config: AnyConfig, tables: Tables, paths: KagglePaths) -> str:
    """Free space where images are cached and where outputs go.

    Raises:
        OSError: Less than the run needs.
    """
    said = []
    needs = {"temp": cache_bytes(config, tables), "working": WORKING_BYTES}
    for name, need in needs.items():
        folder = getattr(paths, name)
        free = shutil.disk_usage(folder).free
        if free < need:
            raise OSError(
                f"{folder} has {free / 1e9:.2f} GB free and this run needs {need / 1e9:.2f} GB. Free some, "
                "or take smaller images (--set image_size=...)."
            )
        said.append(f"{free / 1e9:.1f} GB free in {name} (needs {need / 1e9:.2f})")
    return "disk: " + ", ".join(said)


def submission_line(competition: Competition, folder: Path, tables: Tables, temp: Path) -> str:
    """Write a submission of constants and hold it against the competition's sample.

    Raises:
        ValueError: The sample wants other columns or other ids than this run would write.
    """
    columns = [competition.id_column, *competition.target_columns]
    path = temp / "dummy_submission.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([name, *[0.5] * (len(columns) - 1)] for name in tables.test["id"])
    ours = read_ids(path)
    path.unlink()
    sample = folder / SAMPLE_SUBMISSION
    if not sample.is_file():
        return (
            f"submission: {len(ours[1])} rows; there is no {SAMPLE_SUBMISSION} to hold it against"
        )
    wanted = read_ids(sample)
    if wanted[0] != columns:
        raise ValueError(
            f"{SAMPLE_SUBMISSION} has columns {wanted[0]}, and this run would write {columns}. Correct "
            "id_column and target_columns in the competition's file."
        )
    if tables.test_targets is not None and set(wanted[1]) != set(ours[1]):
        return f"submission: ids differ from {SAMPLE_SUBMISSION}; labels of test are here, the report is the result"
    missing, extra = set(wanted[1]) - set(ours[1]), set(ours[1]) - set(wanted[1])
    if missing or extra or len(wanted[1]) != len(ours[1]):
        example = min(missing or extra or set(wanted[1]))
        raise ValueError(
            f"{SAMPLE_SUBMISSION} has {len(wanted[1])} ids, and this run would write {len(ours[1])}: "
            f"{len(missing)} missing, {len(extra)} not asked for (first: {example}). Correct read_tables "
            "in the competition's file."
        )
    return f"submission: {len(ours[1])} rows fit {SAMPLE_SUBMISSION}"


def read_ids(path: Path) -> tuple[list[str], list[str]]:
    """Header and first column of a CSV file (ValueError when it is empty)."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        rows: list[list[Any]] = [row for row in csv.reader(handle) if row]
    if not rows:
        raise ValueError(f"{path.name} is empty")
    return [str(name) for name in rows[0]], [str(row[0]) for row in rows[1:]]
