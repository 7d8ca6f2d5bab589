"""Until when a certificate is valid."""

from __future__ import annotations

import pytest

from meshlib.security.authority import Authority
from meshlib.security.validity import valid_until

NOW = 1_790_000_000.0


def test_it_is_read_of_der_and_of_pem() -> None:
    svid = Authority.root("cluster.local", NOW).issue("spiffe://cluster.local/ns/a/sa/b", NOW, ttl=3600)
    assert valid_until(svid.leaf) == valid_until(svid.chain_pem) == NOW + 3600


@pytest.mark.parametrize("text", [b"", b"0", b"\x30\x00", b"-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_has_never_been_valid(text: bytes) -> None:
    assert valid_until(text) == 0.0
