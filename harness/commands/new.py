"""New: a competition's or a strategy's file, working from the start, with a test beside it.

A competition is read off its data folder: the sample submission names id and targets, a table with
labels is looked for beside it, and folders are told by whose images they hold.
"""

import csv
import importlib
import json
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.commands.init import scaffold_text
from harness.errors import ConfigError
from harness.records import slugify
from harness.registry import load_competition, load_strategy, module_names
from harness.workbench import Workbench
from kernels.contract import INFERENCE_KIND
from kernels.stats.metrics import KNOWN_METRICS

SAMPLE = "sample_submission.csv"
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
GROUP_NAMES = ("patient", "subject", "group", "study", "case", "person")
# What begins like one and is none, and small numbers that could be taken for a class.
NO_GROUPS = ("date", "time", "year", "age", "sex", "control", "count", "type")
NO_CLASSES = (*GROUP_NAMES, "fold", "split", "sex", "gender")
PEEK_ROWS = 5000  # of a table of labels, to tell classes from targets


@dataclass(frozen=True)
class Layout:
    """How a competition's folder is laid out."""

    id_column: str = "image_id"
    targets: tuple[str, ...] = ("label",)
    labels_csv: str = "train.csv"
    labelled: str = "train"
    test: str = "test"
    unlabelled: str | None = None
    class_column: str | None = None
    group: str | None = None
    exclusive: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewFile:
    """What was written, and what its first try said."""

    path: Path
    test: Path
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def check_name(name: str, kind: str, known: Sequence[str]) -> None:
    """A new module's name (ConfigError: no such name, or taken)."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,39}", name) or keyword.iskeyword(name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "mine"
        raise ConfigError(
            f"{name!r} cannot be a module's name: lower-case letters, digits and _, from a letter.",
            f"Try: {plain if plain[0].isalpha() else f'my_{plain}'}",
        )
    if name in known:
        raise ConfigError(
            f"There is a {kind} {name!r} already.", "Choose another name, or edit it."
        )


def new_test(workspace: Path, name: str) -> Path:
    """Where a new test goes (ConfigError: there is one, perhaps edited)."""
    path = workspace / "tests" / name
    if path.exists():
        raise ConfigError(f"tests/{name} exists already.", "Move it away, or choose another name.")
    path.parent.mkdir(exist_ok=True)
    return path


# ---- a competition -------------------------------------------------------------------------------


def new_competition(
    bench: Workbench, name: str, source: str | None = None, metric: str | None = None
) -> NewFile:
    """Write kernels/competitions/<name>.py and its test.

    Args:
        source: A data folder, or a competition's slug on the remote; None: placeholders.
        metric: A name that kernels/stats knows; None: by the kind of the targets.

    Raises:
        ConfigError: The name cannot be used, the metric is not known, or nothing can be read off.
    """
    workspace = bench.settings.workspace
    check_name(name, "competition", module_names(workspace, "competitions"))
    if metric is not None and metric not in KNOWN_METRICS:
        raise ConfigError(f"Unknown metric {metric!r}.", f"Known: {', '.join(KNOWN_METRICS)}.")
    slug, kind, folder, layout = name.replace("_", "-"), "csv", None, Layout()
    origin = "Placeholders: change names and columns to those of your data."
    if source is not None:
        folder, slug, kind = find_source(bench, source, slug)
        layout = read_layout(folder)
        place = re.sub(r"[^\w .-]", "", Path(source).name)  # it becomes part of a docstring
        origin = f"Read off {place} on {datetime.now(UTC):%Y-%m-%d}: look it over."
    several = len(layout.targets) > 1
    usual = "multiclass_log_loss" if layout.exclusive else "macro_auc" if several else "auc"
    path = workspace / "kernels" / "competitions" / f"{name}.py"
    values = {
        "name": name,
        "title": name.replace("_", " ").title(),
        "origin": origin,
        "slug": slug,
        "id_column": _text(layout.id_column),
        "targets": _tuple_text(layout.targets),
        "metric": metric or usual,
        "kind": kind,
        "group": _text(layout.group),
        "positive": _text("positive" if several else layout.targets[0]),
        "labels_csv": _text(layout.labels_csv),
        "labelled": _text(layout.labelled),
        "test": _text(layout.test),
        "unlabelled": _text(layout.unlabelled),
        "class_column": _text(layout.class_column),
        **_test_values(layout),
    }
    test = new_test(workspace, f"test_competition_{name}.py")
    path.write_text(scaffold_text("competition.py.tmpl", **values), "utf-8")
    test.write_text(scaffold_text("test_competition.py.tmpl", **values), "utf-8")
    importlib.invalidate_caches()
    notes = list(layout.notes)
    if layout.exclusive and metric == "log_loss":
        notes.append(
            "exactly one target is 1 in each row, and log_loss scores each by itself: for classes it is "
            "multiclass_log_loss"
        )
    if folder is not None and slug != slugify(Path(source or "").resolve().name):
        notes.append(
            f"its slug is {slug!r}; if it is called otherwise on Kaggle, change it in the file"
        )
    facts: dict[str, Any] = {
        "slug": slug, "metric": values["metric"], "kind": kind, "targets": layout.targets
    }  # fmt: skip
    if folder is not None:
        notes_of_try, counts = try_reading(name, folder)
        notes += notes_of_try
        facts |= counts
    return NewFile(path, test, tuple(notes), facts)


def _text(value: str | None) -> str:
    """A Python literal in double quotes, whatever the text holds; None as it is."""
    return "None" if value is None else json.dumps(value, ensure_ascii=False)


def _tuple_text(values: Sequence[str]) -> str:
    inner = ", ".join(map(_text, values))
    return f"({inner},)" if len(values) == 1 else f"({inner})"


def _test_values(layout: Layout) -> dict[str, str]:
    """The parts of the test that depend on the layout."""
    if layout.class_column is not None:
        values, header = "TARGETS[number % len(TARGETS)]", _text(layout.class_column)
    elif layout.exclusive:
        values = "*[int(number % len(TARGETS) == k) for k in range(len(TARGETS))]"
        header = "*TARGETS"
    else:
        values, header = "*[number % 2] * len(TARGETS)", "*TARGETS"
    return {
        "label_values": values,
        "label_header": header,
        "unlabelled_entry": f", {_text(layout.unlabelled)}" if layout.unlabelled else "",
        "group_value": ', f"g{number}"' if layout.group else "",
        "group_header": f", {_text(layout.group)}" if layout.group else "",
    }


def find_source(bench: Workbench, source: str, slug: str) -> tuple[Path, str, str]:
    """The folder to read off, the competition's slug, and its kind (csv or code).

    A folder that the local Kaggle has as a competition, of which the workspace has no file yet, is that
    one; of others the slug is as given.
    On the real Kaggle only the tables are fetched, into the cache: images may be many gigabytes.

    Raises:
        ConfigError: Neither a folder nor a competition of the remote.
    """
    from harness.commands.local import known_competitions

    here = known_competitions(bench.settings) if bench.settings.remote == "local" else []
    folder = Path(source).expanduser()
    if folder.is_dir():
        workspace = bench.settings.workspace
        taken = [
            load_competition(workspace, n).slug for n in module_names(workspace, "competitions")
        ]
        for spec, place in here:
            if place == folder.resolve() and spec.slug not in taken:
                return place, spec.slug, spec.kind
        return folder.resolve(), slug, "csv"
    if "/" in source or not re.fullmatch(r"[a-z0-9-]+", source):
        raise ConfigError(f"{source} is no folder.", "Give a folder, or a competition's slug.")
    if bench.settings.remote == "local":
        for spec, place in here:
            if spec.slug == source:
                return place, source, spec.kind
        raise ConfigError(
            f"The local Kaggle has no competition {source!r}.",
            "Give its folder: --from FOLDER, or --remote kaggle.",
        )
    from harness.errors import HarnessError

    bench.remote.check_competition(source)
    kind = "code" if bench.remote.competition_info(source).kernels_only else "csv"
    target = bench.settings.cache_folder / bench.settings.remote / source / "layout"
    bench.remote.competition_file(source, SAMPLE, target / SAMPLE)
    try:
        bench.remote.competition_file(source, "train.csv", target / "train.csv")
    except HarnessError as error:
        bench.progress(f"no train.csv ({error}); its columns are taken from the sample")
    return target, source, kind


def read_layout(folder: Path) -> Layout:
    """Tell the layout from names, headers and the first rows.

    Raises:
        ConfigError: No sample submission with an id and a target.
    """
    header, sample_ids = _peek(folder / SAMPLE)
    if len(header) < 2:
        raise ConfigError(
            f"{folder} has no {SAMPLE} with an id column and a target.",
            "Without a folder, placeholders are written: leave --from away.",
        )
    id_column, targets = header[0], tuple(header[1:])
    notes = []
    folders = {path.name: _stems(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    folders = {name: stems for name, stems in folders.items() if stems}
    test = _home(folders, [row[0] for row in sample_ids[:20]])
    for path in sorted(
        folder.glob("*.csv"), key=lambda path: (path.name != "train.csv", path.name)
    ):
        columns, rows = _peek(path)
        if path.name == SAMPLE or id_column not in columns or not rows:
            continue
        place = {name: columns.index(name) for name in columns}
        class_column = None
        if not set(targets) <= set(columns):
            counts = _class_columns(
                [name for name in columns if name != id_column], place, rows, targets
            )
            if not counts:
                continue
            class_column, *others = sorted(counts, key=lambda name: -counts[name])
            if others or counts[class_column] < len(set(targets)):
                more = f"; {', '.join(others)} would fit as well" if others else ""
                notes.append(
                    f"{class_column} of {path.name} is taken as the class: {counts[class_column]} of "
                    f"{len(targets)} targets occur in it{more}"
                )
        groups = _group_columns([name for name in columns if name not in (id_column, *targets)])
        group = groups[0] if groups else None
        if len(groups) > 1:
            notes.append(
                f"{group} of {path.name} is taken as the group; so could be {', '.join(groups[1:])}"
            )
        exclusive = class_column is not None or (
            len(targets) > 1
            and all(sum(row[place[name]] in ("1", "1.0") for name in targets) == 1 for row in rows)
        )
        labelled = _home(folders, [row[place[id_column]] for row in rows[:20]])
        if folders and labelled is None:
            notes.append(f"no folder holds the images of {path.name}: set labelled_folder")
        others = [name for name in folders if name not in (labelled, test)]
        return Layout(
            id_column, targets, path.name, labelled or "train", test or "test",
            others[0] if others else None, class_column, group, exclusive, tuple(notes),
        )  # fmt: skip
    notes.append(f"no table has {id_column} and the targets: set labels_csv")
    return Layout(id_column, targets, test=test or "test", notes=tuple(notes))


def _class_columns(
    columns: Sequence[str],
    place: Mapping[str, int],
    rows: Sequence[Sequence[str]],
    targets: Sequence[str],
) -> dict[str, int]:
    """Columns that hold nothing but names of targets, with how many of them occur."""
    values = {name: {row[place[name]] for row in rows} for name in columns}
    return {
        name: len(found)
        for name, found in values.items()
        if found <= set(targets) and not name.lower().startswith(NO_CLASSES)
    }


def _group_columns(columns: Sequence[str]) -> list[str]:
    """Columns that tell who a film is of, by their names, the likeliest first."""
    found = [
        (GROUP_NAMES.index(start), name)
        for name in columns
        for start in GROUP_NAMES
        if name.lower().startswith(start) and not name.lower().endswith(NO_GROUPS)
    ]
    return [name for _, name in sorted(found, key=lambda item: item[0])]


def _peek(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and first rows of a CSV; empty when it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            lines = csv.reader(handle)
            header = next(lines, [])
            rows = [row for _, row in zip(range(PEEK_ROWS), lines, strict=False)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return [], []
    return header, [row for row in rows if len(row) == len(header)]


def _stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if path.suffix.lower() in PICTURES}


def _home(folders: dict[str, set[str]], ids: Sequence[str]) -> str | None:
    """The folder that holds most of these ids' images, or None."""
    hits = {
        name: sum(item in stems or Path(item).stem in stems for item in ids)
        for name, stems in folders.items()
    }
    best = max(hits, key=lambda name: hits[name], default=None)
    return best if best is not None and hits[best] else None


def try_reading(name: str, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Read the folder with the new file, as a kernel will: what it says, or how much it found."""
    module = importlib.import_module(f"kernels.competitions.{name}")
    try:
        tables = module.read_tables(folder)
    except (OSError, ValueError, KeyError) as error:
        return [f"read_tables says: {error}"], {}
    counts = {
        "labelled": len(tables.labelled), "test": len(tables.test), "unlabelled": len(tables.unlabelled)
    }  # fmt: skip
    return [], counts


# ---- a strategy ----------------------------------------------------------------------------------


def new_strategy(bench: Workbench, name: str, like: str, competition: str | None = None) -> NewFile:
    """Write kernels/strategies/<name>.py and its test.

    Args:
        like: The strategy it begins as.
        competition: Whose data it trains on; None: that of ``like``.

    Raises:
        ConfigError: The name cannot be used, or ``like`` or the competition is not known.
    """
    workspace = bench.settings.workspace
    check_name(name, "strategy", [*module_names(workspace, "strategies"), INFERENCE_KIND])
    base = load_strategy(workspace, like)
    competition = competition or base.competition
    targets = load_competition(workspace, competition).target_columns
    values = {
        "name": name,
        "like": like,
        "competition": competition,
        "title": f"{name.replace('_', ' ').capitalize()} strategy"[:50],
    }
    path = workspace / "kernels" / "strategies" / f"{name}.py"
    test = new_test(workspace, f"test_strategy_{name}.py")
    path.write_text(scaffold_text("strategy.py.tmpl", **values), "utf-8")
    test.write_text(scaffold_text("test_strategy.py.tmpl", **values), "utf-8")
    importlib.invalidate_caches()
    load_strategy(workspace, name)
    return NewFile(path, test, (), {"competition": competition, "targets": targets})
