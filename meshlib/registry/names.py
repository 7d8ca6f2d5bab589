"""Host names as Istio reads them: short names, full names, wildcards."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Generic, TypeVar

V = TypeVar("V")

DOMAIN = "cluster.local"


def resolve(host: str, namespace: str, domain: str = DOMAIN) -> str:
    """The full name of a host in a resource of ``namespace``. A name without a dot is a service of that namespace; one
    with a dot is final already, so ``reviews.default`` is *not* reviews.default.svc.cluster.local."""
    host = host.lower().removesuffix(".")
    if "." in host or "*" in host or is_ip(host):
        return host
    return f"{host}.{namespace}.svc.{domain}"


def dial_names(host: str, client_namespace: str, domain: str = DOMAIN) -> list[str]:
    """The names by which a client may call the service whose full name is ``host``: one of the cluster's domain has short
    forms, whatever resource defines it."""
    suffix = f".svc.{domain}"
    if not host.endswith(suffix):
        return [host]
    short = host.removesuffix(suffix)  # name.namespace
    name, dot, namespace = short.partition(".")
    if not dot:
        return [host]
    names = [host, short, f"{short}.svc"]
    if namespace == client_namespace and name != "*":  # "*" would be every host there is
        names.append(name)
    return names


def wildcard_matches(pattern: str, host: str) -> bool:
    """Whether ``*``, ``*.suffix`` or an exact pattern covers ``host`` (which may be a narrower wildcard)."""
    if pattern == host or pattern == "*":
        return True
    if not pattern.startswith("*"):
        return False
    rest = host.removeprefix("*")
    return rest.endswith(pattern[1:]) and (rest != pattern[1:] or host.startswith("*"))


def is_within(host: str, pattern: str) -> bool:
    """Whether a host, or all that a wildcard stands for, is covered by a pattern (Istio's ``SubsetOf``)."""
    if not pattern.startswith("*"):
        return host == pattern
    if host.startswith("*"):
        return len(host) >= len(pattern) and host.endswith(pattern[1:])
    return host.endswith(pattern[1:])


def overlap(one: str, other: str) -> bool:
    """Whether one of two hosts covers the other (Istio's ``Matches``)."""
    return is_within(one, other) or is_within(other, one)


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """The exact pattern, else the longest wildcard that covers ``host``, else None."""
    best: str | None = None
    for pattern in patterns:
        if pattern == host:
            return pattern
        if wildcard_matches(pattern, host) and (best is None or len(pattern) > len(best)):
            best = pattern
    return best


class SuffixIndex(Generic[V]):
    """Values by suffix, such as what follows the asterisk of a wildcard; found at the cost of the number of lengths."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._lengths: list[int] = []  # longest first

    def setdefault(self, suffix: str, value: V) -> V:
        """The value of this very suffix; ``value`` becomes it if there is none."""
        if suffix not in self._values and len(suffix) not in self._lengths:
            self._lengths = sorted((*self._lengths, len(suffix)), reverse=True)
        return self._values.setdefault(suffix, value)

    def longest(self, text: str) -> V | None:
        """The value of the longest suffix that ``text`` ends with (the whole text counts), None without one."""
        for length in self._lengths:
            found = self._values.get(text[len(text) - length :]) if length <= len(text) else None
            if found is not None:
                return found
        return None


@functools.lru_cache(maxsize=65536)
def is_ip(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
