"""AuthorizationPolicies as Envoy's RBAC filters. The referee's own reading of istiod
(``tests/differential/authorization/istiod.py``), which shares nothing with meshlib and is held by a real Envoy and by the
real istiod, says what they should be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.envoy.rbac import NEVER, Untranslatable, nobody, rbac_filters
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.authorization.rules import Condition, Policy, Rule
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.differential.authorization import istiod
from tests.differential.authorization.cases import LABELS, NAMESPACE
from tests.differential.authorization.doors import mesh_config
from tests.differential.authorization.generate import cases

OF_TOKENS = ("request.auth", "requestPrincipals", "notRequestPrincipals", "experimental.envoy")


def unordered(value: Any) -> Any:
    """With lists whose order says nothing sorted, what they have twice once, names of headers as Envoy reads them, ``\\-`` of
    regular expressions as ``-``, and what says nothing left out."""
    if isinstance(value, dict):
        made = {key: unordered(each) for key, each in value.items() if not (key == "ignore_case" and each is False)}
        if isinstance(made.get("name"), str):
            made["name"] = {"host": ":authority"}.get(made["name"].lower(), made["name"].lower())
        return made
    if isinstance(value, list):
        made = {json.dumps(unordered(each), sort_keys=True) for each in value}
        return [json.loads(each) for each in sorted(made)]
    return value.replace("\\-", "-") if isinstance(value, str) else value


def test_policies_are_what_istiod_writes() -> None:
    compared = 0
    for case in cases(20261127, 400, 0):
        if any(word in json.dumps(case.policies) for word in OF_TOKENS):
            continue
        if any(each["spec"].get("action") == "CUSTOM" for each in case.policies):
            continue
        loaded = load_objects([mesh_config(case), *case.policies])
        workload = Workload(namespace=NAMESPACE, labels=LABELS)
        authorization = compile_snapshot(loaded.resources, workload).inbound.of(0).authorization
        if loaded.errors or (authorization is not None and any(each.broken for each in authorization.policies)):
            continue
        expected = {action: made for action, made in istiod.rbac(case).items() if action != "AUDIT"}
        found = {}
        for each in rbac_filters(authorization):
            config = each["typed_config"]
            action = (config.get("rules") or config["shadow_rules"])["action"]
            found[action] = {key: value for key, value in config.items() if not key.endswith("prefix")}
        for made in expected.values():
            made.pop("shadow_rules_stat_prefix", None)
        assert unordered(found) == unordered(expected), case.policies
        compared += bool(found)
    assert compared > 50


def one(*conditions: Condition) -> Authorization:
    return Authorization([Policy("foo", "p", "ALLOW", (Rule((), (), conditions),))])


@pytest.mark.parametrize("key", ["experimental.envoy.filters.a[b]"])
def test_what_has_no_translation_is_an_error_that_names_policy_and_field(key: str) -> None:
    with pytest.raises(Untranslatable, match=r"AuthorizationPolicy foo/p rules\[0\]: .*has no translation"):
        rbac_filters(one(Condition(key, ("a",))))


@pytest.mark.parametrize("value", ["*", "a/b", "a", "*b", "a*", "*/b", "*a/b", "a/*", "a/b*", "a/b/c"])
def test_request_principals_are_what_istiod_writes(value: str) -> None:
    (made,) = rbac_filters(one(Condition("request.auth.principal", (value,))))
    (policy,) = made["typed_config"]["rules"]["policies"].values()
    (either,) = policy["principals"][0]["and_ids"]["ids"]
    assert either == {"or_ids": {"ids": [istiod.request_principals([value])]}}


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("request.auth.claims[a][b]", ["a", "b"]),
        ("request.auth.audiences", ["aud"]),
        ("request.auth.presenter", ["azp"]),
    ],
)
def test_claims_are_what_istiod_writes(key: str, names: list[str]) -> None:
    (made,) = rbac_filters(one(Condition(key, ("v*",))))
    (policy,) = made["typed_config"]["rules"]["policies"].values()
    (either,) = policy["principals"][0]["and_ids"]["ids"]
    assert either == {"or_ids": {"ids": [istiod.claim(names, ["v*"])]}}


def test_an_allow_policy_without_rules_lets_nobody_in() -> None:
    (made,) = rbac_filters(Authorization([Policy("foo", "p", "ALLOW")]))
    assert made["typed_config"]["rules"]["policies"] == {"ns[foo]-policy[p]-rule[0]": NEVER}


def test_the_port_of_policies_is_the_applications_wherever_the_proxy_listens() -> None:
    ports = Condition("destination.port", ("9080", "81"))
    authorization = Authorization([Policy("foo", "p", "ALLOW", (Rule((), ((ports,),)),))])
    (made,) = rbac_filters(authorization, 9080)
    (policy,) = made["typed_config"]["rules"]["policies"].values()
    (permission,) = policy["permissions"][0]["and_rules"]["rules"]
    assert permission == {"or_rules": {"rules": [{"any": True}, {"not_rule": {"any": True}}]}}


def test_deny_comes_before_allow_and_dry_runs_decide_nothing() -> None:
    rule = Rule((), ((Condition("methods", ("GET",)),),))
    policies = [Policy("foo", "a", "ALLOW", (rule,)), Policy("foo", "d", "DENY", (rule,), dry_run=True)]
    deny, allow = [each["typed_config"] for each in rbac_filters(Authorization(policies))]
    assert "rules" not in deny
    assert deny["shadow_rules"]["action"] == "DENY"
    assert allow["rules"]["action"] == "ALLOW"


def test_a_policy_of_which_nothing_is_known_refuses_everything() -> None:
    (made,) = rbac_filters(Authorization([Policy("foo", "p", "DENY", (Rule(),), broken="why")]))
    (policy,) = made["typed_config"]["rules"]["policies"].values()
    assert policy["permissions"] == [{"and_rules": {"rules": [{"any": True}]}}]
    assert nobody()["typed_config"]["rules"]["action"] == "DENY"
    assert rbac_filters(None) == []
