"""An HTTP request of which nothing is asked before its application: the call and what serves it are one object, and there is no
exchange. It records what ``HttpServing`` with its exchange would (``tests/transport/asgi/test_straight.py`` holds the two
against each other), at a third of the cost: row asgi-cost of the benchmarks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.inbound import CUT, MET, InboundCall
from meshlib.engine.wanted_headers import wire_bytes
from meshlib.policy.request_ids import REQUEST_ID
from meshlib.transport.asgi.http import FROM_FILES
from meshlib.transport.asgi.known_head import MetHead
from meshlib.transport.asgi.messages import declared_length, size
from meshlib.transport.asgi.peer import SNI, address, addresses, plain_address
from meshlib.transport.asgi.routes import template_of
from meshlib.transport.asgi.serving import broken

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable

    from meshlib.clock import Clock
    from meshlib.compiler.inbound import Inbound
    from meshlib.engine.check import Check
    from meshlib.engine.check_failures import CheckFailures
    from meshlib.engine.effects import Ended
    from meshlib.engine.inbound import Facts, Seen
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.wanted_headers import WantedHeaders
    from meshlib.telemetry.inbound_records import ServedSpan
    from meshlib.transport.asgi.known_head import KnownHead
    from meshlib.transport.asgi.messages import Message, Pairs, Receive, Scope, Send

START, BODY = "http.response.start", "http.response.body"
APART, GONE = 1, 2
"""It has not ended like nearly all do; that, as its client has left."""


class Straight(InboundCall):
    """``receive``, ``send`` and ``scope`` are the application's. ``over``: the response has ended, or will not any more. The
    protocol is HTTP's (gRPC has trailers to read). The request is made, of what is ``known`` of its head, when somebody asks
    for it, if nobody has put one in its place."""

    # slots: an attribute that a class has, too, takes CPython 3.11 ten times as long; and what is called of
    # them is put into a local name first, as it looks for a method otherwise
    __slots__ = (
        "_apart",
        "_ending",
        "_head",
        "_head_size",
        "_receive",
        "_request",
        "_send",
        "_trailers",
        "head_at",
        "known",
        "made_id",
        "over",
        "request_bytes",
        "response_bytes",
        "scope",
        "sent",
        "started",
        "status",
    )

    made_bytes = 0
    """Of a header that the application gets and nobody has sent."""
    span: ServedSpan | None = None
    _head: Pairs  # from where the response begins
    _head_size: int  # bytes of that, where ``head_at`` says when

    def __init__(self, known: KnownHead, scope: Scope, receive: Receive, send: Send) -> None:
        self.known = known
        self.scope = scope
        self._receive = receive
        self._send = send
        self.over = self._ending = self._trailers = False
        self.request_bytes = known.size
        self.response_bytes = self.sent = self.status = self._apart = 0
        self.head_at, self.made_id = 0.0, ""
        self._request: InboundRequest | None = None
        now = known.now
        self.started = now()

    def began(self) -> None:
        """Its span begins, if anybody records."""
        telemetry = self.known.server.telemetry
        span = telemetry.began(self)
        if span is not None:
            self.span = span
            self._apart = APART
        if self.around is not None or telemetry.tracing.makes_ids:
            self._identify()

    def _identify(self) -> None:
        """Let the application see the x-request-id that telemetry has made for the request."""
        made = self.made_id
        if made:
            pair = (REQUEST_ID.encode(), made.encode())
            self.scope = {**self.scope, "headers": [*self.scope["headers"], pair]}
            self.made_bytes = len(REQUEST_ID) + len(made)
            self.request_bytes += self.made_bytes

    def add_flag(self, flag: str) -> None:
        """As ``InboundCall``'s."""
        self._apart = self._apart or APART
        super().add_flag(flag)

    @property
    def request(self) -> InboundRequest:
        """The request."""
        made = self._request
        if made is None:
            made = self._request = self.known.request(self.scope)
        return made

    @request.setter
    def request(self, request: InboundRequest) -> None:
        self._request = request

    @staticmethod
    def lines() -> object:
        """As ``InboundCall``'s."""
        from meshlib.transport.asgi.lines import STRAIGHT

        return STRAIGHT

    def seen(self) -> Seen | None:
        """As ``InboundCall``'s: as its request would have it, without making one."""
        # in one go, and nothing that its class has where it need not be: asked for one by one, it would take as long again
        known = self.known
        if type(known) is not MetHead:
            return None
        scope, apart, head_at = self.scope, self._apart, self.head_at
        if not head_at or self.made_id or (apart and self.refusal is not None):
            return None
        try:
            version = scope["http_version"]
            peer = addresses[scope["client"]]
        except (KeyError, TypeError):  # servers need not tell, nor as a tuple
            version = scope.get("http_version", "1.1")
            plain = plain_address(scope.get("client"))
            if plain is None:
                return None
            peer = plain
        name = ""
        if "extensions" in scope and (extensions := scope["extensions"]) and (tls := extensions.get("tls")):
            name = tls.get(SNI, "")
        kind = known, self.status, version, name
        return (
            (kind, self.flags, self.grpc_status) if apart else kind,
            peer,
            head_at,
            self.request_bytes - known.size,
            self.response_bytes - self._head_size,
        )

    def facts(self, wanted: WantedHeaders) -> Facts | None:
        """As ``InboundCall``'s: likewise."""
        known, apart, head_at, request = self.known, self._apart, self.head_at, self._request
        if type(known) is MetHead:
            return MET
        if not head_at or self.made_id or (apart and self.refusal is not None):
            return None
        if not known.plain or (request is not None and request.for_application is not None):
            return self._facts_of_request(wanted)
        scope, name, (headers, values, line) = self.scope, "", known.told
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
        path, host = line.path, line.authority or ""  # in ASCII nearly always: that takes half the time, without a call
        target = path.encode() if path.isascii() else wire_bytes(path)
        authority = host.encode() if host.isascii() else wire_bytes(host)
        status, port = self.status, line.port if known.port is None else known.port
        kind: Hashable = status, line.method, version, known.who[1], name, server and server[0], port
        take = wanted.takes.get(tuple(values)) if len(values) == len(headers) else None
        return (
            (kind, self.flags, self.grpc_status) if apart else kind,
            target + b"?" + query if query else target,
            peer,
            authority,
            head_at,
            self.request_bytes - known.size,
            self.response_bytes - self._head_size,
            wanted.by_name(values, headers) if take is None else take(headers),
            None,
        )

    def _facts_of_request(self, wanted: WantedHeaders) -> Facts:
        """``facts``, as checks may have let it in, and changed it."""
        request, known = self.request, self.known
        of_all, peer, host = request.facts()
        query, target, authority = request.query, wire_bytes(request.path), wire_bytes(host)
        kind = self.status, request.method, of_all
        return (
            (kind, self.flags, self.grpc_status) if self._apart else kind,
            target + b"?" + wire_bytes(query) if query else target,
            peer,
            authority,
            self.head_at,
            self.request_bytes - known.size,
            self.response_bytes - self._head_size,
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
    def clock(self) -> Clock:  # type: ignore[override]
        """The mesh's."""
        return self.known.server.clock

    @property
    def rng(self) -> random.Random:  # type: ignore[override]
        """The mesh's."""
        return self.known.server.rng

    @property
    def failures(self) -> CheckFailures:  # type: ignore[override]
        """The mesh's."""
        return self.known.server.failures

    @property
    def request_head_bytes(self) -> int:  # type: ignore[override]
        """As ``InboundCall``'s."""
        return self.known.size + self.made_bytes

    @property
    def response_head(self) -> Pairs:  # type: ignore[override]
        """As ``InboundCall``'s."""
        return getattr(self, "_head", ())

    @property
    def response_head_bytes(self) -> int:  # type: ignore[override]
        """As ``InboundCall``'s."""
        return self._head_size if self.head_at else size(self.response_head)

    async def receive(self) -> Message:
        """The next piece of the request, or that its client has gone."""
        receive = self._receive
        message = await receive()
        if message["type"] == "http.request":
            body = message.get("body")
            if body:
                self.request_bytes += len(body)
        elif not self._ending:  # servers say so after a whole response, too
            self._apart = GONE
        return message

    async def send(self, message: Message) -> None:
        """The next piece of the response."""
        send = self._send
        if self.over:  # more than a response: its server's to refuse
            await send(message)
            return
        kind = message["type"]
        if kind == START:
            self._head = headers = message.get("headers", ())
            if "trailers" in message:
                self._trailers = bool(message["trailers"])
            self.sent = message["status"]
            written = before = self.response_bytes
            for name, value in headers:  # half of what ``size`` takes, which joins them
                written += len(name) + len(value)
            self.response_bytes = written
            if self.known.tells:
                self._head_size = written - before
                clock = self.known.now
                self.head_at = clock()
            try:
                await send(message)
            except OSError:  # servers of ASGI 2.4 tell so that the client has gone
                self._apart = GONE
                raise
            return
        if kind == BODY or kind in FROM_FILES:
            last = not (message.get("more_body") or self._trailers)
        else:
            last = kind == "http.response.trailers" and not message.get("more_trailers")
        self._ending = last
        try:
            await send(message)
        except OSError:
            self._apart = GONE
            raise
        known = self.known
        if not known.bodiless:
            body = message.get("body")
            if body:
                self.response_bytes += len(body)
            elif last and kind in FROM_FILES:
                self.response_bytes += declared_length(getattr(self, "_head", ()))
        if not last or self.over:
            return
        # it has ended like nearly all do: where the last one like it was noted is known
        self.status = status = self.sent
        noting = known.noting.get(status)
        if noting is None or self._apart:
            self._learn()
            return
        self.over = True
        clock = known.now
        now = clock()
        noting.note((now - self.started) * 1000.0, self.request_bytes, self.response_bytes)
        if known.tells:
            known.server.telemetry.noted(self, now)

    def _learn(self) -> None:
        """Record a whole response, and where the next one like it is to be noted."""
        telemetry = self.known.server.telemetry
        if self._apart == GONE:
            self.end(CUT)
        self._over(telemetry.ended)
        if self.flags:
            return
        found = telemetry.noting(self)
        if found is not None:
            self.known.noting[self.status] = found

    def returned(self) -> None:
        """The application has nothing more to say."""
        if not self.over:
            self._ended(broken(self))

    def raised(self, error: BaseException) -> None:
        """The application has failed, or the task that runs it was cancelled or dropped."""
        if self.over:
            return
        if isinstance(error, GeneratorExit):  # perhaps the garbage collector's doing: see telemetry/watcher.py
            self.end(CUT)
            self._over(self.known.server.telemetry.broken)
            return
        if not isinstance(error, Exception):
            self._apart = GONE
        self._ended(broken(self))

    def _ended(self, ended: Ended) -> None:
        self.end(CUT if self._apart == GONE else ended)
        self._over(self.known.server.telemetry.ended)

    def _over(self, record: Callable[[InboundCall, ServedSpan | None], None]) -> None:
        self.over = True
        if self.around is not None:
            self.route = template_of(self.scope)
        record(self, self.span)
