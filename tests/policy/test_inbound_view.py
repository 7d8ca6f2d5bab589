"""What checks decide by: all that a server knows of a request, and nothing that only one protocol has."""

from __future__ import annotations

import inspect

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.http_match import HttpMatch, RequestView
from meshlib.policy.inbound_view import InboundView
from meshlib.policy.string_match import StringMatcher

FACTS = [
    *("claims", "host_known", "http2", "local_ip", "mutual", "peer", "peer_id", "port", "principal", "protocol"),
    *("remote_ip", "request_principal", "routed", "secure", "sni", "source_ip"),
]


def members(protocol: type) -> set[str]:
    return {name for name, value in vars(protocol).items() if isinstance(value, property) or inspect.isfunction(value)}


def test_it_is_a_request_as_policy_sees_it_and_what_is_known_of_its_connection_and_caller():
    assert RequestView in InboundView.__mro__
    assert sorted(name for name in members(InboundView) if not name.startswith("_")) == FACTS


@pytest.mark.parametrize("name", sorted({*FACTS, *(n for n in members(RequestView) if not n.startswith("_"))}))
def test_a_request_that_is_served_tells_each_of_them(name):
    request = InboundRequest("GET", "/p", [("a", "1")], authority="reviews", peer="127.0.0.1:4711", port=80)
    assert hasattr(request, name)


def test_so_conditions_of_rules_hold_for_it_too():
    view: InboundView = InboundRequest("GET", "/p", [("X-User", "jo")])
    match = HttpMatch(uri=StringMatcher("exact", "/p"), headers=(("x-user", StringMatcher("exact", "jo")),)).compile()
    assert match(view)
    assert (view.claims, view.principal, view.secure) == (None, "", False)
