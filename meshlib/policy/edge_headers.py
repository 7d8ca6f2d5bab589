"""What a gateway changes about the headers of a request before anything decides by them: it is the edge, and believes of
whoever sends a request only what a trusted proxy in front of it has said.

As Envoy does it where it has ``use_remote_address``, as Istio's gateways do: the client's address is appended to
X-Forwarded-For, X-Forwarded-Proto is that of the connection unless there are trusted proxies, x-request-id is a new one,
x-envoy-external-address says who the client is, and what only proxies of the mesh tell each other is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.policy.client_address import ip_said
from meshlib.policy.forwarded_client_cert import HEADER as CLIENT_CERT
from meshlib.policy.forwarded_client_cert import CertDetails, ForwardClientCert, forwarded
from meshlib.policy.sidecar_headers import FOR_THE_PROXY, NOT_BELIEVED

FORWARDED, PROTO, REQUEST_ID = b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id"
PORT = b"x-forwarded-port"
EXTERNAL = b"x-envoy-external-address"
_TAKEN_AWAY = (
    NOT_BELIEVED
    | FOR_THE_PROXY
    | {REQUEST_ID, EXTERNAL}
    | {
        b"x-envoy-" + name
        for name in (
            b"downstream-service-cluster",
            b"downstream-service-node",
            b"original-host",
            b"original-path",
            b"upstream-stream-duration-ms",
        )
    }
)
_OURS = frozenset((CLIENT_CERT, FORWARDED, PROTO))
_ENVOYS = b"\r\nx-envoy-"
_ID = b"\r\n%b:" % REQUEST_ID
_ID_SAID = b"%b: " % REQUEST_ID
_NO_ID = b"%b: \r\n" % REQUEST_ID
_LINE_END = b"\r\n"
_BLANK = b" \t"
DETAILS = CertDetails(subject=True, cert=True, dns=True, uri=True)
"""What istiod has gateways tell of a client's certificate."""


@dataclass(frozen=True, slots=True)
class Edge:
    """``gatewayTopology`` of Istio's ProxyConfig. ``trusted``: proxies in front of the gateway that are believed
    (numTrustedProxies)."""

    trusted: int = 0
    client_cert: ForwardClientCert = ForwardClientCert.SANITIZE_SET
    proxy_protocol: bool = False


NO_PROXIES = Edge()


def edge_lines(
    lines: bytes, edge: Edge, peer: str, secure: bool, request_id: str, mine: bytes | None, port: int | None = None
) -> tuple[bytes, str, str]:
    """(header lines as policies and the upstream see them, the client's IP, ``http`` or ``https`` as the client spoke it).

    ``lines``: as they came, each with its line end, without those that were for the client's connection. ``peer``: the IP that
    the connection is from, "" for none; ``mine``: the element about the certificate that it has shown, None where it has
    shown none. ``port``: that of the gateway that the connection came to, None where nobody is to be told of it."""
    kept: list[bytes] = []
    came: dict[bytes, list[bytes]] = {name: [] for name in _OURS}
    for line in lines.split(_LINE_END)[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        like = name.replace(b"_", b"-")
        if name in _OURS:
            came[name].append(value.strip(_BLANK))
        elif like not in _OURS and name not in _TAKEN_AWAY:  # to applications that read as CGI does, _ is -
            kept += (line, _LINE_END)
    before = b",".join([value for value in came[FORWARDED] if value]).decode("latin-1")
    client = (forwarded_at(before, edge.trusted) if edge.trusted else "") or peer
    proto = b"https" if secure else b"http"
    said = came[PROTO][-1].lower() if edge.trusted and came[PROTO] else b""
    if said in (b"http", b"https"):
        proto = said
    kept.append(b"x-request-id: %b\r\n" % request_id.encode())
    path = ",".join(filter(None, (before, peer))).encode("latin-1")
    if path:
        kept.append(b"x-forwarded-for: %b\r\n" % path)
    kept.append(b"x-forwarded-proto: %b\r\n" % proto)
    if client:
        kept.append(b"x-envoy-external-address: %b\r\n" % client.encode())
    if port is not None:
        kept = _with_port(kept, port, edge.trusted > 0)
    cert = forwarded(edge.client_cert, came[CLIENT_CERT], mine)
    if cert is not None:
        kept.append(b"%b: %b\r\n" % (CLIENT_CERT, cert))
    return b"".join(kept), client, proto.decode()


class AtTheEdge:
    """What a gateway makes of the headers of requests that come by one connection (arguments as of ``edge_lines``): the same
    for all whose clients say nothing about where they come from, and how they are to be routed, as nearly all do."""

    __slots__ = ("_asked", "_client", "_proto", "_said")

    def __init__(self, edge: Edge, peer: str, secure: bool, mine: bytes | None, port: int | None = None) -> None:
        self._asked = edge, peer, secure, mine, port
        said, self._client, self._proto = edge_lines(b"", edge, peer, secure, "", mine, port)
        self._said = said[len(_NO_ID) - len(_LINE_END) :]  # what stands behind the number of a request

    def of(self, lines: bytes, lower: bytes, request_id: str) -> tuple[bytes, bytes, str, str, bool]:
        """What ``edge_lines`` returns of these lines, with the new ones in lower case behind one line end, and at the end
        whether one of them besides ours is by its name (``x-envoy-``) Envoy's. ``lower``: ``lines`` in lower case behind
        one line end."""
        # each name that asks for more begins or ends so, also where _ stands for -
        if lower.find(b"forwarded") >= 0 or lower.find(_ENVOYS) >= 0:
            edge, peer, secure, mine, port = self._asked
            lines, client, proto = edge_lines(lines, edge, peer, secure, request_id, mine, port)
            lower = _LINE_END + lines.lower()
            return lines, lower, client, proto, lower.count(_ENVOYS) > bool(client)
        said = b"".join((_ID_SAID, request_id.encode(), self._said))
        at = lower.find(_ID)
        if at < 0:
            return lines + said, lower + said.lower(), self._client, self._proto, False
        end = lower.find(_LINE_END, at + 2)
        while (again := lower.find(_ID, end)) >= 0:  # few
            lines, lower = lines[:at] + lines[end:], lower[:at] + lower[end:]
            at = again - (end - at)
            end = lower.find(_LINE_END, at + 2)
        lines = b"".join((lines[:at], lines[end:], said))
        lower = b"".join((lower[:at], lower[end:], said.lower()))
        return lines, lower, self._client, self._proto, False


def _with_port(lines: list[bytes], port: int, trusted: bool) -> list[bytes]:
    """Header lines, each with its line end behind it or in it, with X-Forwarded-Port: a trusted proxy's, if it says one, and
    nobody else's."""
    said = [line for line in lines if line.partition(b":")[0].lower().replace(b"_", b"-") == PORT]
    if said and trusted:
        return lines
    text = b"".join(lines)
    if said:
        text = b"".join([line + _LINE_END for line in text.split(_LINE_END)[:-1] if line not in said])
    return [text, b"%b: %d\r\n" % (PORT, port)]


def forwarded_at(forwarded_for: str, trusted: int) -> str:
    """The address that so many trusted proxies vouch for: the one at that place from the end. "" where there are fewer, or it
    is none."""
    parts = forwarded_for.rsplit(",", trusted)
    if len(parts) < trusted:
        return ""
    return ip_said(parts[-trusted].strip(" \t"))
