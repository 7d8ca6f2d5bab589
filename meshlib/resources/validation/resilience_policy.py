"""What is refused in a ResiliencePolicy whose types are right: expressions and names that nothing could match, and URLs of
Redis that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.headers import header_name
from meshlib.resources.validation.redis_urls import redis_url_problem
from meshlib.resources.validation.regexes import string_match

if TYPE_CHECKING:
    from meshlib.resources.mechanism import RedisStorage
    from meshlib.resources.resilience import ResiliencePolicy, ResiliencePolicySpec
    from meshlib.resources.resilience_inbound import InboundMatch, InboundProtection, InboundRateLimit


def refusals(resource: ResiliencePolicy) -> Iterator[Notice]:
    """Of calls, then of ``spec.inbound``."""
    spec, here = resource.spec, ("spec",)
    breaker = spec.circuit_breaker
    if breaker is not None and breaker.storage is not None:
        yield from _redis(breaker.storage.redis, ("spec", "circuitBreaker", "storage", "redis"))
    yield from _numbers(spec, here)
    if spec.deadline is not None:
        yield from header_name(spec.deadline.header, (*here, "deadline", "header"))
    if spec.fallback is not None and spec.fallback.response is not None:
        for name in spec.fallback.response.headers or ():
            yield from header_name(name, (*here, "fallback", "response", "headers", name))
    inbound = spec.inbound
    if inbound is not None:
        yield from _inbound(inbound, ("spec", "inbound"))


def _numbers(spec: ResiliencePolicySpec, here: Loc) -> Iterator[Notice]:
    budget, hedging, fallback = spec.retry_budget, spec.hedging, spec.fallback
    if budget is not None and not 0 <= budget.percent <= 100:
        loc = (*here, "retryBudget", "percent")
        yield refused(
            "bad-percent", loc, f"{budget.percent:g} is outside 0..100", "a share of the calls, for example 20"
        )
    if hedging is not None and hedging.percentile is not None and not 0 < hedging.percentile <= 100:
        loc = (*here, "hedging", "percentile")
        yield refused("bad-percent", loc, f"{hedging.percentile:g} is outside 0..100", "for example 95")
    if fallback is not None and fallback.response is not None and not 200 <= fallback.response.status <= 599:
        loc = (*here, "fallback", "response", "status")
        yield refused("bad-status", loc, f"{fallback.response.status} is outside 200..599", "for example 200")
    for side, adaptive in (
        (here, spec.adaptive_concurrency),
        ((*here, "inbound"), spec.inbound.adaptive_concurrency if spec.inbound is not None else None),
    ):
        if adaptive is not None and adaptive.min_limit > adaptive.max_limit:
            loc = (*side, "adaptiveConcurrency", "minLimit")
            yield refused(
                "out-of-range",
                loc,
                f"minLimit {adaptive.min_limit} is more than maxLimit {adaptive.max_limit}",
                "1 and 1000 are the defaults",
            )


def _inbound(inbound: InboundProtection, loc: Loc) -> Iterator[Notice]:
    for name, limits in (("rateLimits", inbound.rate_limits), ("quotas", inbound.quotas)):
        for index, limit in enumerate(limits or ()):
            yield from _limit(limit, (*loc, name, index))
    for index, entry in enumerate(inbound.priorities or ()):
        yield from _matches(entry.match, (*loc, "priorities", index, "match"))
    for index, path in enumerate(inbound.health_checks or ()):
        yield from string_match(path, (*loc, "healthChecks", index))
    if inbound.deadline is not None:
        yield from header_name(inbound.deadline.header, (*loc, "deadline", "header"))


def _limit(limit: InboundRateLimit, loc: Loc) -> Iterator[Notice]:
    yield from _matches(limit.match or (), (*loc, "match"))
    if limit.key is not None and limit.key.header is not None:
        yield from header_name(limit.key.header, (*loc, "key", "header"))
    if limit.storage is not None:
        yield from _redis(limit.storage.redis, (*loc, "storage", "redis"))


def _redis(redis: RedisStorage | None, loc: Loc) -> Iterator[Notice]:
    problem = redis_url_problem(redis.url) if redis is not None else None
    if problem is not None:
        yield refused("bad-redis-url", (*loc, "url"), *problem)


def _matches(matches: list[InboundMatch] | tuple[()], loc: Loc) -> Iterator[Notice]:
    for index, match in enumerate(matches):
        here: Loc = (*loc, index)
        yield from string_match(match.path, (*here, "path"))
        yield from string_match(match.method, (*here, "method"))
        for name, text in (match.headers or {}).items():
            yield from header_name(name, (*here, "headers", name))
            yield from string_match(text, (*here, "headers", name))
