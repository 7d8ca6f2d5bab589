"""What is to be made of a connection that nobody has declared anything of: by where it was meant to go, and by its first bytes.

As at a sidecar of Istio's. An address and port of a service decide alone where the port is declared TCP: its bytes are not
looked at, whoever speaks first. Where the port declares nothing, or HTTP and others share it, the first bytes tell (Envoy's
HTTP inspector), and TLS is told by the name that it asks for where services share a port (Envoy's TLS inspector). A client that
says nothing is waited for as long as MeshConfig's ``protocolDetectionTimeout`` says: without end, where it says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from meshlib.compiler.routes import NO_TABLE
from meshlib.transport.asgi.peer import address

if TYPE_CHECKING:
    from meshlib.compiler.routes import VirtualHost
    from meshlib.compiler.snapshot import Snapshot

LONGEST_METHOD = 32
"""Bytes."""
LONGEST_LINE = 8192
"""Bytes of a first line without its end that make it one of a request, if all of them may be: its reader refuses it."""
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_BEGINNING = re.compile(
    rb"(?:%b{1,%d}(?: +(?:[^\x00-\x20\x7f]+(?: +([A-Z/.0-9]{0,8}\r?)?)?)?)?)?" % (_TOKEN, LONGEST_METHOD)
)
"""What a request's first line may be so far."""
_REQUEST_LINE = re.compile(rb"%b{1,%d} +[^\x00-\x20\x7f]+ +HTTP/[0-9]\.[0-9]\r?" % (_TOKEN, LONGEST_METHOD))
_VERSION = b"HTTP/"


class Reading(Enum):
    """What is to be made of a connection's bytes."""

    BYTES = "bytes"
    FIRST = "whatever its first bytes are"
    SERVICE = "requests of the one service that has the address, where its first bytes are such; else bytes for it"


def reading_of(snapshot: Snapshot, ip: str, port: int) -> Reading:
    """Of a connection to this address and port."""
    host = snapshot.virtual_host(address(ip, port), "http")
    if host.any_host:
        return Reading.SERVICE
    table = snapshot.ports.get(port, NO_TABLE)
    if host.tcp and host is not table.rest:
        return Reading.BYTES
    if ip in table.names and not host.tcp:  # of HTTP, or of TLS by its names alone
        return Reading.FIRST
    return Reading.FIRST if looks_at_requests(snapshot, port) or looks_at_names(snapshot, port) else Reading.BYTES


def looks_at_requests(snapshot: Snapshot, port: int) -> bool:
    """Whether requests to a port are told apart by their Host, whatever address they were meant for."""
    return _told_apart(snapshot, port)[0]


def looks_at_names(snapshot: Snapshot, port: int) -> bool:
    """The same of connections over TLS, by the name that they ask for."""
    return _told_apart(snapshot, port)[1]


def server_names(snapshot: Snapshot, port: int) -> Iterator[tuple[str, VirtualHost]]:
    """The names that tell connections over TLS to a port apart, whatever address they were meant for, as ``*.example.com``
    where they are wildcards; of services whose own address does that there are none."""
    plain, tls = snapshot.ports.get(port, NO_TABLE), snapshot.tls_ports.get(port, NO_TABLE)
    for mark, named, others in (("", tls.names, plain.names), ("*", tls.wildcards, plain.wildcards)):
        for name, host in named.items():
            other = others.get(name)
            if host.tcp and not (other is not None and (other.tcp or other.any_host)):
                yield f"{mark}{name}", host


def _told_apart(snapshot: Snapshot, port: int) -> tuple[bool, bool]:
    """(by requests, by names): looked for once."""
    found = snapshot.told_apart.get(port)
    if found is None:
        hosts = snapshot.ports.get(port, NO_TABLE).virtual_hosts()
        requests = any(not (host.tcp or host.any_host or snapshot.is_unknown(host)) for host in hosts)
        found = snapshot.told_apart[port] = requests, next(server_names(snapshot, port), None) is not None
    return found


def is_http(first: bytes) -> bool | None:
    """Whether a connection that begins so is one of HTTP, in any version: whether its first line is a request's. None: there
    is too little to tell."""
    line, end, _ = first.partition(b"\n")
    if end:
        return _REQUEST_LINE.fullmatch(line) is not None
    found = _BEGINNING.fullmatch(first)
    if found is None:
        return False
    version: bytes = found[1] or b""
    if version[: len(_VERSION)] != _VERSION[: len(version)]:
        return False
    return True if len(first) > LONGEST_LINE else None


def detection_timeout(snapshot: Snapshot) -> float:
    """Seconds that first bytes are waited for (``protocolDetectionTimeout``); 0: without end."""
    return snapshot.inbound.default.mesh.protocol_detection_timeout
