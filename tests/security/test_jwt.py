"""The claims that decide: times with their grace, issuer, audiences; in Envoy's words, and in Envoy's order."""

from __future__ import annotations

import json

import pytest

from meshlib.security import jwt
from meshlib.security.jwk import NO_KEYS, key_set
from meshlib.security.jws import NO_KEY, NOT_VERIFIED, TokenRefused
from meshlib.security.jwt import Jwt, audience, wanted_audiences
from tests.support.tokens import issuer

SIGNER = issuer("ES256")
KEYS = key_set(SIGNER.jwks().encode())
NOW = 1_800_000_000
IDP = "https://idp.example.com"


def outcome(claims, *, wanted=IDP, audiences=(), now=NOW, keys=KEYS):
    try:
        token = Jwt(SIGNER.token(claims))
        token.check(wanted, wanted_audiences(audiences), now)
        token.verify(keys)
    except TokenRefused as refused:
        return refused.reason
    return "verified"


def payload(**claims):
    return {"iss": IDP, "sub": "jane", **claims}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, "verified"),
        ({"exp": NOW - 60}, "verified"),
        ({"exp": NOW - 61}, jwt.EXPIRED),
        ({"exp": NOW - 60.5}, jwt.EXPIRED),
        ({"exp": NOW - 59.5}, "verified"),
        ({"exp": 0}, jwt.EXPIRED),
        ({"exp": 0.5}, jwt.EXPIRED),
        ({"exp": 2**64 - 1}, "verified"),
        ({"nbf": NOW + 60}, "verified"),
        ({"nbf": NOW + 61}, jwt.NOT_YET_VALID),
        ({"nbf": NOW + 60.9}, "verified"),
        ({"nbf": 2**63}, jwt.NOT_YET_VALID),
        ({"iat": NOW + 1000}, "verified"),
        ({"exp": NOW - 100, "nbf": NOW + 100}, jwt.NOT_YET_VALID),
    ],
)
def test_times(claims, expected):
    assert outcome(payload(**claims)) == expected


@pytest.mark.parametrize("now", [NOW - 66, NOW - 65.5, NOW - 65, NOW, NOW + 60, NOW + 60.9, NOW + 61])
def test_it_is_current_when_its_times_say_nothing_against_it(now):
    token = Jwt(SIGNER.token(payload(exp=NOW, nbf=NOW - 5)))
    begins, ends = token.current()
    try:
        token.check_times(now)
    except TokenRefused:
        assert not begins <= now < ends
    else:
        assert begins <= now < ends
    begins, ends = Jwt(SIGNER.token(payload())).current()
    assert begins <= now < ends


def test_a_part_of_a_second_does_not_count():
    assert outcome(payload(exp=NOW), now=NOW + 60.999) == "verified"
    assert outcome(payload(exp=NOW), now=NOW + 61) == jwt.EXPIRED


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1800000000", "an integer"),
        (True, "an integer"),
        (None, "an integer"),
        ([1], "an integer"),
        (-1, "a positive 64 bit integer"),
        (-0.5, "a positive 64 bit integer"),
        (2**64, "a positive 64 bit integer"),
        (1e300, "a positive 64 bit integer"),
    ],
)
def test_times_that_are_none(name, value, words):
    assert outcome(payload(**{name: value})) == f"Jwt payload [{name}] field is not {words}"


@pytest.mark.parametrize("name", ["iss", "sub", "jti"])
@pytest.mark.parametrize("value", [1, None, ["a"], {}, True])
def test_texts_that_are_none(name, value):
    assert outcome(payload(**{name: value})) == f"Jwt payload [{name}] field is not a string"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, jwt.AUDIENCES_NOT_STRINGS),
        (1, jwt.AUDIENCES_NOT_STRINGS),
        ({}, jwt.AUDIENCES_NOT_STRINGS),
        (["api", 1], jwt.AUDIENCES_NOT_STRINGS),
        ([], jwt.AUDIENCE_NOT_ALLOWED),
        ("", jwt.AUDIENCE_NOT_ALLOWED),
        ("web", jwt.AUDIENCE_NOT_ALLOWED),
        ("API", jwt.AUDIENCE_NOT_ALLOWED),
        ("api.evil", jwt.AUDIENCE_NOT_ALLOWED),
        ("a,api", jwt.AUDIENCE_NOT_ALLOWED),
        ("api", "verified"),
        (["web", "api"], "verified"),
        ("https://api/", "verified"),
        ("api/", "verified"),
        ("api//", jwt.AUDIENCE_NOT_ALLOWED),
    ],
)
def test_audiences(value, expected):
    assert outcome(payload(aud=value), audiences=["api"]) == expected


def test_without_aud_only_rules_without_audiences_take_a_token():
    assert outcome(payload(), audiences=["api"]) == jwt.AUDIENCE_NOT_ALLOWED
    assert outcome(payload(aud="anything")) == "verified"


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("http://a/", "a"),
        ("https://a", "a"),
        ("a/", "a"),
        ("ftp://a/", "ftp://a"),
        ("http://", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_audiences_are_compared_without_scheme_and_final_slash(text, compared):
    assert audience(text) == compared


@pytest.mark.parametrize("issued", [f"{IDP}/", IDP.upper(), IDP[:-1], "", f" {IDP}"])
def test_the_issuer_is_compared_exactly(issued):
    assert outcome(payload(iss=issued)) == jwt.UNKNOWN_ISSUER


def test_a_rule_without_issuer_takes_every_one():
    assert outcome({"sub": "jane"}, wanted="") == "verified"
    assert outcome({"sub": "jane"}) == jwt.UNKNOWN_ISSUER


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b'"a"', b'{"iss":"a","iss":"a"}', b'{"exp":NaN}', b'{"a":1e999}', b"\xff"]
)
def test_a_payload_that_is_no_object(content):
    expected = {b"": "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"}
    assert outcome(content) == expected.get(content, jwt.PAYLOAD_NOT_JSON)


def test_in_envoys_order():
    """Form, issuer, times, audiences, and the signature at last."""
    other = key_set(issuer("ES256", "b").jwks(kid="a").encode())
    wrong = payload(iss="x", exp=1, aud="x")
    assert outcome(wrong, audiences=["api"], keys=other) == jwt.UNKNOWN_ISSUER
    assert outcome({**wrong, "iss": IDP}, audiences=["api"], keys=other) == jwt.EXPIRED
    assert outcome(payload(aud="x"), audiences=["api"], keys=other) == jwt.AUDIENCE_NOT_ALLOWED
    assert outcome(payload(), keys=other) == NOT_VERIFIED
    assert outcome(payload(), keys=key_set(SIGNER.jwks(kid="c").encode())) == NO_KEY
    assert outcome(payload(), keys=NO_KEYS) == jwt.NO_VALID_KEYS
    with pytest.raises(TokenRefused, match=r"\[jti\]"):
        Jwt(f"{SIGNER.token(payload(jti=1))}=")
    with pytest.raises(TokenRefused, match="signature is an invalid Base64url"):
        Jwt(f"{SIGNER.token(payload(iss='x'))}=")


def test_what_a_token_says():
    token = Jwt(SIGNER.token(payload(aud=["a", "b"], exp=NOW, nbf=NOW - 5)))
    assert (token.issuer, token.subject, token.audiences) == (IDP, "jane", ("a", "b"))
    assert (token.expires, token.not_before, token.kid) == (NOW, NOW - 5, "a")
    assert token.claims["sub"] == "jane"
    assert Jwt(SIGNER.token(payload())).expires is None


def test_no_claim_is_in_repr_or_error():
    token = SIGNER.token(json.dumps({"iss": IDP, "sub": "canary", "exp": -1}).encode())
    with pytest.raises(TokenRefused) as caught:
        Jwt(token)
    assert caught.value.__context__ is None
    assert "canary" not in repr(Jwt(SIGNER.token(payload(sub="canary"))))
