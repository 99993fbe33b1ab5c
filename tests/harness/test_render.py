"""Every strategy renders to one script that compiles, knows all its names, and is the same every time."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.records import RunSpec
from harness.registry import load_competition, load_strategies, load_strategy, module_names
from harness.render import configure, render_kernel
from kernels import config as config_module
from kernels.config import PROFILE_NAMES, check_plain

ROOT = Path(__file__).resolve().parents[2]
STRATEGIES = module_names(ROOT, "strategies")
VARIANTS = [
    (name, variant)
    for name in STRATEGIES
    for variant in ("default", "as-written")
    if variant == "default"
    or "AS_WRITTEN" in (ROOT / "kernels" / "strategies" / f"{name}.py").read_text("utf-8")
]


def rendered(name, variant="default", **changes):
    strategy = load_strategy(ROOT, name, variant)
    slug = load_competition(ROOT, strategy.competition).slug
    spec = RunSpec(name, variant, **changes)
    return render_kernel(ROOT, strategy, spec, "me", slug, {"weights-x": "d" * 64})


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for name, variant in VARIANTS:
        (folder / f"{name}-{variant}.py").write_text(rendered(name, variant).source)
    return folder


def test_rendered_scripts_compile_and_know_all_their_names(scripts):
    for path in scripts.iterdir():
        compile(path.read_text(), str(path), "exec")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--select",
            "F821,F811,E9",
            str(scripts),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", STRATEGIES)
def test_rendering_is_deterministic(name):
    code = (
        "import sys; from test_render import rendered; "
        "sys.stdout.write(rendered(sys.argv[1]).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, name],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {rendered(name).digest}


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_the_config_literal_evaluates_to_the_config(name, variant):
    strategy = load_strategy(ROOT, name, variant)
    for profile in PROFILE_NAMES:
        config = strategy.profiles.pick(profile)
        check_plain(config, profile)
        assert eval(repr(config), vars(config_module)) == config


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_kernel_is_private_and_named_after_its_title(name):
    build = rendered(name, profile="cpu", tag="a-tag")
    assert build.metadata["is_private"] is True
    assert build.metadata["id"] == str(build.handle)
    assert build.title.replace(" ", "-") == build.handle.slug
    assert 5 <= len(build.title) <= 50


def test_gpu_strategies_name_their_machine_only_at_full_size():
    for strategy in load_strategies(ROOT):
        full, cpu = (
            rendered(strategy.name).metadata,
            rendered(strategy.name, profile="cpu").metadata,
        )
        assert full["enable_gpu"] is (strategy.accelerator == "gpu")
        assert full.get("machine_shape") == (
            "NvidiaTeslaT4" if strategy.accelerator == "gpu" else None
        )
        assert cpu["enable_gpu"] is False
        assert cpu["enable_internet"] is False


def test_a_changed_config_or_dataset_changes_the_digest():
    base = rendered("features_lr")
    assert rendered("features_lr", overrides=(("glcm_levels", 16),)).digest != base.digest
    strategy = load_strategy(ROOT, "features_lr")
    other = render_kernel(
        ROOT, strategy, base.spec, "me", "masked-xray-challenge", {"weights-x": "e" * 64}
    )
    assert other.digest != base.digest


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((("glcm_lvls", 16),), "glcm_lvls"),
        ((("glcm_levels", 1),), "2..256"),
        ((("glcm_levels", "many"),), "glcm_levels"),
        ((("folds.count", 1),), "at least 2"),
        ((("image_size.x", 1),), "plain value"),
        ((("folds.seeds", ()),), "empty"),
    ],
)
def test_a_wrong_override_is_named(overrides, words):
    strategy = load_strategy(ROOT, "features_lr")
    with pytest.raises(ConfigError, match=words):
        configure(strategy, RunSpec("features_lr", overrides=overrides))


def test_scripts_stay_far_below_kaggles_limit(scripts):
    for path in scripts.iterdir():
        assert path.stat().st_size < 500_000, path


def test_unknown_names_get_a_guess():
    with pytest.raises(ConfigError, match="Did you mean 'linear_probe'"):
        load_strategy(ROOT, "linear_prob")
    with pytest.raises(ConfigError, match="Variants it has: default"):
        load_strategy(ROOT, "linear_probe", "as-writen")
