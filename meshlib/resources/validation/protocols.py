"""Protocols of ports as Istio names them (without case), and names of ports."""

from __future__ import annotations

from collections.abc import Iterator

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.hosts import is_dns_label

HTTP = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
TLS = frozenset({"https", "tls"})
TCP = TLS | {"tcp", "mongo", "redis", "mysql"}
KNOWN = HTTP | TLS | {"tcp", "udp", "mongo", "redis", "mysql"}
_SHOWN = "HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS, UDP, MONGO, REDIS, MYSQL"


def is_http(protocol: str | None) -> bool:
    """Whether requests are seen on such a port."""
    return (protocol or "").lower() in HTTP


def is_tls(protocol: str | None) -> bool:
    """Whether TLS is spoken on such a port."""
    return (protocol or "").lower() in TLS


def protocol_known(protocol: str | None, loc: Loc, *, needed: bool = False) -> Iterator[Notice]:
    """A protocol that Istio knows; "" lets it look at the bytes, unless one is ``needed``."""
    if (protocol or needed) and (protocol or "").lower() not in KNOWN:
        yield refused("bad-protocol", loc, f"{protocol or ''!r} is not a protocol that Istio knows", f"one of {_SHOWN}")


def port_name(name: str, loc: Loc) -> Iterator[Notice]:
    """The name of a port: a DNS label."""
    if not is_dns_label(name):
        yield refused(
            "bad-name", loc, f"{name!r} cannot be the name of a port", "letters, digits and dashes, at most 63"
        )


def port_number(number: int | None, loc: Loc) -> Iterator[Notice]:
    """1..65535."""
    if not 1 <= (number or 0) <= 65535:
        yield refused("bad-port", loc, f"port {number or 0} is outside 1..65535", "a number 1..65535")


def no_target_port(number: int | None, loc: Loc, kind: str) -> Iterator[Notice]:
    """``targetPort`` is for ServiceEntry."""
    if number:
        yield refused("target-port", loc, f"targetPort has no effect on a {kind}", "leave it out")
