"""Thresholds of decision metrics: the best on the rows they are chosen on, blind to those scored."""

import numpy as np
import pytest
from stats_cases import draw_rows

from kernels.stats.metrics import score_metric
from kernels.stats.thresholds import (
    best_decision_score,
    choose_thresholds,
    decide,
    nested_decisions,
    wants_decisions,
)


@pytest.mark.parametrize("metric", ["f1", "accuracy", "balanced_accuracy", "mcc"])
def test_no_cut_between_the_scores_beats_the_chosen_one(metric: str) -> None:
    targets, probs, _ = draw_rows(1)
    cuts = np.concatenate(([0.0], probs, [1.0]))
    slow = max(score_metric(metric, targets, decide(probs, (cut,))) for cut in cuts)
    assert best_decision_score(metric, targets, probs) == pytest.approx(slow)


def test_every_target_gets_its_own_threshold() -> None:
    targets, first, _ = draw_rows(2)
    both = np.stack((first, first / 10), axis=1)
    twice = np.stack((targets, targets), axis=1)
    high, low = choose_thresholds("f1", twice, both)
    assert high == pytest.approx(10 * low)
    decided = decide(both, (high, low))
    assert decided[:, 0].tolist() == decided[:, 1].tolist()


def test_a_fold_is_cut_without_looking_at_its_own_labels() -> None:
    targets, probs, _ = draw_rows(3)
    folds = np.arange(targets.size) % 4
    zeros = np.zeros(targets.size)
    before = nested_decisions("f1", targets, probs, zeros, folds)
    changed = np.where(folds == 0, 1 - targets, targets)
    after = nested_decisions("f1", changed, probs, zeros, folds)
    assert after[folds == 0].tolist() == before[folds == 0].tolist()


def test_a_fold_is_not_cut_by_rows_of_its_units_in_another_seed() -> None:
    targets, probs, _ = draw_rows(4, n=60)
    ids, folds = np.tile(np.arange(60), 2), np.concatenate((np.arange(60) % 3, np.arange(60) % 2))
    seeds = np.repeat([0, 1], 60)
    twice, guess = np.tile(targets, 2), np.tile(probs, 2)
    before = nested_decisions("f1", twice, guess, seeds, folds, ids)
    cell = (seeds == 0) & (folds == 0)
    theirs = np.isin(ids, ids[cell])
    after = nested_decisions("f1", np.where(theirs, 1 - twice, twice), guess, seeds, folds, ids)
    assert after[cell].tolist() == before[cell].tolist()


def test_one_class_leaves_the_plain_threshold_and_scores_are_no_decisions() -> None:
    assert choose_thresholds("f1", np.ones(4), np.full(4, 0.2)) == (0.5,)
    assert wants_decisions("mcc")
    assert not wants_decisions("log_loss")
