"""The graph of what starts from what: order, circles, and which run is taken."""

import pytest

from harness.commands import chain
from harness.errors import ConfigError
from harness.ledger import Ledger, utc_now
from harness.records import Handle, QueuedSpec, Run, RunSpec, RunState
from harness.settings import Settings
from harness.workbench import Workbench
from kernels.config import FeaturesConfig, Profiles, Strategy

PROFILES = Profiles(FeaturesConfig(), FeaturesConfig(), FeaturesConfig())
NEEDS = {"a": (), "b": ("a",), "c": ("b", "a"), "hen": ("egg",), "egg": ("hen",)}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(
        chain,
        "load_strategy",
        lambda _, name, variant="default": Strategy(
            name, f"title {name}", "toy", "toy", PROFILES, needs=NEEDS[name]
        ),
    )
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    # The real Kaggle's data has no digest, so no remote is asked.
    yield Workbench(Settings(tmp_path, tmp_path, remote="kaggle"), ledger, lambda _: None)
    ledger.close()


def spec(name, **changes):
    return RunSpec(name, profile="cpu", **changes)


def add_run(bench, run_spec, state):
    return bench.ledger.add_run(
        Run(
            "", "kaggle", run_spec, "toy", Handle("me", run_spec.label()), "d" * 64, "s" * 64, None,
            dirty=False, datasets={}, created_at=utc_now(), state=state,
        )
    )  # fmt: skip


def test_what_is_needed_comes_first_and_once(bench):
    ordered = chain.with_upstream(bench, [spec("c"), spec("b")])
    assert [item.strategy for item in ordered] == ["a", "b", "c"]


def test_a_tagged_experiment_starts_from_the_plain_run_of_its_profile(bench):
    ordered = chain.with_upstream(bench, [spec("b", tag="longer", folds=(0,))])
    assert ordered == [spec("a"), spec("b", tag="longer", folds=(0,))]


def test_fold_seeds_are_followed_where_the_needed_run_has_them_too(bench):
    seeded = spec("b", seeds=(1,))
    assert chain.with_upstream(bench, [seeded]) == [spec("a"), seeded]
    both = [seeded, spec("a", seeds=(1,))]
    assert chain.with_upstream(bench, both) == both[::-1]
    bench.ledger.enqueue(QueuedSpec("kaggle", spec("a", seeds=(1,)), False, utc_now(), "full"))
    assert chain.with_upstream(bench, [seeded]) == [seeded]


def test_the_run_on_the_same_fold_seeds_is_started_from(bench):
    add_run(bench, spec("a", seeds=(1,)), RunState.RUNNING)
    add_run(bench, spec("a"), RunState.INTENT)
    strategy = chain.load_strategy(None, "b")
    for seeds, state in (((1,), "running"), ((2,), "intent"), (None, "intent")):
        with pytest.raises(chain.NotReady, match=f"is {state}"):
            chain.find_upstream(bench, strategy, spec("b", seeds=seeds))


@pytest.mark.parametrize("state", [RunState.COMPLETE, RunState.RUNNING, RunState.INTENT])
def test_what_has_run_or_runs_is_not_pushed_again(bench, state):
    add_run(bench, spec("a"), state)
    assert chain.with_upstream(bench, [spec("b")]) == [spec("b")]


def test_what_ended_badly_is_pushed_again(bench):
    add_run(bench, spec("a"), RunState.ERROR)
    assert chain.with_upstream(bench, [spec("b")]) == [spec("a"), spec("b")]


def test_what_is_queued_is_not_pushed_again(bench):
    bench.ledger.enqueue(QueuedSpec("kaggle", spec("a"), False, utc_now(), "full"))
    assert chain.with_upstream(bench, [spec("b")]) == [spec("b")]


def test_a_circle_is_refused_by_name(bench):
    with pytest.raises(ConfigError, match="hen -> egg -> hen"):
        chain.with_upstream(bench, [spec("hen")])


def test_a_newer_run_on_its_way_is_waited_for(bench):
    add_run(bench, spec("a"), RunState.COMPLETE)
    add_run(bench, spec("a"), RunState.RUNNING)
    strategy = chain.load_strategy(None, "b")
    with pytest.raises(chain.NotReady, match="a-cpu-2 is running") as caught:
        chain.find_upstream(bench, strategy, spec("b"))
    assert caught.value.waits


def test_a_failed_upstream_is_not_waited_for(bench):
    add_run(bench, spec("a"), RunState.ERROR)
    with pytest.raises(chain.NotReady, match="ended badly") as caught:
        chain.find_upstream(bench, chain.load_strategy(None, "b"), spec("b"))
    assert not caught.value.waits


def test_the_output_of_an_earlier_version_comes_as_a_dataset(bench, monkeypatch):
    monkeypatch.setattr(chain, "output_dataset", lambda _, run: f"packed {run.run_id}")
    first = add_run(bench, spec("a"), RunState.COMPLETE)
    first = bench.ledger.update_run(first.run_id, version=1)
    assert chain.mounts_of(bench, [first]) == (["me/a-cpu"], [])
    second = add_run(bench, spec("a"), RunState.RUNNING)
    second = bench.ledger.update_run(second.run_id, version=2)
    assert chain.mounts_of(bench, [first, second]) == (["me/a-cpu"], ["packed a-cpu-1"])
    bench.ledger.update_run(second.run_id, state=RunState.ERROR)
    assert chain.mounts_of(bench, [first]) == (["me/a-cpu"], [])


def test_the_queue_keeps_its_order_and_a_place_in_it(bench):
    ledger = bench.ledger
    for name, reason in (("a", "full"), ("b", "waits"), ("a", "still full")):
        ledger.enqueue(QueuedSpec("kaggle", spec(name), name == "b", utc_now(), reason))
    assert [(item.spec.strategy, item.reason) for item in ledger.queue("kaggle")] == [
        ("a", "still full"),
        ("b", "waits"),
    ]
    assert ledger.queue("kaggle")[1].force is True
    assert ledger.dequeue("kaggle", spec("a"))
    assert not ledger.dequeue("kaggle", spec("a"))
