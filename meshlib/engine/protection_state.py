"""What a server's protection remembers from one configuration to the next: buckets, limits that follow latency, how many
requests are being served, what was counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from meshlib.engine.inbound_admission import Active, Admission, Tally
from meshlib.engine.inbound_limits import BoundLimit, RateLimits, size_check
from meshlib.engine.inbound_local_ratelimit import local_ratelimit_check
from meshlib.engine.inbound_ratelimit import ratelimit_check
from meshlib.engine.rate_limit_service import RateLimitService, ServiceCounter
from meshlib.policy.adaptive_concurrency import GradientLimit
from meshlib.policy.local_rate_limit import LocalLimiter
from meshlib.policy.token_bucket import Limiter

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.compiler.inbound import Inbound
    from meshlib.compiler.inbound_filters import PortFilters
    from meshlib.compiler.inbound_protection import Protection, RateLimit, SharedCount
    from meshlib.engine.check import Check
    from meshlib.engine.custom import Asker
    from meshlib.engine.inbound_admission import Report
    from meshlib.engine.inbound_limits import Counting, SharedCounter
    from meshlib.policy.local_rate_limit import LocalRateLimit
    from meshlib.policy.path_spellings import Normalization

    SharedCounterOf = Callable[[SharedCount], SharedCounter]


def no_shared_counter(_settings: SharedCount) -> SharedCounter:
    """Of a mesh that has nothing to ask with."""
    return UNKNOWN


class _Unknown:
    """Counts nothing, and says so: requests are let through."""

    __slots__ = ()

    def count(self, _limit: RateLimit, _key: str) -> Counting:
        return None
        yield


UNKNOWN = _Unknown()


class BoundProtection:
    """The protection of a port at work: ``admission``, then the checks that come ``first``, and those that come ``last``, when
    it is known who asks. Limits that count by ``route`` (None: there are none) are among the last; where a router tells which
    route it has matched, ``unrouted`` are asked in place of the last, and they then."""

    __slots__ = ("admission", "first", "last", "route", "unrouted")

    def __init__(
        self,
        admission: Admission | None = None,
        first: tuple[Check, ...] = (),
        last: tuple[Check, ...] = (),
        route: RateLimits | None = None,
        unrouted: tuple[Check, ...] = (),
    ) -> None:
        self.admission = admission
        self.first = first
        self.last = last
        self.route = route
        self.unrouted = unrouted


UNPROTECTED = BoundProtection()


class ProtectionState:
    """``ask`` makes calls through the mesh, ``shared`` what counts in Redis; ``report`` is called with what is decided."""

    __slots__ = (
        "_active",
        "_adaptive",
        "_ask",
        "_bound",
        "_clock",
        "_limiters",
        "_local",
        "_rng",
        "_services",
        "_shared",
        "tally",
    )

    def __init__(
        self,
        clock: Clock,
        ask: Asker,
        shared: SharedCounterOf,
        report: Report | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._rng = random.Random(0) if rng is None else rng
        self._local: dict[LocalRateLimit, LocalLimiter] = {}
        self._services: list[RateLimitService] = []
        self._shared = shared
        self._active = Active()
        self._adaptive: GradientLimit | None = None
        self._limiters: dict[RateLimit, Limiter] = {}
        self._bound: list[BoundProtection] = []
        self.tally = Tally("", report)

    def take(self, inbounds: Iterable[Inbound]) -> list[BoundProtection]:
        """The protections of a new configuration, in the order of ``inbounds``. A bucket stays while its limit does."""
        before, self._limiters = self._limiters, {}
        local, self._local = self._local, {}
        self._services = []
        made: dict[int, BoundProtection] = {}
        found = []
        for inbound in inbounds:
            self.tally.service = inbound.service
            settings = inbound.protection
            bound = UNPROTECTED if settings is None else made.get(id(settings))
            if bound is None:
                assert settings is not None
                bound = made[id(settings)] = self._bind(settings, inbound.mesh.path_normalization, before)
            found.append(self._with_filters(bound, inbound.limits, local))
        self._bound = found
        return found

    def _with_filters(
        self, bound: BoundProtection, limits: PortFilters, before: dict[LocalRateLimit, LocalLimiter]
    ) -> BoundProtection:
        """Beside what the policy says, what EnvoyFilters do."""
        if not limits.local and not limits.shared:
            return bound
        first: list[Check] = []
        last: list[Check] = []
        for settings in limits.local:
            limiter = self._local.get(settings.limits) or before.get(settings.limits) or LocalLimiter(settings.limits)
            self._local[settings.limits] = limiter
            check = local_ratelimit_check(settings, limiter, self._clock, self._rng, self.tally)
            (first if settings.first else last).append(check)
        for asking in limits.shared:
            service = self._service(*asking.place, asking.domain, asking.timeout)
            check = ratelimit_check(asking, service, self._rng, self.tally)
            (first if asking.first else last).append(check)
        return BoundProtection(
            bound.admission, (*bound.first, *first), (*last, *bound.last), bound.route, (*last, *bound.unrouted)
        )

    def _bind(
        self, settings: Protection, normalization: Normalization, before: dict[RateLimit, Limiter]
    ) -> BoundProtection:
        limits = []
        for limit in settings.limits:
            limiter = shared = None
            if limit.shared is not None:
                shared = self._counter(limit.shared)
            else:
                limiter = self._limiters[limit] = before.get(limit) or Limiter(limit.rate)
            limits.append(BoundLimit(limit, normalization, limiter, shared))
        sizes = size_check(settings)
        admission = None
        if settings.admits or settings.deadline is not None:
            adaptive = None
            if settings.adaptive is not None:
                adaptive = self._adaptive
                if adaptive is None or adaptive.settings != settings.adaptive:
                    adaptive = GradientLimit(settings.adaptive)
            self._adaptive = adaptive
            admission = Admission(settings, normalization, self.tally, self._active, adaptive)
        first = (sizes,) if sizes is not None else ()
        last = RateLimits(settings, limits, self._clock, self.tally).checks
        if not settings.by_route:
            return BoundProtection(admission, first, last)
        others = [limit for limit in limits if limit.settings.key.kind != "route"]
        by_route = [limit for limit in limits if limit.settings.key.kind == "route"]
        unrouted = RateLimits(settings, others, self._clock, self.tally).checks
        route = RateLimits(settings, by_route, self._clock, self.tally)
        return BoundProtection(admission, first, last, route, unrouted)

    def _counter(self, settings: SharedCount) -> SharedCounter:
        if settings.redis:
            return self._shared(settings)
        return ServiceCounter(self._service(settings.host, settings.port, settings.domain, settings.timeout))

    def _service(self, host: str, port: int, domain: str, timeout: float) -> RateLimitService:
        made = RateLimitService(self._ask, host, port, domain, timeout)
        self._services.append(made)
        return made

    def after_fork(self) -> None:
        """In a forked child: requests being served are the parent's, and its threads may hold locks."""
        self._active = Active()
        for limiter in self._limiters.values():
            limiter.after_fork()
        for local in self._local.values():
            local.after_fork()
        for bound in self._bound:
            if bound.admission is not None:
                bound.admission.active = self._active

    def status(self) -> dict[str, object]:
        """For ``mesh.status()``: how many requests are being served, and how many the limit that follows latency lets; how many
        keys each rate limit knows; why rate-limit services did not say, the last time ("": they did); what was decided."""
        return {
            "active": self._active.count,
            "concurrency_limit": None if self._adaptive is None else int(self._adaptive.limit),
            "services": {service.name: service.why for service in self._services},
            "keys": {limit.name: len(limiter) for limit, limiter in self._limiters.items()},
            "counts": {f"{mechanism}: {verdict}": n for (mechanism, verdict), n in sorted(self.tally.counts.items())},
        }
