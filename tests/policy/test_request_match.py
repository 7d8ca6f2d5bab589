"""Which requests a limit of a server is about."""

from __future__ import annotations

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.request_match import RequestMatch, compile_matches
from meshlib.policy.string_match import StringMatcher

API = RequestMatch(StringMatcher("prefix", "/api/"), StringMatcher("exact", "GET"))


def request(path: str, method: str = "GET", **more) -> InboundRequest:
    return InboundRequest(method, path, **more)


def test_all_that_is_given_must_hold():
    test = compile_matches((API,), "BASE")
    assert test is not None
    assert test(request("/api/x"))
    assert not test(request("/api/x", "POST"))
    assert not test(request("/other"))


def test_one_of_several_matches_suffices_and_none_means_all_requests():
    test = compile_matches((API, RequestMatch(method=StringMatcher("exact", "PUT"))), "BASE")
    assert test is not None
    assert test(request("/other", "PUT"))
    assert not test(request("/other"))
    assert compile_matches((), "BASE") is None


@pytest.mark.parametrize("path", ["/%61pi/x", "//api/x", "/x/../api/x", "/x/%2e%2e/api/x", "/api%2Fx"])
def test_no_spelling_of_a_path_gets_around_it(path):
    test = compile_matches((API,), "BASE")
    assert test is not None
    assert test(request(path))


def test_the_route_that_was_matched_counts_as_well():
    test = compile_matches((RequestMatch(StringMatcher("exact", "/items/{id}")),), "BASE")
    assert test is not None
    asked = request("/items/4")
    assert not test(asked)
    asked.routed = "/items/{id}"
    assert test(asked)


def test_headers_are_matched_by_value():
    test = compile_matches((RequestMatch(headers=(("x-tier", StringMatcher("exact", "free")),)),), "BASE")
    assert test is not None
    assert test(request("/", headers=[("X-Tier", "free")]))
    assert not test(request("/", headers=[("x-tier", "paid")]))
    assert not test(request("/"))
