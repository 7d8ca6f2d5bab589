"""What is asked of istiod, and when what it gives may be used."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.identity.istiod_chain import asked_name, bearer, judged, key_and_request
from meshlib.security.authority import Authority
from meshlib.security.pem import pem_of

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)
NEXT = Authority.root("cluster.local", NOW)
OTHER = Authority.root("other.test", NOW)
MIDDLE = ROOT.intermediate(NOW)
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"


def token(claims: object) -> str:
    text = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{text}.c2ln"


def issued(request: bytes, name: str = REVIEWS, by: Authority = MIDDLE) -> str:
    return pem_of(by.sign_request(name, request, NOW).public_bytes(Encoding.DER))


def test_the_request_is_of_a_p256_key_and_has_our_uri() -> None:
    key, request = key_and_request(REVIEWS)
    found = x509.load_pem_x509_csr(request)
    assert found.is_signature_valid
    public = found.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [REVIEWS]
    assert key.startswith(b"-----BEGIN PRIVATE KEY-----")


def test_without_a_name_it_has_none() -> None:
    assert not list(x509.load_pem_x509_csr(key_and_request("")[1]).extensions)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (token({"sub": "system:serviceaccount:default:reviews"}), REVIEWS),
        (token({"sub": "jo"}), ""),
        (token({"sub": "system:serviceaccount:default"}), ""),
        (token({"sub": 7}), ""),
        (token(["sub"]), ""),
        ("opaque", ""),
        ("a.b.c", ""),
        ("", ""),
    ],
)
def test_the_name_is_that_of_the_tokens_service_account(text: str, name: str) -> None:
    assert asked_name(text, "cluster.local") == name


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"c4n4ry\nc4n4ry", "characters that are not allowed"),
        (b"c4n4ry\xff", "characters that are not allowed"),
        (b"c4n4ry" * 20_000, "is longer than"),
    ],
)
def test_what_is_no_token_is_said_without_it(raw: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        bearer(raw)
    assert "c4n4ry" not in repr(raised.value)


def test_a_token_ends_with_its_line() -> None:
    assert bearer(b"a.b-c_d~e+f/g==\n") == "a.b-c_d~e+f/g=="


def test_the_last_element_has_the_root_or_several() -> None:
    key, request = key_and_request(REVIEWS)
    roots = pem_of(NEXT.root_der) + pem_of(ROOT.root_der)
    svid, bundles = judged([issued(request), MIDDLE.chain_pem.decode(), roots], key, "cluster.local", NOW)
    assert svid.identity.text == REVIEWS
    assert bundles.roots_of("cluster.local") == (NEXT.root_der, ROOT.root_der)


KEY, REQUEST = key_and_request(REVIEWS)
LEAF, CHAIN, LAST = issued(REQUEST), MIDDLE.chain_pem.decode(), pem_of(ROOT.root_der)


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ([], "the chain has 0 elements"),
        ([LEAF], "the chain has 1 elements"),
        ([LEAF, LAST], "which is not a root of its trust domain and not in its chain"),
        ([LEAF, CHAIN, pem_of(NEXT.root_der)], "not a root of its trust domain|is not signed by"),
        ([LEAF, CHAIN, LEAF], "is not the certificate of an authority"),
        ([LEAF, CHAIN, ""], "the bundle is empty"),
        (["garbage", CHAIN, LAST], "the certificate is not PEM"),
        ([issued(key_and_request(REVIEWS)[1]), CHAIN, LAST], "the key is not the key of the certificate"),
        (
            [issued(REQUEST, "spiffe://other.test/ns/default/sa/reviews", OTHER), pem_of(OTHER.root_der)],
            "is of the trust domain other.test",
        ),
    ],
)
def test_what_does_not_hold_is_not_used(chain: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        judged(chain, KEY, "cluster.local", NOW)


def test_what_is_not_valid_now_is_not_used() -> None:
    with pytest.raises(ValueError, match="has expired"):
        judged([LEAF, CHAIN, LAST], KEY, "cluster.local", NOW + 10 * 86_400)
