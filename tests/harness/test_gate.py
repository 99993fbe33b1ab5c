"""What the competition would refuse is found before it costs a submission, and named exactly."""

import pandas as pd
import pytest

from harness.errors import SubmissionInvalid
from harness.gate import check_submission, submission_faults, submission_warnings

SAMPLE = pd.DataFrame({"image_id": ["a", "b", "c"], "label": [0.5, 0.5, 0.5]})


def faults(frame):
    return submission_faults(frame, SAMPLE, "image_id")


def test_a_valid_submission_in_another_order_passes():
    assert faults(SAMPLE.iloc[::-1].assign(label=[0.0, 1.0, 0.3])) == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (SAMPLE.rename(columns={"label": "prob"}), ["columns are", "prob", "the sample has"]),
        (SAMPLE.iloc[:2], ["1 of 3 ids missing (first: c)", "0 unexpected"]),
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
