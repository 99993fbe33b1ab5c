"""Writes the run contract: predictions as they come, then metrics, submission and manifest at the end.

Every pipeline gets one OutputWriter and ends when the kernel's entry calls ``finish``. What a file
must look like is in contract.py; what a score means is in stats/.
"""

import csv
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kernels.blocks.goal import Goal
from kernels.blocks.paths import KagglePaths
from kernels.blocks.report import ReportSection, build_report, write_report
from kernels.blocks.session import FoldCell, RunSession
from kernels.blocks.verdicts import PredictionRows
from kernels.blocks.workers import FoldProcess, ShareDone, train_side_by_side
from kernels.config import Competition
from kernels.contract import (
    CHECKPOINT_FOLDER,
    GROUP_COLUMN,
    GROUPS_FILE,
    ID_COLUMN,
    MANIFEST_FILE,
    METRICS_FILE,
    OOF_FILE,
    OPTIMISTIC_NOTE,
    RESUME_FOLDER,
    SCHEMA_VERSION,
    SUBMISSION_FILE,
    TEST_FILE,
    UNLABELLED_FILE,
    Resume,
    oof_columns,
    prediction_columns,
    record_files,
    write_json,
)
from kernels.stats.folds import mean_fold_auc
from kernels.stats.metrics import score_metric
from kernels.stats.thresholds import (
    choose_thresholds,
    decide,
    nested_decisions,
    wants_decisions,
)

# Of the notes for metrics.json, those that the report repeats: what a reader of its numbers has to know.
REPORTED_NOTES = (
    "profile",
    "seconds",
    "device",
    "weights_from",
    "parameters",
    "groups",
    "images",
    "metadata_auc",
    "adversarial_auc",
    OPTIMISTIC_NOTE,
)


FoldRows = tuple[int, int, np.ndarray, np.ndarray]  # seed, fold, training rows, held-out rows


class OutputWriter:
    """Collects what a run predicts and writes it in the contract's form.

    Args:
        session: Clock and kept state of this session; by default one without a budget.

    Arrays of predictions are probabilities in [0, 1], shape (N,) for one target or (N, K) for K targets.
    """

    def __init__(
        self, competition: Competition, paths: KagglePaths, session: RunSession | None = None
    ) -> None:
        self.competition = competition
        self.paths = paths
        self.session = session or RunSession(paths.working / RESUME_FOLDER)
        self.notes: dict[str, Any] = {}
        self.fold_notes: dict[FoldCell, dict[str, Any]] = {}
        self.datasets: dict[str, Path] = {}  # mounted packages by slug, checked by the entry
        # Set by the entry after training: labels of test films by id, and groups by id.
        self.test_targets: Mapping[str, Sequence[int]] | None = None
        self.groups: Mapping[str, str] = {}
        self._sections: list[ReportSection] = []
        self._oof: list[tuple[Any, ...]] = []
        self._test: list[tuple[Any, ...]] = []
        self._unlabelled: list[tuple[Any, ...]] = []

    def add_oof(
        self, ids: Sequence[str], seed: int, fold: int, targets: np.ndarray, predictions: np.ndarray
    ) -> None:
        """Predictions on the rows of one held-out fold, with their targets."""
        truth = self._columns(ids, targets, "targets")
        guesses = self._columns(ids, self._of_classes(predictions), "predictions")
        for name, true_row, row in zip(ids, truth, guesses, strict=True):
            self._oof.append((name, seed, fold, *(int(value) for value in true_row), *row))

    def add_test(self, ids: Sequence[str], seed: int, fold: int, predictions: np.ndarray) -> None:
        """Predictions of one fold's model on every test row."""
        self._extend(self._test, ids, seed, fold, predictions)

    def add_unlabelled(
        self, ids: Sequence[str], seed: int, fold: int, predictions: np.ndarray
    ) -> None:
        """Predictions of one fold's model on unlabelled rows (optional)."""
        self._extend(self._unlabelled, ids, seed, fold, predictions)

    def note(self, **values: Any) -> None:
        """Facts for metrics.json: plain JSON values, e.g. note(neighbour_purity=0.71)."""
        self.notes.update(values)

    def note_fold(self, seed: int, fold: int, **values: Any) -> None:
        """Facts about one fold, plain JSON values; they are in ``fold_notes`` when all folds are done."""
        self.fold_notes[seed, fold] = values

    def noted_folds(self) -> list[dict[str, Any]]:
        """What was noted of each fold, in the order of folds, for metrics.json."""
        return [
            {"seed": seed, "fold": fold, **self.fold_notes[seed, fold]}
            for seed, fold in sorted(self.fold_notes)
        ]

    def folds(
        self, cells: Iterable[FoldRows], processes: Sequence[FoldProcess] = ()
    ) -> Iterator[FoldRows]:
        """The folds that are to be trained here; what earlier sessions and workers did is taken up.

        A fold's body must end in ``add_oof`` and ``add_test`` (and ``add_unlabelled``, ``note_fold``)
        for it, write its files by name, and draw nothing from other folds.

        Args:
            cells: All folds of the run, in order.
            processes: More than one: train folds side by side first.

        Raises:
            BudgetSpent: Before a fold that would begin after the session's budget.
            ShareDone: In a worker, after the last of its folds.
        """
        session, every = self.session, list(cells)
        session.cells = [(seed, fold) for seed, fold, _, _ in every]
        left = [cell for cell in session.cells if not session.is_done(cell)]
        if session.may_start_workers and min(len(processes), len(left)) > 1:
            train_side_by_side(session, left, processes)
        for seed, fold, train, held_out in every:
            if session.is_done((seed, fold)):
                self._take_fold(seed, fold)
                continue
            if session.share is not None and (seed, fold) not in session.share:
                continue
            session.check(f"seed {seed} fold {fold}")
            marks = [len(rows) for rows in (self._oof, self._test, self._unlabelled)]
            yield seed, fold, train, held_out
            if session.keeps:
                self._keep_fold(seed, fold, marks)
            session.worked()
        if session.share is not None:
            raise ShareDone

    def _keep_fold(self, seed: int, fold: int, marks: Sequence[int]) -> None:
        oof, test, unlabelled = (
            rows[mark:]
            for rows, mark in zip((self._oof, self._test, self._unlabelled), marks, strict=True)
        )
        self.session.save_fold(
            (seed, fold),
            {
                "oof": oof,
                "test": test,
                "unlabelled": unlabelled,
                "fold_notes": self.fold_notes.get((seed, fold)),
                "notes": self.notes,
            },
        )
        for path in self.session.folder.glob(f"seed{seed}_fold{fold}*.pt"):
            path.unlink()

    def _take_fold(self, seed: int, fold: int) -> None:
        kept = self.session.load_fold((seed, fold))
        self._oof += map(tuple, kept["oof"])
        self._test += map(tuple, kept["test"])
        self._unlabelled += map(tuple, kept["unlabelled"])
        if kept["fold_notes"] is not None:
            self.fold_notes[seed, fold] = kept["fold_notes"]
        self.notes = {**kept["notes"], **self.notes}

    def write_history(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """A training history, one row an epoch, as <name>.csv in the output folder."""
        if not rows:
            return
        with (self.paths.working / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
            table = csv.DictWriter(handle, fieldnames=list(rows[0]))
            table.writeheader()
            table.writerows(rows)

    def checkpoint_path(self, name: str) -> Path:
        """Where a checkpoint of this file name belongs; its folder exists afterwards."""
        folder = self.paths.working / CHECKPOINT_FOLDER
        folder.mkdir(exist_ok=True)
        return folder / name

    def add_section(self, section: ReportSection) -> None:
        """Something more for the report, called with it and the output folder when the run is finished."""
        self._sections.append(section)

    @property
    def goal(self) -> Goal:
        """What classifiers are trained for here."""
        return Goal(self.competition.metric, self.competition.exclusive)

    def fold_score(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        """The competition's metric on one fold, for a log line."""
        return float(score_metric(self.competition.metric, targets, predictions))

    def finish(
        self, spec: dict[str, Any], config: Any, versions: dict[str, str], script_sha256: str
    ) -> None:
        """Write every table, metrics.json, submission.csv, the report and, last of all, the manifest.

        Raises:
            ValueError: When no out-of-fold or test predictions were added.
        """
        if not self._oof or not self._test:
            raise ValueError("the pipeline added no out-of-fold or no test predictions")
        targets = self.competition.target_columns
        working = self.paths.working
        shutil.rmtree(self.session.folder, ignore_errors=True)
        write_rows(working / OOF_FILE, oof_columns(targets), self._oof)
        write_rows(working / TEST_FILE, prediction_columns(targets), self._test)
        if self._unlabelled:
            write_rows(working / UNLABELLED_FILE, prediction_columns(targets), self._unlabelled)
        if self.groups:
            ids = dict.fromkeys(str(row[0]) for row in self._oof)
            write_rows(
                working / GROUPS_FILE,
                (ID_COLUMN, GROUP_COLUMN),
                [(name, self.groups[name]) for name in ids if name in self.groups],
            )
        self._write_submission(working / SUBMISSION_FILE)
        write_json(working / METRICS_FILE, self._metrics())
        self._write_report(spec, config)
        self._seal(spec, config, versions, script_sha256, {"complete": True})

    def stop(
        self,
        spec: dict[str, Any],
        config: Any,
        versions: dict[str, str],
        script_sha256: str,
        resume: Resume,
    ) -> None:
        """Seal the output of a run whose time budget is spent: its state, and no predictions."""
        for path in self.paths.working.rglob("*.part"):
            path.unlink()  # a worker that was ended while it wrote
        unfinished = {"complete": False, "resume": asdict(resume)}
        self._seal(spec, config, versions, script_sha256, unfinished)

    def _seal(
        self,
        spec: dict[str, Any],
        config: Any,
        versions: dict[str, str],
        script_sha256: str,
        state: dict[str, Any],
    ) -> None:
        continued = self.session.resumed_from
        write_json(
            self.paths.working / MANIFEST_FILE,
            {
                "schema_version": SCHEMA_VERSION,
                "spec": spec,
                "script_sha256": script_sha256,
                "config": repr(config),
                "versions": versions,
                **state,
                **({} if continued is None else {"resumed_from": continued}),
                "files": [vars(record) for record in record_files(self.paths.working)],
            },
        )

    def _metrics(self) -> dict[str, Any]:
        count = len(self.competition.target_columns)
        keys = np.array([(row[1], row[2]) for row in self._oof])
        truth = np.array([row[3 : 3 + count] for row in self._oof], dtype=float)
        guess = np.array([row[3 + count :] for row in self._oof], dtype=float)
        if count == 1:
            truth, guess = truth[:, 0], guess[:, 0]
        chosen = {}
        if wants_decisions(self.competition.metric):
            # A fold is cut where the other folds' rows say, as a blend does it; the file where all do.
            units = [
                self.groups.get(row[0], row[0]) if self.groups else row[0] for row in self._oof
            ]
            chosen["thresholds"] = choose_thresholds(self.competition.metric, truth, guess)
            guess = nested_decisions(
                self.competition.metric, truth, guess, keys[:, 0], keys[:, 1], np.array(units)
            )
        folds = []
        for seed, fold in sorted({(int(a), int(b)) for a, b in keys}):
            rows = (keys[:, 0] == seed) & (keys[:, 1] == fold)
            folds.append(
                {
                    "seed": seed,
                    "fold": fold,
                    "n": int(rows.sum()),
                    "score": self.fold_score(truth[rows], guess[rows]),
                }
            )
        # One meaning of a score: the mean over (seed, fold) of the fold's score. Pooled is shown beside it:
        # offsets between folds' models make the two differ.
        mean = float(np.mean([entry["score"] for entry in folds]))
        if count == 1 and self.competition.metric == "auc":
            check = mean_fold_auc(truth, guess, keys[:, 0], keys[:, 1])
            assert math.isclose(mean, float(check), abs_tol=1e-12)
        pooled = [
            self.fold_score(truth[keys[:, 0] == seed], guess[keys[:, 0] == seed])
            for seed in sorted(set(keys[:, 0].tolist()))
        ]
        return {
            "metric": self.competition.metric,
            "score_mean_fold": mean,
            "score_pooled": float(np.mean(pooled)),
            "folds": folds,
            "n_labelled": len({row[0] for row in self._oof}),
            "n_test": len({row[0] for row in self._test}),
            **chosen,
            **self.notes,
        }

    def _write_report(self, spec: dict[str, Any], config: Any) -> None:
        report = build_report(
            self.competition,
            self._prediction_rows(self._oof, with_targets=True),
            self._prediction_rows(self._test, with_targets=False),
            self.test_targets,
            self.groups,
            config,
            {
                "strategy": spec.get("strategy"),
                "variant": spec.get("variant"),
                **{key: self.notes[key] for key in REPORTED_NOTES if key in self.notes},
            },
        )
        write_report(self.paths.working, report, self._sections)

    def _prediction_rows(self, rows: list[tuple[Any, ...]], with_targets: bool) -> PredictionRows:
        count = len(self.competition.target_columns)
        values = np.array([row[3:] for row in rows], dtype=np.float64)
        known = count if with_targets else 0
        return PredictionRows(
            ids=[str(row[0]) for row in rows],
            cells=[(int(row[1]), int(row[2])) for row in rows],
            targets=values[:, :known].astype(np.int64),
            probs=values[:, known:],
        )

    def _write_submission(self, path: Path) -> None:
        """Mean over this run's models, in the order test rows were first added.

        Where the metric wants decisions: 0 and 1 by the thresholds of all out-of-fold rows.
        """
        sums: dict[str, list[float]] = {}
        counts: dict[str, int] = {}
        for name, _seed, _fold, *values in self._test:
            total = sums.setdefault(name, [0.0] * len(values))
            for index, value in enumerate(values):
                total[index] += value
            counts[name] = counts.get(name, 0) + 1
        means = {name: [value / counts[name] for value in total] for name, total in sums.items()}
        if wants_decisions(self.competition.metric):
            cut = decide(np.array(list(means.values())), self._thresholds()).astype(np.int64)
            means = dict(zip(means, cut.tolist(), strict=True))
        rows = [(name, *values) for name, values in means.items()]
        write_rows(path, [self.competition.id_column, *self.competition.target_columns], rows)

    def _thresholds(self) -> tuple[float, ...]:
        """Of each target, chosen on all out-of-fold rows."""
        values = np.array([row[3:] for row in self._oof], dtype=np.float64)
        count = len(self.competition.target_columns)
        return choose_thresholds(self.competition.metric, values[:, :count], values[:, count:])

    def _extend(
        self,
        rows: list[tuple[Any, ...]],
        ids: Sequence[str],
        seed: int,
        fold: int,
        predictions: np.ndarray,
    ) -> None:
        guesses = self._columns(ids, self._of_classes(predictions), "predictions")
        for name, row in zip(ids, guesses, strict=True):
            rows.append((name, seed, fold, *row))

    def _of_classes(self, predictions: np.ndarray) -> np.ndarray:
        """Predictions whose rows sum to 1 where targets are classes; as they are where not."""
        return rows_of_classes(predictions) if self.competition.exclusive else predictions

    def _columns(self, ids: Sequence[str], values: np.ndarray, what: str) -> list[list[float]]:
        """Values as N lists of K finite floats, or an error that names the fault."""
        table = np.asarray(values, dtype=np.float64)
        if table.ndim == 1:
            table = table[:, None]
        wanted = (len(ids), len(self.competition.target_columns))
        if table.shape != wanted:
            raise ValueError(f"{what} have shape {table.shape}; {wanted} was expected")
        if not np.isfinite(table).all():
            first = ids[int(np.argmin(np.isfinite(table).all(axis=1)))]
            raise ValueError(f"{what} hold NaN or inf (first: {first})")
        rows: list[list[float]] = table.tolist()
        return rows


def rows_of_classes(predictions: np.ndarray) -> np.ndarray:
    """Predictions of classes, (N, K), with rows that sum to 1.

    Those of a softmax do, but for rounding; a pipeline that asks of each class alone need not know.
    """
    table = np.asarray(predictions, dtype=np.float64)
    totals = table.sum(axis=1, keepdims=True)
    # A row of zeros says nothing about any class.
    even = np.full_like(table, 1.0 / table.shape[1])
    return np.divide(table, totals, out=even, where=totals > 0)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV with a header. Floats are written by repr, so they read back to the same bits."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
