"""The inbound exchange: what happens to a request that this program serves, before and after its application.

Read from top to bottom: deadline -> admission -> checks -> fault -> the application -> result. It knows no protocol and does
no I/O: a transport makes the ``InboundCall``, runs the exchange with the drivers that outbound ones have, calls its
application when told to ``Serve``, and responds to a refusal in its own way. Envoy's order of filters: who may come in is
decided before faults are injected.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Hashable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from meshlib.clock import Clock
from meshlib.engine.check_failures import CheckFailures
from meshlib.engine.deadlines import Until
from meshlib.engine.effects import Ended, Serve, Sleep
from meshlib.engine.inbound_limits import TOO_LARGE
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.wanted_headers import wire_bytes
from meshlib.policy.fault import by_headers, draw
from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from meshlib.compiler.inbound import Inbound
    from meshlib.engine.call import Call
    from meshlib.engine.check import Asking, Check
    from meshlib.engine.effects import Step
    from meshlib.engine.inbound_admission import Active, Admission
    from meshlib.engine.inbound_limits import RateLimits
    from meshlib.engine.message import Request
    from meshlib.engine.outcome import Outcome
    from meshlib.engine.plain_request import PlainRequest
    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.policy.inbound_view import InboundView

    InboundExchange: TypeAlias = Generator[Step[PlainRequest] | Serve, Ended | None, None]


class Around(Protocol):
    """What is set around each piece of a handler: from ``enter``, to where what that returns is called."""

    def enter(self) -> Callable[[], None]: ...


CUT = Ended(0)
"""The client went away before the response was whole. The flag is Envoy's: DR of a stream that the client has reset, DC of an
HTTP/1.1 connection that broke (grpcio does not tell one from the other: DR)."""
HUNG_UP = 0.02
"""Seconds before the deadline in which a client that goes away does so because of it: its clock began before ours."""


SERVE = Serve()

# Envoy answers a request whose max_stream_duration (Istio: grpc-timeout) has passed with these words, and no flag
EXPIRED = Refusal(408, "downstream duration timeout", 4, "", "max_duration_timeout")
CLOSED = Refusal(503, "the mesh of this server is closed", detail="mesh_closed")
CHECK_FAILED = Refusal(500, "a check of this server has failed", 13, detail="check_failed")


def closed(_request: InboundView) -> Refusal:
    """The check of a server whose mesh is closed: nothing can decide any more, so nothing comes in."""
    return CLOSED


Seen = tuple[Hashable, str, float, int, int]
"""What those have in common whose lines differ in no more than: the address of the peer, which needs no escapes; when the
response began; bytes of the bodies of request and response."""
Facts = tuple[Hashable, bytes, str, bytes, float, int, int, "Values", "Call[Request] | None"]
"""What those have in common (status, flags, grpc_status, method, and what decides protocol, version, principal, server name and
local address) whose lines differ in no more than: target, address of the peer, authority; when the response began; bytes of
the bodies; headers, as ``values_of`` gives those that were asked for; the ``hop`` (None: there was none)."""
MET: Facts = None, b"", "", b"", 0.0, 0, 0, (), None
"""In place of those of a request whose head was met before."""


class InboundCall:
    """One request being served, and what became of it.

    ``deadline`` is by the mesh's monotonic clock (None: none); ``propagates``: calls that the handler makes end with it;
    ``until`` is that deadline as handlers have it, lifted when the response has ended. ``around`` (set by telemetry) is entered
    and left around each piece of the handler. ``checks`` are asked in their order (None: those of ``inbound``). ``status``,
    ``grpc_status``, ``flags`` and the counts of messages and of bytes are the result; ``sent`` is the status in the head that
    is on its way to the client already, 0 before; ``route`` the template that the application's router has matched, "" when
    none says. ``route_limits`` are to be asked when it is known (``routed_limits.py``).

    ``admission`` (None: nothing is asked) lets it in before the checks, as long as there is not too much to do: ``late`` and
    ``queued``, which its door sets, are the seconds that what serves it runs late, and that it stood in line for a thread.
    """

    # No slots: what most calls keep as it is stands here, and costs them nothing (rows asgi-cost and wsgi-cost).
    checks: tuple[Check, ...] = ()
    deadline: float | None = None
    until: Until | None = None
    propagates = True
    around: Around | None = None
    admission: Admission | None = None
    admitted: Active | None = None
    """Among these it counts."""
    joined = 0
    """How many there were then."""
    late = 0.0
    queued = 0.0
    started = 0.0
    status = 0
    grpc_status: int | None = None
    flags = ""
    injected_delay = 0.0
    refusal: Refusal | None = None
    sent = 0
    route = ""
    route_limits: RateLimits | None = None
    made_id = ""
    """The x-request-id that was made for it here; "" when it came with one, or needs none."""
    request_messages = 0
    response_messages = 0
    request_bytes = 0
    response_bytes = 0
    request_head_bytes = 0
    response_head_bytes = 0
    """What of those is of heads."""
    response_head: Iterable[tuple[bytes | str, bytes | str]] = ()
    head_at = 0.0
    """The headers of the response, and when it began: where ``tells``, for an access log."""
    tells = False
    answered: Outcome | None = None
    """What the application behind a proxy has responded, where nothing has become of the call but that: no flags, no refusal,
    nothing that was injected, no route. Set by whoever forwards (``PlainServing``) for what is told of the call."""
    hop: Call[Request] | None = None
    """The call to the application, where that is behind a proxy and not in this process."""

    def __init__(
        self,
        request: InboundRequest,
        inbound: Inbound,
        clock: Clock,
        rng: random.Random,
        deadline: float | None = None,
        propagates: bool = True,
        failures: CheckFailures | None = None,
        checks: tuple[Check, ...] | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.request = request
        self.inbound = inbound
        self.checks = inbound.checks if checks is None else checks
        self.failures = CheckFailures() if failures is None else failures
        self.clock = clock
        self.rng = rng
        if deadline is not None:
            self.deadline, self.until = deadline, Until(deadline)
        request.deadline = deadline
        if not propagates:
            self.propagates = False
        if admission is not None:
            self.admission = admission

    def add_flag(self, flag: str) -> None:
        """Note one of Envoy's response flags."""
        if flag:
            self.flags = f"{self.flags},{flag}" if self.flags else flag

    @staticmethod
    def lines() -> object:
        """How the access log reads calls of this very class without asking them (a ``Side``, see ``line_code.py``); None: it
        asks them for ``seen`` and ``facts``."""
        return None

    def seen(self) -> Seen | None:
        """Of a request whose head was met before, and that is over: what a line of the access log needs. None: nobody knows, or
        ``facts`` says None as well."""
        return None

    def facts(self, wanted: WantedHeaders) -> Facts | None:
        """The same of any other, and of its headers those ``wanted``. ``MET``: ask ``seen``. None: it was refused, has an id
        that was made here, no response has begun, or it was passed on (``hop``) and had more than a response to the first
        attempt."""
        hop = self.hop
        went = () if hop is None else hop.went()
        if self.refusal is not None or went is None or self.made_id or not self.head_at:
            return None
        request = self.request
        of_all, peer, authority = request.facts()
        return (
            (self.status, self.flags, self.grpc_status, request.method, of_all, went),
            wire_bytes(request.full_path),
            peer,
            wire_bytes(authority),
            self.head_at,
            max(self.request_bytes - self.request_head_bytes, 0),
            max(self.response_bytes - self.response_head_bytes, 0),
            self.values_of(wanted),
            hop,
        )

    def values_of(self, wanted: WantedHeaders) -> Values:
        """As ``InboundRequest``'s."""
        return self.request.values_of(wanted)

    def end(self, ended: Ended) -> None:
        """The application has answered, or its client has gone."""
        if ended is not CUT:
            self.status, self.grpc_status = ended.status, ended.grpc_status
        elif not self.sent and self.deadline is not None and self.clock.monotonic() >= self.deadline - HUNG_UP:
            self.refuse(EXPIRED)
            return
        else:
            grpc = self.request.protocol == "grpc"
            self.status = 200 if grpc and self.response_messages else self.sent
            # a 200 without a grpc-status, which Envoy counts as UNKNOWN
            self.grpc_status = 2 if grpc and self.status else None
            self.add_flag("DR" if grpc or self.request.http2 else "DC")
        self.add_flag(ended.flag)

    def received(self, size: int) -> Refusal | None:
        """So many more bytes of the request's body have come: what to respond when that is too much, in place of the
        application as long as its head is not on its way."""
        self.request_bytes += size
        protection = self.inbound.protection
        if protection is None or protection.max_body is None or self.request_bytes <= protection.max_body:
            return None
        return TOO_LARGE

    def responding(self, status: int) -> None:
        """The head of the response, with this status, goes to the client: a client that leaves now has got it."""
        self.sent = status

    def refuse(self, refusal: Refusal) -> None:
        """The response is made here. To a gRPC caller it is HTTP 200 with a grpc-status, as Envoy's local replies are."""
        self.refusal = refusal
        if self.request.protocol == "grpc":
            self.status, self.grpc_status = 200, refusal.grpc
        else:
            self.status = refusal.status
        self.add_flag(refusal.flag)


def goes_straight(settings: Inbound, checks: tuple[Check, ...], admission: Admission | None) -> bool:
    """Whether nothing is asked of requests before their application, nor of their bodies, but what ``asked_at_once`` may ask:
    the door may do without the exchange for those that have no deadline, as it would only note when they began (``started``)
    and how they ended (``end``)."""
    if admission is not None or settings.faults or settings.protection is not None:
        return False
    return all(getattr(check, "at_once", False) for check in checks)


def asked_at_once(request: InboundRequest, checks: tuple[Check, ...]) -> tuple[Check, ...] | None:
    """Ask ``checks`` in their order, without an exchange, until one has something to say. None: ``request`` is let in; else the
    checks that an exchange has to go on with: the first says what the last one that was asked has said, or raises what it has
    raised. For checks with ``at_once``: they look neither at the body nor at the response, and seldom wait."""
    try:
        for at, check in enumerate(checks):
            found = check(request)
            if found is not None:
                return (_says(found), *checks[at + 1 :])
    except Exception as error:  # noqa: BLE001 (the exchange counts it, and nobody comes in)
        return (_raises(error),)
    return None


def _says(found: Refusal | Asking) -> Check:
    return lambda _request: found


def _raises(error: Exception) -> Check:
    def check(_request: InboundRequest) -> Refusal:
        raise error

    return check


def inbound(call: InboundCall) -> InboundExchange:
    """Drive with a driver of ``engine.drivers``, then ``finish``; close it when the request is dropped."""
    clock = call.clock.monotonic
    call.started = clock()
    try:
        refusal = None
        if call.deadline is not None and call.deadline <= call.started:
            refusal = EXPIRED
        else:
            if call.admission is not None:
                refusal = _admitted(call, call.admission)
            if refusal is None and call.checks:
                refusal = yield from _checked(call)
        if refusal is None and call.inbound.faults:
            refusal = yield from _injected(call)
        if refusal is not None:
            call.refuse(refusal)
            yield Serve(refusal)
            return
        ended = yield SERVE
        call.end(ended or CUT)
    except GeneratorExit:
        if call.refusal is None:
            call.end(CUT)
        raise
    finally:
        if call.until is not None:
            call.until.by = None
        if call.admission is not None and call.admitted is not None:
            call.admission.leave(call, clock())


def _admitted(call: InboundCall, admission: Admission) -> Refusal | None:
    try:
        return admission.enter(call)
    except Exception as error:  # noqa: BLE001 (as a check that raises)
        call.failures.note(error)
        return CHECK_FAILED


def _checked(call: InboundCall) -> Asking:
    """The first refusal of the checks, in order. One that raises refuses."""
    asked = False
    for check in call.checks:
        try:
            found = check(call.request)
            if found is None:  # nearly always
                continue
            if isinstance(found, Generator):
                asked = True
                found = yield from found
        except Exception as error:  # noqa: BLE001 (fails closed: counted, logged once, and nobody comes in)
            call.failures.note(error)
            return CHECK_FAILED
        if found is not None:
            return found
    if asked and call.deadline is not None and call.clock.monotonic() >= call.deadline:
        return EXPIRED
    return None


def _injected(call: InboundCall) -> Generator[Sleep, None, Refusal | None]:
    """Delay the request as the faults say; the refusal of the first that aborts it."""
    clock = call.clock.monotonic
    for fault in call.inbound.faults:
        wanted = by_headers(fault, call.request.header) if fault.reads_headers else fault
        delay, abort_status, abort_grpc = draw(wanted, call.rng)
        if delay:
            call.add_flag("DI")
            call.injected_delay += delay
            left = delay if call.deadline is None else max(0.0, call.deadline - clock())
            yield Sleep(min(delay, left))
            if call.deadline is not None and (delay >= left or clock() >= call.deadline):
                return EXPIRED
        if abort_status:
            return Refusal(abort_status, "fault filter abort", abort_grpc, "FI", "fault_filter_abort")
    return None
