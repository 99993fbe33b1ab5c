"""Init: make a folder a workspace, with a copy of the kernels package that is its own from then on."""

import shutil
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from harness.durable import write_text
from harness.errors import ConfigError

KERNELS = "kernels"


@dataclass(frozen=True)
class Made:
    """What was written, relative to the workspace."""

    workspace: Path
    files: tuple[str, ...]


def scaffold_text(template: str, /, **values: Any) -> str:
    """A template of harness/scaffold with its names filled in."""
    return Template((files("harness.scaffold") / template).read_text("utf-8")).substitute(values)


def kernels_source() -> Path:
    """The kernels package to copy: the wheel's, or in a checkout the one beside harness.

    Raises:
        ConfigError: Neither is there.
    """
    package = Path(sys.modules["harness"].__file__ or "").resolve().parent
    for folder in (package / "scaffold" / KERNELS, package.parent / KERNELS):
        if (folder / "config.py").is_file():
            return folder
    raise ConfigError(
        "This installation of harness carries no kernels package.", "Install it again."
    )


def init(folder: Path) -> Made:
    """Make a workspace; what is there already is kept.

    Raises:
        ConfigError: The folder is a workspace already, or holds another ``kernels``.
    """
    folder = folder.resolve()
    target = folder / KERNELS
    if (target / "config.py").is_file() and (folder / "pyproject.toml").is_file():
        raise ConfigError(f"{folder} is a workspace already.", "Go on with: harness strategies")
    if target.exists() and not (target / "config.py").is_file():
        raise ConfigError(f"{target} exists and is something else.", "Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    if not target.exists():
        partial = folder / f".{KERNELS}.part"
        shutil.rmtree(partial, ignore_errors=True)  # of an init that was cut off
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(kernels_source(), partial, ignore=ignored)
        partial.rename(target)
        made.append(f"{KERNELS}/")
    for name, template in (
        (".gitignore", "gitignore.tmpl"),
        ("pyproject.toml", "pyproject.toml.tmpl"),
    ):
        path = folder / name
        if not path.exists():
            write_text(path, scaffold_text(template))
            made.append(name)
    return Made(folder, tuple(made))
