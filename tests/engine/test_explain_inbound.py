"""What the engine says of a request that comes in: the decision of its own tables, and in words what others would decide."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.custom import Custom
from meshlib.compiler.inbound import Inbound
from meshlib.compiler.inbound_filters import PortFilters
from meshlib.compiler.inbound_protection import Protection
from meshlib.compiler.token_rules import TokenRule, TokenRules
from meshlib.engine.explain_inbound import explain_inbound
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.authorization.rules import Policy, Rule
from meshlib.policy.authorization.table import RuleTable
from meshlib.policy.ext_authz import Authorizer
from meshlib.policy.fault import FaultPolicy
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.policy.token_locations import TokenLocations
from tests.policy.authorization.requests import one, policy, request, when

DENY = policy("DENY", when(one("methods", "DELETE")), when(one("paths", "/admin")), name="no-admin")
ALLOW = policy("ALLOW", when(one("methods", "GET")), name="get")


def settings(*policies: Policy, **more: Any) -> Inbound:
    return Inbound(authorization=Authorization(policies) if policies else None, **more)


@pytest.mark.parametrize(
    ("policies", "path", "method", "expected"),
    [
        ((DENY, ALLOW), "/admin", "GET", (False, 403, "ns/no-admin", 1)),
        ((DENY, ALLOW), "/", "GET", (True, 200, "ns/get", 0)),
        ((DENY, ALLOW), "/", "PUT", (False, 403, "", None)),
        ((DENY,), "/", "PUT", (True, 200, "", None)),
        ((), "/", "PUT", (True, 200, "", None)),
        ((ALLOW,), "/%00", "GET", (False, 400, "", None)),
        ((), "/%00", "GET", (True, 200, "", None)),
    ],
)
def test_it_is_the_decision_of_the_table(policies, path, method, expected):
    found = explain_inbound(settings(*policies), request(path, method=method))
    assert (found.allowed, found.status, found.policy, found.rule) == expected


def test_reasons_are_of_the_policies_that_decide():
    trial = policy("DENY", Rule(), dry_run=True)
    assert "no AuthorizationPolicy decides" in explain_inbound(settings(trial), request()).reason
    assert "no DENY rule matches" in explain_inbound(settings(DENY), request()).reason
    assert "ALLOW policies" in explain_inbound(settings(ALLOW), request(method="PUT")).reason
    assert "cannot be read" not in explain_inbound(settings(ALLOW), request("/%00")).reason


def test_the_request_is_told_without_what_may_be_secret():
    asked = request("/x?key=s3cr3t", headers=[("authorization", "s3cr3t")], principal="spiffe://td/ns/a/sa/b")
    text = str(explain_inbound(settings(ALLOW), asked))
    assert "GET /x to app.test at an unknown address:8080 from spiffe://td/ns/a/sa/b (10.0.0.1)" in text
    assert "s3cr3t" not in text


@pytest.mark.parametrize(("status", "path"), [(0, "/"), (7, "/admin"), (3, "/%00")])
def test_grpc_has_its_own_status(status, path):
    assert explain_inbound(settings(DENY), request(path, protocol="grpc")).grpc_status == status


# -- what others decide ------------------------------------------------------------------------------------------------


def custom(**more: Any) -> Custom:
    rules = RuleTable([policy("CUSTOM", when(one("paths", "/asked")), name="ask")], permits=False)
    return Custom("opa", rules, **more)


def test_an_authorizer_that_would_be_asked_is_named():
    known: Any = object()
    asked = settings(custom=(custom(authorizer=Authorizer("opa", "http", "opa.test"), route=known),))
    found = explain_inbound(asked, request("/asked"))
    assert found.allowed
    assert found.notes == (
        "rule 0 of AuthorizationPolicy/ns/ask matches: provider opa is asked first, and may refuse it",
    )
    assert explain_inbound(asked, request("/other")).notes == ()


def test_an_authorizer_that_cannot_be_asked_refuses():
    found = explain_inbound(settings(custom=(custom(problem="no such service"),)), request("/asked"))
    assert (found.allowed, found.status, found.policy, found.rule) == (False, 403, "ns/ask", 0)
    assert "no such service" in found.notes[0]
    assert explain_inbound(settings(custom=(custom(problem="no such service"),)), request("/other")).allowed


def tokens(**more: Any) -> TokenRules:
    rule = TokenRule(
        "RequestAuthentication/ns/idp", "https://idp.test", frozenset(), TokenLocations((), (), ()), **more
    )
    return TokenRules((rule,), frozenset())


def test_tokens_are_verified_before_any_policy():
    asked = settings(tokens=tokens())
    assert "RequestAuthentication/ns/idp does not take is refused (401)" in explain_inbound(asked, request()).notes[0]
    assert "has verified" in explain_inbound(asked, request(claims={"iss": "i"})).notes[0]
    required = settings(tokens=tokens(required=True))
    assert "refuses requests without a token (401)" in explain_inbound(required, request()).notes[0]


def test_claims_that_no_server_would_know_are_told():
    assert "no RequestAuthentication applies" in explain_inbound(settings(), request(claims={})).notes[0]


def test_limits_and_faults_are_told():
    limit: Any = object()
    asked = settings(
        protection=Protection("ResiliencePolicy/ns/limits"),
        limits=PortFilters(local=(limit,)),
        faults=(FaultPolicy(abort_status=503, abort_share=1),),
        resources=("EnvoyFilter/ns/faults",),
    )
    assert [note.partition(" ")[0] for note in explain_inbound(asked, request(), ["first"]).notes] == [
        "first",
        "ResiliencePolicy/ns/limits",
        "rate",
        "faults",
    ]


# -- modes of PeerAuthentications -------------------------------------------------------------------------------------

WEB = "spiffe://cluster.local/ns/shop/sa/web"


def strict(*policies: Policy, **more: Any) -> Inbound:
    return settings(*policies, mtls=MtlsMode.STRICT, mtls_policy="shop/cart", **more)


def test_strict_refuses_who_is_nobody_before_any_policy():
    found = explain_inbound(strict(ALLOW), request(port=8080))
    assert (found.allowed, found.status, found.resource, found.policies) == (
        False,
        403,
        "PeerAuthentication/shop/cart",
        (),
    )
    assert found.reason == "PeerAuthentication/shop/cart is STRICT: port 8080 takes mTLS alone, and this is plain text"
    assert "TLS without a valid SVID" in explain_inbound(strict(), request(secure=True)).reason
    assert explain_inbound(strict(), request(protocol="grpc")).grpc_status == 7


def test_a_port_that_nobody_told_is_asked_for():
    assert any("tell the port" in note for note in explain_inbound(strict(), request(port=0)).notes)
    assert not any("tell the port" in note for note in explain_inbound(strict(), request(port=80)).notes)


def test_strict_lets_policies_judge_who_is_somebody_and_the_mode_is_told():
    found = explain_inbound(strict(ALLOW), request(principal=WEB))
    assert (found.allowed, found.mtls, found.mtls_policy) == (True, "STRICT", "shop/cart")
    assert explain_inbound(settings(mtls=MtlsMode.DISABLE, mtls_policy="shop/cart"), request()).mtls == "DISABLE"


def test_a_policy_that_cannot_be_read_is_named_with_its_reason():
    found = explain_inbound(strict(mtls_broken="spec is not an object"), request())
    assert "cannot be read (spec is not an object) and has no good version yet" in found.reason
