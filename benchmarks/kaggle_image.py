"""Every rendered script in the library versions of Kaggle's image: run in the small profile, on drawn films.

Makes a second environment (``.harness/kaggle-image``) that has the versions of harness/kaggle_image.py and
takes everything else, torch above all, from the environment this runs in; renders every strategy and
variant, runs each script alone there as Kaggle would, and checks what it wrote. Prints a table, says what is
untried, and exits with 1 when a script failed.

    make kaggle-image
    python benchmarks/kaggle_image.py [--only NAME ...] [--keep FOLDER]
"""

# ruff: noqa: E402 (the path comes first)

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.kaggle_image import IMAGE_DATE, IMAGE_PACKAGES, IMAGE_PYTHON
from harness.records import RunSpec
from harness.registry import load_competition, load_strategy, module_names, variants_of
from harness.render import render_kernel
from harness.synthetic import draw_competition, draw_folder_competition
from kernels.contract import MANIFEST_FILE, FileRecord, file_faults, manifest_faults

# What scripts import and a rehearsal can have in the image's versions. torch is gigabytes: the installed
# one is taken, and said to be.
PINNED = {
    "numpy": "numpy",
    "opencv-python-headless": "opencv-python",  # the same code; the plain build needs libGL
    "pandas": "pandas",
    "pillow": "pillow",
    "scikit-image": "scikit-image",
    "scikit-learn": "scikit-learn",
    "scipy": "scipy",
    "timm": "timm",
}
NEEDED_BY_THEM = ("pytz",)  # pandas 2 asks for it; the rest of what they need is installed already
ENVIRONMENT = ROOT / ".harness" / "kaggle-image"
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Outcome:
    """What became of one script."""

    label: str
    seconds: float
    score: float | None
    fault: str | None  # one line; None when it passed


def pins() -> list[str]:
    """``name==version`` of everything that is pinned."""
    return [f"{name}=={IMAGE_PACKAGES[source]}" for name, source in PINNED.items()]


def make_environment(folder: Path) -> Path:
    """The second environment's Python; made when it is not there in these versions.

    Its own packages come first on the path; a .pth file adds this environment's behind them.
    """
    python = folder / "bin" / "python"
    mark = folder / "pins.txt"
    wanted = "\n".join([sys.version, sys.prefix, *pins()])
    if python.exists() and mark.is_file() and mark.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"making {folder} with {', '.join(pins())}", flush=True)
    venv.create(folder, with_pip=False, symlinks=True)
    # --no-deps: what the pinned ones need besides is in the environment behind them.
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        + ["--no-deps", "--no-compile", "--disable-pip-version-check", *pins(), *NEEDED_BY_THEM],
        check=True,
    )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    mark.write_text(wanted)
    return python


def draw_data(folder: Path) -> dict[str, Path]:
    """Slug -> a small drawn competition, for every competition there is."""
    small = draw_competition(
        folder / "masked", n_unlabelled=24, n_labelled=32, n_test=12, size=96
    ).data_folder
    (folder / "chest").mkdir()
    layout = draw_folder_competition(
        folder / "chest", n_train=28, n_val=4, n_test=12, size=96
    ).data_folder
    return {"masked-xray-challenge": small, "chest-xray-pneumonia": layout}


def run_script(python: Path, name: str, variant: str, data: dict[str, Path], root: Path) -> Outcome:
    """Render one strategy, run the script alone, and check what it wrote."""
    label = name if variant == "default" else f"{name} ({variant})"
    strategy = load_strategy(ROOT, name, variant)
    slug = load_competition(ROOT, strategy.competition).slug
    (root / "input" / "competitions").mkdir(parents=True)
    (root / "input" / "competitions" / slug).symlink_to(data[slug])
    spec = RunSpec(name, variant, profile="small")
    upstream = {}
    for need in strategy.needs:
        first = root.parent / f"{need}-default"
        if not (first / "working" / MANIFEST_FILE).is_file():
            outcome = run_script(python, need, "default", data, first)
            if outcome.fault:
                return Outcome(label, outcome.seconds, None, f"{need}: {outcome.fault}")
        upstream[need] = mount_run(first, root / "input" / "notebooks" / "me")
    script = root / "script.py"
    script.write_text(render_kernel(ROOT, strategy, spec, "me", slug, {}, upstream).source)
    started = time.monotonic()
    with (root / "log.txt").open("w") as log:
        try:
            code = subprocess.run(
                [str(python), str(script)],
                check=False,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                cwd=root,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(root),
                    "HARNESS_KAGGLE_ROOT": str(root),
                    "HF_HUB_OFFLINE": "1",
                    **(
                        {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}
                        if "OMP_NUM_THREADS" in os.environ
                        else {}
                    ),
                },
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    seconds = time.monotonic() - started
    if code:
        lines = [line for line in (root / "log.txt").read_text().splitlines() if line.strip()]
        return Outcome(label, seconds, None, (lines or ["no output"])[-1])
    return checked(label, seconds, root / "working")


def mount_run(run: Path, inputs: Path) -> dict[str, str]:
    """Let a script find what another one left; what is baked into it about that run."""
    inputs.mkdir(parents=True)
    (inputs / run.name).symlink_to(run / "working")
    digest = hashlib.sha256((run / "working" / MANIFEST_FILE).read_bytes()).hexdigest()
    return {"slug": run.name, "manifest_sha256": digest}


def checked(label: str, seconds: float, working: Path) -> Outcome:
    """Hold an output folder against the run contract and the pinned versions."""
    manifest = json.loads((working / MANIFEST_FILE).read_text())
    faults = manifest_faults(manifest)
    faults += file_faults(working, [FileRecord(**entry) for entry in manifest["files"]])
    for pin in pins():
        name, _, version = pin.partition("==")
        ran = manifest["versions"].get(name)
        if ran is not None and ran != version:
            faults.append(f"{name} was {ran}, not {version}")
    score = json.loads((working / "metrics.json").read_text())["score_mean_fold"]
    return Outcome(label, seconds, score, faults[0] if faults else None)


def untried() -> list[str]:
    """What of the image this machine does not have, as lines."""
    image_python = ".".join(map(str, IMAGE_PYTHON))
    lines = []
    if platform.python_version_tuple()[:2] != tuple(map(str, IMAGE_PYTHON)):
        lines.append(f"Python {image_python}: here {platform.python_version()}")
    for name in ("torch", "torchvision"):
        here = metadata.version(name).partition("+")[0]
        if here != IMAGE_PACKAGES[name]:
            lines.append(f"{name} {IMAGE_PACKAGES[name]}: here {here}")
    return [*lines, "CUDA and a GPU"]


def main() -> None:
    """Run the scripts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these strategies")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep scripts, logs and outputs"
    )
    arguments = parser.parse_args()
    known = module_names(ROOT, "strategies")
    unknown = sorted(set(arguments.only or ()) - set(known))
    if unknown:
        parser.error(f"unknown strategy {unknown[0]!r}; known: {', '.join(known)}")
    python = make_environment(ENVIRONMENT)
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        data = draw_data(Path(scratch))
        for name in arguments.only or known:
            for variant in variants_of(name):
                root = folder.resolve() / f"{name}-{variant}"
                shutil.rmtree(root, ignore_errors=True)
                outcome = run_script(python, name, variant, data, root)
                outcomes.append(outcome)
                score = "-" if outcome.score is None else f"{outcome.score:.3f}"
                verdict = outcome.fault or "ok"
                print(
                    f"{outcome.label:28} {outcome.seconds:7.0f} s  AUC {score:6} {verdict}",
                    flush=True,
                )
    failed = [outcome for outcome in outcomes if outcome.fault]
    print(f"\nKaggle's image of {IMAGE_DATE}: {', '.join(pins())}")
    print("untried: " + "; ".join(untried()))
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} scripts passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
