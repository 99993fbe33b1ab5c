"""From members to the final two through the real program: compare, import, gate, leaderboard, why, rebuild."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from e2e_tools import QUICK_PIPELINE


def refused(workspace, *arguments):
    done = workspace.run(*arguments, ok=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error:")]
    return line


@pytest.fixture(scope="module")
def blended(joined):
    """Two quick runs, an imported member, and a first submission."""
    joined.environment["HARNESS_PROFILE"] = "small"
    joined.add_strategy("other", QUICK_PIPELINE.replace("default_rng(0)", "default_rng(1)"))
    joined.run("push", "quick", "other")
    joined.run("watch", "--follow")
    joined.run("pull")
    first = joined.json("blend-and-submit", "--message", "first", "--floor", "0")
    return joined, first


def foreign(workspace, folder, drop=0, scale=1.0, constant=False):
    """Somebody else's predictions as two plain CSVs, made from our run's ids."""
    outputs = workspace.folder / ".harness" / "runs" / "quick-small-1" / "outputs"
    with (outputs / "oof_predictions.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    with (outputs / "test_predictions.csv").open() as handle:
        tests = [row for row in csv.DictReader(handle) if row["fold"] == "0"]
    oof, test = folder / "oof.csv", folder / "test.csv"
    for path, found in ((oof, rows), (test, tests)):
        lines = ["image_id,label"]
        for number, row in enumerate(found[drop if path == oof else 0 :]):
            noise = (number * 37 % 100) / 100
            value = (float(row.get("target_label", 0.5)) + 2 * noise) / 3
            lines.append(f"{row['id']},{0.5 if constant else value * scale}")
        path.write_text("\n".join(lines) + "\n")
    return "--oof", str(oof), "--test", str(test)


def test_compare_shows_members_pairs_and_disagreements(blended):
    workspace, _ = blended
    result = workspace.json("compare", "--methods", "--examples", "3")
    names = [member["name"] for member in result["members"]]
    assert sorted(names) == ["other-small-1", "quick-small-1"]
    assert result["members"][0]["versus_best"] is None
    assert result["members"][1]["versus_best"]["gain"] <= 0
    assert result["correlations"][0][0] == 1.0
    assert len(result["disagreements"]) == 3
    assert 0 < result["costs"][-1]["cost"] <= result["costs"][0]["cost"] < 1
    assert {item["method"] for item in result["methods"]} >= {"rank-mean", "hill-climb", "stack"}
    text = workspace.run("compare").stdout
    assert "Rank correlation" in text
    assert "They disagree most on" in text
    assert "cost the members' mean most auc" in text


def test_an_import_is_checked_marked_and_takes_part(blended, tmp_path):
    workspace, _ = blended
    assert "ids of run" in refused(workspace, "import", "short", *foreign(workspace, tmp_path, 3))
    assert "outside 0..1" in refused(
        workspace, "import", "wide", *foreign(workspace, tmp_path, 0, 3)
    )
    assert "no name" in refused(workspace, "import", "Bad Name", *foreign(workspace, tmp_path))
    made = workspace.json("import", "mate", *foreign(workspace, tmp_path), "--note", "by hand")
    assert made["member"]["folds_from"] in ("quick-small-1", "other-small-1")
    result = workspace.json("blend-and-submit", "--dry-run", "--floor", "0")
    marks = {member["run_id"]: member["imported"] for member in result["members"]}
    assert marks == {"quick-small-1": False, "other-small-1": False, "mate": True}
    record = json.loads(Path(result["record"]).read_text())
    entry = next(member for member in record["members"] if member["run_id"] == "mate")
    assert entry["kind"] == "import"
    assert len(entry["oof_source_sha256"]) == 64
    rebuilt = workspace.json("rebuild", result["csv"])
    assert rebuilt["identical"] is True


def test_a_method_that_only_squares_the_same_order_is_blocked(blended):
    workspace, _ = blended
    before = len(workspace.json("status")["submissions"])
    pair = ("--runs", "quick-small-1,other-small-1", "--floor", "0")
    hill = workspace.json("blend-and-submit", *pair, "--method", "rank-mean", "--reserve", "0")
    assert hill["submission"]["status"] == "COMPLETE"
    # Nudge the stored file's twin: the same ranks in other bytes can only come from another method, so
    # the ledger is told that the earlier file had them.
    import hashlib
    import sqlite3

    csv_path = Path(hill["csv"])
    squared = csv_path.with_name("squared.csv")
    header, *lines = csv_path.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    squared.write_text("\n".join([header, *(f"{i},{float(v) ** 2!r}" for i, v in rows)]) + "\n")
    with sqlite3.connect(workspace.folder / ".harness" / "ledger.sqlite3") as db:
        db.execute(
            "UPDATE submissions SET csv = ?, sha256 = ? WHERE ref = ?",
            (
                str(squared),
                hashlib.sha256(squared.read_bytes()).hexdigest(),
                hill["submission"]["ref"],
            ),
        )
    line = refused(workspace, "blend-and-submit", *pair, "--method", "rank-mean", "--yes")
    assert "ranks are identical" in line
    assert "Nothing was submitted" in line
    assert "another --method" in line
    dry = workspace.json("blend-and-submit", *pair, "--method", "rank-mean", "--dry-run")
    assert "block" in {finding["kind"] for finding in dry["findings"]}
    assert len(workspace.json("status")["submissions"]) == before + 1


def test_auto_says_why(blended):
    workspace, _ = blended
    text = workspace.run("blend-and-submit", "--method", "auto", "--dry-run", "--explain").stdout
    assert "best nested score" in text
    assert "standard error" in text


def test_why_names_the_whole_chain_and_verifies_it(blended):
    workspace, first = blended
    result = workspace.json("why", first["csv"])
    assert result["sound"] is True
    verified = {check["what"] for check in result["checks"] if check["status"] == "ok"}
    for run in ("quick-small-1", "other-small-1"):
        assert f"{run}: pushed script" in verified
        assert f"{run}: manifest" in verified
        assert f"{run}: oof_predictions.csv" in verified
        assert f"{run}: kernel version in the ledger" in verified
    assert "record in the ledger" in verified
    by_ref = workspace.json("why", str(first["submission"]["ref"]))
    assert by_ref["csv"] == first["csv"]
    assert "kernel" in workspace.run("why", Path(first["csv"]).name).stdout


def test_rebuild_makes_the_identical_bytes(blended, tmp_path):
    workspace, first = blended
    path = Path(first["csv"])
    good = path.read_bytes()
    path.unlink()
    assert workspace.json("rebuild", first["csv"])["identical"] is True
    assert path.read_bytes() == good
    workspace.run("rebuild", first["csv"], "-o", str(tmp_path / "again.csv"))
    assert (tmp_path / "again.csv").read_bytes() == good


def test_an_altered_file_is_found(blended):
    workspace, first = blended
    path = Path(first["csv"])
    good = path.read_bytes()
    path.write_bytes(good.replace(b"0.", b"0.0", 1))
    done = workspace.run("why", first["csv"], ok=False)
    assert done.returncode == 1
    assert "differs" in done.stdout
    path.write_bytes(good)


def test_an_altered_record_is_found(blended):
    workspace, first = blended
    path = Path(first["record"])
    good = path.read_text()
    record = json.loads(good)
    record["members"][0]["weight"] += 0.1
    path.write_text(json.dumps(record))
    done = workspace.run("why", first["csv"], "--json", ok=False)
    assert done.returncode == 1
    bad = [c["what"] for c in json.loads(done.stdout)["checks"] if c["status"] == "differs"]
    assert bad == ["record in the ledger"]
    path.write_text(good)


def test_altered_outputs_are_found_and_not_rebuilt_from(blended):
    workspace, first = blended
    path = workspace.folder / ".harness/runs/quick-small-1/outputs/test_predictions.csv"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    try:
        assert workspace.run("why", first["csv"], ok=False).returncode == 1
        assert "test_predictions.csv" in refused(workspace, "rebuild", first["csv"])
    finally:
        path.write_bytes(good)


def test_a_copy_is_known_by_its_bytes_and_a_stranger_is_not(blended, tmp_path):
    workspace, first = blended
    copy = shutil.copy(first["csv"], tmp_path / "copy.csv")
    assert workspace.json("why", str(copy))["record"]["file"]["name"] == Path(first["csv"]).name
    stranger = tmp_path / "stranger.csv"
    stranger.write_text("image_id,label\n")
    assert "has no record" in refused(workspace, "why", str(stranger))
    own = workspace.folder / ".harness/runs/quick-small-1/outputs/submission.csv"
    assert "output of run quick-small-1" in refused(workspace, "why", str(own))
    assert "reference 987654" in refused(workspace, "why", "987654")


def test_the_leaderboard_has_our_place_and_joins_cv_to_public_scores(blended):
    workspace, first = blended
    result = workspace.json("leaderboard")
    assert result["our_rank"] == 1
    assert result["zone"] is None  # this competition awards no medals
    assert result["points"][0]["cv"] == pytest.approx(first["score"]["mean_fold"])
    assert result["points"][0]["public"] == float(first["submission"]["public_score"])
    assert "unknown" in result["noise"]["text"]  # the competition file gives no public_rows
    assert "our place: 1 of 1" in workspace.run("leaderboard").stdout


def test_select_gives_reasons(blended):
    workspace, _ = blended
    result = workspace.json("select")
    assert 1 <= len(result["choices"]) <= 2
    assert result["choices"][0]["label"] == result["candidates"][0]["label"]
    assert "best nested CV" in result["choices"][0]["reason"]
    assert "1. " in workspace.run("select").stdout


@pytest.mark.parametrize(
    "command",
    ["blend-and-submit", "compare", "leaderboard", "select", "why", "rebuild", "import"],
)
def test_every_help_has_examples_and_json(joined, command):
    text = joined.run(command, "--help").stdout
    assert "Examples:" in text
    assert f"harness {command}" in text
    assert "--json" in text


def test_mistakes_are_one_line(blended, tmp_path):
    workspace, _ = blended
    assert "No run 'nobody'" in refused(workspace, "compare", "--runs", "nobody")
    (tmp_path / "g.csv").write_text("id,group,more\n")
    assert "two are wanted" in refused(workspace, "compare", "--groups", str(tmp_path / "g.csv"))
    assert "does not exist" in refused(workspace, "rebuild", "nothing.csv")


def test_another_competition_needs_only_the_name_of_its_metric(joined, tmp_path):
    """F1 wants 0 and 1: thresholds are chosen out-of-fold, and the service scores the file."""
    kernels = joined.folder / "kernels"
    text = (kernels / "competitions" / "masked_xray.py").read_text()
    text = text.replace('"masked-xray-challenge"', '"films-by-f1"').replace('"auc"', '"f1"')
    (kernels / "competitions" / "films_by_f1.py").write_text(text)
    for name, seed in (("one", 5), ("two", 6)):
        joined.add_strategy(name, QUICK_PIPELINE.replace("default_rng(0)", f"default_rng({seed})"))
        path = kernels / "strategies" / f"{name}.py"
        path.write_text(path.read_text().replace("masked_xray", "films_by_f1"))
    joined.run(
        "local", "competition", "add", str(joined.drawn.data_folder),
        "--slug", "films_by_f1", "--solution", str(joined.drawn.solution_csv),
    )  # fmt: skip
    joined.environment["HARNESS_PROFILE"] = "small"
    joined.run("push", "one", "two")
    joined.run("watch", "--follow")
    joined.run("pull")
    asked = ("blend-and-submit", "--competition", "films-by-f1", "--method", "auto", "--explain")
    made = joined.json(*asked, "--floor", "0")
    assert made["metric"] == "f1"
    with Path(made["csv"]).open() as handle:
        assert {row["label"] for row in csv.DictReader(handle)} <= {"0", "1"}
    assert 0 <= float(made["submission"]["public_score"]) <= 1
    assert joined.json("rebuild", made["csv"])["identical"] is True
    assert "f1" in joined.run("compare", "--competition", "films-by-f1", "--methods").stdout
