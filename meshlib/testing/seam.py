"""Where tests come in: between the exchange of a call and the runtime that performs its effects.

Every call of every mesh, blocking, asyncio or gRPC, is a generator that asks for each attempt with a ``Send`` (see
docs/architecture.md). ``MeshCore.exchange_of`` makes it, and that attribute is all that production code has for tests: doors
that do without a generator where none is needed (``run_call.py``) look at it before each call. While a ``Planner`` takes
part, what it makes is wrapped: each attempt is planned first, and then delayed (a ``Sleep``, by the mesh's own clock), failed
without being sent, or sent and changed afterwards. So it is written once for all runtimes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Protocol

from meshlib.engine.effects import Race, Send, Sleep, Spawn
from meshlib.engine.exchange import exchange_of
from meshlib.engine.message import R
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.core.mesh_core import MeshCore

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange


class Plan:
    """What is to happen to one attempt. ``latency``: seconds on its way; ``instead``: its outcome, if it is not to be sent;
    ``change``: what makes another outcome of the one that came; ``gave_up``: told if it is not sent because it would be too
    late, or has lost to a hedge; ``sent``: told what came of it if it was sent."""

    __slots__ = ("change", "gave_up", "instead", "latency", "sent")

    def __init__(
        self,
        latency: float = 0.0,
        instead: Outcome | None = None,
        change: Callable[[Outcome], Outcome] | None = None,
        gave_up: Callable[[], None] | None = None,
        sent: Callable[[Outcome], None] | None = None,
    ) -> None:
        self.latency = latency
        self.instead = instead
        self.change = change
        self.gave_up = gave_up
        self.sent = sent

    def and_then(self, other: Plan | None) -> Plan:
        """Both: what this one does not send, the other has not seen."""
        if other is None:
            return self
        first, second = self.change, other.change
        change = second if first is None else first if second is None else lambda outcome: first(second(outcome))
        return Plan(
            self.latency + other.latency,
            self.instead or other.instead,
            change,
            other.gave_up or self.gave_up,
            other.sent or self.sent,
        )


class Planner(Protocol):
    """Plans attempts. Asked from any thread; what it raises reaches the caller."""

    def plan(self, send: Send) -> Plan | None: ...


_planners: tuple[Planner, ...] = ()
_lock = threading.Lock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


@contextlib.contextmanager
def taking_part(planner: Planner, *, last: bool = False) -> Iterator[None]:
    """Inside, ``planner`` plans each attempt of every mesh of the process. Those that came later are asked first, but for one
    that is to be ``last``: what another fails, it never sees."""
    _change(lambda now: (*now, planner) if last else (planner, *now))
    try:
        yield
    finally:
        _change(lambda now: tuple(other for other in now if other is not planner))


def _change(how: Callable[[tuple[Planner, ...]], tuple[Planner, ...]]) -> None:
    global _planners
    with _lock:
        _planners = how(_planners)
        if _planners:
            MeshCore.exchange_of = staticmethod(_planned)
        else:
            MeshCore.exchange_of = staticmethod(exchange_of)


def _planned(call: Call[R], brief: bool = False) -> Exchange[R]:
    """In the place of ``exchange_of``. None is brief: more than one ``Send`` may come of it."""
    return around(exchange_of(call))


def around(exchange: Exchange[R]) -> Exchange[R]:
    """The exchange, its attempts planned."""
    try:
        effect = next(exchange)
        while True:
            told = None
            if type(effect) is Send:
                yield from _attempt(effect, _plan(effect))
            elif type(effect) is Race:
                yield from _race(effect)
            elif type(effect) is Spawn:
                yield Spawn(around(effect.exchange))
            else:
                told = yield effect
            effect = exchange.send(told)
    except StopIteration:
        return
    finally:
        exchange.close()


def _plan(send: Send) -> Plan:
    plan = Plan()
    for planner in _planners:
        plan = plan.and_then(planner.plan(send))
        if plan.instead is not None:
            break
    return plan


def _attempt(send: Send[R], plan: Plan) -> Generator[Send[R] | Sleep, None, None]:
    """One attempt, as it was planned."""
    yield from _arrive(send, plan, send.call.clock.monotonic() + plan.latency)


def _arrive(send: Send[R], plan: Plan, when: float) -> Generator[Send[R] | Sleep, None, None]:
    """Wait until ``when`` and send; or until the attempt's time is up, if that is earlier."""
    now = send.call.clock.monotonic
    timeout = send.timeout
    if timeout is not None and plan.latency >= timeout:
        yield from _until(when - plan.latency + timeout, now)
        if plan.gave_up is not None:
            plan.gave_up()
        send.outcome = Outcome(Failure.TIMEOUT, f"no response within {timeout:.3g} s")
        return
    yield from _until(when, now)
    if plan.instead is not None:
        send.outcome = plan.instead
        return
    if timeout is not None:
        send.timeout = timeout - plan.latency
    yield send
    if plan.sent is not None:
        plan.sent(send.outcome)
    if plan.change is not None and send.outcome.failure is None:
        send.outcome = plan.change(send.outcome)


def _until(when: float, now: Callable[[], float]) -> Generator[Sleep, None, None]:
    left = when - now()
    if left > 0:
        yield Sleep(left)


def _race(race: Race[R]) -> Generator[Send[R] | Sleep, None, None]:
    """A hedged attempt, in the time of the plans: tries begin, arrive and end in the order of the mesh's clock. How long a
    real server takes counts for nothing here."""
    now, tries = race.first.call.clock.monotonic, race.tries
    following = now() + race.delay
    running = [_begun(race.first, now())]
    while True:
        over, when, send, plan = min(running, key=lambda each: each[0])
        if following < over:
            yield from _until(following, now)
            another = tries.another()
            if another is None:
                following = float("inf")
            else:
                running.append(_begun(another, now()))
                following += race.delay
            continue
        yield from _arrive(send, plan, when)
        running = [each for each in running if each[2] is not send]
        if running and not tries.wins(send.outcome):
            send.outcome.drop()
            tries.lost(send)
            continue
        for _, _, loser, lost in running:
            if lost.gave_up is not None:
                lost.gave_up()
            tries.lost(loser)
        race.winner = send
        return


def _begun(send: Send[R], now: float) -> tuple[float, float, Send[R], Plan]:
    """When it will be over, when it arrives, and what it is."""
    plan = _plan(send)
    takes = plan.latency if send.timeout is None else min(plan.latency, send.timeout)
    return now + takes, now + plan.latency, send, plan
