"""RequestAuthentication at work: who comes in with which claims, who is refused with which words, and what the application
sees. Keys come from a script; time is moved by hand."""

from __future__ import annotations

import pytest

from meshlib.compiler.token_rules import UnreadTokens, token_rules
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.key_sets import KeySets
from meshlib.engine.token_check import TokenCheck
from meshlib.policy.token_locations import token_locations
from tests.support.fake_clock import FakeClock
from tests.support.token_bench import IDP, KEYS, TokenBench, request_authentication
from tests.support.tokens import issuer

SIGNER, OTHER = issuer("ES256"), issuer("ES256", "b")
OURS = f"{IDP}/jane"
UNKNOWN = "401 Jwt issuer is not configured"
BAD_FORM = "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"


def rule(signer=SIGNER, **fields):
    return {"issuer": IDP, "jwks": signer.jwks(), **fields}


def bench(*rules, **more):
    return TokenBench(request_authentication(*rules), **more)


def test_without_token_it_is_nobodys_request_and_comes_in():
    request, refusal = bench(rule()).send()
    assert refusal is None
    assert (request.claims, request.request_principal, request.for_application) == (None, "", None)


@pytest.mark.parametrize("value", ["Bearer ", "bearer x", "Basic YTpi", ""])
def test_what_is_no_bearer_token_is_none(value):
    assert bench(rule()).outcome(None, ("authorization", value)) == "nobody"


def test_a_good_token_makes_it_its_subjects_request():
    here = bench(rule())
    request, refusal = here.send(here.token(aud=["a"], azp="app", scope="read write"))
    assert refusal is None
    assert request.request_principal == OURS
    assert request.claims["aud"] == ["a"]
    assert request.claims["azp"] == "app"
    assert request.claims["scope"] == ["read", "write"]


def test_a_token_without_subject_has_claims_and_no_principal():
    here = bench(rule())
    request, refusal = here.send(here.token(sub=None))
    assert (refusal, request.request_principal, request.claims["iss"]) == (None, "", IDP)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"iss": f"{IDP}/"}, UNKNOWN),
        ({"iss": None}, UNKNOWN),
        ({"exp": 1}, "401 Jwt is expired"),
        ({"exp": 0}, "401 Jwt is expired"),
        ({"nbf": 2**40}, "401 Jwt not yet valid"),
        ({"exp": "soon"}, "401 Jwt payload [exp] field is not an integer"),
        ({"aud": "web"}, "403 Audiences in Jwt are not allowed"),
        ({"aud": None}, "403 Audiences in Jwt are not allowed"),
    ],
)
def test_a_bad_token_is_refused(claims, expected):
    here = bench(rule(audiences=["api"]))
    assert here.outcome(here.token(**{"aud": "api", **claims})) == expected


def test_a_token_of_another_key_is_refused():
    here = bench(rule())
    assert here.outcome(here.token(OTHER, {"kid": "a"})) == "401 Jwt verification fails"
    assert here.outcome(here.token(OTHER)) == "401 Jwks doesn't have key to match kid or alg from Jwt"
    assert here.outcome("garbage") == BAD_FORM
    assert here.outcome("x" * 17000) == BAD_FORM


def test_the_refusal_is_envoys():
    here = bench(rule())
    _, refusal = here.send("garbage", path="/a/./b", query="c=d")
    assert refusal.headers == ((b"www-authenticate", b'Bearer realm="http://shop/a/b?c=d", error="invalid_token"'),)
    assert refusal.grpc == 16
    assert refusal.detail == (
        "jwt_authn_access_denied{Jwt_is_not_in_the_form_of_Header.Payload.Signature_with_two_dots_and_3_sections}"
    )
    assert refusal.flag == ""
    _, refusal = here.send("garbage", path="/" + "x" * 300, secure=True)
    assert refusal.headers[0][1] == b'Bearer realm="https://shop/' + b"x" * 255 + b'", error="invalid_token"'
    _, refusal = bench(rule(audiences=["api"])).send(here.token())
    assert (refusal.status, refusal.grpc) == (403, 7)


def test_a_preflight_needs_no_token():
    preflight = [("origin", "a"), ("access-control-request-method", "GET")]
    assert bench(rule()).outcome("garbage", *preflight, method="OPTIONS") == "nobody"
    assert bench(rule()).outcome("garbage", *preflight) == BAD_FORM


# -- several locations, several tokens ----------------------------------------------------------------------------------


def test_tokens_are_found_where_the_rule_says():
    here = bench(rule(fromHeaders=[{"name": "X-Jwt", "prefix": "jwt "}], fromParams=["t"], fromCookies=["c"]))
    good = here.token()
    assert here.outcome(good) == "nobody"
    assert here.outcome(None, ("x-jwt", f"jwt {good}")) == OURS
    assert here.outcome(None, ("cookie", f"a=b; c={good}")) == OURS
    assert here.outcome(query=f"t={good}") == OURS
    assert here.outcome(None, ("cookie", "c=x")) == BAD_FORM
    assert here.outcome(query="t=") == BAD_FORM


def test_all_tokens_of_a_rule_must_be_good_and_the_first_says_who():
    here = bench(rule())
    good, other, bad = here.token(), here.token(sub="joe"), here.token(exp=1)
    assert here.outcome(good, query=f"access_token={other}") == OURS
    assert here.outcome(good, query=f"access_token={bad}") == "401 Jwt is expired"
    assert here.outcome(bad, query=f"access_token={good}") == "401 Jwt is expired"
    assert here.outcome(good, ("authorization", f"Bearer {good}")) == BAD_FORM
    assert here.outcome(good, query=f"access_token={good}&access_token={bad}") == "401 Jwt is expired"


# -- several rules ------------------------------------------------------------------------------------------------------

A, B = {"issuer": "a", "jwks": SIGNER.jwks()}, {"issuer": "b", "jwks": OTHER.jwks()}
APART = ({**A, "fromHeaders": [{"name": "x-a"}]}, {**B, "fromHeaders": [{"name": "x-b"}]})


def test_one_rule_that_takes_the_token_is_enough():
    here = bench(A, B)
    assert here.outcome(here.token(SIGNER, iss="a")) == "a/jane"
    assert here.outcome(here.token(OTHER, iss="b")) == "b/jane"
    assert here.outcome() == "nobody"


def test_a_token_that_no_rule_takes_is_refused():
    here = bench(A, B)
    assert here.outcome(here.token(iss="c")) == UNKNOWN
    assert here.outcome(here.token(SIGNER, iss="a", exp=1)) == "401 Jwt is expired"
    assert here.outcome(here.token(OTHER, iss="b", exp=1)) == "401 Jwt is expired"
    assert here.outcome("x") == BAD_FORM


def test_a_good_token_makes_up_for_a_bad_one_elsewhere():
    here = bench(*APART)
    good, bad = here.token(SIGNER, iss="a"), here.token(OTHER, iss="b", exp=1)
    assert here.outcome(None, ("x-a", good), ("x-b", bad)) == "a/jane"
    assert here.outcome(None, ("x-a", good)) == "a/jane"
    assert here.outcome(None, ("x-b", bad)) == "401 Jwt is expired"
    assert here.outcome(None, ("x-a", "x"), ("x-b", here.token(OTHER, iss="b"))) == "b/jane"
    both = here.outcome(None, ("x-a", good), ("x-b", here.token(OTHER, iss="b")))
    assert both == "a/jane", "rules are asked in the order of their issuers"


def test_the_reason_is_the_one_that_envoy_gives():
    """What is more than a missing token or another's counts; the first such in the end."""
    here = bench({**A, "audiences": ["api"]}, {**B, "issuer": "a"})
    assert here.outcome(here.token(SIGNER, iss="a", aud="x")) == "403 Audiences in Jwt are not allowed"
    here = bench(*APART)
    assert here.outcome(None, ("x-a", here.token(iss="c")), ("x-b", "x")) == BAD_FORM
    assert here.outcome(None, ("x-a", "x"), ("x-b", here.token(iss="c"))) == BAD_FORM
    assert here.outcome(None, ("x-a", here.token(iss="c"))) == UNKNOWN
    assert here.outcome(None, ("x-a", here.token(iss="a", exp=1)), ("x-b", "x")) == "401 Jwt is expired"


def test_a_bad_line_beside_a_good_one_is_not_forgotten_with_several_rules():
    """Envoy takes the header away with the good one, finds none when it looks again, and lets the request in."""
    here = bench({**A, "fromHeaders": [{"name": "x-a"}]}, B)
    good, bad = here.token(SIGNER, iss="a"), here.token(SIGNER, iss="a", exp=1)
    assert here.outcome(None, ("x-a", bad), ("x-a", good)) == "401 Jwt is expired"


def test_a_rule_without_issuer_takes_tokens_of_all():
    here = bench({"jwksUri": KEYS}, **{KEYS: SIGNER.jwks().encode()})
    assert here.outcome(here.token(iss="anybody")) == "anybody/jane"


def test_a_required_token_may_not_be_missing():
    here = bench(rule(presence="REQUIRED"))
    request, refusal = here.send()
    assert (refusal.status, refusal.text) == (401, "Jwt is missing")
    assert refusal.headers == ((b"www-authenticate", b'Bearer realm="http://shop/"'),)
    assert here.outcome(here.token()) == OURS
    assert bench(rule(presence="OPTIONAL")).outcome() == "nobody"


# -- what the application sees ------------------------------------------------------------------------------------------


def test_the_token_is_taken_away():
    here = bench(rule(fromHeaders=[{"name": "X-Jwt"}], fromParams=["t"], fromCookies=["c"]))
    good = here.token()
    request, _ = here.send(None, ("x-jwt", good), ("x-other", "y"))
    assert request.for_application.remove == {"x-jwt"}
    assert request.header("x-jwt") is None, "later checks do not see it either"
    request, _ = here.send(None, query=f"a=%26&t={good}&b")
    assert request.for_application.target == b"/?a=%26&b"
    request, _ = here.send(None, ("cookie", f"c={good}"))
    assert request.for_application is None, "Envoy leaves cookies"


def test_forward_original_token_keeps_it():
    here = bench(rule(forwardOriginalToken=True))
    request, refusal = here.send(here.token(), query=f"access_token={here.token()}")
    assert (refusal, request.for_application) == (None, None)


def test_the_payload_and_claims_become_headers():
    outputs = [
        {"header": "X-Sub", "claim": "sub"},
        {"header": "x-role", "claim": "realm.role"},
        {"header": "x-none", "claim": "x"},
    ]
    here = bench(rule(outputPayloadToHeader="X-Payload", outputClaimToHeaders=outputs))
    good = here.token(realm={"role": "admin"}, scope="a b")
    request, _ = here.send(good)
    expected = [(b"x-payload", good.split(".")[1].encode()), (b"x-sub", b"jane"), (b"x-role", b"admin")]
    assert request.for_application.set == expected
    assert request.header("x-role") == "admin", "policies on headers see it"


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_nobody_else_sets_those_headers(method):
    here = bench(
        rule(outputPayloadToHeader="x-payload"), {**B, "outputClaimToHeaders": [{"header": "X-Role", "claim": "role"}]}
    )
    forged = [("X-Role", "admin"), ("x-payload", "e30"), ("origin", "a"), ("access-control-request-method", "GET")]
    for token in (None, here.token()):
        request, refusal = here.send(token, *forged, method=method)
        assert refusal is None
        assert request.header("x-role") is None
        assert {"x-role", "x-payload"} <= request.for_application.remove
        assert (b"x-role", b"admin") not in request.for_application.set


def test_a_token_is_not_looked_for_where_a_header_is_ours_to_set():
    here = bench(rule(fromHeaders=[{"name": "x-jwt"}], outputPayloadToHeader="x-jwt"))
    assert here.outcome(None, ("x-jwt", "garbage")) == "nobody"
    here = bench(rule(fromHeaders=[{"name": "x-jwt"}]), {**B, "issuer": "z", "outputPayloadToHeader": "x-jwt"})
    assert here.outcome(None, ("x-jwt", here.token())) == "nobody", "whichever rule sets it"


def test_space_delimited_claims():
    here = bench(rule(spaceDelimitedClaims=["groups"]))
    request, _ = here.send(here.token(groups="a b", permission="x y", other="a b"))
    assert (request.claims["groups"], request.claims["permission"], request.claims["other"]) == (
        ["a", "b"],
        ["x", "y"],
        "a b",
    )


# -- tokens seen before -------------------------------------------------------------------------------------------------


def verified(here):
    """How many tokens the checks remember."""
    return sum(len(bound.tokens) for check in here.bound.default.checks for bound in check._rules)


def test_a_token_seen_before_needs_no_signature_checked(monkeypatch):
    here = bench(rule())
    good = here.token()
    assert here.outcome(good) == OURS
    monkeypatch.setattr("meshlib.security.jwt.verify", None)
    assert here.outcome(good) == OURS
    assert verified(here) == 1


def test_a_token_seen_before_does_not_hide_another():
    """In each of the other places, and in another spelling of the header."""
    here = bench(rule())
    good, bad = here.token(), here.token(exp=1)
    assert here.outcome(good) == OURS
    assert here.outcome(good, query=f"access_token={bad}") == "401 Jwt is expired"
    assert here.outcome(good, query="a=1") == OURS
    assert here.outcome(good, ("authorization", f"Bearer {bad}")) == BAD_FORM
    assert here.outcome(None, ("authorization", f"Bearer  {good}")) == OURS
    assert here.outcome(None, ("authorization", f"Bearer {good}x")).startswith("401")
    here = bench(rule(fromHeaders=[{"name": "x-jwt"}]))
    assert here.outcome(None, ("x-jwt", good)) == OURS
    assert here.outcome(None, ("x-jwt", good), ("x-jwt", bad)) == "401 Jwt is expired"


def test_it_expires_all_the_same():
    here = bench(rule())
    good = here.token()
    assert here.outcome(good) == OURS
    here.clock.advance(3660)
    assert here.outcome(good) == OURS
    here.clock.advance(1)
    assert here.outcome(good) == "401 Jwt is expired"
    assert verified(here) == 0


def test_what_is_refused_is_not_remembered():
    here = bench(rule())
    for token in ("garbage", here.token(exp=1), here.token(OTHER, {"kid": "a"})):
        here.send(token)
    assert verified(here) == 0


def test_the_same_rules_remember_over_a_reload_and_others_do_not():
    here = bench(rule())
    good = here.token()
    here.send(good)
    here.configure(request_authentication(rule()))
    assert verified(here) == 1
    here.configure(request_authentication(rule(audiences=["x"])))
    assert verified(here) == 0
    assert here.outcome(good).startswith("403")
    here.configure(request_authentication(rule(OTHER)))
    assert here.outcome(good).startswith("401")
    here.configure()
    assert here.bound.default.checks == ()


def test_no_token_is_in_any_repr():
    secret = issuer("HS256", "secret")
    here = bench(rule(), rule(secret, issuer="c"), {"issuer": "d", "jwksUri": KEYS}, **{KEYS: SIGNER.jwks().encode()})
    good = here.token(email="canary@example.com")
    request, _ = here.send(good)
    _, refusal = here.send(f"{good}x", query=f"access_token={good}")
    check = here.bound.default.checks[0]
    things = [request, refusal, check, check.rules, here.state.tokens.key_sets, *check._rules]
    things += [found for bound in check._rules for found in (bound.tokens, *bound.tokens._found.values())]
    shown = " ".join(map(repr, things))
    for part in (*good.split("."), "canary", secret.jwk["k"]):
        assert part not in shown


# -- RequestAuthentications that cannot be read -------------------------------------------------------------------------


def unread(looks: bool, *rules) -> TokenCheck:
    places = token_locations([("X-Jwt", "")], [], []) if looks else None
    broken = UnreadTokens("shop/new", "unknown field 'x'", places, frozenset(("x-sub",)))
    return TokenCheck(token_rules(list(rules), [broken]), KeySets(FakeClock(), None), FakeClock(), "BASE")


def asked(*headers, **more) -> InboundRequest:
    return InboundRequest(more.pop("method", "GET"), "/a", list(headers), authority="shop", **more)


def test_a_token_where_one_that_cannot_be_read_may_have_looked_is_refused_with_the_reason_for_us_alone():
    refusal = unread(True)(asked(("x-jwt", "secret")))
    assert (refusal.status, refusal.grpc, refusal.text) == (401, 16, "Jwt verification fails")
    assert refusal.headers == ((b"www-authenticate", b'Bearer realm="http://shop/a", error="invalid_token"'),)
    assert refusal.detail == (
        "jwt_authn_access_denied{Jwt_verification_fails} "
        "RequestAuthentication/shop/new cannot be read: unknown field 'x'"
    )


def test_a_request_without_a_token_there_is_nobodys_and_what_it_may_set_is_taken_away():
    request = asked(("x-sub", "root"), ("authorization", "Bearer x"))
    assert unread(True)(request) is None
    assert (request.claims, request.for_application.remove) == (None, {"x-sub"})


def test_what_it_may_set_is_taken_away_from_who_has_a_token_that_was_seen_before_too():
    here = bench(rule())
    (known,) = here.bound.of(0).settings.tokens.rules
    check, token = unread(True, known), here.token()
    for _ in range(2):
        request = asked(("authorization", f"Bearer {token}"), ("x-sub", "root"))
        assert check(request) is None
        assert request.request_principal == OURS
        assert request.for_application.remove == {"authorization", "x-sub"}


def test_where_it_may_have_looked_anywhere_every_request_is_refused_but_preflights():
    assert unread(False)(asked()).status == 401
    preflight = [("origin", "a"), ("access-control-request-method", "GET")]
    assert unread(False)(asked(*preflight, method="OPTIONS")) is None


def test_no_good_rule_makes_good_a_token_that_one_that_cannot_be_read_may_have_looked_at():
    here = bench(rule(fromHeaders=[{"name": "x-jwt"}]))
    good = ("x-jwt", here.token())
    assert here.outcome(None, good) == OURS
    (known,) = here.bound.of(0).settings.tokens.rules
    assert unread(True, known)(asked(good)).status == 401
