"""The rules of a Sidecar."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused, warned
from meshlib.resources.validation.addresses import UNIX, ip_address, unix_socket
from meshlib.resources.validation.connection_pool import connection_pool
from meshlib.resources.validation.hosts import domain_problem, scoped_host
from meshlib.resources.validation.protocols import (
    is_http,
    is_tls,
    no_target_port,
    port_name,
    port_number,
    protocol_known,
)
from meshlib.resources.validation.selection import label_refusals, selector_warnings
from meshlib.resources.validation.server_tls import server_tls, server_tls_warnings

if TYPE_CHECKING:
    from meshlib.resources.server_tls import ServerTls
    from meshlib.resources.sidecar import Egress, EgressPort, Ingress, OutboundTrafficPolicy, Sidecar

_SPEC: Loc = ("spec",)
_port_number = re.compile(r"\+?0*[0-9]{1,5}").fullmatch
_LOCAL = ("", "127.0.0.1", "0.0.0.0", "::1", "::")


def refusals(resource: Sidecar) -> Iterator[Notice]:
    """Every rule, in the order of the fields."""
    spec = resource.spec
    if spec.workload_selector is not None:
        yield from label_refusals(spec.workload_selector.labels, (*_SPEC, "workloadSelector", "labels"))
    settings = (spec.egress, spec.ingress, spec.outbound_traffic_policy, spec.inbound_connection_pool)
    if all(setting in (None, []) for setting in settings):
        yield refused(
            "empty-sidecar",
            _SPEC,
            "the Sidecar sets nothing",
            "give egress, ingress, outboundTrafficPolicy or inboundConnectionPool",
        )
    yield from _ingress(spec.ingress or (), (*_SPEC, "ingress"))
    yield from connection_pool(spec.inbound_connection_pool, (*_SPEC, "inboundConnectionPool"))
    yield from _egress(spec.egress or [], (*_SPEC, "egress"))
    if spec.outbound_traffic_policy is not None:
        yield from _outbound(spec.outbound_traffic_policy, (*_SPEC, "outboundTrafficPolicy"))


# -- ingress ----------------------------------------------------------------------------------------------------------


def _ingress(listeners: Sequence[Ingress], loc: Loc) -> Iterator[Notice]:
    numbers: set[int] = set()
    for index, listener in enumerate(listeners):
        there = (*loc, index)
        yield from _port(listener.port, (*there, "port"))
        number = listener.port.number or 0
        yield from port_number(number, (*there, "port", "number"))
        if number in numbers:
            yield _port_twice(number, (*there, "port", "number"))
        numbers.add(number)
        if listener.bind:
            yield from ip_address(listener.bind, (*there, "bind"))
        if listener.default_endpoint:
            yield from _endpoint(listener.default_endpoint, (*there, "defaultEndpoint"))
        if listener.tls is not None:
            yield from _listener_tls(listener.tls, listener.port, (*there, "tls"))
        yield from connection_pool(listener.connection_pool, (*there, "connectionPool"))


def _port(port: EgressPort, loc: Loc) -> Iterator[Notice]:
    yield from no_target_port(port.target_port, (*loc, "targetPort"), "Sidecar")
    if port.name:
        yield from port_name(port.name, (*loc, "name"))
    yield from protocol_known(port.protocol, (*loc, "protocol"))


def _port_twice(number: int, loc: Loc) -> Notice:
    return refused("duplicate-port", loc, f"two listeners have the port {number}", "each listener has its own")


def _endpoint(endpoint: str, loc: Loc) -> Iterator[Notice]:
    """Where the application listens: ``127.0.0.1:8080``, ``[::1]:8080``, ``:8080`` or a unix socket."""
    if endpoint.startswith(UNIX):
        yield from unix_socket(endpoint, loc)
        return
    hint = "127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH"
    host, port = _host_and_port(endpoint)
    if port is None:
        yield refused("bad-endpoint", loc, f"{endpoint!r} is not address:port", hint)
    elif host not in _LOCAL:
        yield refused("bad-endpoint", loc, f"{host!r} is not an address of the workload itself", hint)
    elif not _port_number(port) or not 1 <= int(port) <= 65535:
        yield refused("bad-endpoint", loc, f"{port!r} is not a port", hint)


def _host_and_port(text: str) -> tuple[str, str | None]:
    """The host without its brackets, and the port: None where the text is not of this form."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return "", None
    if host.startswith("["):
        inner = host[1:-1]
        return (inner, port) if host.endswith("]") and not set(inner) & set("[]") else ("", None)
    return ("", None) if set(host) & set(":[]") or set(port) & set("[]") else (host, port)


def _listener_tls(tls: ServerTls, port: EgressPort, loc: Loc) -> Iterator[Notice]:
    unsupported = (
        ("subjectAltNames", tls.subject_alt_names),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", tls.credential_name),
        ("credentialNames", tls.credential_names),
        ("tlsCertificates", tls.tls_certificates),
        ("mode", tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH")),
    )
    for name, given in unsupported:
        if given:
            what = f"mode {tls.mode}" if name == "mode" else name
            yield refused(
                "not-supported",
                (*loc, name),
                f"{what} is not supported in the ingress of a Sidecar",
                "serverCertificate and privateKey name files",
            )
    if not is_tls(port.protocol):
        yield refused(
            "tls-of-plain-port",
            loc,
            f"a listener of protocol {port.protocol or 'unknown'} has no TLS",
            "protocol: HTTPS or TLS, or leave tls out",
        )
    yield from server_tls(tls, loc)


# -- egress -----------------------------------------------------------------------------------------------------------


def _egress(listeners: Sequence[Egress], loc: Loc) -> Iterator[Notice]:
    numbers: set[int] = set()
    sockets: set[str] = set()
    for index, listener in enumerate(listeners):
        there = (*loc, index)
        port, bind = listener.port, listener.bind or ""
        if port is None:
            if index < len(listeners) - 1:
                yield refused(
                    "catch-all-not-last",
                    there,
                    "a listener without a port is for all other ports, and stands last",
                    "move it to the end of egress, or give it a port",
                )
        else:
            yield from _port(port, (*there, "port"))
            if port.number:
                yield from _egress_address(listener, port.number, there)
                if port.number in numbers:
                    yield _port_twice(port.number, (*there, "port", "number"))
                numbers.add(port.number)
            else:
                yield from _egress_socket(listener, there)
                if bind in sockets:
                    yield refused(
                        "duplicate-port", (*there, "bind"), f"two listeners are bound to {bind!r}", "each has its own"
                    )
                sockets.add(bind)
        if not listener.hosts:
            yield refused(
                "missing-host", (*there, "hosts"), "the listener names no hosts", 'hosts: ["./*"] for this namespace'
            )
        for position, host in enumerate(listener.hosts):
            yield from scoped_host(host, (*there, "hosts", position), gateway=False)


def _egress_address(listener: Egress, number: int, loc: Loc) -> Iterator[Notice]:
    yield from port_number(number, (*loc, "port", "number"))
    if listener.bind:
        yield from ip_address(listener.bind, (*loc, "bind"))


def _egress_socket(listener: Egress, loc: Loc) -> Iterator[Notice]:
    bind = listener.bind or ""
    if bind.startswith(UNIX):
        yield from unix_socket(bind, (*loc, "bind"))
    else:
        yield refused(
            "port-without-socket",
            (*loc, "port"),
            "port number 0 is for a unix socket",
            "bind: unix:///PATH, or a number",
        )
    if listener.capture_mode == "IPTABLES":
        yield refused(
            "capture-of-socket",
            (*loc, "captureMode"),
            "connections to a unix socket are not captured",
            "captureMode: NONE, or leave it out",
        )


def _outbound(policy: OutboundTrafficPolicy, loc: Loc) -> Iterator[Notice]:
    proxy = policy.egress_proxy
    if proxy is None:
        return
    there = (*loc, "egressProxy")
    if policy.mode != "ALLOW_ANY":
        yield refused("egress-proxy-mode", there, "egressProxy needs mode ALLOW_ANY", "mode: ALLOW_ANY")
    problem = domain_problem(proxy.host)
    if problem:
        yield refused(
            "bad-host",
            (*there, "host"),
            f"{proxy.host!r} is not a host name: {problem}",
            "for example proxy.example.com",
        )
    if proxy.port is None:
        yield refused("missing-field", there, "egressProxy has no port", "port: {number: 443}")


def warnings(resource: Sidecar) -> Iterator[Notice]:
    """A selector of nothing, hosts that are there twice, HTTP settings of ports that see no HTTP."""
    spec = resource.spec
    if spec.workload_selector is not None:
        yield from selector_warnings(spec.workload_selector.labels, (*_SPEC, "workloadSelector"))
    for index, listener in enumerate(spec.ingress or ()):
        loc = (*_SPEC, "ingress", index)
        yield from server_tls_warnings(listener.tls, (*loc, "tls"))
        pool = listener.connection_pool
        if pool is not None and pool.http is not None and not is_http(listener.port.protocol):
            yield warned(
                "http-pool-of-tcp",
                (*loc, "connectionPool", "http"),
                f"the port's protocol is {listener.port.protocol or 'not given'}: only the settings of tcp act",
                "protocol: HTTP, or leave http out",
            )
    for index, outbound in enumerate(spec.egress or ()):
        yield from _hosts_twice(outbound.hosts, resource.namespace, (*_SPEC, "egress", index, "hosts"))


def _hosts_twice(hosts: Sequence[str], namespace: str, loc: Loc) -> Iterator[Notice]:
    seen: dict[str, set[str]] = {}
    for index, text in enumerate(hosts):
        where, slash, host = text.partition("/")
        if not slash or where.startswith("~"):
            continue
        known = seen.setdefault(namespace if where == "." else where, set())
        if known if host == "*" else {host, "*"} & known:
            yield warned("duplicate-host", (*loc, index), f"{text} is among the hosts already", "remove it")
        known.add(host)
    if "*" in seen.get("*", ()) and len(seen) > 1:
        yield warned("duplicate-host", loc, "*/* is every host: the others add nothing", "remove one or the other")
