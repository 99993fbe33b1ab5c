"""The grader against known values, and the properties of the public and private split."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.emulator import grader


def write(path: Path, columns: dict[str, list]) -> Path:
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    path.write_text(
        ",".join(names) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    )
    return path


def score(tmp_path: Path, truth: dict, guess: dict, metric: str, fraction: float = 1.0):
    ids = {"id": [f"i{n}" for n in range(len(next(iter(truth.values()))))]}
    return grader.score(
        write(tmp_path / "guess.csv", ids | guess),
        write(tmp_path / "truth.csv", ids | truth),
        "id", list(truth), metric, "seed", fraction,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "truth", "guess", "expected"),
    [
        # Of the four pairs of a positive and a negative, three are in order.
        ("auc", [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        # A tie is half a pair: (1 + 0.5 + 1 + 1) / 4.
        ("auc", [0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8], 0.875),
        ("log_loss", [0, 1], [0.5, 0.5], np.log(2)),
        ("log_loss", [0, 1], [0.2, 0.9], -(np.log(0.8) + np.log(0.9)) / 2),
        ("accuracy", [0, 1, 2, 2], [0, 1, 2, 1], 0.75),
        # Precision 1/2, recall 1.
        ("f1", [0, 0, 1], [0, 1, 1], 2 / 3),
        ("rmse", [0, 0, 0, 0], [1, 1, 1, 3], np.sqrt(3)),
    ],
)
def test_metrics_have_the_values_one_computes_by_hand(tmp_path, metric, truth, guess, expected):
    got = score(tmp_path, {"y": truth}, {"y": guess}, metric)
    assert got.public == pytest.approx(expected)
    assert got.private == got.public  # all rows are public here


def test_several_targets_are_averaged(tmp_path):
    truth = {"a": [0, 0, 1, 1], "b": [1, 0, 1, 0]}
    guess = {"a": [0.1, 0.4, 0.35, 0.8], "b": [4, 3, 2, 1]}
    assert score(tmp_path, truth, guess, "auc").public == pytest.approx((0.75 + 0.75) / 2)


def test_one_class_a_row_is_the_multi_class_loss(tmp_path):
    truth = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1]}
    guess = {"a": [2, 1, 1], "b": [1, 2, 1], "c": [1, 1, 2]}  # scaled to 1/2, 1/4, 1/4
    assert score(tmp_path, truth, guess, "log_loss").public == pytest.approx(np.log(2))


def test_a_usage_column_decides_when_there_is_one(tmp_path):
    truth = write(
        tmp_path / "truth.csv",
        {
            "id": list("abcd"),
            "y": [0, 0, 0, 0],
            "Usage": ["Public", "Private", "Public", "Private"],
        },
    )
    guess = write(tmp_path / "guess.csv", {"id": list("abcd"), "y": [1, 2, 1, 2]})
    got = grader.score(guess, truth, "id", ["y"], "rmse", "seed", 0.3)
    assert (got.public, got.private) == (1.0, 2.0)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), metric=st.sampled_from(["auc", "log_loss", "accuracy", "f1", "rmse"]))
def test_metrics_equal_those_of_scikit_learn(data: st.DataObject, metric: str):
    from sklearn import metrics

    size = data.draw(st.integers(4, 40))
    classes = 2 if metric in ("auc", "log_loss") else data.draw(st.integers(2, 4))
    truth = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)))
    truth[:2] = 0, 1
    hard = metric in ("accuracy", "f1")
    value = st.sampled_from(sorted(set(truth.tolist()))) if hard else st.sampled_from(
        [0.0, 0.1, 0.25, 0.5, 0.5000001, 1.0]
    )  # fmt: skip
    guess = np.array(data.draw(st.lists(value, min_size=size, max_size=size)), dtype=float)
    wanted = {
        "auc": lambda: metrics.roc_auc_score(truth, guess),
        "log_loss": lambda: metrics.log_loss(
            truth, np.clip(guess, 1e-15, 1 - 1e-15), labels=[0, 1]
        ),
        "accuracy": lambda: metrics.accuracy_score(truth, guess),
        "f1": lambda: metrics.f1_score(
            truth, guess, average="binary" if truth.max() <= 1 else "macro", zero_division=0
        ),
        "rmse": lambda: metrics.root_mean_squared_error(truth, guess),
    }[metric]()
    got = grader._measure(metric, truth[:, None].astype(float), guess[:, None])
    assert got == pytest.approx(wanted, abs=1e-12)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    labels=st.lists(st.integers(0, 2), min_size=4, max_size=60),
    fraction=st.floats(0.05, 0.95),
    order=st.randoms(use_true_random=False),
)
def test_the_split_is_fair_complete_and_blind_to_row_order(
    labels: list[int], fraction: float, order: random.Random
):
    import pandas as pd

    table = pd.DataFrame({"id": [f"r{n}" for n in range(len(labels))], "y": labels}).astype(
        {"y": float}
    )
    shuffled = table.sample(frac=1, random_state=order.randrange(2**31))

    def public(frame: pd.DataFrame) -> set[str]:
        marked = grader._public_rows(frame, "id", ["y"], "auc", "seed", fraction)
        return set(frame.loc[marked, "id"])

    chosen = public(table)
    assert chosen == public(shuffled)
    for value in set(labels):
        rows = set(table.loc[table["y"] == value, "id"])
        if len(rows) > 1:
            assert 0 < len(rows & chosen) < len(rows)  # both parts have every class
            assert abs(len(rows & chosen) - fraction * len(rows)) <= 1.5


def test_another_seed_is_another_split(tmp_path):
    import pandas as pd

    table = pd.DataFrame(
        {"id": [f"r{n}" for n in range(100)], "y": [float(n % 2) for n in range(100)]}
    )
    splits = [
        tuple(grader._public_rows(table, "id", ["y"], "auc", seed, 0.3)) for seed in ("a", "b", "a")
    ]
    assert splits[0] == splits[2] != splits[1]
    assert sum(splits[0]) == 30
