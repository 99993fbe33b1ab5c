"""What a row costs is what the score gains when that row alone is put right."""

import numpy as np
import pytest
from contract_runs import COMPETITION, read_run, write_run
from hypothesis import given
from hypothesis import strategies as st

from harness.commands.compare import member_ranks
from harness.costs import auc_losses, costly_rows, has_costs
from harness.members import MemberTable, line_up
from kernels.config import Competition
from kernels.stats.auc import auc_score
from kernels.stats.metrics import KNOWN_METRICS, score_metric


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_a_row_costs_what_an_auc_gains_when_it_alone_is_put_right(rows):
    positive = np.array([up for up, _ in rows])
    scores = np.array([float(value) for _, value in rows])
    losses = auc_losses(positive, scores)
    if positive.all() or not positive.any():
        assert not losses.any()
        return
    now = auc_score(positive, scores)
    for row in range(len(rows)):
        moved = scores.copy()
        moved[row] = np.inf if positive[row] else -np.inf
        assert losses[row] == pytest.approx(auc_score(positive, moved) - now)
    for side in (positive, ~positive):
        assert losses[side].sum() == pytest.approx(1 - now)


def table_of(metric, targets, predictions, seeds, folds):
    """Members (M, N, T) on rows that are sorted by (seed, fold); the ids of every seed are the same."""
    n = len(seeds)
    per_seed = n // len(np.unique(seeds))
    ids = np.array([f"film{i % per_seed}" for i in range(n)])
    return MemberTable(
        tuple(f"m{i}" for i in range(len(predictions))), frozenset(), metric, ids, seeds, folds,
        np.arange(n) % per_seed, grouped=False, targets=targets, predictions=predictions,
        test_ids=np.array(["t"]),
    )  # fmt: skip


def drawn(metric, n_targets, seeds=2, n=40):
    rng = np.random.default_rng(5)
    if metric == "multiclass_log_loss":
        one_seed = np.eye(n_targets, dtype=np.int8)[rng.integers(0, n_targets, n)]
    else:
        one_seed = (rng.random((n, n_targets)) < 0.6).astype(np.int8)
    targets = np.tile(one_seed, (seeds, 1))
    guesses = 0.15 + 0.5 * targets + rng.uniform(0, 0.3, (2, seeds * n, n_targets))
    spoilt = np.arange(seeds) * n + 7  # one film is wrong with every member and seed
    guesses[:, spoilt] = 1 - guesses[:, spoilt]
    if metric == "multiclass_log_loss":
        guesses /= guesses.sum(axis=2, keepdims=True)
    folds = np.tile(np.repeat([0, 1], n // 2), seeds)
    return table_of(metric, targets, guesses, np.repeat(np.arange(seeds), n), folds)


@pytest.mark.parametrize(
    ("metric", "n_targets"),
    [
        ("auc", 1),
        ("macro_auc", 3),
        ("log_loss", 1),
        ("log_loss", 2),
        ("brier", 1),
        ("multiclass_log_loss", 3),
    ],
)
def test_the_film_that_every_member_gets_wrong_comes_first(metric, n_targets):
    table = drawn(metric, n_targets)
    ranks = member_ranks(table)
    found = costly_rows(table, ranks, 3)
    assert found[0].id == "film7"
    assert found[0].cost == max(row.cost for row in found)
    assert all(0 < row.share <= 1 for row in found)
    # The cost is the headline score's own: put right, the film brings that much.
    mean = (ranks if "auc" in metric else table.predictions).mean(axis=0)
    right = np.where(table.targets == 1, np.inf, -np.inf) if "auc" in metric else table.targets
    rows = table.ids == "film7"
    moved = np.where(rows[:, np.newaxis], right, mean)

    def headline(blend):
        cells = [
            score_metric(metric, table.targets[c].squeeze(), blend[c].squeeze())
            for c in table.cells
        ]
        return float(np.mean(cells))

    assert found[0].cost == pytest.approx(abs(headline(moved) - headline(mean)), rel=1e-6)
    lacking = 1 - headline(mean) if "auc" in metric else headline(mean)
    assert found[0].share == pytest.approx(found[0].cost / lacking)
    assert found[0].without is not None
    assert abs(found[0].without - headline(mean)) > 0.5 * found[0].cost


def test_decisions_have_no_costs_and_a_perfect_mean_names_nobody(tmp_path):
    assert [name for name in KNOWN_METRICS if has_costs(name)] == [
        "auc", "macro_auc", "log_loss", "multiclass_log_loss", "brier",
    ]  # fmt: skip
    runs = [read_run(write_run(tmp_path / f"m{i}", 9.0, seed=i)) for i in range(2)]
    table = line_up(runs, COMPETITION, 2)
    assert costly_rows(table, member_ranks(table), 5) == ()
    decided = Competition(
        slug="toy", title="Toy", id_column="image_id", target_columns=("label",), metric="f1"
    )
    table = line_up(runs, decided, 2)
    assert costly_rows(table, member_ranks(table), 5) == ()


def test_a_score_without_the_last_row_of_a_class_is_none():
    targets = np.array([[1], [0], [0], [0]], dtype=np.int8)
    guesses = np.array([[[0.1], [0.2], [0.3], [0.4]]])
    table = table_of("auc", targets, guesses, np.zeros(4, int), np.zeros(4, int))
    dearest = costly_rows(table, member_ranks(table), 1)[0]
    assert (dearest.id, dearest.cost, dearest.share, dearest.without) == ("film0", 1.0, 1.0, None)
