"""``connectionPool`` of a DestinationRule, and of a Sidecar's inbound side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused

if TYPE_CHECKING:
    from meshlib.resources.connection_pool import ConnectionPool


def connection_pool(pool: ConnectionPool | None, loc: Loc) -> Iterator[Notice]:
    """Something in it; keep-alive with both times; upgrades and the client's own protocol not at once."""
    if pool is None:
        return
    if pool.http is None and pool.tcp is None:
        yield refused("empty-pool", loc, "the connection pool sets nothing", "give http or tcp, or leave it out")
    http = pool.http
    if http is None:
        return
    if http.use_client_protocol and http.h2_upgrade_policy == "UPGRADE":
        yield refused(
            "client-protocol-and-upgrade",
            (*loc, "http", "useClientProtocol"),
            "useClientProtocol excludes h2UpgradePolicy UPGRADE",
            "keep one of them",
        )
    keepalive = http.http2_keep_alive
    if keepalive is not None:
        for name in ("interval", "timeout"):
            if getattr(keepalive, name) is None:
                yield refused(
                    "missing-field", (*loc, "http", "http2KeepAlive"), f"http2KeepAlive needs {name}", f"{name}: 10s"
                )
