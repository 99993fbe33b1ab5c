"""Compare names the rows that divide members, and members too good to be believed."""

import numpy as np
import pytest
from contract_runs import COMPETITION, read_run, write_run

from harness.commands.compare import (
    ComparedMember,
    correlations,
    disagreements,
    member_ranks,
    pooled_interval,
    suspicions,
)
from harness.members import line_up
from harness.scoring import Score
from kernels.stats.delong import delong_interval
from kernels.stats.ranks import spearman_correlation


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    runs = [read_run(write_run(folder / f"m{i}", 0.8, seed=i)) for i in range(3)]
    return line_up(runs, COMPETITION, 3)


def test_correlations_are_of_ranks_inside_folds(table):
    ranks = member_ranks(table).mean(axis=2)
    matrix = np.array(correlations(ranks))
    assert matrix == pytest.approx(matrix.T)
    assert matrix[0, 1] == pytest.approx(spearman_correlation(ranks[0], ranks[1]))
    # An offset of one fold changes pooled ranks, not these.
    table.predictions[0, table.cells[0]] *= 0.5
    assert np.array(correlations(member_ranks(table).mean(axis=2))) == pytest.approx(matrix)
    table.predictions[0, table.cells[0]] *= 2.0


def test_the_rows_named_are_those_that_divide_most(table):
    ranks = member_ranks(table).mean(axis=2)
    found = disagreements(table, ranks, 5)
    spread = ranks.std(axis=0)
    assert [row.spread for row in found] == pytest.approx(np.sort(spread)[::-1][:5].tolist())
    assert len({row.id for row in found}) == 5
    assert disagreements(table, ranks[:1], 5) == ()


def test_the_pooled_interval_is_delongs(table):
    exact = delong_interval(table.targets[:, 0], table.predictions[0, :, 0])
    assert pooled_interval(table, table.predictions[0]) == (exact.low, exact.high)


def member(name, mean, imported, low=0.8, high=0.95):
    score = Score(mean, mean, mean - 0.01, mean + 0.01, 100, 0.005, low, high, 0.01)
    return ComparedMember(name, imported, score, None, None, None)


def test_an_import_far_ahead_and_a_perfect_member_are_doubted():
    far = [member("mate", 0.98, imported=True), member("ours", 0.9, imported=False)]
    assert "really out-of-fold" in suspicions(far)[0]
    near = [member("mate", 0.91, imported=True), member("ours", 0.9, imported=False)]
    assert suspicions(near) == []
    assert "perfect" in suspicions([member("x", 1.0, imported=False, low=1.0, high=1.0)])[0]
