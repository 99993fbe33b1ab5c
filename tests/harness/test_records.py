"""Records survive their JSON form, handles print as they parse, and different specs get different slugs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.records import Handle, RunSpec, slugify, text_digest, to_json

words = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
plain = st.one_of(st.integers(-9, 9), st.booleans(), st.none(), words, st.floats(0, 1))
specs = st.builds(
    RunSpec,
    strategy=words,
    variant=st.sampled_from(["default", "as-written"]),
    profile=st.sampled_from(["full", "cpu", "small"]),
    overrides=st.lists(st.tuples(words, plain | st.tuples(plain, plain)), max_size=3).map(tuple),
    folds=st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    seeds=st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    tag=st.just("") | words,
)


@given(words, words, st.none() | st.integers(1, 10**6))
def test_handles_round_trip(owner, slug, version):
    handle = Handle(owner, slug, version)
    assert Handle.parse(str(handle)) == handle


@pytest.mark.parametrize(
    "text", ["", "slug", "a/b/c", "a/b/versions/0", "a/../b", "a/b/versions/x", "a b/c"]
)
def test_other_texts_are_no_handles(text):
    with pytest.raises(ConfigError, match="owner/slug"):
        Handle.parse(text)


@given(specs)
def test_specs_survive_json(spec):
    assert RunSpec.from_json(json.loads(json.dumps(to_json(spec)))) == spec


def test_every_part_of_a_spec_reaches_its_label():
    variations = [
        RunSpec("ssl"),
        RunSpec("ssl", variant="as-written"),
        RunSpec("ssl", profile="cpu"),
        RunSpec("ssl", overrides=(("epochs", 3),)),
        RunSpec("ssl", overrides=(("epochs", 4),)),
        RunSpec("ssl", folds=(0,)),
        RunSpec("ssl", seeds=(0,)),
        RunSpec("ssl", tag="longer"),
    ]
    assert len({spec.label() for spec in variations}) == len(variations)


@given(st.text(max_size=120))
def test_slugs_fit_kaggle(text):
    slug = slugify(text)
    assert len(slug) <= 50
    assert slug == slugify(slug)
    assert not slug or (slug[0] != "-" and slug[-1] != "-" and "--" not in slug)


def test_long_slugs_stay_different():
    assert slugify("x" * 60) != slugify("x" * 61)


def test_digest_tells_where_one_part_ends():
    assert text_digest("ab", "c") != text_digest("a", "bc")
