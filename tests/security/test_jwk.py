"""Keys: which ones verify, by which algorithms, and why the others do not."""

from __future__ import annotations

import json

import pytest

from meshlib.security.jwk import BadKey, BadKeys, key_of, key_set
from tests.support.tokens import issuer, number, rsa_key

RSA, EC, OKP, OCT = (issuer(name).jwk for name in ("RS256", "ES256", "EdDSA", "HS256"))
SIGNERS = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "HS256",
    "HS384",
    "HS512",
]


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_key_verifies_what_it_has_signed_and_nothing_else(algorithm):
    signer = issuer(algorithm)
    verify = key_of(signer.jwk).by_algorithm[algorithm]
    signature = signer.sign(b"content")
    assert verify(signature, b"content")
    assert not verify(signature, b"Content")
    assert not verify(signature[:-1], b"content")
    assert not verify(signature + b"\0", b"content")
    assert not verify(b"", b"content")
    assert not verify(bytes(len(signature)), b"content")


@pytest.mark.parametrize(
    ("jwk", "algorithms"),
    [
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ({**RSA, "alg": "PS384"}, {"PS384"}),
        (EC, {"ES256"}),
        (issuer("ES512").jwk, {"ES512"}),
        (OKP, {"EdDSA"}),
        ({**OCT, "k": "A" * 44}, {"HS256"}),  # 33 bytes
        (OCT, {"HS256", "HS384", "HS512"}),
        ({**RSA, "use": "sig", "key_ops": ["verify"]}, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ],
)
def test_algorithms_follow_from_the_key(jwk, algorithms):
    assert set(key_of(jwk).by_algorithm) == algorithms


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({}, "kty"),
        ({"kty": 1}, "kty"),
        ({"kty": "DSA"}, "kty"),
        ({**RSA, "n": None}, "no n"),
        ({**RSA, "n": "a!"}, "n is not base64url"),
        ({**RSA, "e": "Ag"}, "neither 3 nor 65537"),
        ({**RSA, "n": number(2**1023 + 1)}, "1024 bits"),
        ({**RSA, "n": number(2**20000 + 1)}, "20001 bits"),
        ({**RSA, "n": number(2**2047)}, "not a key"),
        ({**RSA, "alg": "ES256"}, "alg is not one of"),
        ({**RSA, "alg": "HS256"}, "alg is not one of"),
        ({**RSA, "alg": "none"}, "alg is not one of"),
        ({**RSA, "alg": 1}, "alg is not a text"),
        ({**RSA, "kid": 1}, "kid is not a text"),
        ({**RSA, "use": "enc"}, "use"),
        ({**RSA, "key_ops": ["encrypt"]}, "key_ops"),
        ({**RSA, "key_ops": "verify"}, "key_ops"),
        ({**EC, "crv": "secp256k1"}, "crv"),
        ({**EC, "crv": "P-384"}, "not a point on P-384"),
        ({**EC, "x": EC["y"]}, "not a point"),
        ({**EC, "x": "A" * 400}, "not a point"),
        ({**EC, "alg": "ES384"}, "alg is not one of"),
        ({**OKP, "crv": "Ed448"}, "crv"),
        ({**OKP, "x": "AAAA"}, "32 bytes"),
        ({**OCT, "k": "AAAA"}, "3 bytes"),
        ({**OCT, "k": ""}, "0 bytes"),
        ({**OCT, "alg": "RS256"}, "alg is not one of"),
    ],
)
def test_why_a_key_is_not_used(jwk, why):
    with pytest.raises(BadKey, match=why):
        key_of(jwk)


def test_a_set_has_the_usable_keys_and_says_of_the_others():
    found = key_set(json.dumps({"keys": [{"kty": "DSA"}, RSA, 1, EC], "more": 1}).encode())
    assert [key.kid for key in found.keys] == ["a", "a"]
    assert [position for position, _ in found.unusable] == [0, 2]


def test_keys_are_found_by_kid_and_algorithm():
    keys = [{**RSA, "kid": "1"}, {**RSA, "kid": "2", "alg": "RS512"}, {**EC, "kid": None}]
    found = key_set(json.dumps({"keys": keys}).encode())
    named = {"1": ["1", ""], "2": [""], "3": [""], "": ["1", ""]}
    assert {kid: [key.kid for key in found.of(kid, "RS256")] for kid in named} == named
    assert [key.kid for key in found.of("2", "RS512")] == ["2", ""]
    assert [key.kid for key in found.of("2", "none")] == [""], "which verifies nothing by that"
    assert found.knows("3")
    named = key_set(issuer("RS256").jwks(kid="1").encode())
    assert (named.knows("1"), named.knows("3"), named.knows("")) == (True, False, True)


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"<html>", b"\xff"])
def test_what_is_no_key_set(document):
    with pytest.raises(BadKeys):
        key_set(document)


def test_an_empty_set_is_one():
    assert key_set(b'{"keys":[]}').keys == ()


def test_secrets_are_in_no_repr():
    private = rsa_key().private_numbers()
    shown = repr(key_set(json.dumps({"keys": [OCT, {**RSA, "d": number(private.d)}]}).encode()))
    assert OCT["k"] not in shown
    assert number(private.d) not in shown
    assert "HS256" in shown
