"""The roots that a process trusts, by trust domain: each vouches for the SPIFFE IDs of its own trust domain only."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType

from meshlib.security import strict_json
from meshlib.security.chain import parsed, why_no_authority
from meshlib.security.pem import CERTIFICATE, Unusable, blocks, pem_of

PART = "the bundle"
X509_SVID = "x509-svid"
JSON = (b"{", b"\xef\xbb\xbf{")


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

    def until(self, trust_domain: str) -> float:
        """When the last root of a trust domain expires, in seconds since the epoch; 0 of one that is not trusted."""
        roots = [found for found in map(parsed, self.roots_of(trust_domain)) if found is not None]
        return max((root.not_valid_after_utc.timestamp() for root in roots), default=0.0)

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


def read_roots(text: bytes, now: float | None = None) -> tuple[bytes, ...]:
    """The roots (DER) of one trust domain, in PEM or as a SPIFFE bundle (JSON: the keys with ``"use": "x509-svid"``). Raises
    ``Unusable`` for a text that is neither, or has a certificate that is not an authority's: a leaf among the roots would be
    trusted for nothing, and somebody has meant something else. With ``now``: unless one of them is valid at that time."""
    certificates = _of_json(text) if text.lstrip().startswith(JSON) else _of_pem(text)
    begins = []
    for der in certificates:
        found = parsed(der)
        if found is None:
            raise Unusable(PART, "has a certificate that is not valid", "write it again")
        why = why_no_authority(found)
        if why:
            name = found.subject.rfc4514_string() or "without a subject"
            raise Unusable(PART, f"has a certificate ({name}) that {why}", "give the roots alone")
        if now is not None and found.not_valid_after_utc.timestamp() >= now:
            begins.append(found.not_valid_before_utc.timestamp())
    if now is not None and not begins:
        raise Unusable(PART, "has no root that has not expired", "get the new roots from your certificate authority")
    if now is not None and min(begins) > now:
        raise Unusable(PART, "has no root that is valid yet", "check the clock of this machine")
    return tuple(dict.fromkeys(certificates))


def _of_pem(text: bytes) -> list[bytes]:
    found = blocks(text, PART)
    other = [block.label for block in found if block.label != CERTIFICATE]
    if other:
        raise Unusable(
            PART, f"has a block {other[0]}", "a bundle has the certificates of roots, and no key: move it away"
        )
    return [block.content for block in found]


def _of_json(text: bytes) -> list[bytes]:
    try:
        document = strict_json.loads(text.removeprefix(b"\xef\xbb\xbf"))
    except strict_json.NotJson:
        raise Unusable(PART, "is not valid JSON", "wait until it has been written, or write it again") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise Unusable(PART, "is JSON without a list `keys`", "give a SPIFFE bundle, or PEM")
    found = []
    for key in keys:
        if not isinstance(key, dict) or key.get("use") != X509_SVID:
            continue  # a verifier ignores keys of other uses
        chain = key.get("x5c")
        if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
            raise Unusable(PART, "has a key for x509-svid whose x5c is not one certificate", "write it again")
        try:
            found.append(base64.b64decode(chain[0], validate=True))
        except ValueError:
            raise Unusable(PART, "has an x5c that is not valid base64", "write it again") from None
    if not found:
        raise Unusable(PART, "has no key for x509-svid", "give the bundle of a trust domain that has X.509 roots")
    return found
