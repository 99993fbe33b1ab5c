"""How much of a score needs no film at all: metadata-only AUC, and shift between sets of films.

Width, file size and container predict the label in public chest data (file size alone: AUC 0.88 on
224-pixel copies), so these numbers stand beside every result. Models must not see what is measured here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.blocks.entry import say
from kernels.blocks.features import extract_features
from kernels.blocks.folds import assign_folds
from kernels.blocks.grouping import strata_of
from kernels.blocks.outputs import OutputWriter
from kernels.config import FoldsConfig
from kernels.stats.auc import auc_score

METADATA_NAMES = (
    "width",
    "height",
    "aspect",
    "channels",
    "has_alpha_or_palette",
    "file_bytes",
    "jpeg_quality",
)
# The luminance table of the JPEG standard, Annex K.1, in file (zigzag) order: the base of the
# quality scale of libjpeg and its kin.
STANDARD_LUMINANCE = (
    (16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40)
    + (26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51)
    + (56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87)
    + (95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99)
)
SHIFT_AUC = 0.6  # above it two sets of films can be told apart


def jpeg_quality(table: Sequence[int]) -> float:
    """The libjpeg quality (1 to 100) whose luminance table is nearest to this one.

    Args:
        table: 64 steps. Their order does not matter: both tables are compared sorted, since decoders
            differ in the order they give.
    """
    standard = np.sort(np.array(STANDARD_LUMINANCE))
    given = np.sort(np.asarray(table, dtype=np.float64))
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    candidates = np.clip((standard[None, :] * scale[:, None] + 50) // 100, 1, 255)
    return float(quality[np.abs(candidates - given).sum(axis=1).argmin()])


def read_metadata(paths: Sequence[str]) -> np.ndarray:
    """What file headers tell, without a look at the pixels.

    Returns:
        float64 (N, 7), columns as in METADATA_NAMES; jpeg_quality is 0 for other formats.

    Raises:
        ValueError: Naming the first file that is no image.
    """
    from PIL import Image

    rows = np.zeros((len(paths), len(METADATA_NAMES)))
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                width, height = image.size
                bands = image.getbands()
                tables = getattr(image, "quantization", None) or {}
        except OSError as error:
            raise ValueError(f"{path} has no readable header: {error}") from error
        luminance = tables.get(min(tables)) if tables else None
        rows[row] = (
            width,
            height,
            width / height,
            len(bands),
            float("A" in bands or "P" in bands),
            Path(path).stat().st_size,
            jpeg_quality(luminance) if luminance is not None else 0.0,
        )
    return rows


def shallow_auc(features: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Out-of-fold AUC of two small classifiers, mean over folds; everything is fitted inside the fold.

    Args:
        features: Shape (N, D), finite.
        targets: 0 or 1, shape (N,).
        folds: Fold of each row, shape (N,); every fold needs both classes.

    Returns:
        ``logistic`` (linear in standardised columns) and ``boosting`` (trees: thresholds and interactions).
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "boosting": HistGradientBoostingClassifier(
            max_iter=60, max_leaf_nodes=8, min_samples_leaf=10, early_stopping=False, random_state=0
        ),
    }
    result = {}
    # Tables this small lose more to the meeting of threads than they gain; one thread repeats itself, too.
    with threadpool_limits(1):
        for name, model in models.items():
            scores = []
            for fold in np.unique(folds):
                train, held_out = folds != fold, folds == fold
                model.fit(features[train], targets[train])
                guesses = model.predict_proba(features[held_out])[:, 1]
                scores.append(auc_score(targets[held_out], guesses))
            result[name] = float(np.mean(scores))
    return result


def metadata_auc(paths: Sequence[str], targets: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    """AUC of metadata alone on the folds of the real model, for metrics.json.

    Args:
        paths: The labelled films' files, N of them.
        targets: 0 or 1, shape (N,).
        folds: Fold of each row, shape (N,), as from ``assign_folds``.

    Returns:
        ``logistic`` and ``boosting`` AUC (mean over folds), and which columns vary at all: when none
        does, both are 0.5 and nothing was tried.
    """
    table = read_metadata(paths)
    varying = [bool(np.ptp(column) > 0) for column in table.T]
    names = [name for name, varies in zip(METADATA_NAMES, varying, strict=True) if varies]
    if not names:
        return {"logistic": 0.5, "boosting": 0.5, "varying": names, "n": len(paths)}
    return {
        **shallow_auc(table[:, varying], np.asarray(targets), folds),
        "varying": names,
        "n": len(paths),
    }


def adversarial_auc(
    features: np.ndarray, others: np.ndarray, folds: int = 5, seed: int = 0
) -> dict[str, Any]:
    """Can two sets of films (train and test, labelled and unlabelled) be told apart by features?

    Args:
        features: Shape (N, D), finite.
        others: Shape (M, D).
        folds: Folds of the cross-validation; fewer when a set has fewer rows.
        seed: Shuffles rows into folds.

    Returns:
        Cross-validated AUC of ``logistic`` and ``boosting``, 0.5 when the sets are alike; ``shift`` is
        True when either is above 0.6.

    Raises:
        ValueError: If a set has fewer than two rows, or columns differ.
    """
    from sklearn.model_selection import StratifiedKFold

    if features.shape[1] != others.shape[1]:
        raise ValueError(f"sets have {features.shape[1]} and {others.shape[1]} features")
    smaller = min(len(features), len(others))
    if smaller < 2:
        raise ValueError(f"a set of {smaller} films cannot be compared; at least 2")
    table = np.concatenate([features, others])
    origin = np.repeat([0, 1], [len(features), len(others)])
    splitter = StratifiedKFold(min(folds, smaller), shuffle=True, random_state=seed)
    fold_of = np.empty(len(table), dtype=np.intp)
    for fold, (_, held_out) in enumerate(splitter.split(table, origin)):
        fold_of[held_out] = fold
    scores = shallow_auc(table, origin, fold_of)
    return {
        **scores,
        "shift": max(scores.values()) > SHIFT_AUC,
        "n": [len(features), len(others)],
    }


def shortcut_facts(
    paths: Sequence[str],
    target: np.ndarray,
    folds: np.ndarray,
    features: np.ndarray,
    test_features: np.ndarray,
) -> dict[str, Any]:
    """``metadata_auc`` and ``adversarial_auc`` for metrics.json, each said in a line.

    Args:
        paths: The labelled films' files, N of them.
        target: 0 or 1, shape (N,), and ``folds``: of each row.
        features: Hand-crafted ones of the labelled films, shape (N, D), and of the test films, (M, D).
    """
    facts = {"metadata_auc": metadata_auc(paths, target, folds)}
    if len(test_features) > 1:
        facts["adversarial_auc"] = adversarial_auc(features, test_features)
    for key, words in (
        ("metadata_auc", "metadata-only"),
        ("adversarial_auc", "labelled against test"),
    ):
        if key in facts:
            found = facts[key]
            say(f"{words} AUC {found['logistic']:.4f} logistic, {found['boosting']:.4f} boosting")
    return facts


def note_shortcuts(
    writer: OutputWriter,
    paths: Sequence[str],
    targets: np.ndarray,
    groups: np.ndarray,
    config: FoldsConfig,
    films: np.ndarray,
    test_films: np.ndarray,
    glcm_levels: int = 32,
) -> None:
    """Put ``shortcut_facts`` beside the result of a run that has no features of its own.

    A worker leaves it to its parent.

    Args:
        targets: 0 or 1, shape (N, K); metadata is asked for the first column.
        groups: As the folds have them, shape (N,).
        films: uint8 (N, S, S), and ``test_films`` (M, S, S), as the run sees them.
        glcm_levels: Of the hand-crafted features that the two sets are told apart by.
    """
    if writer.session.share is not None:
        return
    folds = assign_folds(strata_of(targets, config.count), groups, config.count, config.seeds[0])
    features, test_features = (extract_features(part, glcm_levels) for part in (films, test_films))
    writer.note(**shortcut_facts(paths, targets[:, 0], folds, features, test_features))
