"""The report at the end of every run: what its predictions are worth, how sure that is, in files.

``results.json`` holds metrics with intervals, ``README.md`` says the same to people, plots.py draws, and
what a pipeline adds (pictures, model.pt) comes through ``sections``. Scores are those of kernels.stats.

Decisions. One threshold for each target, chosen on out-of-fold predictions only. An out-of-fold film is
judged by the threshold that is best on the *other* folds, so that its own label has no say; test films
by the one that is best on all out-of-fold films. Test labels are read here and nowhere else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels.blocks.model_card import write_card
from kernels.blocks.plots import write_plots
from kernels.blocks.verdicts import PredictionRows, RunReport, Verdicts
from kernels.config import Competition
from kernels.contract import RESULTS_FILE, write_json
from kernels.stats.bootstrap import bootstrap_interval
from kernels.stats.checking import MetricFunction
from kernels.stats.decisions import best_threshold, confusion_metrics
from kernels.stats.delong import delong_interval
from kernels.stats.fold_bootstrap import mean_fold_interval
from kernels.stats.metrics import score_metric
from kernels.stats.probabilities import expected_calibration_error
from kernels.stats.proportions import clopper_pearson
from kernels.stats.results import ScoreInterval

THRESHOLD_CRITERION = "youden"  # recall + specificity - 1: the same at any share of positives
REPORT_RESAMPLES = 1000
PLAIN_THRESHOLD = 0.5  # what a softmax's argmax would decide; shown beside, never chosen

# name -> (true, false) cells: a rate is true / (true + false)
RATE_CELLS = {
    "accuracy": (("true_positives", "true_negatives"), ("false_positives", "false_negatives")),
    "precision": (("true_positives",), ("false_positives",)),
    "recall": (("true_positives",), ("false_negatives",)),
    "specificity": (("true_negatives",), ("false_positives",)),
    "negative_predictive_value": (("true_negatives",), ("false_negatives",)),
}

ReportSection = Callable[[RunReport, Path], None]


def write_report(folder: Path, report: RunReport, sections: Sequence[ReportSection]) -> None:
    """Write every file of the report into a folder.

    A picture that cannot be drawn must not cost a finished training: it is named in the log and in
    ``results["incomplete"]``, and the rest is written.
    """
    for section in (*sections, write_plots):
        try:
            section(report, folder)
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            reason = f"{type(error).__name__}: {error}"
            print(f"report: a part could not be made ({reason})", flush=True)
            report.results.setdefault("incomplete", []).append(reason)
    write_json(folder / RESULTS_FILE, report.results)
    write_card(report.results, folder)


def build_report(
    competition: Competition,
    oof: PredictionRows,
    test: PredictionRows,
    test_targets: Mapping[str, Sequence[int]] | None,
    groups: Mapping[str, str],
    config: Any,
    facts: Mapping[str, Any],
) -> RunReport:
    """Everything that can be said from predictions alone.

    Args:
        competition: Names targets and metric.
        oof: Out-of-fold rows with targets.
        test: Test rows; targets empty.
        test_targets: Labels of the test films by id, one for each target; None: unknown.
        groups: Group by id, for films that are not independent; films without one stand alone.
        config: The run's config; its values become ``hyperparameters``.
        facts: Plain values about the run (strategy, profile, seconds, ...).
    """
    names = competition.target_columns
    films = average_models(oof, groups)
    thresholds, notes = zip(
        *(cross_fit_thresholds(films, column) for column in range(len(names))), strict=True
    )
    films = with_thresholds(films, np.stack(thresholds, axis=1))
    judged: Verdicts | None = None
    if test_targets is not None:
        truth = np.array([test_targets[name] for name in test.ids]).reshape(len(test.ids), -1)
        labelled = PredictionRows(test.ids, test.cells, truth, test.probs)
        chosen = np.array([note["value"] for note in notes])
        averaged = average_models(labelled, groups)
        judged = with_thresholds(averaged, np.tile(chosen, (len(averaged.ids), 1)))
        test = labelled
    sections: dict[str, Any] = {}
    for column, name in enumerate(names):
        section = {
            "threshold": notes[column],
            "out_of_fold": score_films(films, column),
        }
        section["out_of_fold"]["metrics"]["auc_mean_fold"] = mean_fold_auc_of(oof, column, groups)
        if judged is not None:
            section["test"] = score_films(judged, column)
            section["test"]["models"] = score_models(test, column, notes[column]["value"])
        sections[name] = section
    results: dict[str, Any] = {
        **facts,
        "competition": competition.slug,
        "title": competition.title,
        "positive_label": competition.positive_label,
        "targets": sections,
        "class_distribution": class_distribution(competition, films, judged),
        "intervals": (
            f"95 %. Proportions: Clopper-Pearson. AUC: DeLong, logit scale, or bootstrap of groups where "
            f"films of one patient are known. Others: bootstrap, {REPORT_RESAMPLES} resamples. "
            "Pooled out-of-fold intervals are approximate: folds have different models."
        ),
        "hyperparameters": asdict(config) if is_dataclass(config) else {},  # type: ignore[arg-type]
    }
    if len(names) > 1:
        results["macro"] = {
            split: macro_mean([sections[name][split]["metrics"] for name in names])
            for split in ("out_of_fold", "test")
            if split in sections[names[0]]
        }
    # Through JSON and back: tuples become lists here as they will in the file.
    return RunReport(competition, json.loads(json.dumps(results)), films, judged, config)


def average_models(rows: PredictionRows, groups: Mapping[str, str]) -> Verdicts:
    """One row for each film, in order of first appearance; thresholds are zero until they are chosen."""
    place: dict[str, int] = {}
    first: list[int] = []
    position = np.empty(len(rows.ids), dtype=np.intp)
    for row, name in enumerate(rows.ids):
        if name not in place:
            place[name] = len(place)
            first.append(row)
        position[row] = place[name]
    sums = np.zeros((len(place), rows.probs.shape[1]))
    np.add.at(sums, position, rows.probs)
    counts = np.bincount(position)
    names = list(place)
    # A group's name and an id could be equal by chance: "group" and "id" keep them apart.
    labels = [f"group {groups[name]}" if name in groups else f"id {name}" for name in names]
    return Verdicts(
        ids=names,
        cells=[rows.cells[row] for row in first],
        targets=rows.targets[first],
        # A mean of numbers in [0, 1] may leave it by a rounding.
        probs=np.clip(sums / counts[:, None], 0.0, 1.0),
        thresholds=np.zeros_like(sums),
        groups=np.array(labels) if len(set(labels)) < len(labels) else None,
    )


def with_thresholds(films: Verdicts, thresholds: np.ndarray) -> Verdicts:
    """The same films, judged by these thresholds, (N, K)."""
    return Verdicts(films.ids, films.cells, films.targets, films.probs, thresholds, films.groups)


def cross_fit_thresholds(films: Verdicts, column: int) -> tuple[np.ndarray, dict[str, Any]]:
    """The threshold for each film from the other folds' films, shape (N,); and what was chosen, in words.

    With a single fold, or others of one class, the film's own fold has to serve; ``nested`` says so.
    """
    targets, probs = films.targets[:, column], films.probs[:, column]
    whole = pick_threshold(targets, probs)
    parts = np.array([f"{seed}/{fold}" for seed, fold in films.cells])
    thresholds = np.full(len(probs), whole)
    nested = True
    for part in sorted(set(parts.tolist())):
        others = parts != part
        if len(np.unique(targets[others])) < 2:
            nested = False
            continue
        thresholds[~others] = pick_threshold(targets[others], probs[others])
    return thresholds, {
        "value": whole,
        "criterion": THRESHOLD_CRITERION,
        "chosen_on": f"{len(probs)} out-of-fold predictions; no test label",
        "nested": nested,
        "rule": (
            "out-of-fold films are judged by the threshold that is best on the other folds"
            if nested
            else "too few folds: out-of-fold films are judged by a threshold that saw them (optimistic)"
        ),
        "range_over_folds": [float(thresholds.min()), float(thresholds.max())],
    }


def pick_threshold(targets: np.ndarray, probs: np.ndarray) -> float:
    """The best threshold on these rows, as a float in [0, 1]; 0.5 when only one class is there."""
    if len(np.unique(targets)) < 2:
        return PLAIN_THRESHOLD
    return float(np.clip(best_threshold(targets, probs, THRESHOLD_CRITERION).threshold, 0.0, 1.0))


def score_films(films: Verdicts, column: int) -> dict[str, Any]:
    """Counts and metrics with intervals for one target."""
    targets, probs = films.targets[:, column], films.probs[:, column]
    calls = films.flags[:, column].astype(np.float64)
    table = confusion_metrics(targets, calls, 0.5)
    positives = int(targets.sum())
    metrics = {name: rate_interval(vars(table), name) for name in RATE_CELLS}

    def resampled(metric: str | MetricFunction, values: np.ndarray) -> dict[str, Any]:
        return interval_or_reason(
            lambda: bootstrap_interval(
                metric, targets, values, groups=films.groups, n_resamples=REPORT_RESAMPLES
            )
        )

    for name in ("f1", "balanced_accuracy", "mcc"):
        metrics[name] = resampled(name, calls)
    metrics["auc"] = (
        interval_or_reason(lambda: delong_interval(targets, probs))
        if films.groups is None
        else resampled("auc", probs)
    )
    for name in ("average_precision", "brier", "log_loss"):
        metrics[name] = resampled(name, probs)
    metrics["ece"] = resampled(expected_calibration_error, probs)
    metrics["ece"]["kind"] = "probability of the positive class, 10 equal bins"
    plain = confusion_metrics(targets, probs, PLAIN_THRESHOLD)
    return {
        "n": len(targets),
        "n_positive": positives,
        "n_groups": len(films.ids) if films.groups is None else len(np.unique(films.groups)),
        "majority_accuracy": max(positives, len(targets) - positives) / len(targets),
        "metrics": metrics,
        "confusion": confusion_counts(vars(table)),
        "at_half": {
            "confusion": confusion_counts(vars(plain)),
            **{
                name: getattr(plain, name)
                for name in (*RATE_CELLS, "f1", "balanced_accuracy", "mcc")
            },
        },
    }


def score_models(rows: PredictionRows, column: int, threshold: float) -> list[dict[str, Any]]:
    """Each model of the run by itself on labelled test films: what one network gives, without averaging."""
    cells = np.array(rows.cells)
    scored = []
    for seed, fold in sorted(set(rows.cells)):
        own = (cells[:, 0] == seed) & (cells[:, 1] == fold)
        targets, probs = rows.targets[own, column], rows.probs[own, column]
        at = confusion_metrics(targets, probs, threshold)
        half = confusion_metrics(targets, probs, PLAIN_THRESHOLD)
        both = len(np.unique(targets)) == 2
        scored.append(
            {
                "seed": seed,
                "fold": fold,
                "auc": score_metric("auc", targets, probs) if both else None,
                "accuracy": at.accuracy,
                "recall": at.recall,
                "specificity": at.specificity,
                "accuracy_at_half": half.accuracy,
                "recall_at_half": half.recall,
                "specificity_at_half": half.specificity,
            }
        )
    return scored


def rate_interval(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A proportion of a confusion table with its exact interval; None where nothing was counted."""
    true_cells, false_cells = RATE_CELLS[name]
    hits = sum(int(table[cell]) for cell in true_cells)
    trials = hits + sum(int(table[cell]) for cell in false_cells)
    if not trials:
        return {"estimate": None, "low": None, "high": None, "method": "undefined", "trials": 0}
    low, high = clopper_pearson(hits, trials)
    return {
        "estimate": hits / trials,
        "low": low,
        "high": high,
        "method": "clopper-pearson",
        "trials": trials,
    }


def interval_or_reason(make: Callable[[], ScoreInterval]) -> dict[str, Any]:
    """An interval as plain values; None and the reason where it is undefined (one class, few rows)."""
    try:
        found = make()
    except ValueError as error:
        return {
            "estimate": None, "low": None, "high": None, "method": "undefined", "note": str(error)
        }  # fmt: skip
    values = {key: float(getattr(found, key)) for key in ("estimate", "low", "high")}
    plain: dict[str, Any] = {
        key: value if np.isfinite(value) else None for key, value in values.items()
    }
    return {**plain, "method": found.method, **({"note": found.note} if found.note else {})}


def mean_fold_auc_of(
    rows: PredictionRows, column: int, groups: Mapping[str, str]
) -> dict[str, Any]:
    """The headline: AUC inside each (seed, fold), averaged."""
    seeds, folds = np.array(rows.cells).T
    units = np.array([groups.get(name, f"id {name}") for name in rows.ids])
    return interval_or_reason(
        lambda: mean_fold_interval(
            rows.targets[:, column],
            rows.probs[:, column],
            seeds,
            folds,
            ids=np.array(rows.ids),
            groups=units if groups else None,
            n_resamples=REPORT_RESAMPLES,
        )
    )


def confusion_counts(table: Mapping[str, Any]) -> dict[str, int]:
    """The four cells."""
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    return {name: int(table[name]) for name in names}


def class_distribution(
    competition: Competition, oof: Verdicts, test: Verdicts | None
) -> dict[str, Any]:
    """Films of each class in the labelled set and, where known, the test set."""
    return {
        split: {
            name: {"negative": int((1 - column).sum()), "positive": int(column.sum())}
            for name, column in zip(competition.target_columns, films.targets.T, strict=True)
        }
        for split, films in (("labelled", oof), ("test", test))
        if films is not None
    }


def macro_mean(tables: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean of each metric over targets; None when a target has no value."""
    means: dict[str, float | None] = {}
    for name in tables[0]:
        values = [table[name]["estimate"] for table in tables]
        means[name] = None if None in values else float(np.mean(values))
    return means
