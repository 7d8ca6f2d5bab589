"""Fallbacks (ResiliencePolicy ``fallback``): what answers when a call has failed for good.

Wraps an exchange and looks at what it delivers: no response, or a 502, 503 or 504 from whoever, is a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.compiler.rules import default_rule
from meshlib.engine import replies
from meshlib.engine.before_sending import made_here
from meshlib.engine.effects import Deliver
from meshlib.engine.message import R
from meshlib.engine.outbound import outbound
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.verdicts import TOO_LONG

if TYPE_CHECKING:
    from meshlib.compiler.resilience import Fallback
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange
    from meshlib.engine.guard import Guard

UNAVAILABLE = frozenset((502, 503, 504))
CALLERS_DOING = frozenset(
    (
        Failure.INVALID_REQUEST,
        Failure.REQUEST_BODY_FAILED,
        Failure.WRITE_TIMEOUT,
        Failure.POOL_TIMEOUT,
        Failure.CLOSED,
    )
)


def failed(outcome: Outcome) -> bool:
    """Whether a fallback should answer instead."""
    if outcome.failure is not None:
        return outcome.failure not in CALLERS_DOING
    return outcome.health_status in UNAVAILABLE


def with_fallback(call: Call[R], exchange: Exchange[R]) -> Exchange[R]:
    """``exchange``, and what answers when it has failed for good."""
    try:
        effect = next(exchange)
        while True:
            if type(effect) is Deliver and failed(effect.outcome) and "DC" not in call.record.flags:
                guard = _guard_of(call)
                fallback = guard.settings.fallback if guard is not None else None
                if guard is not None and fallback is not None and guard.note("fallback", "answered"):
                    effect.outcome.drop()
                    exchange.close()
                    yield from _fall_back(call, fallback)
                    return
            cut = yield effect
            effect = exchange.send(cut)
    except StopIteration:
        return
    finally:
        exchange.close()


def _guard_of(call: Call) -> Guard | None:
    destination = call.record.destination
    if destination is None or not destination.cluster:
        return None
    return call.live.cluster(destination.cluster).guard


def _fall_back(call: Call[R], fallback: Fallback) -> Exchange[R]:
    record = call.record
    record.add_flag("FB")
    target = fallback.destination
    if target is None:
        reply = replies.reply(fallback.status, "", list(fallback.headers), "fallback")
        reply.headers = [*fallback.headers, (b"content-length", b"%d" % len(fallback.body))]
        reply.whole = fallback.body
        yield made_here(call, reply)
        return
    if not call.request.replayable:
        failure = f"the call failed, and its body cannot be sent to the fallback: {TOO_LONG}"
        yield made_here(call, Outcome(Failure.RESET, failure))
        return
    record.rule_object = default_rule(target, call.live.snapshot.retry)
    record.keep_attempt()
    yield from outbound(call)
