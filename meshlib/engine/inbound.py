"""The inbound exchange: what happens to a request that this program serves, before and after its application.

Read from top to bottom: deadline -> checks -> fault -> the application -> result. It knows no protocol and does no I/O: a
transport makes the ``InboundCall``, runs the exchange with a driver of this file, calls its application when told, and
answers a ``Refusal`` in its own way. Envoy's order of filters: who may come in is decided before faults are injected.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshlib.clock import Clock
from meshlib.engine.effects import Sleep
from meshlib.policy.fault import by_headers, draw
from meshlib.policy.refusal import Refusal
from meshlib.policy.regex import wire

if TYPE_CHECKING:
    from meshlib.compiler.inbound import Inbound

RawPairs = Sequence[tuple[str | bytes, str | bytes]]


class InboundRequest:
    """A request as its server sees it: the facts that checks decide by, and that handlers read with ``mesh.inbound()``.

    It is a ``RequestView``: ``method``, ``scheme``, ``authority`` ("" when the transport does not tell), ``path``, ``query``,
    ``header()``. ``peer`` is the address at the other end of the connection ("127.0.0.1:4711", "unix:/path"), ``principal``
    its verified SPIFFE id ("spiffe://..."; "" when it has shown none), ``secure`` whether the connection is TLS, ``mutual``
    whether the peer has shown a certificate; ``protocol`` is "grpc" or "http".
    """

    __slots__ = (
        "_headers",
        "_raw",
        "authority",
        "method",
        "mutual",
        "path",
        "peer",
        "principal",
        "protocol",
        "query",
        "scheme",
        "secure",
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: RawPairs = (),
        *,
        protocol: str = "http",
        authority: str = "",
        query: str = "",
        peer: str = "",
        principal: str = "",
        secure: bool = False,
        mutual: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self._raw = headers
        self._headers: dict[str, list[str]] | None = None
        self.protocol = protocol
        self.scheme = "https" if secure else "http"
        self.authority = authority
        self.query = query
        self.peer = peer
        self.principal = principal
        self.secure = secure
        self.mutual = mutual

    @property
    def full_path(self) -> str:
        """Path and query as sent."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def header(self, name: str) -> str | None:
        """Value of a header or metadata key (``name`` in lower case), repeated ones joined with ","; None when absent."""
        values = self._values().get(name)
        return None if values is None else values[0] if len(values) == 1 else ",".join(values)

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        values = self._values().get(name)
        return values if values is not None and len(values) > 1 else None

    def _values(self) -> dict[str, list[str]]:
        found = self._headers
        if found is None:
            found = {}
            for name, value in self._raw:
                found.setdefault(_text(name).lower(), []).append(_text(value))
            self._headers = found
        return found

    def __repr__(self) -> str:
        return f"<InboundRequest {self.method} {self.path} from {self.principal or 'nobody known'} at {self.peer}>"


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else wire(value)


@dataclass(frozen=True, slots=True)
class Ended:
    """How the application's answer ended. ``status`` is HTTP's (0: none was sent), ``grpc_status`` None for plain HTTP."""

    status: int
    grpc_status: int | None = None
    flag: str = ""


CUT = Ended(0, None, "DR")
"""The client went away before the answer was whole. Envoy's flag for a stream that the client has reset (of a connection that
broke it is DC; grpcio does not tell one from the other)."""
HUNG_UP = 0.02
"""Seconds before the deadline in which a client that goes away does so because of it: its clock began before ours."""


class Serve:
    """The effect "now call the application"; the driver sends back an ``Ended``."""

    __slots__ = ()


SERVE = Serve()
InboundExchange = Generator[Sleep | Refusal | Serve, Ended | None, None]

# Envoy answers a request whose max_stream_duration (Istio: grpc-timeout) has passed with these words, and no flag
EXPIRED = Refusal(408, "downstream duration timeout", 4, "", "max_duration_timeout")
CLOSED = Refusal(503, "the mesh of this server is closed", detail="mesh_closed")


def closed(_request: InboundRequest) -> Refusal:
    """The check of a server whose mesh is closed: nothing can decide any more, so nothing comes in."""
    return CLOSED


class InboundCall:
    """One request being served, and what became of it.

    ``deadline`` is by the mesh's monotonic clock (None: none); ``propagates``: calls that the handler makes end with it.
    ``around`` (set by telemetry) has ``enter()`` and ``leave(token)``, run around each piece of the handler. ``status``,
    ``grpc_status``, ``flags`` and the message counts are the result.
    """

    __slots__ = (
        "around",
        "checks",
        "clock",
        "deadline",
        "flags",
        "grpc_status",
        "inbound",
        "injected_delay",
        "propagates",
        "refusal",
        "request",
        "request_messages",
        "response_messages",
        "rng",
        "started",
        "status",
    )

    def __init__(
        self,
        request: InboundRequest,
        inbound: Inbound,
        clock: Clock,
        rng: random.Random,
        deadline: float | None = None,
        propagates: bool = True,
    ) -> None:
        self.request = request
        self.inbound = inbound
        self.checks: tuple[Callable[[Any], Refusal | None], ...] = inbound.checks
        self.clock = clock
        self.rng = rng
        self.deadline = deadline
        self.propagates = propagates
        self.around: Any = None
        self.started = 0.0
        self.status = 0
        self.grpc_status: int | None = None
        self.flags = ""
        self.injected_delay = 0.0
        self.refusal: Refusal | None = None
        self.request_messages = 0
        self.response_messages = 0

    def add_flag(self, flag: str) -> None:
        """Note one of Envoy's response flags."""
        if flag:
            self.flags = f"{self.flags},{flag}" if self.flags else flag

    def end(self, ended: Ended) -> None:
        """The application has answered, or its client has gone."""
        if ended is not CUT:
            self.status, self.grpc_status = ended.status, ended.grpc_status
        elif self.deadline is not None and self.clock.monotonic() >= self.deadline - HUNG_UP:
            self.refuse(EXPIRED)
            return
        elif self.response_messages:
            # the head had been sent: a 200 without a grpc-status, which Envoy counts as UNKNOWN
            self.status = 200
            self.grpc_status = 2 if self.request.protocol == "grpc" else None
        else:
            self.status, self.grpc_status = 0, None
        self.add_flag(ended.flag)

    def refuse(self, refusal: Refusal) -> None:
        """The answer is made here. To a gRPC caller it is HTTP 200 with a grpc-status, as Envoy's local replies are."""
        self.refusal = refusal
        if self.request.protocol == "grpc":
            self.status, self.grpc_status = 200, refusal.grpc
        else:
            self.status = refusal.status
        self.add_flag(refusal.flag)


def inbound(call: InboundCall) -> InboundExchange:
    """Drive with ``begin`` or ``begin_async``, then ``finish``; close it when the request is dropped."""
    clock = call.clock.monotonic
    call.started = clock()
    try:
        refusal = _decide(call) if call.checks or call.deadline is not None else None
        if refusal is None:
            for fault in call.inbound.faults:
                wanted = by_headers(fault, call.request.header) if fault.reads_headers else fault
                delay, abort_status, abort_grpc = draw(wanted, call.rng)
                if delay:
                    call.add_flag("DI")
                    call.injected_delay += delay
                    left = delay if call.deadline is None else max(0.0, call.deadline - clock())
                    yield Sleep(min(delay, left))
                    if call.deadline is not None and (delay >= left or clock() >= call.deadline):
                        refusal = EXPIRED
                        break
                if abort_status:
                    refusal = Refusal(abort_status, "fault filter abort", abort_grpc, "FI", "fault_filter_abort")
                    break
        if refusal is not None:
            call.refuse(refusal)
            yield refusal
            return
        ended = yield SERVE
        call.end(ended or CUT)
    except GeneratorExit:
        if call.refusal is None:
            call.end(CUT)
        raise


def _decide(call: InboundCall) -> Refusal | None:
    if call.deadline is not None and call.deadline <= call.started:
        return EXPIRED
    for check in call.checks:
        refusal = check(call.request)
        if refusal is not None:
            return refusal
    return None


def begin(exchange: InboundExchange, sleep: Callable[[float], None]) -> Refusal | None:
    """Run in this thread up to the application: None, call it, then ``finish``. A refusal: answer it; all is over."""
    try:
        effect = next(exchange)
        while effect is not SERVE:
            if type(effect) is Sleep:
                sleep(effect.seconds)
                effect = exchange.send(None)
            else:
                finish(exchange, None)
                return effect  # type: ignore[return-value]
    except BaseException:
        exchange.close()
        raise
    return None


async def begin_async(exchange: InboundExchange, sleep: Callable[[float], Awaitable[None]]) -> Refusal | None:
    """The same in this task. Cancellation closes the exchange, which counts as a client that went away."""
    try:
        effect = next(exchange)
        while effect is not SERVE:
            if type(effect) is Sleep:
                await sleep(effect.seconds)
                effect = exchange.send(None)
            else:
                finish(exchange, None)
                return effect  # type: ignore[return-value]
    except BaseException:
        exchange.close()
        raise
    return None


def finish(exchange: InboundExchange, ended: Ended | None) -> None:
    """The answer is over. May be told more than once: the first counts."""
    try:
        exchange.send(ended)
    except StopIteration:
        return
    exchange.close()
    raise RuntimeError("an inbound exchange must end after its answer")
