"""What a kernel can see and touch, in the sandbox and without one."""

import json
import os
import shutil
from pathlib import Path

import pytest

from harness.emulator import Server
from tests.emulator.support import Local, needs_bwrap, works

LOOK = """
import json, os, socket, subprocess
def attempt(action):
    try:
        action()
        return "done"
    except OSError as problem:
        return problem.strerror or str(problem)
root = os.environ.get("HARNESS_KAGGLE_ROOT", "/kaggle")
seen = {
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "file": __file__,
    "input": sorted(os.listdir(root + "/input")),
    "src": os.listdir(root + "/src"),
    "write_input": attempt(lambda: open(root + "/input/new", "w")),
    "write_file": attempt(lambda: open(root + "/input/datasets/local/my-data-set/v.txt", "w")),
    "write_src": attempt(lambda: open(root + "/src/new", "w")),
    "write_temp": attempt(lambda: open(root + "/temp/new", "w")),
    "write_home": attempt(lambda: open(os.path.expanduser("~/new"), "w")),
    "network": attempt(lambda: socket.create_connection(("127.0.0.1", PORT), 3)),
    "secret": attempt(lambda: open(SECRET)),
    "state": attempt(lambda: open(STATE)),
    "cores": subprocess.run(["lscpu", "--parse=core"], capture_output=True, text=True).stdout,
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
}
json.dump(seen, open("seen.json", "w"))
"""


def look(local: Local, tmp_path: Path, **more: object) -> dict:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    values = {
        "PORT": local.server.port,
        "SECRET": str(secret),
        "STATE": str(local.folder / "state.sqlite"),
    }
    head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    local.make_dataset("my-data-set", {"v.txt": b"one"})
    session = local.run(
        "look-around", head + LOOK, datasetDataSources=["local/my-data-set"], **more
    )
    assert session["status"] == "COMPLETE", local.log(session)
    return json.loads(local.output(session, "seen.json"))


@pytest.fixture(autouse=True)
def host_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "the-hosts-key")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "the-hosts-token")
    monkeypatch.setenv("SOME_OTHER_SECRET", "hush")


@needs_bwrap
def test_the_sandbox_is_like_the_service(local: Local, tmp_path: Path):
    seen = look(local, tmp_path)
    assert seen["cwd"] == "/kaggle/working"
    assert seen["file"] == "/kaggle/src/script.py"
    assert seen["src"] == ["script.py"]
    assert seen["input"] == ["datasets"]
    assert "HARNESS_KAGGLE_ROOT" not in seen["env"]
    assert "\n0\n" in seen["cores"]  # joblib asks lscpu for the cores


@needs_bwrap
def test_inputs_and_source_are_read_only_and_scratch_is_not(local: Local, tmp_path: Path):
    seen = look(local, tmp_path)
    for place in ("write_input", "write_file", "write_src"):
        assert seen[place] == "Read-only file system", place
    assert (seen["write_temp"], seen["write_home"]) == ("done", "done")


@needs_bwrap
def test_the_host_is_out_of_sight(local: Local, tmp_path: Path):
    seen = look(local, tmp_path)
    assert seen["secret"] == "No such file or directory"
    assert seen["state"] == "No such file or directory"
    assert len(seen["processes"]) <= 3


@needs_bwrap
@pytest.mark.parametrize("internet", [False, True])
def test_the_network_is_as_asked(local: Local, tmp_path: Path, internet: bool):
    seen = look(local, tmp_path, enableInternet=internet)
    assert (seen["network"] == "done") is internet
    assert ("HF_HUB_OFFLINE" in seen["env"]) is not internet


@pytest.mark.parametrize("sandbox", ["auto", "plain"])
def test_only_listed_variables_get_in(local: Local, tmp_path: Path, sandbox: str):
    local.state.configure(sandbox=sandbox)
    local.env = {"HARNESS_PROFILE": "small", "OMP_NUM_THREADS": "1"}
    env = look(local, tmp_path)["env"]
    assert "hush" not in env.values()
    assert not {"the-hosts-key", "the-hosts-token"} & set(env.values())
    assert (env["HARNESS_PROFILE"], env["OMP_NUM_THREADS"]) == ("small", "1")
    assert env["KAGGLE_KERNEL_RUN_TYPE"] == "Batch"
    known = {
        "PATH", "LANG", "HOME", "USER", "TMPDIR", "PWD", "PYTHONUNBUFFERED", "LC_CTYPE",
        "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE", "KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_URL_BASE",
        "HF_HUB_OFFLINE", "HARNESS_PROFILE", "OMP_NUM_THREADS", "HARNESS_KAGGLE_ROOT",
    }  # fmt: skip
    assert set(env) <= known


def test_without_a_sandbox_the_tree_is_elsewhere_and_the_log_warns(local: Local, tmp_path: Path):
    local.state.configure(sandbox="plain")
    seen = look(local, tmp_path)
    session = local.state.sessions()[0]
    assert seen["env"]["HARNESS_KAGGLE_ROOT"] == str(session["folder"] / "kaggle")
    assert seen["input"] == ["datasets"]
    assert seen["cwd"] == str(session["folder"] / "working")
    assert "no sandbox works here" in local.notes(session)


def test_without_a_sandbox_the_stored_bytes_are_still_safe(local: Local, tmp_path: Path):
    """The kernel above overwrote its input; what is stored must not have changed."""
    local.state.configure(sandbox="plain")
    look(local, tmp_path)
    url = local.call(
        "datasets.DatasetApiService/DownloadDataset", ownerSlug="local",
        datasetSlug="my-data-set", fileName="v.txt",
    )  # fmt: skip
    assert local.session.get(url).content == b"one"


def test_the_network_can_be_off_without_bubblewrap(local: Local, tmp_path: Path):
    if not works("unshare", "-r", "-n", "true"):
        pytest.skip("needs unshare from the package util-linux, and user namespaces")
    local.state.configure(sandbox="unshare")
    assert look(local, tmp_path)["network"] != "done"


@needs_bwrap
def test_a_restricted_proc_falls_to_the_second_rung_by_trying(local: Local, tmp_path: Path):
    local.state.configure(sandbox="bwrap-proc")
    seen = look(local, tmp_path)
    assert seen["write_input"] == "Read-only file system"
    assert "process list" in local.notes(local.state.sessions()[0])


def test_a_bubblewrap_that_is_installed_but_forbidden_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`which` would find it; only running it tells."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("bwrap", "unshare"):
        (fake / name).write_text("#!/bin/sh\nexit 1\n")
        (fake / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("bwrap") == str(fake / "bwrap")
    with Server(tmp_path / "state") as server:
        local = Local(server, tmp_path / "state")
        session = local.run("kernel-one", "print('ran')")
        assert session["status"] == "COMPLETE"
        assert "sandbox works here" in local.notes(session)
        assert "ran" in local.log(session)
