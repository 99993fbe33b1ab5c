"""Each way of mixing against brute force, a slow obvious version, or scipy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.candidates import (
    FitRows,
    SumsInOrder,
    SumsOfPredictions,
    can_be_ordered,
    candidate_scores,
)
from harness.cli_blend import METHOD_CHOICES
from harness.methods import (
    find_method,
    fit_hill_climb,
    fit_stack,
    hill_climb,
    hill_climbs,
    methods_for,
)
from kernels.stats.metrics import score_metric
from kernels.stats.spaces import from_space, to_space


def random_rows(seed, members=4, rows=60, cells=3, metric="auc", width=1):
    rng = np.random.default_rng(seed)
    targets = (rng.random((rows, width)) < 0.5).astype(int)
    size = rows // cells
    targets[::size], targets[1::size] = 0, 1  # both classes everywhere
    skill = rng.uniform(0, 1.5, size=(members, 1, 1))
    logits = skill * (2 * targets - 1) + rng.normal(size=(members, rows, width))
    parts = tuple(slice(i * size, (i + 1) * size) for i in range(cells))
    return FitRows(metric, targets, 1 / (1 + np.exp(-logits)), parts)


def test_the_command_line_offers_exactly_the_methods():
    assert set(METHOD_CHOICES) == {method.name for method in methods_for("auc")} | {"auto"}


def test_the_baseline_of_a_loss_is_the_plain_mean():
    assert find_method("rank-mean", "log_loss").name == "mean"
    assert all(method.space != "rank" for method in methods_for("log_loss"))


@pytest.mark.parametrize("metric", ["auc", "log_loss", "brier"])
def test_candidates_are_scored_as_one_by_one(metric):
    rows = random_rows(0, metric=metric)
    slow = [
        np.mean([score_metric(metric, rows.targets[c], member[c]) for c in rows.cells])
        for member in rows.predictions
    ]
    sign = 1 if metric == "auc" else -1
    scores = candidate_scores(metric, rows.targets, rows.predictions, rows.cells)
    assert scores == pytest.approx(sign * np.array(slow), abs=1e-12)


def test_candidates_for_decisions_are_scored_at_their_best_threshold():
    rows = random_rows(0, metric="accuracy")
    truth = rows.targets[:, 0]
    slow = [
        max(((member[:, 0] >= cut) == truth).mean() for cut in (0.0, *member[:, 0], 1.1))
        for member in rows.predictions
    ]
    scores = candidate_scores("accuracy", rows.targets, rows.predictions, rows.cells)
    assert scores == pytest.approx(slow)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 2, 12]))
def test_sums_in_order_score_as_their_means_do(seed, cells, width, decimals):
    rows = random_rows(seed, members=5, rows=48, cells=cells, width=width)
    rows = FitRows("macro_auc", rows.targets, rows.predictions.round(decimals), rows.cells)
    exact, slow = SumsInOrder([rows]), SumsOfPredictions(rows)
    picks = np.random.default_rng(seed).integers(0, 5, size=(7, 4))
    sums = [kind.empty[:, None] + kind.members[:, picks].sum(axis=2) for kind in (exact, slow)]
    sizes = np.full((1, 7), 4)
    assert exact.score(sums[0], sizes) == pytest.approx(slow.score(sums[1], sizes), abs=1e-12)


def test_sums_in_blocks_score_the_same(monkeypatch):
    sums = SumsInOrder([random_rows(3, members=9, width=2)])
    given = sums.empty[:, None] + sums.members
    whole = sums.score(given, np.ones((1, 9)))
    monkeypatch.setattr("harness.candidates.BLOCK_KEYS", 2 * sums.members.shape[2])
    assert sums.score(given, np.ones((1, 9))).tolist() == whole.tolist()


def test_logits_and_losses_are_not_taken_for_sortable_integers():
    rows = random_rows(0)
    assert can_be_ordered(rows, 60)
    assert not can_be_ordered(rows, 101)
    assert not can_be_ordered(replace(rows, predictions=rows.predictions * 2), 60)
    assert not can_be_ordered(replace(rows, metric="log_loss"), 60)


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_bags_that_climb_together_end_where_each_would_alone(metric, monkeypatch):
    bags = [random_rows(seed, members=5, rows=48, metric=metric) for seed in range(4)]
    bags += [
        random_rows(9, members=5, rows=60, metric=metric),
        bags[0],
    ]  # of another shape, and twice
    together = hill_climbs(bags, picks=12)
    monkeypatch.setattr("harness.methods.BATCH_VALUES", 1)  # one at a time
    for rows, climb, again in zip(bags, together, hill_climbs(bags, picks=12), strict=True):
        alone = hill_climb(rows, picks=12)
        assert climb.path == alone.path == again.path
        assert climb.counts.tolist() == alone.counts.tolist()


def test_the_climb_of_the_reference_example():
    targets = np.array([1, 1, 1, 0, 0, 0, 0, 1])[:, None]
    table = np.array(
        [
            [0.9, 0.6, 0.4, 0.5, 0.2, 0.1, 0.3, 0.45],
            [0.7, 0.8, 0.35, 0.2, 0.55, 0.4, 0.1, 0.6],
            [0.5, 0.3, 0.9, 0.6, 0.1, 0.2, 0.4, 0.5],
        ]
    )
    rows = FitRows("auc", targets, table[:, :, None], (slice(0, 8),))
    single = candidate_scores("auc", targets, rows.predictions, rows.cells)
    assert single == pytest.approx([0.875, 0.875, 0.75])
    assert hill_climb(rows, start=1).path == ((0, 0.875), (1, 0.96875), (2, 1.0))


def slow_climb(rows, picks):
    """Plain greedy selection with replacement; the best prefix."""
    total, path = np.zeros(rows.predictions[0].shape), []
    counts, best, best_counts = np.zeros(len(rows.predictions), int), -1.0, None
    for step in range(picks):
        scores = []
        for member in rows.predictions:
            mean = np.round((total + member) / (step + 1), 12)
            scores.append(
                np.mean([score_metric("auc", rows.targets[c], mean[c]) for c in rows.cells])
            )
        pick = int(np.argmax(np.round(scores, 12)))
        counts[pick] += 1
        total = total + rows.predictions[pick]
        path.append(pick)
        if scores[pick] > best + 1e-12:
            best, best_counts = scores[pick], counts.copy()
    return best_counts, best


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_climb_equals_a_slow_one(seed):
    rows = random_rows(seed, members=3, rows=30)
    counts, score = slow_climb(rows, 8)
    climb = hill_climb(rows, picks=8, patience=8, start=1)
    assert climb.score == pytest.approx(score, abs=1e-12)
    assert climb.counts.tolist() == counts.tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_sorted_start_never_ends_below_the_best_member(seed):
    rows = random_rows(seed)
    single = candidate_scores("auc", rows.targets, rows.predictions, rows.cells)
    assert hill_climb(rows).score >= single.max() - 1e-12


def test_a_duplicate_of_a_member_shares_its_weight_and_changes_no_prediction():
    rows = random_rows(3, rows=900)
    twice = FitRows(
        rows.metric,
        rows.targets,
        np.concatenate([rows.predictions, rows.predictions[:1]]),
        rows.cells,
    )
    assert hill_climb(twice).score == pytest.approx(hill_climb(rows).score)
    one, two = fit_stack(rows, ridge=1e-4), fit_stack(twice, ridge=1e-4)
    assert two.weights[0] == pytest.approx(two.weights[-1])
    assert 2 * two.weights[0] == pytest.approx(one.weights[0], rel=1e-2)


def test_bags_leave_out_members_when_there_are_many_and_rows_when_few():
    few, many = random_rows(1, members=3), random_rows(1, members=20)
    for rows in (few, many):
        fitted = fit_hill_climb(rows, bags=5)
        assert fitted.weights.sum() == pytest.approx(1)
        assert fitted.weights.tolist() == fit_hill_climb(rows, bags=5).weights.tolist()


@pytest.mark.parametrize("seed", range(6))
def test_the_stack_finds_scipys_minimum(seed):
    from scipy.optimize import minimize

    rows = random_rows(seed, members=5, rows=90)
    logits = to_space(rows.predictions[:, :, 0], "logit", np.zeros(5), np.zeros(5)) * 2
    truth = rows.targets[:, 0]

    def loss(x):
        x = np.asarray(x)
        margin = x[:5] @ logits + x[5]
        pull = 0.5 * ((x[:5] - 0.2) ** 2).sum() + 0.5e-8 * x[5] ** 2
        return np.logaddexp(0, margin).sum() - margin @ truth + pull

    found = minimize(
        loss,
        [0.2] * 5 + [0.0],
        method="L-BFGS-B",
        bounds=[(0, None)] * 5 + [(None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 2000},
    )
    ours = fit_stack(FitRows("auc", rows.targets, logits[:, :, None], rows.cells))
    assert loss([*ours.weights, ours.intercept]) <= found.fun + 1e-6
    assert ours.weights == pytest.approx(found.x[:5], abs=2e-3)


def test_the_stack_survives_perfect_separation():
    truth = np.array([0, 1] * 20)[:, None]
    logits = np.where(truth == 1, 13.8, -13.8)[None].repeat(2, axis=0).astype(float)
    fitted = fit_stack(FitRows("auc", truth, logits, (slice(0, 40),)))
    assert np.isfinite(fitted.weights).all()
    assert fitted.weights == pytest.approx([0.5, 0.5], abs=0.2)


def test_spaces_of_the_reference_example():
    p = np.array([[0.10, 0.40, 0.40, 0.95], [0.60, 0.20, 0.30, 0.90]])
    zeros = np.zeros(4)
    ranks = np.mean([to_space(row, "rank", zeros, zeros) for row in p], axis=0)
    assert ranks == pytest.approx([0.5, 0.4375, 0.5625, 1])
    logits = np.mean([to_space(row, "logit", zeros, zeros) for row in p], axis=0)
    assert from_space(logits, "logit") == pytest.approx(
        [0.2898979, 0.2898979, 0.3483315, 0.9289606], abs=1e-7
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_logits_keep_the_order_and_come_back(values):
    p = np.array(values)
    logits = to_space(p, "logit", np.zeros(len(p)), np.zeros(len(p)))
    assert np.isfinite(logits).all()
    assert from_space(logits, "logit") == pytest.approx(np.clip(p, 1e-6, 1 - 1e-6), abs=1e-12)


def test_auc_weights_pass_over_folds_that_rank_nothing():
    rows = random_rows(4, metric="log_loss")
    targets = rows.targets.copy()
    targets[rows.cells[0]] = 1
    found = find_method("auc-weights", "log_loss").fit(replace(rows, targets=targets))
    rest = replace(rows, targets=targets, cells=rows.cells[1:])
    assert (
        found.weights.tolist() == find_method("auc-weights", "log_loss").fit(rest).weights.tolist()
    )
    targets[:] = 1
    equal = find_method("auc-weights", "log_loss").fit(replace(rows, targets=targets))
    assert equal.weights.tolist() == [0.25] * 4


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_a_climb_of_several_targets_uses_them_all(metric):
    rows = random_rows(2, metric="macro_auc" if metric == "auc" else metric, width=3)
    assert hill_climb(rows, picks=6).counts.sum() >= 1
