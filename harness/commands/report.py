"""Report: everything the workspace knows, gathered from disk and written as one HTML file.

Nothing is asked of the remote, and nothing that is missing or damaged stops the report: a run whose
outputs cannot be read is a line with its reason.
"""

import csv
import importlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness import __version__
from harness.blending import score_run
from harness.commands.compare import Comparison, compare
from harness.commands.members import read_member
from harness.commands.plan import plan
from harness.commands.status import status
from harness.commands.validation import label_of
from harness.durable import write_bytes
from harness.errors import BlendError, ConfigError, HarnessError
from harness.ledger import utc_now
from harness.members import higher_is_better
from harness.outputs import RunOutputs
from harness.planning import Plan
from harness.records import Run
from harness.registry import (
    competition_by_slug,
    load_competition,
    load_strategies,
    module_names,
)
from harness.report.charts import SLOTS
from harness.report.curves import Curves, curves_of
from harness.report.data import CompetitionView, Picture, Report, RunView, Usage
from harness.report.page import render_page
from harness.report.pictures import Album
from harness.standings import Point
from harness.workbench import Workbench
from kernels.config import Competition
from kernels.contract import (
    MANIFEST_FILE,
    METRICS_FILE,
    NEIGHBOURS_FOLDER,
    PAIRS_FILE,
    PREDICTION_PREFIX,
    RESULTS_FILE,
    TARGET_PREFIX,
)

REPORT_FILE = "report.html"
GALLERY_SIDE, THUMBNAIL_SIDE, PAIR_SIDE = 448, 160, 240  # pixels
MOST_DISAGREEMENTS = 8
MOST_HISTORIES = 30  # files of one run


@dataclass(frozen=True)
class Written:
    """The file, and what it holds."""

    path: Path
    bytes: int
    seconds: float
    runs: int
    pictures_left_out: int
    notes: tuple[str, ...]


def write_report(
    bench: Workbench,
    path: Path | None = None,
    competition: str | None = None,
    *,
    pictures: bool = True,
) -> Written:
    """Gather, draw and write, whole or not at all.

    Args:
        path: Where to; by default report.html in the state folder, which git does not see.
        competition: Only this one; None: every competition the ledger knows.
        pictures: Embed films, Grad-CAM maps and neighbour pairs.

    Raises:
        ConfigError: An unknown competition, or a place that cannot be written.
    """
    started = time.monotonic()
    album = Album() if pictures else Album(left=0)
    report = gather(bench, competition, album)
    path = path or bench.settings.state / REPORT_FILE
    data = render_page(report).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", "Name another place with -o."
        ) from error
    return Written(
        path=path.resolve(),
        bytes=len(data),
        seconds=time.monotonic() - started,
        runs=sum(len(view.runs) for view in report.competitions),
        pictures_left_out=len(album.skipped) if pictures else 0,
        notes=tuple(report.notes),
    )


def gather(bench: Workbench, slug: str | None, album: Album) -> Report:
    """Everything the page shows."""
    runs = bench.ledger.runs(bench.settings.remote)
    submissions = bench.ledger.submissions(bench.settings.remote)
    slugs = [run.competition for run in runs]
    slugs += [item.competition for item in submissions]
    slugs += [item.competition for item in bench.ledger.imports()]
    wanted = (
        [competition_by_slug(bench.settings.workspace, slug).slug]
        if slug is not None
        else list(dict.fromkeys(slugs))
    )
    notes, views = [], []
    for name in wanted:
        try:
            competition = competition_by_slug(bench.settings.workspace, name)
        except HarnessError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        views.append(_competition(bench, competition, runs, album))
    state = status(bench)
    if album.skipped and album.left != 0:
        notes.append(f"{len(album.skipped)} pictures did not fit into the budget")
    return Report(
        made_at=utc_now(),
        version=__version__,
        remote=state.remote,
        profile=state.profile,
        workspace=bench.settings.workspace.name,
        next_step=state.next_step,
        competitions=views,
        usage=_usage(bench, runs),
        plan=_plan(bench, runs, wanted),
        notes=notes,
    )


def _plan(bench: Workbench, runs: Sequence[Run], slugs: Sequence[str]) -> Plan | None:
    """What is still to run of the competitions shown; None when nobody has run anything yet."""
    if not runs:
        return None
    workspace = bench.settings.workspace
    try:
        names = [
            strategy.name
            for strategy in load_strategies(workspace)
            if strategy.in_blend
            and load_competition(workspace, strategy.competition).slug in slugs
            and not any(run.spec.strategy == strategy.name and run.score_mean_fold for run in runs)
        ]
        return plan(bench, names) if names else None
    except HarnessError:
        return None


# ---- runs ----------------------------------------------------------------------------------------


def _competition(
    bench: Workbench, competition: Competition, runs: Sequence[Run], album: Album
) -> CompetitionView:
    own = [run for run in runs if run.competition == competition.slug]
    views = [_run(bench, run, competition, album) for run in own]
    up = higher_is_better(competition)
    views = _with_colours(views, up)
    comparison, reason = _compare(bench, competition, views)
    submissions = bench.ledger.submissions(bench.settings.remote, competition.slug)
    return CompetitionView(
        competition=competition,
        greater_is_better=up,
        runs=views,
        comparison=comparison,
        no_comparison=reason,
        blends=bench.ledger.blends(competition.slug),
        submissions=submissions,
        points=[
            Point(label_of(item), item.cv_score, float(item.public_score))
            for item in submissions
            if item.cv_score is not None and item.public_score
        ],
        thumbnails=_thumbnails(bench, competition, comparison, album),
    )


def _with_colours(views: Sequence[RunView], greater_is_better: bool) -> list[RunView]:
    """Colours for the newest run of each experiment, best first; there are SLOTS of them."""
    newest = {view.run.spec.label(): view.run.run_id for view in views if view.score is not None}
    sign = -1 if greater_is_better else 1
    drawn = sorted(
        (view for view in views if view.run.run_id in newest.values()),
        key=lambda view: sign * view.score.mean_fold if view.score else math.inf,
    )
    slots = {view.run.run_id: number for number, view in enumerate(drawn[:SLOTS])}
    return [replace(view, slot=slots.get(view.run.run_id)) for view in views]


def _run(bench: Workbench, run: Run, competition: Competition, album: Album) -> RunView:
    view = RunView(run, None, gpu=_uses_gpu(bench.run_folder(run)))
    if run.score_mean_fold is None:
        return view
    folder = bench.outputs_folder(run)
    try:
        outputs = read_member(bench, run, competition)
    except (HarnessError, OSError) as error:
        return replace(view, problem=str(error))
    try:
        score = score_run(outputs, competition)
    except BlendError as error:
        return replace(view, problem=str(error))
    results = _read_json(folder / RESULTS_FILE)
    return replace(
        view,
        score=score,
        metrics=_read_json(folder / METRICS_FILE),
        results=results,
        manifest=_read_json(folder / MANIFEST_FILE),
        curves=_curves(outputs, competition),
        histories=read_histories(folder),
        gallery=_gallery(folder, results, competition, album),
        pairs=_pairs(folder, album),
    )


def _uses_gpu(folder: Path) -> bool:
    return bool(_read_json(folder / "kernel-metadata.json").get("enable_gpu"))


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when the file is missing or something else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _curves(outputs: RunOutputs, competition: Competition) -> dict[str, Curves]:
    found = {}
    for name in competition.target_columns:
        curves = curves_of(
            outputs.oof[TARGET_PREFIX + name].to_numpy(),
            outputs.oof[PREDICTION_PREFIX + name].to_numpy(dtype=float),
        )
        if curves is not None:
            found[name] = curves
    return found


def read_histories(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Columns of every ``*history*.csv`` by file stem; what is no number becomes NaN."""
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(folder.glob("*history*.csv"))[:MOST_HISTORIES]:
        try:
            with path.open(newline="", encoding="utf-8") as handle:
                rows = list(csv.DictReader(handle))
        except (OSError, ValueError, csv.Error):
            continue
        if rows and "epoch" in rows[0]:
            found[path.stem] = {
                name: [_number(row.get(name)) for row in rows] for name in rows[0] if name
            }
    return found


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


# ---- pictures ------------------------------------------------------------------------------------


def _gallery(
    folder: Path, results: Mapping[str, Any], competition: Competition, album: Album
) -> list[Picture]:
    """Grad-CAM pictures of a run, its errors first."""
    facts = results.get("gradcam", {})
    kinds = {
        "fn": "missed", "fp": "false alarm", "n": "negative, judged rightly", "p": "positive, judged rightly",
    }  # fmt: skip
    found = []
    for name in sorted(facts, key=lambda name: (_kind(name) not in ("fn", "fp"), name)):
        uri = album.take(folder / "gradcam" / name, GALLERY_SIDE)
        if uri is None:
            continue
        fact, kind = facts[name], _kind(name)
        prefix = name.rsplit("_", 2)[0] if name.count("_") > 1 else ""
        label = prefix if len(competition.target_columns) > 1 else competition.positive_label
        found.append(
            Picture(
                uri,
                f"{kinds.get(kind, kind)}: {fact['id']}",
                f"{label}: truth {fact['truth']}, p {fact['probability']:.3f}, threshold "
                f"{fact['threshold']:.3f}; seed {fact['seed']}, fold {fact['fold']}",
                kind in ("fn", "fp"),
            )
        )
    return found


def _kind(name: str) -> str:
    """``cvc_fn_0.png`` -> fn."""
    return name.rsplit("_", 2)[-2] if "_" in name else name


def _pairs(folder: Path, album: Album) -> list[Picture]:
    """Neighbour pairs of a SimSiam run."""
    facts = _read_json(folder / NEIGHBOURS_FOLDER / PAIRS_FILE)
    found = []
    for item in facts.get("pairs", []):
        uri = album.take(folder / NEIGHBOURS_FOLDER / str(item.get("file", "")), PAIR_SIDE)
        if uri is not None:
            found.append(
                Picture(
                    uri,
                    f"{item['kind']}, distance {item['distance']:.3f}",
                    f"{item['film']} and its neighbour {item['neighbour']}",
                )
            )
    return found


def _thumbnails(
    bench: Workbench, competition: Competition, comparison: Comparison | None, album: Album
) -> dict[str, str]:
    """Films that cost or divide the members most, where the competition's images are on this machine."""
    names: list[str] = []
    if comparison is not None:
        names = [row.id for row in comparison.costs]
        names += [other.id for other in comparison.disagreements]
    if not names or album.left <= 0 or bench.settings.remote != "local":
        return {}
    from harness.commands.local import find_competition_folder

    folder = find_competition_folder(bench.settings, competition.slug)
    module = next(
        (
            name
            for name in module_names(bench.settings.workspace, "competitions")
            if _slug_of(name) == competition.slug
        ),
        None,
    )
    if folder is None or module is None:
        return {}
    try:
        tables = importlib.import_module(f"kernels.competitions.{module}").read_tables(folder)
    except (OSError, ValueError, KeyError, ImportError, AttributeError):
        return {}
    paths = dict(zip(tables.labelled["id"], tables.labelled["path"], strict=True))
    found = {}
    for name in dict.fromkeys(names):
        uri = album.take(Path(paths[name]), THUMBNAIL_SIDE) if name in paths else None
        if uri is not None:
            found[name] = uri
    return found


def _slug_of(module: str) -> str | None:
    found = importlib.import_module(f"kernels.competitions.{module}")
    return getattr(getattr(found, "COMPETITION", None), "slug", None)


# ---- side by side --------------------------------------------------------------------------------


def _compare(
    bench: Workbench, competition: Competition, views: Sequence[RunView]
) -> tuple[Comparison | None, str | None]:
    """Members that can be lined up: what a blend would take, else the runs that have colours."""
    reasons = []
    shown = [view.run.run_id for view in views if view.slot is not None]
    for names in ((), shown):
        try:
            return compare(bench, competition.slug, names, examples=MOST_DISAGREEMENTS), None
        except HarnessError as error:
            reasons.append(str(error))
        if not shown:
            break
    return None, reasons[-1]


def _usage(bench: Workbench, runs: Sequence[Run]) -> Usage:
    week = (datetime.now(UTC) - timedelta(days=7)).isoformat()
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    gpu = [run for run in runs if run.seconds and _uses_gpu(bench.run_folder(run))]
    other = [run for run in runs if run.seconds and run not in gpu]
    sent = [
        item for item in bench.ledger.submissions(bench.settings.remote) if item.status != "INTENT"
    ]
    return Usage(
        remote=bench.settings.remote,
        gpu_hours=sum(run.seconds or 0.0 for run in gpu) / 3600,
        gpu_hours_week=sum(run.seconds or 0.0 for run in gpu if run.created_at >= week) / 3600,
        other_hours=sum(run.seconds or 0.0 for run in other) / 3600,
        submissions_today=sum(item.created_at.startswith(today) for item in sent),
        submissions=len(sent),
    )
