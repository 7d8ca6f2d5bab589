"""The request that an ASGI scope is of, and what is wrong with it.

What its readers may understand in two ways is refused here, whatever the policies say: two Hosts, or one that is none, a target
that is not a path, a fragment, Content-Length beside Transfer-Encoding.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import STAND_IN, introduce
from meshlib.policy.client_address import ip_of
from meshlib.policy.path_spellings import decode
from meshlib.policy.refusal import Refusal
from meshlib.transport.asgi.peer import NOBODY, Peer, address, peer_of, rewritten
from meshlib.transport.protocol.request_target import read_target

if TYPE_CHECKING:
    from meshlib.transport.asgi.messages import Receive, Scope

AS_IT_IS = "/-._~!$&'()*+,;=:@"
"""What a path may have beside letters, digits and percent-encoded bytes."""
SEVERAL_HOSTS = Refusal(400, "Bad Request", flag="DPE", detail="several_host_headers")
SPECIAL = frozenset((b"Host", b"content-type", b"transfer-encoding", b"x-forwarded-for", b"x-forwarded-proto"))
"""Headers by which a request is not one of many like it."""
SEQUENCES = (list, tuple)
MOST_REMEMBERED = 4096
LONGEST_REMEMBERED = 512
"""Characters of a path."""
TWO_LENGTHS = Refusal(400, "Bad Request", flag="DPE", detail="content_length_and_transfer_encoding")


class Target(NamedTuple):
    """What method, path and Host of a scope come to."""

    path: str
    authority: str | None
    malformed: Refusal | None
    absolute: bool
    routed: str | None


class AsgiRequest(InboundRequest):
    """``values``: the headers by name, of a repeated one the last; ``malformed``: why it is refused, None when it is not;
    ``absolute``: its target is of the form ``http://host/path``; ``forwarded``: its server has put an address of
    X-Forwarded-For in the place of the peer's."""

    __slots__ = ("absolute", "forwarded", "malformed", "values")

    def __init__(
        self,
        scope: Scope,
        headers: Sequence[tuple[bytes, bytes]],
        values: Mapping[bytes, bytes],
        target: Target,
        peer: Peer,
        special: bool,
        port: int | None,
    ) -> None:
        # as InboundRequest.__init__, whose many arguments would cost a request as much as all its checks
        self.path, authority, self.malformed, self.absolute, self.routed = target
        self.method = scope.get("method", "GET")
        query = scope.get("query_string")
        self.query = query = query.decode("latin-1") if query else ""
        self._raw = headers
        self.values = values
        self._values = self._sent_headers = self._source_ip = None
        self.protocol = "grpc" if special and is_grpc(values.get(b"content-type")) else "http"
        self.version = version = scope.get("http_version", "1.1")
        self.http2 = version[0] != "1"
        self.host_known = authority is not None
        self.authority = authority or ""
        self.forwarded = False
        client, server = scope.get("client"), scope.get("server")
        if client is None:
            self.peer = ""
        elif special and b"x-forwarded-for" in values and _rewritten(client, headers):
            self.forwarded = True
            self.peer = ""
        else:
            self.peer = address(client[0], client[1])
        if server is None:
            self.local_ip, self.port = "", port or 0
        else:
            self.local_ip = _ip(server[0])
            self.port = (server[1] or 0) if port is None else port
        self.sni = ""
        self.peer_id, self.mutual = peer
        self.principal = "" if peer.identity is None else peer.identity.text
        self.secure = secure = _is_tls(scope, values)
        self.scheme = "https" if secure else "http"
        self.claims = None
        self.request_principal = ""
        self.body_source = self.deadline = self.for_application = self.body = None
        self.for_caller = []
        self._for_caller = self.asked = ()
        self.counted = False
        self.target = (f"{self.path}?{query}" if query else self.path).encode("latin-1", "replace")


def request_of(scope: Scope, receive: Receive, port: int | None = None) -> AsgiRequest:
    """The request of a scope of type http or websocket. ``port``: where it came to, None: as the server says."""
    headers = scope["headers"]
    if not isinstance(headers, SEQUENCES):
        headers = scope["headers"] = list(headers)
    values: dict[bytes, bytes] = dict(headers)
    special = len(values) != len(headers) or not SPECIAL.isdisjoint(values)
    target = None
    if not special:
        raw = scope.get("raw_path")
        key = (scope.get("method"), raw, scope.get("path"), scope.get("root_path"), values.get(b"host"))
        target = _known.get(key)
    if target is None:
        target = _target(scope, receive, headers, values)
        if not special and target.malformed is None and target.authority is not None and not scope.get("root_path"):
            _remember(key, target)
    extensions = scope.get("extensions")
    tls = extensions.get("tls") if extensions else None
    request = AsgiRequest(scope, headers, values, target, NOBODY if tls is None else peer_of(tls), special, port)
    if STAND_IN in scope:
        introduce(request, scope[STAND_IN])
    return request


_known: dict[tuple[object, ...], Target] = {}


def _remember(key: tuple[object, ...], target: Target) -> None:
    """Bounded in number and size: strangers choose what is in it."""
    if len(target.path) <= LONGEST_REMEMBERED:
        if len(_known) >= MOST_REMEMBERED:
            _known.clear()
        _known[key] = target


def _target(
    scope: Scope, receive: Receive, headers: Sequence[tuple[bytes, bytes]], values: Mapping[bytes, bytes]
) -> Target:
    sent = _raw_path(scope, receive)
    host, malformed = _host(headers, values)
    found = malformed or read_target(
        scope.get("method", "GET"), sent, host, host_needed=scope.get("http_version") != "1.0"
    )
    if isinstance(found, Refusal):
        return Target(sent, None, found, False, None)
    path = found.path
    malformed = TWO_LENGTHS if b"transfer-encoding" in values and b"content-length" in values else None
    visible = scope.get("path")
    routed = None
    if visible != path and visible is not None and path == sent:
        routed = other_path(path, visible, scope.get("root_path", ""))
    return Target(path, found.authority, malformed, path != sent, routed)


def _is_tls(scope: Scope, values: Mapping[bytes, bytes]) -> bool:
    """Whether the connection is TLS. Of a server that has no ``tls`` extension the scheme says so, but not one that
    X-Forwarded-Proto may have written."""
    extensions = scope.get("extensions")
    if extensions and "tls" in extensions:
        return True
    return scope.get("scheme") in ("https", "wss") and b"x-forwarded-proto" not in values


def is_grpc(content_type: bytes | None) -> bool:
    """Whether Envoy takes a request with this content type for gRPC."""
    return content_type is not None and content_type[:16] == b"application/grpc" and content_type[16:17] in (b"", b"+")


def other_path(path: str, visible: str, root: str) -> str | None:
    """The path that the application is told (a wire string), where that is not what came, decoded: what has rewritten it (a
    middleware around this one) lets it be routed by another than the one that was sent."""
    seen, decoded = visible.encode("utf-8", "surrogatepass").decode("latin-1"), decode(path)
    wire_root = root.encode("utf-8", "surrogatepass").decode("latin-1")
    return None if seen in (decoded, wire_root + decoded) else seen


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
