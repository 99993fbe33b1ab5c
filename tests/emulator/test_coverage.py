"""COVERAGE.md tells the truth, and the supervisor stays quick to start."""

import subprocess
import sys
from pathlib import Path

import harness.emulator
from harness.emulator import coverage
from harness.emulator.routes import all_routes

PACKAGE = Path(harness.emulator.__file__).parent


def test_the_document_equals_the_routes():
    answered, unanswered = coverage.read((PACKAGE / "COVERAGE.md").read_text(encoding="utf-8"))
    assert answered == set(all_routes())
    assert not unanswered & answered


def test_every_route_is_a_method_the_sdk_calls():
    """A misspelt name would never be reached. Methods the SDK gains later do not matter here."""
    assert set(all_routes()) <= coverage.sdk_methods()


def test_the_supervisor_imports_nothing_slow():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import harness.emulator.supervisor\n"
        "slow = {'kagglesdk', 'werkzeug', 'requests', 'pandas', 'numpy', 'sqlite3', 'click'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    root = str(PACKAGE.parents[1])
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_package_imports_nothing_of_the_rest_of_the_project():
    import ast

    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top != "kernels", path
                assert top != "harness" or name.startswith("harness.emulator"), path


def test_starting_a_server_does_not_import_pandas():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import harness.emulator.server\n"
        "print(sorted({'pandas', 'sklearn', 'torch', 'kaggle'} & set(sys.modules)))"
    )
    root = str(PACKAGE.parents[1])
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
