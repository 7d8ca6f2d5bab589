"""Load balancers (DestinationRule ``loadBalancer.simple``, and those of ResiliencePolicy). To add one: write a class with
``pick``, name it in ``BALANCERS``; ``simple`` takes that name then.

``pick`` runs on many threads without a lock. Its state may be torn by a race: that skews one choice and nothing else, so
every index is taken modulo the length of the sequence at hand.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from math import floor
from typing import Protocol, TypeAlias, TypeVar

from meshlib.policy.endpoint import EndpointState

REPICKS = 5
"""How often a retry picks again to avoid an endpoint it has tried (Istio's hostSelectionRetryMaxAttempts)."""


Draw: TypeAlias = Callable[[random.Random], EndpointState]


class Balancer(Protocol):
    """One cluster's way to choose. ``usable`` is never empty; ``even``: whether all of them weigh the same, which the caller
    knows and a pick would have to find out (``equal_weights``)."""

    def pick(self, usable: Sequence[EndpointState], rng: random.Random, even: bool) -> EndpointState: ...


class RoundRobin:
    """In turn, from a random start; with unequal weights in earliest-deadline-first order, as Envoy schedules."""

    __slots__ = ("_next", "_schedule")

    def __init__(self) -> None:
        self._next = -1
        self._schedule = _Schedule(lambda endpoint: float(endpoint.weight))

    def pick(self, usable: Sequence[EndpointState], rng: random.Random, even: bool) -> EndpointState:
        if not even:
            return self._schedule.pick(usable, rng)
        turn = self._next + 1 if self._next >= 0 else floor(rng.random() * len(usable))
        self._next = turn
        return usable[turn % len(usable)]


class LeastRequest:
    """The less busy of two random endpoints (power of two choices; a tie goes to the first drawn). With unequal weights,
    earliest deadline first on weight / (active + 1)."""

    __slots__ = ("_schedule",)

    def __init__(self) -> None:
        self._schedule = _Schedule(lambda endpoint: endpoint.weight / (endpoint.active + 1))

    def pick(self, usable: Sequence[EndpointState], rng: random.Random, even: bool) -> EndpointState:
        if not even:
            return self._schedule.pick(usable, rng)
        first = usable[floor(rng.random() * len(usable))]
        second = usable[floor(rng.random() * len(usable))]
        return second if second.active < first.active else first

    def among(self, usable: Sequence[EndpointState]) -> Draw:
        """``pick`` for those, which weigh the same: made once for many calls, of which each has half as many instructions."""
        count = float(len(usable))  # a product of two floats takes CPython 3.11 a fifth of one with an integer

        def draw(rng: random.Random) -> EndpointState:
            first = usable[floor(rng.random() * count)]  # ``int`` is a class: five times as many instructions
            second = usable[floor(rng.random() * count)]
            return second if second.active < first.active else first

        return draw


def draw_of(balancer: Balancer, usable: Sequence[EndpointState], even: bool) -> Draw | None:
    """``balancer.pick`` for those, where it comes to a draw; None: there is more to it."""
    if len(usable) == 1:
        only = usable[0]
        return lambda rng: only
    return balancer.among(usable) if even and usable and type(balancer) is LeastRequest else None


class Random:
    """One of all, with equal chance; in proportion to weights when they differ."""

    __slots__ = ()

    def pick(self, usable: Sequence[EndpointState], rng: random.Random, even: bool) -> EndpointState:
        if even:
            return usable[floor(rng.random() * len(usable))]
        at = rng.random() * sum(endpoint.weight for endpoint in usable)
        for endpoint in usable:
            at -= endpoint.weight
            if at < 0:
                return endpoint
        return usable[-1]


class PeakEwma:
    """The better of two random endpoints by latency times requests under way (ResiliencePolicy ``loadBalancer.peakEwma``,
    as Finagle has it). A slow response counts at once; it is forgotten along ``decay`` seconds. An endpoint that nothing is
    known of is tried when it is idle."""

    __slots__ = ()
    UNKNOWN = 1e6

    def pick(self, usable: Sequence[EndpointState], rng: random.Random, even: bool) -> EndpointState:
        count = len(usable)
        first = usable[floor(rng.random() * count)]
        second = usable[floor(rng.random() * count)]
        if first is second:
            second = usable[(usable.index(first) + 1) % count]
        return second if self.cost(second) < self.cost(first) else first

    def cost(self, endpoint: EndpointState) -> float:
        """What one more request there costs."""
        latency = endpoint.latency
        if latency is None:
            return self.UNKNOWN if endpoint.active else 0.0
        return float(latency[0] * (endpoint.active + 1))


def observe_latency(endpoint: EndpointState, seconds: float, now: float, decay: float) -> None:
    """A response took ``seconds``: higher than the average it replaces it, lower it pulls it down with time."""
    latency = endpoint.latency
    if latency is None or seconds >= latency[0]:
        endpoint.latency = (seconds, now)
        return
    kept = math.exp(-max(0.0, now - latency[1]) / decay)
    endpoint.latency = (latency[0] * kept + seconds * (1.0 - kept), now)


BALANCERS: dict[str, Callable[[], Balancer]] = {
    "ROUND_ROBIN": RoundRobin,
    "LEAST_REQUEST": LeastRequest,
    "RANDOM": Random,
    "PEAK_EWMA": PeakEwma,
}
"""By the names that clusters have for them. Read whenever a cluster comes into use, so it may be added to."""
NOT_SIMPLE = frozenset(("PEAK_EWMA",))
"""Those that no ``simple`` names, because ResiliencePolicy asks for them."""


class _NotAsked:
    """Of a cluster in which the call itself says which endpoint it is for."""

    __slots__ = ()

    def pick(self, usable: Sequence[EndpointState], rng: random.Random, even: bool) -> EndpointState:
        raise AssertionError("a call that says where it goes is not balanced")


_NOT_BALANCED = frozenset(("PASSTHROUGH", "RING_HASH", "MAGLEV"))


def new_balancer(name: str) -> Balancer:
    """The balancer that a cluster asks for, at its beginning. Raises ``LookupError`` for a name that was not added."""
    if name in _NOT_BALANCED:
        return _NotAsked()
    found = BALANCERS.get(name)
    if found is None:
        raise LookupError(f"no balancer is called {name!r}; there are {', '.join(sorted(BALANCERS))}")
    return found()


Picked = TypeVar("Picked")


def pick_avoiding(pick: Callable[[], Picked], avoid: Sequence[EndpointState], repicks: int = REPICKS) -> Picked:
    """A pick that is not in ``avoid`` if one of ``repicks`` further picks finds one; else the last pick, as Envoy does."""
    picked = pick()
    while picked in avoid and repicks > 0:
        repicks -= 1
        picked = pick()
    return picked


def equal_weights(usable: Sequence[EndpointState]) -> bool:
    """Whether all weigh the same; so do none at all."""
    return all(endpoint.weight == usable[0].weight for endpoint in usable)


class _Schedule:
    """Earliest deadline first: each endpoint comes due again 1/weight after it was picked."""

    __slots__ = ("_heap", "_members", "_now", "_order", "_weight")

    def __init__(self, weight: Callable[[EndpointState], float]) -> None:
        self._weight = weight
        self._members: tuple[EndpointState, ...] = ()
        self._heap: list[tuple[float, int, EndpointState]] = []
        self._now = 0.0
        self._order = 0

    def pick(self, usable: Sequence[EndpointState], rng: random.Random) -> EndpointState:
        members = tuple(usable)
        if members is not self._members and members != self._members:
            self._build(members, rng)
        try:
            due, _, endpoint = heapq.heappop(self._heap)
        except IndexError:  # another thread holds the last entry
            return members[floor(rng.random() * len(members))]
        self._now = due
        self._order += 1
        heapq.heappush(self._heap, (due + 1.0 / max(self._weight(endpoint), 1e-9), self._order, endpoint))
        return endpoint

    def _build(self, members: tuple[EndpointState, ...], rng: random.Random) -> None:
        heap = []
        for endpoint in members:
            self._order += 1
            # a random phase, so that many clients do not all begin with the heaviest endpoint
            heap.append((rng.random() / max(self._weight(endpoint), 1e-9), self._order, endpoint))
        heapq.heapify(heap)
        self._heap = heap
        self._members = members
