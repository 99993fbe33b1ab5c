"""Outputs of other kernels are found in every mount layout, and nothing but the promised bytes is used."""

import json

import pytest

from kernels.blocks.paths import KagglePaths, find_run_output
from kernels.contract import MANIFEST_FILE, record_files, sha256_file

SLUG = "masked-xray-ssl-small"


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "input" / "competitions" / "toy" / "train").mkdir(parents=True)
    return KagglePaths(tmp_path / "input", tmp_path / "working", tmp_path / "temp")


def write_output(folder, text="weights"):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "net.pth").write_text(text)
    files = [vars(record) for record in record_files(folder)]
    (folder / MANIFEST_FILE).write_text(json.dumps({"files": files}))
    return sha256_file(folder / MANIFEST_FILE)


@pytest.mark.parametrize(
    "place",
    [
        f"notebooks/me/{SLUG}",
        SLUG,
        "datasets/me/output-of-it/run",
        "output-of-it/run",
        "somewhere/new/entirely",
    ],
)
def test_an_output_is_found_wherever_it_is_mounted(paths, place):
    digest = write_output(paths.input / place)
    assert find_run_output(paths, SLUG, digest) == paths.input / place


def test_another_run_under_the_slug_is_stale_and_both_hashes_are_named(paths):
    mounted = write_output(paths.input / "notebooks" / "me" / SLUG)
    with pytest.raises(ValueError, match="stale output") as caught:
        find_run_output(paths, SLUG, "f" * 64)
    assert "f" * 12 in str(caught.value)
    assert mounted[:12] in str(caught.value)


def test_the_right_run_is_taken_although_another_one_has_the_slug(paths):
    write_output(paths.input / SLUG, "of a newer run")
    digest = write_output(paths.input / "datasets" / "me" / "pinned" / "run")
    assert find_run_output(paths, SLUG, digest).name == "run"


def test_nothing_mounted_shows_the_input_tree(paths):
    with pytest.raises(FileNotFoundError, match="competitions/"):
        find_run_output(paths, SLUG, "f" * 64)


def test_an_altered_checkpoint_is_refused(paths):
    folder = paths.input / "notebooks" / "me" / SLUG
    digest = write_output(folder)
    (folder / "checkpoints" / "net.pth").write_text("weighty")
    with pytest.raises(ValueError, match=r"net.pth differs"):
        find_run_output(paths, SLUG, digest)
