"""Competitions: what is accepted, scored, limited and shown."""

from pathlib import Path

import pytest

from harness.emulator import CompetitionSpec, ManualClock, Server, StateError
from tests.emulator.support import COMPETITIONS, Local, Refused, scores

RIGHT = scores(lambda i: i % 2)
DAY = 24 * 3600


def test_a_submission_is_scored_in_public_and_kept_in_private(local: Local, tmp_path: Path):
    local.add_competition(tmp_path)
    # Ids in another order, and half of the rows wrong.
    lines = [f"r{i},{i % 2 if i < 20 else 0.5}" for i in reversed(range(40))]
    answer = local.submit("id,label\n" + "\n".join(lines) + "\n")
    assert answer["message"] == "Successfully submitted to My Comp"
    assert answer["ref"] > 0
    (row,) = local.submissions()
    assert 0.5 < float(row["publicScore"]) < 1
    assert row.get("privateScore", "") == ""
    (stored,) = local.state.submissions("my-comp")
    assert 0.5 < stored["private"] < 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,wrong\nr0,1\n", "missing columns: label"),
        (RIGHT.replace("label", "label,more").replace("\n", ",1\n")[2:], "missing columns: id"),
        ("\n".join(line + ",0" for line in RIGHT.replace("label", "label").split()), "unexpected"),
        (RIGHT.replace("r7,1\n", ""), "1 of 40 ids missing (first: r7)"),
        (RIGHT + "extra,1\n", "1 unexpected ids (first: extra)"),
        (RIGHT + "r3,1\n", "1 ids more than once (first: r3)"),
        (
            RIGHT.replace("r7,1\n", "r7,\n"),
            "1 missing or non-numeric values in 'label' (first: r7)",
        ),
        (RIGHT.replace("r7,1\n", "r7,nan\n"), "missing or non-numeric"),
        (RIGHT.replace("r7,1\n", "r7,inf\n"), "infinite"),
        ("", "not a CSV"),
        ("\x00\x01binary", "missing columns"),
    ],
)
def test_a_wrong_form_ends_in_error_with_the_reason(
    local: Local, tmp_path: Path, text: str, words: str
):
    local.add_competition(tmp_path)
    local.submit(text)
    (row,) = local.submissions()
    assert row["status"] == "ERROR"
    assert words in row["errorDescription"]
    assert row.get("publicScore", "") == ""
    limits = local.call(f"{COMPETITIONS}/GetSubmissionLimits", competitionName="my-comp")
    assert limits["numAllowedNow"] == 5  # it does not count


def test_without_a_solution_nothing_is_scored_and_that_is_said(local: Local, tmp_path: Path):
    local.add_competition(tmp_path, solution=False)
    local.submit(RIGHT)
    (row,) = local.submissions()
    assert row["status"] == "COMPLETE"
    assert row.get("publicScore", "") == ""
    assert row["errorDescription"].startswith("not scored: no solution file was given")


def test_the_daily_limit_is_per_utc_day_and_team(tmp_path: Path):
    clock = ManualClock(1_767_225_600.0 - 60)  # a minute before midnight UTC
    with Server(tmp_path / "state", clock=clock) as server:
        local = Local(server, tmp_path / "state")
        local.add_competition(tmp_path, max_daily_submissions=1)
        local.submit(RIGHT)
        with pytest.raises(Refused) as caught:
            local.submit(RIGHT)
        assert caught.value.status == 400
        local.submit(RIGHT, user="another-team")
        clock.advance(61)
        local.submit(RIGHT)
        limits = local.call(f"{COMPETITIONS}/GetSubmissionLimits", competitionName="my-comp")
        assert (limits["numToday"], limits["numTotal"]) == (1, 2)


def test_after_the_deadline_nothing_is_accepted_and_private_scores_show(tmp_path: Path):
    clock = ManualClock()
    with Server(tmp_path / "state", clock=clock) as server:
        local = Local(server, tmp_path / "state")
        local.add_competition(tmp_path, deadline="2026-01-02T00:00:00Z")
        local.submit(RIGHT)
        assert local.submissions()[0].get("privateScore", "") == ""
        clock.advance(DAY)
        assert local.submissions()[0]["privateScore"] == "1.00000"
        with pytest.raises(Refused, match="closed"):
            local.submit(RIGHT)


def test_pending_can_last_a_time_or_a_number_of_polls(local: Local, tmp_path: Path):
    local.add_competition(tmp_path)
    local.state.configure(submission_polls=2)
    local.submit(RIGHT)
    seen = [local.submissions()[0].get("status", "PENDING") for _ in range(3)]
    assert seen == ["PENDING", "PENDING", "COMPLETE"]


def test_a_submission_left_ungraded_by_a_killed_server_is_graded_later(
    local: Local, tmp_path: Path
):
    local.add_competition(tmp_path)
    local.submit(RIGHT)
    with local.state.write() as db:
        db.execute("UPDATE submissions SET graded = 0, public = NULL, private = NULL")
    assert local.submissions()[0]["publicScore"] == "1.00000"


def test_the_leaderboard_ranks_teams_by_their_best(local: Local, tmp_path: Path):
    local.add_competition(tmp_path, metric="rmse", max_daily_submissions=9)
    for team, guess in (("worst", 0.9), ("best", 0.1), ("middle", 0.5), ("best", 0.8)):
        local.submit(scores(lambda i, guess=guess: abs(i % 2 - guess)), user=team)
    board = local.call(f"{COMPETITIONS}/GetLeaderboard", competitionName="my-comp")["submissions"]
    assert [line["teamName"] for line in board] == ["best", "middle", "worst"]
    assert board[0]["score"] == "0.10000"
    (mine,) = local.call(f"{COMPETITIONS}/ListCompetitions", user="middle")["competitions"]
    assert (mine["userRank"], mine["teamCount"]) == (2, 3)


def test_submissions_of_others_are_not_shown(local: Local, tmp_path: Path):
    local.add_competition(tmp_path)
    ref = local.submit(RIGHT)["ref"]
    assert local.submissions(user="somebody") == []
    assert local.post(f"{COMPETITIONS}/GetSubmission", {"ref": ref}, "somebody").status_code == 404


def test_an_unknown_competition_is_a_404(local: Local):
    for method in ("GetCompetition", "ListSubmissions", "ListDataFiles", "GetLeaderboard"):
        answer = local.post(f"{COMPETITIONS}/{method}", {"competitionName": "nothing"})
        assert answer.status_code == 404


def test_adding_again_changes_only_what_changed(local: Local, tmp_path: Path):
    local.add_competition(tmp_path)
    local.submit(RIGHT)
    local.add_competition(tmp_path)
    local.add_competition(tmp_path, title="New Title")
    (spec,) = local.state.competitions()
    assert spec.title == "New Title"
    assert len(local.submissions()) == 1


def test_a_solution_inside_the_data_is_refused(local: Local, tmp_path: Path):
    spec = local.add_competition(tmp_path)
    inside = tmp_path / "data" / "solution.csv"
    inside.write_text((tmp_path / "solution.csv").read_text())
    with pytest.raises(StateError, match="inside the data folder"):
        local.state.add_competition(spec, tmp_path / "data", inside)
    link = tmp_path / "data" / "link.csv"
    link.symlink_to(tmp_path / "solution.csv")
    local.state.add_competition(spec, tmp_path / "data", tmp_path / "solution.csv")
    listed = local.call(f"{COMPETITIONS}/ListDataFiles", competitionName="my-comp")["files"]
    assert "link.csv" not in [file["name"] for file in listed]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"metric": "mape"}, "metric"), ({"kind": "x"}, "kind"), ({"public_fraction": 0.0}, "public"),
     ({"target_columns": ()}, "target"), ({"target_columns": ["label"]}, "target"),
     ({"slug": "No Good"}, "slug"), ({"deadline": "soon"}, "isoformat"), ({"max_daily_submissions": 0}, "daily"),
     ({"id_column": "label"}, "id_column")],
)  # fmt: skip
def test_a_spec_says_what_is_wrong_with_it(change: dict, field: str):
    values = {"slug": "my-comp", "title": "T", "id_column": "id", "target_columns": ("label",)}
    with pytest.raises(ValueError, match=field):
        CompetitionSpec(**{**values, **change})


def test_an_unusable_solution_is_found_when_it_is_added(local: Local, tmp_path: Path):
    spec = local.add_competition(tmp_path)
    bad = tmp_path / "bad.csv"
    bad.write_text("id,label\na,1\nb,1\n")
    with pytest.raises(StateError, match="both classes"):
        local.state.add_competition(spec, tmp_path / "data", bad)


@pytest.mark.parametrize(
    "name", ["../solution.csv", "/etc/passwd", "images/../../solution.csv", "", "images"]
)
def test_only_the_data_folder_is_served(local: Local, tmp_path: Path, name: str):
    local.add_competition(tmp_path)
    with pytest.raises(Refused) as caught:
        local.call(f"{COMPETITIONS}/DownloadDataFile", competitionName="my-comp", fileName=name)
    assert caught.value.status == 404


def test_a_code_submission_needs_a_complete_version_with_internet_off(local: Local, tmp_path: Path):
    local.add_competition(tmp_path, kind="code")
    text = f"open('submission.csv', 'w').write({RIGHT!r})"
    comp = {"competitionDataSources": ["my-comp"]}
    local.run("with-internet", text, enableInternet=True, **comp)
    local.run("without-data", text)
    local.run("crashed-one", text + "; 1/0", **comp)
    local.run("good-one", text, **comp)

    def submit(slug: str, name: str = "submission.csv") -> str:
        answer = local.post(
            f"{COMPETITIONS}/CreateCodeSubmission",
            {"competitionName": "my-comp", "kernelOwner": "local", "kernelSlug": slug,
             "kernelVersion": 1, "fileName": name},
        )  # fmt: skip
        body = answer.json()
        return body["message"] if answer.status_code == 200 else body["error"]["message"]

    assert "internet" in submit("with-internet")
    assert "does not use" in submit("without-data")
    assert "not complete" in submit("crashed-one")
    assert "not found" in submit("good-one", "other.csv")
    assert "Successfully" in submit("good-one")
    assert [row["publicScore"] for row in local.submissions()] == ["1.00000"]
