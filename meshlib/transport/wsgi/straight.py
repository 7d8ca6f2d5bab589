"""A request of which nothing is asked before its application: call and head of the response are one object, and there is no
exchange. It records what ``Head`` with its exchange would (``tests/transport/wsgi/test_straight.py`` holds the two against
each other): row wsgi-cost of the benchmarks.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING

from meshlib.engine.deadlines import current as deadline_around
from meshlib.engine.inbound import CUT, MET, InboundCall
from meshlib.engine.inbound_context import current
from meshlib.engine.stand_in import STAND_IN
from meshlib.engine.wanted_headers import wire_bytes
from meshlib.transport.wsgi.connection import (
    PROXIED,
    PROXY_FIX,
    SOCKET,
    addresses,
    local_facts,
    peer_address,
    plain_address,
)
from meshlib.transport.wsgi.known_environ import MetEnviron
from meshlib.transport.wsgi.request import several
from meshlib.transport.wsgi.response import Head, code_of, context_of, serving

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable
    from contextvars import Context

    from meshlib.clock import Clock
    from meshlib.compiler.inbound import Inbound
    from meshlib.engine.check import Check
    from meshlib.engine.check_failures import CheckFailures
    from meshlib.engine.effects import Ended
    from meshlib.engine.inbound import Facts, Seen
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.wanted_headers import WantedHeaders
    from meshlib.telemetry.inbound_records import ServedSpan
    from meshlib.transport.runtimes.serving import Server
    from meshlib.transport.wsgi.contracts import Environ, Headers, StartResponse, Write
    from meshlib.transport.wsgi.known_environ import KnownEnviron


NO_HEADERS: Headers = []
"""Never added to: what the application sends takes its place."""
set_current, set_serving = current.set, serving.set


class Straight(InboundCall, Head):
    """Both."""

    # slots: an attribute that a class has, too, takes CPython 3.11 ten times as long
    __slots__ = (
        "_apart",
        "_environ",
        "_request",
        "_server",
        "head_at",
        "known",
        "made_id",
        "request_bytes",
        "response_bytes",
        "sent",
        "started",
        "status",
    )

    span: ServedSpan | None = None

    def __init__(self, known: KnownEnviron, environ: Environ, server: Server, start_response: StartResponse) -> None:
        self.known = known
        self._environ = environ
        self._server = server
        self._start = start_response
        self._request: InboundRequest | None = None
        self.headers: Headers = NO_HEADERS
        self.over = self._apart = False
        self.begun = self.sent = self.status = self.response_bytes = 0
        self.request_bytes = known.length
        self.head_at, self.made_id = 0.0, ""
        now = server.now
        self.started = now()

    def began(self) -> None:
        """Its span begins, if anybody records."""
        telemetry = self._server.telemetry
        span = telemetry.began(self)
        if span is not None:
            self.span = span
            self._apart = True
        if self.around is not None or telemetry.tracing.makes_ids:
            made = self.made_id
            if made:
                self._environ["HTTP_X_REQUEST_ID"] = made

    def add_flag(self, flag: str) -> None:
        """As ``InboundCall``'s."""
        self._apart = True  # it has not ended like nearly all do
        super().add_flag(flag)

    @property
    def request(self) -> InboundRequest:
        """The request, made when somebody asks for it if nobody has put one in its place."""
        made = self._request
        if made is None:
            made = self._request = self.known.request(self._environ)
        return made

    @request.setter
    def request(self, request: InboundRequest) -> None:
        self._request = request

    def seen(self) -> Seen | None:
        """As ``InboundCall``'s: as its request would have it, without making one."""
        # nothing that its class has is read where it need not be: of CPython 3.11 that takes four times as long
        known = self.known
        if not known.tells_peer:
            return None
        apart, head_at, environ = self._apart, self.head_at, self._environ
        if not head_at or self.made_id or (apart and self.refusal is not None):
            return None
        peer = plain_address(environ)
        if peer is None:
            return None
        kind: tuple[object, ...] = known, self.status
        if SOCKET in environ and (sock := environ[SOCKET]) is not None:
            local, name = local_facts(sock)
            kind = known, self.status, name, local
        if apart:
            kind = *kind, self.flags, self.grpc_status, "apart"
        return kind, peer, head_at, self.request_bytes, self.response_bytes

    def facts(self, wanted: WantedHeaders) -> Facts | None:
        """As ``InboundCall``'s: likewise, where nobody has changed it or told more of it."""
        known = self.known
        if type(known) is MetEnviron and known.tells_peer:
            return MET
        if self._apart:
            return super().facts(wanted)
        head_at, request, environ = self.head_at, self._request, self._environ
        if not head_at or self.made_id:
            return None
        if (
            request is None
            or request is not known.like
            or STAND_IN in environ
            or PROXY_FIX in environ
            or PROXIED in environ
        ):
            return self._facts_of_request(wanted)
        like, sock = known.like, None
        if SOCKET in environ:
            sock = environ[SOCKET]
        where = environ.get("SERVER_NAME") if sock is None else local_facts(sock)
        try:  # as ``plain_address``
            peer = addresses[environ["REMOTE_ADDR"], environ["REMOTE_PORT"]]
        except (KeyError, TypeError):
            peer = plain_address(environ) or peer_address(environ)
        path, host = like.path, like.authority  # in ASCII nearly always: that takes half the time, without a call
        target = path.encode() if path.isascii() else wire_bytes(path)
        authority = host.encode() if host.isascii() else wire_bytes(host)
        query, protocol, port = like.query, environ.get("SERVER_PROTOCOL"), environ.get("SERVER_PORT")
        values = several(environ, wanted) if like._values is None and not like.looked_at else None
        return (
            (self.status, like.method, protocol, like.principal, where, known.port, port, "REMOTE_PORT" in environ),
            target + b"?" + wire_bytes(query) if query else target,
            peer,
            authority,
            head_at,
            self.request_bytes,
            self.response_bytes,
            like.values_of(wanted) if values is None else values,
            None,
        )

    def _facts_of_request(self, wanted: WantedHeaders) -> Facts:
        request = self.request
        of_all, peer, authority = request.facts()
        return (
            (self.status, request.method, of_all),
            wire_bytes(request.full_path),
            peer,
            wire_bytes(authority),
            self.head_at,
            self.request_bytes,
            self.response_bytes,
            request.values_of(wanted),
            None,
        )

    @property
    def inbound(self) -> Inbound:  # type: ignore[override]
        """The settings in force when it came."""
        return self.known.bound.settings

    @property
    def checks(self) -> tuple[Check, ...]:  # type: ignore[override]
        """Those that have let it in."""
        return self.known.bound.checks

    @property
    def _call(self) -> InboundCall:  # type: ignore[override]
        return self

    @property
    def clock(self) -> Clock:  # type: ignore[override]
        """The mesh's."""
        return self._server.clock

    @property
    def rng(self) -> random.Random:  # type: ignore[override]
        """The mesh's."""
        return self._server.rng

    @property
    def failures(self) -> CheckFailures:  # type: ignore[override]
        """The mesh's."""
        return self._server.failures

    @property
    def response_head(self) -> Iterable[tuple[bytes | str, bytes | str]]:
        """As ``InboundCall``'s."""
        return self.headers

    @response_head.setter
    def response_head(self, headers: Iterable[tuple[bytes | str, bytes | str]]) -> None:
        """``headers`` are."""

    def context(self) -> Context:
        """As ``context_of``."""
        if self.around is not None or deadline_around.get() is not None:
            return context_of(self)
        context = copy_context()
        context.run(set_current, self)
        context.run(set_serving, self)
        return context

    def __call__(self, status: str, headers: Headers, exc_info: object = None, /) -> Write:
        """As ``Head``'s: the caller gets what the application says."""
        if exc_info is not None:
            return super().__call__(status, headers, exc_info)
        self._write = self._start(status, headers)
        if self.known.bound.tells:
            now = self._server.now
            self.head_at = now()
        self.begun = code_of(status)
        self.headers = headers
        return self.write

    def going(self, piece: bytes) -> None:
        """As ``Head``'s."""
        if not self.sent:
            self.sent = self.begun
        self.response_bytes += len(piece)

    def ended_whole(self) -> None:
        """As ``Head``'s."""
        if self.over:
            return
        self.over = True
        self.status = status = self.begun or 500
        # it has ended like nearly all do: where the last one like it was noted is known
        server, series = self._server, self.known.noting
        noting = series.get(status)
        if noting is not None and not self._apart:
            clock = server.now
            now = clock()
            noting.note((now - self.started) * 1000.0, self.request_bytes, self.response_bytes)
            if self.known.bound.tells:
                server.telemetry.noted(self, now)
            return
        server.telemetry.ended(self, self.span)
        if not self.flags:
            found = server.telemetry.noting(self)
            if found is not None:
                series[status] = found

    def end(self, how: Ended) -> None:
        """The call is over. May be told more than once: the first counts."""
        if not self.over:
            self.over = True
            super().end(how)
            self._server.telemetry.ended(self, self.span)

    def dropped(self) -> None:
        """As ``Head``'s."""
        self.over = True
        super().end(CUT)
        self._write = None
        del self._start  # it is the server's, and may hold its connection
        self._server.telemetry.broken(self, self.span)
