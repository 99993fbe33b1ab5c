"""The unmodified `kaggle` command line, as separate processes, against the local Kaggle."""

import json
import shutil
from pathlib import Path

import pytest

from tests.emulator.support import KERNELS, Local, needs_bwrap, scores


def write_dataset(folder: Path, slug: str, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    meta = {
        "id": f"local/{slug}",
        "title": slug.replace("-", " ").title(),
        "licenses": [{"name": "CC0-1.0"}],
    }
    (folder / "dataset-metadata.json").write_text(json.dumps(meta))
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def write_kernel(folder: Path, slug: str, text: str, **more: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(text)
    meta = {
        "id": f"local/{slug}",
        "title": slug.replace("-", " ").title(),
        "code_file": "main.py",
        "language": "python",
        "kernel_type": "script",
        "enable_internet": False,
        **more,
    }
    (folder / "kernel-metadata.json").write_text(json.dumps(meta))
    return folder


def test_a_dataset_is_created_versioned_listed_downloaded_and_deleted(local: Local, tmp_path: Path):
    folder = write_dataset(tmp_path / "ds", "my-data-set", a="hello", empty="")
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.txt").write_text("deep")
    made = local.cli("datasets", "create", "-p", str(folder), "-r", "zip")
    assert "is being created" in made.stdout, made
    status = local.cli("datasets", "status", "local/my-data-set", "--format", "json")
    assert json.loads(status.stdout) == {"status": "ready", "current_version_number": 1}
    listed = local.cli("datasets", "files", "local/my-data-set", "--format", "json")
    assert {row["name"]: row["size"] for row in json.loads(listed.stdout)} == {
        "a.txt": 5,
        "empty.txt": 0,
        "sub/deep.txt": 4,
    }  # the zipped folder came back as a folder
    (folder / "a.txt").write_text("changed")
    second = local.cli("datasets", "version", "-p", str(folder), "-m", "second", "-r", "skip")
    assert "version is being created" in second.stdout, second
    status = local.cli("datasets", "status", "local/my-data-set", "--format", "json")
    assert json.loads(status.stdout)["current_version_number"] == 2
    down = local.cli(
        "datasets", "download", "local/my-data-set", "-p", str(tmp_path / "new"), "--unzip"
    )
    assert (tmp_path / "new" / "a.txt").read_text() == "changed", down
    assert not (tmp_path / "new" / "sub").exists()  # a version is a full snapshot
    old = local.cli(
        "datasets", "download", "local/my-data-set/1", "-f", "a.txt", "-p", str(tmp_path / "old")
    )
    assert (tmp_path / "old" / "a.txt").read_text() == "hello", old
    assert local.cli("datasets", "delete", "local/my-data-set", "-y").returncode == 0
    assert local.cli("datasets", "files", "local/my-data-set").returncode == 1


@needs_bwrap
def test_a_kernel_is_pushed_followed_collected_pulled_and_deleted(local: Local, tmp_path: Path):
    local.make_dataset("some-data-set", {"a.txt": b"hello"})
    script = (
        "import time, pathlib\n"
        "print('first line')\n"
        "time.sleep(1.5)\n"
        "print(next(pathlib.Path('/kaggle/input').rglob('a.txt')).read_text())\n"
        "pathlib.Path('sub').mkdir()\n"
        "pathlib.Path('sub/out.txt').write_text('made')\n"
    )
    folder = write_kernel(
        tmp_path / "k", "kernel-one", script, dataset_sources=["local/some-data-set"]
    )
    pushed = local.cli("kernels", "push", "-p", str(folder))
    assert "Kernel version 1 successfully pushed" in pushed.stdout, pushed
    followed = local.cli("kernels", "logs", "-f", "local/kernel-one")
    assert followed.stdout.splitlines()[-2:] == ["first line", "hello"], followed
    status = local.cli("kernels", "status", "local/kernel-one")
    assert status.stdout.strip() == 'local/kernel-one has status "KernelWorkerStatus.COMPLETE"'
    out = tmp_path / "out"
    local.cli("kernels", "output", "local/kernel-one", "-p", str(out), "--page-size", "1")
    assert (out / "sub" / "out.txt").read_text() == "made"
    assert "first line" in (out / "kernel-one.log").read_text()
    log = json.loads(local.cli("kernels", "logs", "local/kernel-one").stdout)
    assert [entry["data"] for entry in log] == ["first line\n", "hello\n"]
    assert set(log[0]) == {"stream_name", "time", "data"}
    files = local.cli("kernels", "files", "local/kernel-one")
    assert "sub/out.txt" in files.stdout
    local.cli("kernels", "pull", "local/kernel-one", "-p", str(tmp_path / "pulled"), "-m")
    assert (tmp_path / "pulled" / "kernel-one.py").read_text() == script
    meta = json.loads((tmp_path / "pulled" / "kernel-metadata.json").read_text())
    assert meta["dataset_sources"] == ["local/some-data-set"]
    assert meta["enable_internet"] is False
    assert "local/kernel-one" in local.cli("kernels", "list", "-m").stdout
    assert local.cli("kernels", "delete", "local/kernel-one", "-y").returncode == 0
    assert local.cli("kernels", "status", "local/kernel-one").returncode == 1


def test_a_competition_is_listed_downloaded_and_submitted_to(local: Local, tmp_path: Path):
    local.add_competition(tmp_path)
    assert "competitions/my-comp" in local.cli("competitions", "list").stdout
    assert "images/0.png" in local.cli("competitions", "files", "my-comp").stdout
    down = tmp_path / "down"
    local.cli("competitions", "download", "my-comp", "-p", str(down))
    shutil.unpack_archive(down / "my-comp.zip", down / "all")
    assert (down / "all" / "images" / "0.png").read_bytes() == b"not really an image"
    local.cli("competitions", "download", "my-comp", "-f", "train.csv", "-p", str(down))
    assert (down / "train.csv").read_text() == "id,label\nx,1\n"
    mine = tmp_path / "submission.csv"
    mine.write_text(scores(lambda i: i % 2))
    sent = local.cli("competitions", "submit", "my-comp", "-f", str(mine), "-m", "first try")
    assert "Successfully submitted to My Comp" in sent.stdout, sent
    assert "4 submissions remaining today" in sent.stdout
    rows = json.loads(
        local.cli("competitions", "submissions", "my-comp", "--format", "json").stdout
    )
    assert rows[0]["publicScore"] == "1.00000"
    assert rows[0]["status"] == "SubmissionStatus.COMPLETE"
    limits = json.loads(local.cli("competitions", "submission-limits", "my-comp", "--json").stdout)
    assert limits["numAllowedNow"] == 4
    assert "1.00000" in local.cli("competitions", "leaderboard", "my-comp", "-s").stdout
    board = tmp_path / "board"
    local.cli("competitions", "leaderboard", "my-comp", "-d", "-p", str(board))
    shutil.unpack_archive(board / "my-comp.zip", board)
    assert "local" in next(board.glob("*.csv")).read_text()


def test_a_kernel_version_is_submitted_to_a_code_competition(local: Local, tmp_path: Path):
    local.add_competition(tmp_path, kind="code")
    text = f"open('submission.csv', 'w').write({scores(lambda i: i % 2)!r})"
    local.run("code-kernel", text, competitionDataSources=["my-comp"])
    sent = local.cli(
        "competitions", "submit", "my-comp", "-k", "local/code-kernel", "-v", "1",
        "-f", "submission.csv", "-m", "from a kernel",
    )  # fmt: skip
    assert "Successfully submitted" in sent.stdout, sent
    assert local.submissions()[0]["publicScore"] == "1.00000"
    direct = tmp_path / "submission.csv"
    direct.write_text("id,label\n")
    refused = local.cli("competitions", "submit", "my-comp", "-f", str(direct), "-m", "a file")
    assert refused.returncode == 1


@needs_bwrap
def test_models_are_created_with_instances_and_versions(local: Local, tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model-metadata.json").write_text(
        json.dumps({
            "ownerSlug": "local", "title": "My Model", "slug": "my-model", "subtitle": "",
            "isPrivate": True, "description": "d", "publishTime": "", "provenanceSources": "",
        })
    )  # fmt: skip
    made = local.cli("models", "create", "-p", str(folder))
    assert "created" in made.stdout, made
    instance = tmp_path / "instance"
    instance.mkdir()
    (instance / "weights.bin").write_bytes(b"w" * 100)
    (instance / "model-instance-metadata.json").write_text(
        json.dumps({
            "ownerSlug": "local", "modelSlug": "my-model", "instanceSlug": "base",
            "framework": "pyTorch", "overview": "o", "usage": "u", "licenseName": "Apache 2.0",
            "fineTunable": False, "trainingData": [], "modelInstanceType": "Unspecified",
            "baseModelInstanceId": 0, "externalBaseModelUrl": "",
        })
    )  # fmt: skip
    made = local.cli("models", "instances", "create", "-p", str(instance))
    assert "created" in made.stdout, made
    more = local.cli(
        "models", "instances", "versions", "create", "local/my-model/pyTorch/base",
        "-p", str(instance), "-n", "second",
    )  # fmt: skip
    assert "created" in more.stdout, more
    run = local.run(
        "uses-model",
        "import glob; print(glob.glob('/kaggle/input/**/weights.bin', recursive=True))",
        modelDataSources=["local/my-model/pyTorch/base/2"],
    )
    assert "/kaggle/input/models/local/my-model/pytorch/base/2/weights.bin" in local.log(run)
    versions = ("models", "instances", "versions")
    assert "weights.bin" in local.cli(*versions, "files", "local/my-model/pyTorch/base/2").stdout
    down = local.cli(*versions, "download", "local/my-model/pyTorch/base/1", "-p", str(tmp_path))
    assert list(tmp_path.glob("*.tar.gz")) or list(tmp_path.glob("*.zip")), down
    gone = local.cli(*versions, "delete", "local/my-model/pyTorch/base/1", "-y")
    assert gone.returncode == 0, gone
    assert local.cli(*versions, "files", "local/my-model/pyTorch/base/1").returncode == 1
    gone = local.cli("models", "instances", "delete", "local/my-model/pyTorch/base", "-y")
    assert gone.returncode == 0, gone
    assert local.cli("models", "instances", "get", "local/my-model/pyTorch/base").returncode == 1
    assert local.cli("models", "delete", "local/my-model", "-y").returncode == 0
    assert local.cli("models", "get", "local/my-model").returncode == 1


def test_quota_is_shown_with_whole_days(local: Local):
    shown = local.cli("quota", "--format", "json")
    assert "30.00h" in shown.stdout, shown


def test_a_token_is_as_good_as_a_key(local: Local):
    listed = local.cli(
        "datasets",
        "list",
        "-m",
        KAGGLE_API_TOKEN="KGAT_anything",
        KAGGLE_USERNAME="",
        KAGGLE_KEY="",
    )
    assert listed.returncode == 0, listed
    local.state.revoke("KGAT_anything")
    refused = local.cli(
        "datasets",
        "list",
        "-m",
        KAGGLE_API_TOKEN="KGAT_anything",
        KAGGLE_USERNAME="",
        KAGGLE_KEY="",
    )
    assert refused.returncode == 1


def test_a_client_that_was_sent_to_the_real_service_is_stopped_here(local: Local):
    stray = local.cli("competitions", "list", KAGGLE_API_ENVIRONMENT="")
    assert stray.returncode == 1
    assert "501" in stray.stderr + stray.stdout


def test_a_failed_push_says_why_although_it_ends_with_code_0(local: Local, tmp_path: Path):
    local.state.configure(cpu_sessions=0)
    folder = write_kernel(tmp_path / "k", "kernel-one", "print(1)")
    pushed = local.cli("kernels", "push", "-p", str(folder))
    assert "Maximum batch CPU session count of 0 reached." in pushed.stdout
    assert pushed.returncode == 0
    listed = local.call(f"{KERNELS}/ListKernels", group="PROFILE")
    assert listed == {}


def test_the_installed_program_says_the_same(local: Local, monkeypatch: pytest.MonkeyPatch):
    """The other tests start it from a parent that has its libraries already."""
    for arguments in (
        ("kernels", "list", "-m"), ("datasets", "status", "local/missing-set"), ("nonsense",),
    ):  # fmt: skip
        quick = local.cli(*arguments)
        with monkeypatch.context() as patch:
            patch.setenv("HARNESS_PLAIN_CLI", "1")
            plain = local.cli(*arguments)
        assert (quick.returncode, quick.stdout) == (plain.returncode, plain.stdout)
        assert quick.stderr == plain.stderr
