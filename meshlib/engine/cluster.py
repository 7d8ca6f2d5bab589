"""A cluster at work: ``BoundCluster`` ties what is remembered (``cluster_state.py``) to the settings of one snapshot, so that a
request sees one configuration for all its life."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Protocol

from meshlib.compiler.routes import Cluster
from meshlib.engine.cluster_state import FAR, ClusterState
from meshlib.engine.tally import RESULT_OF_KIND, RETRIES, SERVER_ERROR
from meshlib.policy.balancer import REPICKS, Balancer, draw_of, equal_weights, new_balancer, pick_avoiding
from meshlib.policy.circuit_limits import UNLIMITED, Slots
from meshlib.policy.endpoint import EndpointState
from meshlib.policy.outlier import Ejection, OutlierDetector, usable_endpoints
from meshlib.policy.retry import NO_RETRY
from meshlib.policy.tiers import Tier, build, choose, leaving_out
from meshlib.registry.service import Endpoint

if TYPE_CHECKING:
    import random

    from meshlib.engine.guard import Guard
    from meshlib.engine.picks import Picks
    from meshlib.policy.balancer import Draw
    from meshlib.policy.consistent_hash import HashPolicy, Table
    from meshlib.policy.http_match import RequestView
    from meshlib.policy.retry import RetryPolicy

MAX_PASSTHROUGH_ENDPOINTS = 1000


def endpoint_of(key: Hashable) -> Hashable:
    """The endpoint of a key of ``targets``, which it is or begins with; a key may be a part of another one."""
    while isinstance(key, tuple):
        key = key[0]
    return key


class Attempt(Protocol):
    """Who counts among an endpoint's requests under way. ``under_way`` changes in one step with the counts."""

    under_way: bool

    @property
    def endpoint(self) -> EndpointState: ...


class Retrying(Protocol):
    """Who counts among a cluster's retries under way."""

    retrying: bool


class BoundCluster:
    """A cluster as one snapshot configures it, on the state that outlives the snapshot."""

    __slots__ = (
        "__weakref__",
        "_balancer",
        "_balancers",
        "_even",
        "_placed",
        "_special",
        "_table",
        "_tiers",
        "_warming",
        "draw",
        "endpoints",
        "generation",
        "guard",
        "max_requests",
        "mutual",
        "places",
        "plain",
        "remembers_picks",
        "retired",
        "spec",
        "state",
        "straight",
        "targets",
        "tls",
        "usable",
    )

    def __init__(self, spec: Cluster, state: ClusterState, now: float, guard: Guard | None = None) -> None:
        self.spec = spec
        self.tls = spec.tls if spec.tls is not None else spec.auto_mtls  # the latter for endpoints in ``mutual``
        self.mutual = spec.mutual
        self.state = state
        self.guard = guard  # of the whole service, shared by its subsets and ports
        self.max_requests = spec.limits.http2_max_requests
        self.remembers_picks = spec.hash_policy is not None or spec.resolution == "passthrough"
        # an endpoint is its own key among the ``targets`` of requests in plain text
        self.straight = self.tls is None and not spec.proxy_protocol and not spec.as_client
        self.plain = guard is None and not spec.refusal and not self.remembers_picks
        self.targets: dict[Hashable, object] = {}  # the transports' own: how to reach an endpoint from this cluster
        self.retired = False  # a reload has put another one in its place: only calls under way use it
        self.configure(now)

    def configure(self, now: float) -> None:
        """Take the endpoints and settings of the snapshot (and of the resolver) into use."""
        spec, state = self.spec, self.state
        self.endpoints: tuple[EndpointState, ...]
        if spec.placement is None and spec.slow_start is None and spec.resolution not in ("dns", "passthrough"):
            self.endpoints, other = state.take(spec.endpoints, now)
            self.places: dict[EndpointState, tuple[int, int]] = {}  # here, as another snapshot has others
        else:
            self.endpoints, other = self._take_placed(now), True
        with state.lock:
            state.slow_start = spec.slow_start
            if spec.mutual and spec.resolution == "dns":
                self.mutual = spec.mutual | self._mutual_addresses()
            if state.balancer_name != spec.balancer:
                state.balancer_name = spec.balancer
                state.balancer = new_balancer(spec.balancer)
                state.balancers = {}
            self._balancer, self._balancers = state.balancer, state.balancers  # another snapshot may want others
            other = self._configure_outlier_detection(now) or other
            self._configure_slots()
            if other:  # clusters bound before, which calls under way use, look again
                state.generation += 1
        # without the lock, which calls may wait for: the next pick looks again if anything happens meanwhile
        if self._refresh(now):
            with state.lock:  # whom to avoid may be decided otherwise now
                state.generation += 1
                self.generation += 1
        if state.hashed and spec.hash_policy is not None:  # here, as it takes long, and not in the call that needs it
            for tier in self._tiers if self._tiers is not None else (None,):
                self._table_of(tier)

    def _take_placed(self, now: float) -> tuple[EndpointState, ...]:
        """The states of endpoints that are not just addresses of one place and full weight."""
        state, members, places = self.state, [], {}
        with state.lock:
            for endpoint, place in self._members():
                member = state.endpoint(endpoint, now)
                places[member] = place
                members.append(member)
            if self.spec.resolution != "passthrough":
                state.keep(members)
            state.taken, self.places = None, places
        return tuple(members)

    def _members(self) -> Iterator[tuple[Endpoint, tuple[int, int]]]:
        """Endpoints with priority and group; a name stands for the addresses it was resolved to."""
        spec, placement, addresses = self.spec, self.spec.placement, self.state.addresses
        for position, endpoint in enumerate(spec.endpoints):
            place = placement.of(position) if placement is not None else (0, 0)
            resolved = addresses.get(endpoint.address) if spec.resolution == "dns" else None
            if not resolved:
                yield endpoint, place
            else:
                for address in resolved:
                    yield replace(endpoint, address=address, key=""), place

    def _mutual_addresses(self) -> frozenset[str]:
        """Keys of what the names among the endpoints in ``mutual`` were resolved to."""
        addresses = self.state.addresses
        return frozenset(
            replace(endpoint, address=address, key="").key
            for endpoint in self.spec.endpoints
            if endpoint.key in self.spec.mutual
            for address in addresses.get(endpoint.address, ())
        )

    def _configure_outlier_detection(self, now: float) -> bool:
        """Whether it begins anew, or is off."""
        spec, state = self.spec, self.state
        before = state.detector
        if spec.outlier is None:
            if state.detector is not None:
                state.detector = None
                for endpoint in self.endpoints:
                    endpoint.ejected = False
                    endpoint.forget_results()
        elif state.detector is None or state.detector.settings != spec.outlier:
            for endpoint in self.endpoints:
                endpoint.ejected = False
                endpoint.forget_results()
            state.detector = OutlierDetector(spec.outlier, list(self.endpoints), now=now)
        else:
            state.detector.update_endpoints(list(self.endpoints))
        state.next_tick = FAR if state.detector is None else state.detector.next_tick
        return state.detector is not before

    def _configure_slots(self) -> None:
        state, limits = self.state, self.spec.limits
        if limits.max_connections >= UNLIMITED or self.spec.http2:
            state.slots = None
        elif (
            state.slots is None
            or state.slots.limit != limits.max_connections
            or state.slots.pending_limit != limits.http1_max_pending_requests
        ):
            # calls in flight keep (and give back to) the slots they took; new ones count against the new limits
            state.slots = Slots(limits.max_connections, limits.http1_max_pending_requests)

    # -- who is usable ----------------------------------------------------------------------------------------------

    def _refresh(self, now: float) -> bool:
        """Looks who is usable; whether any is known to be unreachable."""
        spec, state = self.spec, self.state
        self.generation = state.generation
        unreachable = [e for e in self.endpoints if not e.reachable]
        for endpoint in [e for e in self.endpoints if e.avoided]:
            endpoint.avoided = False
        if unreachable and any(e.usable and e.reachable for e in self.endpoints):
            # known to be down: not worth an attempt as long as others are up; when all are, each may be tried
            for endpoint in unreachable:
                endpoint.avoided = True
        self.usable = usable_endpoints(self.endpoints, spec.panic_percent)
        self._even = equal_weights(self.usable)
        self._table: Table | None = None
        self._tiers: list[Tier] | None = None
        if spec.placement is not None and self.endpoints:
            weights = spec.placement.weights
            self._tiers = build(self.endpoints, self.places, weights, spec.panic_percent, self._balancer_of)
        self._placed = self._tiers is not None or spec.hash_policy is not None
        warmth = spec.slow_start if spec.slow_start == state.slow_start else None  # else others weigh them
        self._warming: list[EndpointState] = []
        if warmth is not None:
            self._warming = [
                e for e in self.endpoints if now - e.since < warmth.window or e.weight != e.endpoint.weight
            ]
            self._warm(now)
        self._special = self._placed or bool(self._warming)
        # a pick, as nearly all are; None: there is more to it. One object: no half of it is seen
        self.draw: Draw | None = None if self._special else draw_of(self._balancer, self.usable, self._even)
        return bool(unreachable)

    def _balancer_of(self, priority: int, group: int) -> Balancer:
        found = self._balancers.get((priority, group))
        if found is None:
            found = self._balancers[priority, group] = new_balancer(self.spec.balancer)
        return found

    def _warm(self, now: float) -> None:
        """New endpoints weigh little at first (warmup)."""
        warmth = self.spec.slow_start
        assert warmth is not None
        for endpoint in self._warming:
            endpoint.weight = endpoint.endpoint.weight * warmth.factor(now - endpoint.since)
        self._warming = [e for e in self._warming if now - e.since < warmth.window]
        self._even = equal_weights(self.usable)
        for tier in self._tiers or ():
            for group in tier.groups:
                group.even = equal_weights(group.usable)

    # -- picking ----------------------------------------------------------------------------------------------------

    def pick(
        self,
        rng: random.Random,
        now: float,
        picks: Picks | None = None,
        tried: Sequence[EndpointState] = (),
        retry: RetryPolicy = NO_RETRY,
    ) -> EndpointState | None:
        """An endpoint for one attempt, None when no endpoint may be used. ``picks``: the call's, where ``remembers_picks``.
        ``tried`` are the endpoints of earlier attempts, to avoid or to leave the priorities of if ``retry`` says so."""
        state = self.state
        if now >= state.next_tick:
            self.catch_up(now)
        if self.generation != state.generation:
            with state.lock:
                self._refresh(now)
        draw = self.draw
        if draw is not None and not tried:
            return draw(rng)
        return self._pick(rng, now, picks, tried, retry)

    def _pick(
        self, rng: random.Random, now: float, picks: Picks | None, tried: Sequence[EndpointState], retry: RetryPolicy
    ) -> EndpointState | None:
        """The pick that is not just a draw."""
        if self._special:
            if self._warming:
                self._warm(now)
            if self._placed:
                return self._pick_placed(rng, picks, tried, retry)
        usable = self.usable
        if len(usable) == 1:
            return usable[0]
        if not usable:
            return self._dialled(picks, rng) if picks is not None else None
        if tried and retry.ignore_previous_hosts:
            return pick_avoiding(partial(self._balancer.pick, usable, rng, self._even), tried)
        return self._balancer.pick(usable, rng, self._even)

    def _pick_placed(
        self, rng: random.Random, picks: Picks | None, tried: Sequence[EndpointState], retry: RetryPolicy
    ) -> EndpointState | None:
        """The pick of a cluster with several priorities or localities, or with consistent hashing."""
        tiers = self._tiers
        value = picks.hash(rng) if picks is not None and self.spec.hash_policy is not None else None
        if not tried:
            return self._pick_of(tiers, rng) if value is None else self._hashed(tiers, value)
        if tiers is not None and retry.remote_localities:
            tiers = list(leaving_out(tiers, tried, self.places))
        avoid, numbers, chosen = tried if retry.ignore_previous_hosts else (), count(), tiers
        if value is None:
            return pick_avoiding(lambda: self._pick_of(chosen, rng), avoid, REPICKS)
        key = value
        return pick_avoiding(lambda: self._hashed(chosen, key, next(numbers)), avoid, REPICKS)

    def _pick_of(self, tiers: list[Tier] | None, rng: random.Random) -> EndpointState | None:
        """By random numbers."""
        assert tiers is not None
        tier = choose(tiers, int(rng.random() * 100))
        if tier is None:
            return None
        group = tier.group(rng)
        if group is None:
            return None
        balancer: Balancer = group.balancer
        return balancer.pick(group.usable, rng, group.even)

    def hashed_to(self, policies: Sequence[HashPolicy], view: RequestView, source: str) -> EndpointState | None:
        """For explain: the endpoint that a request's key leads to now; None without a key, or without hashing."""
        if self.spec.hash_policy is None:
            return None
        from meshlib.policy.consistent_hash import combined

        value = None
        for policy in policies:
            found = policy.request_hash(view, source)
            value = value if found is None else combined(value, found)
        return None if value is None else self._hashed(self._tiers, value)

    def _hashed(self, tiers: list[Tier] | None, value: int, attempt: int = 0) -> EndpointState | None:
        """Where a hash leads; ``attempt`` further on in the table."""
        tier = None
        if tiers is not None:
            tier = choose(tiers, value % 100)
            if tier is None:
                return None
        table = self._table if tier is None else tier.table
        if table is None:
            table = self._table_of(tier)
        return None if table is None else table.find(value, attempt)

    def _table_of(self, tier: Tier | None) -> Table | None:
        """Makes the table of a tier, or of a cluster without tiers; None when nobody there may be picked."""
        assert self.spec.hash_policy is not None
        self.state.hashed = True
        if tier is None:
            members = [(e, e.weight) for e in self.usable]
        else:
            members = []
            for group in tier.groups:
                total = sum(e.weight for e in group.usable)
                members += [(e, group.weight * e.weight / total) for e in group.usable]
        if not members:
            return None
        table = self.spec.hash_policy.table(members)
        if tier is None:
            self._table = table
        else:
            tier.table = table
        return table

    def refresh(self, now: float) -> None:
        """Let what was observed since the last pick count (for those who show the endpoints)."""
        if self.generation != self.state.generation:
            with self.state.lock:
                self._refresh(now)

    def catch_up(self, now: float) -> None:
        """Let outlier detection do what the interval boundaries up to ``now`` ask for."""
        state = self.state
        events: list[Ejection] = []
        with state.lock:
            if state.detector is not None:
                events = state.detector.tick(now)
                self._note(*events)
                state.next_tick = state.detector.next_tick
        self._tell(*events)

    def _dialled(self, picks: Picks, rng: random.Random) -> EndpointState:
        """Pass-through: the endpoint is the address that the caller's URL names."""
        host, port = picks.dialled(self.spec.port, rng)
        host, port = self.spec.dial_host or host, self.spec.dial_port or port
        key = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        state = self.state
        found = state.endpoints.get(key)
        if found is None:
            with state.lock:
                found = state.endpoint(Endpoint(address=host, port=port, labels={}), 0.0)
                while len(state.endpoints) > MAX_PASSTHROUGH_ENDPOINTS:
                    state.endpoints.popitem(last=False)
        return found

    # -- what happens -----------------------------------------------------------------------------------------------

    def begin(self, attempt: Attempt) -> None:
        """An attempt starts."""
        # without the lock, at every call: with the GIL nothing can come between the counts, neither a thread nor an interrupt
        self.state.requests += 1
        attempt.endpoint.active += 1
        attempt.under_way = True

    def end(self, attempt: Attempt) -> None:
        """The response of an attempt is over, whichever way. Nothing if it is not under way (any more)."""
        if attempt.under_way:
            self.state.ended += 1
            attempt.endpoint.active -= 1
            attempt.under_way = False

    def record_status(self, endpoint: EndpointState, status: int, now: float) -> None:
        """Tell outlier detection of a response. One below 500 of an endpoint that is ``spotless`` need not be told."""
        state = self.state
        if status >= 500:
            state.tally.results[SERVER_ERROR] += 1
        detector = state.detector
        if detector is not None:
            with state.lock:
                event = detector.record_status(endpoint, status, now)
                if event is not None:
                    self._note(event)
            if event is not None:
                self._tell(event)

    def record_failure(self, endpoint: EndpointState, kind: str, now: float, *, known: bool = False) -> None:
        """Tell outlier detection that there was none: ``kind`` is "connect", "reset" or "timeout". ``known``: the attempt is in
        the tally, by the status of a response that was cut short."""
        state = self.state
        event: Ejection | None = None
        with state.lock:
            state.failures += 1
            if not known:
                state.tally.results[RESULT_OF_KIND[kind]] += 1
            if state.detector is not None:
                event = state.detector.record_local_failure(endpoint, kind, now)
                if event is not None:
                    self._note(event)
        if event is not None:
            self._tell(event)

    def _note(self, *events: Ejection) -> None:
        if events:
            self.state.events.extend(events)
            self.state.tally.ejections.update(event.trigger for event in events if event.kind == "ejected")
            self.state.generation += 1

    def _tell(self, *events: Ejection) -> None:
        """Not under the lock: what is called may write to a disk."""
        told = self.state.on_ejection
        if told is not None:
            for event in events:
                told(self.state.key, event)

    def begin_retry(self, holder: Retrying) -> bool:
        """Whether one more retry may run beside those under way (retryBudget, else connectionPool.http.maxRetries)."""
        state, budget = self.state, self.spec.retry_budget
        with state.lock:
            if budget is not None:
                pending = state.slots.pending if state.slots is not None else 0
                allowed = budget.allows(state.retries_active, state.active, pending)
            else:
                allowed = state.retries_active < self.spec.limits.max_retries
            if not allowed:
                state.tally.overflows[RETRIES] += 1
                return False
            state.retries_active += 1
            state.retries += 1
            holder.retrying = True
            return True

    def end_retry(self, holder: Retrying) -> None:
        """The retry is over. Nothing if ``holder`` is not retrying (any more)."""
        with self.state.lock:
            if holder.retrying:
                self.state.retries_active -= 1
                holder.retrying = False

    def resolved(self, name: str, addresses: tuple[str, ...], now: float) -> list[object]:
        """The resolver has (new) addresses for an endpoint that is a name. Returns the targets of endpoints that are gone."""
        state = self.state
        with state.lock:
            state.addresses[name] = addresses
            # a replaced cluster leaves the state to the next. Keys are compared, as another one may know addresses first
            if self.retired or [each.key for each, _ in self._members()] == [each.key for each in self.endpoints]:
                return []
            self.configure(now)
        members = set(self.endpoints)
        gone = [key for key in list(self.targets) if endpoint_of(key) not in members]
        return [target for key in gone if (target := self.targets.pop(key, None)) is not None]

    def has_left(self, endpoint: EndpointState) -> bool:
        """Whether only calls that had picked the endpoint before still go there."""
        if self.retired:
            return True
        return self.spec.resolution != "passthrough" and endpoint not in self.endpoints
