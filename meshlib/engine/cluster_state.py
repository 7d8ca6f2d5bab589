"""What is remembered about a cluster across reloads: ``ClusterState``, by cluster key; its endpoints by address."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import compress
from threading import RLock
from typing import TYPE_CHECKING

from meshlib.changes import differing
from meshlib.engine.tally import ABANDONED, Tally
from meshlib.policy.circuit_limits import Slots
from meshlib.policy.endpoint import EndpointState

if TYPE_CHECKING:
    from meshlib.policy.balancer import Balancer
    from meshlib.policy.outlier import Ejection, OutlierDetector
    from meshlib.policy.slow_start import SlowStart
    from meshlib.registry.service import Endpoint

EVENTS_KEPT = 100
FAR = float("inf")


class ClusterState:
    """What is remembered about a cluster: requests in flight, ejections, slots, balancer position, resolved names.
    ``on_ejection`` is called for each ejection and return.

    The lock is re-entrant because an abandoned response may be finalised by the garbage collector while this very
    thread holds it.
    """

    __slots__ = (
        "addresses",
        "balancer",
        "balancer_name",
        "balancers",
        "detector",
        "ended",
        "endpoints",
        "events",
        "failures",
        "generation",
        "hashed",
        "key",
        "lock",
        "next_tick",
        "on_ejection",
        "requests",
        "retries",
        "retries_active",
        "slots",
        "slow_start",
        "taken",
        "tally",
    )

    def __init__(self, key: str, on_ejection: Callable[[str, Ejection], None] | None = None) -> None:
        self.key = key
        self.on_ejection = on_ejection
        self.lock = RLock()
        self.endpoints: OrderedDict[str, EndpointState] = OrderedDict()
        self.generation = 0  # grows with each ejection and return, so that bound clusters refresh who is usable
        self.hashed = False  # whether a call has needed a table of consistent hashing
        self.balancer_name = ""
        self.balancer: Balancer
        self.balancers: dict[tuple[int, int], Balancer] = {}  # by priority and group, where there are several
        self.detector: OutlierDetector | None = None
        self.next_tick = FAR  # of the detector: it looks at nothing before
        self.slots: Slots | None = None
        self.slow_start: SlowStart | None = None  # of the newest configuration, by which endpoints weigh less
        self.taken: tuple[Sequence[Endpoint], tuple[EndpointState, ...]] | None = None
        """What ``take`` was given last, and what it gave."""
        self.addresses: dict[str, tuple[str, ...]] = {}  # of endpoints that are names: what they were resolved to last
        self.requests = 0
        self.ended = 0
        self.failures = 0
        self.retries = 0
        self.retries_active = 0
        self.events: deque[Ejection] = deque(maxlen=EVENTS_KEPT)
        self.tally = Tally()

    @property
    def active(self) -> int:
        """Requests in flight."""
        return self.requests - self.ended

    def after_fork(self) -> None:
        """In a forked child: calls in flight, and the slots they hold, are the parent's."""
        self.lock = RLock()
        self.tally.results[ABANDONED] += self.active
        self.ended = self.requests
        self.retries_active = 0
        for endpoint in self.endpoints.values():
            endpoint.active = 0
        if self.slots is not None:
            self.slots = Slots(self.slots.limit, self.slots.pending_limit)

    def endpoint(self, spec: Endpoint, now: float) -> EndpointState:
        """The state of an address, made on first sight."""
        found = self.endpoints.get(spec.key)
        if found is None:
            found = self.endpoints[spec.key] = EndpointState(spec.key, spec, spec.weight, spec.healthy)
            found.since = now
        else:
            found.endpoint, found.weight, found.healthy = spec, spec.weight, spec.healthy
        return found

    def take(self, specs: Sequence[Endpoint], now: float) -> tuple[tuple[EndpointState, ...], bool]:
        """The states of these endpoints, the only ones from now on; and whether one that stays may have become another. What
        is the same object as the last time costs next to nothing, and is looked at without the lock. One thread at a time."""
        known = self.taken
        before, states = known if known is not None else ((), ())
        gone, come = differing(before, specs) if known is not None else ((), ())
        if known is not None and not gone and not come:
            return states, False
        with self.lock:
            if known is None or len(self.endpoints) != len(states):  # an address is there twice
                return self._take_all(specs, now)
            there = [self.endpoints.get(specs[position].key) for position in come]
            was = [None if found is None else (found.weight, found.healthy) for found in there]
            new = [self.endpoint(specs[position], now) for position in come]
            for key in {before[position].key for position in gone}.difference(state.key for state in new):
                del self.endpoints[key]
            if len(self.endpoints) != len(specs):
                return self._take_all(specs, now)
        made = tuple(_replaced(states, gone, come, new))
        self.taken = specs, made
        other = any(old is not None and old != (e.weight, e.healthy) for old, e in zip(was, new, strict=True))
        return made, other

    def _take_all(self, specs: Sequence[Endpoint], now: float) -> tuple[tuple[EndpointState, ...], bool]:
        made = tuple([self.endpoint(spec, now) for spec in specs])
        self.keep(made)
        self.taken = specs, made
        return made, True

    def keep(self, members: Sequence[EndpointState]) -> None:
        """Forget the endpoints that are not among these."""
        kept = {e.key for e in members}
        for key in [k for k in self.endpoints if k not in kept]:
            del self.endpoints[key]

    def observe_health(
        self, endpoint: EndpointState, *, reachable: bool | None = None, serving: bool | None = None
    ) -> None:
        """What connections and health services tell of an endpoint; None: nothing. Told to the state, which outlives the
        clusters that reloads bind to it."""
        with self.lock:
            before = endpoint.reachable, endpoint.serving
            if reachable is not None:
                endpoint.reachable = reachable
            if serving is not None:
                endpoint.serving = serving
            if before != (endpoint.reachable, endpoint.serving):
                self.generation += 1


def _replaced(
    states: Sequence[EndpointState], gone: Sequence[int], come: Sequence[int], new: Sequence[EndpointState]
) -> list[EndpointState]:
    """``states`` without those at the positions ``gone``, and with ``new`` at the positions ``come`` of what is given."""
    marks = bytearray(b"\1") * len(states)
    for position in gone:
        marks[position] = 0
    staying = list(compress(states, marks))
    made: list[EndpointState] = []
    taken = 0
    for position, state in zip(come, new, strict=True):
        first = position - len(made)
        made += staying[taken : taken + first]
        made.append(state)
        taken += first
    return made + staying[taken:]
