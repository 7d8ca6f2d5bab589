"""The virtual hosts of a client in the mesh, port by port: what requests to a name and port get.

For plaintext URLs as a sidecar would have it: requests to a port that is HTTP are told apart by name, connections to others are
forwarded (``listeners``, ``forwarding``). For https URLs either the same (``https_rules="istio"``: the sidecar sees TLS and no
requests), or http rules as if the port were HTTP (``"mesh"``: here the request is seen before its TLS).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.compiler.forwarding import Forwarding
from meshlib.compiler.listeners import Listeners
from meshlib.compiler.port_tables import Names, NamesOf, PortHosts, is_ip
from meshlib.compiler.routes import PortTable, VirtualHost
from meshlib.compiler.visible import Visible
from meshlib.pace import take_turns
from meshlib.policy.rule_index import RuleIndex
from meshlib.registry.service import SNIFFED, Service

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import VirtualService

HTTP_PORT, HTTPS_PORT = 80, 443
Compiled = Callable[[str, int, Service | None, Sequence["VirtualService"]], VirtualHost | None]


class MeshHosts:
    """Makes the tables of all ports. ``unknown`` is what names outside the mesh get; ``contested`` collects the names (of
    wildcards what follows the asterisk) that more than one virtual host could have; ``address`` is the client's own, "" where
    that is not known."""

    def __init__(
        self,
        visible: Visible,
        compiled: Compiled,
        forwarding: Forwarding,
        names_of: NamesOf,
        unknown: VirtualHost,
        contested: set[str],
        *,
        whole_mesh: bool,
        address: str = "",
    ) -> None:
        self._visible = visible
        self._compiled = compiled
        self._forwarding = forwarding
        self._names_of = names_of
        self._unknown = unknown
        self._contested = contested
        self._whole_mesh = whole_mesh
        self._address = address
        self._listeners = Listeners(
            (seen.listener, sorted(seen.services, key=lambda found: _age(found[0]))) for seen in visible.seen
        )

    def ports(self) -> set[int]:
        """The ports on which something is known."""
        found = {port for seen in self._visible.seen for port in seen.served}
        if self._whole_mesh and any(claims.services for claims in self._visible.claims()):
            found |= {HTTP_PORT, HTTPS_PORT}
        return found

    def plaintext(self, port: int) -> PortTable:
        """What plaintext requests to a port get."""
        exact: Names = {}
        wildcards: Names = {}
        rest = None
        shared = self._listeners.shared(port)
        if shared is not None and not shared.http:
            rest = self._forwarding.to(shared.forwarded, port, "", shared=True)
        elif shared is not None or (port == HTTP_PORT and self._whole_mesh):
            outside = None if port != HTTP_PORT else _every if shared is not None else self._unregistered
            exact, wildcards = self._requests(port, every_protocol=False, outside=outside)
        for service, listener in self._listeners.addressed(port):
            take_turns()
            if listener.http:
                vhost = self._sniffed(next(s for s, protocol in listener.forwarded if protocol == SNIFFED), port)
            else:
                vhost = self._forwarding.to(listener.forwarded, port, "", shared=False) or self._unknown
            for names in (*self._names_of(service), self._pods(service, port, exact)):
                self._put(names, vhost, exact, wildcards)
        return PortTable(exact, wildcards, rest)

    def tls(self, port: int) -> PortTable:
        """What becomes of TLS to a port (``https_rules="istio"``)."""
        exact: Names = {}
        wildcards: Names = {}
        rest = None
        shared = self._listeners.shared(port)
        if shared is not None:
            for name in self._forwarding.server_names(shared.forwarded, port, shared=True):
                vhost = self._forwarding.to(shared.forwarded, port, name, shared=True)
                self._put((name,), vhost or self._unknown, exact, wildcards)
            rest = self._forwarding.to(shared.forwarded, port, "", shared=True)
        for service, listener in self._listeners.addressed(port):
            take_turns()
            for names in (*self._names_of(service), self._pods(service, port, exact)):
                for name in names:
                    vhost = self._forwarding.to(listener.forwarded, port, name, shared=False)
                    self._put((name,), vhost or self._unknown, exact, wildcards)
        return PortTable(exact, wildcards, rest)

    def as_http(self, port: int, plaintext: PortTable) -> PortTable:
        """What https requests to a port get when http rules act on them too. ``plaintext`` is the port's other table: the
        same one serves where nothing there is other than HTTP."""
        seen = self._visible.on_port(port)
        served = seen.served.get(port, {}) if seen is not None else {}
        outside = self._unregistered if port == HTTPS_PORT and self._whole_mesh else None
        if outside is None and plaintext.rest is None and all(p.takes_http for _, p in served.values()):
            return plaintext
        exact, wildcards = self._requests(port, every_protocol=True, outside=outside)
        return PortTable(exact, wildcards)

    def _sniffed(self, owner: Service, port: int) -> VirtualHost:
        """What plaintext requests get at the address of a service whose port declares no protocol: its own routes, whatever
        their Host says. Where a Sidecar's listener for the port does not show the service there are none (404)."""
        seen = self._visible.on_port(port)
        found = None
        if seen is not None and owner.host in seen.served.get(port, {}):
            found = self._compiled(owner.host, port, owner, seen.claims.of(owner.host))
        if found is None:
            note = f"the Sidecar's listener for port {port} does not show {owner.host}: it has no virtual host there (Istio)"
            return VirtualHost(owner.host, port, "", (), RuleIndex(()), note=note, any_host=True)
        return replace(found, any_host=True)

    def _requests(
        self, port: int, *, every_protocol: bool, outside: Callable[[str], bool] | None
    ) -> tuple[Names, Names]:
        seen = self._visible.on_port(port)
        if seen is None:
            return {}, {}
        hosts = PortHosts(port, seen.served.get(port, {}), seen.claims, self._compiled, self._names_of, self._contested)
        return hosts.names(every_protocol=every_protocol, outside=outside)

    def _pods(self, service: Service, port: int, taken: Names) -> list[str]:
        """The addresses by which a connection to a port of a headless service is told: those of its pods, for each of which
        a sidecar of istiod's has a listener. Whom an older service has keeps it; none is this client itself."""
        if not service.headless:
            return []
        pods = (pod.address for pod in service.endpoints_on(port) if pod.healthy and pod.address != self._address)
        return [address for address in pods if address not in taken and is_ip(address)]

    def _put(self, names: Iterable[str], vhost: VirtualHost, exact: Names, wildcards: Names) -> None:
        for name in names:
            table, key = (wildcards, name[1:]) if name.startswith("*") else (exact, name)
            if table.get(key, vhost) is not vhost:
                self._contested.add(key)
            table[key] = vhost

    def _unregistered(self, host: str) -> bool:
        """Whether the registry has no such host at all."""
        return self._visible.find(host) is None


def _age(service: Service) -> tuple[str, str, str]:
    """Oldest first; of those made in the same second by name, which is the host of a ServiceEntry's."""
    created, name, *_ = service.age_key
    return created, name if service.kind == "kubernetes" else service.host, service.namespace


def _every(_host: str) -> bool:
    return True
