"""harness results: a family of strategies trained, blended and tabulated by one command that can be repeated."""

import csv

from e2e_tools import QUICK_PIPELINE


def test_one_command_trains_blends_and_tabulates_and_goes_on_where_it_was(workspace):
    pipeline = QUICK_PIPELINE.replace("default_rng(0)", "default_rng(1)")
    pipeline += "\nwriter.note(metadata_auc={'logistic': 0.75, 'boosting': 0.5})"
    workspace.add_strategy("other", pipeline)
    data = str(workspace.drawn.data_folder)
    arguments = ("results", "quick", "other", "--data", data, "--profile", "small")
    found = workspace.json(*arguments)
    assert [row["name"] for row in found["rows"]][:2] == ["quick", "other"]
    assert found["rows"][2]["name"].startswith("blend of ")
    assert found["seeds"] == [1]
    assert found["rows"][0]["gain"] is None
    (shortcut,) = found["shortcuts"]
    assert shortcut.endswith("AUC 0.7500 by regression, 0.5000 by boosting")
    gain = found["rows"][1]["gain"]
    assert gain["low"] <= gain["gain"] <= gain["high"]
    with (workspace.drawn.data_folder / "sample_submission.csv").open() as handle:
        wanted = sorted(row["image_id"] for row in csv.DictReader(handle))
    for row in found["rows"]:
        with open(row["csv"]) as handle:
            assert sorted(line["image_id"] for line in csv.DictReader(handle)) == wanted
    assert "-quick-" in found["rows"][0]["csv"]
    assert "-blend-" in found["rows"][2]["csv"]

    again = workspace.run(*arguments, "--markdown")
    assert again.stdout.count("\n|") >= 4
    assert "fold seed 1" in again.stdout
    assert "0.7500 by regression" in again.stdout
    shown = workspace.run(*arguments).stdout.splitlines()[-1]
    _, _, command = shown.partition("harness ")
    assert "cost the members' mean most" in workspace.run(*command.split()).stdout
    runs = workspace.json("runs")
    assert len(runs) == 2, "the second call trained again"


def test_without_data_the_folder_is_asked_for(tmp_path_factory, workspace):
    done = workspace.run(
        "results", "quick", "--profile", "small", ok=False,
        HARNESS_STATE=str(tmp_path_factory.mktemp("empty")),
    )  # fmt: skip
    assert done.returncode == 1
    assert "--data" in done.stderr
