"""What a call has taken beside its place among an endpoint's active requests: given back exactly once, whatever happens."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol

from meshlib.engine import replies
from meshlib.engine.actions import change_own_response
from meshlib.engine.before_sending import no_place
from meshlib.engine.effects import Acquire
from meshlib.engine.tally import PENDING
from meshlib.policy.circuit_limits import Place

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.effects import Send
    from meshlib.engine.hedges import Hedges
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.circuit_limits import Slots

INFINITE = float("inf")


class Guarding(Protocol):
    """The call's place in its service's guard."""

    def may_retry(self, now: float) -> bool: ...
    def leave(self) -> None: ...


class Taken:
    """A connection slot, a retry under way, hedges, a place in the service's guard. Most calls take none of these.

    Each changes in one step with its count, so that an interrupt never leaves anything that nobody knows to be his.
    """

    __slots__ = ("_cluster", "_guarded", "hedges", "place", "retrying", "slots")

    def __init__(self, cluster: BoundCluster, slots: Slots | None, guarded: Guarding | None) -> None:
        self._cluster = cluster
        self.slots = slots
        self._guarded = guarded
        self.place = Place()
        self.hedges: Hedges | None = None
        self.retrying = False

    # -- a connection slot --------------------------------------------------------------------------------------------

    def lacks_slot(self) -> bool:
        """Whether it needs one, has none, and none is free (one that is, it has then)."""
        slots, place = self.slots, self.place
        return slots is not None and place.slots is None and not slots.try_acquire(place)

    def slot(self, call: Call, deadline: float, caller_deadline: float) -> Generator[Acquire, None, Outcome | None]:
        """Wait for one. The response when there is none to be had."""
        slots, place, clock, pool = self.slots, self.place, call.clock.monotonic, call.timeouts.pool
        assert slots is not None
        patience = min(min(deadline, caller_deadline) - clock(), INFINITE if pool is None else pool)
        effect = Acquire(slots, None if patience == INFINITE else patience, place)
        yield effect
        if effect.granted is None:
            call.record.add_flag("UO")
            self._cluster.state.tally.overflows[PENDING] += 1
            return change_own_response(call, replies.overflow())
        place.slots = slots if effect.granted else None
        return None if effect.granted else no_place(call, clock(), deadline, caller_deadline)

    def leave_slot(self) -> None:
        """Give the slot back: a retry stands in line anew."""
        if self.slots is not None:
            self.place.give_back(self.slots)

    # -- retries and hedges -------------------------------------------------------------------------------------------

    def retry(self, now: float) -> bool:
        """Whether the budgets have one left; takes it."""
        if self.retrying:
            self._cluster.end_retry(self)
        if self._guarded is not None and not self._guarded.may_retry(now):
            return False
        return self._cluster.begin_retry(self)

    def settle(self, winner: Send) -> None:
        """The race of an attempt is over: the call goes on with the winner's slot."""
        if self.hedges is not None:
            place = self.hedges.place_of(winner)
            if place is not None:
                self.place = place
            self.hedges.taken(winner)
            self.hedges = None

    def give_back(self) -> None:
        """Whatever there is (still)."""
        if self.hedges is not None:
            self.hedges.close()
        if self.slots is not None:
            self.place.give_back(self.slots)
        if self.retrying:
            self._cluster.end_retry(self)
        if self._guarded is not None:
            self._guarded.leave()
