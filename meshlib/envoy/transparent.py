"""Outbound ports that the kernel leads connections to, as Envoy's listeners: where each was meant to go is asked of the kernel
(``original_dst``), and decides.

As istiod lays them out: the port itself hands a connection on to the listener of the address and port that it was meant for, to
that of the port alone, or, where there is neither, keeps it. Those others bind nothing. What each makes of its connections is
asked of ``proxy/protocol_detection.py``, address by address, so that both engines read them alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from meshlib.compiler.port_tables import is_ip
from meshlib.compiler.routes import NO_TABLE, PASSTHROUGH, Rule
from meshlib.engine.route import route_connection
from meshlib.envoy.clusters import ORIGINAL_DST
from meshlib.envoy.inspectors import HTTP_INSPECTOR, TLS_INSPECTOR, WAS_MEANT, patience
from meshlib.envoy.listeners import outbound_manager
from meshlib.envoy.routes import MISSING, routes_of
from meshlib.envoy.tcp import tcp_filters
from meshlib.envoy.values import Json, address, duration
from meshlib.envoy.virtual_hosts import BODY_LIMIT, named_hosts, port_domains
from meshlib.proxy.protocol_detection import Reading, looks_at_requests, reading_of, server_names
from meshlib.proxy.slow_clients import ClientLimits
from meshlib.registry.service import Endpoint
from meshlib.transport.asgi.peer import address as authority

if TYPE_CHECKING:
    from meshlib.compiler.routes import Cluster, VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.envoy.dialled import DialledNames

ANYWHERE, ANYWHERE_6 = "0.0.0.0", "::"
LOOPBACKS = ("127.0.0.0/8", "::1/128")
HTTP: Json = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.0", "http/1.1", "h2c"]}
ORIGINAL = "|original"
"""Ends the name of a cluster that is another one for bytes than for requests."""
SILENCE = duration(ClientLimits().idle)
"""How long a client may say nothing, where its first bytes decide."""
NO_PODS: Mapping[str, str] = {}
BLOCKED = [{"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}]


@dataclass(slots=True)
class Led:
    """What Envoy is told beside the explicit ports: by name, ``clusters`` such as are not those of the snapshot."""

    listeners: dict[str, Json]
    routes: dict[str, Json]
    clusters: dict[str, Cluster]


def transparent_listeners(snapshot: Snapshot, places: Sequence[tuple[str, int]], dialled: DialledNames) -> Led:
    """Those that the outbound ports, at ``places``, hand connections on to."""
    clusters = {f"{key}{ORIGINAL}": _where_meant(spec) for key, spec in snapshot.clusters.items() if _is_dialled(spec)}
    made = _Making(snapshot, dialled, {key.removesuffix(ORIGINAL): key for key in clusters})
    led = Led({}, {}, clusters)
    six = any(":" in host for host, _ in places)
    for port in sorted({*snapshot.ports, *snapshot.tls_ports}):
        at = {ip: rule for ip, rule in made.by_address(port) if six or ":" not in ip}
        for ip, rule in at.items():
            name = authority(ip, port).replace(":", "_")
            led.listeners[name] = made.unread(name, ip, port, rule)
        for ip, host in made.undeclared(port):
            if six or ":" not in ip:
                name, routes = authority(ip, port).replace(":", "_"), f"{host.host}:{port}"
                pods = made.of_pod(host, ip, port)
                if pods:
                    routes = f"{routes} at {ip}"
                led.listeners[name] = made.either(name, ip, port, routes)
                led.routes[routes] = made.requests_of(host, routes, pods)
        name = f"{ANYWHERE}_{port}"
        listener, has_requests = made.shared(name, port)
        if listener is None:
            continue
        if six:
            listener["additional_addresses"] = [{"address": address(ANYWHERE_6, port)}]
        led.listeners[name] = listener
        if has_requests:
            led.routes[str(port)] = made.requests(port)
    return led


def leading(listener: Json, host: str, port: int, snapshot: Snapshot) -> Json:
    """An explicit outbound port that also takes what was meant for others, and hands it on."""
    (explicit,) = listener["filter_chains"]
    own = LOOPBACKS if host in (ANYWHERE, ANYWHERE_6) else (f"{host}/{128 if ':' in host else 32}",)
    match = {"destination_port": port, "prefix_ranges": [_network(each) for each in own]}
    original = {key: f"{key}{ORIGINAL}" for key, spec in snapshot.clusters.items() if _is_dialled(spec)}
    return {
        **listener,
        "use_original_dst": True,
        "listener_filters": [WAS_MEANT],
        "filter_chains": [{**explicit, "filter_chain_match": match}],
        "default_filter_chain": {
            "filters": tcp_filters(_unknown(snapshot), snapshot.clusters, listener["name"], original)
        },
    }


def _network(text: str) -> Json:
    prefix, _, length = text.rpartition("/")
    return {"address_prefix": prefix, "prefix_len": int(length)}


def _unknown(snapshot: Snapshot) -> Rule | None:
    """Of connections to what the mesh does not know; None: they are closed."""
    host = snapshot.passthrough if snapshot.allow_any else snapshot.blocked
    return host.single or next(iter(host.rules), None)


def _is_dialled(spec: Cluster) -> bool:
    return spec.resolution == "passthrough"


def _where_meant(spec: Cluster) -> Cluster:
    """For bytes, in which no name is: to the address that was meant, or to the name that the cluster itself has."""
    key = f"{spec.key}{ORIGINAL}"
    if spec.dial_host:
        endpoint = Endpoint(spec.dial_host, spec.dial_port or spec.port)
        return replace(spec, key=key, resolution="logical_dns", balancer="ROUND_ROBIN", endpoints=(endpoint,))
    return replace(spec, key=key, resolution=ORIGINAL_DST)


class _Making:
    def __init__(self, snapshot: Snapshot, dialled: DialledNames, original: dict[str, str]) -> None:
        self._snapshot = snapshot
        self._dialled = dialled
        self._original = original

    def by_address(self, port: int) -> Iterator[tuple[str, Rule | None]]:
        """The addresses whose connections nobody reads, and where they go."""
        snapshot = self._snapshot
        tables = (snapshot.ports.get(port, NO_TABLE), snapshot.tls_ports.get(port, NO_TABLE))
        for ip in dict.fromkeys(name for table in tables for name in table.names if is_ip(name)):
            if reading_of(snapshot, ip, port) is Reading.BYTES:
                yield ip, route_connection(snapshot, authority(ip, port)).rule_object

    def unread(self, name: str, ip: str, port: int, rule: Rule | None) -> Json:
        """The listener of an address and port whose connections are bytes, from the first on."""
        return {
            "name": name,
            "traffic_direction": "OUTBOUND",
            "address": address(ip, port),
            "bind_to_port": False,
            "filter_chains": [{"filters": self._bytes(rule, port, ip)}],
        }

    def of_pod(self, host: VirtualHost, ip: str, port: int) -> dict[str, str]:
        """As ``DialledNames.at_address``, of all that requests to a service without addresses of its own may go to."""
        found: dict[str, str] = {}
        for rule in host.rules:
            found |= self._dialled.at_address(rule, ip, port)
        return found

    def undeclared(self, port: int) -> Iterator[tuple[str, VirtualHost]]:
        """The addresses of services that declare no protocol for the port, and what their requests get."""
        snapshot = self._snapshot
        for ip, host in snapshot.ports.get(port, NO_TABLE).names.items():
            if is_ip(ip) and reading_of(snapshot, ip, port) is Reading.SERVICE:
                yield ip, host

    def either(self, name: str, ip: str, port: int, routes: str) -> Json:
        """The listener of such an address: requests where the first bytes are such, else bytes for the service."""
        snapshot = self._snapshot
        rule = route_connection(snapshot, authority(ip, port)).rule_object
        listener = self.unread(name, ip, port, None)
        manager = outbound_manager(_stat(port), routes, snapshot.inbound.default.mesh)
        listener["listener_filters"] = [HTTP_INSPECTOR]
        listener["filter_chains"] = [{"filter_chain_match": HTTP, "filters": [manager]}]
        listener["default_filter_chain"] = {"filters": self._bytes(rule, port, ip)}
        return listener | self._patience()

    def requests_of(self, host: VirtualHost, name: str, pods: Mapping[str, str] = NO_PODS) -> Json:
        """The routes of such a service, whatever Host says. ``pods``: clusters of its one pod that has the address."""
        hosts = list(named_hosts([(host, ["*"])], self._snapshot, self._dialled, host.port))
        for each in hosts:
            each["routes"] = [self._at_address(route, pods) for route in each["routes"]]
        return self._routes(name, hosts)

    def _at_address(self, route: Json, pods: Mapping[str, str]) -> Json:
        """Where a cluster has no addresses of its own, to the one that was meant."""
        action = route.get("route", {})
        weighted = action.get("weighted_clusters", {}).get("clusters", [])
        for place, key in ((action, "cluster"), *((each, "name") for each in weighted)):
            if key in place:
                place[key] = pods.get(place[key]) or self._original.get(place[key], place[key])
        return route

    def _patience(self) -> Json:
        return patience(self._snapshot) or {"listener_filters_timeout": SILENCE}

    def shared(self, name: str, port: int) -> tuple[Json | None, bool]:
        """The listener of all other connections to a port, None where it does as one to no port of the mesh; and whether
        requests are read there."""
        snapshot = self._snapshot
        rule = route_connection(snapshot, authority(ANYWHERE, port)).rule_object
        if reading_of(snapshot, ANYWHERE, port) is Reading.BYTES:
            nobody = snapshot.ports.get(port, NO_TABLE).rest is None
            return None if nobody else self.unread(name, ANYWHERE, port, rule), False
        chains = list(self._by_server_name(port))
        requests = looks_at_requests(snapshot, port)
        if requests:
            manager = outbound_manager(_stat(port), str(port), snapshot.inbound.default.mesh)
            chains.append({"filter_chain_match": HTTP, "filters": [manager]})
        if not chains:
            return None, False
        listener = self.unread(name, ANYWHERE, port, None)
        listener["listener_filters"] = [TLS_INSPECTOR, *([HTTP_INSPECTOR] if requests else [])]
        listener |= self._patience() if requests else {"listener_filters_timeout": SILENCE}
        listener["filter_chains"] = chains
        listener["default_filter_chain"] = {"filters": self._bytes(rule, port)}
        return listener, requests

    def _by_server_name(self, port: int) -> Iterator[Json]:
        """TLS whose name (SNI) the mesh knows."""
        found: dict[int, tuple[VirtualHost, list[str]]] = {}
        for name, host in server_names(self._snapshot, port):
            if not is_ip(name) and (name[:1] != "*" or name.startswith("*.")):  # Envoy takes whole labels alone
                found.setdefault(id(host), (host, []))[1].append(name)
        for host, mine in found.values():
            rule = host.single or next(iter(host.rules), None)
            match = {"transport_protocol": "tls", "server_names": mine}
            yield {"filter_chain_match": match, "filters": self._bytes(rule, port)}

    def _bytes(self, rule: Rule | None, port: int, ip: str = ANYWHERE) -> list[Json]:
        pods = NO_PODS if ip == ANYWHERE else self._dialled.at_address(rule, ip, port)
        return tcp_filters(rule, self._snapshot.clusters, _stat(port), {**self._original, **pods})

    def requests(self, port: int) -> Json:
        """The routes of a port: by Host, whatever port that says; any other Host to the address that was meant."""
        snapshot = self._snapshot
        hosts = list(named_hosts(port_domains(snapshot, port), snapshot, self._dialled, port))
        hosts.append({"name": "allow_any" if snapshot.allow_any else "block_all", "domains": ["*"], "routes": BLOCKED})
        if snapshot.allow_any:
            hosts[-1]["routes"] = [
                self._meant(route)
                for rule in snapshot.passthrough.rules
                for route in routes_of(rule, snapshot.inbound.default.mesh.proxy_headers)
            ]
        return self._routes(str(port), hosts)

    def _routes(self, name: str, hosts: list[Json]) -> Json:
        attempts = self._snapshot.inbound.default.mesh.proxy_headers.attempt_count
        return {
            "name": name,
            "virtual_hosts": [{**host, "include_request_attempt_count": attempts} for host in hosts],
            "ignore_port_in_host_matching": True,
            "validate_clusters": False,
            "max_direct_response_body_size_bytes": BODY_LIMIT,
        }

    def _meant(self, route: Json) -> Json:
        if route.get("route", {}).get("cluster") == PASSTHROUGH:
            route["route"]["cluster"] = self._original.get(PASSTHROUGH, MISSING)
        return route


def _stat(port: int) -> str:
    return f"outbound_{port}"
