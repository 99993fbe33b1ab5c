"""The rules of machines that are not here, with fakes: what cards run, how folds share them, what travels."""

import pytest
import torch
from torch import nn

from kernels.blocks.devices import (
    Compute,
    arch_fault,
    choose_compute,
    device_line,
    fold_processes,
)

CU128 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((7, 5), CU128, True),  # T4
        ((6, 0), CU128, False),  # P100
        ((8, 9), CU128, True),  # L4: sm_86 code runs on 8.9
        ((7, 2), ["sm_75"], False),  # older than its code
        ((8, 0), ["sm_75"], False),  # machine code does not cross major versions
        ((8, 0), ["sm_75", "compute_75"], True),  # compiled when loaded
        ((9, 0), ["sm_90a"], True),
        ((7, 5), [], False),
    ],
)
def test_a_card_runs_code_of_its_own_major_version_or_code_compiled_when_loaded(
    capability, built_for, runs
):
    fault = arch_fault(capability, built_for)
    assert (fault == "") is runs
    if not runs:
        assert f"{capability[0]}.{capability[1]}" in fault


def test_folds_share_the_cards_one_process_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    compute = Compute("cuda", torch.float16, "Tesla T4")
    seen = [(p.name, p.environment["CUDA_VISIBLE_DEVICES"]) for p in fold_processes(0, compute)]
    assert seen == [("gpu 0", "0"), ("gpu 1", "1")]
    assert len(fold_processes(1, compute)) == 1
    four = [p.environment["CUDA_VISIBLE_DEVICES"] for p in fold_processes(4, compute)]
    assert four == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [p.name for p in fold_processes(0, compute)] == ["gpu 3", "gpu 5"]


def test_on_a_cpu_folds_run_one_by_one_unless_asked_and_then_split_the_threads(monkeypatch):
    compute = Compute("cpu", None, "x86_64")
    assert fold_processes(0, compute) == []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert [p.environment["OMP_NUM_THREADS"] for p in fold_processes(2, compute)] == ["2", "2"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert [p.environment["OMP_NUM_THREADS"] for p in fold_processes(3, compute)] == ["1"] * 3


def test_batches_are_page_locked_for_a_gpu_and_left_alone_for_a_cpu(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda part: pinned.append(part) or part)
    batch = (torch.zeros(2), torch.ones(3))
    assert list(Compute("cpu", None, "x").pinned([batch])) == [batch]
    assert pinned == []
    (got,) = Compute("cuda", None, "x").pinned([batch])
    assert all(a is b for a, b in zip(got, batch, strict=True))
    assert len(pinned) == 2


def test_a_placed_network_is_in_channels_last():
    placed = Compute("cpu", None, "x").place(nn.Conv2d(3, 8, 3))
    assert placed.weight.is_contiguous(memory_format=torch.channels_last)
    assert not placed.weight.is_contiguous()


def test_only_fp16_scales_gradients():
    # The scaler switches itself off without a card; the rule is in what it is asked for.
    asked = {}

    def remember(device, enabled):
        asked[device] = enabled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp, "GradScaler", remember)
        for low in (torch.float16, torch.bfloat16, None):
            Compute("cuda", low, "x").scaler()
            assert asked["cuda"] is (low == torch.float16)


def test_a_cpu_trains_in_float32_and_predicts_in_what_it_gains_from():
    compute = Compute("cpu", torch.bfloat16, "x")
    layer, films = nn.Linear(4, 2), torch.ones(1, 4)
    with compute.autocast():
        assert layer(films).dtype == torch.float32
    with torch.inference_mode(), compute.autocast():
        assert layer(films).dtype == torch.bfloat16


def test_the_device_is_tried_without_touching_the_seed(capsys):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    choose_compute("cpu", "float32")
    assert (torch.rand(2) == expected).all()
    assert "self-test: device: forward and backward pass on" in capsys.readouterr().out


def test_a_device_that_cannot_train_is_told_with_the_next_step(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise RuntimeError("CUDA error: out of memory\nmore")

    monkeypatch.setattr(nn.Conv2d, "forward", refuse)
    with pytest.raises(
        ValueError, match=r"cannot be trained on T4: CUDA error: out of memory\. Start"
    ):
        device_line(Compute("cpu", None, "T4"))


def test_a_device_whose_numbers_are_not_finite_is_refused(monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", lambda _self, x: x.sum(dim=1, keepdim=True) / 0.0)
    with pytest.raises(ValueError, match="not finite"):
        device_line(Compute("cpu", None, "T4"))
