"""An inference kernel predicts what the blend's file says, from checkpoints alone; bad films get a fallback."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.blending import Recipe, mix_test
from harness.commands.inference import LOADED_PIPELINES
from harness.outputs import read_table
from harness.synthetic import draw_competition
from kernels.blocks.entry import run_kernel
from kernels.competitions.masked_xray import COMPETITION, read_tables
from kernels.config import InferenceConfig, MemberConfig, Profiles
from kernels.contract import (
    INFERENCE_KIND,
    MANIFEST_FILE,
    METRICS_FILE,
    SUBMISSION_FILE,
    TEST_FILE,
    manifest_faults,
    prediction_columns,
    sha256_file,
)
from kernels.pipelines import distil, features, inference, probe, simsiam, supervised
from kernels.strategies.effnetv2_s import STRATEGY as SUPERVISED
from kernels.strategies.features_lr import STRATEGY as FEATURES
from kernels.strategies.linear_probe import STRATEGY as PROBE
from kernels.strategies.lite0 import STRATEGY as LITE0
from kernels.strategies.ssl import STRATEGY as SSL

SCRIPT = __file__  # some file with a hash


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return draw_competition(folder, n_unlabelled=8, n_labelled=24, n_test=10, size=64).data_folder


def small(strategy, **changes):
    """The rehearsal's config, smaller still and without weights."""
    config = strategy.profiles.small
    return replace(config, max_images=24, **changes)


MEMBERS = {
    "features": (features, lambda: small(FEATURES, image_size=48)),
    "probe": (probe, lambda: small(PROBE, image_size=32, weights="random")),
    "levels": (probe, lambda: small(PROBE, image_size=48, weights="random", levels=2)),
    "simsiam": (
        simsiam,
        lambda: small(
            SSL,
            image_size=32,
            ssl_image_size=32,
            ssl_epochs=0,
            weights="random",
            max_unlabelled=8,
            cached_views=1,
            train=replace(SSL.profiles.small.train, epochs=1),
        ),
    ),
    "supervised": (
        supervised,
        lambda: small(
            SUPERVISED,
            image_size=32,
            weights="random",
            train=replace(SUPERVISED.profiles.small.train, epochs=1),
        ),
    ),
    "distil": (
        distil,
        lambda: small(
            LITE0,
            image_size=32,
            weights="random",
            max_unlabelled=8,
            labelled_views=1,
            teacher=replace(LITE0.profiles.small.teacher, epochs=1),
        ),
    ),
}
# Self-training predicts from maps that it keeps in half precision.
TOLERANCES = {"distil": 1e-4}


def test_every_pipeline_that_is_let_in_is_tried_here():
    tried = {pipeline.__name__.rpartition(".")[2] for pipeline, _ in MEMBERS.values()}
    assert tried == set(LOADED_PIPELINES)


def in_kaggle(root: Path, drawn: Path, monkeypatch, outputs=()):
    """A /kaggle with the competition and other kernels' outputs mounted; the working folder."""
    (root / "input" / "competitions").mkdir(parents=True)
    (root / "input" / "competitions" / COMPETITION.slug).symlink_to(drawn)
    (root / "input" / "notebooks" / "me").mkdir(parents=True)
    for folder in outputs:
        (root / "input" / "notebooks" / "me" / folder.parent.name).symlink_to(folder)
    monkeypatch.setenv("HARNESS_KAGGLE_ROOT", str(root))
    monkeypatch.chdir(root)
    return root / "working"


def train(name: str, root: Path, drawn: Path, monkeypatch) -> tuple[Path, object]:
    pipeline, make = MEMBERS[name]
    config = make()
    # Pictures and intervals take longer than all the rest, and nothing here looks at them.
    monkeypatch.setattr("kernels.blocks.outputs.OutputWriter._write_report", lambda *_: None)
    working = in_kaggle(root / name, drawn, monkeypatch)
    spec = {"strategy": name, "profile": "small"}
    run_kernel(
        pipeline.run, COMPETITION, read_tables, Profiles(config, config, config), spec, {}, SCRIPT
    )
    return working, config


def blend(members: dict[str, tuple[Path, object]], space: str, intercept=0.0):
    """An inference config and the blend's own predictions, as harness makes them."""
    weights = tuple((name, 1.0 / (place + 1)) for place, name in enumerate(sorted(members)))
    config = InferenceConfig(
        members=tuple(
            MemberConfig(
                name,
                members[name][0].parent.name,
                sha256_file(members[name][0] / MANIFEST_FILE),
                weight,
                members[name][1],
            )
            for name, weight in weights
        ),
        method="a test",
        space=space,
        intercept=intercept,
        fallback=(0.25,),
    )
    columns = prediction_columns(COMPETITION.target_columns)
    ids = (members[weights[0][0]][0] / SUBMISSION_FILE).read_text().splitlines()[1:]
    expected = mix_test(
        Recipe("a test", space, weights, intercept),
        COMPETITION,
        [line.split(",")[0] for line in ids],
        lambda name: read_table(members[name][0] / TEST_FILE, columns, name),
    )
    return config, expected["label"].to_numpy()


def infer(config, members, root, drawn, monkeypatch):
    working = in_kaggle(root, drawn, monkeypatch, [folder for folder, _ in members.values()])
    inference.run(config, COMPETITION, read_tables, {"strategy": "inference"}, SCRIPT)
    lines = (working / SUBMISSION_FILE).read_text().splitlines()[1:]
    rows = dict(line.split(",") for line in lines)
    return working, {name: float(value) for name, value in rows.items()}


@pytest.mark.parametrize("name", list(MEMBERS))
def test_a_member_predicts_the_same_from_its_checkpoints(name, drawn, tmp_path, monkeypatch):
    members = {name: train(name, tmp_path, drawn, monkeypatch)}
    config, expected = blend(members, "prob")
    _, rows = infer(config, members, tmp_path / "inference", drawn, monkeypatch)
    tolerance = TOLERANCES.get(name, 1e-6)
    np.testing.assert_allclose(list(rows.values()), np.clip(expected, 0, 1), atol=tolerance, rtol=0)
    assert np.ptp(expected) > 5 * tolerance  # a constant would be easy to repeat


@pytest.fixture(scope="module")
def member(drawn, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield {"features": train("features", tmp_path_factory.mktemp("member"), drawn, patch)}
        os.chdir(drawn.parent)


@pytest.mark.parametrize("space", ["prob", "rank", "logit"])
def test_every_space_is_mixed_as_the_blend_mixes_it(space, member, drawn, tmp_path, monkeypatch):
    config, expected = blend(member, space, intercept=0.1 if space == "logit" else 0.0)
    working, rows = infer(config, member, tmp_path, drawn, monkeypatch)
    np.testing.assert_allclose(list(rows.values()), expected, atol=1e-9)
    manifest = json.loads((working / MANIFEST_FILE).read_text())
    assert manifest["kind"] == INFERENCE_KIND
    assert manifest_faults(manifest) == []


def test_where_the_metric_wants_decisions_they_are_written_as_0_and_1(
    member, drawn, tmp_path, monkeypatch
):
    config, expected = blend(member, "prob")
    limit = float(np.median(expected))
    working, rows = infer(
        replace(config, thresholds=(limit,), fallback=(1.0,)), member, tmp_path, drawn, monkeypatch
    )
    np.testing.assert_array_equal(list(rows.values()), expected >= limit)
    assert ",1\n" in (working / SUBMISSION_FILE).read_text()


def test_a_film_that_cannot_be_read_gets_the_fallback_and_is_told(
    member, drawn, tmp_path, monkeypatch, capsys
):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(drawn, broken)
    victim = sorted((broken / "test").iterdir())[2]
    victim.write_bytes(b"no picture at all")
    config, expected = blend(member, "rank")
    working, rows = infer(config, member, tmp_path / "kaggle", broken, monkeypatch)
    name = next(name for name in rows if victim.stem in name)
    assert rows.pop(name) == 0.25
    assert victim.stem in capsys.readouterr().out
    assert json.loads((working / METRICS_FILE).read_text())["n_unreadable"] == 1
    # The others keep their order; ranks are among the readable films.
    ids = [line.split(",")[0] for line in (drawn / "sample_submission.csv").read_text().split()[1:]]
    before = dict(zip(ids, expected, strict=True))
    assert sorted(rows, key=rows.get) == sorted(rows, key=before.get)


def test_members_of_another_run_stop_the_kernel(member, drawn, tmp_path, monkeypatch):
    config, _ = blend(member, "prob")
    (one,) = config.members
    config = replace(config, members=(replace(one, manifest_sha256="f" * 64),))
    with pytest.raises(ValueError, match="stale output"):
        infer(config, member, tmp_path, drawn, monkeypatch)
