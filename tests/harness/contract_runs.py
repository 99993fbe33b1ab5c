"""Makes output folders in the run contract's form, with the writer that kernels use."""

from pathlib import Path

import numpy as np

from harness.outputs import RunOutputs, read_outputs
from kernels.blocks.outputs import OutputWriter
from kernels.blocks.paths import KagglePaths
from kernels.config import Competition

COMPETITION = Competition(
    slug="toy", title="Toy", id_column="image_id", target_columns=("label",), public_rows=None
)
SCRIPT = "0" * 64


def write_run(
    folder: Path,
    skill: float = 1.0,
    n: int = 60,
    folds: int = 3,
    seed: int = 0,
    n_test: int = 20,
    competition: Competition = COMPETITION,
    films_a_patient: int = 0,
) -> Path:
    """A finished run: predictions are the target's signal times ``skill`` plus noise of ``seed``."""
    folder.mkdir(parents=True)
    rng, truth = np.random.default_rng(seed), np.random.default_rng(99)
    width = len(competition.target_columns)
    targets = (truth.random((n, width)) < 0.6).astype(int)
    signal = 1 / (1 + np.exp(-(skill * (2 * targets - 1) + rng.normal(size=(n, width)))))
    ids = [f"img{i:03d}" for i in range(n)]
    writer = OutputWriter(competition, KagglePaths(folder, folder, folder))
    if films_a_patient:
        writer.groups = {
            name: f"p{i // (folds * films_a_patient)}-{i % folds}" for i, name in enumerate(ids)
        }
    for fold in range(folds):
        rows = np.arange(fold, n, folds)
        writer.add_oof([ids[i] for i in rows], 0, fold, targets[rows], signal[rows])
        writer.add_test(
            [f"test{i:02d}" for i in range(n_test)], 0, fold, rng.random((n_test, width))
        )
    writer.checkpoint_path("model_fold0.bin").write_bytes(b"weights")
    writer.finish({"strategy": "toy"}, None, {"python": "3"}, SCRIPT)
    return folder


def read_run(folder: Path, competition: Competition = COMPETITION) -> RunOutputs:
    """Read a folder made by write_run."""
    return read_outputs(folder, folder.name, competition, SCRIPT)
