"""The compact form: strict before anything else; the algorithm is the key's. Wycheproof's vectors, where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.security import jws
from meshlib.security.base64url import encode
from meshlib.security.jwk import key_set
from meshlib.security.jws import TokenRefused, parse, verify
from tests.support.tokens import issuer, rsa_key

RS256 = issuer("RS256")
KEYS = key_set(RS256.jwks().encode())
CORPUS = Path(os.environ.get("MESHLIB_WYCHEPROOF", Path(__file__).parents[3] / "shared/corpus/jwt/wycheproof-jws.json"))
"""A list of {id, comment, jws, jwk, valid}."""


def outcome(token: str, keys: Any = KEYS) -> str:
    try:
        verify(parse(token), keys)
    except TokenRefused as refused:
        return refused.reason
    return "verified"


@pytest.mark.parametrize(
    "algorithm",
    [
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
    ],
)
def test_a_token_is_verified_by_the_key_that_signed_it(algorithm):
    signer, other = issuer(algorithm), issuer(algorithm, "b")
    token = signer.token({"iss": "me"})
    assert outcome(token, key_set(signer.jwks().encode())) == "verified"
    assert outcome(token, key_set(signer.jwks(alg=algorithm).encode())) == "verified"
    assert outcome(signer.token(b""), key_set(signer.jwks().encode())) == "verified", "RFC 7515 allows an empty payload"
    if algorithm[:2] not in ("RS", "PS"):  # which share a key here
        assert outcome(token, key_set(other.jwks(kid="a").encode())) == jws.NOT_VERIFIED
    header, payload, signature = token.split(".")
    assert outcome(f"{header}.{payload[:-2]}AA.{signature}", key_set(signer.jwks().encode())) == jws.NOT_VERIFIED


HEAD, BODY, SIGNATURE = RS256.token({"iss": "me"}).split(".")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", jws.BAD_FORM),
        ("a", jws.BAD_FORM),
        ("..", jws.BAD_FORM),
        (f"{HEAD}.{BODY}", jws.BAD_FORM),
        (f"{HEAD}.{BODY}.", jws.BAD_FORM),
        (f".{BODY}.{SIGNATURE}", jws.BAD_FORM),
        (f"{HEAD}.{BODY}.{SIGNATURE}.", jws.BAD_FORM),
        (f"{HEAD}..{BODY}.{SIGNATURE}", jws.BAD_FORM),
        (f"{HEAD}.{BODY}.{SIGNATURE}.a.b", jws.BAD_FORM),  # as an encrypted token is
        (f"{HEAD}.{'A' * jws.MAX_TOKEN}.{SIGNATURE}", jws.BAD_FORM),
        ('{"payload":"","signatures":[]}', jws.BAD_FORM),
        (f"{HEAD}=.{BODY}.{SIGNATURE}", jws.HEADER_NOT_BASE64),
        (f" {HEAD}.{BODY}.{SIGNATURE}", jws.HEADER_NOT_BASE64),
        (f"é{HEAD}.{BODY}.{SIGNATURE}", jws.HEADER_NOT_BASE64),
        (f"{HEAD}.{BODY}=.{SIGNATURE}", jws.PAYLOAD_NOT_BASE64),
        (f"{HEAD}.{BODY}+.{SIGNATURE}", jws.PAYLOAD_NOT_BASE64),
        (f"{HEAD}.AB.{SIGNATURE}", jws.PAYLOAD_NOT_BASE64),
        (f"{HEAD}.{BODY}.{SIGNATURE}==", jws.SIGNATURE_NOT_BASE64),
        (f"{HEAD}.{BODY}.{SIGNATURE}\n", jws.SIGNATURE_NOT_BASE64),
        (f"{HEAD}.{BODY}.A", jws.SIGNATURE_NOT_BASE64),
    ],
)
def test_the_form_is_strict(token, reason):
    assert outcome(token) == reason


def test_up_to_16_kib_is_read():
    room = jws.MAX_TOKEN - len(HEAD) - len(SIGNATURE) - 2
    payload = b"x" * (room * 3 // 4)
    token = RS256.token(payload)
    assert jws.MAX_TOKEN - 4 < len(token) <= jws.MAX_TOKEN
    assert outcome(token) == "verified"
    assert outcome(RS256.token(payload + b"xxx")) == jws.BAD_FORM


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", jws.BAD_FORM),
        (b"[]", jws.HEADER_NOT_JSON),
        (b'{"alg":"RS256"', jws.HEADER_NOT_JSON),
        (b'{"alg":"RS256","alg":"RS256"}', jws.HEADER_NOT_JSON),
        (b'{"alg":"RS256","kid":"a","kid":"b"}', jws.HEADER_NOT_JSON),
        (b"{}", jws.NO_ALGORITHM),
        (b'{"alg":null}', jws.NO_ALGORITHM),
        (b'{"alg":["RS256"]}', jws.NO_ALGORITHM),
        (b'{"alg":"none"}', jws.UNKNOWN_ALGORITHM),
        (b'{"alg":"NONE"}', jws.UNKNOWN_ALGORITHM),
        (b'{"alg":"rs256"}', jws.UNKNOWN_ALGORITHM),
        (b'{"alg":"ES256K"}', jws.UNKNOWN_ALGORITHM),
        (b'{"alg":"RSA-OAEP","enc":"A256GCM"}', jws.NESTED),
        (b'{"alg":"RS256","kid":1}', jws.KID_NOT_STRING),
        (b'{"alg":"RS256","kid":null}', jws.KID_NOT_STRING),
        (b'{"alg":"RS256","crit":["exp"]}', jws.CRITICAL),
        (b'{"alg":"RS256","crit":[]}', jws.CRITICAL),
        (b'{"alg":"RS256","crit":["b64"],"b64":false}', jws.CRITICAL),
        (b'{"alg":"RS256","b64":false}', jws.DETACHED),
        (b'{"alg":"RS256","cty":"JWT"}', jws.NESTED),
        (b'{"alg":"RS256","cty":"application/jwt"}', jws.NESTED),
        (b'{"alg":"RS256","cty":1}', jws.NESTED),
        (b'{"alg":"RS256","zip":"DEF"}', jws.NESTED),
        (b'{"alg":"RS256"}', "verified"),
        (b'{"alg":"RS256","kid":""}', "verified"),
        (b'{ "typ" : "JWT",\n"alg": "RS256", "kid":"a", "cty":"json"}', "verified"),
        (b'{"alg":"RS256","kid":"b"}', jws.NO_KEY),
        (b'{"alg":"RS256","kid":"../../a"}', jws.NO_KEY),
        (b'{"alg":"RS384","kid":"a"}', jws.NOT_VERIFIED),
        (b'{"alg":"PS256","kid":"a"}', jws.NOT_VERIFIED),
        (b'{"alg":"ES256","kid":"a"}', jws.NOT_VERIFIED),
        (b'{"alg":"HS256","kid":"a"}', jws.NOT_VERIFIED),
        (b'{"alg":"EdDSA","kid":"a"}', jws.NOT_VERIFIED),
    ],
)
def test_headers(header, reason):
    assert outcome(RS256.signed(header, b"{}")) == reason
    assert outcome(RS256.signed(header, b"{}")) == reason, "again, when the header is known"


def test_a_key_that_the_token_brings_is_not_looked_at():
    mallory = issuer("ES256", "mallory")
    for more in ({"jwk": mallory.jwk}, {"jku": "https://mallory/"}, {"x5u": "https://mallory/"}, {"x5c": ["AA"]}):
        assert outcome(mallory.token({}, {"kid": None, **more})) == jws.NOT_VERIFIED


def test_a_public_key_is_no_secret_to_hash_with():
    """The text of an RSA key as the key of HS256, in each way it may be written."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = rsa_key().public_key()
    texts = [public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), RS256.jwks().encode()]
    for secret in texts:
        mallory = issuer("HS256", secret.decode())
        assert outcome(mallory.token({}, {"kid": "a"})) == jws.NOT_VERIFIED


def test_with_an_algorithm_of_its_own_a_key_takes_no_other():
    keys = key_set(RS256.jwks(alg="RS512").encode())
    assert outcome(RS256.token({}), keys) == jws.NO_KEY
    assert outcome(issuer("RS512").token({}), keys) == "verified"


def test_an_ed25519_signature_has_64_bytes():
    keys = key_set(issuer("EdDSA").jwks().encode())
    header, payload, _ = issuer("EdDSA").token({}).split(".")
    assert outcome(f"{header}.{payload}.AAAA", keys) == jws.WRONG_ED25519_LENGTH


def test_no_part_of_a_token_is_in_what_is_raised_or_shown():
    token = RS256.signed(b'{"alg":"RS256","kid":"a","canary":}', b"{}")
    with pytest.raises(TokenRefused) as caught:
        parse(token)
    assert caught.value.__context__ is None
    assert BODY not in repr(parse(f"{HEAD}.{BODY}.{SIGNATURE}"))


@given(st.lists(st.binary(max_size=20).map(encode) | st.text(max_size=8), min_size=0, max_size=5).map(".".join))
def test_any_text_is_read_or_refused(token):
    try:
        parse(token)
    except TokenRefused as refused:
        assert refused.reason.startswith("Jwt ")


DEFECTIVE = {367: 357, 370: 357}
"""Vectors named for padding that is not in them: their bytes are those of a valid one, so nothing can tell them apart."""
REFUSED = {
    346: "its key is for PS256, the token says PS384",
    350: "its key is for PS256, the token says PS384",
    347: "its key is for ES521, which does not exist",
    351: "its key is for ES521, which does not exist",
    372: "it has a ? in its header",
    373: "it has a ? in its payload",
}


@pytest.mark.skipif(not CORPUS.is_file(), reason="Wycheproof's JWS vectors are not at hand (MESHLIB_WYCHEPROOF)")
def test_wycheproof():
    vectors = {v["id"]: v for v in json.loads(CORPUS.read_text())}
    accepted = {
        number
        for number, v in vectors.items()
        if outcome(v["jws"], key_set(json.dumps({"keys": [v["jwk"]]}).encode())) == "verified"
    }
    for number, twin in DEFECTIVE.items():
        assert (vectors[number]["jws"], vectors[number]["jwk"]) == (vectors[twin]["jws"], vectors[twin]["jwk"])
        assert vectors[twin]["valid"]
    valid = {number for number, v in vectors.items() if v["valid"]}
    assert len(vectors) > 400
    assert accepted - valid - set(DEFECTIVE) == set()
    assert valid - accepted == set(REFUSED)


@pytest.mark.skipif(not CORPUS.is_file(), reason="Wycheproof's JWS vectors are not at hand (MESHLIB_WYCHEPROOF)")
def test_what_those_vectors_are_named_for_is_refused():
    vector = next(v for v in json.loads(CORPUS.read_text()) if v["id"] == 357)
    header, payload, signature = vector["jws"].split(".")
    keys = key_set(json.dumps({"keys": [vector["jwk"]]}).encode())
    for token in (
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload}=.{signature}",
        f"{header}.{payload}.{signature}=",
    ):
        assert outcome(token, keys) != "verified"
