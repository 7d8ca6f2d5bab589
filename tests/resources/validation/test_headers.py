"""Names that no header can have are refused where a rule reads or writes one: Istio takes most of them, and Envoy then finds
nothing, so that a DENY rule never acts, or writes what its peer refuses."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.resources.loader import load_objects
from tests.support.mesh_config import mesh_config
from tests.support.resources import to, virtual_service

NO_NAMES = ("x a", "a:b", "x\ta", "é", "x\n", "(x)", "")
PSEUDO = ":path"


def resource(kind: str, group: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "it", "namespace": "default"}, "spec": spec}


def rule(**more: Any) -> dict[str, Any]:
    return virtual_service("reviews", {"route": [to("reviews")], **more})


def authorization(name: str) -> dict[str, Any]:
    rules = [{"when": [{"key": f"request.headers[{name}]", "values": ["x"]}]}]
    return resource("AuthorizationPolicy", "security.istio.io/v1", action="DENY", rules=rules)


def tokens(**more: Any) -> dict[str, Any]:
    rules = [{"issuer": "it", "jwks": '{"keys": []}', **more}]
    return resource("RequestAuthentication", "security.istio.io/v1", jwtRules=rules)


def resilience(**spec: Any) -> dict[str, Any]:
    return resource("ResiliencePolicy", "meshlib.dev/v1", host="reviews", **spec)


def hashed(**by: Any) -> dict[str, Any]:
    policy = {"loadBalancer": {"consistentHash": by}}
    return resource("DestinationRule", "networking.istio.io/v1", host="reviews", trafficPolicy=policy)


READ = {
    "a condition of a route": lambda name: rule(match=[{"headers": {name: {"exact": "x"}}}]),
    "a condition that is not met": lambda name: rule(match=[{"withoutHeaders": {name: {"exact": "x"}}}]),
    "a condition of a policy": authorization,
    "a hash": lambda name: hashed(httpHeaderName=name),
    "a span's attribute": lambda name: resource(
        "Telemetry", "telemetry.istio.io/v1", tracing=[{"customTags": {"tag": {"header": {"name": name}}}}]
    ),
}
WRITTEN = {
    "set in requests": lambda name: rule(headers={"request": {"set": {name: "x"}}}),
    "added to responses": lambda name: rule(headers={"response": {"add": {name: "x"}}}),
    "removed": lambda name: rule(headers={"request": {"remove": [name]}}),
    "set on the way to a destination": lambda name: virtual_service(
        "reviews", {"route": [{**to("reviews"), "headers": {"request": {"set": {name: "x"}}}}]}
    ),
    "a token's": lambda name: tokens(fromHeaders=[{"name": name}]),
    "a claim's": lambda name: tokens(outputClaimToHeaders=[{"claim": "sub", "header": name}]),
    "a deadline's": lambda name: resilience(deadline={"header": name}),
    "a fallback's": lambda name: resilience(fallback={"response": {"headers": {name: "x"}}}),
}


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("where", [*READ, *WRITTEN])
def test_no_header_is_called_so(where, name):
    assert load_objects([{**READ, **WRITTEN}[where](name)]).errors


@pytest.mark.parametrize("where", [*READ, *WRITTEN])
def test_headers_are_called_so(where):
    assert not load_objects([{**READ, **WRITTEN}[where]("X_user-1")]).errors


@pytest.mark.parametrize("where", READ)
def test_a_pseudo_header_can_be_read(where):
    assert not load_objects([READ[where](PSEUDO)]).errors


@pytest.mark.parametrize("where", WRITTEN)
def test_a_pseudo_header_cannot_be_written(where):
    assert load_objects([WRITTEN[where](PSEUDO)]).errors


@pytest.mark.parametrize("name", [name for name in NO_NAMES if name])
def test_the_payload_of_a_token_has_a_header(name):
    (problem,) = load_objects([tokens(outputPayloadToHeader=name)]).errors
    assert (problem.code, problem.path.rpartition(".")[2]) == ("bad-header-name", "outputPayloadToHeader")


@pytest.mark.parametrize("name", [name for name in NO_NAMES if name])
@pytest.mark.parametrize(
    "field",
    ["includeRequestHeadersInCheck", "headersToUpstreamOnAllow", "headersToDownstreamOnDeny", "includeAdditional"],
)
def test_an_authorizer_with_one_refuses_what_it_is_for(field, name):
    """As with all that istiod finds wrong in a provider, the rest of the MeshConfig is taken."""
    said = {"includeAdditionalHeadersInCheck": {name: "x"}} if field == "includeAdditional" else {field: [name]}
    provider = {"service": "auth.default.svc.cluster.local", "port": 80, **said}
    loaded = load_objects([mesh_config(extensionProviders=[{"name": "auth", "envoyExtAuthzHttp": provider}])])
    assert [problem.code for problem in loaded.problems] == ["bad-provider"]


@pytest.mark.parametrize("name", [":authority", ":path", ":method", ":Path", ":*", ":pa*", "*:path"])
@pytest.mark.parametrize(
    "field",
    [
        "includeHeadersInCheck",
        "includeRequestHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
        "headersToDownstreamOnAllow",
    ],
)
def test_pseudo_headers_are_taken_in_the_lists_of_an_authorizer(field, name):
    """Istio takes them. Of a request the question itself tells them; no response of an authorizer has them."""
    provider = {"service": "auth.default.svc.cluster.local", "port": 80, field: [name]}
    assert not load_objects([mesh_config(extensionProviders=[{"name": "a", "envoyExtAuthzHttp": provider}])]).problems


def test_a_question_is_not_given_a_pseudo_header_of_its_own():
    provider = {
        "service": "auth.default.svc.cluster.local",
        "port": 80,
        "includeAdditionalHeadersInCheck": {":path": "/x"},
    }
    loaded = load_objects([mesh_config(extensionProviders=[{"name": "a", "envoyExtAuthzHttp": provider}])])
    assert [problem.code for problem in loaded.problems] == ["bad-provider"]


@pytest.mark.parametrize("name", ["user", "user[id]", "a:b", "(x)", "/a@b", "é", "{x}", "a\\b", "%61"])
def test_a_cookie_is_called_as_its_servers_like(name):
    assert not load_objects([hashed(httpCookie={"name": name, "ttl": "1s"})]).errors


@pytest.mark.parametrize("name", ["x a", "x\ta", "x\n", "\x7f", "\x85", "a;b", "a,b", "a=b", 'a"b'])
def test_a_cookie_is_not_called_what_ends_its_name(name):
    (problem,) = load_objects([hashed(httpCookie={"name": name, "ttl": "1s"})]).errors
    assert problem.code == "bad-cookie-name"
    assert "no spaces" in problem.hint


def test_a_cookie_has_a_name():
    (problem,) = load_objects([hashed(httpCookie={"name": "", "ttl": "1s"})]).errors
    assert problem.code == "hash-key"


def test_a_wildcard_names_headers_of_an_authorizer():
    provider = {
        "service": "auth.default.svc.cluster.local",
        "port": 80,
        "includeRequestHeadersInCheck": ["x-*", "*-id", "cookie"],
    }
    assert not load_objects([mesh_config(extensionProviders=[{"name": "a", "envoyExtAuthzHttp": provider}])]).problems
