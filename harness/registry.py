"""Finds strategies and competitions by module name in the workspace's kernels package."""

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from harness.errors import ConfigError
from kernels.config import Competition, Strategy
from kernels.contract import INFERENCE_KIND


def module_names(workspace: Path, package: str) -> list[str]:
    """Names of the modules in kernels/<package>, sorted."""
    folder = workspace / "kernels" / package
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def did_you_mean(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for an unknown name, with the nearest known one."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"Unknown {kind} {name!r}.", f"{guess}Known: {', '.join(known)}.")


def _imported(place: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(f"kernels.{place}.{name}")
    except Exception as error:  # it is somebody's file: whatever it does
        raise ConfigError(f"kernels/{place}/{name}.py cannot be read: {error}.") from error


def load_strategy(workspace: Path, name: str, variant: str = "default") -> Strategy:
    """A strategy by name; a variant is another constant of its file (as-written: AS_WRITTEN).

    Raises:
        ConfigError: Unknown name or variant (nearest and known ones named), or a broken file.
    """
    known = module_names(workspace, "strategies")
    if name not in known:
        raise did_you_mean("strategy", name, known)
    if name == INFERENCE_KIND:
        raise ConfigError(
            f"kernels/strategies/{name}.py: runs of blends as kernels have this name.", "Rename it."
        )
    module = _imported("strategies", name)
    constant = "STRATEGY" if variant == "default" else variant.upper().replace("-", "_")
    strategy = getattr(module, constant, None)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"kernels/strategies/{name}.py defines no {constant}.",
            f"Variants it has: {', '.join(variants_of(name))}.",
        )
    return strategy


def variants_of(name: str) -> list[str]:
    """The variants that a strategy's file holds, default first (ConfigError: a broken file)."""
    others = [
        key.lower().replace("_", "-")
        for key, value in vars(_imported("strategies", name)).items()
        if isinstance(value, Strategy) and key != "STRATEGY"
    ]
    return ["default", *sorted(others)]


def load_competition(workspace: Path, name: str) -> Competition:
    """A competition by its module's name.

    Raises:
        ConfigError: Unknown name (nearest and known ones named), or a broken file.
    """
    from kernels.stats.metrics import find_metric  # numpy, which listing strategies does without

    known = module_names(workspace, "competitions")
    if name not in known:
        raise did_you_mean("competition", name, known)
    module = _imported("competitions", name)
    competition = getattr(module, "COMPETITION", None)
    if not isinstance(competition, Competition):
        raise ConfigError(f"kernels/competitions/{name}.py defines no COMPETITION.")
    try:
        find_metric(competition.metric)
    except ValueError as error:
        raise ConfigError(f"kernels/competitions/{name}.py: {error}.") from error
    return competition


def competition_by_slug(workspace: Path, slug: str) -> Competition:
    """A competition by Kaggle's slug or by its module's name (ConfigError names the known slugs)."""
    found = {}
    for name in module_names(workspace, "competitions"):
        competition = load_competition(workspace, name)
        if slug in (competition.slug, name):
            return competition
        found[competition.slug] = name
    raise did_you_mean("competition", slug, sorted(found))


def load_strategies(workspace: Path) -> list[Strategy]:
    """Every strategy, by name."""
    return [load_strategy(workspace, name) for name in module_names(workspace, "strategies")]
