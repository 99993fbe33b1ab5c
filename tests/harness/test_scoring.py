"""Evidence agrees with the plain functions of stats, in pairs, for losses, and on tables too large to resample."""

import numpy as np
import pytest

import harness.scoring as scoring
from harness.members import MemberTable
from harness.scoring import Evidence
from kernels.stats.fold_bootstrap import mean_fold_interval
from kernels.stats.influence import mean_fold_auc_influence
from kernels.stats.paired import delong_test, paired_mean_fold_difference


def table(n=300, seeds=1, folds=3, metric="auc", seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.6).astype(np.int8)
    order = np.arange(n) % folds
    rows = np.concatenate([np.lexsort((np.arange(n), (order + s) % folds)) for s in range(seeds)])
    fold = np.concatenate([np.sort((order + s) % folds) for s in range(seeds)])
    base = MemberTable(
        ("a", "b"),
        frozenset(),
        metric,
        rows.astype(str),
        np.repeat(np.arange(seeds), n),
        fold,
        rows,
        False,
        truth[rows][:, None],
        np.empty((2, n * seeds, 1)),
        np.empty(0),
    )
    for member, skill in zip(base.predictions, (1.0, 0.7), strict=True):
        logits = skill * (2 * truth[rows] - 1) + rng.normal(size=n * seeds)
        member[:, 0] = 1 / (1 + np.exp(-logits))
    return base


@pytest.mark.parametrize("seeds", [1, 2])
def test_scores_and_gains_are_those_of_stats(seeds):
    made = table(seeds=seeds)
    a, b = made.predictions
    evidence = Evidence(made)
    score, gain = evidence.score("a", a), evidence.gain("a", a, "b", b)
    keys = {"seeds": made.seeds, "folds": made.folds, "ids": made.units}
    interval = mean_fold_interval(made.targets[:, 0], a[:, 0], **keys)
    assert (score.mean_fold, score.low, score.high) == pytest.approx(
        (interval.estimate, interval.low, interval.high)
    )
    exact = paired_mean_fold_difference(made.targets[:, 0], a[:, 0], b[:, 0], **keys)
    assert (gain.gain, gain.low, gain.high, gain.p_value) == pytest.approx(
        (exact.difference, exact.low, exact.high, exact.p_value)
    )


def test_for_a_loss_a_gain_is_a_lower_loss():
    made = table(metric="log_loss")
    a, b = made.predictions
    evidence = Evidence(made)
    gain = evidence.gain("a", a, "b", b)
    assert gain.gain == pytest.approx(
        evidence.score("b", b).mean_fold - evidence.score("a", a).mean_fold
    )
    assert gain.low <= gain.gain <= gain.high
    back = evidence.gain("b", b, "a", a)
    assert (back.low, back.high) == pytest.approx((-gain.high, -gain.low))


def test_perfect_members_keep_an_honest_interval():
    made = table()
    perfect = made.targets.astype(float) * 0.8 + 0.1
    score = Evidence(made).score("p", perfect)
    assert score.mean_fold == 1.0
    assert score.low < 1.0


@pytest.mark.parametrize("seeds", [1, 2])
def test_large_tables_get_nearly_the_same_interval_without_resampling(monkeypatch, seeds):
    made = table(n=1500, seeds=seeds)
    a, b = made.predictions
    slow = Evidence(made)
    slow_score, slow_gain = slow.score("a", a), slow.gain("a", a, "b", b)
    monkeypatch.setattr(scoring, "BOOTSTRAP_ROWS", 100)
    quick = Evidence(made)
    score, gain = quick.score("a", a), quick.gain("a", a, "b", b)
    assert score.mean_fold == slow_score.mean_fold
    assert score.standard_error == pytest.approx(slow_score.standard_error, rel=0.1)
    assert gain.standard_error == pytest.approx(slow_gain.standard_error, rel=0.1)
    assert gain.low < gain.gain < gain.high


def test_influences_of_one_fold_are_delongs_variance():
    made = table(folds=1)
    truth, a, b = made.targets[:, 0], made.predictions[0, :, 0], made.predictions[1, :, 0]
    parts = [mean_fold_auc_influence(truth, s, made.seeds, made.folds)[1] for s in (a, b)]
    exact = delong_test(truth, a, b)
    assert np.sum((parts[0] - parts[1]) ** 2) == pytest.approx(exact.variance, rel=0.02)
    assert parts[0].sum() == pytest.approx(0, abs=1e-12)


def test_rows_of_one_unit_vary_together():
    """Every row twice is no new evidence when the copies are one unit."""
    made = table(folds=1)
    truth, a = made.targets[:, 0], made.predictions[0, :, 0]
    once = mean_fold_auc_influence(truth, a, made.seeds, made.folds)[1]
    twice = mean_fold_auc_influence(
        np.tile(truth, 2), np.tile(a, 2), np.tile(made.seeds, 2), np.tile(made.folds, 2),
        units=np.tile(np.arange(len(a)), 2),
    )[1]  # fmt: skip
    assert np.sum(twice**2) == pytest.approx(np.sum(once**2))
