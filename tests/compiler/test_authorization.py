"""Which AuthorizationPolicies count for a workload, what every field of them does, and what is said of them at load."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.authorization import compile_authorization, counts_for, custom_rules, policy_of
from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.mesh_settings import DEFAULTS, MeshSettings
from meshlib.policy.authorization.decision import Authorization
from meshlib.problems import Problem
from meshlib.resources.authorization_policy import AuthorizationPolicy
from meshlib.resources.base import Origin
from meshlib.resources.loader import load_objects
from meshlib.resources.stand_ins import AUTHORIZATION_POLICY, stand_in_for
from meshlib.workload import Workload
from tests.policy.authorization.requests import request

CART = Workload(name="cart-1", namespace="shop", labels={"app": "cart"})
WEB = "spiffe://cluster.local/ns/shop/sa/web"
OTHER = "spiffe://cluster.local/ns/other/sa/job"
TOKEN = {
    "iss": "https://issuer.test",
    "sub": "jo",
    "aud": ["a", "b"],
    "azp": "app",
    "groups": ["x"],
    "nested": {"role": "r"},
}


def policy(
    *rules: Any, action: str | None = "DENY", name: str = "p", namespace: str = "shop", **more: Any
) -> dict[str, Any]:
    annotations = {"annotations": more.pop("annotations")} if "annotations" in more else {}
    spec: dict[str, Any] = {**more}
    if action is not None:
        spec["action"] = action
    if rules:
        spec["rules"] = list(rules)
    metadata = {"name": name, "namespace": namespace, **annotations}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def compiled(*resources: dict[str, Any], **settings: Any) -> tuple[Authorization | None, list[Problem]]:
    result = load_objects(resources)
    assert not result.errors, result.errors
    found = compile_authorization(result.resources, CART, MeshSettings(**settings))  # type: ignore[arg-type]
    return found.authorization, list(found.problems)


def status(*resources: dict[str, Any], asked: Any = None, **settings: Any) -> int:
    authorization, _ = compiled(*resources, **settings)
    return 0 if authorization is None else authorization.decide(asked if asked is not None else request()).status


# -- which count ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "refused"),
    [
        (policy({}), True),
        (policy({}, namespace="istio-system"), True),
        (policy({}, namespace="elsewhere"), False),
        (policy({}, selector={"matchLabels": {"app": "cart"}}), True),
        (policy({}, selector={"matchLabels": {"app": "cart", "version": "v1"}}), False),
        (policy({}, namespace="istio-system", selector={"matchLabels": {"app": "web"}}), False),
        (policy({}, targetRefs=[{"kind": "Gateway", "name": "g", "group": "gateway.networking.k8s.io"}]), False),
        (policy({}, targetRef={"kind": "Gateway", "name": "g", "group": "gateway.networking.k8s.io"}), False),
    ],
)
def test_namespace_root_namespace_and_selector(resource: dict[str, Any], refused: bool) -> None:
    assert status(resource) == (403 if refused else 0)


def test_the_root_namespace_is_meshconfigs() -> None:
    assert status(policy({}, namespace="mesh-root"), root_namespace="mesh-root") == 403
    assert status(policy({}, namespace="istio-system"), root_namespace="mesh-root") == 0


def test_a_compilation_puts_them_into_the_workloads_inbound_settings() -> None:
    result = load_objects([policy({}), policy({}, name="web", selector={"matchLabels": {"app": "web"}})])
    inbound = compile_snapshot(result.resources, CART).inbound.of(80)
    assert inbound.authorization is not None
    assert [p.id for p in inbound.authorization.policies] == ["shop/p"]
    assert compile_snapshot([], CART).inbound.of(80).authorization is None


# -- action -----------------------------------------------------------------------------------------------------------


def test_an_action_that_is_not_said_is_allow_and_allow_without_rules_allows_nobody() -> None:
    assert status(policy({}, action=None)) == 0
    assert status(policy(action=None)) == 403
    assert status(policy(action="ALLOW")) == 403


def test_deny_comes_before_allow() -> None:
    both = (policy({}, action="ALLOW", name="a"), policy({}, name="b"))
    assert status(*both) == 403


def test_audit_decides_nothing_and_says_what_it_matches() -> None:
    authorization, _ = compiled(policy({}, action="AUDIT"))
    assert authorization is not None
    assert authorization.decide(request()).allowed
    assert authorization.audited(request()) is not None


@pytest.mark.parametrize("value", ["true", "1", "T"])
def test_dry_run_decides_nothing(value: str) -> None:
    authorization, _ = compiled(policy({}, annotations={"istio.io/dry-run": value}))
    assert authorization is not None
    assert authorization.decide(request()).allowed
    assert not authorization.dry_run(request()).allowed


def test_a_dry_run_that_is_false_is_none() -> None:
    assert status(policy({}, annotations={"istio.io/dry-run": "false"})) == 403


# -- every field ------------------------------------------------------------------------------------------------------

Case = tuple[list[str], dict[str, Any], dict[str, Any]]
SOURCES: dict[str, Case] = {
    "principals": (["cluster.local/ns/shop/sa/web"], {"principal": WEB}, {"principal": OTHER}),
    "namespaces": (["shop"], {"principal": WEB}, {"principal": OTHER}),
    "serviceAccounts": (["web"], {"principal": WEB}, {"principal": OTHER}),
    "trustDomains": (["cluster.local"], {"principal": WEB}, {"principal": "spiffe://evil.test/ns/shop/sa/web"}),
    "requestPrincipals": (["https://issuer.test/*"], {"claims": TOKEN}, {"claims": {"iss": "x", "sub": "jo"}}),
    "ipBlocks": (["10.0.0.0/8"], {"source_ip": "10.1.2.3"}, {"source_ip": "11.1.2.3"}),
    "remoteIpBlocks": (
        ["1.2.3.0/24"],
        {"headers": [("x-forwarded-for", "9.9.9.9, 1.2.3.4")]},
        {"headers": [("x-forwarded-for", "1.2.3.4, 9.9.9.9")]},
    ),
}
OPERATIONS: dict[str, Case] = {
    "hosts": (["app.test"], {"host": "APP.test"}, {"host": "other.test"}),
    "ports": (["8080"], {"port": 8080}, {"port": 80}),
    "methods": (["GET"], {"method": "GET"}, {"method": "PUT"}),
    "paths": (["/a/*"], {"path": "/a/b"}, {"path": "/b"}),
}
WHEN: dict[str, Case] = {
    "request.headers[x-team]": (["a*"], {"headers": [("x-team", "ab")]}, {"headers": [("x-team", "b")]}),
    "source.ip": SOURCES["ipBlocks"],
    "remote.ip": SOURCES["remoteIpBlocks"],
    "source.namespace": SOURCES["namespaces"],
    "source.principal": SOURCES["principals"],
    "source.serviceAccount": SOURCES["serviceAccounts"],
    "source.trustDomain": SOURCES["trustDomains"],
    "request.auth.principal": SOURCES["requestPrincipals"],
    "request.auth.audiences": (["b"], {"claims": TOKEN}, {"claims": {**TOKEN, "aud": "c"}}),
    "request.auth.presenter": (["app"], {"claims": TOKEN}, {"claims": {**TOKEN, "azp": "c"}}),
    "request.auth.claims[groups]": (["x"], {"claims": TOKEN}, {"claims": {**TOKEN, "groups": "y"}}),
    "request.auth.claims[nested][role]": (["r"], {"claims": TOKEN}, {"claims": {**TOKEN, "nested": {}}}),
    "destination.ip": (["10.0.0.9"], {"local_ip": "10.0.0.9"}, {"local_ip": "10.0.0.8"}),
    "destination.port": OPERATIONS["ports"],
    "connection.sni": (["*.test"], {"secure": True, "sni": "app.test"}, {"secure": True, "sni": "app.evil"}),
}


def _not(name: str) -> str:
    """notPrincipals, notNamespaces, notServiceAccounts, notTrustDomains, notRequestPrincipals, notIpBlocks,
    notRemoteIpBlocks, notHosts, notPorts, notMethods, notPaths."""
    return f"not{name[0].upper()}{name[1:]}"


FROM_AND_TO = [("from", "source", n, *c) for n, c in SOURCES.items()] + [
    ("to", "operation", n, *c) for n, c in OPERATIONS.items()
]


@pytest.mark.parametrize(("part", "inner", "name", "values", "has", "lacks"), FROM_AND_TO)
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_each_field_of_from_and_to_and_its_negation(
    part: str, inner: str, name: str, values: list[str], has: dict[str, Any], lacks: dict[str, Any], action: str
) -> None:
    matched, not_matched = (0, 403) if action == "ALLOW" else (403, 0)
    wanted = policy({part: [{inner: {name: values}}]}, action=action)
    excluded = policy({part: [{inner: {_not(name): values}}]}, action=action)
    assert [status(wanted, asked=request(**asked)) for asked in (has, lacks)] == [matched, not_matched]
    assert [status(excluded, asked=request(**asked)) for asked in (has, lacks)] == [not_matched, matched]


@pytest.mark.parametrize(("key", "values", "has", "lacks"), [(key, *case) for key, case in WHEN.items()])
def test_each_condition_with_values_and_not_values(
    key: str, values: list[str], has: dict[str, Any], lacks: dict[str, Any]
) -> None:
    wanted = policy({"when": [{"key": key, "values": values}]}, action="ALLOW")
    excluded = policy({"when": [{"key": key, "notValues": values}]}, action="ALLOW")
    assert [status(wanted, asked=request(**asked)) for asked in (has, lacks)] == [0, 403]
    assert [status(excluded, asked=request(**asked)) for asked in (has, lacks)] == [403, 0]


def test_service_accounts_without_namespace_are_of_the_policys() -> None:
    rule = {"from": [{"source": {"serviceAccounts": ["web"]}}]}
    assert status(policy(rule, namespace="istio-system"), asked=request(principal=WEB)) == 0
    assert (
        status(policy({"from": [{"source": {"serviceAccounts": ["other/job"]}}]}), asked=request(principal=OTHER))
        == 403
    )


def test_trust_domain_aliases_are_the_mesh() -> None:
    rule = {"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/web"]}}]}
    old = request(principal="spiffe://old.test/ns/shop/sa/web")
    assert status(policy(rule, action="ALLOW"), asked=old) == 403
    aliases = {"trust_domain": "new.test", "trust_domain_aliases": ("old.test",)}
    assert status(policy(rule, action="ALLOW"), asked=old, **aliases) == 0
    domains = {"from": [{"source": {"trustDomains": ["new.test"]}}]}
    assert status(policy(domains, action="ALLOW"), asked=old, **aliases) == 0


def test_paths_are_normalized_as_meshconfig_says() -> None:
    rule = {"to": [{"operation": {"paths": ["/a/b"]}}]}
    asked = request("/a//b", routed="/a/b")
    decoded = policy({"to": [{"operation": {"paths": ["/a/b", "/a//b"]}}]}, action="ALLOW")
    assert status(policy(rule, action="ALLOW"), asked=asked) == 403
    assert status(decoded, asked=asked, path_normalization="MERGE_SLASHES") == 0


# -- what is said -----------------------------------------------------------------------------------------------------


def said(*resources: dict[str, Any]) -> list[tuple[str, str]]:
    return [(p.code, p.message) for p in compiled(*resources)[1]]


def test_custom_is_handed_over_by_provider_and_one_that_is_unknown_is_said() -> None:
    custom = policy({}, action="CUSTOM", provider={"name": "ext"})
    result = load_objects([custom])
    [problem] = compile_snapshot(result.resources, CART).problems
    assert problem.code == "provider-unusable"
    found = compile_authorization(result.resources, CART, DEFAULTS)  # type: ignore[arg-type]
    assert [p.provider for p in found.custom] == ["ext"]
    rules = custom_rules(found.custom, "BASE")
    assert list(rules) == ["ext"]
    assert rules["ext"].first(request()) is not None
    assert found.authorization is None


def test_what_some_servers_can_never_know_is_told_with_the_rules() -> None:
    rule = {
        "to": [{"operation": {"hosts": ["a"], "notPorts": ["80"]}}],
        "when": [
            {"key": "request.headers[Host]", "values": ["b"]},
            {"key": "experimental.envoy.filters.a[b]", "values": ["c"]},
        ],
    }
    [(code, message)] = said(policy({}, rule))
    assert code == "may-be-unknown"
    assert message == (
        "rules[1] hosts, rules[1] request.headers[Host] (gRPC servers do not tell the host); "
        "rules[1] ports (unknown unless the server reports its port); "
        "rules[1] experimental.envoy.filters.a[b] (Envoy's metadata is nowhere here): "
        "where it is unknown, a DENY rule is taken to match there and an ALLOW rule not to"
    )
    assert said(policy({"to": [{"operation": {"paths": ["/a"]}}]})) == []


def test_headers_of_which_some_servers_tell_one_line_are_among_them() -> None:
    rule = {"when": [{"key": "request.headers[X-Forwarded-For]", "values": ["10.1.2.3"]}]}
    [(code, message)] = said(policy(rule))
    assert code == "may-be-unknown"
    assert message.startswith("rules[0] request.headers[X-Forwarded-For] (gRPC servers tell the last line alone): ")


def test_principals_with_their_scheme_match_nobody() -> None:
    [(code, message)] = said(policy({"from": [{"source": {"notPrincipals": [WEB]}}]}))
    assert (code, message) == (
        "never-matches",
        f"rules[0]: {WEB} matches no caller: principals are written without spiffe://",
    )


def test_notices_are_about_all_policies_whichever_workloads_they_select() -> None:
    assert said(policy({"to": [{"operation": {"hosts": ["a"]}}]}, namespace="elsewhere"))


# -- what cannot be used ----------------------------------------------------------------------------------------------


def stand_in(namespace: object, labels: dict[str, str] | None = None) -> AuthorizationPolicy:
    value = {
        "metadata": {"name": "p", "namespace": namespace},
        "spec": {"rules": "bad", **({} if labels is None else {"selector": {"matchLabels": labels}})},
    }
    made = stand_in_for(AUTHORIZATION_POLICY, value, "rules[0]: bad", Origin(file="mesh.yaml", line=3))
    assert isinstance(made, AuthorizationPolicy)
    return made


def test_a_stand_in_refuses_everything_at_the_workloads_that_it_selects() -> None:
    own = stand_in("shop", {"app": "cart"})
    assert counts_for(own, CART, "istio-system")
    assert not counts_for(stand_in("shop", {"app": "web"}), CART, "istio-system")
    assert not counts_for(stand_in("elsewhere"), CART, "istio-system")
    assert counts_for(stand_in(7), CART, "istio-system"), "nobody knows where it belongs"
    found = compile_authorization([own], CART, DEFAULTS)
    assert found.authorization is not None
    refused = found.authorization.decide(request())
    assert (refused.status, refused.policy) == (403, "shop/p")
    assert policy_of(own).broken == "rules[0]: bad"


def test_what_got_past_validation_and_cannot_be_put_to_work_refuses_too() -> None:
    result = load_objects([policy({"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}, action="ALLOW")])
    [resource] = result.resources
    resource.spec.rules[0].from_[0].source.ip_blocks[0] = "nonsense"  # type: ignore[attr-defined]
    found = compile_authorization([resource], CART, DEFAULTS)  # type: ignore[list-item]
    assert [(p.code, str(p.severity)) for p in found.problems] == [("refuses-everything", "error")]
    assert found.authorization is not None
    assert found.authorization.decide(request(source_ip="10.0.0.1")).status == 403
