"""Members of a blend side by side: one array of out-of-fold predictions, checked row by row. Pure.

Members are added one at a time, so that one member's tables are in memory beside the array. Up to
EXACT_VALUES numbers are kept as float64, above that as float32 (256 MB for 64 members x 1,000,000
rows). What would make a comparison meaningless is refused here: other ids, other folds, other
labels, rows that leak.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import BlendError
from harness.outputs import KEYS, RunOutputs
from kernels.config import Competition
from kernels.contract import (
    FOLD_COLUMN,
    ID_COLUMN,
    PREDICTION_PREFIX,
    SEED_COLUMN,
    TARGET_PREFIX,
)
from kernels.stats.metrics import find_metric

if TYPE_CHECKING:
    import pandas as pd

EXACT_VALUES = 8_000_000  # predictions kept as float64: 64 MB
COPY_ROWS = 20  # from here on, predictions that equal the labels are no coincidence

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


@dataclass(frozen=True)
class MemberTable:
    """M members on the same N rows of T targets, sorted by (seed, fold, id)."""

    names: tuple[str, ...]
    imported: frozenset[str]  # names of members that came from elsewhere
    metric: str
    ids: np.ndarray  # (N,), text
    seeds: Integers  # (N,)
    folds: Integers  # (N,)
    units: Integers  # (N,): number of the row's group where groups are known, else of its id
    grouped: bool
    targets: NDArray[np.int8]  # (N, T)
    predictions: Floats  # (M, N, T)
    test_ids: np.ndarray  # sorted

    @property
    def cells(self) -> list[slice]:
        """Rows of every (seed, fold)."""
        change = (np.diff(self.seeds) != 0) | (np.diff(self.folds) != 0)
        edges = [0, *(np.flatnonzero(change) + 1).tolist(), len(self.seeds)]
        return [slice(a, b) for a, b in pairwise(edges)]

    @property
    def n(self) -> int:
        """How many different labelled ids there are."""
        return int(self.id_codes.max()) + 1

    @property
    def id_codes(self) -> Integers:
        """Number of every row's id, shape (N,)."""
        import pandas as pd

        codes: Integers = pd.factorize(self.ids)[0]
        return codes

    def member(self, name: str) -> Floats:
        """One member's predictions, (N, T)."""
        row: Floats = self.predictions[self.names.index(name)]
        return row

    def subset(self, names: Sequence[str]) -> "MemberTable":
        """The same rows with some of the members, in the given order."""
        if tuple(names) == self.names:
            return self
        rows = [self.names.index(name) for name in names]
        return MemberTable(
            tuple(names),
            self.imported & set(names),
            self.metric,
            self.ids,
            self.seeds,
            self.folds,
            self.units,
            self.grouped,
            self.targets,
            self.predictions[rows],
            self.test_ids,
        )


def metric_of(competition: Competition) -> str:
    """The competition's metric under the name that fits its number of targets."""
    several = len(competition.target_columns) > 1
    return "macro_auc" if several and competition.metric == "auc" else competition.metric


def higher_is_better(competition: Competition) -> bool:
    """Which way is up, as the metric itself says."""
    return find_metric(metric_of(competition)).greater_is_better


class TableBuilder:
    """Lines members up by (id, seed, fold), one after the other."""

    def __init__(
        self,
        competition: Competition,
        capacity: int,
        groups: "pd.Series[str] | None" = None,
        allow_shared_ids: bool = False,
    ) -> None:
        """Make room for members.

        Args:
            capacity: The most members that will be added.
            groups: Group by id (patients): rows of one group must share a fold.
            allow_shared_ids: Labelled and test ids may coincide (two tables that count from 0).
        """
        self.competition, self.capacity = competition, capacity
        self.groups, self.allow_shared_ids = groups, allow_shared_ids
        self.truth_columns = [TARGET_PREFIX + name for name in competition.target_columns]
        self.guess_columns = [PREDICTION_PREFIX + name for name in competition.target_columns]
        self.names: list[str] = []
        self.imported: set[str] = set()
        self._keys: pd.DataFrame | None = None
        self._targets: NDArray[np.int8] = np.empty((0, 0), dtype=np.int8)
        self._predictions: Floats = np.empty((0, 0, 0))
        self._test_ids: np.ndarray = np.empty(0)

    def add(self, outputs: RunOutputs, imported: bool = False) -> None:
        """Check a member against the first one and keep its predictions.

        Raises:
            BlendError: It was scored on other ids or folds, disagrees on a label, predicts other test
                rows, or holds rows that leak.
        """
        if self._keys is None:
            self._start(outputs)
        else:
            self._compare(outputs)
        guess = outputs.oof[self.guess_columns].to_numpy(dtype=np.float64)
        if len(guess) >= COPY_ROWS and np.abs(guess - self._targets).max() < 1e-9:
            raise BlendError(
                f"{outputs.run_id} predicts its own labels: every out-of-fold prediction equals the "
                "target, so labels leaked into it.",
                "Leave it out with --runs, or find where the labels entered.",
            )
        self._predictions[len(self.names)] = guess
        self.names.append(outputs.run_id)
        if imported:
            self.imported.add(outputs.run_id)

    def _start(self, first: RunOutputs) -> None:
        self._keys = first.oof[KEYS].reset_index(drop=True)
        self._targets = first.oof[self.truth_columns].to_numpy(dtype=np.int8)
        self._test_ids = _test_ids(first)
        n_rows, width = self._targets.shape
        exact = self.capacity * n_rows * width <= EXACT_VALUES
        self._predictions = np.empty(
            (self.capacity, n_rows, width), dtype=np.float64 if exact else np.float32
        )
        if not self.allow_shared_ids:
            labelled = self._keys[ID_COLUMN]
            shared = labelled[labelled.isin(self._test_ids)]
            if len(shared):
                raise BlendError(
                    f"{shared.nunique()} ids are both labelled and in the test set (first: "
                    f"{shared.iloc[0]}): rows that leak are not blended.",
                    "If the two tables merely count alike, say so with --shared-ids.",
                )
        if self.groups is not None:
            self._check_groups()

    def _check_groups(self) -> None:
        assert self._keys is not None
        assert self.groups is not None
        labels = self._keys[ID_COLUMN].map(self.groups)
        unknown = self._keys.loc[labels.isna(), ID_COLUMN]
        if len(unknown):
            raise BlendError(
                f"{unknown.nunique()} labelled ids have no group (first: {unknown.iloc[0]})."
            )
        placed = self._keys.assign(group=labels)[[SEED_COLUMN, FOLD_COLUMN, "group"]]
        placed = placed.drop_duplicates()
        split = placed[placed.duplicated([SEED_COLUMN, "group"])]
        if len(split):
            raise BlendError(
                f"{split['group'].nunique()} groups are spread over several folds (first: "
                f"{split['group'].iloc[0]}): rows of one group leak into each other's scores.",
                "Train again with folds that keep groups together.",
            )

    def _compare(self, other: RunOutputs) -> None:
        assert self._keys is not None
        first = self.names[0]
        keys = other.oof[KEYS].reset_index(drop=True)
        if not keys.equals(self._keys):
            mine, theirs = set(self._keys[ID_COLUMN]), set(keys[ID_COLUMN])
            missing = mine ^ theirs
            if missing:
                raise BlendError(
                    f"Runs {first} and {other.run_id} were scored on different images: "
                    f"{len(missing)} ids are in one only (first: {min(missing)}).",
                    "Blend runs of the same data and profile; name them with --runs.",
                )
            raise BlendError(
                f"Runs {first} and {other.run_id} used different folds or seeds.",
                "Push them again with the same --seed and fold settings.",
            )
        truth = other.oof[self.truth_columns].to_numpy(dtype=np.int8)
        if not np.array_equal(truth, self._targets):
            row = int((truth != self._targets).any(axis=1).argmax())
            raise BlendError(
                f"Runs {first} and {other.run_id} disagree on labels (first: "
                f"{self._keys[ID_COLUMN].iloc[row]})."
            )
        test_ids = _test_ids(other)
        if not np.array_equal(self._test_ids, test_ids):
            missing = set(self._test_ids) ^ set(test_ids)
            raise BlendError(
                f"Runs {first} and {other.run_id} predict different test images: {len(missing)} ids "
                f"are in one only (first: {min(missing)})."
            )

    def finish(self) -> MemberTable:
        """The table (BlendError when nothing was added)."""
        import pandas as pd

        if self._keys is None:
            raise BlendError("There is nothing to blend.", "Push strategies, then: harness pull")
        ids = self._keys[ID_COLUMN]
        labels = ids if self.groups is None else ids.map(self.groups)
        return MemberTable(
            names=tuple(self.names),
            imported=frozenset(self.imported),
            metric=metric_of(self.competition),
            ids=ids.to_numpy(),
            seeds=self._keys[SEED_COLUMN].to_numpy(),
            folds=self._keys[FOLD_COLUMN].to_numpy(),
            units=pd.factorize(labels)[0],
            grouped=self.groups is not None,
            targets=self._targets,
            predictions=self._predictions[: len(self.names)],
            test_ids=self._test_ids,
        )


def _test_ids(outputs: RunOutputs) -> np.ndarray:
    """Test ids of one (seed, fold), sorted; the reader has checked that all have the same."""
    test = outputs.test
    first = (test[SEED_COLUMN] == test[SEED_COLUMN].iloc[0]) & (
        test[FOLD_COLUMN] == test[FOLD_COLUMN].iloc[0]
    )
    ids: np.ndarray = np.sort(test.loc[first, ID_COLUMN].to_numpy())
    return ids


def line_up(
    outputs: Iterable[RunOutputs],
    competition: Competition,
    capacity: int,
    *,
    imported: frozenset[str] = frozenset(),
    groups: "pd.Series[str] | None" = None,
    allow_shared_ids: bool = False,
    progress: Callable[[str], None] | None = None,
) -> MemberTable:
    """All members in one table; see TableBuilder for what is refused."""
    builder = TableBuilder(competition, capacity, groups, allow_shared_ids)
    for number, item in enumerate(outputs, 1):
        builder.add(item, imported=item.run_id in imported)
        if progress is not None and len(item.oof) * capacity > 1_000_000:
            progress(f"read member {number} of {capacity}: {item.run_id}, {len(item.oof):,} rows")
    return builder.finish()
