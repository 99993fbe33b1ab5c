"""Scores with their evidence, and paired gains between two predictions of the same rows. Pure.

The headline is the mean over (seed, fold). Up to BOOTSTRAP_ROWS rows, intervals come from 2,000
resamples of ids (or groups), the same ones for every prediction, so that differences are paired;
above that from placements (DeLong for clusters) for an AUC, else from fewer resamples. For a metric
of decisions (F1, accuracy) every fold is cut at thresholds that were chosen on other ids.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.members import Floats, MemberTable
from kernels.stats.fold_bootstrap import mean_fold_bootstrap_scores, mean_fold_interval
from kernels.stats.folds import fold_scores
from kernels.stats.influence import mean_fold_auc_influence
from kernels.stats.metrics import find_metric, score_metric
from kernels.stats.paired import SMALLEST_P_VALUE, paired_mean_fold_difference
from kernels.stats.thresholds import choose_thresholds, decide, nested_decisions, wants_decisions

BOOTSTRAP_ROWS = 50_000
RESAMPLES = 2000
FEW_RESAMPLES = 200
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Score:
    """A score with its evidence: n labelled images and a 95 % interval."""

    mean_fold: float
    pooled: float
    low: float
    high: float
    n: int
    standard_error: float = math.nan
    fold_low: float = math.nan  # lowest and highest (seed, fold)
    fold_high: float = math.nan
    fold_spread: float = math.nan  # standard deviation over (seed, fold)


@dataclass(frozen=True)
class Gain:
    """How much better a is than b on the same rows, positive when a is better, with a 95 % interval."""

    gain: float
    low: float
    high: float
    standard_error: float
    p_value: float

    def text(self) -> str:
        """``+0.0031 [-0.0004, +0.0065]``."""
        return f"{self.gain:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


class Evidence:
    """Scores predictions of one table's rows and compares them in pairs."""

    def __init__(self, table: MemberTable) -> None:
        self.metric = table.metric
        self.sign = 1.0 if find_metric(table.metric).greater_is_better else -1.0
        self._truth: np.ndarray = one_column(table.targets)
        self._rows: dict[str, Any] = {"seeds": table.seeds, "folds": table.folds}
        self._units = table.units
        self._grouped = table.grouped
        self._n = table.n
        self._decides = wants_decisions(table.metric)
        self._is_auc = table.metric in ("auc", "macro_auc")
        self._large = len(table.seeds) > BOOTSTRAP_ROWS
        self._draws: dict[str, np.ndarray] = {}

    @property
    def _plan(self) -> dict[str, Any]:
        clusters = {"groups": self._units} if self._grouped else {"ids": self._units}
        resamples = FEW_RESAMPLES if self._large else RESAMPLES
        return {**self._rows, **clusters, "metric": self.metric, "n_resamples": resamples}

    def score(self, name: str, predictions: Floats) -> Score:
        """Score predictions (N, T). ``name`` keys what is remembered for ``gain``; keep it unique."""
        guess = self._scorable(predictions)
        keys = (self._rows["seeds"], self._rows["folds"])
        folds = fold_scores(self.metric, self._truth, guess, keys)
        estimate = float(folds.mean())
        draws = self._drawn(name, guess)
        if self._large and self._is_auc:
            error = math.sqrt(float(np.dot(draws, draws)))
            low, high = max(0.0, estimate - Z_95 * error), min(1.0, estimate + Z_95 * error)
        elif _vary(draws):
            kept = draws[~np.isnan(draws)]
            low, high = (float(value) for value in np.quantile(kept, [0.025, 0.975]))
            error = float(kept.std(ddof=1))
        else:  # nothing varies (perfect separation): the bound that stays honest
            interval = mean_fold_interval(self._truth, guess, **self._plan)
            low, high, error = interval.low, interval.high, interval.standard_error
        seeds = np.unique(self._rows["seeds"])
        pooled = [
            score_metric(self.metric, self._truth[rows], guess[rows])
            for rows in (self._rows["seeds"] == seed for seed in seeds)
        ]
        spread = float(folds.std(ddof=1)) if folds.size > 1 else math.nan
        return Score(
            estimate,
            float(np.mean(pooled)),
            low,
            high,
            self._n,
            error,
            float(folds.min()),
            float(folds.max()),
            spread,
        )

    def estimate(self, predictions: Floats) -> float:
        """The mean-fold score alone; where decisions are wanted, by thresholds of these very rows."""
        keys = (self._rows["seeds"], self._rows["folds"])
        guess = one_column(predictions)
        if self._decides:
            guess = decide(guess, choose_thresholds(self.metric, self._truth, guess))
        return float(fold_scores(self.metric, self._truth, guess, keys).mean())

    def gain(self, name: str, predictions: Floats, other: str, others: Floats) -> Gain:
        """How much better ``name`` is than ``other``; for a loss, positive is a lower loss."""
        a, b = self._scorable(predictions), self._scorable(others)
        if np.array_equal(a, b):
            return Gain(0.0, 0.0, 0.0, 0.0, 1.0)  # the same predictions, here and on any other rows
        keys = (self._rows["seeds"], self._rows["folds"])
        left, right = self._drawn(name, a), self._drawn(other, b)
        estimate = self.sign * float(
            fold_scores(self.metric, self._truth, a, keys).mean()
            - fold_scores(self.metric, self._truth, b, keys).mean()
        )
        if self._large and self._is_auc:
            difference = left - right
            error = math.sqrt(float(np.dot(difference, difference)))
            p_value = math.erfc(abs(estimate) / error / math.sqrt(2)) if error > 0 else 1.0
            reach = Z_95 * error
            return Gain(
                estimate, estimate - reach, estimate + reach, error, max(p_value, SMALLEST_P_VALUE)
            )
        draws = self.sign * (left - right)
        if _vary(draws):
            kept = draws[~np.isnan(draws)]
            low, high = np.quantile(kept, [0.025, 0.975])
            side = min(int((kept <= 0).sum()), int((kept >= 0).sum()))
            p_value = min(1.0, 2 * (side + 1) / (kept.size + 1))
            return Gain(estimate, float(low), float(high), float(kept.std(ddof=1)), p_value)
        # Equal in every resample: the bounds that stay honest without variance.
        exact = paired_mean_fold_difference(self._truth, a, b, **self._plan)
        low, high = sorted((self.sign * exact.low, self.sign * exact.high))
        return Gain(estimate, low, high, exact.standard_error, exact.p_value)

    def _scorable(self, predictions: Floats) -> np.ndarray:
        """Predictions as the metric wants them: decisions by the thresholds of other ids or groups."""
        guess = one_column(predictions)
        if not self._decides:
            return guess
        seeds, folds = self._rows["seeds"], self._rows["folds"]
        return nested_decisions(self.metric, self._truth, guess, seeds, folds, self._units)

    def _drawn(self, name: str, guess: np.ndarray) -> np.ndarray:
        """Resampled scores, or for large AUCs every unit's influence."""
        if name not in self._draws:
            if self._large and self._is_auc:
                columns = self._truth.ndim == 2
                pairs = (
                    zip(self._truth.T, guess.T, strict=True) if columns else [(self._truth, guess)]
                )
                parts = [
                    mean_fold_auc_influence(truth, values, **self._rows, units=self._units)[1]
                    for truth, values in pairs
                ]
                self._draws[name] = np.mean(parts, axis=0).astype(np.float32)
            else:
                self._draws[name] = mean_fold_bootstrap_scores(self._truth, guess, **self._plan)
        return self._draws[name]

    def forget(self, name: str) -> None:
        """Free what is remembered under a name."""
        self._draws.pop(name, None)


def one_column(table: np.ndarray) -> np.ndarray:
    """(N, 1) as (N,)."""
    return table[:, 0] if table.shape[1] == 1 else table


def _vary(draws: np.ndarray) -> bool:
    kept = draws[~np.isnan(draws)]
    return kept.size * 2 >= draws.size and kept.size > 1 and bool(np.ptp(kept) > 1e-13)
