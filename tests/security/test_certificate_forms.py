"""What is asked of names before a certificate says them."""

from __future__ import annotations

import pytest

from meshlib.security.certificate_forms import trust_domain_of, workload_of


def test_a_trust_domain_is_a_name_and_no_path() -> None:
    assert trust_domain_of("prod.example-1_x") == "prod.example-1_x"
    with pytest.raises(ValueError, match="'a/b' is not a valid trust domain: spiffe://a/b has a path"):
        trust_domain_of("a/b")


def test_a_workload_has_a_path() -> None:
    assert workload_of("spiffe://a/b", "a").path == "/b"
    with pytest.raises(ValueError, match="that of the trust domain itself"):
        workload_of("spiffe://a", "a")
