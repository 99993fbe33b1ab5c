"""A workspace of its own for every module: a copy of kernels/, a HOME with planted secrets, a drawn competition."""

import os
import shutil

import pytest
from e2e_tools import PLANTED, QUICK_PIPELINE, ROOT, Workspace, stop_kernels

from harness.synthetic import draw_competition


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("workspace")
    shutil.copytree(
        ROOT / "kernels", folder / "kernels", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    home = tmp_path_factory.mktemp("home")
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "access_token").write_text(PLANTED)
    (home / ".kaggle" / "kaggle.json").write_text('{"username": "somebody", "key": "planted-key"}')
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        # Whoever sends anything through a proxy, or believes in these credentials, fails.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "KAGGLE_API_TOKEN": PLANTED,
    }
    drawn = draw_competition(
        tmp_path_factory.mktemp("drawn"), n_unlabelled=12, n_labelled=48, n_test=24, size=96
    )
    made = Workspace(folder, drawn, environment)
    made.add_strategy("quick", QUICK_PIPELINE)
    yield made
    stop_kernels(folder)


@pytest.fixture(scope="module")
def joined(workspace) -> Workspace:
    """The workspace with its competition on the local Kaggle."""
    workspace.run(
        "local", "competition", "add", str(workspace.drawn.data_folder),
        "--slug", "masked_xray", "--solution", str(workspace.drawn.solution_csv),
    )  # fmt: skip
    return workspace
