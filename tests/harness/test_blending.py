"""A blend weighs members by AUC, lies between them, ignores their order, and refuses what cannot be compared."""

from dataclasses import replace

import numpy as np
import pytest
from contract_runs import COMPETITION, read_run, write_run
from hypothesis import given
from hypothesis import strategies as st
from test_ledger import new_run

from harness.blending import blend_by_auc, eligible_runs, proportional_weights, score_run
from harness.errors import BlendError
from harness.records import Handle, RunSpec, RunState
from kernels.contract import ID_COLUMN

TEST_IDS = [f"test{i:02d}" for i in range(20)]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [
        read_run(write_run(folder / name, skill, seed=number))
        for number, (name, skill) in enumerate([("strong", 0.9), ("good", 0.85), ("noise", 0.0)])
    ]


@given(st.lists(st.floats(0.5, 1.0), min_size=1, max_size=8))
def test_weights_sum_to_one_and_follow_the_scores(scores):
    weights = proportional_weights(scores)
    assert weights.sum() == pytest.approx(1)
    assert (np.argsort(weights, kind="stable") == np.argsort(scores, kind="stable")).all()


def test_the_write_ups_weights_are_a_plain_mean():
    assert proportional_weights([0.9991, 0.9999]) == pytest.approx([0.4997998999, 0.5002001001])
    assert proportional_weights([0.9991, 0.9999, 0.836, 0.704]) == pytest.approx(
        [0.28231, 0.28254, 0.23622, 0.19893], abs=1e-5
    )


def test_a_blend_lies_between_its_members(members):
    blend = blend_by_auc(members, COMPETITION, TEST_IDS, floor=0.0)
    means = np.stack(
        [m.test.groupby(ID_COLUMN)["pred_label"].mean().loc[TEST_IDS] for m in members]
    )
    mixed = blend.predictions["label"].to_numpy()
    assert (mixed >= means.min(axis=0) - 1e-12).all()
    assert (mixed <= means.max(axis=0) + 1e-12).all()


def test_the_order_of_members_does_not_matter(members):
    one = blend_by_auc(members[:2], COMPETITION, TEST_IDS)
    two = blend_by_auc(members[1::-1], COMPETITION, TEST_IDS)
    assert one.predictions["label"].to_numpy() == pytest.approx(two.predictions["label"].to_numpy())
    assert one.score.mean_fold == pytest.approx(two.score.mean_fold)


def test_two_good_members_make_a_better_blend(members):
    blend = blend_by_auc(members[:2], COMPETITION, TEST_IDS)
    assert blend.score.mean_fold > blend.best.score.mean_fold
    assert blend.warnings == ()


def test_the_floor_drops_the_weak_member_by_name(members):
    blend = blend_by_auc(members, COMPETITION, TEST_IDS)
    assert [member.run_id for member in blend.members] == ["strong", "good"]
    assert blend.dropped[0][0] == "noise"
    assert "below the floor" in blend.dropped[0][1]


def test_a_blend_that_loses_to_its_best_member_says_so(members):
    blend = blend_by_auc([members[0], members[2]], COMPETITION, TEST_IDS, floor=0.0)
    assert "not better than its best member strong" in blend.warnings[0]


def test_the_blends_score_is_nested(members):
    """Labels of a fold must not reach the weights that mix that fold."""
    outputs = members[:2]
    fold = outputs[0].oof["fold"] == 0
    flipped = [
        replace(
            m,
            oof=m.oof.assign(
                target_label=m.oof["target_label"].where(~fold, 1 - m.oof["target_label"])
            ),
        )
        for m in outputs
    ]
    from harness.blending import _nested_mix, _side_by_side

    before = _nested_mix(_side_by_side(outputs, COMPETITION), "auc")
    after = _nested_mix(_side_by_side(flipped, COMPETITION), "auc")
    assert (before[fold] == after[fold]).all()
    assert (before[~fold] != after[~fold]).any()


def test_members_scored_on_different_images_are_refused(tmp_path, members):
    other = read_run(write_run(tmp_path / "other", n=57))
    with pytest.raises(BlendError, match="different images: 3 ids"):
        blend_by_auc([members[0], other], COMPETITION, TEST_IDS)


def test_members_with_other_folds_are_refused(tmp_path, members):
    other = read_run(write_run(tmp_path / "other", folds=4))
    with pytest.raises(BlendError, match="different folds"):
        blend_by_auc([members[0], other], COMPETITION, TEST_IDS)


def test_test_images_that_nobody_predicted_are_named(members):
    with pytest.raises(BlendError, match="first: extra"):
        blend_by_auc(members[:2], COMPETITION, [*TEST_IDS, "extra"])


def test_nothing_to_blend_is_an_error_with_a_next_step():
    with pytest.raises(BlendError, match="harness pull"):
        blend_by_auc([], COMPETITION, TEST_IDS)


def test_a_score_has_its_evidence(members):
    score = score_run(members[0], COMPETITION)
    assert score.low < score.mean_fold < score.high
    assert score.n == 60


def done(strategy, number, **changes):
    spec = RunSpec(strategy, profile="cpu")
    values = {
        "spec": spec,
        "state": RunState.COMPLETE,
        "score_mean_fold": 0.9,
        "competition": "toy",
    }
    return new_run(
        run_id=f"{strategy}-{number}",
        kernel=Handle("me", strategy, number),
        **{**values, **changes},
    )


def test_only_the_newest_comparable_runs_take_part_unasked():
    cpu = RunSpec("ssl", profile="cpu")
    runs = [
        done("ssl", 1),
        done("ssl", 2),
        done("probe", 1),
        done("ssl", 3, state=RunState.ERROR),
        done("ssl", 4, score_mean_fold=None),
        done("ssl", 5, spec=replace(cpu, folds=(0,))),
        done("ssl", 6, spec=replace(cpu, variant="as-written")),
        done("ssl", 7, spec=replace(cpu, profile="small")),
        done("ssl", 8, competition="other"),
        done("hidden", 1),
    ]
    chosen = eligible_runs(runs, "toy", "cpu", {"ssl", "probe"})
    assert [run.run_id for run in chosen] == ["ssl-2", "probe-1"]


def test_tags_are_members_of_their_own():
    tagged = done("ssl", 2, spec=RunSpec("ssl", profile="cpu", tag="longer"))
    assert len(eligible_runs([done("ssl", 1), tagged], "toy", "cpu", {"ssl"})) == 2
