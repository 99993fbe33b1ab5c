"""Pairs are the exact nearest others, duplicates included, and purity comes with its chance level."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.preprocessing import StandardScaler

from kernels.blocks import pairs as pairs_module
from kernels.blocks.pairs import (
    Pairs,
    TurnedTree,
    find_pairs,
    label_purity,
    nearest_by_product,
    squared_gaps,
    standardise,
)

X = np.array([[1, 10, 5], [2, 10, 5], [3, 30, 5], [3, 30, 5], [9, 90, 5]], dtype=float)


def brute_force(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every distance by subtraction; the lowest index wins among equals."""
    return nearest_by_subtraction(standardise(features))


def nearest_by_subtraction(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    squares = ((table[:, None] - table[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    return squares.argmin(axis=1), np.sqrt(squares.min(axis=1))


def correlated(rows: int, seed: int, columns: int = 22) -> np.ndarray:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(rows, 6)) @ rng.normal(size=(6, columns))
    return factors + 0.05 * rng.normal(size=(rows, columns))


# ---- oracles 18 and 19 ---------------------------------------------------------------------------


def test_oracle_18_standardised_row() -> None:
    assert standardise(X)[0] == pytest.approx([-0.9285714286, -0.8164965809, 0], abs=1e-9)


def test_oracle_19_neighbours_and_distances() -> None:
    pairs = find_pairs(X)
    assert pairs.neighbour.tolist() == [1, 0, 3, 2, 2]
    assert pairs.distance == pytest.approx(
        [0.3571428571, 0.3571428571, 0, 0, 2.9594768797], abs=1e-9
    )
    assert pairs.duplicates == 2
    assert pairs.max_in_degree == 2
    assert pairs.mutual_share == 4 / 5


# ---- against slower ways -------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(2, 30), st.integers(1, 4)),
        elements=st.integers(-3, 3).map(float),  # few values: many duplicates and ties
    )
)
def test_equals_brute_force_with_duplicates_and_ties(features: np.ndarray) -> None:
    pairs = find_pairs(features)
    _, distance = brute_force(features)
    rows = np.arange(len(features))
    assert (pairs.neighbour != rows).all()
    assert pairs.distance == pytest.approx(distance, abs=1e-12)
    table = standardise(features)
    reached = np.linalg.norm(table - table[pairs.neighbour], axis=1)
    assert reached == pytest.approx(distance, abs=1e-12)
    assert pairs.duplicates == int((distance == 0).sum())


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(2, 25), st.integers(1, 4)),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_equals_brute_force_on_any_numbers(features: np.ndarray) -> None:
    pairs = find_pairs(features)
    assert (pairs.neighbour != np.arange(len(features))).all()
    assert pairs.distance == pytest.approx(brute_force(features)[1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("workers", [1, 3])
def test_equals_brute_force_over_several_blocks(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    table = standardise(correlated(300, 0))
    expected, distance = nearest_by_subtraction(table)
    monkeypatch.setattr(pairs_module, "GEMM_ROWS", 16)
    monkeypatch.setattr(pairs_module, "GEMM_COLUMNS", 70)
    monkeypatch.setattr(pairs_module, "RECHECK_PAIRS", 50)
    near, apart = nearest_by_product(table, np.arange(300), workers)
    assert near.tolist() == expected.tolist()
    assert apart == pytest.approx(distance, abs=1e-12)


def test_one_far_row_does_not_blur_the_others() -> None:
    rows = np.random.default_rng(5).normal(size=(2000, 22))
    rows[17] = 1e4
    table = standardise(rows)
    seen: list[int] = []

    def counted(table: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        seen.append(len(one))
        return squared_gaps(table, one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs_module, "squared_gaps", counted)
        near, _ = nearest_by_product(table, np.arange(2000))
    assert near.tolist() == brute_force(rows)[0].tolist()
    assert sum(seen) < 2 * 2000 + 2000  # of the far row itself all others may be compared


def test_float32_cannot_decide_between_neighbours_a_hair_apart() -> None:
    # Far from the origin, two candidates differ by less than float32 resolves.
    features = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -(1.0 - 1e-9)], [1e4, 5.0], [-1e4, -5.0]])
    pairs = find_pairs(features)
    assert pairs.neighbour[0] == 2
    assert pairs.neighbour.tolist() == brute_force(features)[0].tolist()


@pytest.mark.parametrize("workers", [1, 3])
def test_tree_gives_the_same_as_products(workers: int) -> None:
    rows = standardise(correlated(400, 1))
    queries = np.arange(0, 400, 3)
    by_products = nearest_by_product(rows, queries)
    near, apart = TurnedTree(rows).nearest(queries, workers)
    assert near.tolist() == by_products[0].tolist()
    assert apart == pytest.approx(by_products[1], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(4, 40), st.integers(1, 3)),
        elements=st.integers(-3, 3).map(float),
    ),
    st.sampled_from([1.0, 1e7, 1e13]),
)
def test_the_tree_breaks_ties_and_bears_scales_as_products_do(
    grid: np.ndarray, scale: float
) -> None:
    # A value far off squeezes its column, so that turned coordinates have few digits left.
    features = np.concatenate([grid, np.zeros((len(grid), 1))], axis=1)
    features[0, -1] = scale
    rows = np.unique(standardise(features) + 0.0, axis=0)
    if len(rows) < 4:
        return
    queries = np.arange(len(rows))
    near, apart = TurnedTree(rows).nearest(queries)
    expected = nearest_by_product(rows, queries)
    assert near.tolist() == expected[0].tolist()
    assert apart.tolist() == expected[1].tolist()


def test_many_rows_go_to_the_quicker_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "TREE_LEAST_ROWS", 10)
    features = correlated(400, 2)
    expected = brute_force(features)[0].tolist()
    asked: list[tuple[str, int]] = []

    def slow(name: str, search: Callable, seconds: float) -> Callable:
        def run(*arguments: Any, **named: Any) -> Any:
            asked.append((name, len(arguments[1])))
            time.sleep(seconds)
            return search(*arguments, **named)

        return run

    for slower, quicker in (("tree", "products"), ("products", "tree")):
        asked.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                pairs_module,
                "nearest_by_product",
                slow("products", nearest_by_product, 0.3 * (slower == "products")),
            )
            patch.setattr(
                TurnedTree, "nearest", slow("tree", TurnedTree.nearest, 0.3 * (slower == "tree"))
            )
            assert find_pairs(features).neighbour.tolist() == expected
        assert (quicker, 400) in asked
        assert (slower, 400) not in asked


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 20), st.integers(1, 3)),
        elements=st.floats(-1e5, 1e5, width=32),
    )
)
def test_standardise_equals_scikit_learn(features: np.ndarray) -> None:
    assert np.allclose(standardise(features), StandardScaler().fit_transform(features), atol=1e-6)


def test_a_column_constant_but_for_rounding_becomes_zero() -> None:
    column = np.array([0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2])
    assert standardise(np.stack([column, np.arange(4.0)], axis=1))[:, 0].tolist() == [0, 0, 0, 0]


# ---- duplicates, hubs ----------------------------------------------------------------------------


def test_all_rows_equal() -> None:
    pairs = find_pairs(np.ones((5, 3)))
    assert pairs.neighbour.tolist() == [1, 0, 0, 0, 0]
    assert pairs.distance.tolist() == [0] * 5
    assert pairs.duplicates == 5
    assert pairs.max_in_degree == 4


def test_a_hub_is_counted() -> None:
    angles = np.linspace(0, 2 * np.pi, 5, endpoint=False)
    star = np.concatenate([[[0.0, 0.0]], np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    pairs = find_pairs(star)
    assert pairs.max_in_degree == 5
    assert pairs.mutual_share == pytest.approx(2 / 6)


def test_report_is_plain_json() -> None:
    facts = find_pairs(X).as_json()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["rows"] == 5


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((1, 3)), "at least two rows"),
        (np.ones(4), "at least two rows"),
        (np.array([[1.0], [np.nan], [2.0]]), "row 1"),
        (np.array([[1.0], [2.0], [np.inf]]), "row 2"),
    ],
)
def test_bad_features_are_named(features: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_pairs(features)


def test_search_imports_neither_scikit_learn_nor_scipy() -> None:
    code = (
        "import sys, numpy as np\n"
        "from kernels.blocks.pairs import find_pairs\n"
        "find_pairs(np.random.default_rng(0).normal(size=(50, 22)))\n"
        "assert not {'sklearn', 'scipy'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- label purity --------------------------------------------------------------------------------


def test_chance_of_the_write_ups_labels() -> None:
    targets = np.repeat([1, 0], [641, 237])
    assert label_purity(np.arange(878) - 1, targets).chance == pytest.approx(0.6054, abs=5e-5)


def test_chance_is_what_random_neighbours_reach() -> None:
    rng = np.random.default_rng(0)
    targets = rng.permutation(np.repeat([1, 0], [30, 10]))
    rows = np.arange(40)
    seen = []
    for _ in range(300):
        other = (rows + rng.integers(1, 40, 40)) % 40
        seen.append(label_purity(other, targets).purity)
    assert np.mean(seen) == pytest.approx(label_purity(rows, targets).chance, abs=0.01)


def test_purity_of_separate_classes_is_one_and_of_crossed_pairs_zero() -> None:
    targets = np.array([0, 0, 1, 1])
    assert label_purity(np.array([1, 0, 3, 2]), targets).purity == 1.0
    assert label_purity(np.array([2, 3, 0, 1]), targets).purity == 0.0


def test_purity_refuses_other_rows() -> None:
    pairs: Pairs = find_pairs(X)
    with pytest.raises(ValueError, match="differ in shape"):
        label_purity(pairs.neighbour, np.array([0, 1]))
