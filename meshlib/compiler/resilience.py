"""ResiliencePolicy -> what guards the calls to a service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from meshlib.policy.adaptive_concurrency import GradientSettings
from meshlib.policy.hedging import HedgeSettings
from meshlib.policy.windowed_budget import WindowedBudgetSettings
from meshlib.problems import Problem, Severity
from meshlib.registry.names import resolve
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Resolver
    from meshlib.policy.breaker import BreakerSettings
    from meshlib.resources import resilience as written
    from meshlib.resources.resilience import ResiliencePolicy


@dataclass(frozen=True, slots=True)
class Fallback:
    """What answers instead of a call that failed: a fixed response, or another destination."""

    status: int = 0
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    destination: Destination | None = None


@dataclass(frozen=True, slots=True)
class Resilience:
    """One service's policy. A mechanism that is None is not asked for; ``shadow`` names those that only watch."""

    resource: str
    host: str
    breaker: BreakerSettings | None = None
    bulkhead: tuple[int, int] | None = None  # calls at once, calls in line
    retry_budget: WindowedBudgetSettings | None = None
    hedging: HedgeSettings | None = None
    adaptive: GradientSettings | None = None
    deadline: tuple[str, bool] | None = None  # header, whether it is sent on
    fallback: Fallback | None = None
    peak_ewma: float | None = None  # decay in seconds
    shadow: frozenset[str] = field(default=frozenset())

    def enforces(self, mechanism: str) -> bool:
        """Whether a mechanism acts (rather than watches)."""
        return mechanism not in self.shadow


MECHANISMS = {
    "circuit_breaker": "circuitBreaker",
    "bulkhead": "bulkhead",
    "retry_budget": "retryBudget",
    "hedging": "hedging",
    "adaptive_concurrency": "adaptiveConcurrency",
    "deadline": "deadline",
    "fallback": "fallback",
    "load_balancer": "loadBalancer",
}


class ResiliencePolicies:
    """The policies by host, as a client sees them: of its own namespace before those of the service's before the root's,
    then the oldest."""

    def __init__(
        self,
        policies: Sequence[ResiliencePolicy],
        workload: Workload,
        domain: str,
        destination: Resolver,
        root_namespace: str,
    ) -> None:
        self._by_host: dict[str, ResiliencePolicy] = {}
        self._made: dict[str, Resilience] = {}
        self._destination = destination
        self.problems: list[Problem] = []

        def rank(policy: ResiliencePolicy) -> tuple[int, tuple[str, str, str, int]]:
            place = {workload.namespace: 0, root_namespace: 2}.get(policy.namespace, 1)
            return place, policy.age_key

        for policy in sorted(policies, key=rank):
            for host in hosts_of_policy(policy, domain):
                first = self._by_host.setdefault(host, policy)
                if first is not policy:
                    self._report(policy, first, host)
            self.problems += _without_redis(policy)

    def find(self, host: str) -> Resilience | None:
        """The policy for a host."""
        policy = self._by_host.get(host)
        if policy is None:
            return None
        found = self._made.get(host)
        if found is None:
            found = self._made[host] = self._compile(policy, host)
        return found

    def _compile(self, policy: ResiliencePolicy, host: str) -> Resilience:
        spec = policy.spec
        breaker = None
        if spec.circuit_breaker is not None:
            from meshlib.policy.breaker import BreakerSettings

            storage = spec.circuit_breaker.storage
            redis = storage.redis.url if storage is not None and storage.redis is not None else ""
            breaker = BreakerSettings(spec.circuit_breaker.failure_threshold, spec.circuit_breaker.reset_timeout, redis)
        hedging, bulkhead, budget = spec.hedging, spec.bulkhead, spec.retry_budget
        adaptive, deadline = spec.adaptive_concurrency, spec.deadline
        peak = spec.load_balancer.peak_ewma if spec.load_balancer is not None else None
        return Resilience(
            resource=policy.id,
            host=host,
            breaker=breaker,
            bulkhead=None if bulkhead is None else (bulkhead.max_concurrent, bulkhead.max_waiting),
            retry_budget=None if budget is None else WindowedBudgetSettings(budget.percent, budget.min_per_second),
            hedging=None
            if hedging is None
            else HedgeSettings(hedging.delay, hedging.percentile, hedging.max_hedges, hedging.unsafe_methods),
            adaptive=None if adaptive is None else GradientSettings(adaptive.min_limit, adaptive.max_limit),
            deadline=None if deadline is None else (deadline.header.lower(), deadline.propagate),
            fallback=None if spec.fallback is None else self._fallback(spec.fallback, policy.namespace),
            peak_ewma=None if peak is None else peak.decay,
            shadow=frozenset(
                name
                for attribute, name in MECHANISMS.items()
                if (mechanism := getattr(spec, attribute)) is not None and mechanism.mode == "shadow"
            ),
        )

    def _fallback(self, model: written.Fallback, namespace: str) -> Fallback:
        if model.destination is not None:
            return Fallback(destination=self._destination(model.destination, namespace, 0))
        response = model.response
        assert response is not None  # one of the two is there: the model refuses others
        headers = tuple((n.lower().encode("latin-1"), v.encode()) for n, v in (response.headers or {}).items())
        return Fallback(response.status, response.body.encode(), headers)

    def _report(self, policy: ResiliencePolicy, first: ResiliencePolicy, host: str) -> None:
        origin = policy.origin
        self.problems.append(
            Problem(
                "resilience-overlap",
                Severity.WARNING,
                origin.file,
                origin.line,
                origin.column,
                policy.id,
                f"host {host} already has {first.id}; this one is not used",
                f"merge it into {first.id}",
            )
        )


def _without_redis(policy: ResiliencePolicy) -> Iterator[Problem]:
    """Storages in Redis that cannot be used, because the extra is not installed here. What they share is not shared then:
    breakers go on by what this process knows, rate limits let requests through."""
    spec = policy.spec
    breaker = spec.circuit_breaker
    if breaker is not None and breaker.storage is not None and breaker.storage.redis is not None:
        yield from _missing_for(
            policy, "spec.circuitBreaker.storage.redis", ("redis",), "each process opens its breaker for itself"
        )
    inbound = spec.inbound
    for name, limits in (
        ("rateLimits", None if inbound is None else inbound.rate_limits),
        ("quotas", None if inbound is None else inbound.quotas),
    ):
        for index, limit in enumerate(limits or ()):
            if limit.storage is not None and limit.storage.redis is not None:
                path = f"spec.inbound.{name}[{index}].storage.redis"
                yield from _missing_for(policy, path, ("redis", "limits"), "the limit lets every request through")


def _missing_for(policy: ResiliencePolicy, path: str, libraries: Sequence[str], effect: str) -> Iterator[Problem]:
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        origin = policy.origin
        what = "library" if len(missing) == 1 else "libraries"
        yield Problem(
            "missing-extra",
            Severity.WARNING,
            origin.file,
            origin.line,
            origin.column,
            f"{policy.id} {path}",
            f"Redis cannot be used without the {what} {' and '.join(missing)}: {effect}",
            "pip install 'sidecarless[redis]'",
        )


def acting(called: Iterable[str], find: Callable[[str], Resilience | None]) -> dict[str, Resilience]:
    """The policies of hosts that are ``called``, and of those that fallbacks call then."""
    found: dict[str, Resilience] = {}
    hosts = list(called)
    while hosts:
        host = hosts.pop()
        policy = find(host) if host not in found else None
        if policy is not None:
            found[host] = policy
            other = policy.fallback.destination if policy.fallback is not None else None
            if other is not None and other.cluster:
                hosts.append(other.host)
    return found


def hosts_of_policy(policy: ResiliencePolicy, domain: str) -> list[str]:
    """The services that a policy is about, by full host name."""
    spec = policy.spec
    if spec.host:
        return [resolve(spec.host, policy.namespace, domain)]
    return [resolve(ref.name, ref.namespace or policy.namespace, domain) for ref in spec.target_refs or ()]
