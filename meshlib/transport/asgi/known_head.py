"""The head of an ASGI request that goes straight: what is counted of it, and by what it is let in. Many requests have the
same. The long way there is ``requests_of`` and all checks; ``tests/transport/asgi/test_known_head.py`` holds the two against
each other.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from meshlib.engine.let_in import let_in
from meshlib.engine.stand_in import STAND_IN
from meshlib.transport.asgi.messages import size_of
from meshlib.transport.asgi.peer import SNI
from meshlib.transport.asgi.request import AsgiRequest

if TYPE_CHECKING:
    from typing import TypeAlias

    from meshlib.engine.inbound_state import BoundInbound, Noting
    from meshlib.engine.let_in import LetIn
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
    """``told``: its headers, the same by name, and its target; ``plain``: whether nothing but that, its scope and ``who``
    counts; ``port``: where it came to, None: as its server says; ``who`` has sent it. ``size``: bytes of target and headers,
    as the application gets them; ``bodiless``: whether its response has no body, whatever the application says; ``noting``:
    where whole responses without flags are noted, by their status."""

    __slots__ = ("bodiless", "bound", "noting", "now", "plain", "port", "server", "size", "tells", "told", "who")

    def __init__(
        self,
        server: Server,
        bound: BoundInbound,
        told: Told,
        port: int | None,
        who: Who,
        size: int,
        noting: dict[int, Noting],
        plain: bool = False,
    ) -> None:
        self.plain = plain
        self.server = server
        self.now = server.now
        self.bound = bound
        self.tells = bound.tells
        self.told = told
        self.port = port
        self.who = who
        self.bodiless = told[2].method == "HEAD"
        self.size = size
        self.noting = noting

    def request(self, scope: Scope) -> AsgiRequest:
        """A request with this head, as ``requests_of`` and the checks would have made it."""
        request = AsgiRequest(scope, *self.told)
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
