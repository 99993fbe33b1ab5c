"""The package flattens module by module, needs nothing but numpy, and scripts carry what they use."""

import sys
from pathlib import Path

import pytest

from harness.bundle import bundle

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "kernels" / "stats").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_every_module_flattens_into_a_script_that_needs_only_numpy(name: str) -> None:
    flat = bundle([f"kernels.stats.{name}"], ROOT)
    assert all(module.startswith("kernels.stats.") for module in flat.modules)
    outside = {line.split()[1].split(".")[0] for line in flat.imports.splitlines() if line.strip()}
    assert outside - set(sys.stdlib_module_names) <= {"numpy"}
    exec(compile(flat.source, name, "exec"), {"__name__": name})


def test_names_are_unique_in_the_whole_package() -> None:
    bundle([f"kernels.stats.{name}" for name in MODULES], ROOT)  # raises BundleError otherwise


def test_a_script_that_scores_by_auc_does_not_carry_the_rest() -> None:
    assert bundle(["kernels.stats.auc"], ROOT).modules == (
        "kernels.stats.checking",
        "kernels.stats.auc",
    )
