"""The rules of a workload: in Istio's order, with every header that they set."""

from __future__ import annotations

from meshlib.compiler.token_rules import KeySource, TokenRule, token_rules
from meshlib.policy.token_locations import token_locations


def rule(issuer, **more):
    return TokenRule("shop/a", issuer, frozenset(), token_locations([], [], []), **more)


def test_they_come_by_issuer_and_else_as_they_were():
    first, second = rule("b", payload_header="1"), rule("b", payload_header="2")
    assert token_rules([first, second, rule("a")]).rules == (rule("a"), first, second)
    assert token_rules([]) is None


def test_the_headers_of_all_are_known():
    found = token_rules([rule("a", outputs=frozenset({"x"})), rule("b", outputs=frozenset({"x", "y"})), rule("c")])
    assert found.outputs == {"x", "y"}


def test_sources_are_those_of_rules_that_fetch():
    found = token_rules(
        [rule("a", source=KeySource("http://a")), rule("b"), rule("c", source=KeySource("http://c", True))]
    )
    assert found.sources() == ["http://a", "discovery http://c"]


def test_keys_are_in_no_repr():
    assert "canary" not in repr(rule("a", jwks="canary"))
