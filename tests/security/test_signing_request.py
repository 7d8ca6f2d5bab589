"""Of a certificate signing request the key is taken, where its sender holds it."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meshlib.security.signing_request import LONGEST, key_of

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
REQUEST = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(KEY, hashes.SHA256())
DER = REQUEST.public_bytes(Encoding.DER)


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_key_of_a_request(encoding: Encoding) -> None:
    assert key_of(REQUEST.public_bytes(encoding)) == KEY.public_key()


def test_who_does_not_hold_the_key_gets_no_certificate_for_it() -> None:
    forged = DER.replace(public(KEY), public(OTHER))
    assert forged != DER
    with pytest.raises(ValueError, match="it is not signed by the key that it has"):
        key_of(forged)


def test_a_key_of_a_kind_that_is_not_certified() -> None:
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    with pytest.raises(ValueError, match="is not certified"):
        key_of(made.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.DER))


def test_a_request_without_end_is_not_looked_at() -> None:
    with pytest.raises(ValueError, match="longer than"):
        key_of(b"-----BEGIN" + bytes(LONGEST))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
def test_a_request_in_which_a_byte_was_changed_is_refused(place: int, change: int) -> None:
    # how many bits of the signature's last byte are unused: cryptography takes 1 where that bit is 0; the signature is the same
    assume(place != len(DER) - len(REQUEST.signature) - 1)
    with pytest.raises(ValueError, match="signing request|not certified"):
        key_of(DER[:place] + bytes([DER[place] ^ change]) + DER[place + 1 :])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="is not a valid certificate signing request"):
        key_of(text)
    with pytest.raises(ValueError, match="is not a valid certificate signing request"):
        key_of(b"-----BEGIN CERTIFICATE REQUEST-----\n" + text)
