"""Members' checkpoints -> test-time views -> one blended submission: the kernel of a code competition.

Nothing is learned here and nothing is fetched. The outputs of the members' kernels are mounted and every
checkpoint of them is checked; whatever test films the competition shows (some, or the hidden ones when the kernel
is run again after its submission) get each member's predictions, mixed with baked weights. Ranks are taken
over the films of that test, so a film's number depends on the others. A film that cannot be read gets a
baked prediction, is named in the log and counted.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kernels.blocks.entry import library_versions, say
from kernels.blocks.goal import Goal
from kernels.blocks.images import load_images
from kernels.blocks.outputs import rows_of_classes, write_rows
from kernels.blocks.paths import KagglePaths, find_competition, find_run_output, kaggle_paths
from kernels.blocks.predictors import predict_member
from kernels.blocks.seed import seed_everything, worker_count
from kernels.blocks.tables import Tables
from kernels.config import Competition, InferenceConfig
from kernels.contract import (
    INFERENCE_KIND,
    MANIFEST_FILE,
    METRICS_FILE,
    SCHEMA_VERSION,
    SUBMISSION_FILE,
    record_files,
    write_json,
)
from kernels.stats.spaces import from_space, to_space
from kernels.stats.thresholds import decide

RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
NAMED_FAULTS = 10  # unreadable films named in the log


@dataclass
class TestFilms:
    """The test films as each member wants them, decoded once for each size; which cannot be read."""

    paths: list[str]
    cache: Path
    broken: set[int] = field(default_factory=set)

    def load(self, size: int, clahe: tuple[float, int] | None) -> np.ndarray:
        """The readable films, (M, size, size): nothing black takes part in a rank or a batch.

        Raises:
            ValueError: There is none.
        """
        films, faults = load_images(self.paths, size, self.cache, "test films", clahe, spare=True)
        self.broken |= set(faults.unreadable)
        if not len(self.readable):
            raise ValueError(f"none of the {len(self.paths)} test films can be read")
        return films if not self.broken else np.asarray(films[self.readable])

    @property
    def readable(self) -> np.ndarray:
        """Rows of the readable films, (M,)."""
        return np.array(
            [row for row in range(len(self.paths)) if row not in self.broken], dtype=int
        )


def run(
    config: InferenceConfig,
    competition: Competition,
    read_tables: Callable[[Path], Tables],
    spec: dict[str, Any],
    script: str,
) -> None:
    """From mounted checkpoints to submission.csv and its manifest.

    Args:
        spec: What harness knows the run by.
        script: ``__file__`` of the script; its sha256 goes into the manifest.

    Raises:
        FileNotFoundError: A member's output is not mounted.
        ValueError: It is not the one that was blended, or no test film can be read.
    """
    script_path = Path(script).resolve()
    started = time.monotonic()
    paths = kaggle_paths()
    os.chdir(paths.working)
    rerun = bool(os.environ.get(RERUN_VARIABLE))
    digest = hashlib.sha256(script_path.read_bytes()).hexdigest()
    versions = library_versions()
    say(
        f"inference of {len(config.members)} members, {config.method} | script sha256 {digest[:12]}"
    )
    say("versions " + " ".join(f"{name} {version}" for name, version in versions.items()))
    say(f"cores {worker_count()} | {'hidden' if rerun else 'visible'} test")
    seed_everything(0)

    folders = {}
    for member in config.members:
        folders[member.name] = find_run_output(paths, member.slug, member.manifest_sha256)
        say(f"{member.name}: output of {member.slug}, checkpoints as they were blended")
    tables = read_tables(find_competition(paths, competition.slug))
    ids = [str(name) for name in tables.test["id"]]
    films = TestFilms(list(tables.test["path"]), paths.temp / "images")

    predicting = time.monotonic()
    mixed, notes = mix_members(config, competition, films, folders)
    seconds = time.monotonic() - predicting
    answers = np.tile(np.array(config.fallback), (len(ids), 1))
    answers[films.readable] = mixed
    if config.thresholds:
        answers = np.rint(answers).astype(np.int64)  # a fallback is a median: 0, 1 or between
        answers[films.readable] = decide(mixed, config.thresholds)
    tell_broken(films, ids)
    write_rows(
        paths.working / SUBMISSION_FILE,
        [competition.id_column, *competition.target_columns],
        [(name, *row) for name, row in zip(ids, answers.tolist(), strict=True)],
    )
    rate = len(ids) / max(seconds, 1e-9)
    say(f"{len(ids)} films in {seconds:.1f} s: {rate:.2f} films/s, all members and views")
    total = time.monotonic() - started
    metrics = {
        "kind": INFERENCE_KIND,
        "n_test": len(ids),
        "n_unreadable": len(films.broken),
        "films_per_second": rate,
        "seconds": round(total, 3),
        "seconds_before_films": round(total - seconds, 3),
        "members": notes,
        "rerun": rerun,
    }
    seal(paths, metrics, config, spec, versions, digest)


def mix_members(
    config: InferenceConfig, competition: Competition, films: TestFilms, folders: dict[str, Path]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The blend over the readable films, (M, K), and what each member took.

    A member's column is the mean over its models in the blend's space; members are added in their order.
    """
    total: np.ndarray | None = None
    notes = []
    for member in config.members:
        started = time.monotonic()
        columns = []
        for _, _, probs in predict_member(
            member.config,
            folders[member.name],
            films.load,
            config.device,
            Goal(competition.metric, competition.exclusive),
        ):
            if competition.exclusive:
                probs = rows_of_classes(probs)
            one = np.zeros(len(probs), dtype=int)  # a single model at a time: ranks inside it
            columns.append(to_space(probs, config.space, one, one))
        column = np.stack(columns).mean(axis=0)
        if total is None:
            total = np.full(column.shape, config.intercept)
        total += member.weight * column
        seconds = time.monotonic() - started
        say(f"{member.name}: {len(columns)} models, weight {member.weight:.4f}, {seconds:.1f} s")
        notes.append({"name": member.name, "models": len(columns), "seconds": round(seconds, 3)})
    assert total is not None, "a blend has members"
    return from_space(total, config.space), notes


def tell_broken(films: TestFilms, ids: list[str]) -> None:
    """Name the films that got the fallback."""
    if films.broken:
        rows = sorted(films.broken)
        more = f" and {len(rows) - NAMED_FAULTS} more" if len(rows) > NAMED_FAULTS else ""
        named = ", ".join(ids[row] for row in rows[:NAMED_FAULTS])
        say(f"WARNING: {len(rows)} films cannot be read and got the fallback: {named}{more}")


def seal(
    paths: KagglePaths,
    metrics: dict[str, Any],
    config: InferenceConfig,
    spec: dict[str, Any],
    versions: dict[str, str],
    script_sha256: str,
) -> None:
    """metrics.json and, last of all, the manifest."""
    write_json(paths.working / METRICS_FILE, metrics)
    write_json(
        paths.working / MANIFEST_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "kind": INFERENCE_KIND,
            "spec": json.loads(json.dumps(spec)),
            "script_sha256": script_sha256,
            "config": repr(config),
            "versions": versions,
            "files": [vars(record) for record in record_files(paths.working)],
        },
    )
