"""What the ledger says is about one local Kaggle and one set of data: when those change, it is past."""

import shutil

import pytest

from harness.emulator import State, kernels


@pytest.fixture(scope="module")
def blended(joined):
    joined.run("push", "quick", "--profile", "small")
    joined.run("watch", "--follow")
    joined.run("pull")
    first = joined.json("blend-and-submit", "--profile", "small")
    return joined, first


def test_runs_on_other_data_are_neither_already_there_nor_blended(blended, tmp_path):
    workspace, _ = blended
    data, solution = tmp_path / "data", tmp_path / "solution.csv"
    shutil.copytree(workspace.drawn.data_folder, data)
    lines = workspace.drawn.solution_csv.read_text().splitlines()
    solution.write_text(
        "\n".join([lines[0], *(f"{x[:-1]}{1 - int(x[-1])}" for x in lines[1:])]) + "\n"
    )
    workspace.run(
        "local",
        "competition",
        "add",
        str(data),
        "--slug",
        "masked_xray",
        "--solution",
        str(solution),
    )
    refused = workspace.run("blend-and-submit", "--profile", "small", ok=False)
    assert refused.returncode == 1
    assert "Push and pull some" in refused.stderr
    pushed = workspace.json("push", "quick", "--profile", "small")
    assert pushed[0]["already_there"] is False
    workspace.run("watch", "--follow")


def test_after_a_reset_nothing_of_the_old_kaggle_is_taken_for_the_new(blended):
    workspace, _ = blended
    assert workspace.json("runs")
    workspace.run("local", "reset", "--yes")
    assert workspace.json("runs") == []
    assert workspace.json("status")["submissions"] == []
    workspace.run(
        "local", "competition", "add", str(workspace.drawn.data_folder),
        "--slug", "masked_xray", "--solution", str(workspace.drawn.solution_csv),
    )  # fmt: skip
    pushed = workspace.json("push", "quick", "--profile", "small")
    assert pushed[0]["already_there"] is False
    assert pushed[0]["run"]["kernel"]["version"] == 1
    workspace.run("watch", "--follow")
    workspace.run("pull")
    again = workspace.json("blend-and-submit", "--profile", "small")
    assert again["submission"]["ref"] == 1
    assert again["submission"]["status"] == "COMPLETE"


def test_changed_settings_take_part_in_a_blend_only_under_a_name(blended):
    workspace, _ = blended
    workspace.run("push", "quick", "--profile", "small", "--set", "glcm_levels=16")
    workspace.run("watch", "--follow")
    workspace.run("pull")
    unasked = workspace.json("blend-and-submit", "--profile", "small", "--dry-run")
    assert all("set" not in member["run_id"] for member in unasked["members"])


def test_a_kernel_deleted_there_leaves_what_was_pulled_and_is_pushed_anew(blended):
    workspace, _ = blended
    workspace.run("push", "quick", "--profile", "small", "--tag", "gone")
    workspace.run("watch", "--follow")
    workspace.run("pull", "quick-small-gone-1", "--checkpoints")
    state = State(workspace.folder / ".harness" / "local-kaggle")
    (kernel,) = [k for k in kernels.listed(state, "local") if k["slug"].endswith("small-gone")]
    kernels.delete(state, "local", kernel)
    state.close()
    again = workspace.run("pull", "quick-small-gone-1", "--checkpoints")
    assert "Its outputs are here" in again.stderr
    outputs = workspace.folder / ".harness" / "runs" / "quick-small-gone-1" / "outputs"
    (outputs / "checkpoints" / "quick.bin").unlink()
    refused = workspace.run("pull", "quick-small-gone-1", "--checkpoints", ok=False)
    assert refused.returncode == 1
    assert "Notebook not found" in refused.stderr
    (pushed,) = workspace.json("push", "quick", "--profile", "small", "--tag", "gone", "--force")
    assert pushed["run"]["kernel"]["version"] == 1
    workspace.run("watch", "--follow")
    workspace.run("pull", "--checkpoints")
    (run,) = [run for run in workspace.json("runs") if run["spec"]["tag"] == "gone"]
    assert (run["run_id"], run["state"]) == ("quick-small-gone-2", "COMPLETE")
