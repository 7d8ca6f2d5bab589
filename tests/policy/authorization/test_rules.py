"""Rules come apart into clauses: every source with every operation, and all of when."""

from __future__ import annotations

from meshlib.policy.authorization.rules import Condition, Policy, Rule, RuleOf
from tests.policy.authorization.requests import one


def test_every_source_with_every_operation() -> None:
    a, b, c, d, w = (one(key, "v") for key in "abcdw")
    rule = Rule(((a,), (b,)), ((c,), (d,)), (w,))
    assert list(rule.clauses()) == [(a, c, w), (a, d, w), (b, c, w), (b, d, w)]


def test_no_source_is_every_source_and_empty_conditions_are_none() -> None:
    assert list(Rule().clauses()) == [()]
    assert list(Rule((), ((one("c"),),)).clauses()) == [()]


def test_names() -> None:
    policy = Policy("ns", "p", "DENY")
    assert policy.id == "ns/p"
    assert RuleOf(policy, 3).id == "ns[ns]-policy[p]-rule[3]"
    assert (Condition("source.ip", field="ipBlocks").name, Condition("source.ip").name) == ("ipBlocks", "source.ip")
