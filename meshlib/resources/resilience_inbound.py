"""``spec.inbound`` of a ResiliencePolicy: how a workload protects itself from more than it can, or should, serve."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from meshlib.resources.base import Model
from meshlib.resources.mechanism import AdaptiveConcurrency, Mechanism, RedisStorage
from meshlib.resources.types import Count, DestinationHost, Duration, Port, Positive, StringMatch, names, refuse

HOUR = 3600.0


def _exact(value: object) -> object:
    return {"exact": value} if isinstance(value, str) else value


Text = Annotated[StringMatch, BeforeValidator(_exact)]
"""A StringMatch; a bare text is an exact one."""


class InboundMatch(Model):
    """Requests by ``path`` (without query, at any spelling), ``method`` and ``headers``; all that is given must hold."""

    path: Text | None = None
    method: Text | None = None
    headers: dict[str, Text] | None = None


class LimitKey(Model):
    """What is counted apart: one of these. ``key: principal`` is short for ``key: {by: principal}``."""

    by: Annotated[Literal["principal", "remoteIp", "route"], names("principal", "remoteIp", "route")] | None = None
    header: str | None = None
    claim: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(map(bool, (self.by, self.header, self.claim))) != 1:
            raise refuse("limit-key", "a key is one of principal, remoteIp, route, header and claim", _KEY_HINT)
        return self


_KEY_HINT = "for example key: principal, or key: {header: x-api-key}"


def _key(value: object) -> object:
    return {"by": value} if isinstance(value, str) else value


Key = Annotated[LimitKey, BeforeValidator(_key)]


class RateLimitService(Model):
    """A server of Envoy's rate-limit service (envoy.service.ratelimit.v3) at a ``host`` of the mesh."""

    host: DestinationHost
    port: Port
    domain: str


class LimitStorage(Model):
    """Where a fleet counts together: one of these. When it does not say within ``timeout``, the request is let through."""

    redis: RedisStorage | None = None
    rate_limit_service: RateLimitService | None = None
    timeout: Duration = 0.02

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.redis is None) == (self.rate_limit_service is None):
            raise refuse(
                "limit-storage",
                "a storage is either redis or rateLimitService",
                "for example storage: {redis: {url: redis://redis:6379}}",
            )
        return self


class InboundRateLimit(Mechanism):
    """``requests`` each ``per`` and key, ``burst`` at once (absent: ``requests``)."""

    match: list[InboundMatch] | None = None
    key: Key | None = None
    requests: Positive
    per: Duration = 1.0
    burst: Positive | None = None
    storage: LimitStorage | None = None

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.burst is not None and self.storage is not None:
            raise refuse("limit-burst", "a storage counts whole windows: it has no burst", "remove burst")
        if self.storage is not None and self.per % 1:
            raise refuse("limit-per", "a storage counts whole seconds", "for example per: 1s")
        return self


class Quota(InboundRateLimit):
    """A rate limit of hours or days, which restarts do not forget."""

    per: Duration = Field()

    @model_validator(mode="after")
    def _long(self) -> Self:
        if self.per < HOUR:
            raise refuse(
                "quota-per", "a quota is per hours or days", "for example per: 24h; shorter ones are rateLimits"
            )
        if self.storage is None:
            raise refuse(
                "quota-storage",
                "a quota needs a storage: this process forgets it when it restarts",
                "for example storage: {redis: {url: redis://redis:6379}}",
            )
        return self


class InboundLoadShedding(Mechanism):
    """Turn requests away while what runs here is late: ``maxLag`` of the event loop, ``maxQueueTime`` in line for a thread of
    the pool."""

    max_lag: Duration | None = None
    max_queue_time: Duration | None = None

    @model_validator(mode="after")
    def _when(self) -> Self:
        if self.max_lag is None and self.max_queue_time is None:
            raise refuse("shedding-when", "loadShedding needs maxLag or maxQueueTime", "for example maxLag: 200ms")
        return self


class InboundPriority(Model):
    """Who is turned away first."""

    match: list[InboundMatch]
    priority: Annotated[Literal["critical", "high", "normal", "low"], names("critical", "high", "normal", "low")]


class InboundDeadline(Mechanism):
    """When a request must be over: what its ``header`` says, else ``default`` after it came."""

    header: str = "x-request-deadline"
    default: Duration | None = None


class InboundProtection(Model):
    """``spec.inbound``."""

    rate_limits: list[InboundRateLimit] | None = None
    quotas: list[Quota] | None = None
    load_shedding: InboundLoadShedding | None = None
    max_concurrent: Positive | None = None
    adaptive_concurrency: AdaptiveConcurrency | None = None
    priorities: list[InboundPriority] | None = None
    health_checks: list[Text] | None = None
    max_body_bytes: Count | None = None
    max_header_bytes: Positive | None = None
    deadline: InboundDeadline | None = None
    rate_limited_as_resource_exhausted: bool = False
    x_rate_limit_headers: bool = False
