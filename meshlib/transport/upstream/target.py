"""Where a connection goes."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from meshlib.identity.servers import Vouched
from meshlib.policy.circuit_limits import TcpKeepalive
from meshlib.policy.guarded_addresses import is_guarded
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.mutual import MutualTls
from meshlib.transport.upstream.names import is_name
from meshlib.transport.upstream.tls import Context

if TYPE_CHECKING:
    from meshlib.compiler.routes import Source


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """An address with everything that makes connections to it interchangeable. Compared by identity: the owner keeps one
    object per endpoint and policy, so that pools look it up at the cost of ``id``.

    ``host`` is an IP, a DNS name (``is_name``; see ``names.py``) or ``unix:///path``. Times in seconds.

    ``http2``: over plaintext the server is known to speak it; over TLS it is offered (ALPN) and the server decides.
    ``max_concurrent_streams``: per HTTP/2 connection, at most what the server allows (Istio's maxConcurrentStreams).
    ``guarded``: see ``admit``. ``source``: where its connections come from. ``preface``: what
    they begin with, before TLS.
    """

    host: str
    port: int
    tls: Context | MutualTls | None = None
    server_hostname: str = ""
    subject_alt_names: tuple[str, ...] = ()
    connect_timeout: float = 10.0
    idle_timeout: float = 3600.0
    max_requests: int = 0  # per connection (HTTP/2: streams); 0: no limit
    max_duration: float | None = None
    keepalive: TcpKeepalive | None = None
    http2: bool = False
    max_concurrent_streams: int = 2**31 - 1
    limits: ClientLimits | None = None  # of the one client whose connections these are
    guarded: bool = False
    label: str = field(default="")
    source: Source | None = None
    preface: bytes = b""
    is_name: bool = field(init=False)
    retired: bool = field(init=False, default=False)
    wears: bool = field(init=False)  # whether connections to it may be ``worn_out_or_superseded``
    wears_by_rule: bool = field(init=False)  # and whether ``worn_out``
    scheme: bytes = field(init=False)
    """Of requests to it: ``http`` or ``https``. mTLS of the mesh does not depend on the request, as with a sidecar."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_name", is_name(self.host))
        mutual = self.tls if isinstance(self.tls, MutualTls) else None
        by_rule = bool(self.max_requests) or self.max_duration is not None
        object.__setattr__(self, "wears_by_rule", by_rule)
        object.__setattr__(self, "wears", by_rule or mutual is not None)
        object.__setattr__(self, "scheme", b"http" if self.tls is None or mutual is not None else b"https")

    def admit(self, address: str) -> None:
        """Asked before each connect, with the IP. Raises OSError for one that this program must not be sent to."""
        if self.guarded and is_guarded(address):
            raise OSError(f"{address} is a link-local or metadata address, which checks of servers never connect to")

    def retire(self) -> None:
        """Nothing refers to it any more but calls under way: their connections close with them."""
        object.__setattr__(self, "retired", True)
        object.__setattr__(self, "wears_by_rule", True)
        object.__setattr__(self, "wears", True)

    def __str__(self) -> str:
        return self.label or (self.host if self.host.startswith("unix:") else f"{self.host}:{self.port}")


LONGEST_WAIT = 2_000_000.0
"""Seconds (23 days) that one wait in the kernel may last: poll(2) counts milliseconds in an int, and Python raises
OverflowError for more. Callers may ask for more (x-envoy-upstream-rq-timeout-ms), and routes too."""


def smaller(a: float | None, b: float | None) -> float | None:
    """The stricter of two limits, None being none."""
    if a is None:
        return b
    return a if b is None or a < b else b


class Used(Protocol):
    """What both runtimes' connections tell of themselves."""

    @property
    def target(self) -> Target: ...
    @property
    def requests(self) -> int: ...
    @property
    def opened(self) -> float: ...


def worn_out(connection: Used, now: float) -> bool:
    """Whether a connection has carried its share (maxRequestsPerConnection), is too old (maxConnectionDuration), or leads to
    where nobody goes any more. (Of that, one that was made for a last call makes no use before the call has gone out.)"""
    target = connection.target
    if target.retired and connection.requests:
        return True
    if target.max_requests and connection.requests >= target.max_requests:
        return True
    return target.max_duration is not None and now - connection.opened >= target.max_duration


class UsedByOne(Used, Protocol):
    """What HTTP/1.1 connections tell of themselves. ``leaving``: it takes no new call, being over mTLS of the mesh: nobody has
    judged its server, or the pool has let it go (``mutual_connections.let_go``)."""

    @property
    def vouched(self) -> Vouched | None: ...
    @property
    def leaving(self) -> bool: ...


def worn_out_or_superseded(connection: UsedByOne, now: float) -> bool:
    """The same, and whether an mTLS connection is ``leaving`` or its certificates have been replaced, of which its pool may not
    have been told yet. (HTTP/2 connections are told.)"""
    if connection.leaving:
        return True
    vouched = connection.vouched
    if vouched is not None and vouched.credentials.replaced:
        return True
    return connection.target.wears_by_rule and worn_out(connection, now)


def keep_alive(sock: socket.socket, settings: TcpKeepalive) -> None:
    """Probe the connection while it is idle (connectionPool.tcp.tcpKeepalive)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (("TCP_KEEPCNT", settings.probes), ("TCP_KEEPIDLE", settings.time), ("TCP_KEEPINTVL", settings.interval))
    for name, value in options:
        option = getattr(socket, name, None)  # not every system has all three
        if value and option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
