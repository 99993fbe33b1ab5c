"""Code competitions with a hidden test: the submitted version runs again on it, and that counts."""

import json
import time
from pathlib import Path

import pytest

from harness.emulator import CompetitionSpec, StateError
from harness.emulator.reruns import NOTHING, THREW, folder
from tests.emulator.support import COMPETITIONS, KERNELS, Local, Refused

# It knows nothing but its input: answers what the test file says, shown or hidden.
SOLVER = """
import os, pathlib
root = pathlib.Path(os.environ.get("HARNESS_KAGGLE_ROOT", "/kaggle")) / "input"
data = next(root.rglob("train.csv")).parent
lines = (data / "test" / "ids.txt").read_text().split()
with open("submission.csv", "w") as out:
    out.write("id,label\\n" + "".join(f"{name},{int(name[1:]) % 2}\\n" for name in lines))
print("rerun" if os.environ.get("KAGGLE_IS_COMPETITION_RERUN") else "first", len(lines))
print(sorted(path.name for path in data.iterdir()))
"""


def prepare(local: Local, tmp_path: Path, **changes: object) -> CompetitionSpec:
    data, hidden = tmp_path / "data", tmp_path / "hidden"
    for root, count in ((data, 3), (hidden, 40)):
        (root / "test").mkdir(parents=True)
        (root / "test" / "ids.txt").write_text("\n".join(f"r{i}" for i in range(count)))
    (data / "train.csv").write_text("id,label\n")
    (data / "test" / "shown.txt").write_text("only in the visible test")
    (hidden / "more.csv").write_text("only in the hidden test")
    answers = tmp_path / "answers.csv"
    answers.write_text("id,label\n" + "".join(f"r{i},{i % 2}\n" for i in range(40)))
    values = {"slug": "my-comp", "title": "My Comp", "id_column": "id", "kind": "code"} | changes
    spec = CompetitionSpec(target_columns=("label",), **values)
    local.state.add_competition(spec, data, answers, hidden)
    return spec


def submit(local: Local, slug: str, name: str = "submission.csv") -> int:
    answer = local.call(
        f"{COMPETITIONS}/CreateCodeSubmission", competitionName="my-comp", kernelOwner="local",
        kernelSlug=slug, kernelVersion=1, fileName=name,
    )  # fmt: skip
    return answer["ref"]


def scored(local: Local, timeout_s: float = 30.0) -> dict:
    """The newest submission, once it is no longer pending."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        row = local.submissions()[0]
        if row.get("status", "PENDING") != "PENDING":
            return row
        time.sleep(0.05)
    raise AssertionError("still pending")


def said(local: Local, ref: int) -> str:
    lines = (folder(local.state, ref) / "log.jsonl").read_text().splitlines()
    return "".join(json.loads(line)["data"] for line in lines)


@pytest.mark.parametrize("sandbox", ["auto", "plain"])
@pytest.mark.parametrize("layout", ["new", "old"])
def test_the_hidden_test_is_swapped_in_and_that_output_is_scored(
    local: Local, tmp_path: Path, sandbox: str, layout: str
):
    local.state.configure(sandbox=sandbox, mount_layout=layout)
    prepare(local, tmp_path)
    first = local.run("solver-one", SOLVER, competitionDataSources=["my-comp"])
    assert "first 3" in local.log(first)
    ref = submit(local, "solver-one")
    row = scored(local)
    assert (row["status"], row["publicScore"], row["ref"]) == ("COMPLETE", "1.00000", ref)
    assert "rerun 40" in said(local, ref)
    # Top-level entries are replaced as a whole: nothing of the visible test is left.
    assert "['more.csv', 'test', 'train.csv']" in said(local, ref)
    assert local.output(first, "submission.csv").count("\n") == 4  # the version keeps its own


def test_a_rerun_is_pending_and_is_no_version_and_costs_no_session(local: Local, tmp_path: Path):
    local.state.configure(cpu_sessions=1, max_running=2)
    prepare(local, tmp_path)
    waits = SOLVER + "if os.environ.get('KAGGLE_IS_COMPETITION_RERUN'): import time; time.sleep(1)"
    local.run("solver-one", waits, competitionDataSources=["my-comp"])
    submit(local, "solver-one")
    assert local.submissions()[0].get("status", "PENDING") == "PENDING"
    assert len(local.state.sessions()) == 1
    assert local.push("another-one", "print(1)")["versionNumber"] == 1
    assert scored(local)["status"] == "COMPLETE"
    body = {"userName": "local", "kernelSlug": "solver-one"}
    assert local.call(f"{KERNELS}/GetKernel", body)["metadata"]["currentVersionNumber"] == 1


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("raise ValueError('the secret is 42')", THREW),
        ("os.remove('submission.csv')", NOTHING),
        ("os.remove('submission.csv'); os.symlink('/etc/passwd', 'submission.csv')", NOTHING),
    ],
)
def test_a_failing_rerun_says_no_more_than_the_service(
    local: Local, tmp_path: Path, end: str, words: str
):
    prepare(local, tmp_path)
    text = SOLVER + f"\nif os.environ.get('KAGGLE_IS_COMPETITION_RERUN'): {end}"
    local.run("solver-one", text, competitionDataSources=["my-comp"])
    submit(local, "solver-one")
    row = scored(local)
    assert (row["status"], row["errorDescription"]) == ("ERROR", words)
    limits = local.call(f"{COMPETITIONS}/GetSubmissionLimits", competitionName="my-comp")
    assert limits["numAllowedNow"] == 5


def test_a_pending_rerun_counts_against_the_day(local: Local, tmp_path: Path):
    prepare(local, tmp_path, max_daily_submissions=1)
    local.run("solver-one", SOLVER, competitionDataSources=["my-comp"])
    submit(local, "solver-one")
    with pytest.raises(Refused, match="all 1 submissions"):
        submit(local, "solver-one")
    scored(local)


def test_a_hidden_test_must_lie_apart_and_belongs_to_code_competitions(
    local: Local, tmp_path: Path
):
    spec = prepare(local, tmp_path)
    data, answers = tmp_path / "data", tmp_path / "answers.csv"
    for hidden, words in (
        (data / "test", "must lie apart"),
        (tmp_path, "must lie apart"),
        (tmp_path / "nothing", "not a folder"),
    ):
        with pytest.raises(StateError, match=words):
            local.state.add_competition(spec, data, answers, hidden)
    inside = tmp_path / "hidden" / "answers.csv"
    inside.write_text(answers.read_text())
    with pytest.raises(StateError, match="inside the hidden test"):
        local.state.add_competition(spec, data, inside, tmp_path / "hidden")
    plain = CompetitionSpec("other-comp", "Other", "id", ("label",))
    with pytest.raises(StateError, match="only a code competition"):
        local.state.add_competition(plain, data, answers, tmp_path / "hidden")
