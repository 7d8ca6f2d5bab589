"""Services of type ExternalName: names for other hosts.

An alias has no endpoints and no cluster. Whoever calls it calls the host that it stands for, with the rules and policies of
that host; when that host is an alias, too, the one at the end of the chain. Aliases that lead in a circle stand for nothing, as
in DNS.
"""

from __future__ import annotations

from collections.abc import Mapping


def resolve_alias(host: str, targets: Mapping[str, str]) -> str:
    """The host that an alias stands for in the end; "" when the chain is a circle. ``targets`` by the alias's host."""
    seen = {host}
    while host in targets:
        host = targets[host]
        if host in seen:
            return ""
        seen.add(host)
    return host


def aliases_by_host(targets: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The aliases of each host, by namespace and name."""
    found: dict[str, list[str]] = {}
    for alias in sorted(targets, key=lambda host: (host.split(".")[1:2], host)):
        host = resolve_alias(alias, targets)
        if host:
            found.setdefault(host, []).append(alias)
    return {host: tuple(aliases) for host, aliases in found.items()}
