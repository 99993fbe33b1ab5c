"""Strategies that start from another one's finished run: which run that is, and how it gets there.

A strategy's ``needs`` names strategies; the run is the newest of the same profile that ended well, or the
one that is on its way: on the same fold seeds where there is one. Its kernel's output is mounted, so
nothing is uploaded again, and the script gets the hash of its manifest. With the setting
``chain = "dataset"`` the output is packaged and mounted as a dataset instead; ``"pinned"`` names the
kernel's version. What of this the real service does has not been tried there.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.commands.pull import pull
from harness.errors import ConfigError
from harness.package import ABOUT, disk_error, packer_for
from harness.records import DatasetBuild, Run, RunSpec, RunState, slugify
from harness.registry import load_strategy
from harness.workbench import Workbench
from kernels.config import Strategy
from kernels.contract import MANIFEST_FILE, MODEL_FILE, sha256_file, write_json

ENDED_BADLY = (RunState.ERROR, RunState.CANCEL_ACKNOWLEDGED, RunState.REJECTED)
UPSTREAM_KEY = (
    "upstream "  # before a strategy's name, beside a run's dataset slugs, which have no blanks
)
OUTPUT_FOLDER = "run"  # of a dataset: the output's own README must not meet the dataset's


class NotReady(ConfigError):
    """A strategy's upstream run has not finished. ``waits``: it will without anybody's help."""

    def __init__(self, message: str, hint: str | None, waits: bool) -> None:
        super().__init__(message, hint)
        self.waits = waits


@dataclass(frozen=True)
class Upstream:
    """The finished run that a strategy starts from."""

    need: str
    run: Run
    manifest_sha256: str

    def baked(self) -> dict[str, str]:
        """What the script is told."""
        return {"slug": self.run.kernel.slug, "manifest_sha256": self.manifest_sha256}


def upstream_spec(
    bench: Workbench, need: str, spec: RunSpec, asked: Sequence[RunSpec] = ()
) -> RunSpec:
    """The run of a needed strategy that a spec starts from, in the same profile.

    It is the one on the spec's own fold seeds where that is asked for too, queued, under way or finished,
    else the plain one: what needs no labels need not be trained again for every split.
    """
    plain = RunSpec(strategy=need, profile=spec.profile)
    same_seeds = replace(plain, seeds=spec.seeds)
    known = (*asked, *(item.spec for item in bench.ledger.queue(bench.settings.remote)))
    if same_seeds in known or newest_run(bench, same_seeds) is not None:
        return same_seeds
    return plain


def newest_run(bench: Workbench, spec: RunSpec) -> Run | None:
    """The newest run of a spec on today's data that has not ended badly, or None."""
    found = None
    for run in bench.ledger.runs(bench.settings.remote):
        if run.spec == spec and run.state not in ENDED_BADLY and not run.failure:
            found = run
    if found is not None and bench.has_other_data(found, bench.data_digest(found.competition)):
        return None
    return found


def unfinished_run(bench: Workbench, spec: RunSpec) -> Run | None:
    """The run that a push of this spec goes on from: it stopped at its time budget, and none came after."""
    run = newest_run(bench, spec)
    return run if run is not None and run.unfinished is not None else None


def with_upstream(bench: Workbench, specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The specs with what they need before them, unless that has run, runs or is queued.

    Raises:
        ConfigError: A strategy needs itself, by whatever way.
    """
    ordered: list[RunSpec] = []
    queued = {item.spec for item in bench.ledger.queue(bench.settings.remote)}

    def add(spec: RunSpec, path: tuple[str, ...], asked: bool) -> None:
        if spec.strategy in path:
            raise ConfigError(
                f"Strategies need each other in a circle: {' -> '.join((*path, spec.strategy))}.",
                "Take one of them out of `needs`.",
            )
        if spec in ordered:
            return
        if not asked and (spec in queued or newest_run(bench, spec) is not None):
            return
        strategy = load_strategy(bench.settings.workspace, spec.strategy, spec.variant)
        for need in strategy.needs:
            needed = upstream_spec(bench, need, spec, specs)
            add(needed, (*path, spec.strategy), needed in specs)
        ordered.append(spec)

    for spec in specs:
        add(spec, (), asked=True)
    return ordered


def find_upstream(bench: Workbench, strategy: Strategy, spec: RunSpec) -> list[Upstream]:
    """The finished, pulled and verified runs that a spec starts from.

    Raises:
        NotReady: One of them has not finished, or there is none.
    """
    found = []
    for need in strategy.needs:
        needed = upstream_spec(bench, need, spec)
        run = newest_run(bench, needed)
        label = f"{spec.label()} starts from {need} (profile {spec.profile})"
        if run is None:
            waits = any(q.spec == needed for q in bench.ledger.queue(bench.settings.remote))
            reason = "is queued itself" if waits else "has not run, or ended badly"
            raise NotReady(
                f"{label}, which {reason}.",
                f"First: harness push {need} --profile {spec.profile}",
                waits,
            )
        if run.state is not RunState.COMPLETE:
            raise NotReady(
                f"{label}: {run.run_id} is {run.state.lower()}.",
                "Wait with: harness tick --follow",
                waits=True,
            )
        if run.unfinished is not None:
            raise NotReady(
                f"{label}: {run.run_id} is unfinished, {run.unfinished}.",
                "It goes on with: harness tick --follow",
                waits=True,
            )
        found.append(Upstream(need, run, manifest_digest(bench, run)))
    return found


def manifest_digest(bench: Workbench, run: Run) -> str:
    """Hash of a complete run's manifest, pulled and checked first if it is not here.

    Raises:
        ContractError: The run's outputs are incomplete or altered.
    """
    path = bench.outputs_folder(run) / MANIFEST_FILE
    if run.pulled_at is None or not path.is_file():
        (result,) = pull(bench, [run])
        if result.error is not None:
            raise result.error
    return sha256_file(path)


def output_dataset(bench: Workbench, run: Run) -> DatasetBuild:
    """What later kernels read of a run's output, checkpoints above all, as a dataset folder.

    Pictures stay here: Grad-CAM shows the competition's films.

    Raises:
        ContractError: A file cannot be fetched as the manifest says.
    """
    (result,) = pull(bench, [run], checkpoints=True)
    if result.error is not None:
        raise result.error
    slug = slugify(f"checkpoints-of-{run.kernel.slug}")
    folder = bench.settings.datasets_folder / slug
    try:
        link_tree(bench.outputs_folder(run), folder / OUTPUT_FOLDER)
        write_json(
            folder / ABOUT,
            {
                "about": f"The output of kernel {run.kernel}, for kernels that start from it.",
                "producer": {"run": run.run_id, "kernel": str(run.kernel)},
            },
        )
    except OSError as error:
        raise disk_error(folder, error) from error
    return packer_for(bench.settings, owner=bench.owner).folder(slug)


def link_tree(source: Path, target: Path) -> None:
    """Make ``target`` hold the files of ``source`` but pictures, as hard links where the disk allows."""
    shutil.rmtree(target, ignore_errors=True)

    def place(name: str, wanted: str) -> None:
        try:
            os.link(name, wanted)
        except OSError:
            shutil.copy2(name, wanted)

    left_out = shutil.ignore_patterns("*.png", MODEL_FILE)
    shutil.copytree(source, target, ignore=left_out, copy_function=place)


def source_handle(run: Run, pinned: bool) -> str:
    """A kernel as a source: owner/slug, or with its version."""
    handle = f"{run.kernel.owner}/{run.kernel.slug}"
    return f"{handle}/{run.kernel.version}" if pinned else handle


def mounts_of(bench: Workbench, runs: Sequence[Run]) -> tuple[list[str], list[DatasetBuild]]:
    """How outputs of runs get into a kernel: kernel sources, or datasets to publish, as the setting says.

    A kernel's source is its newest version: the output of an earlier one comes as a dataset all the same.
    """
    chain = bench.settings.chain
    packed = [
        run
        for run in runs
        if chain == "dataset" or (chain == "kernel" and is_superseded(bench, run))
    ]
    return (
        [source_handle(run, chain == "pinned") for run in runs if run not in packed],
        [output_dataset(bench, run) for run in packed],
    )


def is_superseded(bench: Workbench, run: Run) -> bool:
    """Whether a later version of a run's kernel has ended well, or may yet."""
    return any(
        other.kernel.slug == run.kernel.slug
        and (other.kernel.version or 0) > (run.kernel.version or 0)
        and other.state not in ENDED_BADLY
        for other in bench.ledger.runs(run.remote)
    )
