"""Wheels: what a script imports is read from its syntax, and only what the image lacks is packed."""

import json
import zipfile

import pytest

from harness.errors import ConfigError
from harness.kaggle_image import IMAGE_PACKAGES
from harness.wheels import (
    Wheel,
    build_wheels,
    imported_modules,
    missing_requirements,
    packed_requirements,
    requirement_name,
)

SCRIPT = """
import os
import json, tinylib.inner
import numpy as np
from sklearn.metrics import roc_auc_score
import cv2

def later():
    from another_lib import thing
    return thing

try:
    import optional_lib
except ImportError:
    optional_lib = None

try:
    import needed_lib
except ValueError:
    pass
"""


def make_wheel(folder, name, version, requires=()):
    """A wheel as pip takes it, of one module that says its version."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}.py", f"VERSION = {version!r}\n")
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {item}" for item in requires]
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )  # fmt: skip
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels in place of the network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_imports_are_read_from_syntax_and_optional_ones_left_out():
    assert imported_modules(SCRIPT) == {
        "tinylib", "numpy", "sklearn", "cv2", "another_lib", "needed_lib",
    }  # fmt: skip


def test_only_what_the_image_lacks_is_missing_and_declared_versions_count():
    assert missing_requirements(SCRIPT, ["torch", "another-lib==2.1", "Extra_Lib>=3"]) == [
        "another-lib==2.1", "Extra_Lib>=3", "needed-lib", "tinylib",
    ]  # fmt: skip
    assert missing_requirements("", ["PIL", "sklearn", "torch"]) == []  # names to import pass too
    assert missing_requirements("import torch, timm, skimage, PIL, yaml\n") == []


@pytest.mark.parametrize(
    ("declared", "missing"),
    [
        ("timm>=99", True),
        ("numpy>=2", False),
        ("kornia", False),
        ("kornia==0.1", True),  # the image's version is not known
        ("timm @ https://example.org/timm-99-py3-none-any.whl", True),
        ("timm>=99; python_version<'3.8'", False),
    ],
)
def test_a_version_that_the_image_does_not_have_is_missing(declared, missing):
    assert missing_requirements("import timm\n", [declared]) == ([declared] if missing else [])


def test_what_is_no_requirement_is_refused():
    with pytest.raises(ConfigError, match="no requirement"):
        missing_requirements("", ["timm=>1"])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("monai", "monai"),
        ("Monai_Lib[all]>=1.4", "monai-lib"),
        ("a.b==1 ; python_version>'3'", "a-b"),
    ],
)
def test_names_of_requirements(text, name):
    assert requirement_name(text) == name


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="no requirement"):
        requirement_name("==1.0")


def test_needs_of_needs_are_packed_and_the_image_is_not(index, tmp_path):
    make_wheel(index, "tinylib", "1.0", ["tinydep>=1", "numpy", "sometimes; extra == 'x'"])
    make_wheel(index, "tinydep", "1.2")
    make_wheel(index, "numpy", IMAGE_PACKAGES["numpy"], ["of-the-image"])
    make_wheel(index, "of-the-image", "9.0")
    folder = tmp_path / "datasets" / "wheels-mine"
    wheels = build_wheels(folder, "mine", ["tinylib"])
    assert wheels == [Wheel("tinydep", "1.2"), Wheel("tinylib", "1.0")]
    names = sorted(path.name for path in folder.glob("*.whl"))
    assert names == ["tinydep-1.2-py3-none-any.whl", "tinylib-1.0-py3-none-any.whl"]
    assert packed_requirements(folder) == ["tinylib"]
    assert json.loads((folder / "about.json").read_text())["python"] == "3.12"


def test_a_set_that_does_not_exist_leaves_the_old_one(index, tmp_path):
    make_wheel(index, "tinylib", "1.0")
    folder = tmp_path / "datasets" / "wheels-mine"
    build_wheels(folder, "mine", ["tinylib"])
    with pytest.raises(ConfigError, match="tinylib==7"):
        build_wheels(folder, "mine", ["tinylib==7"])
    assert [path.name for path in folder.glob("*.whl")] == ["tinylib-1.0-py3-none-any.whl"]
    assert list(folder.parent.iterdir()) == [folder]


def test_what_was_not_built_stays_and_an_old_build_goes(index, tmp_path):
    make_wheel(index, "tinylib", "1.0")
    folder = tmp_path / "datasets" / "wheels-mine"
    build_wheels(folder, "mine", ["tinylib"])
    make_wheel(folder, "private", "3.1")
    (folder / "README.md").write_text("mine")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("kept")
    make_wheel(index, "tinylib", "2.0")
    build_wheels(folder, "mine", ["tinylib==2.0"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "about.json", "notes", "private-3.1-py3-none-any.whl", "tinylib-2.0-py3-none-any.whl",
    ]  # fmt: skip
    assert (folder / "notes" / "a.txt").read_text() == "kept"
    folder.rename(folder.with_name(".wheels-mine.old"))  # cut off between two renames
    build_wheels(folder, "mine", ["tinylib==2.0"])
    assert (folder / "README.md").read_text() == "mine"
    assert list(folder.parent.iterdir()) == [folder]


def test_what_the_image_has_at_another_version_is_packed_at_the_one_asked_for(index, tmp_path):
    make_wheel(index, "timm", "99.1", ["numpy", "tinydep"])
    make_wheel(index, "tinydep", "1.2")
    make_wheel(index, "numpy", IMAGE_PACKAGES["numpy"])
    wheels = build_wheels(tmp_path / "datasets" / "wheels-mine", "mine", ["timm>=99"])
    assert wheels == [Wheel("timm", "99.1"), Wheel("tinydep", "1.2")]


def test_the_image_binds_what_may_be_chosen(index, tmp_path):
    make_wheel(index, "numpy", "99.0")
    make_wheel(index, "tinylib", "1.0", ["numpy>=99"])
    with pytest.raises(ConfigError, match="No wheels of tinylib"):
        build_wheels(tmp_path / "wheels-mine", "mine", ["tinylib"])
