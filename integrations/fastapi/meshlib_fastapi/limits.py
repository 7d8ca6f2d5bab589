"""``limit``: how often a route may be called, by whom."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection

from meshlib.policy.token_bucket import MAX_KEYS, Limiter, parse_rate
from meshlib_fastapi.dependencies import call_of

if TYPE_CHECKING:
    from meshlib.engine.inbound_request import InboundRequest

    Key = Callable[[InboundRequest], str]

TOO_MANY = "local_rate_limited"


def _caller(request: InboundRequest) -> str:
    return request.principal or request.request_principal or request.source_ip


KEYS: dict[str, Key] = {
    "caller": _caller,
    "principal": lambda request: request.principal,
    "request_principal": lambda request: request.request_principal,
    "source_ip": lambda request: request.source_ip,
    "remote_ip": lambda request: request.remote_ip,
    "all": lambda _request: "",
}


def limit(rate: str, *, key: str | Key = "caller", max_keys: int = MAX_KEYS) -> Any:
    """A dependency that lets each key call only so often: ``dependencies=[limit("10/second")]``, of a route, router or app.
    Routes that have the same ``limit`` object share it; it counts in this process.

    ``rate``: ``"10/second"``, ``"100/minute"``, ``"5 per 2 hours"``: a token bucket, so many at once. ``key``: ``"caller"``
    (the SPIFFE ID, else issuer and subject of the token, else the peer's address), ``"principal"``, ``"request_principal"``,
    ``"source_ip"`` (the peer's address), ``"remote_ip"`` (what the nearest proxy wrote into X-Forwarded-For: without one,
    what the caller likes), ``"header:NAME"``, ``"all"`` (one bucket for all), or a function from ``mesh.inbound()`` to the
    key. Callers without that share one bucket. At most ``max_keys`` are remembered.

    Who calls too often gets 429 with Retry-After, as ``HTTPException``. Raises ValueError for a rate or key that is none.
    """
    limiter = Limiter(parse_rate(rate), max_keys)
    key_of = _key(key)

    async def check(connection: HTTPConnection) -> None:
        call = call_of(connection)
        taken = limiter.take(key_of(call.request), call.clock.monotonic())
        if not taken:
            call.add_flag("RL")
            raise HTTPException(429, TOO_MANY, {"Retry-After": str(max(1, math.ceil(taken.retry_after)))})

    return Depends(check)


def _key(key: str | Key) -> Key:
    if not isinstance(key, str):
        return key
    if key.startswith("header:") and len(key) > len("header:"):
        name = key.removeprefix("header:").lower()
        return lambda request: request.header(name) or ""
    found = KEYS.get(key)
    if found is None:
        raise ValueError(f"key: {key!r} is not a valid key: {', '.join(KEYS)}, header:NAME or a function")
    return found
