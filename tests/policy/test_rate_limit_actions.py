"""What a request is counted by. (tests/differential asks a real Envoy.)"""

from __future__ import annotations

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.envoy_matchers import HeaderMatch, QueryMatch, TextMatch
from meshlib.policy.rate_limit_actions import (
    GenericKey,
    QueryParameter,
    RateLimitActions,
    RemoteAddress,
    RequestHeader,
    ValueMatch,
    compile_actions,
)

REQUEST = InboundRequest("GET", "/api", [("x-k", "v")], query="u=1", peer="10.1.2.3:4")


def descriptors(*actions, request=REQUEST):
    return [found for found, _ in compile_actions((RateLimitActions(actions),))(request)]


@pytest.mark.parametrize(
    ("action", "entry"),
    [
        (RemoteAddress(), ("remote_address", "10.1.2.3")),
        (RemoteAddress("masked_remote_address", 8, 64), ("masked_remote_address", "10.0.0.0/8")),
        (RequestHeader("X-K", "k"), ("k", "v")),
        (RequestHeader(":path", "PATH"), ("PATH", "/api?u=1")),
        (QueryParameter("u", "k"), ("k", "1")),
        (GenericKey("g"), ("generic_key", "g")),
        (ValueMatch("m", "header_match", (HeaderMatch("x-k"),)), ("header_match", "m")),
        (ValueMatch("m", "q", (QueryMatch("u", TextMatch("exact", "2")),), expected=False), ("q", "m")),
    ],
)
def test_each_action_gives_its_entry(action, entry):
    assert descriptors(action) == [(entry,)]


def test_an_action_without_an_entry_takes_the_whole_descriptor_away():
    assert descriptors(GenericKey("g"), RequestHeader("gone", "k")) == []
    assert descriptors(GenericKey("g"), ValueMatch("m", "k", (HeaderMatch("gone"),))) == []
    assert descriptors(RemoteAddress(), request=InboundRequest("GET", "/", peer="unix:/x")) == []
    assert descriptors(RemoteAddress("m", 8, 8), request=InboundRequest("GET", "/", peer="unix:/x")) == []


def test_one_that_may_be_absent_leaves_the_others():
    skipped = RequestHeader("gone", "k", skip_if_absent=True)
    assert descriptors(GenericKey("g"), skipped, QueryParameter("gone", "k", True)) == [(("generic_key", "g"),)]
    assert descriptors(skipped) == []


def test_each_of_several_makes_its_own_descriptor_and_says_what_it_counts_for():
    describe = compile_actions((RateLimitActions((GenericKey("a"),)), RateLimitActions((GenericKey("b"),), hits=3)))
    assert describe(REQUEST) == [((("generic_key", "a"),), 1), ((("generic_key", "b"),), 3)]
