"""What the registry says of names that are dialled as they are: headless services and their pods, and ExternalNames.

In a cluster DNS tells a caller the address of a pod, and a sidecar dials just that (Envoy's original destination). Here the
registry is asked first, and DNS for names that it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshlib.registry.aliases import resolve_alias
from meshlib.registry.names import DOMAIN, dial_names
from meshlib.registry.service import Service


def original_destinations(
    services: Iterable[Service], client_namespace: str, domain: str = DOMAIN
) -> Mapping[str, tuple[str, ...]]:
    """Addresses by the names that a client of a namespace may call: ``db`` (and its longer forms) is every ready pod of the
    headless service, ``db-0.db`` that one pod, an ExternalName the name that it stands for."""
    found: dict[str, tuple[str, ...]] = {}
    aliases: dict[str, str] = {}
    for service in services:
        if service.alias and service.visible_from(client_namespace):
            aliases.update(dict.fromkeys(dial_names(service.host, client_namespace, domain), service.alias))
        if not service.headless or not service.visible_from(client_namespace):
            continue
        ready = [e for endpoints in service.endpoints.values() for e in endpoints if e.healthy]
        by_hostname: dict[str, list[str]] = {}
        for endpoint in ready:
            if endpoint.hostname:
                by_hostname.setdefault(endpoint.hostname, []).append(endpoint.address)
        everyone = tuple(dict.fromkeys(endpoint.address for endpoint in ready))
        if not everyone:
            continue
        for name in dial_names(service.host, client_namespace, domain):
            found.setdefault(name, everyone)
            for hostname, addresses in by_hostname.items():
                found.setdefault(f"{hostname}.{name}", tuple(dict.fromkeys(addresses)))
    for name in aliases:
        target = resolve_alias(name, aliases)
        if target:
            found.setdefault(name, found.get(target) or (target,))
    return found
