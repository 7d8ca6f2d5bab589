"""Which RequestAuthentications count for a workload, what their rules are compiled to, and what is said of them at load."""

from __future__ import annotations

import json

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.policy.token_locations import TokenLocations
from meshlib.resources.base import Origin
from meshlib.resources.loader import load_objects
from meshlib.resources.stand_ins import stand_in_for
from meshlib.workload import Workload
from tests.support.token_bench import request_authentication
from tests.support.tokens import issuer

CART = Workload(name="cart-1", namespace="shop", labels={"app": "cart"})
JWKS = issuer("ES256").jwks()


def compiled(*resources, workload=CART):
    result = load_objects(resources)
    assert not result.errors, result.errors
    snapshot = compile_snapshot(result.resources, workload)
    return snapshot.inbound.default.tokens, [p for p in snapshot.problems if "RequestAuthentication" in p.path]


def issuers(*resources, workload=CART):
    tokens, _ = compiled(*resources, workload=workload)
    return [] if tokens is None else [rule.issuer for rule in tokens.rules]


def policy(name, namespace="shop", labels=None, **more):
    selector = {} if labels is None else {"selector": {"matchLabels": labels}}
    return request_authentication({"issuer": name, "jwks": JWKS}, name=name, namespace=namespace, **selector, **more)


def rule(**fields):
    tokens, _ = compiled(request_authentication({"issuer": "a", "jwks": JWKS, **fields}, namespace="shop"))
    [found] = tokens.rules
    return found


def test_those_of_the_namespace_and_of_the_root_namespace_count():
    assert issuers(policy("own"), policy("mesh", "istio-system"), policy("other", "elsewhere")) == ["mesh", "own"]


def test_those_whose_selector_fits_count():
    fitting = [
        policy("a", labels={"app": "cart"}),
        policy("b", "istio-system", labels={"app": "cart"}),
        policy("c", labels={}),
    ]
    others = [policy("x", labels={"app": "web"}), policy("y", labels={"app": "cart", "version": "v1"})]
    assert issuers(*others, *fitting) == ["a", "b", "c"]


def test_without_any_nothing_is_checked():
    assert compiled(request_authentication(namespace="shop")) == (None, [])
    assert issuers(policy("x", labels={"app": "web"})) == []


def test_target_refs_are_for_gateways_and_said_to_be():
    refs = {"targetRefs": [{"kind": "Service", "name": "cart", "group": ""}]}
    tokens, [problem] = compiled(policy("a", **refs))
    assert tokens is None
    assert (problem.code, problem.severity, problem.path) == ("no-effect", "notice", "RequestAuthentication/shop/a")
    assert "targetRefs (for gateways and waypoints" in problem.message


def test_rules_come_by_issuer_then_namespace_and_age():
    def aged(name, namespace, created, audience):
        made = request_authentication(
            {"issuer": "same", "jwks": JWKS, "audiences": [audience]},
            {"issuer": "a", "jwks": JWKS},
            name=name,
            namespace=namespace,
        )
        made["metadata"]["creationTimestamp"] = created
        return made

    tokens, _ = compiled(
        aged("mesh", "istio-system", "2020-01-01T00:00:00Z", "mesh"),
        aged("young", "shop", "2022-01-01T00:00:00Z", "young"),
        aged("old", "shop", "2021-01-01T00:00:00Z", "old"),
    )
    assert [r.issuer for r in tokens.rules] == ["a", "a", "a", "same", "same", "same"]
    assert [set(r.audiences) for r in tokens.rules][3:] == [{"old"}, {"young"}, {"mesh"}]
    assert [r.resource for r in tokens.rules][:3] == ["shop/old", "shop/young", "istio-system/mesh"]


def test_where_tokens_are():
    assert rule().locations == TokenLocations((("authorization", "Bearer "),), ("access_token",), ())
    named = rule(fromHeaders=[{"name": "X-B", "prefix": "p "}, {"name": "x-a"}], fromParams=["p"], fromCookies=["c"])
    assert named.locations == TokenLocations((("x-a", ""), ("x-b", "p ")), ("p",), ("c",))


@pytest.mark.parametrize(
    ("fields", "url", "discovery", "timeout"),
    [
        ({"jwks": None, "jwksUri": "http://idp/keys"}, "http://idp/keys", False, 5.0),
        ({"jwks": None, "jwksUri": "http://idp/keys", "timeout": "250ms"}, "http://idp/keys", False, 0.25),
        ({"jwks": None, "issuer": "http://idp/"}, "http://idp/.well-known/openid-configuration", True, 5.0),
        ({"jwks": "", "issuer": "http://idp"}, "http://idp/.well-known/openid-configuration", True, 5.0),
    ],
)
def test_where_keys_are(fields, url, discovery, timeout):
    source = rule(**fields).source
    assert (source.url, source.discovery, source.timeout) == (url, discovery, timeout)


def test_inline_keys_are_read_when_it_is_compiled():
    found = rule()
    assert found.source is None
    assert [key.kid for key in found.keys.keys] == ["a"]


def test_what_becomes_of_a_token():
    found = rule(
        forwardOriginalToken=True,
        outputPayloadToHeader="X-Payload",
        outputClaimToHeaders=[{"header": "X-Role", "claim": "realm.role"}],
        spaceDelimitedClaims=["groups"],
        audiences=["https://api/"],
        presence="REQUIRED",
    )
    assert (found.forward, found.payload_header, found.claim_headers) == (
        True,
        "x-payload",
        ((("realm", "role"), "x-role"),),
    )
    assert found.outputs == {"x-payload", "x-role"}
    assert found.split == {"scope", "permission", "groups"}
    assert (found.audiences, found.required) == ({"api"}, True)


def test_the_same_rules_are_equal_and_others_are_not():
    """So a reload that changes something else keeps the tokens that were verified."""
    assert compiled(policy("a"))[0] == compiled(policy("a"))[0]
    assert hash(compiled(policy("a"))[0]) == hash(compiled(policy("a"))[0])
    other = request_authentication({"issuer": "a", "jwks": issuer("ES256", "b").jwks()}, name="a", namespace="shop")
    assert compiled(policy("a"))[0] != compiled(other)[0]


def unread(namespace="shop", rules=({"fromParams": ["t"], "outputPayloadToHeader": "X-P", "issuer": 5},), **spec):
    """What stands for one that cannot be read."""
    metadata = {"name": "new", "namespace": namespace}
    value = {"metadata": metadata, "spec": {"jwtRules": list(rules), **spec}}
    return stand_in_for("RequestAuthentication", value, "a text is expected", Origin())


def test_one_that_cannot_be_read_has_no_rule_and_all_places_where_it_may_have_looked():
    tokens, problems = compiled(unread(), policy("a"))
    assert problems == [], "it has been said where it could not be read"
    assert [found.issuer for found in tokens.rules] == ["a"]
    [found] = tokens.unread
    assert (found.resource, found.why) == ("shop/new", "a text is expected")
    assert found.locations == TokenLocations((("authorization", "Bearer "),), ("access_token", "t"), ())
    assert tokens.outputs == found.outputs == {"x-p"}
    [found] = compiled(unread(rules=["nonsense"]))[0].unread
    assert found.locations is None


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (unread("istio-system"), True),
        (unread("elsewhere"), False),
        (unread(5), True),
        (unread(selector={"matchLabels": {"app": "cart"}}), True),
        (unread(selector={"matchLabels": {"app": "web"}}), False),
        (unread(selector={"matchLabels": {"app": 5}}), True),
        (unread("elsewhere", selector={"matchLabels": {"app": 5}}), False),
    ],
)
def test_one_that_cannot_be_read_counts_for_every_workload_that_it_may_select(found, counts):
    tokens, _ = compiled(found)
    assert (tokens is not None) is counts


def said(**fields):
    _, problems = compiled(request_authentication({"issuer": "http://idp", **fields}, namespace="elsewhere"))
    return [(p.code, p.severity, p.message) for p in problems]


def test_keys_that_are_not_used_are_said_whatever_the_workload():
    weak = {"kty": "RSA", "n": "AQAB", "e": "AQAB"}
    [(code, severity, message)] = said(jwks=json.dumps({"keys": [issuer("ES256").jwk, weak]}))
    assert (code, severity) == ("unusable-key", "warning")
    assert message.startswith("key 1 of jwks is not used: it has 17 bits")


@pytest.mark.parametrize(
    ("jwks", "why"),
    [
        ('{"keys": []}', "it has no keys"),
        (json.dumps({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}), "none of its keys can be used"),
        (json.dumps(issuer("ES256").jwk), "it has no list of keys"),
        ('{"keys": []} {}', "it is not JSON, or has a member twice"),
    ],
)
def test_a_rule_without_usable_keys_is_warned_of(jwks, why):
    code, severity, message = said(jwks=jwks)[0]
    assert (code, severity, message) == ("no-usable-key", "warning", f"every token of this rule is refused: {why}")


def test_an_issuer_that_has_no_discovery_is_warned_of():
    [(code, _, message)] = said(issuer="jane@example.com")
    assert code == "no-usable-key"
    assert "'jane@example.com' is not a URL" in message
    assert said() == said(jwksUri="http://a") == said(jwks=JWKS) == []


def test_problems_have_their_place(tmp_path):
    from meshlib.resources.loader import load

    file = tmp_path / "jwt.yaml"
    file.write_text(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\nspec:\n"
        "  jwtRules:\n  - issuer: a\n    jwks: '{\"keys\": []}'\n"
    )
    result = load([file])
    [problem] = [p for p in compile_snapshot(result.resources, CART).problems if p.code == "no-usable-key"]
    assert problem.where.startswith(f"{file}:")
    assert problem.path == "RequestAuthentication/default/a spec.jwtRules[0].jwks"


def test_without_cryptography_every_token_is_refused_and_it_is_said_what_to_install(monkeypatch):
    def missing(_content):
        raise ImportError("No module named 'cryptography'")

    monkeypatch.setattr("meshlib.compiler.request_authentication.key_set", missing)
    [(_, _, message)] = said(jwks=JWKS)
    assert "pip install 'sidecarless[security]'" in message
