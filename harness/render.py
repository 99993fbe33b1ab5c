"""A strategy and a run's spec become one script and its kernel-metadata.json. Pure: same input, same bytes."""

import ast
import pprint
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from string import Template
from typing import Any

import kernels.config
from harness.bundle import Bundle, check_size
from harness.bundle_cache import cached_bundle
from harness.errors import ConfigError
from harness.notebooks import to_notebook
from harness.records import Handle, KernelBuild, RunSpec, slugify, to_json
from kernels.config import (
    AnyConfig,
    Competition,
    InferenceConfig,
    Profiles,
    Strategy,
    apply_overrides,
    check_plain,
)

CODE_FILE = "script.py"
NOTEBOOK_FILE = "notebook.ipynb"
GPU_SHAPE = "NvidiaTeslaT4"  # enable_gpu alone once gave a retired card: always name the machine
LINE_WIDTH = 100
# Minutes of training in a session of the full profile. Kaggle ends one after 12 h (9 h on some
# machines, and in many code competitions); the rest is for the last predictions and the report.
BUDGET_MINUTES = {"gpu": 480, "cpu": 660}
# Stands above all imports: the interpreter starts again before it has loaded torch, not after.
PROCESS_MODULE = "kernels.blocks.process"
TUNE_CALL = 'if __name__ == "__main__":\n    tune_process(globals().get("__file__"))'
TEMPLATE_NAMES = (
    "PROFILES",
    "SPEC",
    "DATASETS",
    "UPSTREAM",
    "BUDGET_MINUTES",
)  # what the template binds around the modules


def backbone_of(config: AnyConfig) -> str | None:
    """The timm name a config trains, or None for stories without a network."""
    value = vars(config).get("backbone")
    return None if value is None else str(value)


def backbones_of(config: AnyConfig) -> tuple[str, ...]:
    """Every timm name whose weights a config starts from, the one it trains first."""
    own = backbone_of(config)
    others = [network.backbone for network in vars(config).get("co_teachers", ())]
    return tuple(dict.fromkeys([own, *others])) if own is not None else ()


def configure(strategy: Strategy, spec: RunSpec) -> Profiles:
    """The strategy's profiles with the spec's seeds, folds and overrides in the profile that runs.

    Raises:
        ConfigError: An override names no field, or has a value its config refuses.
    """
    changes = list(spec.overrides)
    if spec.seeds is not None:
        changes.append(("folds.seeds", spec.seeds))
    if spec.folds is not None:
        changes.append(("folds.run_folds", spec.folds))
    try:
        chosen = apply_overrides(strategy.profiles.pick(spec.profile), tuple(changes))
        check_plain(chosen, spec.profile)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--set: {error}.") from error
    return strategy.profiles.with_profile(spec.profile, chosen)


def kernel_title(strategy: Strategy, spec: RunSpec) -> str:
    """A title whose slug is the kernel's slug, 5 to 50 characters."""
    return slugify(f"{strategy.competition}-{spec.label()}").replace("-", " ")


def default_budget(strategy: Strategy, profile: str) -> int | None:
    """Minutes after which a run stops by itself, safely below what Kaggle allows; None: no limit."""
    return BUDGET_MINUTES[strategy.accelerator] if profile == "full" else None


def render_kernel(
    workspace: Path,
    strategy: Strategy,
    spec: RunSpec,
    owner: str,
    competition_slug: str,
    datasets: Mapping[str, str],
    upstream: Mapping[str, Mapping[str, str]] | None = None,
    kernel_sources: Sequence[str] = (),
    dataset_sources: Sequence[str] = (),
    *,
    code_slug: str | None = None,
    wheels_slug: str | None = None,
    budget_minutes: int | None = None,
    cache: Path | None = None,
) -> KernelBuild:
    """Everything that a push of this spec sends.

    Args:
        code_slug: The dataset that holds the kernels package: the script imports it from there instead of
            containing it.
        wheels_slug: A dataset of wheels that the script installs before its imports.
        datasets: Slug -> content digest of each dataset the script reads; the digests are baked in and
            compared with what is mounted when the script starts.
        upstream: Strategy -> ``slug`` and ``manifest_sha256`` of the run this one starts from, baked in.
        kernel_sources: Handles of kernels whose outputs the script finds by a manifest.
        dataset_sources: Handles of datasets, beside ``datasets``, that hold such outputs.
        budget_minutes: Training time of one session; None: ``default_budget``.
        cache: A folder in which bundles are kept for the next command.

    Raises:
        BundleError: A module of kernels cannot become part of a script.
        ConfigError: The spec does not fit the strategy's config.
    """
    profiles = configure(strategy, spec)
    imports, body = _modules(workspace, strategy, profiles, datasets, code_slug, wheels_slug, cache)
    title = kernel_title(strategy, spec)
    handle = Handle(owner, slugify(title))
    template = Template((workspace / "kernels/templates/script.py.tmpl").read_text("utf-8"))
    source = template.substitute(
        title=f"{strategy.title} ({handle.slug})",
        imports=imports,
        body=body,
        profiles=pprint.pformat(profiles, width=LINE_WIDTH, sort_dicts=True),
        spec=pprint.pformat(to_json(spec), width=LINE_WIDTH, sort_dicts=True),
        datasets=pprint.pformat(dict(sorted(datasets.items())), width=LINE_WIDTH),
        upstream=pprint.pformat(
            {name: dict(run) for name, run in sorted((upstream or {}).items())}, width=LINE_WIDTH
        ),
        budget=repr(budget_minutes or default_budget(strategy, spec.profile)),
    )
    gpu = strategy.accelerator == "gpu" and spec.profile == "full"
    metadata = kernel_metadata(
        handle,
        title,
        gpu=gpu,
        internet=strategy.internet and spec.profile == "full",  # to fetch weights
        datasets=[*(f"{owner}/{slug}" for slug in datasets), *dataset_sources],
        competition=competition_slug,
        kernels=kernel_sources,
    )
    if spec.notebook:
        source = to_notebook(source)
        metadata |= {"code_file": NOTEBOOK_FILE, "kernel_type": "notebook"}
    return KernelBuild(
        handle=handle,
        title=title,
        source=source,
        metadata=metadata,
        spec=spec,
        warnings=tuple(check_size(source)),
    )


def _modules(
    workspace: Path,
    strategy: Strategy,
    profiles: Profiles,
    datasets: Mapping[str, str],
    code_slug: str | None,
    wheels_slug: str | None,
    cache: Path | None,
) -> tuple[str, str]:
    """The script's imports and modules; what has to happen before the imports stands above them."""
    entries = {
        "run_kernel": "kernels.blocks.entry",
        "COMPETITION, read_tables": f"kernels.competitions.{strategy.competition}",
        "run": f"kernels.pipelines.{strategy.pipeline}",
    }
    first_modules, calls = [PROCESS_MODULE], [TUNE_CALL]
    if wheels_slug is not None or code_slug is not None:
        first_modules.append("kernels.blocks.packages")
    if wheels_slug is not None:
        calls.append(f"install_wheels({wheels_slug!r}, {datasets[wheels_slug]!r})")
    if code_slug is not None:
        calls.append(f"use_mounted_code({code_slug!r}, {datasets[code_slug]!r})")
    first = cached_bundle(cache, first_modules, workspace)
    # Also of a thin script: its modules obey the same rules, and are refused here and not on Kaggle.
    flat = cached_bundle(
        cache,
        list(entries.values()),
        workspace,
        reserved=TEMPLATE_NAMES,
        given=first.modules,
    )
    imports, body = flat.imports.rstrip("\n"), flat.body.rstrip("\n")
    if code_slug is not None:
        configs = sorted(
            {
                node.func.id
                for node in ast.walk(ast.parse(repr(profiles)))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
        )
        imports = "\n".join(f"from {module} import {names}" for names, module in entries.items())
        imports += f"\nfrom kernels.config import {', '.join(configs)}"
        body = f"# The modules are those of the mounted dataset {code_slug}."
    return _below(first, calls, imports), body


def _below(first: Bundle, calls: Sequence[str], imports: str) -> str:
    """Imports below the modules that come before them, and what those are called to do."""
    above = f"{first.imports}\n\n{first.body}".rstrip("\n")
    there = {line for line in first.imports.splitlines() if line.startswith("import ")}
    imports = "\n".join(line for line in imports.splitlines() if line not in there)
    return f"{above}\n\n" + "\n".join(calls) + f"\n\n{imports}"


def kernel_metadata(
    handle: Handle,
    title: str,
    *,
    gpu: bool,
    internet: bool,
    datasets: Sequence[str],
    competition: str,
    kernels: Sequence[str],
) -> dict[str, Any]:
    """What kernel-metadata.json says: always private, sources sorted and each once."""
    return {
        "id": f"{handle.owner}/{handle.slug}",
        "title": title,
        "code_file": CODE_FILE,
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": gpu,
        "enable_tpu": False,
        "enable_internet": internet,
        "dataset_sources": sorted(set(datasets)),
        "competition_sources": [competition],
        "kernel_sources": sorted(set(kernels)),
        "model_sources": [],
        **({"machine_shape": GPU_SHAPE} if gpu else {}),
    }


def render_inference(
    workspace: Path,
    module: str,
    competition: Competition,
    config: InferenceConfig,
    spec: RunSpec,
    owner: str,
    *,
    gpu: bool,
    kernel_sources: Sequence[str],
    dataset_sources: Sequence[str],
    cache: Path | None = None,
) -> KernelBuild:
    """The kernel of a code competition: members' checkpoints to one submission, without internet.

    Args:
        module: The competition's, in kernels/competitions.
        cache: As in ``render_kernel``.

    Raises:
        BundleError: A module of kernels cannot become part of a script.
    """
    first = cached_bundle(cache, [PROCESS_MODULE], workspace)
    flat = cached_bundle(
        cache,
        [f"kernels.competitions.{module}", "kernels.pipelines.inference"],
        workspace,
        reserved=("CONFIG", "SPEC"),
        given=first.modules,
    )
    title = slugify(f"{module}-{spec.label()}").replace("-", " ")
    handle = Handle(owner, slugify(title))
    template = Template((workspace / "kernels/templates/inference.py.tmpl").read_text("utf-8"))
    source = template.substitute(
        title=f"Blend of {len(config.members)} by {config.method} ({handle.slug})",
        imports=_below(first, [TUNE_CALL], flat.imports.rstrip("\n")),
        body=flat.body.rstrip("\n"),
        config=pprint.pformat(config, width=LINE_WIDTH, sort_dicts=True),
        spec=pprint.pformat(to_json(spec), width=LINE_WIDTH, sort_dicts=True),
    )
    metadata = kernel_metadata(
        handle,
        title,
        gpu=gpu,
        internet=False,
        datasets=dataset_sources,
        competition=competition.slug,
        kernels=kernel_sources,
    )
    return KernelBuild(handle, title, source, metadata, spec, tuple(check_size(source)))


def read_config(text: str) -> Any:
    """A config from its repr, as a manifest keeps it: calls of the config classes on plain values.

    Raises:
        ConfigError: It is anything else, or a class has changed since.
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            made = getattr(kernels.config, node.func.id, None)
            if isinstance(made, type) and is_dataclass(made):
                return made(**{str(item.arg): value(item.value) for item in node.keywords})
        if isinstance(node, ast.Tuple):
            return tuple(value(item) for item in node.elts)
        return ast.literal_eval(node)

    try:
        return value(ast.parse(text, mode="eval").body)
    except (ValueError, TypeError, SyntaxError) as error:
        raise ConfigError(
            f"The config of a run cannot be read: {error}.", "Run it again."
        ) from error
