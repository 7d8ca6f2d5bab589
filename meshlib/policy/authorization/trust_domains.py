"""Trust domain aliases: identities of several trust domains that count as those of one (MeshConfig's ``trustDomain`` and
``trustDomainAliases``)."""

from __future__ import annotations

from collections.abc import Sequence

LOCAL = "cluster.local"
"""Stands for the mesh's own trust domain, whatever that is called."""


def principals_with_aliases(principals: Sequence[str], trust_domains: Sequence[str]) -> tuple[str, ...]:
    """The principals, and the same in each of ``trust_domains``, where they are in one of them (or in ``cluster.local``). Of a
    domain that begins with ``*`` the principal itself stands for the domains that it matches. Those of other shapes than
    ``domain/ns/namespace/sa/account`` stay alone."""
    found: dict[str, None] = {}
    for principal in principals:
        parts = principal.split("/")
        domain = parts[0]
        if len(parts) != 5 or domain == "*" or not (domain == LOCAL or any(_fits(d, domain) for d in trust_domains)):
            found[principal] = None
            continue
        for other in trust_domains:
            as_it_is = domain.startswith("*") and other.endswith(domain[1:])
            found[principal if as_it_is else "/".join((other, *parts[1:]))] = None
    return tuple(found)


def domains_with_aliases(domains: Sequence[str], trust_domains: Sequence[str]) -> tuple[str, ...]:
    """Trust domains; one of ``trust_domains`` stands for all of them."""
    found: dict[str, None] = {}
    for domain in domains:
        found.update(dict.fromkeys(trust_domains if domain in trust_domains else (domain,)))
    return tuple(found)


def _fits(domain: str, pattern: str) -> bool:
    """Istio's: to the letter, or either is a pattern that the other matches, at its beginning or its end."""
    return domain == pattern or any(
        (a.endswith("*") and b.startswith(a[:-1])) or (a.startswith("*") and b.endswith(a[1:]))
        for a, b in ((domain, pattern), (pattern, domain))
    )
