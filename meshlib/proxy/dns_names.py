"""Which addresses a name of the mesh has, as Istio's DNS proxy tells them. Pure: a question in, what is to be told out.

A Service of Kubernetes is known by its full name, by ``name.namespace`` and ``name.namespace.svc``, and in its own namespace by
``name``; a ServiceEntry by its hosts, wildcards among them, as they are written. A name with the first search domain behind it
is what the resolver of an application asks for first: it is told, by a CNAME, that it has found what it looks for, and asks
no further."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from meshlib.compiler.visible_hosts import VisibleHosts
    from meshlib.registry.service import Service

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Found(NamedTuple):
    """What a name has. ``target``: the name that it stands for, "" for itself."""

    ipv4: Sequence[str]
    ipv6: Sequence[str]
    target: str = ""


class Names:
    """The names of a mesh, as a workload sees it. Never changed."""

    __slots__ = ("_client", "_hosts", "_left_out", "_search", "_suffix")

    def __init__(self, hosts: VisibleHosts, search: Sequence[str] = (), left_out: Network | None = None) -> None:
        """``search``: the search domains of resolv.conf, of which the first counts. ``left_out``: the automatic addresses that
        nothing of this machine can be sent to."""
        self._left_out = left_out
        self._hosts = {service.host: service for service in hosts.services()}
        self._client = hosts.namespace
        self._suffix = f".svc.{hosts.domain}"
        first = search[0].lower().strip(".") if search else ""
        self._search = f".{first}" if first else ""

    def find(self, name: str) -> Found | None:
        """What is to be told of a name, which is in lower case and has no dot at its end. None: it is no name of the mesh;
        without addresses of a family: the name is there, and has none."""
        found = self._known(name)
        if found is not None or not self._search or not name.endswith(self._search):
            return found
        asked = name.removesuffix(self._search)
        if asked.endswith(self._search):
            return None
        found = self._known(asked)
        return None if found is None else Found(found.ipv4, found.ipv6, asked)

    def _known(self, name: str) -> Found | None:
        for addresses in self._candidates(name):
            found = self._by_family(addresses)
            if found is not None:
                return found
        return None

    def _by_family(self, addresses: Iterable[str]) -> Found | None:
        """None: there are none (a network is no address, and neither is a name)."""
        four: dict[str, None] = {}
        six: dict[str, None] = {}
        for each in addresses:
            try:
                ip = ipaddress.ip_address(each)
            except ValueError:
                continue
            if self._left_out is None or ip not in self._left_out:
                (four if ip.version == 4 else six)[str(ip)] = None
        return Found(tuple(four), tuple(six)) if four or six else None

    def _candidates(self, name: str) -> Iterator[Sequence[str]]:
        """The addresses of what a name may be, the best first."""
        exact = self._hosts.get(name)
        if exact is not None:
            yield _addresses(exact)
        for full in self._full_names(name):
            service = self._of_kubernetes(full)
            if service is not None:
                yield _addresses(service)
            pod, _, owner = full.partition(".")
            service = self._of_kubernetes(owner)
            if service is not None and service.headless:
                yield _ready(service, pod)
        rest = name
        while rest:
            rest = rest.partition(".")[2]
            service = self._hosts.get(f"*.{rest}") if rest else None
            if service is not None:
                yield _addresses(service)

    def _of_kubernetes(self, host: str) -> Service | None:
        service = self._hosts.get(host)
        return service if service is not None and service.kind == "kubernetes" else None

    def _full_names(self, name: str) -> Iterator[str]:
        """Those of services, or of pods of them, of which this may be a form."""
        if name.endswith(self._suffix):
            yield name
            return
        stem = name.removesuffix(".svc")
        yield stem + self._suffix
        if stem == name:
            yield f"{name}.{self._client}{self._suffix}"


def _addresses(service: Service) -> Sequence[str]:
    """Those of the service itself; of a headless one those of its pods."""
    if service.headless:
        return _ready(service)
    return service.addresses


def _ready(service: Service, hostname: str = "") -> Sequence[str]:
    """Of the pods of a headless service that are ready, or of the one with this name."""
    return [
        endpoint.address
        for endpoints in service.endpoints.values()
        for endpoint in endpoints
        if endpoint.healthy and (not hostname or endpoint.hostname == hostname)
    ]
