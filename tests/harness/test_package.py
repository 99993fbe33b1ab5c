"""Dataset folders: valid, private, described, and only touched where something changed."""

import errno
import json
import shutil
import time

import pytest

from harness import package as package_module
from harness.commands.package import find_slug
from harness.errors import ConfigError
from harness.package import CODE_SLUG, MANIFEST, METADATA, README, Packer, kind_of, metadata_faults


@pytest.fixture
def packer(tmp_path):
    kernels = tmp_path / "kernels"
    (kernels / "blocks").mkdir(parents=True)
    (kernels / "config.py").write_text("A = 1\n")
    (kernels / "blocks" / "one.py").write_text("B = 2\n")
    (kernels / "__pycache__").mkdir()
    (kernels / "__pycache__" / "config.pyc").write_bytes(b"x")
    return Packer(tmp_path, tmp_path / "datasets", tmp_path / "indexes", "me")


def payload(packer, slug, **files):
    folder = packer.datasets_folder / slug
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_the_code_dataset_holds_the_package_and_says_what_it_is(packer):
    build = packer.code()
    assert [file.path for file in build.files] == ["kernels/blocks/one.py", "kernels/config.py"]
    manifest = json.loads((build.folder / MANIFEST).read_text())
    assert manifest["digest"] == build.digest
    assert manifest["files"][1]["sha256"] == build.files[1].sha256
    assert set(manifest["producer"]) == {"commit", "uncommitted_changes"}
    metadata = json.loads((build.folder / METADATA).read_text())
    assert metadata["id"] == f"me/{CODE_SLUG}"
    assert metadata_faults(metadata) == []
    assert build.digest in (build.folder / README).read_text()


def test_one_edited_module_is_the_only_file_touched_and_read(packer):
    packer.code()
    copy = packer.datasets_folder / CODE_SLUG / "kernels"
    before = (copy / "blocks" / "one.py").stat().st_mtime_ns
    time.sleep(0.12)
    packer.code()
    time.sleep(0.12)
    (packer.workspace / "kernels" / "config.py").write_text("A = 3\n")
    build = packer.code()
    assert build.read == 1
    assert (copy / "config.py").read_text() == "A = 3\n"
    assert (copy / "blocks" / "one.py").stat().st_mtime_ns == before


def test_a_removed_module_leaves_the_code_dataset(packer):
    packer.code()
    shutil.rmtree(packer.workspace / "kernels" / "blocks")
    assert [file.path for file in packer.code().files] == ["kernels/config.py"]
    assert not (packer.datasets_folder / CODE_SLUG / "kernels" / "blocks").exists()


def test_a_secret_in_the_code_is_not_even_copied(packer):
    (packer.workspace / "kernels" / "kaggle.json").write_text("x")
    with pytest.raises(ConfigError, match="secret"):
        packer.code()
    assert not list(packer.datasets_folder.rglob("kaggle.json"))


def test_equal_content_has_an_equal_digest_wherever_it_lies(packer):
    payload(packer, "checkpoints-one", a__bin="x", b__bin="y")
    payload(packer, "checkpoints-two", b__bin="y", a__bin="x")
    assert packer.folder("checkpoints-one").digest == packer.folder("checkpoints-two").digest


def test_kinds_go_by_the_first_word():
    slugs = ("harness-kernels-code", "weights-x", "checkpoints-x", "wheels-x", "my-notes")
    assert [kind_of(slug) for slug in slugs] == ["code", "weights", "checkpoints", "wheels", "data"]


def test_own_title_licence_and_readme_are_kept(packer):
    folder = payload(packer, "my-notes", a__txt="x", README__md="Mine.")
    mine = {"id": "me/my-notes", "title": "Notes of mine", "licenses": [{"name": "CC0-1.0"}]}
    (folder / METADATA).write_text(json.dumps({**mine, "keywords": ["x-ray"]}))
    build = packer.folder("my-notes")
    assert (build.title, build.license) == ("Notes of mine", "CC0-1.0")
    assert (folder / README).read_text() == "Mine."
    assert json.loads((folder / METADATA).read_text())["keywords"] == ["x-ray"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": "abc"}, "title"),
        ({"title": 7}, "title"),
        ({"licenses": [{"name": "MIT"}]}, "licenses"),
        ({"licenses": []}, "licenses"),
        ({"licenses": "CC0-1.0"}, "licenses"),
        ({"subtitle": "short"}, "subtitle"),
        ({"isPrivate": False}, "public"),
        ({"id": "me/elsewhere"}, "Make them equal"),
    ],
)
def test_metadata_that_the_service_would_refuse_is_named(packer, change, words):
    folder = payload(packer, "my-notes", a__txt="x")
    (folder / METADATA).write_text(json.dumps(change))
    with pytest.raises(ConfigError, match=words):
        packer.folder("my-notes")


@pytest.mark.parametrize("slug", ["short", "Upper-case", "two--dashes", "x" * 51, "under_score"])
def test_slugs_that_the_service_would_refuse_are_named(packer, slug):
    payload(packer, slug, a__txt="x")
    with pytest.raises(ConfigError, match="slug"):
        packer.folder(slug)


def test_damaged_metadata_is_named(packer):
    folder = payload(packer, "my-notes", a__txt="x")
    (folder / METADATA).write_text("{")
    with pytest.raises(ConfigError, match="no JSON"):
        packer.folder("my-notes")


def test_an_empty_and_a_missing_folder_say_what_to_do(packer):
    payload(packer, "my-notes")
    with pytest.raises(ConfigError, match="holds no file"):
        packer.folder("my-notes")
    with pytest.raises(ConfigError, match=r"no folder.*my-notes-2"):
        packer.folder("my-notes-2")


def test_names_of_no_dataset_say_what_one_is(packer):
    payload(packer, "my-notes")
    assert find_slug(packer, "my-notes") == "my-notes"  # empty: building it says so
    for name in ("lung-masks", "", "..", "../kernels"):
        with pytest.raises(ConfigError, match=r"Unknown dataset .*put its files there first"):
            find_slug(packer, name)


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(packer, monkeypatch):
    def full(source, target):
        target.write_bytes(b"ha")  # what a full disk leaves behind
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(package_module.shutil, "copyfile", full)
    with pytest.raises(ConfigError, match=r"No space left on device.*Nothing was published"):
        packer.code()
    monkeypatch.undo()
    assert len(packer.code().files) == 2


def test_a_full_disk_while_the_manifest_is_written_leaves_the_old_one(packer, monkeypatch):
    folder = payload(packer, "my-notes", a__txt="x")
    packer.folder("my-notes")
    before = (folder / MANIFEST).read_text()
    (folder / "b.txt").write_text("y")

    def full(self, *_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(ConfigError, match="No space left"):
        packer.folder("my-notes")
    monkeypatch.undo()
    assert (folder / MANIFEST).read_text() == before
    assert len(packer.folder("my-notes").files) == 2
