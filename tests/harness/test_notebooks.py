"""A notebook holds the script's code, cell by cell, and is the same whenever it is made."""

import hashlib
import json
from pathlib import Path

import nbformat
import pytest

from harness.emulator.notebooks import as_script
from harness.notebooks import source_sha256, to_notebook
from harness.records import RunSpec
from harness.registry import load_strategy
from harness.render import render_kernel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def builds():
    strategy = load_strategy(ROOT, "features_lr")
    return [
        render_kernel(
            ROOT,
            strategy,
            RunSpec("features_lr", notebook=kind),
            "me",
            "toy",
            {"weights-x": "d" * 64},
        )
        for kind in (False, True)
    ]


def test_a_notebook_is_valid_and_a_cell_holds_a_module(builds):
    script, notebook = builds
    document = nbformat.reads(notebook.source, as_version=4)
    nbformat.validate(document)
    assert document.cells[0].cell_type == "markdown"
    assert document.cells[0].source.startswith("# Masked X-ray: 22 features")
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    modules = script.source.count("\n# ---- kernels/")
    assert len(code) == modules + 2  # the imports before them, the configuration after
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert document.metadata.kernelspec.name == "python3"  # without it a push dies in papermill


def test_the_code_is_the_scripts_but_for_its_file(builds):
    script, notebook = builds
    baked = hashlib.sha256(
        script.source.replace("'notebook': False", "'notebook': True")
        .replace(script.handle.slug, notebook.handle.slug)
        .encode()
    ).hexdigest()
    assert notebook.script_sha256 == baked
    lines = [line for line in as_script(notebook.source).splitlines() if line.strip()]
    joined = "\n".join(line for line in lines if not line.startswith("# ---- cell "))
    body = script.source.partition("\n\n")[2]
    wanted = [line for line in body.splitlines() if line.strip()]
    differ = [(a, b) for a, b in zip(joined.splitlines(), wanted, strict=True) if a != b]
    assert {b.strip().split(":")[0] for _, b in differ} == {
        "'notebook'",
        "run, COMPETITION, read_tables, PROFILES, SPEC, DATASETS, __file__, UPSTREAM, BUDGET_MINUTES",
    }


def test_equal_scripts_give_equal_notebooks_with_names_for_ids(builds):
    script, _ = builds
    first, second = to_notebook(script.source), to_notebook(script.source)
    assert first == second
    ids = [cell["id"] for cell in json.loads(first)["cells"]]
    assert len(set(ids)) == len(ids)
    assert any(name.endswith("kernels-pipelines-features-py") for name in ids)


def test_metadata_says_notebook_under_a_slug_of_its_own(builds):
    script, notebook = builds
    assert notebook.metadata["kernel_type"] == "notebook"
    assert notebook.metadata["code_file"] == "notebook.ipynb"
    assert notebook.handle.slug == f"{script.handle.slug}-notebook"


def test_a_script_is_known_by_its_own_bytes():
    text = "print('hello')\n"
    assert source_sha256(text) == hashlib.sha256(text.encode()).hexdigest()
    odd = '{"cells": [{"source": "no hash here"}]}'
    assert source_sha256(odd) == hashlib.sha256(odd.encode()).hexdigest()
