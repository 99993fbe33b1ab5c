"""Models over the wire: variations, versions, changes and the ways they go."""

import pytest

from tests.emulator.support import Local, Refused

MODELS = "models.ModelApiService"
BASE = {"ownerSlug": "local", "modelSlug": "my-model"}
ENTRY = {**BASE, "framework": "MODEL_FRAMEWORK_PY_TORCH", "instanceSlug": "base"}


@pytest.fixture
def model(local: Local) -> Local:
    """A model with one variation of three versions."""
    local.call(f"{MODELS}/CreateModel", ownerSlug="local", slug="my-model", title="My Model",
               isPrivate=True)  # fmt: skip
    token = local.upload("w.bin", b"one", "MODEL")
    body = {"instanceSlug": "base", "framework": "MODEL_FRAMEWORK_PY_TORCH", "licenseName": "x",
            "files": [{"token": token}]}  # fmt: skip
    local.call(f"{MODELS}/CreateModelInstance", {**BASE, "body": body})
    for text in (b"two", b"three"):
        token = local.upload("w.bin", text, "MODEL")
        local.call(
            f"{MODELS}/CreateModelInstanceVersion", {**ENTRY, "body": {"files": [{"token": token}]}}
        )
    return local


def numbers(local: Local) -> list[int]:
    answer = local.call(f"{MODELS}/ListModelInstanceVersions", ENTRY)
    return [row["versionNumber"] for row in answer["versionList"]["versions"]]


def test_variations_and_versions_are_listed_newest_first(model: Local):
    (instance,) = model.call(f"{MODELS}/ListModelInstances", BASE)["instances"]
    assert (instance["slug"], instance["versionNumber"]) == ("base", 3)
    assert numbers(model) == [3, 2, 1]


def test_a_version_is_deleted_but_not_the_only_one(model: Local):
    model.call(f"{MODELS}/DeleteModelInstanceVersion", {**ENTRY, "versionNumber": 2})
    assert numbers(model) == [3, 1]
    with pytest.raises(Refused, match="not found"):
        model.call(f"{MODELS}/DeleteModelInstanceVersion", {**ENTRY, "versionNumber": 2})
    token = model.upload("w.bin", b"four", "MODEL")
    model.call(
        f"{MODELS}/CreateModelInstanceVersion", {**ENTRY, "body": {"files": [{"token": token}]}}
    )
    assert numbers(model) == [4, 3, 1]
    for number in (4, 3):
        model.call(f"{MODELS}/DeleteModelInstanceVersion", {**ENTRY, "versionNumber": number})
    with pytest.raises(Refused, match="only version"):
        model.call(f"{MODELS}/DeleteModelInstanceVersion", {**ENTRY, "versionNumber": 1})


def test_a_variation_is_deleted_with_its_versions_and_the_model_stays(model: Local):
    model.call(f"{MODELS}/DeleteModelInstance", ENTRY)
    assert model.call(f"{MODELS}/ListModelInstances", BASE) == {}
    assert model.call(f"{MODELS}/GetModel", BASE)["title"] == "My Model"
    assert model.state.collect_garbage(0.0).blobs == 3


def test_only_what_is_named_is_changed(model: Local):
    model.call(f"{MODELS}/UpdateModel", {**BASE, "title": "New", "updateMask": "title"})
    model.call(f"{MODELS}/UpdateModelInstance", {**ENTRY, "overview": "all of it"})
    found = model.call(f"{MODELS}/GetModel", BASE)
    assert (found["title"], found["isPrivate"]) == ("New", True)
    assert found["instances"][0]["overview"] == "all of it"
    assert found["instances"][0]["licenseName"] == "x"


def test_somebody_elses_model_is_out_of_reach(model: Local):
    for method, body in (
        ("UpdateModel", {**BASE, "title": "Mine"}),
        ("DeleteModel", BASE),
        ("DeleteModelInstance", ENTRY),
        ("DeleteModelInstanceVersion", {**ENTRY, "versionNumber": 1}),
    ):
        assert model.post(f"{MODELS}/{method}", body, user="somebody").status_code in (403, 404)
    assert numbers(model) == [3, 2, 1]
