"""Curves are the textbook's, charts keep every number on the picture, and whatever was named badly is text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.charts import (
    Evidence,
    Scale,
    Series,
    Span,
    gantt_chart,
    interval_chart,
    limits,
    line_chart,
    scatter_chart,
    short,
    thin,
    ticks,
)
from harness.report.curves import CURVE_POINTS, curves_of
from kernels.stats.auc import auc_score

NASTY = "<script>document.title='owned'</script>&\"'"


def area(points):
    x, y = np.array(points).T
    return float(np.trapezoid(y, x))


def predictions(n, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.random(n) < 0.4
    return targets.astype(int), 1 / (1 + np.exp(-(targets + rng.normal(size=n))))


def test_the_area_under_the_roc_curve_is_the_auc_with_ties_too():
    targets, probs = predictions(40)
    for values in (probs, probs.round(1)):
        assert area(curves_of(targets, values).roc) == pytest.approx(
            auc_score(targets, values), abs=2e-3
        )


def test_thousands_of_rows_become_few_points_of_the_same_curve():
    targets, probs = predictions(5000)
    curves = curves_of(targets, probs)
    assert len(curves.roc) <= CURVE_POINTS
    assert area(curves.roc) == pytest.approx(auc_score(targets, probs), abs=0.01)
    assert curves.roc[0] == (0.0, 0.0)
    assert curves.roc[-1] == (1.0, 1.0)
    assert curves.pr[-1] == (1.0, round(curves.positives / 5000, 4))


def test_calibration_bins_hold_every_row_and_the_edge_of_one():
    targets, probs = np.array([0, 1, 1, 1]), np.array([0.05, 0.05, 0.95, 1.0])
    bins = curves_of(targets, probs).calibration
    assert bins == ((0.05, 0.5, 2), (pytest.approx(0.975), 1.0, 2))


def test_one_class_has_no_curves():
    assert curves_of(np.ones(5), np.linspace(0, 1, 5)) is None


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_inside(low, width):
    found = ticks(low, low + width, 5)
    assert 1 <= len(found) <= 12
    slack = width * 1e-6 + abs(low) * 1e-9
    assert all(low - slack <= value <= low + width + slack for value in found)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_limits_hold_every_value_with_a_width(values):
    low, high = limits(values)
    assert low < high
    assert low <= min(values) <= max(values) <= high


def test_limits_of_nothing_and_scales_beyond_their_ends():
    assert limits([float("nan")]) == (0.0, 1.0)
    assert Scale(0, 1, 10, 110)(7) == 110


def test_thinning_keeps_both_ends():
    rows = thin([(float(i), 0.0) for i in range(1000)], 50)
    assert rows[0] == 0
    assert rows[-1] == 999
    assert len(rows) <= 50


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.92314, "0.9231"), (0.5, "0.5"), (12.345, "12.3"), (0.00001, "1.0e-05"), (0, "0"), (float("nan"), "-"), (100.0, "100")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert short(value) == text


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def every_chart(name):
    return [
        line_chart(name, [Series(name, 0, [(0.0, 0.1), (1.0, float("nan")), (2.0, 3.0)])], name, name),
        interval_chart(name, [Evidence(name, 1, 0.5, 0.4, 0.6, [(0.55, name)])], name),
        scatter_chart(name, [(0.5, 0.6, 0.4, 0.7, name), (0.5, 0.5, None, None, name)], name, name),
        gantt_chart(name, [Span(name, 2, 0.0, 2.0, name), Span(name, 3, 2.0, 2.0, name, late=True)], 1.0),
    ]  # fmt: skip


def test_names_are_escaped_and_no_coordinate_is_nan():
    for chart in every_chart(NASTY):
        page = Tags(chart)
        assert not {"script", "img"} & set(page.tags)
        assert ("aria-label", NASTY) in page.attributes
        assert "nan" not in re.sub(r'data-tip="[^"]*"', "", str(chart)).lower()


def test_charts_of_nothing_are_drawn_all_the_same():
    assert "svg" in line_chart("none", [], "x", "y")
    assert "svg" in line_chart("empty", [Series("a", 0, [])], "x", "y")
    assert "svg" in interval_chart(
        "lone", [Evidence("a", 0, float("nan"), float("nan"), float("nan"))], "x"
    )
    assert "svg" in gantt_chart("none", [])
