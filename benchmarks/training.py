"""Training and prediction beside plain loops, every variant in processes of its own, in alternation.

    python -m benchmarks.training [--quick]

A process each, since the heap's history decides how often pages fault. Random weights from one seed. The
peer has the defaults of glibc and OpenMP and films that are ready in memory; ours is the pipelines'
functions, views drawn while it trains, with the settings that a kernel script gives itself
(blocks/entry.py).
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.films import drawn_films, jpeg_files
from benchmarks.racing import Line, Options, Same, array_gap, line_of, run_benchmark, run_python
from kernels.blocks.process import START_VARIABLES
from kernels.config import AugmentConfig, HeadConfig, OptimConfig, SimSiamConfig, TrainConfig

LABELLED = 878  # rows, epochs and views of the write-up's fine-tuning with a frozen backbone
EPOCHS = 42
VIEWS = 8
HEAD = HeadConfig(hidden=(1024, 512))  # no dropout: both sides draw nothing, and losses compare
VIEW = AugmentConfig(crop_scale_min=0.8, brightness=0.2, contrast=0.2)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def sizes_of(options: Options) -> dict[str, Any]:
    """Backbone, pixels, rows a step, steps measured, rows of the passes, cached epochs, width of files."""
    return {
        "backbone": options.pick("tf_efficientnet_b0", "tf_efficientnet_b0", "test_efficientnet"),
        "size": options.pick(224, 128, 64),
        "batch": options.pick(32, 16, 4),
        "steps": options.pick(3, 2, 1),
        "rows": options.pick(128, 48, 8),
        "epochs": options.pick(6, 3, 2),
        "film": options.pick(1000, 1000, 240),
    }


# ---- what runs in processes of its own -----------------------------------------------------------


def seeded_trunk(sizes: dict[str, Any]) -> Any:
    """A timm trunk with the weights of one seed."""
    import timm
    import torch

    torch.manual_seed(0)
    return timm.create_model(sizes["backbone"], pretrained=False, num_classes=0)


def rgb(views: np.ndarray) -> Any:
    """uint8 (B, S, S) as scripts have films: normalised, three channels in memory."""
    import torch

    grey = torch.from_numpy(np.array(views)).unsqueeze(1).float() / 255
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (grey - mean) / std


def our_backbone(sizes: dict[str, Any]) -> Any:
    """The project's backbone around the same trunk, with the peer's normalisation."""
    import torch

    from kernels.blocks.models import Backbone

    backbone = Backbone(seeded_trunk(sizes), sizes["backbone"])
    backbone.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    backbone.std = torch.tensor(STD).view(1, 3, 1, 1)
    return backbone


def ssl_setting(sizes: dict[str, Any]) -> tuple[SimSiamConfig, np.ndarray, np.ndarray]:
    """One configuration, its films and partners; two epochs, the first to warm up."""
    count = sizes["batch"] * sizes["steps"]
    config = SimSiamConfig(
        image_size=sizes["size"],
        ssl_epochs=2,
        ssl_batch_size=sizes["batch"],
        ssl_optim=OptimConfig(
            name="sgd", lr=0.0005, weight_decay=0.0, momentum=0.9, schedule="constant"
        ),
        ssl_augment=VIEW,
        probe_every=1,
    )
    return config, drawn_films(count, sizes["size"]), np.roll(np.arange(count), 1)


def our_simsiam(sizes: dict[str, Any], channels_last: bool) -> dict[str, Any]:
    """``pretrain``, as the pipeline calls it; without channels_last the maths is the peer's."""
    import torch

    from kernels.blocks.devices import Compute
    from kernels.blocks.pretraining import pretrain
    from kernels.blocks.simsiam import SimSiam, prediction_head, projection_head

    config, films, partners = ssl_setting(sizes)
    backbone = our_backbone(sizes)
    torch.manual_seed(1)
    model = SimSiam(
        backbone,
        projection_head(backbone.channels, config.projector_hidden, config.projector_out),
        prediction_head(config.projector_out, config.predictor_hidden),
    )
    compute = Compute("cpu", None, "benchmark")
    if channels_last:
        compute.place(model)
    ended: list[float] = []

    def probe() -> dict[str, float]:
        ended.append(time.perf_counter())
        return {}

    history = pretrain(model, films, partners, config, compute, 0, probe)
    return {
        "seconds": (ended[2] - ended[1]) / sizes["steps"],
        "answer": [row["loss"] for row in history[1:]],
    }


def peer_simsiam(sizes: dict[str, Any]) -> dict[str, Any]:
    """lightly's heads and loss in a plain loop, on the views that ours draws, ready in memory."""
    import torch
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules.heads import SimSiamPredictionHead, SimSiamProjectionHead

    from kernels.blocks.pretraining import paired_views
    from kernels.blocks.simsiam import prediction_head, projection_head

    config, films, partners = ssl_setting(sizes)
    rng = np.random.default_rng(0)
    epochs = [
        [
            (rgb(first), rgb(second))
            for first, second in paired_views(films, partners, sizes["batch"], config, rng)
        ]
        for _ in range(config.ssl_epochs)
    ]
    trunk = seeded_trunk(sizes)
    wide, narrow = config.projector_out, config.predictor_hidden
    projector = SimSiamProjectionHead(trunk.num_features, config.projector_hidden, wide)
    predictor = SimSiamPredictionHead(wide, narrow, wide)
    torch.manual_seed(1)  # one start for both: layers are the same, in one order
    for head, twin in (
        (projector, projection_head(trunk.num_features, config.projector_hidden, wide)),
        (predictor, prediction_head(wide, narrow)),
    ):
        values = list(twin.state_dict().values())
        head.load_state_dict(dict(zip(head.state_dict(), values, strict=True)))
    parts = torch.nn.ModuleList([trunk, projector, predictor]).train()
    optimiser = torch.optim.SGD(parts.parameters(), lr=config.ssl_optim.lr, momentum=0.9)
    criterion = NegativeCosineSimilarity()

    def step(first: Any, second: Any) -> float:
        z0, z1 = projector(trunk(first)), projector(trunk(second))
        p0, p1 = predictor(z0), predictor(z1)
        loss = 0.5 * (criterion(p0, z1.detach()) + criterion(p1, z0.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    losses, seconds = [], []
    for batches in epochs:
        started = time.perf_counter()
        losses.append(float(np.mean([step(*batch) for batch in batches])))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[-1] / sizes["steps"], "answer": losses}


def fit_setting(sizes: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray], OptimConfig]:
    """Batches of films and labels, the same in both epochs, and the optimiser."""
    count = sizes["batch"] * sizes["steps"]
    films = drawn_films(count, sizes["size"])
    labels = (np.arange(count) % 2 == 0).astype(np.float32)[:, np.newaxis]
    optim = OptimConfig(name="adamw", lr=1e-4, weight_decay=0.01, schedule="constant")
    optim = replace(optim, decay_norm_and_bias=True)  # as a plain loop's AdamW
    return np.split(films, sizes["steps"]), np.split(labels, sizes["steps"]), optim


def our_fit(sizes: dict[str, Any]) -> dict[str, Any]:
    """``fit_model`` on a whole classifier, nothing frozen."""
    import torch

    from kernels.blocks.devices import Compute
    from kernels.blocks.models import Classifier
    from kernels.blocks.predicting import gray_tensor
    from kernels.blocks.training import fit_model

    films, labels, optim = fit_setting(sizes)
    backbone = our_backbone(sizes)
    torch.manual_seed(1)
    model = Classifier(backbone, HEAD)
    ended: list[float] = []

    def validate(_: Any) -> float:
        ended.append(time.perf_counter())
        return 0.5

    history = fit_model(
        model,
        lambda _: (
            (gray_tensor(batch), torch.from_numpy(truth))
            for batch, truth in zip(films, labels, strict=True)
        ),
        sizes["steps"],
        TrainConfig(optim=optim, epochs=2, batch_size=sizes["batch"]),
        Compute("cpu", None, "benchmark"),
        0,
        torch.nn.functional.binary_cross_entropy_with_logits,
        validate,
    )
    return {
        "seconds": (ended[1] - ended[0]) / sizes["steps"],
        "answer": [row["loss"] for row in history],
    }


def plain_head(channels: int) -> Any:
    """The head as a script writes it, with the weights that ours starts from."""
    import torch

    from kernels.blocks.models import ClassifierHead

    torch.manual_seed(1)
    layers = ClassifierHead(channels, HEAD, 1).layers
    return torch.nn.Sequential(*(part for part in layers if not isinstance(part, torch.nn.Dropout)))


def peer_fit(sizes: dict[str, Any]) -> dict[str, Any]:
    """timm, a Sequential head, AdamW and BCE in a plain loop."""
    import torch

    films, labels, optim = fit_setting(sizes)
    batches = [
        (rgb(batch), torch.from_numpy(truth)) for batch, truth in zip(films, labels, strict=True)
    ]
    trunk = seeded_trunk(sizes)
    model = torch.nn.Sequential(trunk, plain_head(trunk.num_features)).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    criterion = torch.nn.BCEWithLogitsLoss()

    def step(inputs: Any, targets: Any) -> float:
        loss = criterion(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    losses, seconds = [], []
    for _ in range(2):
        started = time.perf_counter()
        losses.append(float(np.mean([step(*batch) for batch in batches])))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[-1] / sizes["steps"], "answer": losses}


def our_frozen(sizes: dict[str, Any]) -> dict[str, Any]:
    """``run_random_views`` once, then ``fit_feature_head``: seconds of one view's pass, of one epoch."""
    import torch

    from kernels.blocks.devices import choose_compute
    from kernels.blocks.frozen import fit_feature_head, run_random_views

    compute = choose_compute("cpu")
    backbone = our_backbone(sizes)
    backbone.requires_grad_(requires_grad=False)
    backbone.frozen = True
    backbone.eval()
    compute.place(backbone)
    films = drawn_films(sizes["rows"], sizes["size"])

    def encode(rows: np.ndarray) -> np.ndarray:
        return run_random_views(
            lambda gray: backbone.pool(backbone(gray)), rows, VIEW, 2, 0, sizes["batch"], compute
        )

    encode(films[: sizes["batch"]])
    started = time.perf_counter()
    views = encode(films)
    one_pass = (time.perf_counter() - started) / 2 * LABELLED / len(films)
    table = np.resize(views, (VIEWS, LABELLED, views.shape[2]))
    labels = (np.arange(LABELLED) % 2 == 0).astype(int)[:, np.newaxis]
    ended: list[float] = []

    def score(*_: np.ndarray) -> float:
        ended.append(time.perf_counter())
        return 0.5

    torch.manual_seed(0)
    config = TrainConfig(epochs=sizes["epochs"], batch_size=32)
    fit_feature_head(table, labels, (table[0, :32], labels[:32]), HEAD, config, 0, score)
    return {
        "pass": one_pass,
        "seconds": statistics.median(np.diff(ended)),
        "answer": views[0, :2].tolist(),
    }


def peer_frozen(sizes: dict[str, Any]) -> dict[str, Any]:
    """The frozen backbone in every epoch, under no_grad, films ready in memory: seconds of an epoch."""
    import torch

    trunk = seeded_trunk(sizes).eval()
    head = plain_head(trunk.num_features).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-4)
    criterion = torch.nn.BCEWithLogitsLoss()
    films = drawn_films(sizes["rows"], sizes["size"])
    batches = [
        rgb(films[start : start + sizes["batch"]]) for start in range(0, len(films), sizes["batch"])
    ]

    def step(inputs: Any) -> Any:
        with torch.no_grad():
            features = trunk(inputs)
        loss = criterion(head(features), (torch.arange(len(inputs)) % 2 == 0).float()[:, None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return features

    first = step(batches[0])
    started = time.perf_counter()
    for batch in batches:
        step(batch)
    seconds = (time.perf_counter() - started) * LABELLED / len(films)
    return {"seconds": seconds, "answer": first[:2].tolist()}


def our_tta(sizes: dict[str, Any]) -> dict[str, Any]:
    """``load_images`` and ``predict_probs`` with two views, from JPEGs, nothing cached."""
    import torch

    from kernels.blocks.devices import choose_compute
    from kernels.blocks.images import load_images
    from kernels.blocks.models import Classifier
    from kernels.blocks.predicting import predict_probs

    compute = choose_compute("cpu")
    backbone = our_backbone(sizes)
    torch.manual_seed(1)
    model = Classifier(backbone, HEAD).eval()
    compute.place(model)

    def predict(paths: list[str]) -> np.ndarray:
        with TemporaryDirectory(prefix="tta-") as name:
            films, _ = load_images(paths, sizes["size"], Path(name))
            return predict_probs(model, films, ("plain", "hflip"), sizes["batch"], compute)

    return from_files(sizes, predict)


def peer_tta(sizes: dict[str, Any]) -> dict[str, Any]:
    """A loader for each view, as notebooks do it: files are read again, logits averaged."""
    import torch
    from PIL import Image
    from torchvision import transforms

    trunk = seeded_trunk(sizes)
    model = torch.nn.Sequential(trunk, plain_head(trunk.num_features)).eval()
    size = (sizes["size"], sizes["size"])
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    views = [
        transforms.Compose([transforms.Resize(size), *last]),
        transforms.Compose([transforms.Resize(size), transforms.RandomHorizontalFlip(1.0), *last]),
    ]

    def predict(paths: list[str]) -> np.ndarray:
        total = torch.zeros(len(paths), 1)
        for view in views:
            for start in range(0, len(paths), sizes["batch"]):
                part = slice(start, start + sizes["batch"])
                films = torch.stack([view(Image.open(path).convert("RGB")) for path in paths[part]])
                with torch.no_grad():
                    total[part] += model(films) / len(views)
        return torch.sigmoid(total).numpy()

    return from_files(sizes, predict)


def from_files(sizes: dict[str, Any], predict: Callable[[list[str]], np.ndarray]) -> dict[str, Any]:
    """Predictions for drawn JPEGs, after a first batch."""
    with jpeg_files(sizes["rows"], sizes["film"] * 4 // 5, sizes["film"]) as paths:
        predict(paths[: sizes["batch"]])
        started = time.perf_counter()
        probs = predict(paths)
        return {"seconds": time.perf_counter() - started, "answer": probs[:, 0].tolist()}


VARIANTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "simsiam lightly": peer_simsiam,
    "simsiam same maths": lambda sizes: our_simsiam(sizes, channels_last=False),
    "simsiam ours": lambda sizes: our_simsiam(sizes, channels_last=True),
    "fit plain": peer_fit,
    "fit ours": our_fit,
    "frozen live": peer_frozen,
    "frozen ours": our_frozen,
    "tta plain": peer_tta,
    "tta ours": our_tta,
}
PEERS = ("simsiam lightly", "fit plain", "frozen live", "tta plain")


def measure(name: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """One variant in this process: its numbers, and the peak of memory."""
    with redirect_stdout(sys.stderr):
        found = VARIANTS[name](sizes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "peak_mb": peak}


# ---- the races -----------------------------------------------------------------------------------


def in_process(name: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """One variant in a fresh process with the allocator settings of its side."""
    environment = {} if name in PEERS else dict(START_VARIABLES)
    arguments = ["-m", "benchmarks.training", "--variant", name, "--sizes", json.dumps(sizes)]
    found: dict[str, Any] = json.loads(run_python(arguments, environment))
    return found


@dataclass(frozen=True)
class Rounds:
    """What every variant gave in every round."""

    found: dict[str, list[dict[str, Any]]]

    def pairs(self, ours: str, peer: str, what: str = "seconds") -> list[tuple[float, float]]:
        """(ours, peer) of every round."""
        both = zip(self.found[ours], self.found[peer], strict=True)
        return [(mine[what], theirs[what]) for mine, theirs in both]

    def same(self, ours: str, peer: str, tolerance: float) -> Same:
        """Both answers, of the first round."""
        answers = [self.found[name][0]["answer"] for name in (ours, peer)]
        return array_gap(*answers, tolerance)

    def memory(self, ours: str, peer: str, peer_name: str, tolerance: float) -> Line:
        """Peak memory of both processes."""
        return line_of(
            "peak memory of that process",
            self.pairs(ours, peer, "peak_mb"),
            same=self.same(ours, peer, tolerance),
            peer_name=peer_name,
            target=None,
            unit="MB",
        )


def alternated(names: tuple[str, ...], options: Options) -> Rounds:
    """Every variant once a round, the order reversed in every other round."""
    sizes = sizes_of(options)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(options.pick(3, 2, 1)):
        for name in names[::-1] if number % 2 else names:
            found[name].append(in_process(name, sizes))
    return Rounds(found)


def lines(options: Options) -> Iterator[Line]:
    """Every line; see the module."""
    for name in START_VARIABLES:  # the caller's must not reach the peers
        os.environ.pop(name, None)
    yield from simsiam(options)
    yield from fine_tuning(options)
    yield from frozen(options)
    yield from prediction(options)


def simsiam(options: Options) -> Iterator[Line]:
    """A step of both views, and the peak of memory."""
    sizes = sizes_of(options)
    named = f"SimSiam step, {sizes['backbone']}, {sizes['size']} px, batch {sizes['batch']}"
    peer = "simsiam lightly"
    rounds = alternated((peer, "simsiam same maths", "simsiam ours"), options)
    for ours, what, target, tolerance in (
        ("simsiam same maths", "the same maths, allocator settings", 1.8, 1e-4),
        ("simsiam ours", "channels_last as well: what a kernel runs", 2.2, 1e-3),
    ):
        yield line_of(
            f"{named}: {what}",
            rounds.pairs(ours, peer),
            same=rounds.same(ours, peer, tolerance),
            peer_name="lightly, plain loop",
            target=target,
            note="ours draws its views meanwhile",
        )
    yield rounds.memory("simsiam ours", peer, "lightly, plain loop", 1e-3)


def fine_tuning(options: Options) -> Iterator[Line]:
    """A step of a whole classifier."""
    sizes = sizes_of(options)
    rounds = alternated(("fit plain", "fit ours"), options)
    yield line_of(
        f"fine-tuning step, {sizes['backbone']}, {sizes['size']} px, batch {sizes['batch']}",
        rounds.pairs("fit ours", "fit plain"),
        same=rounds.same("fit ours", "fit plain", 1e-3),
        peer_name="timm, plain loop",
        target=1.8,
    )
    yield rounds.memory("fit ours", "fit plain", "timm, plain loop", 1e-3)


def frozen(options: Options) -> Iterator[Line]:
    """Fine-tuning with a frozen backbone: an epoch, and the whole run computed from it."""
    sizes = sizes_of(options)
    rounds = alternated(("frozen live", "frozen ours"), options)
    both = list(zip(rounds.found["frozen ours"], rounds.found["frozen live"], strict=True))
    first, second = (np.array(found["answer"]) for found in both[0])
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    # Ours encodes in bf16 where the processor has units for it.
    same = Same(float((1 - (first * second).sum(axis=1) / lengths).max()), 1e-2, "1 - cosine")
    yield line_of(
        f"frozen backbone, an epoch of {LABELLED} rows on cached features",
        rounds.pairs("frozen ours", "frozen live"),
        same=same,
        peer_name=f"the backbone in every epoch ({sizes['rows']} rows, scaled)",
        target=100.0,
    )
    yield line_of(
        f"frozen backbone, {EPOCHS} epochs with {VIEWS} cached views",
        [
            (VIEWS * ours["pass"] + EPOCHS * ours["seconds"], EPOCHS * peer["seconds"])
            for ours, peer in both
        ],
        same=same,
        peer_name="the backbone in every epoch",
        target=4.0,
        note="computed from the measured passes and epochs",
    )


def prediction(options: Options) -> Iterator[Line]:
    """Two test-time views from files: ours reads once."""
    sizes = sizes_of(options)
    rounds = alternated(("tta plain", "tta ours"), options)
    yield line_of(
        f"prediction of {sizes['rows']} JPEGs, plain and flipped, {sizes['size']} px",
        rounds.pairs("tta ours", "tta plain"),
        same=rounds.same("tta ours", "tta plain", 0.02),
        peer_name="PIL, torchvision and timm, a loader for each view",
        target=None,
        note="probabilities of random weights",
    )


def main() -> int:
    """A variant for the parent, or the whole benchmark."""
    if "--variant" not in sys.argv:
        return run_benchmark(lines, __doc__)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", choices=sorted(VARIANTS))
    parser.add_argument("--sizes", type=json.loads)
    parsed = parser.parse_args()
    print(json.dumps(measure(parsed.variant, parsed.sizes)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
