"""Reads the layout that most image competitions have: a CSV of labels, folders of images, a sample.

    train.csv               id, one column for each target (or one with class names), perhaps a group
    train/ test/            <id>.jpg, .png, ...
    sample_submission.csv   id, one column for each target: names the test images

A competition's file names what differs; what is odd beyond that is read in its own ``read_tables``.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from kernels.blocks.image_files import find_images, index_images
from kernels.blocks.tables import Tables, check_classes, check_tables
from kernels.config import Competition

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_CSV = "sample_submission.csv"


def read_csv_tables(
    folder: Path,
    competition: Competition,
    labels_csv: str = "train.csv",
    labelled_folder: str = "train",
    test_folder: str = "test",
    unlabelled_folder: str | None = None,
    class_column: str | None = None,
) -> Tables:
    """The three tables of a competition's folder.

    Args:
        folder: The competition's data.
        competition: Names the id column, the targets and perhaps the group column.
        labels_csv: Labels of the images in ``labelled_folder``; "." stands for ``folder`` itself.
        unlabelled_folder: Images without labels; None: there are none.
        class_column: Column of class names, which become one target column each; None: the targets
            are columns already.

    Raises:
        FileNotFoundError: A table or folder is missing, or a listed image has no file.
        ValueError: A column is missing, an id is listed twice, or a label is not 0 or 1.
    """
    import pandas as pd

    targets, id_column = list(competition.target_columns), competition.id_column
    labelled = read_listing(folder / labels_csv, id_column)
    if class_column is not None:
        need_columns(labelled, labels_csv, [class_column])
        unknown = labelled.loc[~labelled[class_column].astype(str).isin(targets), class_column]
        if len(unknown):
            raise ValueError(f"{labels_csv}: class {unknown.iloc[0]!r} is none of {targets}")
        for name in targets:
            labelled[name] = (labelled[class_column].astype(str) == name).astype(int)
    group = competition.group_column
    need_columns(labelled, labels_csv, [*targets, *([group] if group else [])])
    labelled["path"] = find_images(labelled["id"].tolist(), folder / labelled_folder, labels_csv)
    if group:
        labelled["group"] = labelled[group]
    test = read_listing(folder / SAMPLE_CSV, id_column)
    test["path"] = find_images(test["id"].tolist(), folder / test_folder, SAMPLE_CSV)
    extra = index_images(folder / unlabelled_folder) if unlabelled_folder else {}
    known = set(labelled["id"]) | set(test["id"])
    rows = [(name, path) for name, path in extra.items() if name not in known]
    tables = Tables(
        unlabelled=pd.DataFrame(rows, columns=["id", "path"], dtype=object),
        labelled=labelled[["id", "path", *targets, *(["group"] if group else [])]],
        test=test[["id", "path"]],
    )
    check_tables(tables, targets)
    if competition.exclusive:
        check_classes(tables.labelled, targets)
    return tables


def read_listing(csv: Path, id_column: str) -> "pd.DataFrame":
    """A table with its id column as text under ``id``."""
    import pandas as pd

    if not csv.is_file():
        raise FileNotFoundError(f"{csv} does not exist")
    frame = pd.read_csv(csv, dtype={id_column: str})
    need_columns(frame, csv.name, [id_column])
    frame["id"] = frame[id_column]
    return frame


def need_columns(frame: "pd.DataFrame", name: str, columns: list[str]) -> None:
    """Refuse a table without a column (ValueError names it and what is there)."""
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        raise ValueError(f"{name} has no column {absent[0]!r}; it has {list(frame.columns)}")
