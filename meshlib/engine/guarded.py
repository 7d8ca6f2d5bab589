"""One call under its service's guard (ResiliencePolicy): let in, hedged, and told how it went."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Generic

from meshlib.engine import deadlines, replies
from meshlib.engine.actions import change_own_response
from meshlib.engine.effects import Acquire, Race, Send
from meshlib.engine.hedges import Hedges
from meshlib.engine.message import R
from meshlib.engine.outcome import LOCAL_ORIGIN, Failure, Outcome
from meshlib.policy.circuit_limits import Place

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.guard import Guard
    from meshlib.engine.picks import Picks
    from meshlib.engine.taken import Taken
    from meshlib.policy.circuit_limits import Slots
    from meshlib.policy.retry import RetryPolicy

INFINITE = float("inf")


class GuardedCall(Generic[R]):
    """``deadline``: the route's, or that of the request being served if that is earlier. ``success``: whether the service has
    served the call; None: no verdict (cancelled, or the caller's doing). ``entered``: past the guard, which must be left."""

    __slots__ = (
        "_bulkhead",
        "_call",
        "_cluster",
        "_crowd",
        "_guard",
        "_header",
        "_place",
        "_status",
        "deadline",
        "entered",
        "success",
    )

    def __init__(self, call: Call[R], cluster: BoundCluster, deadline: float, now: float) -> None:
        guard = cluster.guard
        assert guard is not None
        self._call = call
        self._cluster = cluster
        self._guard = guard
        self._place = Place()
        self._bulkhead: Slots | None = None
        self._crowd = self._status = 0
        self.success: bool | None = None
        self.entered = False
        self.deadline, self._header = _inherited(guard, deadline, now)

    def admitted(self, now: float, limit: float) -> Generator[Acquire, None, Outcome | None]:
        """Let the call in; the response when a mechanism refuses it."""
        call, guard = self._call, self._guard
        if guard.settings.deadline is not None and self.deadline <= now:
            call.record.add_flag("UT")
            return Outcome(Failure.TIMEOUT, "the deadline of the request being served has passed")
        refusal = guard.admit(now, call.clock.time(), self)
        if refusal:
            return self._refused(refusal)
        self._crowd = guard.active
        self._bulkhead = bulkhead = guard.bulkhead
        if bulkhead is None or bulkhead.try_acquire(self._place):
            return None
        if not guard.settings.enforces("bulkhead"):
            guard.note("bulkhead", "made wait")
            return None
        line = Acquire(bulkhead, None if limit == INFINITE else limit - now, self._place)
        yield line
        if line.granted:
            self._place.slots = bulkhead  # the line has put it there; a runtime without a line only says so
        guard.note("bulkhead", "made wait" if line.granted else "refused")
        return None if line.granted else self._refused("bulkhead")

    def _refused(self, mechanism: str) -> Outcome:
        self._call.record.add_flag("UO")
        return change_own_response(self._call, replies.refused(mechanism))

    def attempt(
        self, first: Send[R], now: float, taken: Taken, picks: Picks | None, retry: RetryPolicy
    ) -> Generator[Send[R] | Race[R], None, Send[R]]:
        """The attempt, hedged if the policy says so; the one that counts."""
        call, guard, request, clock = self._call, self._guard, self._call.request, self._call.clock.monotonic
        guard.picked(first.endpoint, self._cluster.usable)
        if self._header and self.deadline != INFINITE:
            request.set_deadline(self._header, self.deadline - now)
        wait = guard.hedge_wait(request.method, now)
        winner = first
        if wait is None or not (request.replayable and request.whole):
            yield first
        elif not guard.settings.enforces("hedging"):
            yield first
            if clock() - now > wait:
                guard.note("hedging", "hedged")
        else:
            taken.hedges = Hedges(first, guard, taken.slots, taken.place, picks, retry)
            race = Race(first, wait, taken.hedges)
            yield race
            winner = race.winner
            call.record.endpoint = winner.endpoint.key
        if winner.outcome.failure is None:
            guard.observe(winner.endpoint, clock() - now, clock())
        return winner

    def may_retry(self, now: float) -> bool:
        """Whether the service's budget has a retry left; takes it."""
        return self._guard.may_retry(now)

    def conclude(self, failure: Failure | None, status: int) -> None:
        """The outcome is final."""
        self._status = status if failure is None else 0
        self.success = status < 500 if failure is None else False if failure in LOCAL_ORIGIN else None

    def leave(self) -> None:
        """The call is over, whichever way."""
        if self._bulkhead is not None:
            self._place.give_back(self._bulkhead)
        if self.entered:
            clock = self._call.clock
            seconds = clock.monotonic() - self._call.record.started
            self._guard.leave(self, self.success, clock.time(), seconds, self._crowd, self._status)


def _inherited(guard: Guard, deadline: float, now: float) -> tuple[float, str]:
    """The earlier of the route's deadline and that of the request being served, and the header that tells of it."""
    if guard.settings.deadline is None:
        return deadline, ""
    header, propagate = guard.settings.deadline
    around = deadlines.around()
    if around is not None and around < deadline:
        if not guard.note("deadline", "shortened" if around > now else "refused"):
            return deadline, ""
        deadline = around
    return deadline, header if propagate and guard.settings.enforces("deadline") else ""
