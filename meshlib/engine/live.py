"""The live side of a snapshot: clusters with their mutable state.

``ClusterState`` survives reloads (kept by cluster key; endpoints by address); ``BoundCluster`` ties it to the settings
of one snapshot, so that a request sees one configuration for all its life; ``Live`` is the one reference that a reload
swaps.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from threading import RLock
from typing import TYPE_CHECKING, Any

from meshlib.compiler.snapshot import Cluster, Snapshot, split_authority
from meshlib.policy.balancer import BALANCERS, Balancer, pick_avoiding
from meshlib.policy.circuit_limits import UNLIMITED, Slots
from meshlib.policy.endpoint import EndpointState
from meshlib.policy.outlier import OutlierDetector, usable_endpoints
from meshlib.registry.service import Endpoint

if TYPE_CHECKING:
    from meshlib.engine.call import Call

MAX_PASSTHROUGH_ENDPOINTS = 1000
EVENTS_KEPT = 100


class ClusterState:
    """What is remembered about a cluster: requests in flight, ejections, slots, balancer position.

    The lock is re-entrant because an abandoned response may be finalised by the garbage collector while this very
    thread holds it.
    """

    __slots__ = (
        "active",
        "balancer",
        "balancer_name",
        "detector",
        "endpoints",
        "events",
        "failures",
        "generation",
        "key",
        "lock",
        "requests",
        "retries",
        "retries_active",
        "slots",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.lock = RLock()
        self.endpoints: OrderedDict[str, EndpointState] = OrderedDict()
        self.generation = 0  # grows with each ejection and return, so that bound clusters refresh who is usable
        self.balancer_name = ""
        self.balancer: Balancer
        self.detector: OutlierDetector | None = None
        self.slots: Slots | None = None
        self.active = 0
        self.requests = 0
        self.failures = 0
        self.retries = 0
        self.retries_active = 0
        self.events: deque[Any] = deque(maxlen=EVENTS_KEPT)

    def after_fork(self) -> None:
        """In a forked child: calls in flight, and the slots they hold, are the parent's."""
        self.lock = RLock()
        self.active = self.retries_active = 0
        for endpoint in self.endpoints.values():
            endpoint.active = 0
        if self.slots is not None:
            self.slots = Slots(self.slots.limit, self.slots.pending_limit)

    def endpoint(self, spec: Endpoint) -> EndpointState:
        """The state of an address, made on first sight."""
        found = self.endpoints.get(spec.key)
        if found is None:
            found = self.endpoints[spec.key] = EndpointState(spec.key, spec, spec.weight, spec.healthy)
        else:
            found.endpoint, found.weight, found.healthy = spec, spec.weight, spec.healthy
        return found


class BoundCluster:
    """A cluster as one snapshot configures it, on the state that outlives the snapshot."""

    __slots__ = ("_generation", "endpoints", "single", "spec", "state", "targets", "usable")

    def __init__(self, spec: Cluster, state: ClusterState, now: float) -> None:
        self.spec = spec
        self.state = state
        self.targets: dict[Any, Any] = {}  # the transports' own: how to reach an endpoint from this cluster
        with state.lock:
            self.endpoints: tuple[EndpointState, ...] = tuple(state.endpoint(e) for e in spec.endpoints)
            self._configure(now)
            self._refresh()

    def _configure(self, now: float) -> None:
        spec, state = self.spec, self.state
        if spec.resolution != "passthrough":
            kept = {e.key for e in self.endpoints}
            for key in [k for k in state.endpoints if k not in kept]:
                del state.endpoints[key]
        if state.balancer_name != spec.balancer:
            state.balancer_name = spec.balancer
            state.balancer = BALANCERS.get(spec.balancer, BALANCERS["LEAST_REQUEST"])()
        if spec.outlier is None:
            if state.detector is not None:
                state.detector = None
                for endpoint in self.endpoints:
                    endpoint.ejected = False
                    endpoint.outlier = None
        elif state.detector is None or state.detector.settings != spec.outlier:
            for endpoint in self.endpoints:
                endpoint.ejected = False
                endpoint.outlier = None
            state.detector = OutlierDetector(spec.outlier, list(self.endpoints), now=now)
        else:
            state.detector.update_endpoints(list(self.endpoints))
        limits = spec.limits
        if limits.max_connections >= UNLIMITED:
            state.slots = None
        elif (
            state.slots is None
            or state.slots.limit != limits.max_connections
            or state.slots.pending_limit != limits.http1_max_pending_requests
        ):
            # calls in flight keep (and give back to) the slots they took; new ones count against the new limits
            state.slots = Slots(limits.max_connections, limits.http1_max_pending_requests)
        state.generation += 1

    def _refresh(self) -> None:
        self._generation = self.state.generation
        self.usable = usable_endpoints(self.endpoints, self.spec.panic_percent)

    def pick(self, call: Call, now: float, tried: list[EndpointState] | None) -> EndpointState | None:
        """An endpoint for one attempt, None when no endpoint may be used. ``tried`` are those to avoid if possible."""
        state = self.state
        detector = state.detector
        if detector is not None and now >= detector.next_tick:
            self.catch_up(now)
        if self._generation != state.generation:
            with state.lock:
                self._refresh()
        usable = self.usable
        if not usable:
            return self._dialled(call) if self.spec.resolution == "passthrough" else None
        if len(usable) == 1:
            return usable[0]
        if tried:
            return pick_avoiding(state.balancer, usable, call.rng, tried)
        return state.balancer.pick(usable, call.rng, None)

    def catch_up(self, now: float) -> None:
        """Let outlier detection do what the interval boundaries up to ``now`` ask for."""
        state = self.state
        with state.lock:
            if state.detector is not None:
                self._note(state.detector.tick(now))

    def _dialled(self, call: Call) -> EndpointState:
        """Pass-through: the endpoint is the address that the caller's URL names."""
        host, port = split_authority(call.view.authority)
        port = port or self.spec.port or (443 if call.view.scheme == "https" else 80)
        key = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        state = self.state
        found = state.endpoints.get(key)
        if found is None:
            with state.lock:
                found = state.endpoint(Endpoint(address=host, port=port, labels={}))
                while len(state.endpoints) > MAX_PASSTHROUGH_ENDPOINTS:
                    state.endpoints.popitem(last=False)
        return found

    def begin(self, endpoint: EndpointState) -> None:
        """An attempt starts."""
        state = self.state
        with state.lock:
            state.active += 1
            state.requests += 1
            endpoint.active += 1

    def end(self, endpoint: EndpointState) -> None:
        """Its answer is over, whichever way."""
        state = self.state
        with state.lock:
            state.active -= 1
            endpoint.active -= 1

    def record_status(self, endpoint: EndpointState, status: int, now: float) -> None:
        """Tell outlier detection of an answer."""
        state = self.state
        detector = state.detector
        if detector is not None:
            with state.lock:
                self._note(detector.record_status(endpoint, status, now))

    def record_failure(self, endpoint: EndpointState, kind: str, now: float) -> None:
        """Tell outlier detection that there was none: ``kind`` is "connect", "reset" or "timeout"."""
        state = self.state
        with state.lock:
            state.failures += 1
            if state.detector is not None:
                self._note(state.detector.record_local_failure(endpoint, kind, now))

    def _note(self, events: Any) -> None:
        if not events:
            return
        self.state.events.extend(events if isinstance(events, (list, tuple)) else (events,))
        self.state.generation += 1

    def begin_retry(self) -> bool:
        """Whether one more retry may run beside those under way (connectionPool.http.maxRetries)."""
        state = self.state
        with state.lock:
            if state.retries_active >= self.spec.limits.max_retries:
                return False
            state.retries_active += 1
            state.retries += 1
            return True

    def end_retry(self) -> None:
        with self.state.lock:
            self.state.retries_active -= 1


class Live:
    """A snapshot and its bound clusters. Clusters are bound when first used: a client of a thousand services talks to
    a few."""

    __slots__ = ("_lock", "_now", "bound", "snapshot", "states")

    def __init__(self, snapshot: Snapshot, now: float, previous: Live | None = None) -> None:
        self.snapshot = snapshot
        self._now = now
        self._lock = RLock()
        self.bound: dict[str, BoundCluster] = {}
        self.states: dict[str, ClusterState] = {}
        if previous is not None:
            with previous._lock:
                self.states = {key: s for key, s in previous.states.items() if key in snapshot.clusters}
                same = {k: b for k, b in previous.bound.items() if snapshot.clusters.get(k) is b.spec}
            # clusters that the reload did not touch stay as they are; others in use are bound at once, so that their
            # endpoints and limits count from its first moment
            self.bound.update(same)
            for key in self.states:
                if key not in same:
                    self._bind(key)

    def cluster(self, key: str) -> BoundCluster:
        """The bound cluster; ``key`` is one of the snapshot's."""
        return self.bound.get(key) or self._bind(key)

    def after_fork(self) -> None:
        """In a forked child: forget what belongs to the parent's threads, keep what was learnt (ejections, balancers)."""
        self._lock = RLock()
        for state in self.states.values():
            state.after_fork()

    def _bind(self, key: str) -> BoundCluster:
        with self._lock:
            found = self.bound.get(key)
            if found is None:
                state = self.states.get(key)
                if state is None:
                    state = self.states[key] = ClusterState(key)
                found = self.bound[key] = BoundCluster(self.snapshot.clusters[key], state, self._now)
            return found


def seeded(seed: int | None) -> random.Random:
    """The mesh's random numbers: all of them replay from ``seed``."""
    return random.Random(seed)
