"""What the competition would refuse is found before it costs a submission, and named exactly."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from harness.errors import SubmissionInvalid
from harness.gate import (
    Earlier,
    block,
    check_submission,
    earlier_findings,
    file_findings,
    gain_findings,
    limit_findings,
    refuse_blocks,
    submission_faults,
    submission_warnings,
    until_reset,
    warning,
)
from harness.scoring import Gain

SAMPLE = pd.DataFrame({"image_id": ["a", "b", "c"], "label": [0.5, 0.5, 0.5]})


def faults(frame):
    return submission_faults(frame, SAMPLE, "image_id")


def test_a_valid_submission_in_another_order_passes():
    assert faults(SAMPLE.iloc[::-1].assign(label=[0.0, 1.0, 0.3])) == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (SAMPLE.rename(columns={"label": "prob"}), ["columns are", "prob", "the sample has"]),
        (
            SAMPLE.iloc[:2],
            ["2 rows, the sample has 3", "1 of 3 ids missing (first: c)", "0 unexpected"],
        ),
        (
            SAMPLE.assign(image_id=["a", "b", "z"]),
            ["1 of 3 ids missing", "1 unexpected (first: z)"],
        ),
        (pd.concat([SAMPLE, SAMPLE.iloc[:1]]), ["1 ids appear twice (first: a)"]),
        (SAMPLE.assign(label=[0.5, float("nan"), 0.5]), ["1 NaN, inf or text in 'label' (row 3)"]),
        (SAMPLE.assign(label=[0.5, float("inf"), 0.5]), ["row 3"]),
        (SAMPLE.assign(label=[0.5, "high", 0.5]), ["text in 'label' (row 3)"]),
        (SAMPLE.assign(label=[0.5, 0.5, 1.2]), ["leaves 0..1 (row 4)"]),
    ],
)
def test_each_fault_is_named(frame, words):
    found = "; ".join(faults(frame))
    assert all(word in found for word in words), found


def test_all_faults_come_in_one_error(tmp_path):
    sample, mine = tmp_path / "sample.csv", tmp_path / "mine.csv"
    SAMPLE.to_csv(sample, index=False)
    pd.DataFrame({"image_id": ["a", "a"], "label": [None, 2]}).to_csv(mine, index=False)
    with pytest.raises(SubmissionInvalid) as error:
        check_submission(mine, sample, "image_id")
    for word in ("twice", "missing", "NaN", "Nothing was submitted"):
        assert word in str(error.value)


def test_ids_that_look_like_numbers_keep_their_zeros(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("image_id,label\n0417,0.5\n0001,0.5\n")
    assert check_submission(path, path, "image_id") == 2


def test_a_file_that_is_no_csv_is_one_line(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(SubmissionInvalid, match=r"s\.csv"):
        check_submission(path, path, "image_id")


def test_constant_predictions_are_allowed_with_a_warning():
    assert submission_warnings(SAMPLE, "image_id") != []
    assert submission_warnings(SAMPLE.assign(label=[0.1, 0.2, 0.3]), "image_id") == []


NOON = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def kinds(findings):
    return [finding.kind for finding in findings]


def test_the_deadline_blocks_from_its_very_second():
    assert kinds(limit_findings("c", 0, 5, "2026-05-04T12:30:00Z", NOON)) == ["block"]
    assert limit_findings("c", 0, 5, "2026-05-04T12:30:01Z", NOON) == []
    assert limit_findings("c", 0, 5, None, NOON) == []
    assert kinds(limit_findings("c", 0, 5, None, NOON, closed=True)) == ["block"]


def test_the_daily_limit_blocks_and_says_when_it_ends():
    (finding,) = limit_findings("c", 5, 0, None, NOON)
    assert finding.kind == "block"
    assert "left today (5 made)" in finding.what
    assert "00:00 UTC, in 11 h 30 min" in finding.change


def test_the_count_of_hours_is_of_utc_wherever_one_is():
    from datetime import timedelta, timezone

    assert until_reset(NOON.astimezone(timezone(timedelta(hours=9)))) == "11 h 30 min"


@pytest.mark.parametrize(
    ("left", "reserve", "warns"), [(1, 1, True), (2, 1, False), (2, 2, True), (1, 0, False)]
)
def test_the_reserve_warns_and_never_blocks(left, reserve, warns):
    found = limit_findings("c", 3, left, None, NOON, reserve)
    assert kinds(found) == (["warning"] if warns else [])
    if warns:
        assert f"--reserve {left - 1}" in found[0].change


MANY = pd.DataFrame(
    {"image_id": [f"i{n}" for n in range(400)], "label": np.linspace(0.1, 0.9, 400)}
)


def earlier(frame, metric="auc"):
    return earlier_findings(MANY, [Earlier("old.csv", frame)], "image_id", metric)


def test_equal_ranks_are_the_same_submission_to_an_auc_but_not_to_a_loss():
    squared = MANY.assign(label=MANY["label"] ** 2)
    assert kinds(earlier(squared)) == ["block"]
    assert "old.csv" in earlier(squared)[0].what
    assert kinds(earlier(squared, "log_loss")) == ["warning"]
    assert kinds(earlier(MANY, "log_loss")) == ["block"]


def test_rows_in_another_order_are_still_the_same_submission():
    assert kinds(earlier(MANY.iloc[::-1])) == ["block"]


def test_nearly_equal_ranks_warn_and_different_ones_do_not():
    swapped = MANY["label"].to_numpy().copy()
    swapped[[10, 11]] = swapped[[11, 10]]
    assert kinds(earlier(MANY.assign(label=swapped))) == ["warning"]
    mixed = np.random.default_rng(0).permutation(swapped)
    assert earlier(MANY.assign(label=mixed)) == []


def test_another_test_set_is_no_comparison():
    assert earlier(MANY.assign(image_id=["x" + name for name in MANY["image_id"]])) == []


def test_no_expected_gain_warns_with_its_interval_and_never_blocks():
    assert gain_findings(Gain(0.001, -0.002, 0.004, 0.0015, 0.5), "a") == []
    (finding,) = gain_findings(Gain(-0.001, -0.002, 0.0, 0.0005, 0.05), "the member a")
    assert finding.kind == "warning"
    assert "-0.0010 [-0.0020, +0.0000]" in finding.what


def test_form_blocks_and_constants_warn():
    assert kinds(file_findings(SAMPLE.iloc[:2], SAMPLE, "image_id")) == ["block", "block"]
    assert kinds(file_findings(SAMPLE, SAMPLE, "image_id")) == ["warning"]


def test_only_blocks_stop_a_file_and_all_come_in_one_line():
    refuse_blocks([warning("odd", "nothing")], "s.csv")
    with pytest.raises(SubmissionInvalid) as error:
        refuse_blocks([block("one", "x"), warning("odd", "y"), block("two", "x")], "s.csv")
    text = str(error.value)
    assert "one; two" in text
    assert "odd" not in text
    assert "\n" not in text


def test_ids_that_spell_missing_values_are_ids(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("image_id,label\nNA,0.5\nnull,0.5\n")
    assert check_submission(path, path, "image_id") == 2
