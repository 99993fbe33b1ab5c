"""What the end-to-end tests share: a workspace that runs the real program, and quick pipelines."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from harness.synthetic import SyntheticCompetition

ROOT = Path(__file__).resolve().parents[2]
PLANTED = "KGAT_planted_0123456789abcdef"


@dataclass
class Workspace:
    """Runs the real program in a process of its own, as a user would."""

    folder: Path
    drawn: SyntheticCompetition
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, ok: bool = True, **extra: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            cwd=self.folder,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            timeout=1500,  # a demo beside another worker on two slow cores
            stdin=subprocess.DEVNULL,
        )
        assert "\nTraceback" not in "\n" + done.stderr, done.stderr  # a kernel's is indented
        if ok:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> subprocess.Popen:
        """A command on its way, what it says in pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments: str, **extra: str):
        return json.loads(self.run(*arguments, "--json", **extra).stdout)

    def add_strategy(self, name: str, pipeline: str, **values: object) -> None:
        """A strategy whose pipeline is the given body of ``run(config, tables, writer)``.

        ``values`` are further fields of Strategy.
        """
        more = "".join(f", {field}={value!r}" for field, value in values.items())
        kernels = self.folder / "kernels"
        (kernels / "strategies" / f"{name}.py").write_text(
            "from kernels.config import FeaturesConfig, Profiles, Strategy\n\n"
            f'STRATEGY = Strategy(name="{name}", title="{name} for a test", competition="masked_xray", '
            f'pipeline="{name}", profiles=Profiles(FeaturesConfig(), FeaturesConfig(), FeaturesConfig()){more})\n'
        )
        body = "\n".join("    " + line for line in pipeline.splitlines())
        (kernels / "pipelines" / f"{name}.py").write_text(
            "import numpy as np\n\nfrom kernels.blocks.folds import assign_folds\nfrom kernels.blocks.outputs import OutputWriter\n"
            "from kernels.blocks.tables import Tables\nfrom kernels.config import FeaturesConfig\n\n\n"
            f"def run(config: FeaturesConfig, tables: Tables, writer: OutputWriter) -> None:\n{body}\n"
        )


# Scores by the label itself, with a little noise: a kernel of a second for tests of everything around it.
QUICK_PIPELINE = """
rng = np.random.default_rng(0)
targets = tables.labelled["label"].to_numpy()
ids = tables.labelled["id"].to_numpy()
test_ids = tables.test["id"].tolist()
folds = assign_folds(targets, np.arange(len(ids)), 2, 0)  # those of features_lr in the small profile
for fold in range(2):
    rows = folds == fold
    noise = rng.random(int(rows.sum()))
    writer.add_oof(ids[rows].tolist(), 0, fold, targets[rows], (targets[rows] + 2 * noise) / 3)
    writer.add_test(test_ids, 0, fold, rng.random(len(test_ids)))
writer.checkpoint_path("quick.bin").write_bytes(b"w" * 1000)
"""


def stop_kernels(folder: Path) -> None:
    """End what a failed test may have left running."""
    subprocess.run(["pkill", "-f", str(folder)], check=False)
