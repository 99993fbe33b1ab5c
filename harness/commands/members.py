"""Choosing and reading members: pulled runs and imported predictions, lined up in one table."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.blending import eligible_runs
from harness.errors import BlendError, ConfigError, ContractError, RemoteUnavailable
from harness.members import MemberTable, TableBuilder
from harness.outputs import RunOutputs, read_outputs, read_table
from harness.provenance import Source
from harness.records import ImportedMember, Run
from harness.registry import competition_by_slug, load_strategies
from harness.settings import choose_profile
from harness.workbench import Workbench
from kernels.config import Competition
from kernels.contract import (
    GROUPS_FILE,
    OOF_FILE,
    TEST_FILE,
    oof_columns,
    prediction_columns,
    sha256_file,
)

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_FILE = "sample_submission.csv"


@dataclass(frozen=True)
class Lineup:
    """Members in one table, where each came from, and who was left out with the reason."""

    table: MemberTable
    sources: dict[str, Source]
    left_out: tuple[tuple[str, str], ...]


def name_of(source: Source) -> str:
    """A run's id or an import's name."""
    return source.run_id if isinstance(source, Run) else source.name


def choose_competition(bench: Workbench, slug: str | None, runs: Sequence[Run]) -> Competition:
    """The named competition, or the only one with pulled runs or imports (BlendError when unclear)."""
    if slug is not None:
        return competition_by_slug(bench.settings.workspace, slug)
    slugs = sorted(
        {run.competition for run in runs if run.score_mean_fold is not None}
        | {item.competition for item in bench.ledger.imports()}
    )
    if not slugs:
        raise BlendError(
            "There are no pulled runs yet.", "First: harness push STRATEGY, then: harness pull"
        )
    if len(slugs) > 1:
        raise BlendError(f"Pulled runs belong to {', '.join(slugs)}.", "Choose with --competition.")
    return competition_by_slug(bench.settings.workspace, slugs[0])


def choose_runs(bench: Workbench, competition: Competition) -> list[Run]:
    """All runs that a blend takes unasked."""
    profile, _ = choose_profile(bench.settings)
    data = bench.data_digest(competition.slug)
    runs = [
        run
        for run in bench.ledger.runs(bench.settings.remote)
        if not bench.has_other_data(run, data)  # what was trained on other data is past
    ]
    blendable = {item.name for item in load_strategies(bench.settings.workspace) if item.in_blend}
    return eligible_runs(runs, competition.slug, profile, blendable)


def choose_members(
    bench: Workbench, competition: Competition, names: Sequence[str]
) -> list[Source]:
    """Runs and imports by name, or all that a blend takes unasked (runs first).

    Raises:
        BlendError: A named run has no results, or there is nobody.
        ConfigError: A name that nobody has.
    """
    imports = {item.name: item for item in bench.ledger.imports(competition.slug)}
    if not names:
        found: list[Source] = [*choose_runs(bench, competition), *imports.values()]
        if not found:
            profile, _ = choose_profile(bench.settings)
            raise BlendError(
                f"No complete, pulled, all-folds run of profile {profile!r} for {competition.slug}.",
                "Push and pull some, or name runs with --runs (see: harness runs).",
            )
        return found
    chosen: list[Source] = []
    for name in dict.fromkeys(names):
        if name in imports:
            chosen.append(imports[name])
            continue
        run = bench.ledger.run(name)
        if run.unfinished is not None:
            raise BlendError(
                f"Run {run.run_id} is unfinished ({run.unfinished}): it has no score for every fold.",
                "Let a later session finish it, then blend that run.",
            )
        if run.score_mean_fold is None or run.competition != competition.slug:
            raise BlendError(
                f"Run {run.run_id} has no pulled results for {competition.slug} ({run.state}).",
                "First: harness pull",
            )
        chosen.append(run)
    return chosen


def sample_path(bench: Workbench, slug: str) -> Path:
    """Where a competition's sample submission is kept (on the local Kaggle: one for each data)."""
    data = (bench.data_digest(slug) or "")[:12]
    return bench.settings.cache_folder / bench.settings.remote / slug / data / SAMPLE_FILE


def sample_submission(bench: Workbench, competition: Competition) -> Path:
    """The competition's sample submission, fetched once.

    Raises:
        RemoteUnavailable: What came has another header than this competition's.
    """
    path = sample_path(bench, competition.slug)
    if not _has_column(path, competition.id_column):
        with bench.locked(f"sample-{competition.slug}"):
            bench.remote.competition_file(competition.slug, SAMPLE_FILE, path)
        if not _has_column(path, competition.id_column):
            raise RemoteUnavailable(
                f"{SAMPLE_FILE} of {competition.slug} came without a column {competition.id_column!r}.",
                "Run the same command again, which fetches it anew; look at the names in the competition's "
                "file if it stays so.",
            )
    return path


def _has_column(path: Path, name: str) -> bool:
    """Whether there is a table with such a column: nothing else vouches for a competition's file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            return name in next(csv.reader(handle), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def import_folder(bench: Workbench, competition: str, name: str) -> Path:
    """Where an imported member's files are kept."""
    return bench.settings.state / "imports" / competition / name


def read_member(bench: Workbench, source: Source, competition: Competition) -> RunOutputs:
    """Read a member's files and check them against their hashes again: disks change.

    Raises:
        ContractError: A file is missing or altered.
    """
    if isinstance(source, Run):
        folder = bench.outputs_folder(source)
        return read_outputs(folder, source.run_id, competition, source.script_sha256)
    return read_import(import_folder(bench, competition.slug, source.name), source, competition)


def read_import(folder: Path, item: ImportedMember, competition: Competition) -> RunOutputs:
    """An imported member's files as a run's outputs; see read_member."""
    for name, sha256 in ((OOF_FILE, item.oof_sha256), (TEST_FILE, item.test_sha256)):
        path = folder / name
        if not path.is_file() or sha256_file(path) != sha256:
            raise ContractError(
                f"Import {item.name}: {name} is missing or altered.",
                f"Import it again: harness import {item.name} --oof FILE --test FILE",
            )
    targets = competition.target_columns
    oof = read_table(folder / OOF_FILE, oof_columns(targets), item.name)
    test = read_table(folder / TEST_FILE, prediction_columns(targets), item.name)
    return RunOutputs(item.name, folder, {}, {}, oof, test)


def read_member_test(bench: Workbench, source: Source, competition: Competition) -> "pd.DataFrame":
    """A member's test table alone, once read_member has checked it."""
    folder = (
        bench.outputs_folder(source)
        if isinstance(source, Run)
        else import_folder(bench, competition.slug, source.name)
    )
    columns = prediction_columns(competition.target_columns)
    return read_table(folder / TEST_FILE, columns, name_of(source))


def load_members(
    bench: Workbench, runs: Sequence[Run], competition: Competition
) -> list[RunOutputs]:
    """Several members at once; line_up_members needs less memory."""
    return [read_member(bench, run, competition) for run in runs]


def read_groups(path: Path) -> "pd.Series[str]":
    """Group by id from a CSV of two columns, id first (ConfigError says what is wrong with it)."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no readable CSV: {error}.") from error
    if frame.shape[1] != 2:
        raise ConfigError(f"{path} has {frame.shape[1]} columns; two are wanted: id, group.")
    ids = frame.iloc[:, 0]
    if ids.duplicated().any():
        raise ConfigError(f"{path} repeats id {ids[ids.duplicated()].iloc[0]!r}.")
    return pd.Series(frame.iloc[:, 1].to_numpy(), index=ids.to_numpy())


def groups_of_runs(bench: Workbench, sources: Sequence[Source]) -> "pd.Series[str] | None":
    """Groups as the first run that names them wrote them (its hash is checked when it is read)."""
    for source in sources:
        if isinstance(source, Run):
            path = bench.outputs_folder(source) / GROUPS_FILE
            if path.is_file():
                return read_groups(path)
    return None


def line_up_members(
    bench: Workbench,
    sources: Sequence[Source],
    competition: Competition,
    *,
    named: bool,
    groups: Path | None = None,
    allow_shared_ids: bool = False,
) -> Lineup:
    """Read members one after the other into one table.

    Args:
        named: Members were asked for by name. Otherwise an import that does not fit the runs is left
            out with its reason, instead of stopping everything.
        groups: A CSV with the group of every labelled id; None takes those that the runs themselves
            name, where their competition has groups.
    """
    by_id = read_groups(groups) if groups is not None else groups_of_runs(bench, sources)
    builder = TableBuilder(competition, len(sources), by_id, allow_shared_ids)
    left_out: list[tuple[str, str]] = []
    for number, source in enumerate(sources, 1):
        outputs = read_member(bench, source, competition)
        is_import = isinstance(source, ImportedMember)
        try:
            builder.add(outputs, imported=is_import)
        except BlendError as error:
            if named or not is_import:
                raise
            left_out.append((name_of(source), f"does not fit: {error.message.rstrip('.')}"))
        if len(outputs.oof) * len(sources) > 1_000_000:
            bench.progress(
                f"read {number} of {len(sources)}: {name_of(source)}, {len(outputs.oof):,} rows"
            )
    return Lineup(builder.finish(), {name_of(item): item for item in sources}, tuple(left_out))
