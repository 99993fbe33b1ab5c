"""Medals by number of teams, the noise of the public part, and the proposal for the final two."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scoring import Gain
from harness.standings import (
    Candidate,
    Point,
    agreement,
    final_two,
    medal_places,
    medal_zone,
    place_of,
    public_noise,
    scatter,
)


@pytest.mark.parametrize(
    ("teams", "places"),
    [
        (0, (0, 0, 0)),
        (50, (5, 10, 20)),
        (200, (10, 40, 80)),
        (600, (11, 50, 100)),
        (4000, (18, 200, 400)),
    ],
)
def test_medals_follow_the_published_table(teams, places):
    assert tuple(medal_places(teams).values()) == places


@given(st.integers(1, 20_000))
def test_zones_lie_inside_each_other_and_the_first_wins_gold(teams):
    gold, silver, bronze = medal_places(teams).values()
    assert 1 <= gold <= silver <= bronze <= teams
    assert medal_zone(1, teams) == "gold"
    assert medal_zone(bronze + 1, teams) == "none"


def test_our_place_is_behind_equals():
    assert place_of(0.9, [0.95, 0.9, 0.8], greater_is_better=True) == 3
    assert place_of(0.3, [0.2, 0.3, 0.5], greater_is_better=False) == 3
    assert place_of(0.1, [0.2, 0.3], greater_is_better=False) == 1


def test_without_the_public_parts_size_noise_is_unknown():
    noise = public_noise(0.01, 0.001, 800, None, paired=True)
    assert noise.within is None
    assert "unknown" in noise.text


def test_noise_grows_as_the_public_part_shrinks():
    near, far = (public_noise(0.004, 0.001, 800, rows, paired=True) for rows in (800, 50))
    assert not near.within
    assert far.within
    assert far.half_width == pytest.approx(near.half_width * 4)


def test_the_stated_noise_is_what_public_parts_really_show():
    """Draw many public parts of one fixed pair of submissions: 95 % of differences lie inside."""
    from kernels.stats.auc import auc_score
    from kernels.stats.paired import paired_bootstrap_difference

    rng = np.random.default_rng(0)
    n, public, draws = 1500, 300, 400

    def pair(size):
        truth = (rng.random(size) < 0.6).astype(int)
        base = 1.5 * (2 * truth - 1) + rng.normal(size=size)
        return truth, base + 0.5 * rng.normal(size=size), base + 0.5 * rng.normal(size=size)

    truth, a, b = pair(n)
    found = paired_bootstrap_difference("auc", truth, a, b, n_resamples=400)
    noise = public_noise(0.0, found.standard_error, n, public, paired=True)
    gaps = []
    for _ in range(draws):
        truth, a, b = pair(public)
        gaps.append(auc_score(truth, a) - auc_score(truth, b))
    inside = np.mean(np.abs(gaps) <= noise.half_width)
    assert 0.90 <= inside <= 0.99


def points(pairs):
    return [Point(str(i), cv, public) for i, (cv, public) in enumerate(pairs)]


def test_a_correlation_needs_three_and_shows_how_little_it_knows():
    assert agreement(points([(0.9, 0.9), (0.8, 0.8)])).pearson is None
    found = agreement(points([(0.90, 0.89), (0.91, 0.905), (0.92, 0.91), (0.93, 0.935)]))
    assert found.pearson == pytest.approx(
        np.corrcoef([0.9, 0.91, 0.92, 0.93], [0.89, 0.905, 0.91, 0.935])[0, 1]
    )
    assert found.spearman == pytest.approx(1)
    assert "[" in found.text
    assert agreement(points([(0.9, 0.9)] * 4)).pearson is None


@given(st.lists(st.tuples(st.floats(0.5, 1), st.floats(0.5, 1)), min_size=1, max_size=9))
def test_every_point_is_in_the_scatter(pairs):
    text = "\n".join(line.split("|", 1)[1] for line in scatter(points(pairs)) if "|" in line)
    assert sum(1 if mark == "o" else int(mark) for mark in text if mark not in " \n") == len(pairs)


def candidate(label, cv, high, similarity):
    gain = Gain(-0.001, -0.003, high, 0.001, 0.3)
    return Candidate(label, cv, gain, similarity)


def test_the_second_choice_is_the_most_different_that_is_not_worse():
    best = Candidate("best", 0.95, None, None)
    twin, other = candidate("twin", 0.949, 0.001, 0.999), candidate("other", 0.945, 0.0005, 0.93)
    worse = candidate("worse", 0.9, -0.002, 0.5)
    choices = final_two([best, twin, other, worse])
    assert [choice.label for choice in choices] == ["best", "other"]
    assert all(choice.reason for choice in choices)
    assert [c.label for c in final_two([best, worse])] == ["best"]
    assert final_two([]) == []


def test_unpaired_noise_is_an_upper_bound():
    paired, alone = (public_noise(0.0, 0.01, 100, 100, paired=p) for p in (True, False))
    assert alone.half_width == pytest.approx(paired.half_width * math.sqrt(2))
