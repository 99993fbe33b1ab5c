"""The wheel alone is enough: in a clean environment and an empty folder the demo ends in a score and a page."""

import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from e2e_tools import ROOT, stop_kernels

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment with nothing of this checkout; libraries come from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    subprocess.run(
        [*pip, "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
    )  # fmt: skip
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    # Folders named in a .pth are not searched for further .pth files: an editable install stays out.
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "env" / "bin"


def test_the_demo_runs_from_an_empty_folder(installed, tmp_path):
    workspace, home = tmp_path / "empty", tmp_path / "home"
    workspace.mkdir()
    home.mkdir()
    # Nothing but the environment's own programs: without bubblewrap, which would hide the libraries that
    # the .pth file borrows, kernels run as plain processes.
    environment = {"PATH": str(installed), "HOME": str(home), "LANG": "C.UTF-8"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=workspace, env=environment, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        where = run(
            str(installed / "python"), "-c",
            "import harness, harness.report; print(harness.__file__)",
        )  # fmt: skip
        assert where.startswith(str(installed.parent))
        # Nothing of kernels can be imported yet: what needs no workspace works without one.
        harness = str(installed / "harness")
        assert run(harness, "local", "competition", "list", "--state", str(tmp_path / "s")) == ""
        shown = run(harness, "demo", "--strategy", "features_lr")
        (line,) = [text for text in shown.splitlines() if text.startswith("features_lr")]
        assert 0.0 <= float(line.split()[-1]) <= 1.0
        (page,) = (workspace / ".harness" / "demo").glob("*/report.html")
        assert "Scores with intervals" in page.read_text("utf-8")
        assert (workspace / "kernels" / "strategies" / "features_lr.py").is_file()
        assert "features_lr" in run(harness, "strategies")
    finally:
        stop_kernels(workspace)
