"""The head of an ASGI request that goes straight: what is counted of it, and by what it is let in. Many requests have the
same. The long way there is ``requests_of`` and all checks; ``tests/transport/asgi/test_known_head.py`` holds the two against
each other.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from meshlib.engine.let_in import let_in
from meshlib.engine.stand_in import STAND_IN
from meshlib.engine.wanted_headers import wire_bytes
from meshlib.transport.asgi.messages import size_of
from meshlib.transport.asgi.peer import SNI, address, addresses, plain_address
from meshlib.transport.asgi.request import AsgiRequest

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import TypeAlias

    from meshlib.engine.inbound_state import BoundInbound, Noting
    from meshlib.engine.let_in import LetIn
    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.transport.asgi.messages import Scope
    from meshlib.transport.asgi.request import Told
    from meshlib.transport.runtimes.requests_met import RequestsMet
    from meshlib.transport.runtimes.serving import Server

    Met: TypeAlias = RequestsMet["MetHead"]
    Who: TypeAlias = tuple[SpiffeId | None, str, bool]
    """Identity, principal, and whether a certificate was shown."""

LINE = itemgetter("method", "raw_path", "path", "query_string", "root_path", "server")
"""What of a scope counts beside its headers and its peer. Raises KeyError where the server does not tell."""
NOBODY: Who = (None, "", False)


class KnownHead:
    """``told``: its headers, the same by name, and its target; ``port``: where it came to, None: as its server says; ``who``
    has sent it. ``size``: bytes of target and headers, as the application gets them; ``bodiless``: whether its response has no
    body, whatever the application says; ``noting``: where whole responses without
    flags are noted, by their status."""

    __slots__ = ("_told", "bodiless", "bound", "noting", "now", "port", "server", "size", "tells", "who")

    def __init__(
        self,
        server: Server,
        bound: BoundInbound,
        told: Told,
        port: int | None,
        who: Who,
        size: int,
        noting: dict[int, Noting],
    ) -> None:
        self.server = server
        self.now = server.now
        self.bound = bound
        self.tells = bound.tells
        self._told = told
        self.port = port
        self.who = who
        self.bodiless = told[2].method == "HEAD"
        self.size = size
        self.noting = noting

    def request(self, scope: Scope) -> AsgiRequest:
        """A request with this head, as ``requests_of`` and the checks would have made it."""
        request = AsgiRequest(scope, *self._told)
        if self.port is not None:
            request.port = self.port
        query = scope.get("query_string")
        if query:
            request.query = query.decode("latin-1")
        request.peer_id, request.principal, request.mutual = self.who
        extensions = scope.get("extensions")
        tls = extensions.get("tls") if extensions else None
        if tls and SNI in tls:
            request.sni = tls[SNI]
        return request

    def facts(self, scope: Scope) -> tuple[Hashable, bytes, str, bytes]:
        """What ``InboundCall.facts`` tells of a request with this head: what is the same, target, peer and authority."""
        line, name = self._told[2], ""
        if "extensions" in scope and (extensions := scope["extensions"]) and (tls := extensions.get("tls")):
            name = tls.get(SNI, "")
        try:
            version, server, query = scope["http_version"], scope["server"], scope["query_string"]
            peer = addresses[scope["client"]]
        except (KeyError, TypeError):  # servers need not tell, nor as a tuple
            version, server, query = scope.get("http_version"), scope.get("server"), scope.get("query_string")
            client = scope.get("client")
            peer = "" if client is None else address(client[0], client[1])
            plain_address(client)
        try:  # without a call, as they are the bytes of a wire nearly always
            path, authority = line.path.encode("latin-1"), (line.authority or "").encode("latin-1")
        except UnicodeEncodeError:
            path, authority = wire_bytes(line.path), wire_bytes(line.authority or "")
        return (
            (
                line.method,
                version,
                self.who[1],
                name,
                server and server[0],
                line.port if self.port is None else self.port,
            ),
            path + b"?" + query if query else path,
            peer,
            authority,
        )

    def values_of(self, wanted: WantedHeaders) -> Values:
        """What ``InboundCall.values_of`` does."""
        headers, values, _ = self._told
        return wanted.by_name(values, headers)


class MetHead(KnownHead):
    """One that is remembered. ``let_in``: by what the checks let it in (None: there are none); ``changed``: the headers that
    the application gets in place of those that came (None: those)."""

    __slots__ = ("changed", "key_size", "let_in", "met")

    def __init__(self, known: KnownHead, told: Told, key_size: int) -> None:
        super().__init__(known.server, known.bound, told, known.port, known.who, known.size, known.noting)
        self.let_in: LetIn | None = None
        self.changed: list[tuple[bytes, bytes]] | None = None
        self.key_size = key_size
        self.met = False

    def request(self, scope: Scope) -> AsgiRequest:
        """As ``KnownHead``'s."""
        request = super().request(scope)
        if self.let_in is not None:
            self.let_in.repeat(request)
        return request


def known_head(known: KnownHead, request: AsgiRequest, scope: Scope) -> MetHead | None:
    """What is to be remembered of ``request``, which came with ``scope`` and went straight as ``known``; None: nothing, as more
    than its head and its peer counts."""
    if STAND_IN in scope or scope["root_path"] or request.line.authority is None:
        return None
    if (
        b"x-forwarded-for" in request.values
    ):  # whether the server has written it over the peer's address, its address says
        return None
    # copies of what came: what an application does to its scope is nothing to the next request
    headers = list(scope["headers"])
    found = MetHead(known, (headers, dict(headers), request.line), size_of(request, scope))
    if known.bound.checks:
        found.let_in = let_in(found.request(scope), known.bound.checks)
        if found.let_in is None:
            return None
        changes = found.request(scope).for_application
        if changes is not None:
            if changes.target is not None:
                return None
            found.changed = changes.applied(headers)
    return found
