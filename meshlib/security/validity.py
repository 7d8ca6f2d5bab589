"""Until when a certificate is valid."""

from __future__ import annotations

import functools


@functools.lru_cache(1024)
def valid_until(certificate: bytes) -> float:
    """Seconds since the epoch, of one in PEM (the first of several) or DER; what cannot be read has never been valid."""
    from cryptography import x509

    read = x509.load_der_x509_certificate if certificate.startswith(b"\x30") else x509.load_pem_x509_certificate
    try:
        return read(certificate).not_valid_after_utc.timestamp()
    except ValueError:
        return 0.0
