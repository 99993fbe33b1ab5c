"""The first and last minute of every kernel: environment, header, inputs, seeds, then the manifest.

A rendered script ends in one call of ``run_kernel``; the same function runs the package in place.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import check_datasets, find_competition, find_run_output, kaggle_paths
from kernels.blocks.seed import seed_everything, worker_count
from kernels.blocks.selftest import self_test
from kernels.blocks.session import BudgetSpent, RunSession, read_budget, rows_digest, take_up
from kernels.blocks.tables import Tables, groups_by_id, labels_of_test
from kernels.blocks.workers import ShareDone, note_stop, program_of, read_share, watch_parent
from kernels.config import AnyConfig, Competition, FeaturesConfig, Profiles, steered_by_held_out
from kernels.contract import OPTIMISTIC, OPTIMISTIC_NOTE, RESUME_FOLDER, resume_key

PROFILE_VARIABLE = "HARNESS_PROFILE"

VERSIONED_LIBRARIES = (
    "numpy",
    "pandas",
    "scikit-learn",
    "scikit-image",
    "opencv-python-headless",
    "opencv-python",
    "torch",
    "torchvision",
    "timm",
)


def say(text: str) -> None:
    """One line to the log, at once: Kaggle shows lines as they come."""
    print(text, flush=True)


def library_versions() -> dict[str, str]:
    """Versions of Python and of every library a kernel may use that is installed here."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED_LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def script_digest(script: str) -> str:
    """sha256 of the script's bytes; a notebook has no file and says it instead: ``sha256:<64 hex digits>``."""
    marked, _, digest = script.partition("sha256:")
    return (
        digest if digest and not marked else hashlib.sha256(Path(script).read_bytes()).hexdigest()
    )


def start_from(
    upstream: dict[str, dict[str, str]], rehearsal: bool, config: AnyConfig, writer: OutputWriter
) -> AnyConfig:
    """Find the runs this one starts from among the inputs; their outputs join ``writer.datasets``.

    Args:
        upstream: Strategy -> ``slug`` and ``manifest_sha256`` of its run.
        rehearsal: Another profile than the spec's runs: those outputs are of other networks.

    Returns:
        The config; in a rehearsal one that starts at random.
    """
    for name, run in sorted(upstream.items()):
        if rehearsal:
            say(f"rehearsal: {name} is not mounted; a network that starts from it starts at random")
            if not isinstance(config, FeaturesConfig):
                config = replace(config, weights="random")
            continue
        writer.datasets[name] = find_run_output(writer.paths, run["slug"], run["manifest_sha256"])
        say(f"starts from {name}: manifest {run['manifest_sha256'][:12]}, checkpoints as they were")
    return config


def run_kernel(
    pipeline: Callable[[Any, Tables, OutputWriter], None],
    competition: Competition,
    read_tables: Callable[[Path], Tables],
    profiles: Profiles,
    spec: dict[str, Any],
    datasets: dict[str, str],
    script: str,
    upstream: dict[str, dict[str, str]] | None = None,
    budget_minutes: float | None = None,
) -> None:
    """Run one strategy from its inputs to a sealed output folder.

    Args:
        pipeline: ``run(config, tables, writer)`` of a module in kernels/pipelines.
        profiles: The configs; HARNESS_PROFILE picks one, else the profile the spec names.
        spec: What harness knows the run by (strategy, variant, profile, overrides, folds, seeds, tag).
        datasets: Slug -> content digest of every packaged dataset the script needs.
        script: ``__file__`` of the script, or what stands for it in a notebook (see script_digest).
        upstream: Strategy -> ``slug`` and ``manifest_sha256`` of the run this one starts from.
        budget_minutes: After so many minutes no epoch begins and the run ends unfinished, to be
            continued (contract.py); HARNESS_BUDGET_MINUTES wins over it.
    """
    script_path = Path(script).resolve()
    share = read_share()
    if share is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
        watch_parent()
    # In a sandbox joblib cannot count physical cores; it says so at length and then does without.
    warnings.filterwarnings("ignore", message="Could not find the number of physical cores")
    started = time.monotonic()
    profile = os.environ.get(PROFILE_VARIABLE) or str(spec["profile"])
    config: AnyConfig = profiles.pick(profile)
    digest = script_digest(script)
    versions = library_versions()
    say(f"strategy {spec['strategy']} | profile {profile} | script sha256 {digest[:12]}")
    say("versions " + " ".join(f"{name} {version}" for name, version in versions.items()))
    say(f"cores {worker_count()} | spec {json.dumps(spec, sort_keys=True)}")

    paths = kaggle_paths()
    os.chdir(paths.working)  # reports of the working folder of script kernels conflict
    budget_s = read_budget(budget_minutes)
    session = RunSession(
        paths.working / RESUME_FOLDER,
        budget_s,
        started,
        keeps=budget_s is not None or share is not None,
        script=program_of(script_path),
        share=share,
    )
    writer = OutputWriter(competition, paths, session)
    writer.datasets = check_datasets(paths, datasets)
    config = start_from(upstream or {}, profile != spec["profile"], config, writer)
    data = find_competition(paths, competition.slug)
    tables = read_tables(data)
    spec = {**spec, "profile": profile}
    rows = rows_digest(tables, competition.target_columns)
    starts = {f"run of {name}": run["manifest_sha256"] for name, run in (upstream or {}).items()}
    key = resume_key(spec, repr(config), {**datasets, **starts}, rows)
    if share is None:
        unused = self_test(competition, data, tables, config, paths, writer.datasets, say)
        writer.note(unused_files=unused)
        shutil.rmtree(session.folder, ignore_errors=True)  # of an earlier run in the same folder
        continued = take_up(session, paths, key, spec, repr(config))
        if continued:
            say(continued)
    seed_everything(config.folds.seeds[0])
    if steered_by_held_out(config):
        say(f"note: {OPTIMISTIC}")
        writer.note(**{OPTIMISTIC_NOTE: OPTIMISTIC})

    try:
        # No training code is given a test label: the report reads them, after the last prediction.
        pipeline(config, replace(tables, test_targets=None), writer)
    except ShareDone:
        return
    except BudgetSpent as spent:
        if share is not None:
            note_stop(session, str(spent))
            return
        resume = session.describe(key, str(spent))
        writer.stop(spec, config, versions, digest, resume)
        say(
            f"time budget of {(budget_s or 0) / 60:.0f} min is spent: {resume.describe()}. Run it again with "
            "this output mounted (kernel_sources) to go on."
        )
        return
    writer.test_targets = labels_of_test(tables, competition.target_columns)
    writer.groups = groups_by_id(tables)

    seconds = session.earlier_s + session.seconds()
    writer.note(seconds=round(seconds, 2), profile=profile, sessions=session.number)
    writer.finish(spec, config, versions, digest)
    metrics = json.loads((paths.working / "metrics.json").read_text(encoding="utf-8"))
    say(
        f"out-of-fold {metrics['metric']}: {metrics['score_mean_fold']:.4f} mean over "
        f"{len(metrics['folds'])} folds, {metrics['score_pooled']:.4f} pooled, "
        f"n {metrics['n_labelled']} | {seconds:.0f} s"
    )
