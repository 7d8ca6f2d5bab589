"""The span of a call and those of its attempts, which follow what the exchange of the call asks its driver to do.

``spanned`` stands around the exchange, only of calls that are recorded: nothing of it is in the way of the others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeVar

from meshlib.engine.effects import Deliver, Race, Send, Sleep
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.telemetry.spans import Attributes, InTrace, version_shown

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from meshlib.engine.effects import Tries
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.message import Request
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.endpoint import EndpointState
    from meshlib.telemetry.spans import Spans

Effect = TypeVar("Effect")
Result = TypeVar("Result")


def facts_of(record: Exchange) -> Attributes:
    """What the mesh knows of a call."""
    destination = record.destination
    found: Attributes = {
        "meshlib.resource": record.resource,
        "meshlib.route": record.rule_name or ("" if record.rule is None else str(record.rule)),
        "meshlib.host": record.host,
        "meshlib.subset": record.subset,
        "meshlib.endpoint": record.endpoint,
        "meshlib.flags": record.flags,
        "meshlib.attempts": len(record.attempts),
    }
    if destination is not None and destination.cluster:
        found["meshlib.cluster"] = destination.cluster
    return found


class CallSpan(InTrace):
    """``span`` is the call's; ``context`` has it as the current one. A ``borrowed`` one is somebody else's: enriched, never
    ended. ``described`` is what is known of the request. ``version`` is that of HTTP in the last response."""

    __slots__ = (
        "_name",
        "_open",
        "_spans",
        "borrowed",
        "context",
        "delayed",
        "described",
        "version",
    )

    def __init__(
        self,
        spans: Spans,
        span: Span,
        context: Context,
        described: Attributes,
        name: str,
        borrowed: bool = False,
    ) -> None:
        self._spans = spans
        self._name = f"{name} attempt"
        self._open: dict[Send, Span] = {}
        self.span = span
        self.context = context
        self.described = described
        self.borrowed = borrowed
        self.delayed = False
        self.version = ""

    def tell(self, request: Request, span: Span) -> None:
        """Write the context of ``span`` into what is sent, in place of any other."""
        propagation = self._spans.propagation
        pairs = propagation.write(span.get_span_context(), lambda: self._spans.in_context(span, self.context))
        names = propagation.spoken.names
        request.headers = [*(pair for pair in request.headers if pair[0].lower() not in names), *pairs]

    # -- attempts -----------------------------------------------------------------------------------------------------

    def attempt(self, send: Send, hedge: bool = False) -> None:
        """An attempt begins."""
        endpoint = send.endpoint.endpoint
        told: Attributes = {
            **self.described,
            "meshlib.attempt": send.attempt,
            "meshlib.endpoint": send.endpoint.key,
            "network.peer.address": endpoint.address,
            "network.peer.port": endpoint.port,
        }
        if send.attempt > 1:
            told["http.request.resend_count"] = send.attempt - 1
        if hedge:
            told["meshlib.hedge"] = True
        span = self._open[send] = self._spans.begin(self._name, self.context, told)
        if self._spans.tells:
            self.tell(send.call.request, span)

    def attempted(self, send: Send) -> None:
        """It has an outcome. Its span goes on with the response that it brought, until another attempt follows or the call is
        over."""
        span = self._open.get(send)
        if span is None:
            return
        outcome = send.outcome
        if outcome.failure is not None:
            self._spans.fail(span, outcome.failure.name.lower(), outcome.detail)
            return
        if send.call.request.protocol == "grpc":
            code = getattr(outcome, "code", outcome.grpc_status)
            if code:
                self._ended_with(span, code, outcome.detail)
            return
        self.version = version_shown(outcome.http_version)
        span.set_attributes({"http.response.status_code": outcome.status, "network.protocol.version": self.version})
        if outcome.status >= 400:
            self._spans.fail(span, str(outcome.status))

    def _ended_with(self, span: Span, code: int, detail: str = "") -> None:
        name = GRPC_NAMES[code]
        span.set_attributes({"rpc.response.status_code": name, "rpc.grpc.status_code": code})
        if code:
            self._spans.fail(span, name, detail)

    def lost(self, send: Send) -> None:
        """It has lost to another."""
        span = self._open.pop(send, None)
        if span is not None:
            span.set_attribute("meshlib.lost_to_hedge", True)
            span.end()

    def over(self, grpc: int | None, end: int | None) -> None:
        """The call is over, and so is its attempt. ``grpc`` is the status that the caller got."""
        while self._open:
            send, span = self._open.popitem()
            if grpc is not None and getattr(send, "outcome", None) is not None and send.outcome.failure is None:
                self._ended_with(span, grpc)
            span.end(end)

    def delivered(self, record: Exchange) -> None:
        """The response goes to the caller."""
        self.span.set_attributes(facts_of(record))

    # -- events -------------------------------------------------------------------------------------------------------

    def retried(self, before: Send, send: Send, pause: float) -> None:
        """Another attempt follows."""
        outcome: Outcome = before.outcome
        span = self._open.pop(before, None)
        if span is not None:
            span.end()
        why = str(outcome.status) if outcome.failure is None else outcome.failure.name.lower()
        if outcome.grpc_status:
            why = GRPC_NAMES[outcome.grpc_status]
        name = "meshlib.retry" if send.attempt > before.attempt else "meshlib.resend"
        told: Attributes = {"meshlib.attempt": send.attempt, "meshlib.reason": why}
        self.span.add_event(name, {**told, "meshlib.backoff": round(pause, 6)})

    def hedged(self, send: Send) -> None:
        """An attempt joins those that run."""
        self.span.add_event("meshlib.hedge", {"meshlib.endpoint": send.endpoint.key})

    def delayed_by(self, seconds: float) -> None:
        """A fault delays the call."""
        self.delayed = True
        self.span.add_event("meshlib.fault", {"meshlib.fault.delay": seconds, "meshlib.fault.aborts": False})

    def ejected(self, endpoint: EndpointState) -> None:
        """This call was the last straw."""
        self.span.add_event("meshlib.ejection", {"meshlib.endpoint": endpoint.key})


class _TracedTries:
    """Tries of a race, each with its span. A try has a request of its own: it tells another context than the first does, which
    may not have been written yet."""

    __slots__ = ("_do", "_made", "_tries")

    def __init__(self, made: CallSpan, tries: Tries, do: Callable[..., None]) -> None:
        self._made = made
        self._tries = tries
        self._do = do

    def another(self) -> Send | None:
        send = self._tries.another()
        if send is not None:
            call = send.call
            send.call = copy.copy(call)
            send.call.request = copy.copy(call.request)
            self._do(self._made.hedged, send)
            self._do(self._made.attempt, send, True)
        return send

    def lost(self, send: Send) -> None:
        self._tries.lost(send)
        self._do(self._made.lost, send)

    def wins(self, outcome: Outcome) -> bool:
        return self._tries.wins(outcome)


class _Following:
    """Where an exchange is. ``do(method, *arguments)`` calls, and counts what is raised."""

    __slots__ = ("_do", "_ejections", "_last", "_made", "_pause")

    def __init__(self, made: CallSpan, do: Callable[..., None]) -> None:
        self._made = made
        self._do = do
        self._last: Send | None = None
        self._ejections = 0
        self._pause = 0.0

    def asked(self, effect: object) -> bool:
        """What it asks its driver for; whether ``done`` is to be told of it."""
        if isinstance(effect, Send):
            self._attempt(effect)
            return True
        if isinstance(effect, Race):
            self._attempt(effect.first)
            effect.tries = _TracedTries(self._made, effect.tries, self._do)
            return True
        if isinstance(effect, Deliver):
            if self._last is not None and self._made.borrowed:  # whoever it is borrowed of may end it now
                self._do(self._made.delivered, self._last.call.record)
            return False
        if isinstance(effect, Sleep):
            if self._last is None:
                self._do(self._made.delayed_by, effect.seconds)
            self._pause = effect.seconds
        return False

    def _attempt(self, send: Send) -> None:
        if self._last is not None:
            self._do(self._made.retried, self._last, send, self._pause)
            self._pause = 0.0
        self._do(self._made.attempt, send)

    def done(self, effect: object) -> None:
        """An attempt has its outcome, and is to be judged now."""
        last = self._last = effect.winner if isinstance(effect, Race) else effect if isinstance(effect, Send) else None
        if last is not None:
            account = last.endpoint.outlier
            self._ejections = 0 if account is None else account.ejections
            self._do(self._made.attempted, last)

    def judged(self) -> None:
        """The exchange has gone on: was this the failure too many?"""
        last = self._last
        if last is None or last.endpoint.outlier is None:
            return
        ejections = last.endpoint.outlier.ejections
        if ejections > self._ejections:
            self._ejections = ejections
            self._do(self._made.ejected, last.endpoint)


def spanned(
    made: CallSpan, exchange: Generator[Effect, Result, None], do: Callable[..., None]
) -> Generator[Effect, Result, None]:
    """``exchange``, whose attempts get their spans. ``do(method, *arguments)`` calls, and counts what is raised: whatever a
    tracer does, the call goes on."""
    following = _Following(made, do)
    told: Result | None = None
    try:
        while True:
            effect = next(exchange) if told is None else exchange.send(told)
            following.judged()
            sends = following.asked(effect)
            told = yield effect
            if sends:
                following.done(effect)
    except StopIteration:
        following.judged()
    except GeneratorExit:
        exchange.close()
        raise
