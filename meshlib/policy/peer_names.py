"""Whether a certificate is for one of the names that a DestinationRule allows (``subjectAltNames``).

As Envoy's matcher of subject alternative names with exact names: DNS names compare as DNS names do (case aside, wildcards of
the certificate in its left-most label only), all others whole. Stricter than Envoy with Istio's configuration: a name of the
certificate is only compared with allowed names of its own type, so that a DNS name that is spelled like a SPIFFE ID is none;
and a certificate with several URIs is not a SPIFFE identity at all (SPIFFE allows exactly one).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

DNS, URI, IP, EMAIL = "DNS", "URI", "IP Address", "email"
"""Types of names, as ``ssl.SSLSocket.getpeercert`` calls them."""


def type_of(allowed: str) -> str:
    """Which type of name a text in ``subjectAltNames`` means."""
    if _ip(allowed) is not None:
        return IP
    if ":" in allowed:
        return URI
    return EMAIL if "@" in allowed else DNS


def allows(allowed: Iterable[str], names: Iterable[tuple[str, str]]) -> bool:
    """Whether one of a certificate's names, (type, text) each, is allowed."""
    wanted = [(type_of(name), name) for name in allowed]
    found = list(names)
    if any(kind == URI for kind, _ in wanted) and sum(kind == URI for kind, _ in found) > 1:
        return False
    return any(
        kind == asked and _matches(kind, name, text)  # of one type
        for kind, text in found
        for asked, name in wanted
    )


def _matches(kind: str, wanted: str, text: str) -> bool:
    if kind == DNS:
        return dns_name_matches(wanted, text)
    if kind == IP:
        return _ip(wanted) == _ip(text.strip())
    return wanted == text


def dns_name_matches(name: str, pattern: str) -> bool:
    """Whether a host's name is that of a certificate, which may have a ``*`` in its left-most label: for all or a part of
    one label, never of an internationalized one (``xn--``)."""
    name, pattern = name.lower(), pattern.lower()
    if name == pattern:
        return True
    label, _, rest = name.partition(".")
    glob, dot, parent = pattern.partition(".")
    if not dot or not rest or rest != parent or "*" in parent or glob.startswith("xn--") or glob.count("*") != 1:
        return False
    before, _, after = glob.partition("*")
    return len(label) >= len(before) + len(after) and label.startswith(before) and label.endswith(after)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
