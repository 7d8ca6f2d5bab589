"""The rules of a Gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import UNIX, ip_address, unix_socket
from meshlib.resources.validation.hosts import is_dns_label, scoped_host
from meshlib.resources.validation.protocols import is_http, is_tls, no_target_port, port_number, protocol_known
from meshlib.resources.validation.server_tls import passes_through, server_tls, server_tls_warnings

if TYPE_CHECKING:
    from meshlib.resources.gateway import Gateway, Server

_SEMANTICS = "internal.istio.io/gateway-semantics"
"""On what istiod has made of a Gateway of the Gateway API, whose names and hosts are less bound."""
_SERVERS: Loc = ("spec", "servers")


def refusals(resource: Gateway) -> Iterator[Notice]:
    """A name, servers, and each of these."""
    internal = (resource.metadata.annotations or {}).get(_SEMANTICS) == "gateway"
    if resource.name and not is_dns_label(resource.name) and not internal:
        yield refused(
            "bad-name",
            ("metadata", "name"),
            f"{resource.name!r} cannot be the name of a Gateway",
            "letters, digits and dashes, at most 63; no dots",
        )
    servers = resource.spec.servers or []
    if not servers:
        yield refused("missing-field", ("spec",), "a Gateway needs servers", "servers: [{port: ..., hosts: [...]}]")
    names: set[str] = set()
    for index, server in enumerate(servers):
        loc = (*_SERVERS, index)
        yield from _server(server, loc, internal)
        if server.port.name in names:
            yield refused(
                "duplicate-port",
                (*loc, "port", "name"),
                f"two servers have a port named {server.port.name}",
                "rename one",
            )
        names.add(server.port.name)


def _server(server: Server, loc: Loc, internal: bool) -> Iterator[Notice]:
    if not server.hosts:
        yield refused("missing-host", (*loc, "hosts"), "the server has no hosts", 'hosts: ["*"] for all')
    for index, host in enumerate(server.hosts):
        yield from scoped_host(host, (*loc, "hosts", index), gateway=True, nowhere=internal)
    bad_port = [*_port(server, (*loc, "port"))]
    yield from bad_port
    yield from _bind(server, loc)
    yield from server_tls(server.tls, (*loc, "tls"))
    if not bad_port:
        yield from _tls_of_protocol(server, loc)


def _port(server: Server, loc: Loc) -> Iterator[Notice]:
    port = server.port
    yield from protocol_known(port.protocol, (*loc, "protocol"), needed=True)
    if port.number or not (server.bind or "").startswith(UNIX):
        yield from port_number(port.number, (*loc, "number"))
    yield from no_target_port(port.target_port, (*loc, "targetPort"), "Gateway")
    if not port.name:
        yield refused("missing-name", (*loc, "name"), "the port has no name", "name: http")


def _bind(server: Server, loc: Loc) -> Iterator[Notice]:
    bind = server.bind or ""
    if bind.startswith(UNIX):
        yield from unix_socket(bind, (*loc, "bind"))
        if server.port.number:
            yield refused("port-of-socket", (*loc, "port", "number"), "a unix socket has no port number", "number: 0")
    elif bind:
        yield from ip_address(bind, (*loc, "bind"))


def _tls_of_protocol(server: Server, loc: Loc) -> Iterator[Notice]:
    protocol, tls = server.port.protocol, server.tls
    if is_tls(protocol):
        if tls is None:
            yield refused(
                "missing-field",
                loc,
                f"a server of protocol {protocol} needs tls",
                "tls: {mode: SIMPLE, credentialName: ...}, or mode PASSTHROUGH",
            )
    elif tls is not None and is_http(protocol):
        if not passes_through(tls) or tls.ca_certificates or tls.private_key or tls.server_certificate:
            yield refused(
                "tls-of-plain-port",
                (*loc, "tls"),
                f"a server of protocol {protocol} is plain text, and tls has more than httpsRedirect",
                "protocol: HTTPS, or leave tls out",
            )
    elif tls is not None:
        yield refused(
            "tls-of-plain-port",
            (*loc, "tls"),
            f"a server of protocol {protocol} has no TLS",
            "protocol: TLS, or leave tls out",
        )


def warnings(resource: Gateway) -> Iterator[Notice]:
    """TLS that does less than it seems to."""
    for index, server in enumerate(resource.spec.servers or ()):
        loc = (*_SERVERS, index, "tls")
        yield from server_tls_warnings(server.tls, loc)
        if server.tls is not None and server.tls.https_redirect and not is_http(server.port.protocol):
            yield warned(
                "redirect-without-http",
                (*loc, "httpsRedirect"),
                f"httpsRedirect is for servers of protocol HTTP, not {server.port.protocol}",
                "put it on the server of port 80",
            )
