"""The three tables every competition is read into, and the checks that every reader shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tables:
    """Frames with columns ``id`` (str), ``path`` (str) and, where labelled, one column per target.

    ``labelled`` may also have ``group``: rows of one group (patient, study) never part in folds;
    ``test`` may have it too, for intervals. ``test_targets`` (id and targets) exists where a data set
    publishes them: the entry keeps it from the pipeline and hands it to the report at the end.
    """

    unlabelled: "pd.DataFrame"
    labelled: "pd.DataFrame"
    test: "pd.DataFrame"
    test_targets: "pd.DataFrame | None" = None

    def head(self, labelled: int | None, unlabelled: int | None = None) -> "Tables":
        """The first rows only, for rehearsals; None keeps everything. Every class stays in.

        Labelled rows are taken evenly over the table, so that a table sorted by label keeps both.
        """
        if labelled is None and unlabelled is None:
            return self
        return replace(
            self,
            unlabelled=thin_rows(self.unlabelled, unlabelled),
            labelled=thin_rows(self.labelled, labelled),
        )


def thin_rows(frame: "pd.DataFrame", count: int | None) -> "pd.DataFrame":
    """``count`` rows evenly spread over a frame, order kept; the whole frame if it has fewer."""
    if count is None or len(frame) <= count:
        return frame
    picks = [index * len(frame) // count for index in range(count)]
    return frame.iloc[picks].reset_index(drop=True)


def check_tables(tables: Tables, target_columns: Sequence[str]) -> None:
    """Refuse tables that cannot be trained on, naming the first offending ids.

    Raises:
        ValueError: Duplicated ids, missing or non-binary labels, ids in two tables, empty tables.
    """
    for name, frame in (
        ("unlabelled", tables.unlabelled),
        ("labelled", tables.labelled),
        ("test", tables.test),
    ):
        repeated = frame.loc[frame["id"].duplicated(), "id"]
        if len(repeated):
            raise ValueError(
                f"{len(repeated)} duplicated ids among {name} (first: {repeated.iloc[0]})"
            )
    if not len(tables.labelled):
        raise ValueError("no labelled images: nothing to train on")
    if not len(tables.test):
        raise ValueError("no test images: nothing to predict")
    check_labels(tables.labelled, target_columns)
    if tables.test_targets is not None:
        check_labels(tables.test_targets, target_columns)
        if list(tables.test_targets["id"]) != list(tables.test["id"]):
            raise ValueError("the labels of the test images are not those of the test table's rows")
    shared = set(tables.labelled["id"]) & set(tables.test["id"])
    if shared:
        raise ValueError(f"{len(shared)} ids are both labelled and test (first: {min(shared)})")


def check_labels(frame: "pd.DataFrame", target_columns: Sequence[str]) -> None:
    """Refuse labels that are empty or not 0 or 1 (ValueError names the first id)."""
    for column in target_columns:
        missing = frame.loc[frame[column].isna(), "id"]
        if len(missing):
            raise ValueError(
                f"{len(missing)} labels of {column!r} are empty (first: {missing.iloc[0]})"
            )
        odd = frame.loc[~frame[column].isin([0, 1]), "id"]
        if len(odd):
            raise ValueError(
                f"{len(odd)} labels of {column!r} are not 0 or 1 (first: {odd.iloc[0]})"
            )


def check_classes(frame: "pd.DataFrame", target_columns: Sequence[str]) -> None:
    """Refuse rows that are not of exactly one class (ValueError names the first id)."""
    odd = frame.loc[frame[list(target_columns)].sum(axis=1) != 1, "id"]
    if len(odd):
        raise ValueError(f"{len(odd)} rows are not of exactly one class (first: {odd.iloc[0]})")


def labels_of_test(
    tables: Tables, target_columns: Sequence[str]
) -> dict[str, tuple[int, ...]] | None:
    """Labels of the test images by id, one for each target; None where they are not published."""
    frame = tables.test_targets
    if frame is None:
        return None
    rows = zip(frame["id"], frame[list(target_columns)].to_numpy().tolist(), strict=True)
    return {str(name): tuple(int(value) for value in values) for name, values in rows}


def groups_by_id(tables: Tables) -> dict[str, str]:
    """Groups of labelled and test images by id, where the tables name them: intervals respect them."""
    return {
        str(name): str(group)
        for frame in (tables.labelled, tables.test)
        if "group" in frame.columns
        for name, group in zip(frame["id"], frame["group"], strict=True)
    }
