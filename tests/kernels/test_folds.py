"""Folds are stratified to the row, never split a group, repeat by seed, and refuse what cannot work."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.blocks.folds import assign_folds, iterate_folds
from kernels.config import FoldsConfig

TARGETS = np.random.default_rng(0).permutation(np.repeat([1, 0], [641, 237]))
SINGLES = np.arange(878)


def class_sizes(folds: np.ndarray, targets: np.ndarray) -> list[tuple[int, int]]:
    return [
        (
            int(((folds == fold) & (targets == 1)).sum()),
            int(((folds == fold) & (targets == 0)).sum()),
        )
        for fold in np.unique(folds)
    ]


def test_oracle_62_sizes_of_the_write_ups_labels() -> None:
    sizes = class_sizes(assign_folds(TARGETS, SINGLES, 5, seed=0), TARGETS)
    assert sorted(positive for positive, _ in sizes) == [128, 128, 128, 128, 129]
    assert sorted(negative for _, negative in sizes) == [47, 47, 47, 48, 48]


def test_same_seed_same_folds_and_another_seed_others() -> None:
    first = assign_folds(TARGETS, SINGLES, 5, seed=3)
    assert np.array_equal(first, assign_folds(TARGETS, SINGLES, 5, seed=3))
    assert not np.array_equal(first, assign_folds(TARGETS, SINGLES, 5, seed=4))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(2, 5), st.integers(5, 40))
def test_a_group_is_never_split(seed: int, count: int, n_groups: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, 80)
    targets = np.arange(80) % 2
    folds = assign_folds(targets, groups, count, seed=seed)
    assert set(folds.tolist()) <= set(range(count))
    for group in np.unique(groups):
        assert len(set(folds[groups == group].tolist())) == 1


def test_grouped_folds_stay_nearly_stratified() -> None:
    groups = np.arange(878)
    groups[:40] = np.arange(40) // 2  # twenty pairs
    folds = assign_folds(TARGETS, groups, 5, seed=0)
    for positive, negative in class_sizes(folds, TARGETS):
        assert positive / (positive + negative) == pytest.approx(641 / 878, abs=0.02)
        assert positive + negative == pytest.approx(878 / 5, abs=8)


def test_a_class_smaller_than_the_folds_is_named() -> None:
    targets = np.repeat([0, 1], [20, 3])
    with pytest.raises(ValueError, match="class 1 has 3 rows, fewer than 5 folds"):
        assign_folds(targets, np.arange(23), 5, seed=0)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="two classes are needed"):
        assign_folds(np.ones(10, dtype=int), np.arange(10), 2, seed=0)


def test_iteration_holds_every_row_out_once_per_seed() -> None:
    config = FoldsConfig(count=4, seeds=(0, 7))
    held: dict[int, list[int]] = {0: [], 7: []}
    for seed, fold, train, held_out in iterate_folds(TARGETS, SINGLES, config):
        assert 0 <= fold < 4
        assert not set(train) & set(held_out)
        assert len(train) + len(held_out) == 878
        held[seed] += held_out.tolist()
    assert all(sorted(rows) == list(range(878)) for rows in held.values())


def test_run_folds_chooses_without_moving_rows() -> None:
    whole = {
        fold: held_out.tolist()
        for _, fold, _, held_out in iterate_folds(TARGETS, SINGLES, FoldsConfig())
    }
    some = list(iterate_folds(TARGETS, SINGLES, FoldsConfig(run_folds=(1, 3))))
    assert [fold for _, fold, _, _ in some] == [1, 3]
    assert all(held_out.tolist() == whole[fold] for _, fold, _, held_out in some)


def test_a_class_of_few_patients_is_named() -> None:
    targets = np.repeat([1, 0], [10, 50])
    groups = np.concatenate([np.repeat([0, 1], 5), np.arange(2, 52)])
    with pytest.raises(ValueError, match=r"class 1 has 10 rows in 2 groups, .*folds.count=2"):
        assign_folds(targets, groups, 5, seed=0)
    folds = assign_folds(targets, groups, 2, seed=0)
    assert {int(targets[folds == fold].sum()) for fold in (0, 1)} == {5}
