"""The public chest X-ray set in its folder layout: ``train|val|test/NORMAL|PNEUMONIA``, scored by AUC.

Nothing but folders: a film's label is the folder it lies in, its patient is in its name. An id is
``<split>/<file name without extension>``, so that splits may repeat a name.

``train`` and ``val`` are joined and split anew, in folds by patient: the 16 films of ``val``, 8 of
each class, move an AUC in steps of 1/64 and cannot choose an epoch, a threshold or a model. ``test`` is
labelled too. Its labels go to ``Tables.test_targets``, which no pipeline is given: they are
read once, by the report, after the last prediction. A flat ``test`` folder is one without labels.

Where the patient is not in the name, a film is a patient of its own; when no name tells one, there is no
``group`` column and near-copies are looked for instead.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from kernels.blocks.image_files import list_images
from kernels.blocks.patients import patient_key
from kernels.blocks.tables import Tables, check_tables
from kernels.config import Competition

if TYPE_CHECKING:
    import pandas as pd

COMPETITION = Competition(
    slug="chest-xray-pneumonia",
    title="Chest X-ray Pneumonia",
    id_column="id",
    target_columns=("pneumonia",),
    metric="auc",
    positive_label="pneumonia",
)

CLASS_FOLDERS = ("NORMAL", "PNEUMONIA")  # in the order of the labels 0 and 1
WRAPPER_FOLDER = "chest_xray"  # the public archive puts everything into one, sometimes twice


def find_layout_root(folder: Path) -> Path:
    """The folder that holds train/ and test/, at most two wrapping folders down (FileNotFoundError)."""
    candidates = (folder, folder / WRAPPER_FOLDER, folder / WRAPPER_FOLDER / WRAPPER_FOLDER)
    for candidate in candidates:
        if all((candidate / "train" / name).is_dir() for name in CLASS_FOLDERS):
            return candidate
    raise FileNotFoundError(
        f"{folder} holds no train/{CLASS_FOLDERS[0]} and train/{CLASS_FOLDERS[1]}; lay the films out "
        "as train|val|test/NORMAL|PNEUMONIA"
    )


def read_split(root: Path, split: str) -> "pd.DataFrame":
    """One split as a frame: id, path, group, and the target where films lie in class folders.

    Raises:
        FileNotFoundError: One class folder is there and the other is not.
    """
    import pandas as pd

    target = COMPETITION.target_columns[0]
    folders = [root / split / name for name in CLASS_FOLDERS]
    there = [folder.is_dir() for folder in folders]
    if any(there) and not all(there):
        raise FileNotFoundError(f"{folders[there.index(False)]} does not exist")
    labelled: list[tuple[Path, int | None]] = []
    if all(there):
        labelled = [(path, label) for label in (0, 1) for path in list_images(folders[label])]
    elif (root / split).is_dir():
        labelled = [(path, None) for path in list_images(root / split)]
    rows = [
        {
            "id": f"{split}/{path.stem}",
            "path": str(path),
            target: label,
            "group": patient_key(path.name),
        }
        for path, label in sorted(labelled, key=lambda item: (item[0].stem, str(item[0])))
    ]
    frame = pd.DataFrame(rows, columns=["id", "path", target, "group"])
    return frame if all(there) else frame.drop(columns=target)


def read_tables(folder: Path) -> Tables:
    """Read the folder layout.

    Raises:
        FileNotFoundError: No train/NORMAL and train/PNEUMONIA, or one class folder of a split is missing.
        ValueError: Two films of a split share a name, or there are none to train on or to predict.
    """
    import pandas as pd

    root, target = find_layout_root(folder), COMPETITION.target_columns[0]
    parts = [read_split(root, split) for split in ("train", "val")]
    # An unlabelled or absent val folder adds nothing.
    labelled = pd.concat([part for part in parts if target in part.columns], ignore_index=True)
    test = read_split(root, "test")
    named = bool(labelled["group"].notna().any())
    for frame in (labelled, test):
        if named:
            frame["group"] = frame["group"].fillna(frame["id"])
        else:
            del frame["group"]
    tables = Tables(
        unlabelled=pd.DataFrame({"id": [], "path": []}, dtype=object),
        labelled=labelled.astype({target: int}),
        test=test.drop(columns=target, errors="ignore"),
        test_targets=test[["id", target]].astype({target: int}) if target in test else None,
    )
    check_tables(tables, COMPETITION.target_columns)
    return tables
