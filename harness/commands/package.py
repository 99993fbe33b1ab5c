"""Package: make dataset folders, say what changed, and publish what did when asked to."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, ContractError, HarnessError
from harness.package import ABOUT, CODE_SLUG, Packer, disk_error, packer_for
from harness.publishing import publish_dataset
from harness.records import DatasetBuild, PackedFile, Run, RunState, slugify, to_json
from harness.registry import did_you_mean
from harness.workbench import Workbench
from kernels.config import weights_slug
from kernels.contract import CHECKPOINT_FOLDER, METRICS_FILE, MODEL_FILE, sha256_file, write_json


@dataclass(frozen=True)
class PackageResult:
    """One dataset after a packaging run."""

    slug: str
    build: DatasetBuild | None
    state: str  # new, changed, current, sent, processing or refused
    version: int | None = None  # of the remote, as the ledger or the publish has it
    sent: int = 0  # bytes that went out
    error: HarnessError | None = None


def package(
    bench: Workbench,
    names: Sequence[str] = (),
    *,
    publish: bool = False,
    rehash: bool = False,
    pins: Sequence[str] = (),
) -> list[PackageResult]:
    """Build the named datasets, or all that have a folder and the code; publish them when asked.

    A dataset that must not be published does not keep the others from it.

    Args:
        names: Slugs, ``code``, or names of timm backbones.
        rehash: Read every file, whatever the indexes say.
        pins: Runs whose pulled checkpoints become datasets first.

    Raises:
        ConfigError: An unknown name, or a run that cannot be pinned; nothing was built then.
        ContractError: Checkpoints of a run were not pulled, or are not what it wrote.
    """
    packer = packer_for(bench.settings, owner=bench.owner if publish else None, rehash=rehash)
    pinned = {pinned_slug(name): pinnable(bench, name) for name in pins}
    named = [name if name in pinned else find_slug(packer, name) for name in names]
    for slug, (run, wanted) in pinned.items():
        with bench.locked(f"package-{slug}"):
            _copy_checkpoints(bench, run, wanted, bench.settings.datasets_folder / slug)
    slugs = named or (
        [] if pinned else [CODE_SLUG, *(slug for slug in packer.slugs() if slug != CODE_SLUG)]
    )
    results = []
    for slug in dict.fromkeys([*pinned, *slugs]):
        with bench.locked(f"package-{slug}"):
            results.append(_package_one(bench, packer, slug, publish))
    return results


def _package_one(bench: Workbench, packer: Packer, slug: str, publish: bool) -> PackageResult:
    build = None
    try:
        build = packer.code() if slug == CODE_SLUG else packer.folder(slug)
        if not publish:
            state, version = known_state(bench, build)
            return PackageResult(slug, build, state, version)
        done = publish_dataset(bench, build)
    except HarnessError as error:
        return PackageResult(slug, build, "refused", error=error)
    return PackageResult(slug, build, done.state, done.version, done.sent)


def known_state(bench: Workbench, build: DatasetBuild) -> tuple[str, int | None]:
    """What the ledger knows of a build on the chosen remote, without asking it."""
    handle = bench.ledger.dataset_handle(bench.settings.remote, build.slug)
    history = (
        bench.ledger.dataset_history(bench.settings.remote, handle) if handle is not None else []
    )
    versions = [version for _, version in history if version is not None]
    newest = max(versions, default=None)
    if (build.digest, newest) in history and newest is not None:
        return "current", newest
    return ("changed" if versions else "new"), newest


def find_slug(packer: Packer, name: str) -> str:
    """The dataset that a name on the command line means (ConfigError names the known ones)."""
    known = packer.slugs()
    if name == "code":
        return CODE_SLUG
    if name in known or name == CODE_SLUG:
        return name
    if weights_slug(name) in known:
        return weights_slug(name)
    if any(path.name == name and path.is_dir() for path in packer.datasets_folder.glob("[!.]*")):
        return name  # an empty folder: said when it is looked into
    unknown = did_you_mean("dataset", name, ["code", *known])
    raise ConfigError(
        unknown.message,
        f"{unknown.hint} A dataset is a folder below {packer.datasets_folder}: put its files there first.",
    )


def pinned_slug(run_id: str) -> str:
    """The dataset that a pinned run's checkpoints become.

    The files are links where the disk allows it. A later run with ``needs`` mounts a kernel's output
    directly: pinning is for what shall outlive the kernel, or go to another account's kernels.
    """
    return slugify(f"checkpoints-{run_id}")


def pinnable(bench: Workbench, run_id: str) -> tuple[Run, list[tuple[PackedFile, bool]]]:
    """A run and the outputs to pin: its checkpoints, its model and its metrics.

    Raises:
        ConfigError: The run is not complete, or wrote no checkpoint.
    """
    run = bench.ledger.run(run_id)
    if run.state is not RunState.COMPLETE:
        raise ConfigError(f"{run_id} is {run.state.lower()}; only a complete run can be pinned.")
    wanted = [
        (file, local)
        for file, local in bench.ledger.outputs(run_id)
        if file.path.startswith(f"{CHECKPOINT_FOLDER}/") or file.path in (MODEL_FILE, METRICS_FILE)
    ]
    if not any(file.path != METRICS_FILE for file, _ in wanted):
        raise ConfigError(f"{run_id} wrote no checkpoints.", "See what it wrote: harness runs")
    return run, wanted


def _copy_checkpoints(
    bench: Workbench, run: Run, wanted: Sequence[tuple[PackedFile, bool]], folder: Path
) -> None:
    try:
        for file, _ in wanted:
            source = bench.outputs_folder(run) / file.path
            if not source.is_file():
                raise ContractError(
                    f"{run.run_id}: {file.path} is not on this disk.",
                    f"Fetch it with: harness pull {run.run_id} --checkpoints",
                )
            if source.stat().st_size != file.size or sha256_file(source) != file.sha256:
                raise ContractError(
                    f"{run.run_id}: {file.path} is not what the run wrote.",
                    f"Fetch it again: harness pull {run.run_id} --checkpoints",
                )
            _link_or_copy(source, folder / file.path)
        write_json(
            folder / ABOUT, {"about": f"Checkpoints of run {run.run_id}.", "producer": _of(run)}
        )
    except OSError as error:
        raise disk_error(folder, error) from error


def _of(run: Run) -> dict[str, object]:
    return {
        "run": run.run_id,
        "kernel": str(run.kernel),
        "script_sha256": run.script_sha256,
        "commit": run.commit,
        "spec": to_json(run.spec),
    }


def _link_or_copy(source: Path, target: Path) -> None:
    if target.is_file() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    draft.unlink(missing_ok=True)
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
    draft.replace(target)
