"""What is refused in a ResiliencePolicy whose types are right: expressions and names that nothing could match, and URLs of
Redis that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.redis_urls import redis_url_problem
from meshlib.resources.validation.regexes import string_match

if TYPE_CHECKING:
    from meshlib.resources.mechanism import RedisStorage
    from meshlib.resources.resilience import ResiliencePolicy
    from meshlib.resources.resilience_inbound import InboundMatch, InboundProtection, InboundRateLimit

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def refusals(resource: ResiliencePolicy) -> Iterator[Notice]:
    """Of ``spec.circuitBreaker.storage`` and ``spec.inbound``."""
    breaker = resource.spec.circuit_breaker
    if breaker is not None and breaker.storage is not None:
        yield from _redis(breaker.storage.redis, ("spec", "circuitBreaker", "storage", "redis"))
    inbound = resource.spec.inbound
    if inbound is not None:
        yield from _inbound(inbound, ("spec", "inbound"))


def _inbound(inbound: InboundProtection, loc: Loc) -> Iterator[Notice]:
    for name, limits in (("rateLimits", inbound.rate_limits), ("quotas", inbound.quotas)):
        for index, limit in enumerate(limits or ()):
            yield from _limit(limit, (*loc, name, index))
    for index, entry in enumerate(inbound.priorities or ()):
        yield from _matches(entry.match, (*loc, "priorities", index, "match"))
    for index, path in enumerate(inbound.health_checks or ()):
        yield from string_match(path, (*loc, "healthChecks", index))
    if inbound.deadline is not None:
        yield from _header_name(inbound.deadline.header, (*loc, "deadline", "header"))


def _limit(limit: InboundRateLimit, loc: Loc) -> Iterator[Notice]:
    yield from _matches(limit.match or (), (*loc, "match"))
    if limit.key is not None and limit.key.header is not None:
        yield from _header_name(limit.key.header, (*loc, "key", "header"))
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
            yield from _header_name(name, (*here, "headers", name))
            yield from string_match(text, (*here, "headers", name))


def _header_name(name: str, loc: Loc) -> Iterator[Notice]:
    if not _TOKEN.fullmatch(name):
        yield refused("bad-header-name", loc, f"{name!r} is not a valid header name", "for example x-api-key")
