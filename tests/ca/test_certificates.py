"""CreateCertificate: the key of a request, the name of its caller, and istiod's codes for what is refused."""

from __future__ import annotations

import hashlib
import logging

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from meshlib.ca.callers import of_list
from meshlib.ca.certificates import CertificateService, Refused
from meshlib.identity.istiod_chain import judged, key_and_request
from meshlib.security.authority import Authority
from meshlib.security.certificate_messages import CertificateRequest, read_response, write_request
from meshlib.security.trust_bundles import TrustBundles
from tests.support.fake_clock import FakeClock
from tests.support.standing import Standing

START = 1_700_001_000.0
DAY = 86_400.0
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
ADMIN = "spiffe://cluster.local/ns/default/sa/admin"
ROOT = Authority.root("cluster.local", START)
NEXT = Authority.root("cluster.local", START)
STANDING = Standing(
    ROOT.intermediate(START, ttl=60 * DAY), TrustBundles({"cluster.local": (ROOT.root_der, NEXT.root_der)})
)
TOKEN = ["Bearer t0k3n"]


def service(now: float = 1000.0, standing: Standing = STANDING) -> CertificateService:
    by_token = of_list({hashlib.sha256(b"t0k3n").digest(): REVIEWS})
    return CertificateService(lambda: standing, by_token, FakeClock(now))


def asked(csr: bytes, seconds: int = 0, **metadata: str) -> bytes:
    return write_request(CertificateRequest(csr, seconds, metadata))


def leaf_of(raw: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(read_response(raw)[0].encode())


def uris(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(names)) == 1
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def life(raw: bytes) -> float:
    return leaf_of(raw).not_valid_after_utc.timestamp() - START


def test_the_chain_is_what_a_client_accepts_the_roots_last() -> None:
    key, csr = key_and_request(REVIEWS)
    chain = read_response(service().create(asked(csr), None, TOKEN))
    assert len(chain) == 3
    svid, bundles = judged(chain, key, "cluster.local", START)
    assert svid.identity.text == REVIEWS
    assert bundles == STANDING.bundles


def test_a_hundred_requests_for_other_names_are_given_their_callers() -> None:
    """Whatever a request asks for in its names, subject and extensions, none of it is in the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    for number in range(100):
        wanted: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(f"spiffe://cluster.local/ns/n{number}/sa/admin"),
            x509.DNSName(f"admin{number}.test"),
        ]
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ADMIN)]))
            .add_extension(x509.SubjectAlternativeName(wanted[: 1 + number % 2]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        made = leaf_of(service().create(asked(csr.public_bytes(Encoding.PEM)), None, TOKEN))
        assert uris(made) == [REVIEWS]
        assert not list(made.subject)
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert made.public_key() == key.public_key()


def test_the_caller_may_be_his_certificate() -> None:
    _, csr = key_and_request(REVIEWS)
    leaf = STANDING.signer.issue(ADMIN, START).leaf
    assert uris(leaf_of(service().create(asked(csr), leaf, []))) == [ADMIN]


@pytest.mark.parametrize(("seconds", "valid"), [(0, DAY), (-1, DAY), (3600, 3600.0), (1, 1.0)])
def test_how_long_it_is_valid(seconds: int, valid: float) -> None:
    _, csr = key_and_request(REVIEWS)
    assert life(service().create(asked(csr, seconds), None, TOKEN)) == valid


def test_it_never_outlives_its_issuer() -> None:
    _, csr = key_and_request(REVIEWS)
    assert life(service().create(asked(csr, round(80 * DAY)), None, TOKEN)) == 60 * DAY


EC = ec.generate_private_key(ec.SECP256R1())


def request_of(key: object, *, forged: bool = False) -> bytes:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)  # type: ignore[arg-type]
    raw = bytearray(made.public_bytes(Encoding.DER))
    if forged:
        raw[-1] ^= 1
    import base64

    text = base64.encodebytes(bytes(raw)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n".encode()


@pytest.mark.parametrize(
    ("raw", "authorizations", "code", "why"),
    [
        (asked(request_of(EC)), [], "UNAUTHENTICATED", "^request authenticate failure$"),
        (asked(request_of(EC)), ["Bearer x"], "UNAUTHENTICATED", "^request authenticate failure$"),
        (b"\xff", TOKEN, "INVALID_ARGUMENT", "not a valid IstioCertificateRequest"),
        (asked(b""), TOKEN, "INVALID_ARGUMENT", "CSR signing error"),
        (asked(b"garbage"), TOKEN, "INVALID_ARGUMENT", "CSR signing error"),
        (asked(request_of(EC, forged=True)), TOKEN, "INVALID_ARGUMENT", "not signed by the key"),
        (asked(request_of(rsa.generate_private_key(65537, 1024))), TOKEN, "INVALID_ARGUMENT", "1024 bits"),
        (asked(request_of(ec.generate_private_key(ec.SECP256K1()))), TOKEN, "INVALID_ARGUMENT", "secp256k1"),
        (asked(request_of(ed25519.Ed25519PrivateKey.generate())), TOKEN, "INVALID_ARGUMENT", "is not certified"),
        (asked(request_of(EC), round(91 * DAY)), TOKEN, "INVALID_ARGUMENT", "greater than the max allowed TTL"),
        (asked(request_of(EC), ImpersonatedIdentity=ADMIN), TOKEN, "UNAUTHENTICATED", "impersonation"),
    ],
)
def test_what_is_refused_has_istiods_code(raw: bytes, authorizations: list[str], code: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as raised:
        service().create(raw, None, authorizations)
    assert raised.value.code == code


def test_an_authority_that_has_expired_signs_nothing() -> None:
    _, csr = key_and_request(REVIEWS)
    with pytest.raises(Refused, match="expired") as raised:
        service(1000.0 + 61 * DAY).create(asked(csr), None, TOKEN)
    assert raised.value.code == "INTERNAL"


def test_no_token_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Refused):
        service().create(asked(request_of(EC)), None, ["Bearer c4n4ry"])
    service().create(asked(request_of(EC)), None, TOKEN)
    assert "the caller has the token is not in the list" in caplog.text
    assert "c4n4ry" not in caplog.text
    assert "t0k3n" not in caplog.text
