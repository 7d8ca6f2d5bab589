"""What a WSGI request comes to whose environ says what one before has said, and by what it is let in. The long way there is
``request_of`` and all checks; ``tests/transport/wsgi/test_known_environ.py`` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING

from meshlib.engine.let_in import let_in
from meshlib.engine.stand_in import STAND_IN
from meshlib.transport.wsgi.connection import PROXIED, PROXY_FIX
from meshlib.transport.wsgi.request import LONGEST_ENVIRON, MOST_ENVIRONS, WsgiRequest

if TYPE_CHECKING:
    from typing import TypeAlias

    from meshlib.engine.inbound_state import BoundInbound
    from meshlib.engine.let_in import LetIn
    from meshlib.transport.runtimes.requests_met import RequestsMet
    from meshlib.transport.wsgi.contracts import Environ

    Key: TypeAlias = tuple["Facts", tuple[object, ...]] | tuple["Facts", tuple[object, ...], str | None, bool]
    """What reads the facts, and the facts; of TLS also the peer's principal, and whether it has shown a certificate."""
    Met: TypeAlias = RequestsMet["MetEnviron"]

FACTS = frozenset(
    (
        *("REQUEST_METHOD", "RAW_URI", "REQUEST_URI", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING"),
        *("CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE"),
    )
)
"""The keys of an environ that count, beside those of headers. Not who has called from where, which no key may be made of."""
OTHERS = (STAND_IN, PROXY_FIX, PROXIED, "HTTP_X_REQUEST_DEADLINE", "HTTP_GRPC_TIMEOUT")
"""With one of these a request is not one of many like it."""

Facts = Callable[["Environ"], tuple[object, ...]]
_facts: dict[tuple[str, ...], Facts] = {}
known_facts = _facts.get
"""What ``facts_of`` gives, of keys that were met before."""


def facts_of(environ: Environ) -> Facts:
    """What reads the facts of environs with the keys of this one, in their order. It raises KeyError where none may be
    remembered. The same object for the same keys: it is part of what a request is known by."""
    keys = tuple(environ)
    found = _facts.get(keys)
    if found is None:
        found = _none
        # without REMOTE_PORT it is perhaps a unix socket, of which the server makes up the port
        if "REMOTE_PORT" in environ and "REQUEST_METHOD" in environ and not any(key in environ for key in OTHERS):
            found = itemgetter(*(key for key in keys if key[:5] == "HTTP_" or key in FACTS))
        if sum(map(len, keys)) <= LONGEST_ENVIRON:
            if len(_facts) >= MOST_ENVIRONS:
                _facts.clear()
            _facts[keys] = found
    return found


def _none(_environ: Environ) -> tuple[object, ...]:
    raise KeyError("the request is not to be known again")


class KnownEnviron:
    """``like``: a request; ``noting``: where whole responses without flags are noted, by their status; ``length``: of the body,
    as announced."""

    __slots__ = ("bound", "length", "like", "noting", "port")

    tells_peer = False
    """Whether there are others like it, and all of them are from whom their connection says."""

    def __init__(self, request: WsgiRequest, bound: BoundInbound, port: int | None, length: int) -> None:
        self.like = request
        self.port = port
        self.bound = bound
        mutual = request.mutual
        self.noting = bound.noting(request.principal, mutual) if mutual else bound.of_nobody
        self.length = length

    def request(self, environ: Environ) -> WsgiRequest:
        """A request with this environ, as ``request_of`` and the checks would have made it."""
        like = self.like
        request = WsgiRequest.__new__(WsgiRequest)
        request._environ = environ
        request.protocol, request.method, request.path, request.query = "http", like.method, like.path, like.query
        request.authority, request.routed = like.authority, like.routed
        request.for_application = request.malformed = request._values = None
        request.looked_at = False
        request.for_caller = []
        request._for_caller = ()
        if self.port is not None:
            request.port = self.port
        request.peer_id, request.principal, request.mutual = like.peer_id, like.principal, like.mutual
        return request


class MetEnviron(KnownEnviron):
    """One that is remembered. ``let_in``: by what the checks of ``bound`` let it in (None: there are none); ``changes``:
    whether the application gets another environ than came."""

    __slots__ = ("changes", "key_size", "let_in", "met", "tells_peer")

    def __init__(self, known: KnownEnviron, like: WsgiRequest, key_size: int) -> None:
        super().__init__(like, known.bound, known.port, known.length)
        self.let_in: LetIn | None = None
        self.changes = False
        self.key_size = key_size
        self.met = False
        self.tells_peer = False

    def request(self, environ: Environ) -> WsgiRequest:
        """As ``KnownEnviron``'s."""
        request = super().request(environ)
        if self.let_in is not None:
            self.let_in.repeat(request)
        return request


def known_environ(known: KnownEnviron, key: Key, environ: Environ) -> MetEnviron | None:
    """What is to be remembered by ``key`` of a request that went straight as ``known``; None: nothing, as more counts than the
    key says. ``environ`` is as it came."""
    changes = known.like.for_application
    if changes is not None and changes.target is not None:
        return None
    like = known.request({})  # which keeps no socket, and nothing that an application puts there
    found = MetEnviron(known, like, sum(len(each) for each in key[1] if isinstance(each, str)))
    found.tells_peer = known.like.header("x-forwarded-for") is None
    if known.bound.checks:
        found.let_in = let_in(found.request(environ), known.bound.checks)
        if found.let_in is None:
            return None
        found.changes = changes is not None
    return found
