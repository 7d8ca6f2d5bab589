"""The tries of one hedged attempt: the first, and those that join while it runs. Keeps the books, so that each try gives
back its slot and its place among the endpoint's active requests exactly once, whoever wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from meshlib.engine.effects import Send
from meshlib.engine.explanation import Attempt
from meshlib.engine.message import R
from meshlib.engine.outcome import Outcome
from meshlib.engine.tally import result_of
from meshlib.policy.circuit_limits import Place

if TYPE_CHECKING:
    from meshlib.engine.guard import Guard
    from meshlib.engine.picks import Picks
    from meshlib.policy.circuit_limits import Slots
    from meshlib.policy.retry import RetryPolicy


class Hedges(Generic[R]):
    """``Race.tries``: what a driver asks for more tries and tells of those that lost. The exchange hands the first try in
    and takes the winner out."""

    def __init__(
        self,
        first: Send[R],
        guard: Guard,
        slots: Slots | None,
        place: Place,
        picks: Picks | None,
        retry: RetryPolicy,
    ) -> None:
        self._first = first
        self._guard = guard
        self._slots = slots
        self._picks = picks
        self._retry = retry
        self._open: dict[Send, Place | None] = {first: None if slots is None else place}
        hedging = guard.settings.hedging
        assert hedging is not None
        self._left = hedging.max_hedges

    def another(self) -> Send[R] | None:
        """One more try, on another endpoint if there is one; None when there is none to be had."""
        if self._left <= 0 or not self._open:
            return None
        self._left -= 1
        first = self._first
        cluster, call = first.cluster, first.call
        now = call.clock.monotonic()
        used = [send.endpoint for send in self._open]
        endpoint = cluster.pick(call.rng, now, self._picks, used, self._retry)
        for _ in range(5):
            if endpoint not in used:
                break
            endpoint = cluster.pick(call.rng, now, self._picks, used, self._retry)
        if endpoint is None or cluster.state.active >= cluster.max_requests:
            return None
        send = Send(call, cluster, endpoint, first.timeout, first.deadline, first.attempt)
        slots = self._slots
        place = self._open[send] = None if slots is None else Place()
        if slots is not None and not slots.try_acquire(place):
            del self._open[send]
            return None
        cluster.begin(send)
        self._guard.note("hedging", "hedged")
        return send

    @staticmethod
    def wins(outcome: Outcome) -> bool:
        """Whether a response ends the race: it is one, and no error of the server."""
        return outcome.failure is None and outcome.health_status < 500

    def lost(self, send: Send) -> None:
        """A try that was cancelled, or whose response is not wanted."""
        if send not in self._open:
            return
        if send.under_way:
            send.cluster.state.tally.note(result_of(getattr(send, "outcome", None)))
        send.cluster.end(send)
        place = self._open[send]
        if place is not None and self._slots is not None:
            place.give_back(self._slots)
        if self._open.pop(send, self) is self:  # two were told at once
            return
        send.call.record.attempts.append(Attempt(send.endpoint.key, 0, "lost to a hedge", 0.0))

    def place_of(self, winner: Send) -> Place | None:
        """The slot that the call goes on with; ``taken`` must follow."""
        return self._open[winner]

    def taken(self, winner: Send) -> None:
        """The winner leaves the books."""
        del self._open[winner]

    def close(self) -> None:
        """Whatever is still in the books is given back (the call was cancelled)."""
        for send in list(self._open):
            self.lost(send)
