"""A RequestAuthentication that Istio's webhook refuses is refused here, at the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.verdicts import refusals, warnings

RULE = "spec.jwtRules[0]"
PUBLIC = {"kty": "RSA", "kid": "a", "n": "sXch", "e": "AQAB"}


def rule(**fields: Any) -> dict[str, Any]:
    return {"jwtRules": [{"issuer": "https://idp.example.com", **fields}]}


def keys(*found: Any) -> dict[str, Any]:
    return rule(jwks=json.dumps({"keys": list(found)}))


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a rule for nobody's tokens": ({"jwtRules": [{}]}, "missing-issuer", RULE),
    "an empty issuer": ({"jwtRules": [{"issuer": ""}]}, "missing-issuer", RULE),
    "an empty audience": (rule(audiences=["a", ""]), "empty-value", f"{RULE}.audiences[1]"),
    "an empty parameter": (rule(fromParams=[""]), "empty-value", f"{RULE}.fromParams[0]"),
    "an empty cookie": (rule(fromCookies=[""]), "empty-value", f"{RULE}.fromCookies[0]"),
    "a header without a name": (rule(fromHeaders=[{"name": ""}]), "missing-name", f"{RULE}.fromHeaders[0].name"),
    "keys from a file": (rule(jwksUri="file:///keys"), "bad-url", f"{RULE}.jwksUri"),
    "keys from a host without scheme": (rule(jwksUri="idp.example.com/keys"), "bad-url", f"{RULE}.jwksUri"),
    "a host with a space": (rule(jwksUri="https://not a host/"), "bad-url", f"{RULE}.jwksUri"),
    "a port that is a word": (rule(jwksUri="https://idp:https/"), "bad-url", f"{RULE}.jwksUri"),
    "two ports": (rule(jwksUri="https://idp:1:2/"), "bad-url", f"{RULE}.jwksUri"),
    "a port beyond all numbers": (rule(jwksUri=f"https://idp:{'9' * 30}/"), "bad-url", f"{RULE}.jwksUri"),
    "a % that escapes nothing": (rule(jwksUri="https://idp/a%zz"), "bad-url", f"{RULE}.jwksUri"),
    "an IPv4 address in brackets": (rule(jwksUri="https://[1.2.3.4]/"), "bad-url", f"{RULE}.jwksUri"),
    "a bracket that does not close": (rule(jwksUri="https://[::1/"), "bad-url", f"{RULE}.jwksUri"),
    "a line break": (rule(jwksUri="https://idp/\n"), "bad-url", f"{RULE}.jwksUri"),
    "keys that are no JSON": (rule(jwks="a"), "bad-jwks", f"{RULE}.jwks"),
    "keys that are a list": (rule(jwks="[]"), "bad-jwks", f"{RULE}.jwks"),
    "keys that are a number": (rule(jwks="80"), "bad-jwks", f"{RULE}.jwks"),
    "an object that is no key": (rule(jwks="{}"), "bad-jwks", f"{RULE}.jwks"),
    "a key of no kind": (keys({"kid": "a"}), "bad-jwks", f"{RULE}.jwks"),
    "a key of an unknown kind": (keys({"kty": "DSA"}), "bad-jwks", f"{RULE}.jwks"),
    "a key without exponent": (keys({"kty": "RSA", "n": "sXch"}), "bad-jwks", f"{RULE}.jwks"),
    "a modulus that is not base64": (keys({**PUBLIC, "n": "a!"}), "bad-jwks", f"{RULE}.jwks"),
    "a key's name that is a number": (keys({**PUBLIC, "kid": 1}), "bad-jwks", f"{RULE}.jwks"),
    "a certificate that is none": (keys({**PUBLIC, "x5c": ["AAAA"]}), "bad-jwks", f"{RULE}.jwks"),
    "one certificate, not a list": (keys({**PUBLIC, "x5c": "MAA="}), "bad-jwks", f"{RULE}.jwks"),
    "a private key's factor that is not base64": (keys({**PUBLIC, "d": "AA", "p": "!"}), "bad-jwks", f"{RULE}.jwks"),
    "an output without claim": (
        rule(outputClaimToHeaders=[{"claim": "", "header": "x"}]),
        "missing-name",
        f"{RULE}.outputClaimToHeaders[0].claim",
    ),
    "an output to a header with a space": (
        rule(outputClaimToHeaders=[{"claim": "a", "header": "x y"}]),
        "bad-header-name",
        f"{RULE}.outputClaimToHeaders[0].header",
    ),
    "a timeout of nothing": (rule(timeout="0s"), "duration-too-short", f"{RULE}.timeout"),
    "a Deployment as target": (
        {"targetRefs": [{"kind": "Deployment", "name": "a"}]},
        "bad-target",
        "spec.targetRefs[0].kind",
    ),
    "selector and target": (
        {"selector": {}, "targetRef": {"kind": "Service", "name": "a"}},
        "several-targets",
        "spec.targetRef",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(what):
    spec, code, path = REFUSED[what]
    assert refusals("RequestAuthentication", spec) == [(code, path)]


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an issuer alone": rule(),
    "keys alone": {"jwtRules": [{"jwksUri": "http://idp.example.com:8080/keys?a=b#c"}]},
    "an IPv6 address": rule(jwksUri="https://[2001:db8::1]:8443/keys"),
    "an address in a zone": rule(jwksUri="https://[fe80::1%25eth0]/keys"),
    "a user": rule(jwksUri="https://a:b@idp/keys"),
    "a scheme in capitals": rule(jwksUri="HTTPS://idp/keys"),
    "no host": rule(jwksUri="https:///keys"),
    "an empty port": rule(jwksUri="https://idp:/keys"),
    "an opaque URL": rule(jwksUri="https:keys"),
    "an empty key set": rule(jwks='{"keys": []}'),
    "a key set": keys(PUBLIC, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA=="}),
    "two key sets, of which the first counts": rule(jwks='{"keys": []} {"keys": 1}'),
    "a key of nothing": keys({**PUBLIC, "n": None}),
    "what is said of private keys only": keys({**PUBLIC, "p": "!", "crv": 1}),
    "one key": rule(jwks=json.dumps(PUBLIC)),
    "where tokens are": rule(fromHeaders=[{"name": "x", "prefix": ""}], fromParams=["a"], fromCookies=["b"]),
    "claims as headers": rule(outputClaimToHeaders=[{"claim": "a", "header": "x_a-b"}]),
}


@pytest.mark.parametrize("what", list(ACCEPTED))
def test_accepted(what):
    assert refusals("RequestAuthentication", ACCEPTED[what]) == []


@pytest.mark.parametrize("secret", [{**PUBLIC, "d": "AA"}, {"kty": "oct", "k": "AA"}])
def test_a_secret_key_is_warned_of(secret):
    assert warnings("RequestAuthentication", keys(PUBLIC, secret)) == [("private-key", f"{RULE}.jwks")]
    assert warnings("RequestAuthentication", keys(PUBLIC)) == []


def test_a_selector_without_labels_is_warned_of():
    assert warnings("RequestAuthentication", {"selector": {}}) == [("empty-selector", "spec.selector")]
