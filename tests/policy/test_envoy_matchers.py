"""Envoy's conditions. (tests/differential asks a real one.)"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.envoy_matchers import HeaderMatch, QueryMatch, TextMatch, header_of, query_parameter


@pytest.mark.parametrize(
    ("match", "yes", "no"),
    [
        (TextMatch("exact", "a"), "a", "A"),
        (TextMatch("exact", "A", ignore_case=True), "a", "b"),
        (TextMatch("prefix", "/api"), "/api/x", "x/api"),
        (TextMatch("suffix", ".js"), "a.js", "a.jsx"),
        (TextMatch("contains", "PI", ignore_case=True), "/api", "/a"),
        (TextMatch("regex", "a+"), "aa", "aab"),
        (TextMatch("range", low=-5, high=7), "-5", "7"),
        (TextMatch("range", low=0, high=7), "06", "x"),
        (TextMatch("range", low=0, high=7), "0", ""),
        (TextMatch("range", low=0, high=7), "0", "٣"),
    ],
)
def test_texts(match, yes, no):
    test = match.compile()
    assert test(yes)
    assert not test(no)


@pytest.mark.parametrize(
    ("match", "value", "wanted"),
    [
        (HeaderMatch("x"), "v", True),
        (HeaderMatch("x"), None, False),
        (HeaderMatch("x", present=False), None, True),
        (HeaderMatch("x", present=False), "v", False),
        (HeaderMatch("x", invert=True), "v", False),
        (HeaderMatch("x", TextMatch("exact", "v")), "v", True),
        (HeaderMatch("x", TextMatch("exact", "v"), invert=True), "w", True),
        (HeaderMatch("x", TextMatch("exact", "v"), invert=True), None, False),
        (HeaderMatch("x", TextMatch("exact", "v"), invert=True, missing_as_empty=True), None, True),
        (HeaderMatch("x", TextMatch("exact", ""), missing_as_empty=True), None, True),
    ],
)
def test_an_absent_header_matches_nothing_unless_it_counts_as_empty(match, value, wanted):
    headers = [] if value is None else [("X", value)]
    assert match.compile()(InboundRequest("GET", "/", headers)) is wanted


def test_pseudo_headers_are_facts_of_the_request():
    request = InboundRequest("GET", "/a", query="b=c", authority="host:80")
    assert [header_of(name)(request) for name in (":path", ":method", ":authority", ":scheme")] == [
        "/a?b=c",
        "GET",
        "host:80",
        "http",
    ]
    assert header_of(":authority")(InboundRequest("GET", "/")) is None


def test_the_first_value_of_a_query_parameter_counts_decoded():
    assert query_parameter("a=1&a=2&%62=%63", "a") == "1"
    assert query_parameter("a=1&%62=%63", "b") == "c"
    assert query_parameter("", "a") is None
    assert QueryMatch("a").compile()(InboundRequest("GET", "/", query="a"))
    assert not QueryMatch("a", TextMatch("exact", "2")).compile()(InboundRequest("GET", "/", query="a=1"))


@given(st.text(max_size=20), st.text(max_size=5))
def test_any_query_has_or_has_not_a_parameter(query, name):
    wire = query.encode("utf-8", "surrogatepass").decode("latin-1")
    found = query_parameter(wire, name)
    assert found is None or isinstance(found, str)
