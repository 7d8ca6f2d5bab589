"""What checks have let in once: it is known of those that decide by the request's head and peer alone, and by their token."""

from __future__ import annotations

from typing import Any

import pytest

import meshlib
from meshlib.engine.check import Check
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.let_in import ALWAYS, let_in
from meshlib.policy.refusal import Refusal
from meshlib.policy.spiffe_id import SpiffeId
from tests.support.fake_clock import FakeClock
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.tokens import issuer

ISSUER = issuer("ES256")
NOW = FakeClock().time()
WEB = "spiffe://cluster.local/ns/default/sa/web"


def authentication(**rule: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "users", "namespace": "default"},
        "spec": {"jwtRules": [{"issuer": "me", "jwks": ISSUER.jwks(), **rule}]},
    }


def strict() -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": "default"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def checks_of(clock: FakeClock, *resources: dict[str, Any]) -> tuple[Check, ...]:
    mesh = meshlib.Mesh.from_resources(list(resources), clock=clock)
    live = mesh._core.live
    assert live is not None
    found = live.inbound.default.checks
    mesh.close()
    return found


def request(*headers: tuple[str, str], path: str = "/", **more: Any) -> InboundRequest:
    return InboundRequest("GET", path, headers, authority="shop", **more)


def bearer(**claims: Any) -> tuple[str, str]:
    return "authorization", "Bearer " + ISSUER.token({"iss": "me", "sub": "ann", **claims})


def test_no_checks_let_in_always():
    assert let_in(request(), ()) is ALWAYS
    assert ALWAYS.holds()


def test_a_check_that_says_nothing_of_it_is_asked_each_time():
    assert let_in(request(), (lambda _request: None,)) is None
    assert let_in(request(), (lambda _request: Refusal(403, "no"),)) is None


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"principals": ["cluster.local/ns/default/sa/web"]},
        {"namespaces": ["default"]},
        {"notServiceAccounts": ["default/x"]},
    ],
)
def test_policies_about_head_and_peer_decide_alike(source):
    checks = checks_of(FakeClock(), strict(), authorization_policy("a", "ALLOW", on_paths("/a", **source)))
    peer = SpiffeId.parse(WEB)
    assert let_in(request(path="/a", peer_id=peer, mutual=True), checks) is ALWAYS
    assert let_in(request(path="/b", peer_id=peer, mutual=True), checks) is None  # refused
    assert let_in(request(path="/a"), checks) is None  # STRICT


@pytest.mark.parametrize(
    "more",
    [
        {"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]},
        {"from": [{"source": {"notRemoteIpBlocks": ["11.0.0.0/8"]}}]},
        {"when": [{"key": "destination.ip", "values": ["10.0.0.9"]}]},
        {"when": [{"key": "connection.sni", "notValues": ["x"]}]},
        {"when": [{"key": "request.headers[:scheme]", "values": ["http"]}]},
    ],
)
def test_policies_about_more_are_asked_each_time(more):
    checks = checks_of(FakeClock(), authorization_policy("a", "ALLOW", more))
    one = request(peer="10.0.0.1:1", local_ip="10.0.0.9")
    assert [check(one) for check in checks] == [None]
    assert let_in(one, checks) is None


@pytest.mark.parametrize(
    "watching",
    [
        authorization_policy("w", "AUDIT", on_paths("/a")),
        {
            **authorization_policy("w", "DENY", on_paths("/b")),
            "metadata": {"name": "w", "namespace": "default", "annotations": {"istio.io/dry-run": "true"}},
        },
    ],
)
def test_policies_that_count_what_they_decide_are_asked_each_time(watching):
    checks = checks_of(FakeClock(), watching)
    assert len(checks) == 1
    assert let_in(request(path="/a"), checks) is None


def test_by_a_token_it_holds_from_its_beginning_to_its_end():
    clock = FakeClock()
    checks = checks_of(
        clock,
        authentication(),
        authorization_policy("a", "ALLOW", {"from": [{"source": {"requestPrincipals": ["me/ann"]}}]}),
    )
    with_token = bearer(nbf=NOW - 10, exp=NOW + 100)
    first = request(with_token)
    assert [check(first) for check in checks] == [None, None]
    found = let_in(request(with_token), checks)
    assert found is not None
    assert found is not ALWAYS
    again = request(with_token)
    found.repeat(again)
    assert (again.claims, again.request_principal) == (first.claims, "me/ann")
    assert (again.header("authorization"), first.header("authorization")) == (None, None)  # nothing says to forward it
    began, verdicts = clock.now, []
    for at in (-100.0, 0.0, 99.0, 159.0, 161.0, 0.0):  # with Envoy's skew of a minute
        clock.now = began + at
        verdicts.append(found.holds())
        assert verdicts[-1] is (checks[0](request(with_token)) is None)
    assert verdicts == [False, True, True, True, False, True]


def test_without_a_token_where_none_is_needed_and_not_by_what_is_refused():
    checks = checks_of(FakeClock(), authentication())
    assert let_in(request(), checks) is ALWAYS
    assert let_in(request(("authorization", "Basic eA")), checks) is ALWAYS
    assert let_in(request(("authorization", "Bearer x")), checks) is None
    assert let_in(request(query="access_token=x"), checks) is None
    preflight = ("origin", "x"), ("access-control-request-method", "GET")
    assert let_in(InboundRequest("OPTIONS", "/", preflight), checks) is None
    outputs = checks_of(FakeClock(), authentication(outputPayloadToHeader="x-payload"))
    assert let_in(request(), outputs) is None  # headers that it sets are taken away


def test_a_rule_before_it_must_have_had_nothing_against_it_but_that_it_is_not_meant():
    """Who signs with keys that are not there yet, or with times to come, may be let in by another rule later."""
    later = {"issuer": "me", "jwks": issuer("ES256", "b").jwks()}
    other = {"issuer": "x", "jwks": ISSUER.jwks()}
    for before, remembered in ((later, False), (other, True)):
        both = authentication()
        both["spec"]["jwtRules"].insert(0, before)
        checks = checks_of(FakeClock(), both)
        assert [check(request(bearer())) for check in checks] == [None]
        assert (let_in(request(bearer()), checks) is not None) is remembered
