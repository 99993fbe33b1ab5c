"""The first minute's self-test: whatever can be wrong is found before hours are spent, with the next step.

One line for each check. Inputs, free disk and a dummy submission are tried here, without torch; the
device is tried where it is chosen (blocks/devices.py), with one forward and backward pass.
"""

import csv
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kernels.blocks.paths import KagglePaths
from kernels.blocks.tables import Tables
from kernels.config import AnyConfig, Competition, DistilConfig

SAMPLE_SUBMISSION = "sample_submission.csv"
THUMBNAIL_BYTES = 64 * 64  # near-copies are looked for among films of this size (grouping.py)
# Bytes of a float16 map after so many frozen stages, for each pixel of the film: efficientnet-lite2's, the
# widest of the family (stride 2, 16 channels; 4, 24; 8, 48), and at most 1 at stride 16.
MAP_BYTES = {1: 8.0, 2: 3.0, 3: 1.5}
WORKING_BYTES = 500_000_000  # checkpoints, pictures and tables of the largest strategies, and room


def self_test(
    competition: Competition,
    folder: Path,
    tables: Tables,
    config: AnyConfig,
    paths: KagglePaths,
    datasets: dict[str, Path],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Try inputs, disk and submission; raises at the first fault.

    Args:
        folder: The competition's data.
        datasets: Mounted packages by slug; their digests have been checked.
        say: Gets one line for each check.

    Returns:
        What lies beside the images and is in no table, for metrics.json: ``count`` and the ``first`` name.

    Raises:
        FileNotFoundError, ValueError, OSError: What is wrong, with the item and what to do.
    """
    listings = list_folders(tables)
    unused = unused_files(tables, listings)
    for check in (
        lambda: inputs_line(tables, listings, unused, datasets),
        lambda: disk_line(config, tables, paths),
        lambda: submission_line(competition, folder, tables, paths.temp),
    ):
        say(f"self-test: {check()}")
    return {"count": len(unused), "first": unused[0] if unused else None}


def list_folders(tables: Tables) -> dict[Path, set[str]]:
    """Names of the files in every folder that a table's images lie in: cheaper than a look at every file."""
    folders = {
        Path(path).parent
        for frame in (tables.labelled, tables.unlabelled, tables.test)
        for path in frame["path"]
    }
    return {
        folder: {item.name for item in os.scandir(folder) if item.is_file()}
        if folder.is_dir()
        else set()
        for folder in folders
    }


def unused_files(tables: Tables, listings: dict[Path, set[str]]) -> list[str]:
    """Files beside the images that no table names, as folder/name, sorted; hidden ones are none."""
    used = {
        str(path)
        for frame in (tables.labelled, tables.unlabelled, tables.test)
        for path in frame["path"]
    }
    return sorted(
        f"{folder.name}/{name}"
        for folder, names in listings.items()
        for name in names
        if not name.startswith(".") and str(folder / name) not in used
    )


def inputs_line(
    tables: Tables,
    listings: dict[Path, set[str]],
    unused: Sequence[str],
    datasets: dict[str, Path],
) -> str:
    """Count images and files; every image of every table must be there (FileNotFoundError)."""
    counts = []
    for name in ("labelled", "unlabelled", "test"):
        files = [Path(path) for path in getattr(tables, name)["path"]]
        lost = [path for path in files if path.name not in listings[path.parent]]
        if lost:
            raise FileNotFoundError(
                f"{len(lost)} of {len(files)} {name} images have no file (first: {lost[0]}). Mount the "
                "whole competition, or correct its table."
            )
        counts.append(f"{len(files)} {name}")
    mounted = ", ".join(sorted(datasets)) or "none needed"
    beside = (
        f"; {len(unused)} files beside them are in no table (first: {unused[0]})" if unused else ""
    )
    return f"inputs: {', '.join(counts)} images{beside}; datasets as rendered for: {mounted}"


def cache_bytes(config: AnyConfig, tables: Tables) -> int:
    """What decoded images, and the maps of frozen stages, take in the temporary folder: about, and at most."""
    labelled, unlabelled, test = map(len, (tables.labelled, tables.unlabelled, tables.test))
    images = labelled + unlabelled + test
    if not isinstance(config, DistilConfig):
        return images * (int(config.image_size) ** 2 + THUMBNAIL_BYTES)
    maps = labelled * (config.labelled_views + len(config.tta)) + test * len(config.tta)
    if config.student is not None:
        maps += unlabelled * (config.unlabelled_views + len(config.teacher_tta))
    return images * THUMBNAIL_BYTES + sum(
        network.image_size**2 * (images + round(maps * MAP_BYTES.get(network.frozen_stages, 1.0)))
        for network in config.networks()
    )


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
