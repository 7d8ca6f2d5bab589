"""The request that an ASGI scope is of, and what is wrong with it.

What its readers may understand in two ways is refused here, whatever the policies say: two Hosts, or one that is none, a target
that is not a path, a fragment, Content-Length beside Transfer-Encoding.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import STAND_IN, introduce
from meshlib.policy.client_address import ip_of
from meshlib.policy.path_spellings import decode
from meshlib.policy.refusal import Refusal
from meshlib.transport.asgi.peer import address, peer_of, rewritten
from meshlib.transport.protocol.request_target import read_target

if TYPE_CHECKING:
    from meshlib.transport.asgi.messages import Receive, Scope

AS_IT_IS = "/-._~!$&'()*+,;=:@"
"""What a path may have beside letters, digits and percent-encoded bytes."""
SEVERAL_HOSTS = Refusal(400, "Bad Request", flag="DPE", detail="several_host_headers")
TWO_LENGTHS = Refusal(400, "Bad Request", flag="DPE", detail="content_length_and_transfer_encoding")


class AsgiRequest(InboundRequest):
    """``values``: the headers by name, of a repeated one the last; ``malformed``: why it is refused, None when it is not;
    ``absolute``: its target is of the form ``http://host/path``; ``forwarded``: its server has put an address of
    X-Forwarded-For in the place of the peer's."""

    __slots__ = ("absolute", "forwarded", "malformed", "values")

    absolute: bool
    values: Mapping[bytes, bytes]
    malformed: Refusal | None
    forwarded: bool


def request_of(scope: Scope, receive: Receive, port: int | None = None) -> AsgiRequest:
    """The request of a scope of type http or websocket. ``port``: where it came to, None: as the server says."""
    headers = scope["headers"]
    if not isinstance(headers, list | tuple):
        headers = scope["headers"] = list(headers)
    values: dict[bytes, bytes] = dict(headers)
    method: str = scope.get("method", "GET")
    version: str = scope.get("http_version", "1.1")
    sent = path = _raw_path(scope, receive)
    authority, malformed = _host(headers, values)
    target = malformed or read_target(method, sent, authority, host_needed=version != "1.0")
    if isinstance(target, Refusal):
        malformed, authority = target, None
    else:
        path, authority = target.path, target.authority
        if b"transfer-encoding" in values and b"content-length" in values:
            malformed = TWO_LENGTHS
    extensions = scope.get("extensions")
    tls = extensions.get("tls") if extensions else None
    peer = peer_of(tls)
    client, server = scope.get("client"), scope.get("server")
    forwarded = client is not None and b"x-forwarded-for" in values and _rewritten(client, headers)
    request = AsgiRequest(
        method,
        path,
        headers,
        protocol="grpc" if is_grpc(values.get(b"content-type")) else "http",
        authority=authority,
        query=scope.get("query_string", b"").decode("latin-1"),
        peer="" if client is None or forwarded else address(client[0], client[1]),
        local_ip=_ip(server[0]) if server else "",
        port=port if port is not None else (server[1] or 0) if server else 0,
        peer_id=peer.identity,
        secure=tls is not None or _says_tls(scope, values),
        mutual=peer.mutual,
        http2=version[0] != "1",
        version=version,
    )
    request.values = values
    request.absolute = path != sent
    request.malformed = malformed
    request.forwarded = forwarded
    if STAND_IN in scope:
        introduce(request, scope[STAND_IN])
    visible = scope.get("path")
    if visible != path and visible is not None and path == sent and malformed is None:
        request.routed = other_path(path, visible, scope.get("root_path", ""))
    return request


def other_path(path: str, visible: str, root: str) -> str | None:
    """The path that the application is told (a wire string), where that is not what came, decoded: what has rewritten it (a
    middleware around this one) lets it be routed by another than the one that was sent."""
    seen, decoded = visible.encode("utf-8", "surrogatepass").decode("latin-1"), decode(path)
    wire_root = root.encode("utf-8", "surrogatepass").decode("latin-1")
    return None if seen in (decoded, wire_root + decoded) else seen


def is_grpc(content_type: bytes | None) -> bool:
    """Whether Envoy takes a request with this content type for gRPC."""
    return content_type is not None and content_type[:16] == b"application/grpc" and content_type[16:17] in (b"", b"+")


def _host(headers: Sequence[tuple[bytes, bytes]], values: Mapping[bytes, bytes]) -> tuple[str | None, Refusal | None]:
    """The value of Host (None: there is none), or that there are several."""
    host = values.get(b"host")
    if host is None or len(values) != len(headers) or b"Host" in values:  # absent, or perhaps one of several
        hosts = [value for name, value in headers if name.lower() == b"host"]
        if len(hosts) > 1:
            return None, SEVERAL_HOSTS
        if not hosts:
            return None, None
        host = hosts[0]
    return host.decode("latin-1"), None


def _raw_path(scope: Scope, receive: Receive) -> str:
    """The target as it came, without query: of a server that does not tell, what its application is told, encoded again."""
    raw = scope.get("raw_path")
    if not raw:
        return quote(scope.get("path") or "/", AS_IT_IS, errors="surrogatepass")
    path: str = raw.decode("latin-1")
    if "?" in path:  # older test clients
        path = path.partition("?")[0]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and _by_uvicorn(receive):
        path = path[len(root) :] or "/"
    return path


def _by_uvicorn(receive: Receive) -> bool:
    """uvicorn puts its ``--root-path`` before the path that came, where ASGI has raw_path as it came."""
    return type(getattr(receive, "__self__", None)).__module__.startswith("uvicorn.")


@functools.lru_cache(256)
def _ip(host: str) -> str:
    return "" if host.startswith("/") else ip_of(host)


def _rewritten(client: tuple[str, int], headers: Sequence[tuple[bytes, bytes]]) -> bool:
    forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    return rewritten(client[0], client[1], forwarded)


def _says_tls(scope: Scope, values: Mapping[bytes, bytes]) -> bool:
    """Whether the connection is TLS, of a server that has no ``tls`` extension. What X-Forwarded-Proto may have written into
    the scheme tells nothing of the connection."""
    return scope.get("scheme") in ("https", "wss") and b"x-forwarded-proto" not in values
