"""The roots that a process trusts, by trust domain: each vouches for the SPIFFE IDs of its own trust domain only."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType


class TrustBundles:
    """Roots (DER) by trust domain. Immutable; equal to another of the same roots."""

    __slots__ = ("_by_domain",)

    def __init__(self, by_domain: Mapping[str, tuple[bytes, ...]]) -> None:
        self._by_domain = MappingProxyType({name: tuple(roots) for name, roots in by_domain.items() if roots})

    @property
    def trust_domains(self) -> frozenset[str]:
        """Those that have roots."""
        return frozenset(self._by_domain)

    def roots_of(self, trust_domain: str) -> tuple[bytes, ...]:
        """Roots of a trust domain in DER, none of one that is not trusted."""
        return self._by_domain.get(trust_domain, ())

    @property
    def roots(self) -> tuple[bytes, ...]:
        """All roots in DER, each once: what a handshake is given, before ``vouches`` looks whose root it was."""
        return tuple(dict.fromkeys(root for roots in self._by_domain.values() for root in roots))

    @property
    def pem(self) -> str:
        """All roots as PEM, for ``SSLContext.load_verify_locations(cadata=)`` and gRPC core."""
        return "".join(pem_of(root) for root in self.roots)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustBundles) and self._by_domain == other._by_domain

    def __hash__(self) -> int:
        return hash(frozenset(self._by_domain.items()))

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {len(roots)}" for name, roots in self._by_domain.items())
        return f"<TrustBundles {counts or 'none'}>"


def pem_of(der: bytes) -> str:
    """A certificate in PEM."""
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
