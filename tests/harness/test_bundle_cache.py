"""A kept bundle is what a new one would be, and everything that could make it another is noticed."""

import dataclasses
import os

import pytest

from harness import bundle as bundling
from harness import bundle_cache
from harness.bundle_cache import cached_bundle
from harness.errors import BundleError

ENTRY = "kernels.main"


@pytest.fixture
def root(tmp_path):
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "leaf.py").write_text("VALUE = 1\n")
    (package / "main.py").write_text(
        "import math\n\nfrom kernels.leaf import VALUE\n\nROOT = math.sqrt(VALUE)\n"
    )
    return tmp_path


@pytest.fixture
def made(monkeypatch):
    """How many bundles were made, and not read."""
    calls = []
    real = bundling.bundle
    monkeypatch.setattr(
        bundle_cache.bundling, "bundle", lambda *rest: calls.append(1) or real(*rest)
    )
    return calls


def test_the_second_command_reads_what_the_first_made(root, made, tmp_path):
    first = cached_bundle(tmp_path / "cache", [ENTRY], root, ("CONFIG",))
    second = cached_bundle(tmp_path / "cache", [ENTRY], root, ("CONFIG",))
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    assert second == bundling.bundle([ENTRY], root, ("CONFIG",))
    assert len(made) == 2  # the last line's is one of them


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "kernels/leaf.py").write_text("VALUE = 2\n"),
        lambda root: (root / "kernels/new.py").write_text(""),
        lambda root: (root / "kernels/main.py").rename(root / "kernels/other.py"),
        lambda root: (root / "kernels/__init__.py").write_text("import os\n"),
    ],
)
def test_a_change_below_kernels_is_never_answered_from_the_cache(root, made, tmp_path, change):
    before = cached_bundle(tmp_path / "cache", [ENTRY], root)
    change(root)
    made.clear()
    try:
        after = cached_bundle(tmp_path / "cache", [ENTRY], root)
    except BundleError as error:
        with pytest.raises(BundleError, match=error.message.split(" ")[0]):
            bundling.bundle([ENTRY], root)
    else:
        assert len(made) == 1
        assert after == bundling.bundle([ENTRY], root)
        assert (before == after) == ("VALUE = 1" in after.body)


def test_modules_behind_a_link_count_too(root, made, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "deep.py").write_text("DEPTH = 1\n")
    (root / "kernels" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "kernels" / "main.py").write_text("from kernels.linked.deep import DEPTH\n")
    cached_bundle(tmp_path / "cache", [ENTRY], root)
    (tmp_path / "elsewhere" / "deep.py").write_text("DEPTH = 2\n")
    assert "DEPTH = 2" in cached_bundle(tmp_path / "cache", [ENTRY], root).body


def test_links_in_circles_and_odd_names_are_no_trouble(root, made, tmp_path):
    (root / "kernels" / "again").symlink_to(root / "kernels")
    (root / "kernels" / "sub").mkdir()
    (root / "kernels" / "sub" / "up").symlink_to(root)
    (root / "kernels" / os.fsdecode(b"caf\xe9.py")).write_text("")
    first = cached_bundle(tmp_path / "cache", [ENTRY], root)
    assert cached_bundle(tmp_path / "cache", [ENTRY], root) == first
    assert len(made) == 1


def test_other_arguments_or_other_rules_make_another_bundle(root, made, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cached_bundle(cache, [ENTRY], root)
    with pytest.raises(BundleError, match="VALUE"):
        cached_bundle(cache, [ENTRY], root, ("VALUE",))
    assert "VALUE" not in cached_bundle(cache, [ENTRY], root, (), ("kernels.leaf",)).body.split()
    monkeypatch.setattr(bundle_cache, "RULES", ("# other rules",))
    cached_bundle(cache, [ENTRY], root)
    assert len(made) == 4


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0" * 64 + b"\n{}", None])
def test_a_damaged_entry_is_made_again(root, made, tmp_path, damage):
    good = cached_bundle(tmp_path / "cache", [ENTRY], root)
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1] if damage is None else damage)
    assert cached_bundle(tmp_path / "cache", [ENTRY], root) == good
    assert len(made) == 2
    assert entry.read_bytes() == whole


def test_a_module_saved_while_its_bundle_is_made_is_not_kept_under_its_old_text(
    root, tmp_path, monkeypatch
):
    real = bundling.bundle

    def slow(*rest):
        (root / "kernels/leaf.py").write_text("VALUE = 2\n")
        return real(*rest)

    monkeypatch.setattr(bundle_cache.bundling, "bundle", slow)
    assert "VALUE = 2" in cached_bundle(tmp_path / "cache", [ENTRY], root).body
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_is_no_trouble(root, made, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert cached_bundle(tmp_path / "cache" / "bundles", [ENTRY], root) == cached_bundle(
        None, [ENTRY], root
    )


def test_only_the_newest_are_kept(root, made, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_cache, "KEPT", 2)
    for number in range(4):
        (root / "kernels/leaf.py").write_text(f"VALUE = {number}\n")
        cached_bundle(tmp_path / "cache", [ENTRY], root)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    cached_bundle(tmp_path / "cache", [ENTRY], root)
    assert len(made) == 4
