"""What a sidecar changes about the headers of a request before anything decides by them: which of them are not believed of
whoever sends them, and what an application behind it is told of the connection.

As Envoy does it where it does not ``use_remote_address``, which Istio's sidecars do not: X-Forwarded-For stays as it came, and
its last address is who the request is from; X-Forwarded-Proto is believed, and set where there is none; no request is internal,
so headers by which Envoy would be told how to route are taken away.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from meshlib.policy.forwarded_client_cert import HEADER as CLIENT_CERT
from meshlib.policy.forwarded_client_cert import CertDetails, ForwardClientCert, forwarded

ISTIO_ENVOY = "istio-envoy"
ISTIOS = CertDetails()

NOT_BELIEVED = frozenset(
    b"x-envoy-" + name
    for name in (
        b"expected-rq-timeout-ms",
        b"force-trace",
        b"hedge-on-per-try-timeout",
        b"internal",
        b"ip-tags",
        b"max-retries",
        b"original-url",
        b"retriable-header-names",
        b"retriable-status-codes",
        b"retry-grpc-on",
        b"retry-on",
        b"upstream-alt-stat-name",
        b"upstream-rq-per-try-timeout-ms",
        b"upstream-rq-timeout-alt-response",
        b"upstream-rq-timeout-ms",
    )
)
"""Headers that only an internal request may have."""

DECORATOR = b"x-envoy-decorator-operation"
METADATA = frozenset((b"x-envoy-peer-metadata", b"x-envoy-peer-metadata-id"))
FOR_THE_PROXY = METADATA | {DECORATOR}
"""Headers by which one sidecar tells another something: no application sees them."""

_TAKEN_AWAY = NOT_BELIEVED | FOR_THE_PROXY
_NOT_OUT = NOT_BELIEVED | {CLIENT_CERT}
_BUT_METADATA = NOT_BELIEVED | {DECORATOR}
_ENVOYS = b"\r\nx-envoy-"
_PROTO = b"\r\nx-forwarded-proto:"
_CERT = b"\r\n%b:" % CLIENT_CERT
_LIKE_CERT = re.compile(rb"\r\nx[-_]forwarded[-_]client[-_]cert:")
"""To an application that reads headers as CGI names them, ``_`` in a name is ``-``: WSGI, PHP, Rack."""
_ANY_CERT = b"cert:"
_CERTS, _CERTS_TOO = b"client-cert:", b"client_cert:"
"""How its name ends, in all of these spellings."""
_HTTP = b" http"
_LINE_END = b"\r\n"
_BLANK = b" \t"


@dataclass(frozen=True, slots=True)
class ProxyHeaders:
    """``proxyHeaders`` of Istio's ProxyConfig, with its defaults for a sidecar. ``server``: the value of the Server header of
    responses of the inbound side, "" leaves the application's. ``debug``: whether responses say how long the upstream took
    (x-envoy-upstream-service-time), and that it was turned away (x-envoy-overloaded). ``request_id``: whether requests that
    have none get an x-request-id; ``attempt_count``: whether calls say which attempt they are (x-envoy-attempt-count);
    ``forwarded_port``: whether a gateway says which port a client has come to (x-forwarded-port); ``forwarded_host``: whether a
    request says which Host it had (x-forwarded-host) where the ``rewrite`` of a VirtualService gives it another."""

    client_cert: ForwardClientCert = ForwardClientCert.APPEND_FORWARD
    details: CertDetails = ISTIOS
    server: str = ISTIO_ENVOY
    debug: bool = True
    request_id: bool = True
    attempt_count: bool = True
    forwarded_port: bool = False
    forwarded_host: bool = False


DEFAULT = ProxyHeaders()


def proto_line(secure: bool) -> bytes:
    """What is said of a connection where X-Forwarded-Proto has not come."""
    return b"x-forwarded-proto: %b\r\n" % (b"https" if secure else b"http")


def inbound_lines(
    lines: bytes,
    lower: bytes,
    proto: bytes,
    mode: ForwardClientCert,
    mine: bytes | None,
    metadata_is_read: bool = False,
) -> tuple[bytes, bytes]:
    """Header lines as policies and the application see them, and the same in lower case behind one line end.

    ``lines``: as they came, each with its line end, without those that were for the client's connection; ``lower``: the same in
    lower case behind one line end. ``proto``: ``proto_line`` of the connection; ``mine``: the element about the certificate
    that it has shown, None where it has shown none. ``metadata_is_read``: a check reads, and takes away, what the caller's
    proxy tells of its workload."""
    away = _BUT_METADATA if metadata_is_read else _TAKEN_AWAY
    proto_came = _says(lower, _PROTO)
    # most have none, which is found out in less time than a pattern takes
    sent_cert = (lower.find(_CERTS) >= 0 or lower.find(_CERTS_TOO) >= 0) and _LIKE_CERT.search(lower) is not None
    taken = lower.find(_ENVOYS) >= 0 and not away.isdisjoint(_envoys(lower))
    if taken or proto_came is False or (sent_cert and mode is not ForwardClientCert.ALWAYS_FORWARD_ONLY):
        gone, like = away, frozenset[bytes]()
        if mode is not ForwardClientCert.ALWAYS_FORWARD_ONLY:
            gone, like = away | {CLIENT_CERT}, frozenset((CLIENT_CERT,))
        if proto_came is False:
            gone |= {_PROTO[2:-1]}
        came: list[bytes] = []
        kept: list[bytes] = []
        for line in lines.split(_LINE_END)[:-1]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name not in gone and name.replace(b"_", b"-") not in like:
                kept += (line, _LINE_END)
            elif name == CLIENT_CERT:
                came.append(value.strip(_BLANK))
        lines = b"".join(kept)
        lower = _LINE_END + lines.lower()
    else:
        came = []
    added = b"" if proto_came else proto
    if mode is not ForwardClientCert.ALWAYS_FORWARD_ONLY:
        cert = forwarded(mode, came, mine)
        if cert is not None:
            added += b"%b: %b\r\n" % (CLIENT_CERT, cert)
    return lines + added, lower + added.lower()


class AtTheSidecar:
    """What a sidecar makes of the headers of the requests that come by one connection (arguments as of ``inbound_lines``): the
    same for all that say by which scheme they came, and nothing that is not believed, as nearly all do."""

    __slots__ = ("_asked", "_away", "added", "lower")

    def __init__(self, proto: bytes, mode: ForwardClientCert, mine: bytes | None, metadata_is_read: bool) -> None:
        self._asked = proto, mode, mine, metadata_is_read
        self._away = _BUT_METADATA if metadata_is_read else _TAKEN_AWAY
        said = proto_line(True)
        self.added = inbound_lines(said, _LINE_END + said, *self._asked)[0][len(said) :]
        """What is added to those that say by which scheme they came and else nothing of what proxies tell each other."""
        self.lower = self.added.lower()

    def of(self, lines: bytes, lower: bytes, envoys: bool = True) -> tuple[bytes, bytes]:
        """As ``inbound_lines``. ``envoys``: one of Envoy's own headers may be among them."""
        at = lower.find(_PROTO)
        if (
            at >= 0
            and lower.startswith(_HTTP, at + len(_PROTO))
            and (lower.find(_ANY_CERT) < 0 or (lower.find(_CERTS) < 0 and lower.find(_CERTS_TOO) < 0))
            and (not envoys or lower.find(_ENVOYS) < 0 or self._away.isdisjoint(_envoys(lower)))
        ):
            return lines + self.added, lower + self.lower
        return inbound_lines(lines, lower, *self._asked)


MOST_CALLERS = 256


@functools.lru_cache(MOST_CALLERS)
def at_the_sidecar(proto: bytes, mode: ForwardClientCert, mine: bytes | None, metadata_is_read: bool) -> AtTheSidecar:
    """One for all connections of a caller: it does not change."""
    return AtTheSidecar(proto, mode, mine, metadata_is_read)


def outbound_lines(lines: bytes, lower: bytes) -> tuple[bytes, bytes]:
    """The same of an application's own request, on its way out. Its proxy is the first to be asked, in plain text, so nobody
    before has verified a certificate, and no request is internal: what the application says of either is taken away."""
    if _CERT not in lower and not (_ENVOYS in lower and not NOT_BELIEVED.isdisjoint(_envoys(lower))):
        return lines, lower
    kept = [line for line in lines.split(_LINE_END)[:-1] if line.partition(b":")[0].lower() not in _NOT_OUT]
    lines = b"".join([line + _LINE_END for line in kept])
    return lines, _LINE_END + lines.lower()


def _says(lower: bytes, name: bytes) -> bool | None:
    """Whether a header has a value; None: it is not there."""
    at = lower.find(name)
    if at < 0:
        return None
    start = at + len(name)
    return bool(lower[start : lower.find(_LINE_END, start)].strip(_BLANK))


def _envoys(lower: bytes) -> set[bytes]:
    """The names that begin with ``x-envoy-``."""
    found = set()
    at = lower.find(_ENVOYS)
    while at >= 0:
        end = lower.find(b":", at)
        found.add(lower[at + 2 : end])
        at = lower.find(_ENVOYS, end)
    return found
