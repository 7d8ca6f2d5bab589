"""The request that an ASGI scope is of, and what is wrong with it.

What its readers may understand in two ways is refused here, whatever the policies say: two Hosts, or one that is none, a target
that is not a path, a fragment, Content-Length beside Transfer-Encoding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import quote

from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import STAND_IN, introduce
from meshlib.policy.client_address import ip_of
from meshlib.policy.path_spellings import decode
from meshlib.policy.refusal import Refusal
from meshlib.transport.asgi.peer import SNI, address, addresses, plain_address, rewritten
from meshlib.transport.protocol.request_target import read_target

if TYPE_CHECKING:
    from meshlib.engine.body_source import BodySource
    from meshlib.engine.header_changes import HeaderChanges
    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.policy.ext_authz import Change
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.policy.peer_metadata import PeerMetadata
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.transport.asgi.messages import Receive, Scope
    from meshlib.transport.asgi.peer import PeerOf

AS_IT_IS = "/-._~!$&'()*+,;=:@"
"""What a path may have beside letters, digits and percent-encoded bytes."""
SEVERAL_HOSTS = Refusal(400, "Bad Request", flag="DPE", detail="several_host_headers")
SPECIAL = frozenset(
    (b"Host", b"content-type", b"transfer-encoding", b"x-forwarded-for", b"x-request-deadline", b"grpc-timeout")
)
"""Headers by which a request is not one of many like it."""
SEQUENCES = (list, tuple)
TOLD = itemgetter("method", "raw_path", "path", "root_path", "server")
"""What a target is remembered by, beside Host."""
MOST_REMEMBERED = 4096
LONGEST_REMEMBERED = 512
"""Characters of a path."""
TWO_LENGTHS = Refusal(400, "Bad Request", flag="DPE", detail="content_length_and_transfer_encoding")


class Target(NamedTuple):
    """What method, path and Host of a scope come to, and the port that its server tells (0: none)."""

    method: str
    port: int
    path: str
    authority: str | None
    malformed: Refusal | None
    absolute: bool
    routed: str | None
    size: int
    """Of method and path, in bytes."""


class AsgiRequest(InboundRequest):
    """``values``: the headers by name, of a repeated one the last; ``line``: what method, path and Host come to;
    ``malformed``: why it is refused, None when it is not; ``absolute``: its target is of the form ``http://host/path``;
    ``forwarded``: its server has put an address of X-Forwarded-For in the place of the peer's."""

    special = False
    """Whether it has a header or a target by which a request is not one of many like it."""

    # No slots: what is the same for most requests stands here, and what few are asked for is made when it is. The constructor
    # of InboundRequest would cost a request as much as all its checks (row asgi-cost of the benchmarks).
    forwarded = False
    query = ""
    protocol = "http"
    sni = ""
    mutual = False
    principal = ""
    peer_id: SpiffeId | None = None
    peer_metadata: PeerMetadata | None = None
    claims: Mapping[str, object] | None = None
    request_principal = ""
    body_source: BodySource | None = None
    deadline: float | None = None
    for_application: HeaderChanges | None = None
    body: bytes | None = None
    counted = False
    _values: dict[str, list[str]] | None = None
    _plain_names: bool | None = None
    _sent_headers: RawHeaders | None = None
    _source_ip: str | None = None
    _for_caller: tuple[Change, ...] = ()
    asked: tuple[str, ...] = ()
    _told: list[tuple[bytes, bytes]] | None = None

    def __init__(
        self,
        scope: Scope,
        headers: Sequence[tuple[bytes, bytes]],
        values: Mapping[bytes, bytes],
        target: Target,
    ) -> None:
        self._scope = scope
        self._raw = headers
        self.values = values
        self.line = target
        self.method, self.port, self.path, self._authority, self.malformed, self.absolute, self.routed, _ = target

    @property
    def for_caller(self) -> list[tuple[bytes, bytes]]:
        """Headers that the response gets."""
        if self._told is None:
            self._told = []
        return self._told

    @for_caller.setter
    def for_caller(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._told = headers

    @property
    def changes_response(self) -> bool:
        """Whether the response gets other headers than the application's."""
        return self._told is not None or self._for_caller != ()

    def header(self, name: str) -> str | None:
        """As ``InboundRequest``'s. Of headers that are what they are called, once each, only the one that is asked for is
        decoded."""
        if self._values is None and name.isascii():
            values = self.values
            plain = self._plain_names
            if plain is None:
                # whether each is there once, by its name in lower case, as ASGI has it (and not all servers)
                plain = self._plain_names = len(values) == len(self._raw) and b"".join(values).islower()
            if plain:
                value = values.get(name.encode())
                return None if value is None else value.decode("latin-1")
        return super().header(name)

    def header_values(self, name: str) -> list[str] | None:
        """As ``InboundRequest``'s."""
        if self._values is None and self._plain_names and name.isascii():
            return None
        return super().header_values(name)

    def values_of(self, wanted: WantedHeaders) -> Values:
        """As ``InboundRequest``'s."""
        if self._values is not None:
            return super().values_of(wanted)
        headers: Sequence[tuple[bytes, bytes]] = self._raw  # type: ignore[assignment]  # as ASGI has them
        return wanted.by_name(self.values, headers)

    def facts(self) -> tuple[Hashable, str, str]:
        """As ``InboundRequest``'s: by what the scope says, without reading it and keeping it."""
        scope = self._scope
        if STAND_IN in scope:  # a test says of whom it is
            return super().facts()
        try:
            version, server, peer = scope["http_version"], scope["server"], addresses[scope["client"]]
        except (KeyError, TypeError):  # servers need not tell, nor as a tuple
            version, server, client = scope.get("http_version"), scope.get("server"), scope.get("client")
            plain_address(client)
            peer = "" if client is None else address(client[0], client[1])
        of_all = version, self.protocol, self.principal, self.sni, server and server[0], self.port
        return of_all, "" if self.forwarded else peer, self._authority or ""

    @functools.cached_property
    def authority(self) -> str:  # type: ignore[override]
        return self._authority or ""

    @functools.cached_property
    def host_known(self) -> bool:  # type: ignore[override]
        return self._authority is not None

    @functools.cached_property
    def peer(self) -> str:  # type: ignore[override]
        client = self._scope.get("client")
        return "" if client is None or self.forwarded else address(client[0], client[1])

    @functools.cached_property
    def local_ip(self) -> str:  # type: ignore[override]
        server = self._scope.get("server")
        return "" if server is None else _ip(server[0])

    @functools.cached_property
    def version(self) -> str | None:  # type: ignore[override]
        return version_of(self._scope)

    @functools.cached_property
    def http2(self) -> bool:  # type: ignore[override]
        return version_of(self._scope)[0] != "1"

    @functools.cached_property
    def secure(self) -> bool:  # type: ignore[override]
        """Whether the connection is TLS. Of a server that has no ``tls`` extension the scheme says so, but not one that
        X-Forwarded-Proto may have written."""
        extensions = self._scope.get("extensions")
        if extensions and "tls" in extensions:
            return True
        return self._scope.get("scheme") in ("https", "wss") and b"x-forwarded-proto" not in self.values

    @functools.cached_property
    def scheme(self) -> str:  # type: ignore[override]
        return "https" if self.secure else "http"

    @functools.cached_property
    def target(self) -> bytes:  # type: ignore[override]
        return self.full_path.encode("latin-1", "replace")


def version_of(scope: Scope) -> str:
    """Of HTTP."""
    found: str = scope.get("http_version", "1.1")
    return found


Told: TypeAlias = "tuple[list[tuple[bytes, bytes]], dict[bytes, bytes], Target]"
"""The headers of a request, the same by name, and its target."""


def told_of(scope: Scope) -> Told | None:
    """What the scope of a request comes to that is one of many like it, by nobody in particular; else None: who makes
    requests (``requests_of``) finds out what it is."""
    headers = scope["headers"]
    if type(headers) is not list or STAND_IN in scope:
        return None
    values = dict(headers)
    try:
        target = _known.get((TOLD(scope), values.get(b"host")))
    except (KeyError, TypeError):
        return None
    if target is None or len(values) != len(headers) or not SPECIAL.isdisjoint(values):
        return None
    if "extensions" in scope and scope["extensions"] and "tls" in scope["extensions"]:
        return None
    return headers, values, target


RequestOf = Callable[["Scope", "Receive"], AsgiRequest]
"""The request of a scope of type http or websocket."""


def requests_of(peer_of: PeerOf, port: int | None) -> RequestOf:
    """What a door makes requests with. ``port``: where they come to, None: as the server says."""

    def request_of(scope: Scope, receive: Receive) -> AsgiRequest:
        headers = scope["headers"]
        if type(headers) is not list and not isinstance(headers, SEQUENCES):
            headers = scope["headers"] = list(headers)
        values: dict[bytes, bytes] = dict(headers)
        key: tuple[object, ...] | None
        try:
            key = TOLD(scope), values.get(b"host")
            target = _known.get(key)
        except (KeyError, TypeError):  # servers need not tell all of these, nor as tuples
            key = target = None
        special = len(values) != len(headers) or not SPECIAL.isdisjoint(values)
        if target is None or special:
            target = _target(scope, receive, headers, values)
            if target.malformed is not None or target.absolute:
                special = True
            elif not special and key is not None and target.authority is not None and not scope["root_path"]:
                _remember(key, target)
        request = AsgiRequest(scope, headers, values, target)
        if port is not None:
            request.port = port
        query = scope.get("query_string")
        if query:
            request.query = query.decode("latin-1")
        if "extensions" in scope:
            extensions = scope["extensions"]
            if extensions and "tls" in extensions:
                told = extensions["tls"]
                identity, request.mutual = peer_of(told)
                if identity is not None:
                    request.peer_id, request.principal = identity, identity.text
                if told and SNI in told:
                    request.sni = told[SNI]
        if special:
            request.special = True
            _what_is_special(request, scope, headers, values)
        if STAND_IN in scope:
            introduce(request, scope[STAND_IN])
        return request

    return request_of


def _what_is_special(
    request: AsgiRequest, scope: Scope, headers: Sequence[tuple[bytes, bytes]], values: Mapping[bytes, bytes]
) -> None:
    if is_grpc(values.get(b"content-type")):
        request.protocol = "grpc"
    client = scope.get("client")
    if client is not None and b"x-forwarded-for" in values:
        request.forwarded = _rewritten(client, headers)


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
    method = scope.get("method", "GET")
    server = scope.get("server")
    port = (server[1] or 0) if server is not None else 0
    if isinstance(found, Refusal):
        return Target(method, port, sent, None, found, False, None, len(method) + len(sent))
    path = found.path
    malformed = TWO_LENGTHS if b"transfer-encoding" in values and b"content-length" in values else None
    visible = scope.get("path")
    routed = None
    if visible != path and visible is not None and path == sent:
        routed = other_path(path, visible, scope.get("root_path", ""))
    return Target(method, port, path, found.authority, malformed, path != sent, routed, len(method) + len(path))


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
