"""The rules of an Ingress: those of Kubernetes' API server, without which no cluster has one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.addresses import is_ip
from meshlib.resources.validation.hosts import domain_problem

if TYPE_CHECKING:
    from meshlib.resources.ingress import Backend, Ingress, IngressPath

MOST_PORT = 65535
_ODD = ("//", "/./", "/../", "%2f", "%2F")
_ODD_ENDS = ("/..", "/.")
_port_name = re.compile("(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?").fullmatch


def refusals(resource: Ingress) -> Iterator[Notice]:
    """Rules or a default backend; hosts, paths and backends of each."""
    spec = resource.spec
    if not spec.rules and spec.default_backend is None:
        yield refused(
            "missing-field", ("spec",), "an Ingress needs rules", "rules: [{host: ..., http: {paths: [...]}}]"
        )
    if spec.default_backend is not None:
        yield from _backend(spec.default_backend, ("spec", "defaultBackend"))
    for index, rule in enumerate(spec.rules or ()):
        loc: Loc = ("spec", "rules", index)
        if rule.host:
            yield from _host(rule.host, (*loc, "host"))
        if rule.http is not None and not rule.http.paths:
            yield refused("missing-field", (*loc, "http", "paths"), "there are no paths", "paths: [{path: /, ...}]")
        for at, path in enumerate(rule.http.paths if rule.http is not None else ()):
            yield from _path(path, (*loc, "http", "paths", at))
    for index, tls in enumerate(spec.tls or ()):
        for at, host in enumerate(tls.hosts or ()):
            yield from _host(host, ("spec", "tls", index, "hosts", at))


def _host(host: str, loc: Loc) -> Iterator[Notice]:
    rest = host.removeprefix("*.")
    if is_ip(host):
        yield refused("bad-host", loc, f"{host!r} is an address", "write a DNS name, or leave the host out for all")
    elif "*" in rest or domain_problem(rest) or host != host.lower():
        yield refused(
            "bad-host",
            loc,
            f"{host!r} is not a host of an Ingress",
            "a DNS name in lower case, without a port; a wildcard is *. before one (*.example.com)",
        )


def _path(path: IngressPath, loc: Loc) -> Iterator[Notice]:
    written = path.path or ""
    if path.path_type in ("Exact", "Prefix"):
        odd = next((odd for odd in _ODD if odd in written), "")
        odd = odd or next((end for end in _ODD_ENDS if written.endswith(end)), "")
        if not written.startswith("/"):
            yield refused(
                "bad-path", (*loc, "path"), f"{written!r} does not begin with /", f"path: /{written.lstrip('/')}"
            )
        elif odd:
            yield refused("bad-path", (*loc, "path"), f"{written!r} has {odd} in it", "write the path normalized")
    elif written and not written.startswith("/") and path.path_type is not None:
        yield refused("bad-path", (*loc, "path"), f"{written!r} does not begin with /", f"path: /{written}")
    yield from _backend(path.backend, (*loc, "backend"))


def _backend(backend: Backend, loc: Loc) -> Iterator[Notice]:
    service = backend.service
    if service is None and backend.resource is None:
        yield refused("missing-field", loc, "the backend has no service", "service: {name: ..., port: {number: 80}}")
    if service is None:
        return
    if backend.resource is not None:
        yield refused("one-of", loc, "the backend has a service and a resource", "leave resource out")
    port = service.port
    if port is None or (port.number is None and not port.name):
        yield refused("missing-field", (*loc, "service"), "the service has no port", "port: {number: 80}")
    elif port.number is not None and port.name:
        yield refused("one-of", (*loc, "service", "port"), "the port has a number and a name", "leave one of them out")
    elif port.number is not None and not 0 < port.number <= MOST_PORT:
        yield refused(
            "bad-port", (*loc, "service", "port", "number"), f"{port.number} is not a port", "a number from 1 to 65535"
        )
    elif port.name and _port_name(port.name) is None:
        yield refused(
            "bad-port",
            (*loc, "service", "port", "name"),
            f"{port.name!r} is not the name of a port",
            "lower-case letters, digits and dashes, at most 15",
        )
