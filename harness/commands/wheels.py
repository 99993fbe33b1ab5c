"""Wheels: a dataset of what each strategy's kernel imports and Kaggle's image lacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.commands.package import PackageResult, known_state
from harness.package import packer_for, wheels_slug
from harness.publishing import publish_dataset
from harness.records import RunSpec
from harness.registry import load_competition, load_strategies, load_strategy
from harness.render import render_kernel
from harness.settings import choose_profile
from harness.wheels import build_wheels, missing_requirements
from harness.workbench import Workbench


@dataclass(frozen=True)
class WheelsResult:
    """What one strategy needs."""

    strategy: str
    missing: tuple[str, ...]  # requirements that the image does not meet
    wheels: tuple[str, ...]  # name==version of every wheel that was packed
    result: PackageResult | None


def wheels(bench: Workbench, names: Sequence[str], publish: bool) -> list[WheelsResult]:
    """Build a wheels dataset for each named strategy (or all) that lacks something.

    Raises:
        ConfigError: An unknown strategy, or no wheels fit the image.
    """
    workspace = bench.settings.workspace
    profile, _ = choose_profile(bench.settings)
    packer = packer_for(bench.settings)
    found = []
    for strategy in [load_strategy(workspace, name) for name in names] or load_strategies(
        workspace
    ):
        competition = load_competition(workspace, strategy.competition)
        spec = RunSpec(strategy.name, profile=profile)
        source = render_kernel(workspace, strategy, spec, "me", competition.slug, {}).source
        missing = missing_requirements(source, strategy.packages)
        if not missing:
            found.append(WheelsResult(strategy.name, (), (), None))
            continue
        bench.progress(f"{strategy.name}: looking for wheels of {', '.join(missing)}")
        slug = wheels_slug(strategy.name)
        packed = build_wheels(packer.datasets_folder / slug, strategy.name, missing)
        build = packer.folder(slug)
        state, version = known_state(bench, build)
        result = PackageResult(slug, build, state, version)
        if publish:
            done = publish_dataset(bench, build)
            result = PackageResult(slug, build, done.state, done.version, done.sent)
        names_of = tuple(f"{wheel.name}=={wheel.version}" for wheel in packed)
        found.append(WheelsResult(strategy.name, tuple(missing), names_of, result))
    return found
