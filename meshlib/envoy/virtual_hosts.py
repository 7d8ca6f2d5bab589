"""The virtual hosts of all ports of a snapshot, as one RouteConfiguration of Envoy's.

An outbound port takes the requests to all ports of the mesh, told apart by the port in Host. So a virtual host answers to its
names with its port, at port 80 without it too, and where a service has just one port that name alone is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.envoy.routes import routes_of
from meshlib.envoy.values import Json, typed

if TYPE_CHECKING:
    from meshlib.compiler.routes import PortTable, VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.envoy.dialled import DialledNames
    from meshlib.policy.sidecar_headers import ProxyHeaders

HTTP_PORT = 80
BODY_LIMIT = 1 << 20
"""Bytes of a direct response, as istiod's limit for VirtualServices."""
FORWARD_PROXY = "envoy.filters.http.dynamic_forward_proxy"
DYNAMIC_HOST = "envoy.filters.http.set_filter_state"
NO_PORT = r"[^:]*|\[.*\]"
"""Host without a port."""


def route_configuration(snapshot: Snapshot, name: str, own: Sequence[tuple[str, int]], dialled: DialledNames) -> Json:
    """All of them. ``own``: the proxy's outbound addresses and ports, to which no request is forwarded."""
    settings = snapshot.inbound.default.mesh.proxy_headers
    hosts = list(named_hosts(_domains(snapshot), snapshot, dialled))
    for each in hosts:
        each["include_request_attempt_count"] = settings.attempt_count
    taken = {domain for each in hosts for domain in each["domains"]}
    circle = [domain for domain in _own(own) if domain not in taken]
    if circle:
        hosts.append({"name": "itself", "domains": circle, "routes": [_LOOP]})
    hosts.append(_outside(snapshot, settings))
    return {
        "name": name,
        "virtual_hosts": hosts,
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": BODY_LIMIT,
    }


def named_hosts(
    found: Iterable[tuple[VirtualHost, list[str]]], snapshot: Snapshot, dialled: DialledNames, port: int = 0
) -> Iterator[Json]:
    """Virtual hosts with their domains. ``port``: the one that is dialled where a name is, whatever Host says; 0: that of
    Host."""
    settings = snapshot.inbound.default.mesh.proxy_headers
    for number, host, domains in _named(found):
        title = f"{host.host}:{host.port}" + (f"#{number}" if number else "")
        for known in dialled.names_of(host, list(dict.fromkeys(map(_name_of, domains)))):
            mine = [domain for domain in domains if _name_of(domain) == known]
            domains = [domain for domain in domains if domain not in mine]
            routes = (
                route for rule in host.rules for route in dialled.routes(routes_of(rule, settings), known, host.port)
            )
            yield {"name": f"{title} ({known})", "domains": mine, "routes": list(_dialled(routes, snapshot, port))}
        if domains:
            routes = (route for rule in host.rules for route in routes_of(rule, settings))
            yield {"name": title, "domains": domains, "routes": list(_dialled(routes, snapshot, port))}


_LOOP: Json = {"name": "loop", "match": {"prefix": "/"}, "direct_response": {"status": 503}}


def _own(own: Sequence[tuple[str, int]]) -> Iterator[str]:
    """The ways to write the proxy's own outbound ports."""
    for host, port in dict.fromkeys(own):
        named = {f"[{host}]" if ":" in host else host, "localhost", "127.0.0.1", "[::1]"}
        yield from (f"{each}:{port}" for each in sorted(named))


def _name_of(domain: str) -> str:
    """A domain without its port and last dot."""
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0].removesuffix(".")


def _named(found: Iterable[tuple[VirtualHost, list[str]]]) -> Iterator[tuple[int, VirtualHost, list[str]]]:
    """With a number where several have one name."""
    seen: dict[tuple[str, int], int] = {}
    for host, domains in found:
        key = (host.host, host.port)
        seen[key] = seen.get(key, -1) + 1
        yield seen[key], host, domains


def _domains(snapshot: Snapshot) -> Iterator[tuple[VirtualHost, list[str]]]:
    """Each virtual host and the values of Host that it is for, of which no two have one in common."""
    taken: dict[str, VirtualHost] = {}
    for port, table in snapshot.ports.items():
        for pattern, host in _patterns(table):
            for spelled in _spellings(pattern):
                taken.setdefault(f"{spelled}:{port}", host)
                if port == HTTP_PORT:
                    taken.setdefault(spelled, host)
    for pattern, host in [*_sole(snapshot.ports.values()), *_any_port(snapshot.ports.values())]:
        for spelled in _spellings(pattern):
            taken.setdefault(spelled, host)
    for port, table in snapshot.ports.items():
        if table.rest is not None:
            taken.setdefault(f"*:{port}", table.rest)
    found: dict[int, tuple[VirtualHost, list[str]]] = {}
    for domain, host in taken.items():
        if not snapshot.is_unknown(host):
            found.setdefault(id(host), (host, []))[1].append(domain)
    yield from found.values()


def port_domains(snapshot: Snapshot, port: int) -> Iterator[tuple[VirtualHost, list[str]]]:
    """Each virtual host of one port and the names that it is for."""
    table = snapshot.ports[port]
    found: dict[int, tuple[VirtualHost, list[str]]] = {}
    taken: set[str] = set()
    for pattern, host in [*_patterns(table), *_any_port(snapshot.ports.values())]:
        mine = [name for name in _spellings(pattern) if not name.endswith(":*") and name not in taken]
        if mine and not snapshot.is_unknown(host):
            found.setdefault(id(host), (host, []))[1].extend(mine)
        taken.update(mine)
    yield from found.values()


def _patterns(table: PortTable) -> Iterator[tuple[str, VirtualHost]]:
    yield from table.names.items()
    for suffix, host in table.wildcards.items():
        yield f"*{suffix}", host


def _spellings(name: str) -> Iterator[str]:
    """A name with and without the dot that ends it; an IPv6 address in brackets."""
    if ":" in name and not name.endswith(":*"):
        yield f"[{name}]"
        return
    yield name
    if name not in ("*", "") and not name[-1:].isdigit() and not name.endswith((".", ":*")):
        yield f"{name}."


def _sole(tables: Iterable[PortTable]) -> Iterator[tuple[str, VirtualHost]]:
    """Names of services that are on just one port: the port may be left out."""
    found: dict[str, list[VirtualHost]] = {}
    for table in tables:
        for pattern, host in _patterns(table):
            if host.registered:
                found.setdefault(pattern, []).append(host)
    for pattern, hosts in found.items():
        if len(hosts) == 1:
            yield pattern, hosts[0]


def _any_port(tables: Iterable[PortTable]) -> Iterator[tuple[str, VirtualHost]]:
    """Hosts of which nobody has said the ports: those of the lowest port take the others."""
    found: dict[str, VirtualHost] = {}
    for table in tables:
        for name, host in table.names.items():
            if host.any_port and (name not in found or host.port < found[name].port):
                found[name] = host
    for name, host in found.items():
        yield name, host
        yield f"{name}:*", host


def _dialled(routes: Iterable[Json], snapshot: Snapshot, port: int = 0) -> Iterator[Json]:
    """With what says which address is dialled, where that is not the one that Host names. ``port``: as of
    ``named_hosts``."""
    for route in routes:
        cluster = snapshot.clusters.get(route.get("route", {}).get("cluster", ""))
        if cluster is not None and cluster.resolution == "passthrough":
            state = dialled_state(cluster.dial_host, cluster.dial_port or port)
            if state is not None:
                route.setdefault("typed_per_filter_config", {})[DYNAMIC_HOST] = state
        yield route


def dialled_state(host: str, port: int) -> Json | None:
    """The filter's settings for a route that dials another host or port; None: neither."""
    values = [
        (f"envoy.upstream.dynamic_{name}", str(value)) for name, value in (("host", host), ("port", port)) if value
    ]
    if not values:
        return None
    return typed(
        "filters.http.set_filter_state.v3.Config",
        on_request_headers=[
            {"object_key": key, "format_string": {"text_format_source": {"inline_string": value}}}
            for key, value in values
        ],
    )


def _outside(snapshot: Snapshot, settings: ProxyHeaders) -> Json:
    """What every other Host gets: the address that it names, or (REGISTRY_ONLY) 502."""
    host = snapshot.passthrough if snapshot.allow_any else snapshot.blocked
    routes: list[Json] = []
    table = snapshot.ports.get(HTTP_PORT)
    if table is not None and table.rest is not None and not snapshot.is_unknown(table.rest):
        no_port = {"name": ":authority", "string_match": {"safe_regex": {"regex": NO_PORT}}}
        for rule in table.rest.rules:
            routes += [
                {**route, "match": {**route["match"], "headers": [*route["match"].get("headers", []), no_port]}}
                for route in _dialled(routes_of(rule, settings), snapshot)
            ]
    found = [route for rule in host.rules for route in _dialled(routes_of(rule, settings), snapshot)]
    if not snapshot.allow_any:
        found = [{"name": "block_all", "match": {"prefix": "/"}, "direct_response": {"status": 502}}]
    return {
        "name": "allow_any" if snapshot.allow_any else "block_all",
        "domains": ["*"],
        "routes": [*routes, *found],
        "include_request_attempt_count": settings.attempt_count,
    }
