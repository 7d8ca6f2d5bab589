"""Texts and values that strangers write into resources are judged, whatever they are: nothing raises, nothing is slow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.resources.addresses import address_problem
from meshlib.resources.crd.schema import crd_refusals
from meshlib.resources.envoy.values import misfits
from meshlib.resources.jwks import jwks_problem, secret_keys
from meshlib.resources.kinds import KINDS
from meshlib.resources.urls import BadUrl, scheme_of, scheme_of_request
from tests.support.verdicts import problems

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("9" * 5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "connect_timeout",
        "connectTimeout",
        "lb_policy",
        "metadata",
        "typed_config",
        "@type",
        "value",
        "name",
        "weight",
        "domains",
    ]
)
TYPES = st.sampled_from(["a/google.protobuf.Struct", "a/google.protobuf.Any", "envoy.config.cluster.v3.Cluster", "x"])
OF_ENVOY = st.recursive(
    ANYTHING | TYPES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=8,
)
ISTIO = [kind for kind, known in KINDS.items() if known.group.endswith(".istio.io")]


@given(OF_ENVOY)
def test_any_value_is_read_against_a_message(value):
    for message in ("envoy.config.cluster.v3.Cluster", "google.protobuf.Any", "google.protobuf.Timestamp"):
        assert all(found.message and found.hint for found in misfits(value, message, ("spec",)))


@given(st.text(":/?#[]@%a1.x\n\x7fé", max_size=14))
def test_any_text_is_a_url_or_not(text):
    for read in (scheme_of, scheme_of_request):
        try:
            assert isinstance(read(text), str)
        except BadUrl as error:
            assert str(error)


@given(st.text("0123456789abcdef.:/%", max_size=20))
def test_any_text_is_an_address_or_not(text):
    assert isinstance(address_problem(text), str)


@given(st.text('{}[]",: ktyRSAneod0', max_size=24) | ANYTHING.map(repr))
def test_any_text_is_a_key_set_or_not(text):
    if not jwks_problem(text):
        assert isinstance(list(secret_keys(text)), list)


def test_a_key_set_that_is_nested_too_deeply_is_refused():
    assert jwks_problem('{"keys": ' + "[" * 100_000) != ""


@pytest.mark.parametrize("kind", ISTIO)
@settings(max_examples=20)
@given(spec=ANYTHING)
def test_any_spec_is_judged(kind: str, spec: Any):
    crd_refusals(kind, spec)
    assert isinstance(problems(kind, spec), list)
