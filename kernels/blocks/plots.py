"""cm.png, roc.png, pr.png and calibration.png: a run's predictions as pictures.

Drawn with matplotlib's objects alone (no pyplot, no display, no global state). A machine without
matplotlib gets everything but the pictures.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kernels.blocks.verdicts import RunReport, Verdicts

PLOT_NAMES = ("cm.png", "roc.png", "pr.png", "calibration.png")
PLOT_DPI = 110
CALIBRATION_BINS = 10
PLOTTED_TARGETS = 6  # with more, curves hide one another
PLOT_COLOURS = ("#0b5fa5", "#c8501e", "#3b8a3e", "#7a4fa3", "#8a6d1d", "#5a5a5a")


def roc_points(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every distinct score, from (0, 0) to (1, 1), both classes present."""
    hits, alarms = hits_and_alarms(targets, scores)
    return np.r_[0.0, alarms / alarms[-1]], np.r_[0.0, hits / hits[-1]]


def pr_points(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at every distinct score; drawn as steps, its area is average precision."""
    hits, alarms = hits_and_alarms(targets, scores)
    precision = hits / (hits + alarms)
    return np.r_[0.0, hits / hits[-1]], np.r_[precision[0], precision]


def hits_and_alarms(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives when everything from a distinct score upwards is called positive."""
    order = np.argsort(-scores, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    hits = np.cumsum(targets[order])[ends].astype(np.float64)
    return hits, ends + 1.0 - hits


def calibration_points(
    targets: np.ndarray, probs: np.ndarray, bins: int = CALIBRATION_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share of positives and number of films in each equal-width bin that has any."""
    place = np.searchsorted(np.arange(1, bins) / bins, probs, "left")
    counts = np.bincount(place, minlength=bins)
    filled = counts > 0
    mean = np.bincount(place, weights=probs, minlength=bins)[filled] / counts[filled]
    share = np.bincount(place, weights=targets, minlength=bins)[filled] / counts[filled]
    return mean, share, counts[filled]


def write_plots(report: RunReport, folder: Path) -> None:
    """The four pictures; without matplotlib none, and ``results["plots"]`` says so."""
    # A kernel starts with an empty home: matplotlib would tell every reader of the log that it looks for fonts.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    try:
        import matplotlib.figure as figures
    except ImportError:
        report.results["plots"] = "matplotlib is not installed"
        return
    draw = {
        "cm.png": draw_confusions,
        "roc.png": draw_roc,
        "pr.png": draw_pr,
        "calibration.png": draw_calibration,
    }
    for name, painter in draw.items():
        painter(report, figures.Figure, folder / name)
    report.results["plots"] = list(PLOT_NAMES)


def plotted_sets(report: RunReport) -> Iterator[tuple[str, str, Verdicts, int]]:
    """(split, label, films, column) of every curve that has both classes."""
    names = report.competition.target_columns[:PLOTTED_TARGETS]
    for split, films in (("out_of_fold", report.oof), ("test", report.test)):
        if films is None:
            continue
        for column, name in enumerate(names):
            if len(np.unique(films.targets[:, column])) == 2:
                title = split.replace("_", "-")
                label = title if len(names) == 1 else f"{name}, {title}"
                yield split, label, films, column


def shown_value(report: RunReport, split: str, column: int, metric: str) -> str:
    """A metric with its interval, for a legend: 0.912 [0.880, 0.940]."""
    name = report.competition.target_columns[column]
    found = report.results["targets"][name][split]["metrics"][metric]
    if found["estimate"] is None:
        return "undefined"
    return f"{found['estimate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def curve_axes(figure_class: Callable[..., Any], title: str, x: str, y: str) -> tuple[Any, Any]:
    """A square figure with axes from 0 to 1."""
    figure = figure_class(figsize=(5.0, 5.0), dpi=PLOT_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.grid(color="#dddddd", linewidth=0.6)
    return figure, axes


def draw_roc(report: RunReport, figure_class: Callable[..., Any], path: Path) -> None:
    """ROC curves, and the point where the threshold stands."""
    figure, axes = curve_axes(figure_class, "ROC", "1 - specificity", "recall")
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    for index, (split, label, films, column) in enumerate(plotted_sets(report)):
        targets, colour = films.targets[:, column], PLOT_COLOURS[index % len(PLOT_COLOURS)]
        rates = roc_points(targets, films.probs[:, column])
        shown = shown_value(report, split, column, "auc")
        axes.plot(*rates, color=colour, linewidth=1.6, label=f"{label}: AUC {shown}")
        flags = films.flags[:, column]
        axes.plot(flags[targets == 0].mean(), flags[targets == 1].mean(), "o", color=colour)
    finish_curves(figure, axes, path, "lower right", "dot: at the out-of-fold threshold")


def draw_pr(report: RunReport, figure_class: Callable[..., Any], path: Path) -> None:
    """Precision against recall; the dotted line is the share of positives."""
    figure, axes = curve_axes(figure_class, "Precision and recall", "recall", "precision")
    for index, (split, label, films, column) in enumerate(plotted_sets(report)):
        targets, colour = films.targets[:, column], PLOT_COLOURS[index % len(PLOT_COLOURS)]
        points = pr_points(targets, films.probs[:, column])
        shown = shown_value(report, split, column, "average_precision")
        axes.step(*points, where="pre", color=colour, linewidth=1.6, label=f"{label}: AP {shown}")
        axes.axhline(targets.mean(), color=colour, linewidth=0.8, linestyle=":")
    finish_curves(figure, axes, path, "lower left", "dotted: share of positives")


def draw_calibration(report: RunReport, figure_class: Callable[..., Any], path: Path) -> None:
    """Observed against predicted frequency; a dot's area grows with its number of films."""
    figure, axes = curve_axes(
        figure_class, "Calibration", "mean predicted probability", "share of positives"
    )
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    for index, (split, label, films, column) in enumerate(plotted_sets(report)):
        colour = PLOT_COLOURS[index % len(PLOT_COLOURS)]
        mean, share, counts = calibration_points(films.targets[:, column], films.probs[:, column])
        shown = shown_value(report, split, column, "ece")
        axes.plot(mean, share, color=colour, linewidth=1.2, label=f"{label}: ECE {shown}")
        sizes = 12 + 160 * counts / counts.sum()
        axes.scatter(mean, share, s=sizes, color=colour, alpha=0.7, linewidths=0)
    finish_curves(figure, axes, path, "upper left", f"{CALIBRATION_BINS} equal bins; area: films")


def finish_curves(figure: Any, axes: Any, path: Path, corner: str, note: str) -> None:
    """Legend and file. The date is left out, so that equal pictures are equal files."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=corner, fontsize=8, title=note, title_fontsize=8)
    figure.savefig(path, metadata={"Software": None})


def draw_confusions(report: RunReport, figure_class: Callable[..., Any], path: Path) -> None:
    """Confusion matrices: counts, and the share of each true class."""
    panels = list(plotted_sets(report))
    columns = max(1, min(3, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = figure_class(
        figsize=(3.6 * columns + 0.4, 3.6 * rows + 0.2), dpi=PLOT_DPI, layout="constrained"
    )
    for place, (_, label, films, column) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        truth, flags = films.targets[:, column].astype(int), films.flags[:, column].astype(int)
        counts = np.zeros((2, 2), dtype=int)
        np.add.at(counts, (truth, flags), 1)
        shares = counts / counts.sum(axis=1, keepdims=True)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in (0, 1):
            for side in (0, 1):
                text = f"{counts[row, side]:,}\n{shares[row, side]:.1%}"
                colour = "white" if shares[row, side] > 0.5 else "black"
                axes.text(side, row, text, ha="center", va="center", color=colour, fontsize=12)
        positive = report.competition.positive_label
        if len(report.competition.target_columns) > 1:
            positive = report.competition.target_columns[column]
        words = [f"no {positive}", positive]
        axes.set_xticks([0, 1], words)
        axes.set_yticks([0, 1], words, rotation=90, va="center")
        axes.set(xlabel="predicted", ylabel="true", title=f"{label}, n {len(truth):,}")
    figure.savefig(path, metadata={"Software": None})
