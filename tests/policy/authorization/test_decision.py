"""Istio's order: AUDIT watches, DENY decides before ALLOW, and without an ALLOW policy everybody comes in."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.decision import ALLOWED, Authorization
from meshlib.policy.authorization.rules import Rule
from tests.policy.authorization.requests import SLEEP, one, policy, request, when

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
