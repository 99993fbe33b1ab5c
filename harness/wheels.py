"""What a kernel needs and Kaggle's image lacks, and wheels of it for the image's Python.

A kernel without internet cannot install from an index, so the wheels travel as a dataset and the script
installs them with ``--no-index`` before its imports. What the image has is dated data: kaggle_image.py.
"""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from harness.errors import ConfigError
from harness.kaggle_image import (
    IMAGE_DATE,
    IMAGE_PACKAGES,
    IMAGE_PLATFORMS,
    IMAGE_PYTHON,
    IMPORT_DISTRIBUTIONS,
)
from harness.package import ABOUT, about_or_nothing
from kernels.contract import write_json

PYTHON = ".".join(map(str, IMAGE_PYTHON))


@dataclass(frozen=True)
class Wheel:
    """One distribution at one version."""

    name: str
    version: str


def canonical(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    """The name in ``monai==1.4`` or ``monai[all]>=1``, in canonical form.

    Only the name is looked at: metadata of older packages has versions in forms that are no longer read.
    """
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    if match is None:
        raise _no_requirement(requirement)
    return canonical(match[1].rstrip("-._"))


def _no_requirement(text: str) -> ConfigError:
    return ConfigError(f"{text!r} is no requirement.", "Write a name, or name==version.")


def met_by_image(requirement: str) -> bool:
    """True when Kaggle's image has what is asked for, or its Python does not ask for it.

    A version, or an address, is not taken on trust: where the image's version is not known, it is not met.
    """
    name = requirement_name(requirement)
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement as error:
        raise _no_requirement(requirement) from error
    if parsed.marker is not None and not parsed.marker.evaluate({"python_version": PYTHON}):
        return True
    if parsed.url is not None or name not in IMAGE_PACKAGES:
        return False
    version = IMAGE_PACKAGES[name]
    return not parsed.specifier or bool(
        version and parsed.specifier.contains(version, prereleases=True)
    )


def imported_modules(source: str) -> set[str]:
    """Top-level names of everything a script imports from outside the standard library.

    Not what it can do without: imports below ``try`` with a handler for ImportError.
    """
    tree = ast.parse(source)
    optional: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(map(_catches_imports, node.handlers)):
            optional |= {id(inner) for part in node.body for inner in ast.walk(part)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in optional:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names and name != "kernels"}


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else {"Exception"}  # fmt: skip
    return bool(names & {"ImportError", "ModuleNotFoundError", "Exception"})


def distribution_of(module: str) -> str:
    """The distribution that an imported module comes from, by what is known of the image or is here."""
    if module in IMPORT_DISTRIBUTIONS:
        return IMPORT_DISTRIBUTIONS[module]
    name = canonical(module)
    if name in IMAGE_PACKAGES:
        return name
    here = importlib.metadata.packages_distributions().get(module)
    return canonical(here[0]) if here else name


def missing_requirements(source: str, declared: Iterable[str] = ()) -> list[str]:
    """What a script needs and the image lacks or has at another version, as requirements, sorted.

    Args:
        declared: The strategy's own ``packages``: names to import or to install; a version counts.
    """
    known = [IMPORT_DISTRIBUTIONS.get(item.strip(), item) for item in declared]
    wanted = {requirement_name(item): item for item in known}
    for module in imported_modules(source):
        name = distribution_of(module)
        wanted.setdefault(name, name)
    return [wanted[name] for name in sorted(wanted) if not met_by_image(wanted[name])]


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    platforms = [word for platform in IMAGE_PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--only-binary=:all:"]  # fmt: skip
    command += ["--python-version", PYTHON, "--implementation", "cp", *platforms]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def resolve(requirements: Sequence[str]) -> list[Wheel]:
    """Every distribution to pack: the requirements and what they need, but for what the image has.

    Versions in the image bind the resolution where they are known, but for what is asked for itself: that
    is packed at the version that was asked for, and found before the image's.

    Raises:
        ConfigError: There is no such set of wheels for the image; pip's reason is in the message.
    """
    own = {requirement_name(item) for item in requirements}
    image = {
        name: version for name, version in IMAGE_PACKAGES.items() if version and name not in own
    }
    with tempfile.TemporaryDirectory() as scratch:
        constraints = Path(scratch) / "image.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in image.items()))
        report = Path(scratch) / "report.json"
        done = _pip(
            "install", "--dry-run", "--ignore-installed", "--quiet", "--target", f"{scratch}/none",
            "--report", str(report), "--constraint", str(constraints), *requirements,
        )  # fmt: skip
        if done.returncode != 0:
            raise ConfigError(
                f"No wheels of {', '.join(requirements)} for Python {PYTHON} on Kaggle's image of {IMAGE_DATE}: "
                f"{_reason(done)}",
                "Name other versions in the strategy's packages, and those of the image's packages that they need "
                "at another version; or go online.",
            )
        items = [item["metadata"] for item in json.loads(report.read_text("utf-8"))["install"]]
    return _beyond_the_image(items, requirements)


def _beyond_the_image(items: Sequence[dict[str, Any]], requirements: Sequence[str]) -> list[Wheel]:
    """What is reached from the requirements without passing through a distribution of the image."""
    by_name = {canonical(item["name"]): item for item in items}
    pending = [requirement_name(item) for item in requirements]
    own = frozenset(pending)
    reached: set[str] = set()
    while pending:
        name = pending.pop()
        of_image = name in IMAGE_PACKAGES and name not in own
        if name in reached or of_image or name not in by_name:
            continue
        reached.add(name)
        pending += [requirement_name(item) for item in by_name[name].get("requires_dist", [])]
    return [Wheel(name, by_name[name]["version"]) for name in sorted(reached)]


def build_wheels(folder: Path, strategy: str, requirements: Sequence[str]) -> list[Wheel]:
    """Download the wheels of some requirements into a dataset folder; all of them or none.

    Raises:
        ConfigError: See resolve; or a download failed.
    """
    wheels = resolve(requirements)
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    done = _pip(
        "download", "--no-deps", "--quiet", "--dest", str(draft),
        *(f"{wheel.name}=={wheel.version}" for wheel in wheels),
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        raise ConfigError(f"The wheels could not be downloaded: {_reason(done)}")
    write_json(
        draft / ABOUT,
        {
            "about": f"Wheels that the kernels of {strategy} install: what Kaggle's image lacks.",
            "requirements": list(requirements),
            "wheels": [f"{wheel.name}=={wheel.version}" for wheel in wheels],
            "python": PYTHON,
            "image": IMAGE_DATE,
        },
    )
    _replace(folder, draft)
    return wheels


def _replace(folder: Path, draft: Path) -> None:
    """Put a new build in an earlier one's place; what was not built, such as a README or a wheel of one's
    own, goes along.
    """
    aside = folder.with_name(f".{folder.name}.old")
    if aside.is_dir() and not folder.exists():
        aside.rename(folder)  # an earlier one was cut off in between
    if folder.is_dir():
        built = {tuple(item.split("==")) for item in _listed(folder, "wheels")}
        for path in folder.iterdir():
            name, _, rest = path.name.partition("-")
            ours = path.name == ABOUT or (
                path.suffix == ".whl" and (canonical(name), rest.partition("-")[0]) in built
            )
            if not ours and not (draft / path.name).exists():
                if path.is_dir():
                    shutil.copytree(path, draft / path.name, symlinks=True)
                else:
                    shutil.copy2(path, draft / path.name, follow_symlinks=False)
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    draft.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def packed_requirements(folder: Path) -> list[str]:
    """The requirements that a dataset folder of wheels was built for; none when it is no such folder."""
    return _listed(folder, "requirements")


def _listed(folder: Path, key: str) -> list[str]:
    """A list in a folder's record; empty when there is none."""
    items = about_or_nothing(folder).get(key)
    return [str(item) for item in items] if isinstance(items, list) else []


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no reason given"])[-1].rstrip(".") + "."
