"""Weights as datasets: from a file that fits, else not at all; the list says whose they are and who needs them."""

from pathlib import Path

import pytest
import timm
import torch

from harness.commands.weights import INSTALLABLE, add_weights, backbone_users, last_words
from harness.errors import ConfigError
from harness.settings import Settings
from harness.workbench import Workbench
from kernels.blocks.weights import PACKAGED_WEIGHTS, load_pretrained_trunk
from kernels.blocks.weights_import import import_weights
from kernels.config import weights_slug

ROOT = Path(__file__).resolve().parents[2]
TINY = "test_convnext.r160_in1k"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(TINY, pretrained=False)


def saved(folder, state):
    path = folder / "mine.pth"
    torch.save(state, path)
    return path


def loads(folder, network):
    """A kernel finds and loads what was imported, and it is what the file held."""
    trunk = timm.create_model(TINY, pretrained=False, num_classes=0)
    said = load_pretrained_trunk(trunk, TINY, "pretrained", {weights_slug(TINY): folder}, False)
    own = network.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in trunk.state_dict().items())
    return said


@pytest.mark.parametrize("wrapper", ["", "module.", "model."])
def test_a_whole_network_keeps_its_classifier(network, tmp_path, wrapper):
    state = {wrapper + key: value for key, value in network.state_dict().items()}
    path = saved(tmp_path, {"state_dict": state, "epoch": 3})
    info = import_weights(TINY, tmp_path / "set" / f"{TINY}.safetensors", path)
    assert info["classifier"] == "kept"
    assert "sha256" in info["source"]
    assert loads(tmp_path / "set", network) == f"dataset {weights_slug(TINY)}"


def test_a_network_without_classifier_is_enough(network, tmp_path):
    state = {key: v for key, v in network.state_dict().items() if not key.startswith("head.fc")}
    info = import_weights(TINY, tmp_path / "set" / f"{TINY}.safetensors", saved(tmp_path, state))
    assert info["classifier"] == "none"
    loads(tmp_path / "set", network)


def test_another_shape_is_refused_and_nothing_is_written(network, tmp_path):
    state = dict(network.state_dict())
    key = next(iter(state))
    state[key] = torch.zeros(3, 3)
    with pytest.raises((ValueError, RuntimeError)):
        import_weights(TINY, tmp_path / "set" / f"{TINY}.safetensors", saved(tmp_path, state))
    assert not (tmp_path / "set").exists()


def test_an_unknown_name_and_a_file_with_code_are_refused(network, tmp_path):
    path = saved(tmp_path, network.state_dict())
    with pytest.raises(ValueError, match="knows no"):
        import_weights("convnext_smal", tmp_path / "x.safetensors", path)
    torch.save(network, path)  # a pickled object could run anything
    with pytest.raises(ValueError, match="cannot be read as weights"):
        import_weights(TINY, tmp_path / "x.safetensors", path)


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "junk.pt"])
@pytest.mark.parametrize("content", [b"", b"junk\n"])
def test_a_file_of_something_else_is_told_in_words(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read as weights: .*[a-z]{4}"):
        import_weights(TINY, tmp_path / "x.safetensors", path)


@pytest.mark.parametrize("name", ["", "a/b", "../../etc/x", "hf-hub:timm/resnet18.a1_in1k", "a b"])
def test_a_name_that_is_none_of_timms_makes_no_folder(tmp_path, name):
    bench = Workbench(Settings(tmp_path, tmp_path), None, lambda _: None)
    with pytest.raises(ConfigError, match="no name of timm"):
        add_weights(bench, name)
    assert not (tmp_path / "datasets").exists()


def test_weights_that_somebody_put_there_are_not_removed(tmp_path):
    bench = Workbench(Settings(tmp_path, tmp_path / ".harness"), None, lambda _: None)
    mine = tmp_path / "datasets" / weights_slug(TINY) / "best.pth"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"weights")
    with pytest.raises(ConfigError, match=r"best\.pth already"):
        add_weights(bench, TINY, file=mine)
    assert mine.read_bytes() == b"weights"


def test_both_lists_of_installable_weights_are_equal():
    assert {name: entry[0] for name, entry in PACKAGED_WEIGHTS.items()} == INSTALLABLE


def test_every_strategy_says_what_it_starts_from():
    users = backbone_users(ROOT)
    assert any("effnetv2_s (full" in user for user in users["tf_efficientnetv2_s.in21k_ft_in1k"])
    assert any("linear_probe" in user for user in users["tf_efficientnet_lite0.in1k"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Traceback\n  x\nValueError: it does not fit.\n", "it does not fit."),
        ("some words only", "some words only."),
        ("", "no reason given."),
    ],
)
def test_the_last_words_of_a_process(text, words):
    assert last_words(text) == words
