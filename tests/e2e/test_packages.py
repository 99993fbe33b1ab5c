"""Packages from the command line: published once, checked before a push, wheels installed inside the kernel."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from e2e_tools import QUICK_PIPELINE, ROOT

from harness.package import CODE_SLUG

sys.path.insert(0, str(ROOT / "tests" / "harness"))
from test_wheels import make_wheel


def lines_of(workspace, *arguments, **extra):
    done = workspace.run("check", *arguments, "--profile", "small", "--json", ok=False, **extra)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["ok"] else 1)
    return {(line["subject"], line["check"]): line for line in found["lines"]}, found["ok"]


def test_publishing_sends_what_changed_and_the_second_time_nothing(joined):
    notes = joined.folder / "datasets" / "my-notes"
    notes.mkdir(parents=True)
    (notes / "notes.txt").write_text("one")
    first = {row["dataset"]: row for row in joined.json("package", "--publish")}
    assert set(first) == {CODE_SLUG, "my-notes"}
    assert all(row["state"] == "sent" and row["version"] == 1 for row in first.values())
    again = joined.json("package", "--publish")
    assert [(row["state"], row["sent_bytes"]) for row in again] == [("current", 0)] * 2
    (notes / "notes.txt").write_text("two")
    third = {row["dataset"]: row for row in joined.json("package", "--publish")}
    assert third[CODE_SLUG]["sent_bytes"] == 0
    assert third["my-notes"]["state"] == "sent"
    assert third["my-notes"]["hashed"] == 1
    secret = notes / "kaggle.json"
    secret.write_text("{}")
    refused = joined.run("package", "--publish", "--json", ok=False)
    secret.unlink()
    assert refused.returncode == 1
    assert "looks like a secret" in refused.stderr
    # One refused dataset does not keep the others from being published.
    states = {row["dataset"]: row["state"] for row in json.loads(refused.stdout)}
    assert states == {CODE_SLUG: "current", "my-notes": "refused"}


def test_an_unknown_package_gets_a_guess(joined):
    done = joined.run("package", "my-nots", ok=False)
    assert done.returncode == 1
    assert "Did you mean 'my-notes'" in done.stderr


def test_pinning_a_run_makes_a_dataset_that_names_it(joined):
    joined.run("push", "quick", "--profile", "small", "--tag", "pin")
    joined.run("watch", "--follow")
    joined.run("pull")
    missing = joined.run("package", "--pin", "quick-small-pin-1", ok=False)
    assert "harness pull quick-small-pin-1 --checkpoints" in missing.stderr
    joined.run("pull", "quick-small-pin-1", "--checkpoints")
    pinned = joined.folder / "datasets" / "checkpoints-quick-small-pin-1"
    for other in (["my-nots"], ["--pin", "nothing-small-1"]):
        joined.run("package", *other, "--pin", "quick-small-pin-1", ok=False)
        assert not pinned.exists()  # what is misspelt was seen first
    joined.run("package", pinned.name, "--pin", "quick-small-pin-1")
    (row,) = joined.json("package", "--pin", "quick-small-pin-1")
    assert (row["dataset"], row["kind"]) == ("checkpoints-quick-small-pin-1", "checkpoints")
    manifest = json.loads((Path(row["folder"]) / "PACKAGE_MANIFEST.json").read_text())
    assert manifest["producer"]["run"] == "quick-small-pin-1"
    assert manifest["producer"]["kernel"].endswith("/versions/1")
    assert "checkpoints/quick.bin" in {file["path"] for file in manifest["files"]}


def test_a_refused_folder_of_weights_is_a_line_of_the_list(joined):
    folder = joined.folder / "datasets" / "weights-mine"
    folder.mkdir()
    (folder / "mine.safetensors").write_bytes(b"weights")
    (folder / "kaggle.json").write_text(
        '{"username": "me", "key": "0123456789abcdef0123456789abcdef"}'
    )
    try:
        listed = joined.run("weights", "list", "--json")
    finally:
        shutil.rmtree(folder)
    states = {row["backbone"]: row["state"] for row in json.loads(listed.stdout)}
    assert states.pop("weights-mine") == "refused"
    assert states
    assert "kaggle.json" in listed.stderr


def test_check_is_green_where_nothing_stands_in_the_way(joined):
    found, ok = lines_of(joined, "quick")
    assert ok
    assert found["quick", "names"]["state"] == "ok"
    assert found["masked-xray-challenge", "rules"]["state"] == "ok"
    assert found["masked-xray-challenge", "submissions"]["state"] == "ok"
    assert found["account", "CPU sessions"]["fact"].startswith("5 of 5 free")


def test_check_is_red_where_a_kernel_would_fail(joined):
    joined.add_strategy("somewhere", "open('/home/me/films/train.csv')\n" + QUICK_PIPELINE)
    joined.add_strategy("unmounted", QUICK_PIPELINE)
    path = joined.folder / "kernels" / "strategies" / "unmounted.py"
    path.write_text(path.read_text().replace("profiles=", 'datasets=("my-lost-set",), profiles='))
    joined.add_strategy("nameless", QUICK_PIPELINE + "\nprint(nobody_binds_this)\n")
    found, ok = lines_of(joined, "somewhere", "unmounted", "nameless")
    assert not ok
    assert "/home/me/films/train.csv" in found["somewhere", "paths"]["fact"]
    assert "my-lost-set" in found["unmounted", "datasets"]["fact"]
    # The bundler itself refuses a name that nobody binds, with file and line.
    assert found["nameless", "script"]["state"] == "fail"
    assert "nobody_binds_this" in found["nameless", "script"]["fact"]


def test_check_without_a_competition_says_how_to_join(workspace, tmp_path):
    found, ok = lines_of(workspace, "quick", HARNESS_STATE=str(tmp_path / "state"))
    assert not ok
    line = found["masked-xray-challenge", "rules"]
    assert line["state"] == "fail"
    assert "harness local competition add" in line["next"]


@pytest.fixture
def pip_index(tmp_path):
    """What stands in for the network: a folder of wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheel(folder, "tinylib-for-harness", "1.5", ["tinydep-for-harness"])
    make_wheel(folder, "tinydep-for-harness", "2.5")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}


def test_wheels_travel_as_a_dataset_and_are_installed_before_the_imports(joined, pip_index):
    joined.add_strategy(
        "wheeled", "assert (LIB_VERSION, DEP_VERSION) == ('1.5', '2.5')\n" + QUICK_PIPELINE
    )
    pipeline = joined.folder / "kernels" / "pipelines" / "wheeled.py"
    pipeline.write_text(
        "from tinydep_for_harness import VERSION as DEP_VERSION\n"
        "from tinylib_for_harness import VERSION as LIB_VERSION\n" + pipeline.read_text()
    )
    (built,) = joined.json("wheels", "build", "wheeled", "--profile", "small", **pip_index)
    assert built["missing"] == ["tinydep-for-harness", "tinylib-for-harness"]
    assert built["wheels"] == ["tinydep-for-harness==2.5", "tinylib-for-harness==1.5"]
    found, _ = lines_of(joined, "wheeled")
    assert "from packed wheels" in found["wheeled", "imports"]["fact"]
    joined.run("push", "wheeled", "--profile", "small")
    joined.run("watch", "--follow")
    run = joined.json("runs")[-1]
    assert run["state"] == "COMPLETE", run["failure"]
    assert run["datasets"]["wheels-wheeled"]["version"] == 1
    joined.run("pull", run["run_id"])
    log = next((joined.folder / ".harness" / "runs" / run["run_id"]).glob("*.log")).read_text()
    assert "installed 2 wheels of dataset wheels-wheeled" in log
