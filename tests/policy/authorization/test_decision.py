"""Istio's order: AUDIT watches, DENY decides before ALLOW, and without an ALLOW policy everybody comes in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.authorization.decision import ALLOWED, Authorization
from meshlib.policy.authorization.fields import LONGEST_REMEMBERED, MOST_REMEMBERED
from meshlib.policy.authorization.rules import Policy, Rule
from meshlib.policy.authorization.tokens import VerifiedClaims
from tests.policy.authorization.requests import SLEEP, one, policy, request, when
from tests.policy.authorization.test_table import CLAIMS, EXAMPLES, POLICIES, REQUESTS

ADMIN = when(one("paths", "/admin*"))
SLEEPER = when(one("source.principal", SLEEP.removeprefix("spiffe://")))


def test_no_policy_lets_everybody_in() -> None:
    authorization = Authorization([])
    assert authorization.decide(request()) is ALLOWED
    assert not authorization


def test_deny_comes_before_allow() -> None:
    authorization = Authorization([policy("ALLOW", Rule(), name="all"), policy("DENY", ADMIN, name="no-admin")])
    refused = authorization.decide(request("/admin/x"))
    assert (refused.status, refused.policy, refused.rule, refused.allowed) == (403, "ns/no-admin", 0, False)
    assert refused.detail == "rbac_access_denied_matched_policy[ns[ns]-policy[no-admin]-rule[0]]"
    let_in = authorization.decide(request("/"))
    assert (let_in.allowed, let_in.policy, let_in.rule, let_in.detail) == (True, "ns/all", 0, "")


def test_where_there_is_an_allow_policy_one_must_match() -> None:
    authorization = Authorization([policy("ALLOW", SLEEPER)])
    assert authorization.decide(request(principal=SLEEP)).allowed
    refused = authorization.decide(request(principal="spiffe://cluster.local/ns/default/sa/other"))
    assert (refused.status, refused.policy, refused.rule) == (403, "", None)
    assert refused.detail == "rbac_access_denied_matched_policy[none]"


def test_an_allow_policy_without_rules_allows_nobody() -> None:
    assert Authorization([policy("ALLOW")]).decide(request(principal=SLEEP)).status == 403


def test_audit_and_dry_run_decide_nothing() -> None:
    authorization = Authorization(
        [
            policy("AUDIT", ADMIN, name="watch"),
            policy("DENY", ADMIN, name="try", dry_run=True),
            policy("ALLOW", dry_run=True),
        ]
    )
    asked = request("/admin")
    assert authorization.decide(asked) is ALLOWED
    audited = authorization.audited(asked)
    assert audited is not None
    assert audited.policy.name == "watch"
    assert authorization.audited(request("/")) is None
    assert authorization.dry_run(asked).policy == "ns/try"
    assert authorization.dry_run(request("/")).detail == "rbac_access_denied_matched_policy[none]"
    assert authorization.has_dry_run
    assert authorization.has_audit


def test_custom_policies_are_others() -> None:
    assert not Authorization([policy("CUSTOM", Rule())])


@pytest.mark.parametrize("path", ["/%00", "/a%0ab", "/%ff", "http://evil/", "/a b"])
def test_what_no_policy_can_judge_is_400(path: str) -> None:
    refused = Authorization([policy("ALLOW", Rule())]).decide(request(path))
    assert (refused.status, refused.policy) == (400, "")
    assert refused.detail.startswith("bad_path{")


def test_the_same_rule_is_the_same_decision() -> None:
    authorization = Authorization([policy("DENY", ADMIN)])
    assert authorization.decide(request("/admin")) is authorization.decide(request("/admin/2"))


def calls_of(function: Callable[[], object]) -> int:
    """How many functions of Python and of C it calls."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def services(count: int) -> Authorization:
    rules = [when(one("paths", f"/s{i}/*"), one("source.principal", f"td/ns/n/sa/s{i}")) for i in range(count)]
    return Authorization([policy("ALLOW", *rules, name="a"), policy("DENY", when(one("methods", "PUT")), name="b")])


def test_what_was_seen_before_costs_the_same_whatever_the_number_of_rules() -> None:
    costs = []
    for count in (2, 500):
        authorization, asked = services(count), request("/s1/x", principal="spiffe://td/ns/n/sa/s1")
        assert authorization.decide(asked).allowed
        costs.append(calls_of(lambda a=authorization, r=asked: a.decide(r)))  # type: ignore[misc]
    assert costs[0] == costs[1] < 10


def test_a_new_path_costs_no_more_with_many_rules() -> None:
    costs = []
    for count in (2, 500):
        authorization = services(count)
        principal = "spiffe://td/ns/n/sa/s1"
        authorization.decide(request("/s1/x", principal=principal))
        new = request("/s1/y", principal=principal)
        costs.append(calls_of(lambda a=authorization, r=new: a.decide(r)))  # type: ignore[misc]
    assert costs[1] <= costs[0] + 5


def test_what_is_remembered_is_bounded_and_what_is_long_is_not() -> None:
    authorization = services(2)
    for number in range(2 * MOST_REMEMBERED + 5):
        authorization.decide(request(f"/s1/{number}"))
    assert 0 < len(authorization._remembered) <= MOST_REMEMBERED
    before = len(authorization._remembered)
    authorization.decide(request("/" + "x" * LONGEST_REMEMBERED))
    authorization.decide(request("/short", method="X" * LONGEST_REMEMBERED))
    assert len(authorization._remembered) == before


def test_values_that_are_read_late_still_decide() -> None:
    """A header is looked at only where it matters: not remembered with the rest."""
    secret = when(one("paths", "/s"), one("request.headers[x-key]", "1"))
    authorization = Authorization([policy("DENY", secret)])
    for _ in range(2):
        assert authorization.decide(request("/s", headers=[("x-key", "1")])).status == 403
        assert authorization.decide(request("/s", headers=[("x-key", "2")])).allowed
        assert authorization.decide(request("/other", headers=[("x-key", "1")])).allowed


def test_the_routed_path_is_not_mixed_up_with_what_was_remembered() -> None:
    authorization = Authorization([policy("DENY", ADMIN)])
    assert authorization.decide(request("/public")).allowed
    assert authorization.decide(request("/public", routed="/admin")).status == 403
    assert authorization.decide(request("/public")).allowed


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(
    st.lists(st.tuples(POLICIES, POLICIES), min_size=1, max_size=2),
    st.lists(REQUESTS, min_size=1, max_size=3),
    st.lists(CLAIMS.filter(lambda claims: claims is not None), min_size=1, max_size=2),
)
def test_what_was_decided_of_a_token_is_decided_again_and_of_nothing_else(
    sets: list[tuple[list[Policy], list[Policy]]], requests: list[InboundRequest], tokens: list[dict[str, object]]
) -> None:
    """Whatever else the requests with it say, and whoever else judges them."""
    judges = []
    for denied, allowed in sets:
        policies = [replace(p, action="DENY") for p in denied] + [replace(p, action="ALLOW") for p in allowed]
        judges.append((Authorization(policies), Authorization(policies)))
    verified = [VerifiedClaims(claims) for claims in tokens]
    for _ in range(2):
        for asked in requests:
            asked.routed = None
            for claims in verified:
                for judge, reference in judges:
                    asked.claims = claims
                    decision = judge.decide(asked)
                    asked.claims = dict(claims)
                    assert decision == reference.decide(asked)


@pytest.mark.parametrize("key", ["request.headers[x-team]", "connection.sni"])
def test_what_is_read_late_is_read_each_time_though_the_token_is_the_same(key: str) -> None:
    rules = when(one(key, "a"), one("request.auth.claims[groups]", "staff"))
    authorization = Authorization([policy("ALLOW", rules)])
    claims = VerifiedClaims({"groups": ["staff"]})

    def allowed(value: str) -> bool:
        return authorization.decide(request(headers=[("x-team", value)], sni=value, claims=claims)).allowed

    assert [allowed(value) for value in ("a", "b", "a", "b")] == [True, False, True, False]


def test_what_others_have_decided_of_a_token_is_not_decided() -> None:
    staff = when(one("request.auth.claims[groups]", "staff"))
    judges = [Authorization([policy(action, staff)]) for action in ("ALLOW", "DENY")]
    claims = VerifiedClaims({"groups": ["staff"]})
    assert [judge.decide(request(claims=claims)).allowed for judge in judges * 2] == [True, False, True, False]
