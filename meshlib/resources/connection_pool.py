"""Limits of connections: ``connectionPool`` of DestinationRule, ``connectionPool`` and ``inboundConnectionPool`` of Sidecar."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.base import Model
from meshlib.resources.types import Count, Duration, DurationOrOff, UInt32, names


class Http2KeepAlive(Model):
    """``connectionPool.http.http2KeepAlive``."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HttpPool(Model):
    """``connectionPool.http``."""

    h2_upgrade_policy: (
        Annotated[Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"], names("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")] | None
    ) = None
    http1_max_pending_requests: Count | None = None
    http2_keep_alive: Http2KeepAlive | None = None
    http2_max_requests: Count | None = None
    idle_timeout: Duration | None = None
    max_concurrent_streams: Count | None = None
    max_requests_per_connection: Count | None = None
    max_retries: Count | None = None
    use_client_protocol: bool | None = None


class TcpKeepalive(Model):
    """``connectionPool.tcp.tcpKeepalive``."""

    interval: Duration | None = None
    probes: UInt32 | None = None
    time: Duration | None = None


class TcpPool(Model):
    """``connectionPool.tcp``."""

    connect_timeout: Duration | None = None
    idle_timeout: DurationOrOff | None = None
    max_connection_duration: Duration | None = None
    max_connections: Count | None = None
    tcp_keepalive: TcpKeepalive | None = None


class ConnectionPool(Model):
    """``connectionPool``."""

    http: HttpPool | None = None
    tcp: TcpPool | None = None
