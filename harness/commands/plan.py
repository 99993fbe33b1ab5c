"""Plan: how long strategies will take, and what is ready when. Nothing is pushed or asked of the remote."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.commands.push import prepare
from harness.commands.watch import models_of_spec
from harness.errors import ConfigError, HarnessError
from harness.kaggle_image import CONCURRENT_SESSIONS, WEEKLY_HOURS
from harness.planning import (
    MEASURED,
    SCALED,
    STATED,
    UNKNOWN,
    Item,
    Plan,
    Work,
    lay_out,
    scale_hours,
)
from harness.records import Run, RunSpec, RunState
from harness.registry import load_competition, load_strategies, load_strategy
from harness.render import configure
from harness.settings import choose_profile
from harness.workbench import Workbench
from kernels.config import Strategy
from kernels.contract import METRICS_FILE

SESSION_LIMIT_H = 12.0  # a session of the real Kaggle ends then
# A T4 in half precision against two CPU cores in float32, for convolutional networks of this size. A guess
# that decides between hours and days, no more; the first measured run replaces it.
GPU_SPEED_UP = 30.0


def plan(
    bench: Workbench,
    names: Sequence[str] = (),
    deadline: str | None = None,
    quota_hours: float | None = None,
    images: int | None = None,
    now: datetime | None = None,
) -> Plan:
    """Lay strategies out over sessions, quota and deadline.

    Args:
        names: Strategies in the order in which they matter; empty: all of a blend that have not finished.
        deadline: An ISO time in UTC, or hours as 36h; None: there is none.
        quota_hours: GPU hours of a week; None: what Kaggle gives.
        images: Labelled images; None: as many as past runs saw.

    Raises:
        ConfigError: Unknown strategy, or a deadline that is no time.
    """
    now = now or datetime.now(UTC)
    profile, _ = choose_profile(bench.settings)
    workspace = bench.settings.workspace
    runs = bench.ledger.runs(bench.settings.remote)
    strategies = (
        [load_strategy(workspace, name) for name in dict.fromkeys(names)]
        if names
        else [item for item in load_strategies(workspace) if item.in_blend]
    )
    assumptions: list[str] = []
    items, done = [], []
    for strategy in strategies:
        spec = RunSpec(strategy=strategy.name, profile=profile)
        if not names and any(run.spec == spec and run.ended_well for run in runs):
            done.append(strategy.name)
            continue
        items.append(_estimate(bench, strategy, spec, runs, images, assumptions))
    quota = WEEKLY_HOURS["gpu"] if quota_hours is None else quota_hours
    reset_at = quota_reset(now)
    used = _used_hours(bench, runs, reset_at - timedelta(days=7))
    end = None if deadline is None else hours_until(deadline, now)
    reset = (reset_at - now).total_seconds() / 3600
    placed = lay_out(items, CONCURRENT_SESSIONS, quota, used, reset, SESSION_LIMIT_H, end)
    return Plan(
        items=tuple(placed),
        quota_hours=quota,
        used_hours=used,
        planned_hours=sum(item.hours or 0.0 for item in items if item.accelerator == "gpu"),
        unknown=tuple(item.name for item in items if item.hours is None),
        deadline=end,
        reset=reset,
        assumptions=tuple(dict.fromkeys(assumptions)),
        done=tuple(done),
    )


def hours_until(text: str, now: datetime) -> float:
    """Hours from now to a deadline: ``36h``, ``2d``, or an ISO time (UTC unless it says otherwise).

    Raises:
        ConfigError: It is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hd])", text.strip().lower())
    if match is not None:
        return float(match[1]) * (24.0 if match[2] == "d" else 1.0)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(
            f"Deadline {text!r} is no time.", "Write 36h, 2d or 2026-12-01T23:59."
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds() / 3600


def quota_reset(now: datetime) -> datetime:
    """When the weekly quota starts anew: Saturday, 00:00 UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=(5 - midnight.weekday()) % 7 or 7)


def _used_hours(bench: Workbench, runs: Sequence[Run], since: datetime) -> float:
    mark = since.isoformat()
    return (
        sum(
            run.seconds or 0.0
            for run in runs
            if run.created_at >= mark
            and _json(bench, run, "kernel-metadata.json").get("enable_gpu")
        )
        / 3600
    )


def _json(bench: Workbench, run: Run, name: str) -> dict[str, Any]:
    try:
        value = json.loads((bench.run_folder(run) / name).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


# ---- hours ---------------------------------------------------------------------------------------


def _estimate(
    bench: Workbench,
    strategy: Strategy,
    spec: RunSpec,
    runs: Sequence[Run],
    images: int | None,
    assumptions: list[str],
) -> Item:
    accelerator = strategy.accelerator if spec.profile == "full" else "cpu"
    found = _measured(bench, spec, runs)
    found = found or _stated(strategy, spec)
    found = found or _scaled(bench, strategy, spec, runs, images, accelerator, assumptions)
    if found is None:
        why = f"no run yet; rehearse it: harness dry-run {strategy.name} --profile {spec.profile}"
        return Item(strategy.name, accelerator, None, UNKNOWN, why)
    hours, source, why = found
    return Item(strategy.name, accelerator, hours, source, why)


def _measured(
    bench: Workbench, spec: RunSpec, runs: Sequence[Run]
) -> tuple[float, str, str] | None:
    """The newest finished run of the strategy in this profile, in proportion to its models."""
    wanted = models_of_spec(bench.settings.workspace, spec)
    for run in reversed(runs):
        same = run.spec.strategy == spec.strategy and run.spec.profile == spec.profile
        if not same or run.spec.overrides or run.spec.variant != spec.variant or run.unfinished:
            continue
        if run.state is not RunState.COMPLETE or not run.seconds:
            continue
        trained = models_of_spec(bench.settings.workspace, run.spec)
        if not wanted or not trained:
            continue
        share = wanted / trained
        part = "" if share == 1 else f", {trained} of {wanted} models"
        return run.seconds * share / 3600, MEASURED, f"run {run.run_id}{part}"
    return None


def _stated(strategy: Strategy, spec: RunSpec) -> tuple[float, str, str] | None:
    """What the strategy's file says was measured on Kaggle."""
    match = re.match(r"(\d+(?:\.\d+)?)", strategy.hours)
    if spec.profile != "full" or match is None:
        return None
    return float(match[1]), STATED, f"its file: {strategy.hours}"


def _scaled(
    bench: Workbench,
    strategy: Strategy,
    spec: RunSpec,
    runs: Sequence[Run],
    images: int | None,
    accelerator: str,
    assumptions: list[str],
) -> tuple[float, str, str] | None:
    """From the rehearsal of the bytes that would be pushed now."""
    slug = load_competition(bench.settings.workspace, strategy.competition).slug
    count = images or _images_seen(bench, slug, runs)
    if count is None or not bench.ledger.has_dry_runs():
        return None  # rendering a script to look up its digest takes a second
    try:
        seconds = bench.ledger.dry_run_seconds(prepare(bench, spec).build.digest)
    except HarnessError:
        return None
    if seconds is None:
        return None
    configs = configure(strategy, spec)
    small, planned = (work_of(configs.pick(name), count) for name in ("small", spec.profile))
    speed = GPU_SPEED_UP if accelerator == "gpu" else 1.0
    hours = scale_hours(seconds, small, planned, speed)
    ratio = planned.amount / small.amount
    assumptions.append(
        f"scaled: time grows with epochs x models x images x pixels, {count} labelled images; network and "
        "augmentation cost as in the rehearsal"
    )
    if accelerator == "gpu":
        assumptions.append(
            f"scaled: Kaggle's GPU is {GPU_SPEED_UP:g} times this machine (a guess; one measured run ends it)"
        )
    return hours, SCALED, f"dry run of {seconds:.0f} s, {ratio:,.0f} times the work"


def work_of(config: Any, images: int) -> Work:
    """How much a config trains on so many labelled images."""
    chosen = config.folds.count if config.folds.run_folds is None else len(config.folds.run_folds)
    most = getattr(config, "max_images", None)
    train = getattr(config, "train", None)
    return Work(
        epochs=train.epochs if train is not None else 1,
        models=chosen * len(config.folds.seeds),
        side=config.image_size,
        images=min(images, most) if most else images,
    )


def _images_seen(bench: Workbench, slug: str, runs: Sequence[Run]) -> int | None:
    """Most labelled images that a pulled run of the competition saw, rehearsals aside."""
    seen = [
        _json(bench, run, f"outputs/{METRICS_FILE}").get("n_labelled")
        for run in runs
        if run.competition == slug and run.spec.profile != "small" and run.seconds
    ]
    return max((int(count) for count in seen if count), default=None)
