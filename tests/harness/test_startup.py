"""The program starts light, and packages import each other only in the directions that are allowed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "timm", "pandas", "sklearn", "numpy", "cv2", "kaggle", "kagglesdk", "requests")


@pytest.mark.parametrize("arguments", [["--help"], ["push", "--help"], ["--version"]])
def test_help_loads_no_heavy_library(arguments):
    code = (
        "import sys; from harness.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [n for n in {HEAVY!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr


def test_listing_strategies_needs_no_torch_or_pandas():
    code = (
        "import sys; from harness.cli import main\n"
        "try: main(['strategies'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', [n for n in ('torch', 'timm', 'pandas', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "linear_probe" in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def test_kernels_import_nothing_from_harness():
    for path in (ROOT / "kernels").rglob("*.py"):
        assert not {m for m in imported_modules(path) if m.split(".")[0] == "harness"}, path


def test_the_local_kaggle_knows_nothing_of_harness_or_kernels():
    for path in (ROOT / "harness" / "emulator").rglob("*.py"):
        foreign = {
            module
            for module in imported_modules(path)
            if module.split(".")[0] == "kernels"
            or (module.split(".")[0] == "harness" and not module.startswith("harness.emulator"))
        }
        assert not foreign, (path, foreign)


def test_harness_uses_only_the_torch_free_part_of_kernels():
    allowed = {"kernels.config", "kernels.contract"}
    for path in (ROOT / "harness").rglob("*.py"):
        used = {m for m in imported_modules(path) if m.split(".")[0] == "kernels"}
        rest = {module for module in used if not module.startswith("kernels.stats.")}
        assert rest <= allowed, (path, used)


def test_only_one_file_talks_to_the_service():
    for path in (ROOT / "harness").rglob("*.py"):
        if "emulator" in path.parts:
            continue
        talks = {m for m in imported_modules(path) if m.split(".")[0] in ("kagglesdk", "kaggle")}
        assert not talks or path.name == "remote.py", (path, talks)


def test_strategies_and_competitions_are_files_of_values():
    for path in (ROOT / "kernels" / "strategies").glob("[a-z]*.py"):
        allowed = {"dataclasses", "kernels.config"}
        used = imported_modules(path)
        assert all(m in allowed or m.startswith("kernels.strategies.") for m in used), (path, used)
