"""The commands of the documents, run as they stand: each page in a workspace of its own.

The workspace is a real one but for its strategies: linear_probe, ssl and effnetv2_s keep their names and
configs and "train" in a second. What the pages call ../xray is a drawn competition. The comments that
mark the blocks are described in tests/documents.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_tools import QUICK_PIPELINE, ROOT

from tests.documents import blocks_of, documents

QUICK = ("linear_probe", "ssl", "effnetv2_s")
# Each story has its own noise, so that members differ. The import is needed by no one else.
BODY = QUICK_PIPELINE.replace("default_rng(0)", "default_rng(len(type(config).__name__))").replace(
    'tables.labelled["label"]', 'tables.labelled.drop(columns=["id", "path"]).iloc[:, 0]'
)
OVERRIDE = """

from kernels.config import Profiles as _Profiles

_quick = [
    replace(config, weights="random", folds=replace(config.folds, count=2, seeds=(0,)))
    for config in (STRATEGY.profiles.full, STRATEGY.profiles.cpu, STRATEGY.profiles.small)
]
STRATEGY = replace(STRATEGY, pipeline="quick", profiles=_Profiles(*_quick))
"""


def pages(marker):
    return [page for page in documents() if any(b.marker == marker for b in blocks_of(page))]


@pytest.fixture(scope="module")
def template(workspace, tmp_path_factory) -> Path:
    """A workspace whose strategies are quick, and the competition beside it."""
    folder = tmp_path_factory.mktemp("documented")
    shutil.copytree(workspace.folder / "kernels", folder / "harness" / "kernels")
    shutil.copy(ROOT / "pyproject.toml", folder / "harness")
    workspace_of_pages = type(workspace)(folder / "harness", workspace.drawn)
    workspace_of_pages.add_strategy("quick", BODY)
    (folder / "harness" / "kernels" / "strategies" / "quick.py").unlink()
    for name in QUICK:
        path = folder / "harness" / "kernels" / "strategies" / f"{name}.py"
        path.write_text("from dataclasses import replace\n" + path.read_text("utf-8") + OVERRIDE)
    shutil.copytree(workspace.drawn.data_folder, folder / "xray")
    shutil.copy(workspace.drawn.solution_csv, folder / "answers.csv")
    programs = folder / "bin"
    programs.mkdir()
    for name in ("harness", "python"):
        words = "-m harness" if name == "harness" else ""
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (programs / name).chmod(0o755)
    return folder


def run_page(page, marker, template, workspace, tmp_path) -> None:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    environment = {
        **workspace.environment,
        "PATH": os.pathsep.join(
            [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        ),
        "BROWSER": "true",
    }
    for block in blocks_of(page):
        what, _, name = block.marker.partition(": ")
        if what == "write":
            (tmp_path / "harness" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "harness" / name).write_text(block.text)
        if block.marker not in ("setup", marker):
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=tmp_path / "harness",
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        said = f"{block}\n{block.text}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        assert "Traceback" not in done.stderr, said


@pytest.mark.parametrize("page", pages("run"))
def test_commands_of_a_page_run_as_they_stand(page, template, workspace, tmp_path):
    run_page(page, "run", template, workspace, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages("run: slow"))
def test_commands_that_take_minutes_run_as_they_stand(page, template, workspace, tmp_path):
    run_page(page, "run: slow", template, workspace, tmp_path)
