"""``spec.inbound`` of ResiliencePolicies -> how the server of a workload protects itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshlib.compiler.matches import matcher
from meshlib.compiler.resilience import hosts_of_policy
from meshlib.policy.adaptive_concurrency import GradientSettings
from meshlib.policy.request_key import RequestKey
from meshlib.policy.request_match import RequestMatch
from meshlib.policy.string_match import StringMatcher
from meshlib.policy.token_bucket import Rate
from meshlib.problems import Problem, Severity
from meshlib.registry.names import resolve

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.resources import resilience_inbound as written
    from meshlib.resources.kubernetes import Service
    from meshlib.resources.resilience import ResiliencePolicy
    from meshlib.workload import Workload

HEALTH_CHECKS = tuple(
    StringMatcher("exact", path)
    for path in (
        "/health",
        "/healthz",
        "/livez",
        "/readyz",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
    )
)
"""Paths that are never shed where a policy says nothing else."""


@dataclass(frozen=True, slots=True)
class SharedCount:
    """Where a fleet counts together: ``redis`` its URL, or a rate-limit service at ``host`` and ``port`` under ``domain``.
    ``timeout`` in seconds."""

    redis: str = field(default="", repr=False)  # there may be a password in it
    host: str = ""
    port: int = 0
    domain: str = ""
    timeout: float = 0.02


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One of ``rateLimits`` or ``quotas``. ``name`` is what its buckets are kept by from one configuration to the next."""

    name: str
    kind: str  # rateLimits or quotas
    matches: tuple[RequestMatch, ...]
    key: RequestKey
    rate: Rate
    shadow: bool = False
    shared: SharedCount | None = None


@dataclass(frozen=True, slots=True)
class Shedding:
    """``max_lag`` and ``max_queue_time`` in seconds, None: not looked at."""

    max_lag: float | None
    max_queue_time: float | None
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class InboundDeadline:
    """``default`` in seconds, None: only what the header says."""

    header: str
    default: float | None
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Protection:
    """What one policy says. ``priorities``: the first that matches counts; none: all requests are alike. ``max_body`` and
    ``max_header`` in bytes, 0: no limit (of a body None: no limit)."""

    resource: str
    limits: tuple[RateLimit, ...] = ()
    shedding: Shedding | None = None
    max_concurrent: int = 0
    adaptive: GradientSettings | None = None
    adaptive_shadow: bool = False
    priorities: tuple[tuple[RequestMatch, str], ...] = ()
    health_checks: tuple[RequestMatch, ...] = ()
    max_body: int | None = None
    max_header: int = 0
    deadline: InboundDeadline | None = None
    resource_exhausted: bool = False
    x_headers: bool = False
    where: tuple[str, int, int] = field(default=("", 0, 0), compare=False)
    """The policy's file, line and column."""

    @property
    def by_route(self) -> str:
        """The first field whose limit counts by route, "" when none does."""
        for limit in self.limits:
            if limit.key.kind == "route":
                return f"spec.inbound.{limit.name.rpartition(' ')[2]}.key"
        return ""

    @property
    def admits(self) -> bool:
        """Whether requests are admitted or shed at all."""
        return self.shedding is not None or self.max_concurrent > 0 or self.adaptive is not None


def compile_protection(
    policies: Sequence[ResiliencePolicy],
    services: Iterable[Service],
    workload: Workload,
    domain: str,
    mesh: MeshSettings,
) -> tuple[Protection | None, list[Problem]]:
    """That of the most specific policy of the workload's namespace, else of the root namespace; of several the oldest. What is
    said of the others is returned with it."""
    candidates = [
        p for p in policies if p.spec.inbound is not None and p.namespace in (workload.namespace, mesh.root_namespace)
    ]
    if not candidates:
        return None, []
    own = {f"{s.name}.{s.namespace}.svc.{domain}".lower() for s in services if serves(s, workload)}

    def rank(policy: ResiliencePolicy) -> tuple[bool, bool, tuple[str, str, str, int]]:
        spec = policy.spec
        everybody = not (spec.target_refs or spec.host or (spec.selector and spec.selector.match_labels))
        return policy.namespace != workload.namespace, everybody, policy.age_key

    mine = sorted((p for p in candidates if _is_for(p, own, workload, domain)), key=rank)
    if not mine:
        return None, []
    first = mine[0]
    problems = [_not_used(policy, first) for policy in mine[1:] if rank(policy)[:2] == rank(first)[:2]]
    return _protection(first, domain), problems


def serves(service: Service, workload: Workload) -> bool:
    """Whether a Service selects the workload."""
    selector = service.spec.selector
    return (
        service.namespace == workload.namespace
        and bool(selector)
        and all(workload.labels.get(k) == v for k, v in (selector or {}).items())
    )


def _is_for(policy: ResiliencePolicy, own: set[str], workload: Workload, domain: str) -> bool:
    spec = policy.spec
    if spec.target_refs or spec.host:
        return not own.isdisjoint(hosts_of_policy(policy, domain))
    wanted = (spec.selector.match_labels or {}) if spec.selector is not None else {}
    return all(workload.labels.get(k) == v for k, v in wanted.items())


def _protection(policy: ResiliencePolicy, domain: str) -> Protection:
    spec = policy.spec.inbound
    assert spec is not None  # it is why the policy is here
    shedding, adaptive, deadline = spec.load_shedding, spec.adaptive_concurrency, spec.deadline
    limits = [
        _limit(policy, kind, index, limit, domain)
        for kind, entries in (("rateLimits", spec.rate_limits), ("quotas", spec.quotas))
        for index, limit in enumerate(entries or ())
    ]
    health = HEALTH_CHECKS if spec.health_checks is None else [m for t in spec.health_checks if (m := matcher(t))]
    return Protection(
        resource=policy.id,
        where=(policy.origin.file, policy.origin.line, policy.origin.column),
        limits=tuple(limits),
        shedding=None
        if shedding is None
        else Shedding(shedding.max_lag, shedding.max_queue_time, shedding.mode == "shadow"),
        max_concurrent=spec.max_concurrent or 0,
        adaptive=None if adaptive is None else GradientSettings(adaptive.min_limit, adaptive.max_limit),
        adaptive_shadow=adaptive is not None and adaptive.mode == "shadow",
        priorities=tuple((match, entry.priority) for entry in spec.priorities or () for match in _matches(entry.match)),
        health_checks=tuple(RequestMatch(path=path) for path in health),
        max_body=spec.max_body_bytes,
        max_header=spec.max_header_bytes or 0,
        deadline=None
        if deadline is None
        else InboundDeadline(deadline.header.lower(), deadline.default, deadline.mode == "shadow"),
        resource_exhausted=spec.rate_limited_as_resource_exhausted,
        x_headers=spec.x_rate_limit_headers,
    )


def _limit(policy: ResiliencePolicy, kind: str, index: int, limit: written.InboundRateLimit, domain: str) -> RateLimit:
    storage, key = limit.storage, limit.key
    shared = None
    if storage is not None:
        service = storage.rate_limit_service
        if service is not None:
            host = resolve(service.host, policy.namespace, domain)
            shared = SharedCount("", host, service.port, service.domain, storage.timeout)
        elif storage.redis is not None:
            shared = SharedCount(storage.redis.url, timeout=storage.timeout)
    if key is None:
        counted = RequestKey()
    elif key.by is not None:
        counted = RequestKey(key.by)
    else:
        counted = RequestKey("header", key.header) if key.header else RequestKey("claim", key.claim or "")
    rate = Rate(limit.requests, limit.per, limit.burst or limit.requests)
    name = f"{policy.id} {kind}[{index}]"
    return RateLimit(name, kind, _matches(limit.match), counted, rate, limit.mode == "shadow", shared)


def _matches(written: Sequence[written.InboundMatch] | None) -> tuple[RequestMatch, ...]:
    return tuple(
        RequestMatch(
            matcher(match.path),
            matcher(match.method),
            tuple((name.lower(), made) for name, text in (match.headers or {}).items() if (made := matcher(text))),
        )
        for match in written or ()
    )


def _not_used(policy: ResiliencePolicy, first: ResiliencePolicy) -> Problem:
    origin = policy.origin
    return Problem(
        "resilience-overlap",
        Severity.WARNING,
        origin.file,
        origin.line,
        origin.column,
        policy.id,
        f"inbound: this workload already has {first.id}; this one is not used",
        f"merge it into {first.id}",
    )
