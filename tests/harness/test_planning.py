"""A plan promises only what it knows: two sessions, the week's quota, measured hours before guesses."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ledger import new_run

from harness.commands.plan import hours_until, plan, quota_reset, work_of
from harness.errors import ConfigError
from harness.planning import Item, Work, lay_out, scale_hours
from harness.records import RunSpec, RunState
from harness.report.plan import plan_section
from harness.settings import Settings
from harness.workbench import open_workbench
from kernels.competitions.masked_xray import COMPETITION
from kernels.strategies.effnetv2_s import STRATEGY

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday


def item(name, hours, accelerator="gpu"):
    return Item(name, accelerator, hours, "measured", "run 1")


def laid_out(items, quota=30.0, used=0.0, deadline=None, gpu=2):
    return lay_out(items, {"gpu": gpu, "cpu": 5}, quota, used, 60.0, 12.0, deadline)


def test_two_gpu_sessions_run_at_a_time():
    placed = laid_out([item("a", 3.0), item("b", 5.0), item("c", 2.0)])
    assert [(x.start, x.end) for x in placed] == [(0, 3), (0, 5), (3, 5)]


@given(st.lists(st.floats(0.1, 11.0), min_size=1, max_size=12), st.floats(0, 30))
def test_never_more_than_two_at_once_and_never_more_than_the_quota_before_it_starts_anew(
    hours, used
):
    placed = laid_out([item(str(n), value) for n, value in enumerate(hours)], used=used)
    for one in placed:
        assert sum(x.start <= one.start < x.end - 1e-9 for x in placed) <= 2
    assert sum(x.hours for x in placed if x.start < 60) <= 30 - used + 1e-6


def test_what_has_no_quota_waits_for_the_next_week_and_says_so():
    placed = laid_out([item("a", 10.0), item("b", 10.0)], used=15.0)
    assert (placed[0].in_quota, placed[0].start) == (True, 0.0)
    assert (placed[1].in_quota, placed[1].start) == (False, 60.0)
    assert "no quota left" in placed[1].note


def test_cpu_runs_cost_no_quota():
    assert laid_out([item("a", 9.0, "cpu")], quota=0.0)[0].in_quota is None


def test_a_run_longer_than_a_session_is_told_to_be_split():
    assert "--fold" in laid_out([item("a", 20.0)])[0].note


def test_unknown_hours_come_last_and_are_promised_nothing():
    placed = laid_out([item("a", None), item("b", 2.0)], deadline=3.0)
    assert [x.name for x in placed] == ["b", "a"]
    assert placed[0].in_time is True
    assert (placed[1].end, placed[1].in_time) == (None, None)


def test_scaling_follows_work_and_speed():
    small, full = Work(1, 2, 112, 100), Work(10, 5, 224, 800)
    assert full.amount / small.amount == pytest.approx(800)
    assert scale_hours(36.0, small, full, 1.0) == pytest.approx(8.0)
    assert scale_hours(36.0, small, full, 10.0) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="cannot be scaled"):
        scale_hours(0.0, small, full, 1.0)


def test_work_counts_epochs_models_and_images_a_rehearsal_drops():
    small, full = (work_of(STRATEGY.profiles.pick(name), 800) for name in ("small", "full"))
    assert full.images == 800
    assert small.images <= 96
    assert full.amount > 50 * small.amount


def test_deadlines_are_hours_days_or_times():
    assert hours_until("36h", NOW) == 36
    assert hours_until("1.5 d", NOW) == 36
    assert hours_until("2026-11-26T00:00", NOW) == 12
    assert hours_until("2026-11-25T14:00+01:00", NOW) == 1
    with pytest.raises(ConfigError, match="36h"):
        hours_until("soon", NOW)


@pytest.mark.parametrize("day", range(7))
def test_the_quota_starts_anew_on_saturday(day):
    reset = quota_reset(NOW + timedelta(days=day))
    assert reset.weekday() == 5
    assert timedelta(0) < reset - (NOW + timedelta(days=day)) <= timedelta(days=7)


@pytest.fixture
def bench(tmp_path):
    settings = Settings(ROOT, tmp_path / "state", remote="kaggle", profile="full", owner="me")
    with open_workbench(settings, print) as found:
        yield found


def finished(bench, strategy, seconds, folds=None, **changes):
    spec = RunSpec(strategy, folds=folds)
    run = bench.ledger.add_run(
        new_run(
            spec=spec,
            remote="kaggle",
            competition=COMPETITION.slug,
            state=RunState.COMPLETE,
            **changes,
        )
    )
    return bench.ledger.update_run(run.run_id, seconds=seconds)


def test_measured_hours_are_taken_in_proportion_to_folds(bench):
    finished(bench, "effnetv2_s", 3600.0, folds=(0,))
    (found,) = plan(bench, ["effnetv2_s"], now=NOW).items
    assert found.hours == pytest.approx(5.0)
    assert (found.source, found.accelerator) == ("measured", "gpu")
    assert "1 of 5 models" in found.why


def test_without_any_run_hours_are_unknown_and_the_next_step_is_named(bench):
    made = plan(bench, ["convnext_s"], now=NOW)
    assert made.items[0].hours is None
    assert "harness dry-run convnext_s" in made.items[0].why
    assert made.unknown == ("convnext_s",)


def test_a_dry_run_of_these_bytes_is_scaled_and_the_assumptions_are_told(bench, monkeypatch):
    # Rendering is another test's business, and takes seconds.
    made_now = SimpleNamespace(build=SimpleNamespace(digest="these bytes"))
    monkeypatch.setattr("harness.commands.plan.prepare", lambda *_: made_now)
    bench.ledger.record_dry_run("other bytes", 20.0)
    assert plan(bench, ["eva02_s"], images=800, now=NOW).items[0].hours is None
    bench.ledger.record_dry_run("these bytes", 20.0)
    assert plan(bench, ["eva02_s"], now=NOW).items[0].hours is None  # nobody knows how many images
    made = plan(bench, ["eva02_s"], images=800, now=NOW)
    assert made.items[0].source == "scaled"
    assert made.items[0].hours > 0
    assert any("a guess" in text for text in made.assumptions)


def test_what_is_finished_is_not_planned_again_unless_named(bench):
    finished(bench, "ssl", 7200.0)
    made = plan(bench, now=NOW)
    assert "ssl" in made.done
    assert "ssl" not in {x.name for x in made.items}
    assert plan(bench, ["ssl"], now=NOW).items[0].hours == pytest.approx(2.0)


def test_the_report_draws_what_is_known_and_lists_what_is_not(bench):
    finished(bench, "effnetv2_s", 3600.0)
    drawn = plan_section(plan(bench, ["effnetv2_s", "convnext_s"], deadline="1h", now=NOW))
    assert drawn.count("<rect") == 1
    assert "convnext_s" in drawn
    assert plan_section(replace(plan(bench, ["ssl"], now=NOW), items=())) == ""
