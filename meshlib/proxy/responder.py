"""What is on the two sides of a request that is forwarded, besides the connections: whom its response goes to, who can still
change its fate, and who is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from meshlib.engine import replies
from meshlib.engine.outcome import Failure, Outcome

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange
    from meshlib.policy.header_ops import Headers, RawHeaders
    from meshlib.policy.request_ids import RequestIds
    from meshlib.proxy.connect_request import ConnectRequest
    from meshlib.proxy.connect_tunnel import ConnectClient
    from meshlib.proxy.refusals import Asked
    from meshlib.proxy.request import ProxyRequest
    from meshlib.proxy.slow_clients import Wait
    from meshlib.telemetry.attempt_spans import CallSpan
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.protocol.http1_request import Refused
    from meshlib.transport.protocol.received_head import ReceivedHead
    from meshlib.transport.upstream.loop_turn import Turn
    from meshlib.transport.upstream.switched import AsyncSwitched


class Responder(Protocol):
    """Whom a response goes to: one request of a client, whatever version of HTTP that speaks.

    ``respond``, or ``begin`` with any number of ``write`` and one ``end`` or ``cut``; ``switch`` in their place. ``headers``
    are the upstream's, those of its connection among them. After the last of them the request is over: nothing more is said
    to it."""

    def respond(self, status: int, reason: bytes, headers: Headers, whole: bytes, trailers: RawHeaders | None) -> None:
        """A response that is all here."""

    def begin(self, status: int, reason: bytes, headers: Headers) -> None:
        """The head of a response whose body follows."""

    def write(self, data: bytes) -> None:
        """Some bytes of the body, at least one."""

    def end(self, trailers: RawHeaders | None) -> None:
        """The body is over."""

    def cut(self) -> None:
        """The response cannot be finished: the client must see that."""

    def switch(self, status: int, reason: bytes, headers: Headers, upstream: AsyncSwitched) -> None:
        """101: client and upstream speak another protocol from here on."""

    @property
    def writable(self) -> bool:
        """Whether the client takes what is written."""
        ...

    async def drained(self) -> None:
        """Until it does."""


class Straight:
    """A ``Responder`` of a connection that has one request at a time, and that lets go of who forwards it with the end of its
    response."""

    __slots__ = ()

    def pass_on(self, status: int, reason: bytes, head: ReceivedHead, more: bytes, whole: bytes) -> None:
        """``respond`` with an upstream's response; ``more``: lines of headers that it gets beside its own."""
        raise NotImplementedError


class StraightResponder(Responder, Protocol):
    """Both."""

    def pass_on(self, status: int, reason: bytes, head: ReceivedHead, more: bytes, whole: bytes) -> None: ...


class UnderWay(Protocol):
    """A request that was begun."""

    def cancel(self, refused: Refused | None = None, /) -> None:
        """Its client has gone, or is ``refused``: then it gets no response but that."""
        ...

    def client_takes(self, writable: bool) -> None:
        """Its client takes (or for now does not take) what is written."""
        ...


class Forwards(Protocol):
    """What takes the requests of a connection: a ``Forwarder``."""

    @property
    def core(self) -> MeshCore: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def turn(self) -> Turn:
        """Of that loop."""
        ...

    def forward(self, request: ProxyRequest, responder: Responder, /) -> UnderWay | None: ...


class Connects(Protocol):
    """What makes tunnels: a ``Listener`` of the outbound side."""

    def connect(self, request: ConnectRequest, client: ConnectClient, /) -> UnderWay | None: ...


class Downstream(Protocol):
    """A client's connection."""

    def drain(self) -> None:
        """The response that is on its way is the last one."""
        ...

    def waits(self) -> tuple[Wait, int] | None: ...
    def give_up(self, wait: Wait) -> None: ...

    transport: asyncio.Transport


class Port(Protocol):
    """What a client's connection came in by, whatever version of HTTP that speaks: a ``Listener``."""

    ids: RequestIds
    """For requests that have none."""
    proto: bytes
    """The line of X-Forwarded-Proto for requests that have none; b"": whoever serves them says that, and gives them their
    x-request-id."""

    @property
    def forwarder(self) -> Forwards: ...
    @property
    def draining(self) -> bool: ...
    @property
    def tunnels(self) -> Connects | None:
        """What takes CONNECT; None: it is not taken here."""
        ...

    def opened(self, connection: Downstream, /) -> None: ...
    def closed(self, connection: Downstream, /) -> None: ...
    def refused(self, refused: Refused, client: asyncio.BaseTransport, asked: Asked | None, /) -> None:
        """A request of this client was refused before anything was decided about it."""

    def broken(self, why: str, bug: bool, client: asyncio.BaseTransport, flood: bool = False, /) -> None:
        """Its connection over HTTP/2 had to be closed."""


class Tells(Protocol):
    """Whom calls are told to: the mesh's telemetry. ``keeps_calls``: they may be in its hands after their end."""

    keeps_calls: bool

    def began(self, call: Call[ProxyRequest], /) -> CallSpan | None: ...
    def spanned(self, span: CallSpan, exchange: Exchange[ProxyRequest], /) -> Exchange[ProxyRequest]: ...
    def ended(self, call: Call[ProxyRequest], span: CallSpan | None, /) -> None: ...
    def broken(self, call: Call[ProxyRequest], span: CallSpan | None, /) -> None: ...


class Streaming:
    """The body of a response that is passed on in callbacks, as it comes. ``leave`` gives up its connection; it is called once,
    and refers to the request, which refers to this until then."""

    __slots__ = ("_leave",)

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def abort(self) -> None:
        """Nobody wants it: there is another attempt, or it is over."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


def mesh_closed(responder: Responder) -> None:
    """Nothing is forwarded any more."""
    reply = replies.for_failure(Outcome(Failure.CLOSED))
    responder.respond(reply.status, reply.reason, reply.headers, reply.whole or b"", None)
