"""The loop: it learns, repeats itself bit for bit, leaves what is frozen alone, keeps what it says."""

import numpy as np
import pytest
import torch
from torch import nn

from kernels.blocks.checkpoints import load_classifier, save_classifier
from kernels.blocks.devices import Compute, choose_compute, mixed_precision
from kernels.blocks.goal import INDEPENDENT, Goal, logistic
from kernels.blocks.losses import binary_cross_entropy
from kernels.blocks.models import Classifier, ClassifierHead, create_backbone
from kernels.blocks.predicting import predict_probs
from kernels.blocks.training import fit_classifier, fit_model, prefetch
from kernels.config import AugmentConfig, HeadConfig, MixConfig, OptimConfig, TrainConfig
from kernels.stats.metrics import score_metric

SMALL = "tf_efficientnet_lite0.in1k"
HEAD = HeadConfig(attention="spatial", hidden=(16,), batch_norm=True, dropout=(0.2,))
PLAIN = Compute("cpu", None, "test")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def auc(targets: np.ndarray, probs: np.ndarray) -> float:
    return score_metric("auc", targets, probs)


def films(count: int = 24, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Noise, brighter in the upper half when positive: easy, but not by the mean of a corner."""
    rng = np.random.default_rng(0)
    targets = (np.arange(count) % 3 > 0).astype(np.int64)[:, None]
    images = rng.integers(60, 120, (count, size, size))
    images[targets[:, 0] == 1, : size // 2] += 80
    return images.astype(np.uint8), targets


def network(seed: int = 0, frozen: bool = False) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(create_backbone(SMALL, "random", 32, {}, frozen=frozen), HEAD)


def tiny(seed: int = 0) -> nn.Module:
    """Convolution, batch norm, dropout: all that a loop can get wrong, in milliseconds."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(8 * 7 * 7, 1),
    )


def fit(model: nn.Module, seed: int = 3, compute: Compute = PLAIN, **changes):
    settings = {
        "optim": OptimConfig(lr=1e-3, head_lr=1e-2, schedule="one_cycle"),
        "augment": AugmentConfig(hflip=0.5, rotation_deg=5.0),
        "epochs": 2,
        "batch_size": 8,
        **changes,
    }
    images, targets = films()
    return fit_classifier(
        model,
        images,
        targets,
        np.arange(16),
        np.arange(16, 24),
        TrainConfig(**settings),
        32,
        seed,
        compute,
        auc,
    )


MIXED = {
    "mix": MixConfig(mixup_alpha=0.4, cutmix_alpha=1.0, clean_last_epochs=1),
    "label_smoothing": 0.1,
    "sampler": "balanced",
    "ema_decay": 0.9,
    "loss": "focal",
}


def test_same_seed_gives_the_same_weights_and_another_seed_does_not():
    states = []
    for seed in (3, 3, 4):
        model = tiny()
        fit(model, seed, **MIXED)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_an_epoch_does_not_depend_on_random_numbers_drawn_before_it():
    torch.manual_seed(99)
    first = fit(tiny())
    torch.manual_seed(7)
    torch.rand(10)
    np.random.default_rng().random(10)
    assert [row["loss"] for row in fit(tiny())] == [row["loss"] for row in first]


def test_history_has_a_row_and_the_log_a_line_for_each_epoch(capsys):
    history = fit(tiny(), epochs=3)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["kept"] for row in history] == [0, 0, 1]
    assert list(history[0]) == ["epoch", "loss", "val_auc", "lr", "seconds", "kept"]
    assert all(type(value) in (int, float) for row in history for value in row.values())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(word in lines[0] for word in ("epoch 1/3", "loss", "val AUC", "lr", " s"))


def test_frozen_backbone_leaves_training_bit_identical_while_the_head_learns():
    model = network(frozen=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fit(model, ema_decay=0.5)
    after = model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    assert not any(key.startswith("backbone.") for key in moved)


def test_held_out_films_and_rows_are_never_trained_on():
    images, targets = films()
    states = []
    for spoil in (False, True):
        if spoil:
            images, targets = images.copy(), targets.copy()
            images[16:] = 255 - images[16:]
            targets[16:] = 1 - targets[16:]
        model = tiny()
        config = TrainConfig(epochs=1, batch_size=8, optim=OptimConfig(lr=1e-3))
        rows, held = np.arange(16), np.arange(16, 24)
        fit_classifier(model, images, targets, rows, held, config, 32, 0, PLAIN, auc)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    with pytest.raises(ValueError, match=r"1 rows are both .*first: 16"):
        fit_classifier(tiny(), images, targets, np.arange(17), held, config, 32, 0, PLAIN, auc)


def test_the_loop_learns_what_is_easy():
    model = tiny()
    history = fit(model, epochs=6, label_smoothing=0.05)
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["val_auc"] == 1.0


def test_any_source_of_batches_will_do_features_for_one():
    """What a frozen backbone's cached features need: no films, no backbone."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 12)).astype(np.float32)
    targets = (features[:, :1] > 0).astype(np.float32)
    head = ClassifierHead(12, HeadConfig(hidden=(8,)))
    asked = []

    def batches(epoch):
        asked.append(epoch)
        order = np.random.default_rng(epoch).permutation(64)
        for start in range(0, 64, 16):
            rows = order[start : start + 16]
            yield torch.from_numpy(features[rows]), torch.from_numpy(targets[rows])

    def validate(model):
        with torch.inference_mode():
            return auc(targets, model.eval()(torch.from_numpy(features)).numpy())

    config = TrainConfig(
        optim=OptimConfig(lr=0.05, schedule="cosine"), epochs=12, mix=MixConfig(mixup_alpha=0.2)
    )
    history = fit_model(head, batches, 4, config, PLAIN, 0, binary_cross_entropy, validate)
    assert asked == list(range(12))
    assert history[-1]["val_auc"] > 0.97


def scripted(scores: list[float], goal: Goal = INDEPENDENT, **changes):
    """Train one number upwards by 1 an epoch while the scores are dictated."""

    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, 1))

        def forward(self, inputs):
            return inputs * self.weight

    model, answers = Counter(), iter(scores)
    config = TrainConfig(
        optim=OptimConfig(name="sgd", lr=1.0, weight_decay=0.0, schedule="constant"),
        epochs=len(scores),
        **changes,
    )
    history = fit_model(
        model,
        lambda _epoch: [(torch.ones(1, 1), torch.ones(1, 1))],
        1,
        config,
        PLAIN,
        0,
        lambda logits, _targets: -logits.mean(),
        lambda _model: next(answers),
        goal=goal,
    )
    return model.weight.item(), history


def test_without_patience_the_last_epoch_is_kept_even_if_worse():
    weight, history = scripted([0.5, 0.9, 0.6])
    assert weight == 3.0
    assert [row["kept"] for row in history] == [0, 0, 1]


def test_early_stopping_waits_keeps_the_best_and_gives_its_weights_back():
    weight, history = scripted([0.5, 0.9, 0.6, 0.7, 0.8, 0.99], early_stop_patience=3)
    assert [row["val_auc"] for row in history] == [0.5, 0.9, 0.6, 0.7, 0.8]
    assert weight == 2.0
    assert [row["kept"] for row in history] == [0, 1, 0, 0, 0]


def test_of_a_loss_the_lowest_epoch_is_the_best(capsys):
    losses = [0.9, 0.4, 0.6, 0.5, 0.7, 0.1]
    weight, history = scripted(losses, Goal("log_loss"), early_stop_patience=3)
    assert [row["val_auc"] for row in history] == [0.9, 0.4, 0.6, 0.5, 0.7]
    assert weight == 2.0
    assert [row["kept"] for row in history] == [0, 1, 0, 0, 0]
    assert "val log_loss 0.4000" in capsys.readouterr().out


@pytest.mark.parametrize(("metric", "falls"), [("auc", False), ("multiclass_log_loss", True)])
def test_a_plateau_is_where_the_metric_gets_no_better(metric, falls):
    """Scores that go up all the time: of an AUC no plateau, of a loss nothing but one."""
    optim = OptimConfig(
        name="sgd", lr=1.0, schedule="plateau", plateau_patience=1, plateau_factor=0.5
    )
    batches = [(torch.ones(1, 1), torch.ones(1, 1))]
    scores = iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    history = fit_model(
        nn.Linear(1, 1),
        lambda _epoch: batches,
        1,
        TrainConfig(optim=optim, epochs=6),
        PLAIN,
        0,
        lambda logits, _targets: logits.mean(),
        lambda _model: next(scores),
        goal=Goal(metric),
    )
    assert (history[-1]["lr"] < history[0]["lr"]) == falls


def test_with_ema_the_network_ends_as_the_average():
    weight, _ = scripted([0.5, 0.5, 0.5], ema_decay=0.5)
    average = 0.0
    for step, live in enumerate((1.0, 2.0, 3.0)):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * live
    assert weight == pytest.approx(average)


def test_a_loss_that_explodes_stops_the_run():
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="loss is nan in epoch 1; lower"):
        fit_model(
            model,
            lambda _epoch: [(torch.full((2, 1), float("nan")), torch.ones(2, 1))],
            1,
            TrainConfig(epochs=2),
            PLAIN,
            0,
            binary_cross_entropy,
            lambda _model: 0.5,
        )


def test_clipping_bounds_a_step():
    model = nn.Linear(1, 1, bias=False)
    start = model.weight.item()
    config = TrainConfig(
        optim=OptimConfig(
            name="sgd", lr=1.0, weight_decay=0.0, schedule="constant", clip_grad_norm=0.25
        ),
        epochs=1,
    )
    batches = [(torch.full((2, 1), 1000.0), torch.zeros(2, 1))]
    fit_model(
        model, lambda _epoch: batches, 1, config, PLAIN, 0, lambda z, _t: z.mean(), lambda _m: 0
    )
    assert model.weight.item() == pytest.approx(start - 0.25, abs=1e-4)


def test_low_precision_on_a_cpu_is_for_prediction_only():
    compute = Compute("cpu", torch.bfloat16, "test")
    layer, inputs = nn.Linear(4, 4), torch.rand(2, 4)
    with compute.autocast():
        assert layer(inputs).dtype == torch.float32
    with torch.inference_mode(), compute.autocast():
        assert layer(inputs).dtype == torch.bfloat16
    model = tiny()
    history = fit(model, compute=compute, epochs=4)
    assert history[-1]["loss"] < history[0]["loss"]
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_prefetch_keeps_order_and_raises_what_the_source_raises():
    assert list(prefetch(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(prefetch([])) == []

    def broken():
        yield 1
        raise ValueError("film 7 is unreadable")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="film 7"):
        next(items)


# ---- prediction ----------------------------------------------------------------------------------


def test_views_are_averaged_in_the_space_that_was_named():
    model = network().eval()
    images, _ = films(5)
    plain = predict_probs(model, images, ("plain",), 2, PLAIN)
    mirror = predict_probs(model, images, ("hflip",), 3, PLAIN)
    both = predict_probs(model, images, ("plain", "hflip"), 4, PLAIN)
    probs = predict_probs(model, images, ("plain", "hflip"), 4, PLAIN, "probs")
    assert both.shape == (5, 1)
    mean_logit = (np.log(plain / (1 - plain)) + np.log(mirror / (1 - mirror))) / 2
    np.testing.assert_allclose(both, logistic(mean_logit), rtol=1e-5)
    np.testing.assert_allclose(probs, (plain + mirror) / 2, rtol=1e-5)


def test_prediction_does_not_disturb_training():
    model = network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, _ = films(4)
    predict_probs(model, images, ("plain",), 4, PLAIN)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="'ranks', not logits"):
        predict_probs(model, images, ("plain",), 4, PLAIN, "ranks")
    with pytest.raises(ValueError, match="no images"):
        predict_probs(model, images[:0], ("plain",), 4, PLAIN)


def test_logistic_does_not_overflow():
    values = logistic(np.array([-1e4, 0.0, 1e4]))
    np.testing.assert_array_equal(values, [0.0, 0.5, 1.0])


# ---- devices -------------------------------------------------------------------------------------


def test_mixed_precision_rule_of_every_generation():
    none = frozenset()
    assert mixed_precision("cuda", (7, 5), none) == torch.float16  # T4 claims bf16 by emulation
    assert mixed_precision("cuda", (8, 0), none) == torch.bfloat16
    assert mixed_precision("cuda", (9, 0), none) == torch.bfloat16
    assert mixed_precision("cuda", (6, 0), none) is None  # P100
    assert mixed_precision("cpu", None, none) is None
    assert mixed_precision("cpu", None, frozenset({"avx512f"})) is None
    assert mixed_precision("cpu", None, frozenset({"avx512_bf16"})) == torch.bfloat16
    assert mixed_precision("cpu", None, frozenset({"amx_bf16"})) == torch.bfloat16


def test_a_needed_gpu_that_is_not_there_stops_at_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"needs a GPU: CUDA is not available.*HARNESS_PROFILE=cpu"
    ):
        choose_compute("cuda")
    assert choose_compute("auto").device == "cpu"


def test_a_gpu_that_this_torch_was_not_built_for_counts_as_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_args: "Tesla P100-PCIE-16GB")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_args: (6, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_70", "sm_75", "compute_90"])
    with pytest.raises(ValueError, match=r"P100.* does not work .* 6.0 is not among sm_70, sm_75"):
        choose_compute("cuda")
    # Built for it by its list, and failing all the same: the probe tells.
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_60"])

    def refuse(*_args, **_kwargs):
        raise RuntimeError("CUDA error: no kernel image is available\nmore lines")

    monkeypatch.setattr(torch, "ones", refuse)
    with pytest.raises(ValueError, match=r"P100.* does not work .*no kernel image is available"):
        choose_compute("cuda")


def test_precision_can_be_forced_and_words_are_checked():
    assert choose_compute("cpu", "float32").low_precision is None
    with pytest.raises(ValueError, match="device is 'gpu'"):
        choose_compute("gpu")
    with pytest.raises(ValueError, match="precision is 'fp16'"):
        choose_compute("cpu", "fp16")


def test_bytes_become_grey_levels_on_the_device():
    batch = PLAIN.put(torch.tensor([[0, 255]], dtype=torch.uint8))
    assert batch.tolist() == [[0.0, 1.0]]
    assert PLAIN.put(torch.tensor([3.5])).tolist() == [3.5]


# ---- checkpoints ---------------------------------------------------------------------------------


def test_checkpoint_rebuilds_the_classifier_and_holds_the_write_ups_keys(tmp_path):
    model = network().eval()
    path = tmp_path / "model.pth"
    save_classifier(path, model, HEAD, epoch=2, val_auc=0.9, img_size=32, seed=0, fold=1)
    raw = torch.load(path, weights_only=True)
    wanted = {"model_name", "model_state_dict", "epoch", "val_auc", "img_size", "freeze_backbone"}
    assert wanted <= set(raw)
    again, facts = load_classifier(path)
    assert facts["epoch"] == 2
    assert facts["model_name"] == SMALL
    images, _ = films(3)
    np.testing.assert_array_equal(
        predict_probs(model, images, ("plain",), 3, PLAIN),
        predict_probs(again, images, ("plain",), 3, PLAIN),
    )


def test_checkpoint_refuses_what_would_not_load_again(tmp_path):
    with pytest.raises(ValueError, match="'val_auc' is a float64"):
        save_classifier(tmp_path / "m.pth", network(), HEAD, val_auc=np.float64(0.9), img_size=32)
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist"):
        load_classifier(tmp_path / "none.pth")
    torch.save({"epoch": 1}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no 'model_name'"):
        load_classifier(tmp_path / "other.pth")
