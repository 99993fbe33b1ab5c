"""What a report is made from: predictions as rows, and one decision for each film."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.config import Competition


@dataclass(frozen=True)
class PredictionRows:
    """Rows as the run wrote them: one for each film and model. R rows, K targets."""

    ids: list[str]
    cells: list[tuple[int, int]]  # (seed, fold)
    targets: np.ndarray  # 0 or 1, (R, K); empty (R, 0) where they are not known
    probs: np.ndarray  # (R, K)


@dataclass(frozen=True)
class Verdicts:
    """One row for each film, probabilities averaged over the models that predicted it. N films."""

    ids: list[str]
    cells: list[tuple[int, int]]  # (seed, fold) of the first model that predicted it
    targets: np.ndarray  # 0 or 1, (N, K)
    probs: np.ndarray  # (N, K)
    thresholds: np.ndarray  # (N, K): what each film was judged by
    groups: np.ndarray | None  # (N,): rows that are not independent, such as a patient's films

    @property
    def flags(self) -> np.ndarray:
        """True where a film is called positive, (N, K)."""
        return np.asarray(self.probs >= self.thresholds)


@dataclass
class RunReport:
    """What the sections of a report are made from; ``results`` becomes results.json."""

    competition: Competition
    results: dict[str, Any]
    oof: Verdicts
    test: Verdicts | None  # None: the test films have no labels here
    config: Any
