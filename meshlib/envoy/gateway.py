"""The ports of a gateway as Envoy's listeners: what tells their connections apart is a filter chain for each chain of the
compiled gateway (``compiler/gateway_model.py``).

HTTP at the edge is judged as inbound and routed as outbound, by ``rbac.py`` and ``routes.py``. Whose TLS cannot be had (no
certificate, a file that is missing) has a chain that closes its connections, which would else be those of a server for more
hosts (``*``); no other is touched. What of security has no translation is ``Untranslatable``, as at inbound ports.

Certificates are Envoy's secrets, as istiod hands them over: a Secret that changes is a listener that does not, so that its
connections, streams of bytes among them, stay.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.compiler.gateway_model import ALPN, GatewayTls
from meshlib.envoy.headers import FROM_PROXIES
from meshlib.envoy.inbound import checks
from meshlib.envoy.inspectors import TLS_INSPECTOR
from meshlib.envoy.listeners import MANAGER, ROUTER, connection_manager, route_filters
from meshlib.envoy.rbac import NETWORK_RBAC, Untranslatable, network_filters, nobody
from meshlib.envoy.routes import routes_of
from meshlib.envoy.tcp import tcp_filters
from meshlib.envoy.tls import Files, NoTls, san, secret_config
from meshlib.envoy.values import ADS, Json, listen_address, typed
from meshlib.envoy.virtual_hosts import BODY_LIMIT
from meshlib.policy.edge_headers import DETAILS
from meshlib.proxy.gateway_tls import contents_of, made

if TYPE_CHECKING:
    from meshlib.compiler.gateway_model import GatewayChain, GatewayPort, KeyPair
    from meshlib.compiler.routes import PortTable, VirtualHost
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.policy.sidecar_headers import ProxyHeaders

VERSIONS = {"TLSV1_0": "TLSv1_0", "TLSV1_1": "TLSv1_1", "TLSV1_2": "TLSv1_2", "TLSV1_3": "TLSv1_3"}
PROXIED = {
    "name": "envoy.filters.listener.proxy_protocol",
    "typed_config": typed("filters.listener.proxy_protocol.v3.ProxyProtocol"),
}
"""Behind a load balancer that tells of its clients (gatewayTopology.proxyProtocol)."""
GREETING = "15s"
"""How long a client may take until it is known what its connection is for."""
CLAIMS = "@request.auth.claims"


@dataclass(slots=True)
class Served:
    """What becomes of the ports: ``listeners`` by name; ``secrets`` that they name; ``closed``: why nobody is let in at a port;
    ``refused``: why the connections of a server are closed, by its name."""

    listeners: dict[str, Json] = field(default_factory=dict)
    secrets: dict[str, Json] = field(default_factory=dict)
    closed: dict[int, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def secret(self, name: str, **content: Json) -> Json:
        """The SdsSecretConfig of a secret that is kept by this name; by another one where the name is taken for another."""
        found, number = name, 1
        while self.secrets.setdefault(found, made := {"name": found, **content}) != made:
            number += 1
            found = f"{name} ({number})"
        return {"name": found, "sds_config": ADS}


def gateway_listeners(
    snapshot: Snapshot, where: Callable[[GatewayPort], tuple[str, int]], has_identity: bool, files: Files
) -> Served:
    """Those of a snapshot. ``where``: the address and port at which a port of the Gateways is listened on."""
    served = Served()
    for port in snapshot.gateway.values():
        chains = list(_chains(port, snapshot, has_identity, files, served))
        if not chains:
            continue
        host, number = where(port)
        name = f"gateway_{port.number}" + (f"_{port.bind}" if port.bind else "")
        listener: Json = {
            "name": name,
            "traffic_direction": "OUTBOUND",
            "address": listen_address(host, number),
            "filter_chains": chains,
        }
        filters = [PROXIED] if snapshot.inbound.of(port.number).mesh.edge.proxy_protocol else []
        filters += [TLS_INSPECTOR] if port.tls else []
        if filters:
            listener["listener_filters"] = filters
            listener["listener_filters_timeout"] = GREETING
        served.listeners[name] = listener
    return served


def _chains(port: GatewayPort, snapshot: Snapshot, has_identity: bool, files: Files, served: Served) -> Iterator[Json]:
    taken: set[tuple[str, tuple[str, ...]]] = set()
    for chain in port.chains:
        found: Json = {"name": chain.name}
        try:
            if chain.refusal:
                raise NoTls(chain.refusal)
            if chain.tls is not None:
                found["transport_socket"] = _socket(chain.name, chain.tls, has_identity, files, served)
                found["transport_socket_connect_timeout"] = GREETING
        except NoTls as error:
            served.refused[chain.server] = str(error)
            if not port.tls:
                continue
            found["filters"] = _closing(port)
        else:
            try:
                found["filters"] = _filters(port, chain, snapshot)
            except Untranslatable as error:
                served.closed[port.number] = str(error)
                found["filters"] = _closed(port, chain, snapshot)
        if port.tls:
            match = _match(chain, taken)
            if match is None:
                continue
            found["filter_chain_match"] = match
        yield found


def _match(chain: GatewayChain, taken: set[tuple[str, tuple[str, ...]]]) -> Json | None:
    """None where others have all of its server names."""
    found: Json = {"transport_protocol": "tls"}
    if chain.alpn:
        found["application_protocols"] = list(chain.alpn)
    names = list(chain.snis or ("*",))
    if "*" in names:
        names = ["*"]
    mine = [name for name in names if (name, chain.alpn) not in taken]
    taken |= {(name, chain.alpn) for name in mine}
    if not mine:
        return None
    if mine != ["*"]:
        found["server_names"] = mine
    return found


# -- what is done with a connection -----------------------------------------------------------------------------------


def _filters(port: GatewayPort, chain: GatewayChain, snapshot: Snapshot) -> list[Json]:
    if chain.http is not None:
        inbound = snapshot.inbound.of(port.number)
        return [_manager(port, chain, snapshot, checks(inbound, port.number))]
    judged = network_filters(snapshot.connections, port.number, _stat(port)) if chain.judged else []
    return [*judged, *_forward(chain, snapshot, _stat(port))]


def _closed(port: GatewayPort, chain: GatewayChain, snapshot: Snapshot) -> list[Json]:
    """Nobody is let in."""
    if chain.http is not None:
        return [_manager(port, chain, snapshot, [nobody()], routed=False)]
    return _closing(port)


def _closing(port: GatewayPort) -> list[Json]:
    """Whatever it says, the connection is closed."""
    rules = nobody()["typed_config"]["rules"]
    return [
        {
            "name": NETWORK_RBAC,
            "typed_config": typed("filters.network.rbac.v3.RBAC", rules=rules, stat_prefix=_stat(port)),
        },
        *tcp_filters(None, {}, _stat(port)),
    ]


def _stat(port: GatewayPort) -> str:
    return f"outbound_gateway_{port.number}"


def _forward(chain: GatewayChain, snapshot: Snapshot, stat: str) -> list[Json]:
    """Bytes, by the one rule there is."""
    rules = chain.path.rules if chain.path is not None else ()
    return tcp_filters(next(iter(rules), None), snapshot.clusters, stat)


def _manager(
    port: GatewayPort, chain: GatewayChain, snapshot: Snapshot, before: list[Json], *, routed: bool = True
) -> Json:
    settings = snapshot.inbound.of(port.number).mesh
    edge = settings.edge
    headers = settings.proxy_headers
    hosts = _virtual_hosts(chain, headers, edge.trusted > 0) if routed else []
    router = typed("filters.http.router.v3.Router", suppress_envoy_headers=not headers.debug)
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=_stat(port),
        route_config={
            "name": chain.name,
            "virtual_hosts": hosts,
            "validate_clusters": False,
            "ignore_port_in_host_matching": True,
            "request_headers_to_remove": FROM_PROXIES,
            "max_direct_response_body_size_bytes": BODY_LIMIT,
        },
        http_filters=[*before, *route_filters(), {"name": ROUTER, "typed_config": router}],
        **connection_manager(settings),
    )
    manager["use_remote_address"] = True
    manager["xff_num_trusted_hops"] = edge.trusted
    manager["preserve_external_request_id"] = False
    manager["generate_request_id"] = True
    manager["forward_client_cert_details"] = edge.client_cert.value
    manager["set_current_client_cert_details"] = {
        "subject": DETAILS.subject,
        "cert": DETAILS.cert,
        "dns": DETAILS.dns,
        "uri": DETAILS.uri,
    }
    if headers.server:
        manager["server_name"] = headers.server
        manager["server_header_transformation"] = "OVERWRITE"
    return {"name": MANAGER, "typed_config": manager}


def _virtual_hosts(chain: GatewayChain, settings: ProxyHeaders, trusted: bool) -> list[Json]:
    """``trusted``: proxies in front are believed, so that requests in plain text may have been https before them. Raises
    ``Untranslatable`` for rules that ask for claims of tokens."""
    assert chain.http is not None
    secure = dict(_names(chain.http.secure))
    table = chain.http.secure if chain.tls is not None else chain.http.plain
    hosts: dict[int, tuple[VirtualHost, list[str]]] = {}
    for name, host in _names(table):
        hosts.setdefault(id(host), (host, []))[1].append(name)
    found = []
    for number, (host, domains) in enumerate(hosts.values()):
        routes = _routes(host, settings)
        before = secure.get(domains[0])
        if trusted and before is not None and before is not host:
            routes = [_if_https(route) for route in _routes(before, settings)] + routes
        found.append(
            {
                "name": f"{host.host}:{host.port}#{number}",
                "domains": domains,
                "routes": routes,
                "include_request_attempt_count": settings.attempt_count,
            }
        )
    return found


def _if_https(route: Json) -> Json:
    said = {"name": "x-forwarded-proto", "string_match": {"exact": "https"}}
    return {**route, "match": {**route["match"], "headers": [*route["match"].get("headers", ()), said]}}


def _routes(host: VirtualHost, settings: ProxyHeaders) -> list[Json]:
    return _without_claims([route for rule in host.rules for route in routes_of(rule, settings)], host)


def _names(table: PortTable) -> Iterator[tuple[str, VirtualHost]]:
    yield from table.names.items()
    for suffix, host in table.wildcards.items():
        yield f"*{suffix}", host
    if table.rest is not None:
        yield "*", table.rest


def _without_claims(routes: list[Json], host: VirtualHost) -> list[Json]:
    for route in routes:
        for header in route["match"].get("headers", ()):
            if header["name"].startswith(CLAIMS):
                raise Untranslatable(
                    f"{host.resource} routes by {header['name']}, which has no translation to Envoy here"
                )
    return routes


# -- TLS that is ended here -------------------------------------------------------------------------------------------


def _socket(name: str, tls: GatewayTls, has_identity: bool, files: Files, served: Served) -> Json:
    """``name``: of its chain, which its secrets are called after. Raises ``NoTls``."""
    params: Json = {
        "tls_minimum_protocol_version": VERSIONS[tls.minimum],
        "tls_maximum_protocol_version": VERSIONS[tls.maximum],
    }
    if tls.ciphers:
        params["cipher_suites"] = list(tls.ciphers)
    common: Json = {"tls_params": params, "alpn_protocols": list(ALPN)}
    if tls.mode == "ISTIO_MUTUAL":
        if not has_identity:
            raise NoTls("it is ISTIO_MUTUAL, and there is no certificate of the mesh: give --cert, --key and --bundle")
        common |= secret_config(tls.names)
    else:
        if not tls.pairs:
            raise NoTls("it has no certificate")
        pairs = [_pair(pair, files) for pair in tls.pairs]
        roots = _roots(tls, files) if tls.asks_clients else None
        _must_be_usable(tls)
        common["tls_certificate_sds_secret_configs"] = [
            served.secret(f"{name} certificate {number}", tls_certificate=pair) for number, pair in enumerate(pairs)
        ]
        if roots is not None:
            common["combined_validation_context"] = {
                "default_validation_context": _clients(tls),
                "validation_context_sds_secret_config": served.secret(f"{name} roots", validation_context=roots),
            }
    context = typed(
        "transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=tls.needs_clients,
        common_tls_context=common,
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _must_be_usable(tls: GatewayTls) -> None:
    """Envoy would refuse the whole listener for one certificate that is none. Raises ``NoTls``."""
    try:
        made(tls, contents_of(tls), ALPN)
    except (OSError, ValueError) as error:
        secrets = ", ".join(pair.source for pair in tls.pairs if pair.source)
        raise NoTls(f"its tls cannot be used{f' ({secrets})' if secrets else ''}: {error}") from error


def _pair(pair: KeyPair, files: Files) -> Json:
    if pair.certificate_file:
        return {
            "certificate_chain": {"inline_bytes": files.content(pair.certificate_file)},
            "private_key": {"inline_bytes": files.content(pair.key_file or pair.certificate_file)},
        }
    return {"certificate_chain": _bytes(pair.certificate), "private_key": _bytes(pair.key)}


def _roots(tls: GatewayTls, files: Files) -> Json:
    found: Json = {"trusted_ca": {"inline_bytes": files.content(tls.ca_file)} if tls.ca_file else _bytes(tls.ca)}
    if tls.crl_file:
        found["crl"] = {"inline_bytes": files.content(tls.crl_file)}
    elif tls.crl:
        found["crl"] = _bytes(tls.crl)
    if "crl" in found:
        found["only_verify_leaf_cert_crl"] = True
    return found


def _clients(tls: GatewayTls) -> Json:
    """What of clients' certificates the resource itself says."""
    found: Json = {}
    if tls.names:
        found["match_typed_subject_alt_names"] = [san(name) for name in tls.names]
    if tls.hashes:
        found["verify_certificate_hash"] = list(tls.hashes)
    if tls.keys:
        found["verify_certificate_spki"] = list(tls.keys)
    return found


def _bytes(content: bytes) -> Json:
    if not content:
        raise NoTls("its Secret is missing, or has no such key")
    return {"inline_bytes": base64.b64encode(content).decode()}
