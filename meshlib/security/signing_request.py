"""A certificate signing request (PKCS#10): the public key that somebody shows to hold. Nothing else in it is believed: who the
caller is says the caller's own token or certificate, never the request (SPIRE's CVE-2021-27098)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.security.keys import usable

if TYPE_CHECKING:
    from meshlib.security.keys import PublicKey

LONGEST = 64 * 1024
"""Bytes of a request; what is longer is not looked at."""


def key_of(request: bytes) -> PublicKey:
    """The key of a request (PEM or DER) that is signed by it. Raises ValueError for what is not a request, for one whose
    signature is not by its key (its sender does not hold the key), and for a key that we do not certify."""
    from cryptography import x509

    if len(request) > LONGEST:
        raise ValueError(f"is not a valid certificate signing request: it is longer than {LONGEST} bytes")
    load = x509.load_pem_x509_csr if request.lstrip().startswith(b"-----") else x509.load_der_x509_csr
    try:
        found = load(request)
        public: object = found.public_key()
        signed = found.is_signature_valid
    except Exception:  # noqa: BLE001 (whatever a stranger's bytes cause, they are not a request)
        raise ValueError("is not a valid certificate signing request (PKCS#10, PEM or DER)") from None
    key = usable(public)
    if not signed:
        raise ValueError("is not a valid certificate signing request: it is not signed by the key that it has")
    return key
