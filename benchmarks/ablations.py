"""What each part of the recipes is worth: one factor at a time, small films, few epochs, out of fold.

Every arm trains the package in place, in a process of its own, on the same folds, and differs from the arm
it is compared with in one thing. An arm that has finished is not trained again, so the command can be
stopped and run again. Prints a table (mean over folds, pooled, difference with its 95 % interval, paired
DeLong p on pooled scores) and writes it as JSON.

    python benchmarks/ablations.py --data FOLDER --out FOLDER [--arms NAME ...] [--seed 0] [--list]
"""

# ruff: noqa: E402 (the path comes first)

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kernels.config import (
    DistilConfig,
    FoldsConfig,
    HeadConfig,
    MixConfig,
    OptimConfig,
    SimSiamConfig,
    SupervisedConfig,
    TrainConfig,
    ssl_weights_file,
)
from kernels.contract import MANIFEST_FILE, OOF_FILE
from kernels.strategies.lite0 import DISTIL
from kernels.strategies.ssl import SSL_CPU

LITE0 = "tf_efficientnet_lite0.in1k"
SIZE, EPOCHS = 96, 3
SSL_WEIGHTS = ssl_weights_file("tf_efficientnet_lite0")

FINE_TUNE = TrainConfig(
    optim=OptimConfig(name="adamw", lr=4e-4, head_lr=2e-3, weight_decay=0.01, schedule="one_cycle"),
    augment=DISTIL.augment,
    epochs=EPOCHS,
    batch_size=32,
    label_smoothing=0.05,
    ema_decay=0.98,
)
TUNED = SupervisedConfig(
    backbone=LITE0,
    image_size=SIZE,
    clahe=False,
    head=HeadConfig(final_dropout=0.2),
    train=FINE_TUNE,
    tta=("plain", "hflip"),
)
FROZEN = replace(
    SSL_CPU,
    image_size=SIZE,
    ssl_image_size=64,
    ssl_epochs=0,
    pairs="views",
    cached_views=4,
    tta_views=2,
    train=replace(SSL_CPU.train, epochs=20),
)
SELF_TRAINED = replace(
    DISTIL,
    image_size=SIZE,
    frozen_stages=3,
    labelled_views=4,
    teacher=replace(DISTIL.teacher, epochs=4),
    student=None,
)


@dataclass(frozen=True)
class Arm:
    """One training. ``against`` names the arm it differs from in one thing."""

    name: str
    pipeline: str
    config: SupervisedConfig | SimSiamConfig | DistilConfig
    what: str
    against: str | None = None
    weights_of: str | None = None  # an arm whose self-supervised backbone this one starts from
    networks_of: str | None = None  # an arm whose networks predict again, nothing is trained


SSL_EPOCHS = 3
ARMS = (
    Arm("frozen random", "simsiam", replace(FROZEN, weights="random"), "frozen, random weights", "frozen"),
    Arm("frozen", "simsiam", FROZEN, "frozen, ImageNet"),
    Arm(
        "frozen simsiam",
        "simsiam",
        replace(FROZEN, ssl_epochs=SSL_EPOCHS),
        "frozen, ImageNet + SimSiam",
        "frozen",
    ),
    Arm(
        "frozen neighbours",
        "simsiam",
        replace(FROZEN, ssl_epochs=SSL_EPOCHS, pairs="neighbours"),
        "frozen, ImageNet + neighbour SimSiam",
        "frozen simsiam",
    ),
    Arm("tuned", "supervised", TUNED, "fine-tuned, ImageNet", "frozen"),
    Arm("tuned random", "supervised", replace(TUNED, weights="random"), "fine-tuned, random start", "tuned"),
    Arm(
        "tuned simsiam",
        "supervised",
        replace(TUNED, weights=SSL_WEIGHTS),
        "fine-tuned, ImageNet + SimSiam",
        "tuned",
        "frozen simsiam",
    ),
    Arm(
        "tuned neighbours",
        "supervised",
        replace(TUNED, weights=SSL_WEIGHTS),
        "fine-tuned, ImageNet + neighbour SimSiam",
        "tuned simsiam",
        "frozen neighbours",
    ),
    Arm("clahe", "supervised", replace(TUNED, clahe=True), "+ CLAHE", "tuned"),
    Arm(
        "mixing",
        "supervised",
        replace(
            TUNED,
            train=replace(
                FINE_TUNE, mix=MixConfig(mixup_alpha=0.4, cutmix_alpha=1.0, clean_last_epochs=1)
            ),
        ),
        "+ MixUp and CutMix",
        "tuned",
    ),
    Arm("no ema", "supervised", replace(TUNED, train=replace(FINE_TUNE, ema_decay=None)), "- EMA", "tuned"),
    Arm("no tta", "supervised", replace(TUNED, tta=("plain",)), "- test-time views", "tuned", networks_of="tuned"),
    Arm("teacher", "distil", SELF_TRAINED, "later stages fine-tuned"),
    Arm(
        "student",
        "distil",
        replace(SELF_TRAINED, student=replace(DISTIL.teacher, epochs=2, label_smoothing=0.0)),
        "+ pseudo-labels",
        "teacher",
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="train/ val/ val.csv test/ ...")
    parser.add_argument("--out", type=Path, required=True, help="where arms are kept")
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    parser.add_argument("--list", action="store_true", help="name the arms and stop")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # the process of one arm
    options = parser.parse_args()
    if options.list:
        for arm in ARMS:
            print(
                f"{arm.name:20} {arm.what}" + (f" (against {arm.against})" if arm.against else "")
            )
        return
    arms = [arm for arm in ARMS if not options.arms or arm.name in options.arms]
    if options.train:
        train(next(arm for arm in ARMS if arm.name == options.train), options)
        return
    for arm in arms:
        if (folder_of(arm.name, options) / "working" / MANIFEST_FILE).is_file():
            continue
        print(f"training: {arm.name}", file=sys.stderr, flush=True)
        log = folder_of(arm.name, options).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--train", arm.name, "--seed", str(options.seed)]
        command += ["--data", str(options.data), "--out", str(options.out)]
        with log.open("w") as handle:
            # Allocator settings must be there when the interpreter starts: kernels/blocks/entry.py.
            done = subprocess.run(
                command,
                stdout=handle,
                stderr=handle,
                env=os.environ | start_variables(),
                check=False,
            )
        if done.returncode:
            raise SystemExit(f"{arm.name} failed; its log: {log}")
    rows = [row for arm in arms if (row := measure(arm, options))]
    print_table(rows)
    (options.out / f"ablations-seed{options.seed}.json").write_text(json.dumps(rows, indent=2))


def start_variables() -> dict[str, str]:
    from kernels.blocks.process import START_VARIABLES

    return START_VARIABLES


def folder_of(name: str, options: argparse.Namespace) -> Path:
    return options.out / f"seed{options.seed}" / name.replace(" ", "-")


def train(arm: Arm, options: argparse.Namespace) -> None:
    """Run one arm's pipeline in place."""
    from kernels.blocks.entry import library_versions
    from kernels.blocks.outputs import OutputWriter
    from kernels.blocks.paths import KagglePaths
    from kernels.blocks.seed import seed_everything
    from kernels.competitions.masked_xray import COMPETITION, read_tables

    folder = folder_of(arm.name, options)
    paths = KagglePaths(folder / "input", folder / "working", options.out / "temp")
    for part in (paths.working, paths.temp):
        part.mkdir(parents=True, exist_ok=True)
    config = replace(arm.config, folds=FoldsConfig(seeds=(options.seed,)))
    writer = OutputWriter(COMPETITION, paths)
    if arm.weights_of:
        writer.datasets = {"self-supervised": folder_of(arm.weights_of, options) / "working"}
    started = time.monotonic()
    seed_everything(options.seed)
    tables = replace(read_tables(options.data), test_targets=None)
    if arm.networks_of:
        predict_again(arm, config, tables, writer, folder_of(arm.networks_of, options) / "working")
    else:
        import_module(f"kernels.pipelines.{arm.pipeline}").run(config, tables, writer)
    writer.note(seconds=round(time.monotonic() - started, 1), profile="cpu")
    spec = {"strategy": f"ablation {arm.name}", "profile": "cpu"}
    writer.finish(spec, config, library_versions(), "0" * 64)


def predict_again(arm: Arm, config: Any, tables: Any, writer: Any, source: Path) -> None:
    """Another arm's networks on the films they held out, seen as this arm's config says."""
    from kernels.blocks.checkpoints import file_stem, load_classifier
    from kernels.blocks.devices import choose_compute
    from kernels.blocks.images import load_images
    from kernels.blocks.predicting import predict_probs
    from kernels.contract import CHECKPOINT_FOLDER

    compute = choose_compute(config.device, config.precision)
    cache = writer.paths.temp / "images"
    films, _ = load_images(
        list(tables.labelled["path"]), config.image_size, cache, "labelled films"
    )
    test, _ = load_images(list(tables.test["path"]), config.image_size, cache, "test films")
    assert arm.networks_of
    held = predictions(source)
    place = {name: row for row, name in enumerate(tables.labelled["id"])}
    for (seed, fold), rows in held.groupby(["seed", "fold"]):
        name = f"{file_stem(config.backbone)}_best_seed{seed}_fold{fold}.pth"
        model, _ = load_classifier(source / CHECKPOINT_FOLDER / name)
        compute.place(model)
        chosen = films[[place[name] for name in rows["id"]]]
        probs, test_probs = (
            predict_probs(model, images, config.tta, config.train.batch_size, compute)
            for images in (chosen, test)
        )
        truth = rows["target_label"].to_numpy()
        writer.add_oof(list(rows["id"]), seed, fold, truth, probs)
        writer.add_test(list(tables.test["id"]), seed, fold, test_probs)


def predictions(outputs: Path) -> Any:
    """Out-of-fold rows of a finished arm's output folder, sorted by id, or None."""
    import pandas as pd

    path = outputs / OOF_FILE
    return pd.read_csv(path).sort_values("id", ignore_index=True) if path.is_file() else None


def measure(arm: Arm, options: argparse.Namespace) -> dict[str, Any]:
    """One line of the table."""
    from kernels.stats.auc import auc_score
    from kernels.stats.folds import mean_fold_auc
    from kernels.stats.paired import delong_test, paired_mean_fold_difference

    own = predictions(folder_of(arm.name, options) / "working")
    if own is None:
        return {}
    truth, scores = own["target_label"].to_numpy(), own["pred_label"].to_numpy()
    keys = (own["seed"].to_numpy(), own["fold"].to_numpy())
    facts = json.loads((folder_of(arm.name, options) / "working" / "metrics.json").read_text())
    row: dict[str, Any] = {
        "arm": arm.name,
        "what": arm.what,
        "n": len(own),
        "mean_fold": mean_fold_auc(truth, scores, *keys),
        "pooled": auc_score(truth, scores),
        "seconds": facts["seconds"],
    }
    other = predictions(folder_of(arm.against, options) / "working") if arm.against else None
    if other is not None:
        assert (other["id"] == own["id"]).all()
        assert (other["fold"] == own["fold"]).all()
        rival = other["pred_label"].to_numpy()
        gain = paired_mean_fold_difference(truth, scores, rival, *keys)
        test = delong_test(truth, scores, rival)
        row |= {
            "against": arm.against,
            "gain": gain.difference,
            "low": gain.low,
            "high": gain.high,
            "pooled_gain": test.difference,
            "p": test.p_value,
        }
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| arm | mean over folds | pooled | against | gain, 95 % interval | DeLong p | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        gain = p = ""
        if "gain" in row:
            gain = f"{row['gain']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
            p = f"{row['p']:.3f}"
        print(
            f"| {row['what']} | {row['mean_fold']:.4f} | {row['pooled']:.4f} | "
            f"{row.get('against', '')} | {gain} | {p} | {row['seconds']:.0f} |"
        )


if __name__ == "__main__":
    main()
