"""A SPIFFE ID, ``spiffe://<trust domain>/<path>``, read as the SPIFFE specification demands: a text that breaks one of its
MUSTs is none. OpenSSL, BoringSSL and gRPC core check few of them, so nothing but this decides who a peer is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

SCHEME = "spiffe://"
LONGEST = 2048
LONGEST_TRUST_DOMAIN = 255

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """``parse`` makes them. ``path`` is "" or begins with a slash.

    ``namespace`` and ``service_account`` are those of ``/ns/<namespace>/sa/<service account>``, with nothing before or behind
    it, as Istio reads an identity (its ``ParseIdentity``); of any other path both are "".
    """

    trust_domain: str
    path: str
    namespace: str = field(init=False, compare=False)
    service_account: str = field(init=False, compare=False)
    text: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        kubernetes = len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa"
        put = object.__setattr__  # frozen: only here
        put(self, "namespace", parts[2] if kubernetes else "")
        put(self, "service_account", parts[4] if kubernetes else "")
        put(self, "text", f"{SCHEME}{self.trust_domain}{self.path}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The SPIFFE ID that ``text`` is, to the letter; None when it is none (``why_not`` says why)."""
        if why_not(text):
            return None
        trust_domain, slash, path = text[len(SCHEME) :].partition("/")
        return cls(trust_domain, slash + path)

    def __str__(self) -> str:
        return self.text


def why_not(text: str) -> str:
    """Why ``text`` is not a valid SPIFFE ID; "" when it is one."""
    if len(text) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    if not text.startswith(SCHEME):
        return f"does not begin with {SCHEME}"
    rest = text[len(SCHEME) :]
    for character, name in (("?", "a query"), ("#", "a fragment"), ("%", "a percent-encoded character")):
        if character in rest:
            return f"has {name}"
    trust_domain, slash, path = rest.partition("/")
    return _trust_domain(trust_domain) or (_path(path) if slash else "")


def _trust_domain(name: str) -> str:
    if not name:
        return "has no trust domain"
    if "@" in name:
        return "has userinfo before its trust domain"
    if ":" in name:
        return "has a port after its trust domain"
    if len(name) > LONGEST_TRUST_DOMAIN:
        return f"has a trust domain longer than {LONGEST_TRUST_DOMAIN} bytes"
    if _TRUST_DOMAIN.fullmatch(name) is None:
        return "has a character in its trust domain that is not one of a-z, 0-9, '.', '-', '_'"
    return ""


def _path(path: str) -> str:
    """Of what follows the slash."""
    segments = path.split("/")
    if not segments[-1]:
        return "ends with a slash"
    for segment in segments:
        if not segment:
            return "has an empty path segment"
        if segment in (".", ".."):
            return "has a path segment that is '.' or '..'"
        if _SEGMENT.fullmatch(segment) is None:
            return "has a character in its path that is not one of A-Z, a-z, 0-9, '.', '-', '_'"
    return ""
