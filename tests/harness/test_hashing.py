"""Only what changed is read again, and no edit hides behind numbers that look the same."""

import hashlib
import json
import os
import time

import pytest

from harness import hashing
from harness.errors import ConfigError
from harness.hashing import content_digest, look
from harness.records import PackedFile


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 100)
    (folder / "inner" / "b.bin").write_bytes(b"b" * 200)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "c.bin").write_bytes(b"c")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "d.pyc").write_bytes(b"d")
    return folder


@pytest.fixture
def index(tmp_path):
    return tmp_path / "state" / "index.json"


def settled(folder, index, **options):
    """A look at a folder that was left alone for long enough to be believed."""
    time.sleep(2 * hashing.FINE_MARGIN_NS / 1e9)
    return look(folder, index, **options)


def test_the_digest_is_over_paths_and_hashes(tree):
    found = look(tree)
    files = (
        PackedFile("a.bin", 100, hashlib.sha256(b"a" * 100).hexdigest()),
        PackedFile("inner/b.bin", 200, hashlib.sha256(b"b" * 200).hexdigest()),
    )
    assert found.files == files
    assert found.digest == content_digest(files)
    assert (found.read, found.read_bytes) == (2, 300)


def test_nothing_changed_reads_nothing(tree, index):
    first = settled(tree, index)
    again = look(tree, index)
    assert (again.read, again.digest, again.files) == (0, first.digest, first.files)


def test_only_the_changed_file_is_read(tree, index):
    settled(tree, index)
    (tree / "a.bin").write_bytes(b"x" * 100)
    found = look(tree, index)
    assert found.read == 1
    assert found.digest == look(tree).digest


def test_new_removed_and_renamed_files_are_noticed(tree, index):
    first = settled(tree, index)
    (tree / "inner" / "b.bin").rename(tree / "inner" / "e.bin")
    renamed = look(tree, index)
    assert renamed.digest != first.digest
    (tree / "inner" / "e.bin").unlink()
    gone = look(tree, index)
    assert [file.path for file in gone.files] == ["a.bin"]
    assert gone.digest == look(tree).digest


def test_an_edit_with_its_time_put_back_is_noticed(tree, index):
    settled(tree, index)
    path = tree / "a.bin"
    times = path.stat()
    with path.open("r+b") as handle:
        handle.write(b"z")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert look(tree, index).digest == look(tree).digest


def test_files_as_young_as_the_index_are_not_believed(tree, index):
    look(tree, index)
    kept = json.loads(index.read_text())
    kept["began"] = kept["files"]["a.bin"][1]  # made in the moment of the file's last write
    index.write_text(json.dumps(kept))
    assert look(tree, index).read == 2


def test_whole_second_times_need_a_wider_margin(tree, index):
    """On a file system that keeps seconds, an edit within the second shows the same time."""
    settled(tree, index)
    kept = json.loads(index.read_text())
    kept["files"]["a.bin"][1] = kept["files"]["a.bin"][1] // 1_000_000_000 * 1_000_000_000
    os.utime(tree / "a.bin", ns=(kept["files"]["a.bin"][1],) * 2)
    stat = (tree / "a.bin").stat()
    kept["files"]["a.bin"][2] = stat.st_ctime_ns
    for after_s, believed in ((1.0, False), (3.0, True)):
        kept["began"] = stat.st_ctime_ns + int(after_s * 1e9)
        index.write_text(json.dumps(kept))
        assert (look(tree, index).read == 0) is believed


def test_rehash_reads_everything(tree, index):
    settled(tree, index)
    assert look(tree, index, rehash=True).read == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 0}', '{"files": 3}'])
def test_a_damaged_index_only_costs_reading_again(tree, index, damage):
    first = settled(tree, index)
    index.write_text(damage)
    assert look(tree, index).digest == first.digest


def test_other_rules_look_at_every_file_again(tree, index):
    settled(tree, index, rules="one")
    asked = []

    def rule(path, file):
        asked.append(path)
        return path != "a.bin"

    found = look(tree, index, rule=rule, rules="two")
    assert sorted(asked) == ["a.bin", "inner/b.bin"]
    assert [file.path for file in found.files] == ["inner/b.bin"]
    time.sleep(0.11)
    look(tree, index, rule=rule, rules="two", rehash=True)
    asked.clear()
    assert look(tree, index, rule=rule, rules="two").digest == found.digest
    assert asked == []  # also what was left out is remembered


def test_a_file_written_to_while_it_is_read_is_refused(tree, monkeypatch):
    original = hashing.file_digest

    def restless(handle, algorithm):
        digest = original(handle, algorithm)
        with (tree / "a.bin").open("ab") as more:
            more.write(b"!")
        return digest

    monkeypatch.setattr(hashing, "file_digest", restless)
    with pytest.raises(ConfigError, match="changed while it was read"):
        look(tree)


def test_a_file_that_was_written_to_once_is_read_again(tree, monkeypatch):
    original, edits = hashing.file_digest, [b"!"]

    def once(handle, algorithm):
        digest = original(handle, algorithm)
        if edits:
            with (tree / "a.bin").open("ab") as more:
                more.write(edits.pop())
        return digest

    monkeypatch.setattr(hashing, "file_digest", once)
    assert look(tree).digest == look(tree).digest


def test_links_to_folders_and_to_nothing_are_named(tree):
    (tree / "loop").symlink_to(tree)
    with pytest.raises(ConfigError, match="loop is a link to a folder"):
        look(tree)
    (tree / "loop").unlink()
    (tree / "gone").symlink_to(tree / "nowhere")
    with pytest.raises(ConfigError, match="gone is a link to nothing"):
        look(tree)


def test_a_pipe_is_named_and_not_waited_for(tree):
    os.mkfifo(tree / "pipe")
    with pytest.raises(ConfigError, match="pipe is no file"):
        look(tree)


def test_a_link_to_itself_is_named(tree):
    (tree / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="link to nothing"):
        look(tree)


def test_a_full_disk_costs_the_index_only(tree, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    assert look(tree, blocked / "index.json").read == 2
