"""Host names as Istio reads them: short names, full names, wildcards."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

DOMAIN = "cluster.local"


def resolve(host: str, namespace: str, domain: str = DOMAIN) -> str:
    """The full name of a host in a resource of ``namespace``. A name without a dot is a service of that namespace; one
    with a dot is final already, so ``reviews.default`` is *not* reviews.default.svc.cluster.local."""
    host = host.lower().removesuffix(".")
    if "." in host or "*" in host or _is_ip(host):
        return host
    return f"{host}.{namespace}.svc.{domain}"


def dial_names(
    host: str, namespace: str, client_namespace: str, domain: str = DOMAIN, *, headless: bool = False
) -> list[str]:
    """The names by which a client may call a Kubernetes service whose full name is ``host``."""
    suffix = f".svc.{domain}"
    if not host.endswith(suffix):
        return [host]
    short = host.removesuffix(suffix)  # name.namespace
    names = [host, short, f"{short}.svc"]
    if namespace == client_namespace:
        names.append(short.partition(".")[0])
    if headless:
        names.append(f"*.{host}")
    return names


def wildcard_matches(pattern: str, host: str) -> bool:
    """Whether ``*``, ``*.suffix`` or an exact pattern covers ``host`` (which may be a narrower wildcard)."""
    if pattern == host or pattern == "*":
        return True
    if not pattern.startswith("*"):
        return False
    rest = host.removeprefix("*")
    return rest.endswith(pattern[1:]) and (rest != pattern[1:] or host.startswith("*"))


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """The exact pattern, else the longest wildcard that covers ``host``, else None."""
    best: str | None = None
    for pattern in patterns:
        if pattern == host:
            return pattern
        if wildcard_matches(pattern, host) and (best is None or len(pattern) > len(best)):
            best = pattern
    return best


@functools.lru_cache(maxsize=65536)
def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
