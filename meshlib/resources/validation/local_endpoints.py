"""What is refused in a LocalEndpoints whose types are right: the same host twice, an address twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.local_addresses import parse_address
from meshlib.resources.notices import Notice, refused

if TYPE_CHECKING:
    from meshlib.resources.local_endpoints import LocalEndpoints


def refusals(resource: LocalEndpoints) -> Iterator[Notice]:
    """Of ``spec.hosts``."""
    hosts = resource.spec.hosts
    if not hosts:
        hint = "for example hosts: [{host: reviews, addresses: ['localhost:9080']}]"
        yield refused("missing-field", ("spec", "hosts"), "there is no host", hint)
    seen: dict[tuple[str, str, int], str] = {}
    for index, entry in enumerate(hosts):
        key = (full_name(entry.host, resource.namespace), entry.subset or "", entry.port or 0)
        if key in seen:
            what = f"subset {entry.subset} of {entry.host}" if entry.subset else entry.host
            spelled = f" (as {seen[key]})" if seen[key] != entry.host else ""
            message = f"{what} is there already{spelled}"
            yield refused(
                "duplicate-host", ("spec", "hosts", index, "host"), message, "put all its addresses into one list"
            )
        seen.setdefault(key, entry.host)
        known = set()
        for position, text in enumerate(entry.addresses):
            address = parse_address(text)
            if address in known:
                loc = ("spec", "hosts", index, "addresses", position)
                yield refused(
                    "duplicate-address", loc, f"{text} is there twice", "an address is there once; remove one"
                )
            known.add(address)


def full_name(host: str, namespace: str) -> str:
    """The host that a name means in a namespace: one without a dot is a service there."""
    name = host.lower().removesuffix(".")
    return name if "." in name else f"{name}.{namespace}.svc.cluster.local"
