"""The tries of one hedged attempt: the first, and those that join while it runs. Keeps the books, so that each try gives
back its slot and its place among the endpoint's active requests exactly once, whoever wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.effects import Send
from meshlib.engine.explanation import Attempt
from meshlib.engine.outcome import Outcome
from meshlib.policy.circuit_limits import Place

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.guard import Guard
    from meshlib.policy.circuit_limits import Slots


class Hedges:
    """``Race.tries``: what a driver asks for more tries and tells of those that lost. The exchange hands the first try in
    and takes the winner out."""

    def __init__(
        self, first: Send, call: Call, cluster: BoundCluster, guard: Guard, slots: Slots | None, place: Place | None
    ) -> None:
        self._first = first
        self._call = call
        self._cluster = cluster
        self._guard = guard
        self._slots = slots
        self._open: dict[Send, Place | None] = {first: place}
        first.held, call.held = call.held, None
        hedging = guard.settings.hedging
        assert hedging is not None
        self._left = hedging.max_hedges

    def another(self) -> Send | None:
        """One more try, on another endpoint if there is one; None when there is none to be had."""
        if self._left <= 0 or not self._open:
            return None
        self._left -= 1
        cluster, call, first = self._cluster, self._call, self._first
        now = call.clock.monotonic()
        used = [send.endpoint for send in self._open]
        endpoint = cluster.pick(call, now, used)
        for _ in range(5):
            if endpoint not in used:
                break
            endpoint = cluster.pick(call, now, used)
        if endpoint is None or cluster.state.active >= cluster.spec.limits.http2_max_requests:
            return None
        send = Send(call, cluster, endpoint, first.timeout, first.deadline, first.attempt)
        slots = self._slots
        place = self._open[send] = None if slots is None else Place()
        if slots is not None and not slots.try_acquire(place):
            del self._open[send]
            return None
        cluster.begin(endpoint, send)
        self._guard.note("hedging", "hedged")
        return send

    @staticmethod
    def wins(outcome: Outcome) -> bool:
        """Whether an answer ends the race: it is one, and no error of the server."""
        return outcome.failure is None and outcome.judged < 500

    def lost(self, send: Send) -> None:
        """A try that was cancelled, or whose answer is not wanted."""
        if send not in self._open:
            return
        self._cluster.end(send)
        place = self._open[send]
        if place is not None and self._slots is not None:
            place.give_back(self._slots)
        if self._open.pop(send, self) is self:  # two were told at once
            return
        self._call.record.attempts.append(Attempt(send.endpoint.key, 0, "lost to a hedge", 0.0))

    def take(self, send: Send) -> Place | None:
        """The winner: the call holds its endpoint, and goes on with its place; ``taken`` must follow."""
        self._call.held, send.held = send.held, None
        return self._open[send]

    def taken(self, send: Send) -> None:
        """The winner leaves the books."""
        del self._open[send]

    def close(self) -> None:
        """Whatever is still in the books is given back (the call was cancelled)."""
        for send in list(self._open):
            self.lost(send)
