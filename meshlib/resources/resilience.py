"""ResiliencePolicy (meshlib.dev/v1): what Istio has no words for.

Every mechanism has ``mode``: ``enforce`` (default) acts; ``shadow`` runs, reports what it would have done, and touches
nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from meshlib.resources.base import Model, Resource
from meshlib.resources.mechanism import AdaptiveConcurrency, Mechanism, RedisStorage
from meshlib.resources.resilience_inbound import InboundProtection
from meshlib.resources.selection import Selector
from meshlib.resources.types import Count, DestinationHost, Duration, PortSelector, Positive, names, refuse


class BreakerStorage(Model):
    """Where a breaker keeps its state; absent: in this process."""

    redis: RedisStorage | None = None


class CircuitBreaker(Mechanism):
    """Opens for the whole service after ``failureThreshold`` failures in a row, tries again after ``resetTimeout``."""

    failure_threshold: Positive = 5
    reset_timeout: Duration = 30.0
    storage: BreakerStorage | None = None


class Bulkhead(Mechanism):
    """At most ``maxConcurrent`` calls at once, ``maxWaiting`` in line."""

    max_concurrent: Positive
    max_waiting: Count = 0


class RetryBudgetPolicy(Mechanism):
    """Retries at most ``percent`` of active calls, ``minPerSecond`` always allowed."""

    percent: float = 20.0  # 0..100
    min_per_second: Count = 10


class Hedging(Mechanism):
    """A second try while the first still runs: after ``delay`` or at a latency ``percentile`` (0..100)."""

    delay: Duration | None = None
    percentile: float | None = None
    max_hedges: Positive = 1
    unsafe_methods: bool = False

    @model_validator(mode="after")
    def _when(self) -> Self:
        if (self.delay is None) == (self.percentile is None):
            raise refuse("hedging-when", "hedging needs either delay or percentile", "for example delay: 50ms")
        return self


class DeadlinePolicy(Mechanism):
    """A deadline read from ``header`` inbound, shrunk and sent outbound."""

    header: str = "x-request-deadline"
    propagate: bool = True


class FallbackResponse(Model):
    """A fixed response."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] | None = None


class FallbackDestination(Model):
    """Another service to ask."""

    host: DestinationHost
    subset: str | None = None
    port: PortSelector | None = None


class Fallback(Mechanism):
    """What stands in when the call fails: ``response`` or ``destination``."""

    response: FallbackResponse | None = None
    destination: FallbackDestination | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.response is None) == (self.destination is None):
            raise refuse("fallback-what", "a fallback needs either response or destination", "")
        return self


class PeakEwma(Model):
    """Balance on latency (peak EWMA) with this decay."""

    decay: Duration = 10.0


class ResilienceLoadBalancer(Mechanism):
    """Balancers beyond Istio's."""

    peak_ewma: PeakEwma | None = None


class RateLimit(Mechanism):
    """A token bucket."""

    requests_per_second: float
    burst: Count | None = None


class LoadShedding(Mechanism):
    """Refuse calls while the process is behind: the event loop's lag or calls in flight."""

    max_lag: Duration | None = None
    max_in_flight: Count | None = None


class TargetRef(Model):
    """A service this policy is for."""

    kind: Annotated[Literal["Service", "ServiceEntry"], names("Service", "ServiceEntry")] = "Service"
    name: str
    namespace: str | None = None


class ResiliencePolicySpec(Model):
    """``spec`` of ResiliencePolicy. ``inbound`` is about the servers of the services that it is for; of a policy that has
    nothing else, about the workloads of ``selector``, or all of its namespace."""

    target_refs: list[TargetRef] | None = None
    host: str | None = None
    selector: Selector | None = None
    inbound: InboundProtection | None = None
    circuit_breaker: CircuitBreaker | None = None
    bulkhead: Bulkhead | None = None
    retry_budget: RetryBudgetPolicy | None = None
    hedging: Hedging | None = None
    adaptive_concurrency: AdaptiveConcurrency | None = None
    deadline: DeadlinePolicy | None = None
    fallback: Fallback | None = None
    load_balancer: ResilienceLoadBalancer | None = None
    rate_limit: RateLimit | None = None
    load_shedding: LoadShedding | None = None

    @model_validator(mode="after")
    def _target(self) -> Self:
        named = bool(self.target_refs) + bool(self.host)
        if self.selector is not None and named:
            raise refuse(
                "two-targets",
                "selector is about workloads, targetRefs and host about services: one of them",
                "remove selector; inbound is about the workloads of the services then",
            )
        outbound = self.model_fields_set - {"target_refs", "host", "selector", "inbound"}
        if named == 1 or (not named and self.inbound is not None and not outbound):
            return self
        raise refuse(
            "no-target",
            "the policy needs either targetRefs or host",
            "for example targetRefs: [{kind: Service, name: reviews}]; only inbound does without",
        )


class ResiliencePolicy(Resource):
    """meshlib's own resource."""

    kind: Literal["ResiliencePolicy"]
    spec: ResiliencePolicySpec = Field()
