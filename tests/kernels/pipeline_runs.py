"""What the pipelines' tests share: drawn films as tables, a sealed run in a folder, its rows, one thread."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import torch

from harness.synthetic import draw_film
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import KagglePaths
from kernels.blocks.tables import Tables
from kernels.competitions.masked_xray import COMPETITION
from kernels.config import AnyConfig, Competition


def single_thread() -> Iterator[None]:
    """One torch thread until the generator goes on: other thread counts give other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn_tables(folder: Path, unlabelled: int, labelled: int, test: int, size: int = 48) -> Tables:
    """Films drawn into a folder, two of three positive, as the tables of a competition."""
    rows = []
    for number in range(unlabelled + labelled + test):
        film, _ = draw_film(number, positive=number % 3 > 0, size=size)
        path = folder / f"xr_{number:02d}.png"
        cv2.imwrite(str(path), film)
        rows.append({"id": path.stem, "path": str(path), "label": int(number % 3 > 0)})
    frame = pd.DataFrame(rows)
    return Tables(
        unlabelled=frame.iloc[:unlabelled][["id", "path"]],
        labelled=frame.iloc[unlabelled : unlabelled + labelled].reset_index(drop=True),
        test=frame.iloc[unlabelled + labelled :][["id", "path"]].reset_index(drop=True),
    )


def paths_in(folder: Path) -> KagglePaths:
    """Kaggle's folders inside another one."""
    paths = KagglePaths(folder / "input", folder / "working", folder / "temp")
    for part in (paths.working, paths.temp):
        part.mkdir(parents=True, exist_ok=True)
    return paths


def run_into(
    folder: Path,
    pipeline: Callable[[Any, Tables, OutputWriter], None],
    config: AnyConfig,
    tables: Tables,
    competition: Competition = COMPETITION,
) -> Path:
    """Run a pipeline to its end; the working folder, sealed."""
    writer = OutputWriter(competition, paths_in(folder))
    torch.rand(3)  # a pipeline must not depend on random numbers drawn before it
    for _ in single_thread():  # also where a fixture of the module runs it, before those of a test
        pipeline(config, tables, writer)
    writer.finish({"strategy": "test"}, config, {}, "0" * 64)
    return writer.paths.working


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
