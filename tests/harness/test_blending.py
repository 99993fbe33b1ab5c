"""A blend weighs members, lies between them, ignores their order, scores itself on other rows, and says why."""

from dataclasses import replace

import numpy as np
import pytest
from contract_runs import COMPETITION, read_run, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ledger import new_run
from test_methods import random_rows

from harness.blending import (
    apply_floor,
    blend_members,
    eligible_runs,
    mix_test,
    nested_predictions,
    proportional_weights,
    score_run,
    space_of,
    views_outside,
)
from harness.errors import BlendError
from harness.members import TableBuilder, line_up
from harness.methods import METHOD_NAMES, find_method, methods_for
from harness.records import Handle, RunSpec, RunState
from kernels.config import Competition
from kernels.contract import ID_COLUMN
from kernels.stats.auc import auc_score

TEST_IDS = [f"test{i:02d}" for i in range(20)]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [
        read_run(write_run(folder / name, skill, seed=number))
        for number, (name, skill) in enumerate([("strong", 0.9), ("good", 0.85), ("noise", 0.0)])
    ]


def table_of(outputs, **changes):
    return line_up(outputs, COMPETITION, len(outputs), **changes)


def blended(outputs, method="auc-weights", **options):
    return blend_members(table_of(outputs), COMPETITION, method, **options)


def mixed_test(blend, outputs, order=TEST_IDS):
    by_name = {item.run_id: item.test for item in outputs}
    return mix_test(blend.recipe, COMPETITION, order, by_name.__getitem__)


@given(st.lists(st.floats(0.5, 1.0), min_size=1, max_size=8))
def test_weights_sum_to_one_and_follow_the_scores(scores):
    weights = proportional_weights(scores)
    assert weights.sum() == pytest.approx(1)
    ordered = weights[np.argsort(scores, kind="stable")]
    assert (np.diff(ordered) >= 0).all()


def test_the_write_ups_weights_are_a_plain_mean():
    assert proportional_weights([0.9991, 0.9999]) == pytest.approx([0.4997998999, 0.5002001001])
    assert proportional_weights([0.9991, 0.9999, 0.836, 0.704]) == pytest.approx(
        [0.28231, 0.28254, 0.23622, 0.19893], abs=1e-5
    )


def test_a_blend_of_probabilities_lies_between_its_members(members):
    mixed = mixed_test(blended(members, floor=0.0), members)["label"].to_numpy()
    means = np.stack(
        [m.test.groupby(ID_COLUMN)["pred_label"].mean().loc[TEST_IDS] for m in members]
    )
    assert (mixed >= means.min(axis=0) - 1e-12).all()
    assert (mixed <= means.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize("method", [*METHOD_NAMES, "best-single"])
def test_the_order_of_members_does_not_change_a_byte(members, method):
    one, two = blended(members, method, floor=0.0), blended(members[::-1], method, floor=0.0)
    assert mixed_test(one, members).to_csv() == mixed_test(two, members).to_csv()
    assert one.score == two.score


def test_two_good_members_make_a_better_blend(members):
    blend = blended(members[:2])
    assert blend.score.mean_fold > blend.best.score.mean_fold
    assert blend.versus_best.gain > 0
    assert blend.warnings == ()


def test_the_floor_drops_the_weak_member_by_name(members):
    blend = blended(members)
    assert sorted(member.run_id for member in blend.members) == ["good", "strong"]
    assert blend.dropped[0][0] == "noise"
    assert "below the floor" in blend.dropped[0][1]


def test_a_floor_above_everyone_is_an_error(members):
    with pytest.raises(BlendError, match="Lower --floor"):
        blended(members, floor=0.999)


def test_for_a_loss_the_floor_is_an_upper_limit_and_never_a_guess():
    loss = replace(COMPETITION, metric="log_loss", greater_is_better=False)
    scores = {"a": 0.2, "b": 0.5, "c": 0.9}
    assert apply_floor(scores, loss, None) == (["a", "b", "c"], ())
    kept, dropped = apply_floor(scores, loss, 0.6)
    assert kept == ["a", "b"]
    assert "above the limit of 0.6000" in dropped[0][1]


def test_a_blend_that_loses_to_its_best_member_says_so(members):
    blend = blended([members[0], members[2]], floor=0.0)
    assert "not better than its best member strong" in blend.warnings[0]


def flip_fold(outputs, fold):
    """The same members with the labels of one fold turned round."""
    return [
        replace(
            item,
            oof=item.oof.assign(
                target_label=item.oof["target_label"].where(
                    item.oof["fold"] != fold, 1 - item.oof["target_label"]
                )
            ),
        )
        for item in outputs
    ]


@pytest.mark.parametrize("name", ["auc-weights", "hill-climb", "stack", "best-single"])
def test_labels_of_a_fold_never_reach_the_weights_that_mix_it(members, name):
    method = find_method(name, "auc")

    def nested(outputs):
        table = table_of(outputs)
        views = views_outside(table, None, np.ones(len(table.names), dtype=bool))
        assert not all(view.left.all() for view in views)  # the floor has somebody to drop
        return nested_predictions(table, space_of(table, method.space), method, views)

    (before, weights), (after, changed) = nested(members), nested(flip_fold(members, 0))
    fold = table_of(members).folds == 0
    assert (before[fold] == after[fold]).all()
    assert weights[0] == changed[0]
    assert weights[1:] != changed[1:]


def test_the_floor_that_mixes_a_fold_does_not_look_at_it(members):
    noise = next(item for item in members if item.run_id == "noise")
    oof = noise.oof
    lucky = replace(  # right in fold 0, noise elsewhere: on all rows it clears the floor
        noise,
        oof=oof.assign(
            pred_label=oof["pred_label"].where(oof["fold"] != 0, 0.1 + 0.8 * oof["target_label"])
        ),
    )
    others = [item for item in members if item.run_id != "noise"]
    floor = 0.6
    blend = blended([*others, lucky], method="rank-mean", floor=floor)
    place = [member.run_id for member in blend.members].index("noise")
    weights = [cell[place] for cell in blend.chosen.fold_weights]
    assert weights[0] == 0.0
    assert all(weight > 0.0 for weight in weights[1:])


def views_of(table):
    return views_outside(table, None, np.ones(len(table.names), dtype=bool))


def two_seeds(outputs):
    """Every row again under another seed, one fold further."""
    import pandas as pd

    def twice(frame):
        again = frame.assign(seed=1, fold=(frame["fold"] + 1) % 3)
        both = pd.concat([frame, again]).sort_values(["seed", "fold", "id"], kind="stable")
        return both.reset_index(drop=True)

    return [replace(item, oof=twice(item.oof), test=twice(item.test)) for item in outputs]


def test_an_id_is_left_out_in_every_seed(members):
    table = table_of(two_seeds(members))
    for cell, view in zip(table.cells, views_of(table), strict=True):
        assert not set(table.ids[cell]) & set(table.ids[view.rows])
        assert sum(part.stop - part.start for part in view.cells) == len(view.rows) > 0


def test_groups_are_left_out_whole_and_resampled_whole(members):
    import pandas as pd

    ids = sorted(set(members[0].oof["id"]))
    # Rows i and i + 3 share a fold: pairs of them may be patients.
    groups = pd.Series([f"p{i % 3}-{i // 6}" for i in range(len(ids))], index=ids)
    table = table_of(members, groups=groups)
    assert table.grouped
    for cell, view in zip(table.cells, views_of(table), strict=True):
        assert not set(table.units[cell]) & set(table.units[view.rows])
    spread = pd.Series(["one"] * len(ids), index=ids)
    with pytest.raises(BlendError, match="groups are spread over several folds"):
        table_of(members, groups=spread)
    with pytest.raises(BlendError, match="have no group"):
        table_of(members, groups=groups.iloc[1:])


def test_members_scored_on_different_images_are_refused(tmp_path, members):
    other = read_run(write_run(tmp_path / "other", n=57))
    with pytest.raises(BlendError, match="different images: 3 ids"):
        table_of([members[0], other])


def test_members_with_other_folds_are_refused(tmp_path, members):
    other = read_run(write_run(tmp_path / "other", folds=4))
    with pytest.raises(BlendError, match="different folds"):
        table_of([members[0], other])


def test_members_with_other_test_images_are_refused(tmp_path, members):
    other = read_run(write_run(tmp_path / "other", n_test=19))
    with pytest.raises(BlendError, match="different test images: 1 ids"):
        table_of([members[0], other])


def test_rows_that_are_labelled_and_test_are_refused(members):
    leaky = replace(members[0], test=members[0].test.assign(id=members[0].oof["id"].iloc[0]))
    with pytest.raises(BlendError, match="both labelled and in the test set"):
        table_of([leaky])
    assert table_of([leaky], allow_shared_ids=True).names == ("strong",)


def test_a_member_that_knows_the_labels_is_refused(members):
    oof = members[0].oof
    leaky = replace(members[0], oof=oof.assign(pred_label=oof["target_label"].astype(float)))
    with pytest.raises(BlendError, match="predicts its own labels"):
        table_of([leaky])


def test_test_images_that_nobody_predicted_are_named(members):
    with pytest.raises(BlendError, match="first: extra"):
        mixed_test(blended(members[:2]), members, [*TEST_IDS, "extra"])


def test_nothing_to_blend_is_an_error_with_a_next_step():
    with pytest.raises(BlendError, match="harness pull"):
        TableBuilder(COMPETITION, 1).finish()


def test_a_fold_of_one_class_is_a_sentence_not_a_traceback(members):
    outputs = [
        replace(m, oof=m.oof.assign(target_label=m.oof["target_label"].where(m.oof["fold"] > 0, 1)))
        for m in members
    ]
    with pytest.raises(BlendError, match="one class only"):
        blended(outputs)


def test_a_score_has_its_evidence(members):
    score = score_run(members[0], COMPETITION)
    assert score.low < score.mean_fold < score.high
    assert score.fold_low <= score.mean_fold <= score.fold_high
    assert score.n == 60


def test_equal_predictions_gain_exactly_nothing(members):
    twin = replace(members[0], run_id="twin")
    blend = blended([members[0], twin], every_method=True)
    assert all(result.versus_best.gain == pytest.approx(0, abs=1e-12) for result in blend.results)


@pytest.mark.parametrize("method", [*METHOD_NAMES, "best-single", "auto"])
def test_one_member_alone_keeps_its_order(members, method):
    blend = blended(members[:1], method)
    mixed = mixed_test(blend, members)["label"].to_numpy()
    alone = members[0].test.groupby(ID_COLUMN)["pred_label"].mean().loc[TEST_IDS].to_numpy()
    if blend.recipe.space == "prob":
        assert mixed == pytest.approx(alone)
    assert blend.score.mean_fold == pytest.approx(blend.best.score.mean_fold)
    assert "no blend" in blend.warnings[0]


def test_auto_takes_the_simplest_that_is_good_enough_and_says_why(members):
    blend = blended(members[:2], "auto")
    assert blend.method in ("rank-mean", "logit-mean")  # nothing is fitted in either
    assert blend.asked == "auto"
    assert any("one standard error" in line for line in blend.explanation)
    with_noise = blended([*members[:1], members[2]], "auto", floor=0.0)
    assert with_noise.method not in ("rank-mean", "logit-mean")
    noise = next(member for member in with_noise.members if member.run_id == "noise")
    assert noise.weight < 0.2


def test_an_unknown_method_is_named_with_the_known(members):
    with pytest.raises(BlendError, match="hill-climb"):
        blended(members, "median")


SEVERAL = Competition(
    slug="several", title="Several", id_column="image_id", target_columns=("a", "b")
)


@pytest.mark.parametrize("metric", ["auc", "log_loss", "f1"])
def test_several_targets_and_other_metrics_take_the_same_path(tmp_path, metric):
    competition = replace(SEVERAL, metric=metric)
    outputs = [
        read_run(write_run(tmp_path / name, skill, seed=i, competition=competition), competition)
        for i, (name, skill) in enumerate([("x", 0.9), ("y", 0.8)])
    ]
    table = line_up(outputs, competition, 2)
    blend = blend_members(table, competition, "auto", every_method=True)
    by_name = {item.run_id: item.test for item in outputs}
    mixed = mix_test(blend.recipe, competition, TEST_IDS, by_name.__getitem__)
    assert list(mixed.columns) == ["image_id", "a", "b"]
    assert len(blend.results) == len(methods_for(table.metric))
    for result in blend.results:
        assert result.score.low <= result.score.mean_fold <= result.score.high
    if metric == "auc":
        cells = [
            np.mean([auc_score(table.targets[c, t], table.predictions[0, c, t]) for t in range(2)])
            for c in table.cells
        ]
        score = next(m.score for m in blend.members if m.run_id == "x")
        assert score.mean_fold == pytest.approx(np.mean(cells))
    if metric == "log_loss":
        # Lower is better, and a positive gain is a lower loss.
        mean = blend.results[0]
        assert mean.versus_best.gain == pytest.approx(
            blend.best.score.mean_fold - mean.score.mean_fold
        )
        assert "rank" not in {result.method.space for result in blend.results}
    if metric == "f1":
        assert len(blend.recipe.thresholds) == 2
        assert set(np.unique(mixed[["a", "b"]])) <= {0, 1}
        assert any("chosen on all rows" in line for line in blend.explanation)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from(["hill-climb", "stack", "auc-weights", "best-single"])
)
def test_no_method_ever_gives_a_negative_weight(seed, name):
    fitted = find_method(name, "auc").fit(random_rows(seed))
    assert (fitted.weights >= 0).all()
    if name != "stack":
        assert fitted.weights.sum() == pytest.approx(1)


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
