"""A training that can stop after an epoch and go on in another session, to the same bits.

A slot is one fit's file in RESUME_FOLDER. Everything that an epoch changes goes in: network, optimiser,
schedule, loss scaler, moving average, best epoch, generators. What is drawn from (seed, epoch) needs no
keeping. A pipeline makes a slot and hands it to ``fit_classifier``; nothing is written unless time runs out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from kernels.blocks.session import BudgetSpent, RunSession


class StatefulPart(Protocol):
    """What a training consists of: torch's networks and optimisers, and our own parts."""

    def state_dict(self) -> Any:
        """Tensors and plain values, nested."""

    def load_state_dict(self, state: Any) -> Any:
        """Become what ``state_dict`` was taken of."""


class GeneratorPart:
    """A numpy generator that is used for longer than an epoch."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def state_dict(self) -> dict[str, str]:
        """As JSON text: its integers are longer than 64 bits."""
        return {"state": json.dumps(self.rng.bit_generator.state)}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Go on from there."""
        self.rng.bit_generator.state = json.loads(state["state"])


def fold_slot(session: RunSession, seed: int, fold: int, name: str = "") -> "TrainingSlot":
    """The slot of a fold's only fit, or of one of several: all but the last of those are kept when done.

    ``fold_slot(session, seed, fold, "teacher")`` and then ``fold_slot(session, seed, fold)``.
    """
    file, stage = f"seed{seed}_fold{fold}", f"seed {seed} fold {fold}"
    if not name:
        return TrainingSlot(session, file, stage)
    return TrainingSlot(session, f"{file}_{name}", f"{stage} {name}", keep_finished=True)


@dataclass(frozen=True)
class TrainingSlot:
    """Where one fit keeps itself between sessions.

    Args:
        session: Whose clock counts and whose folder is used.
        name: Of the file, unique in the run. Names that begin with ``seed<s>_fold<f>`` are cleared
            away when that fold is done.
        stage: The same for people: "seed 0 fold 2".
        keep_finished: Also keep the finished fit, for one that is followed by more work before a fold
            is done: a stage before the folds, or the first of two fits in a fold.
    """

    session: RunSession
    name: str
    stage: str
    keep_finished: bool = False

    @property
    def file(self) -> Path:
        """The slot's file; it need not exist."""
        return self.session.folder / f"{self.name}.pt"

    def restore(
        self, parts: Mapping[str, StatefulPart], history: list[dict[str, Any]]
    ) -> int | None:
        """Put every part where an earlier session left it.

        Args:
            parts: By name; the same as were saved.
            history: Gets the rows of the epochs that are done.

        Returns:
            Epochs done, or None for a fit that is finished (all of them, or stopped early).

        Raises:
            ValueError: The file holds other parts, or another shape of them.
        """
        if not self.file.is_file():
            return 0
        saved: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        if set(saved["parts"]) != set(parts):
            raise ValueError(
                f"{self.file.name} holds {sorted(saved['parts'])}, not {sorted(parts)}; it is another training"
            )
        for name, part in parts.items():
            try:
                part.load_state_dict(saved["parts"][name])
            except (RuntimeError, KeyError) as error:
                raise ValueError(f"{self.file.name}: its {name} does not fit: {error}") from error
        history += json.loads(saved["history"])
        print(f"{self.stage}: going on after epoch {saved['epochs_done']}", flush=True)
        return None if saved["finished"] else int(saved["epochs_done"])

    def pause_if_due(
        self,
        parts: Mapping[str, StatefulPart],
        history: list[dict[str, Any]],
        done: int,
        epochs: int,
        expected_s: float,
    ) -> None:
        """Before an epoch: stop here when it would end after the budget.

        Args:
            done: Epochs done, of ``epochs``.
            expected_s: Seconds that an epoch takes: the longest so far.

        Raises:
            BudgetSpent: After everything was saved.
        """
        if self.session.is_spent(expected_s):
            if done:
                self._save(parts, history, done, finished=False)
            raise BudgetSpent(f"{self.stage}, epoch {done + 1} of {epochs}")

    def finish(
        self, parts: Mapping[str, StatefulPart], history: list[dict[str, Any]], done: int
    ) -> None:
        """After the last epoch: keep the fit if more work follows that wants it again."""
        if self.keep_finished:
            self._save(parts, history, done, finished=True)

    def _save(
        self,
        parts: Mapping[str, StatefulPart],
        history: list[dict[str, Any]],
        done: int,
        finished: bool,
    ) -> None:
        path = self.session.path(self.file.name)
        temporary = path.with_name(path.name + ".part")
        torch.save(
            {
                "parts": {name: part.state_dict() for name, part in parts.items()},
                "history": json.dumps(history),
                "epochs_done": done,
                "finished": finished,
            },
            temporary,
        )
        temporary.replace(path)
