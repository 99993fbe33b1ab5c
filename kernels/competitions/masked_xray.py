"""The masked X-ray challenge: one grey chest film, probability of pneumonia, scored by AUC.

Layout: ``train/`` unlabelled films, ``val/`` labelled by ``val.csv`` (image_id,label), ``test/`` listed
by ``sample_submission.csv``. An image's file is ``<folder>/<image_id>`` with or without an extension.
"""

from pathlib import Path

from kernels.blocks.image_files import find_images, index_images
from kernels.blocks.tables import Tables, check_tables
from kernels.config import Competition

COMPETITION = Competition(
    slug="masked-xray-challenge",
    title="Masked X-ray Challenge",
    id_column="image_id",
    target_columns=("label",),
    metric="auc",
    positive_label="pneumonia",
)


def read_tables(folder: Path) -> Tables:
    """Read the competition's folder.

    Raises:
        FileNotFoundError: A folder or table is missing, or a listed image has no file (first one named).
        ValueError: Duplicated ids or labels that are empty or not 0/1.
    """
    import pandas as pd

    id_column, target = COMPETITION.id_column, COMPETITION.target_columns[0]

    def listed(csv_name: str, images: str, *columns: str) -> "pd.DataFrame":
        csv = folder / csv_name
        if not csv.is_file():
            raise FileNotFoundError(f"{csv} does not exist")
        frame = pd.read_csv(csv, dtype={id_column: str})
        absent = [name for name in (id_column, *columns) if name not in frame.columns]
        if absent:
            raise ValueError(
                f"{csv_name} has no column {absent[0]!r}; it has {list(frame.columns)}"
            )
        frame["id"] = frame[id_column]
        frame["path"] = find_images(frame["id"].tolist(), folder / images, csv_name)
        return frame[["id", "path", *columns]]

    train = folder / "train"
    unlabelled = index_images(train) if train.is_dir() else {}
    tables = Tables(
        unlabelled=pd.DataFrame(
            {"id": list(unlabelled), "path": list(unlabelled.values())}, dtype=object
        ),
        labelled=listed("val.csv", "val", target),
        test=listed("sample_submission.csv", "test"),
    )
    check_tables(tables, COMPETITION.target_columns)
    return tables
