"""How often a route may be called, by whom, said at the route: what ``limit`` of the integrations means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from meshlib.policy.refusal import Refusal
from meshlib.policy.token_bucket import MAX_KEYS, Limiter, parse_rate

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.inbound_request import InboundRequest

    Key: TypeAlias = Callable[[InboundRequest], str]

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


class RouteLimit:
    """Lets each key call only so often; it counts in this process.

    ``rate``: ``"10/second"``, ``"100/minute"``, ``"5 per 2 hours"``: a token bucket, so many at once. ``key``: ``"caller"``
    (the SPIFFE ID, else issuer and subject of the token, else the peer's address), ``"principal"``, ``"request_principal"``,
    ``"source_ip"`` (the peer's address), ``"remote_ip"`` (what the nearest proxy wrote into X-Forwarded-For: without one,
    what the caller likes), ``"header:NAME"``, ``"all"`` (one bucket for all), or a function from ``mesh.inbound()`` to the
    key. Callers without that share one bucket. At most ``max_keys`` are remembered. Raises ValueError for a rate or key that
    is none."""

    __slots__ = ("_key", "_limiter")

    def __init__(self, rate: str, key: str | Key = "caller", max_keys: int = MAX_KEYS) -> None:
        self._limiter = Limiter(parse_rate(rate), max_keys)
        self._key = _key(key)

    def refusal(self, call: InboundCall) -> Refusal | None:
        """One call more: 429 when that is too many, and its flag, RL, is noted."""
        taken = self._limiter.take(self._key(call.request), call.clock.monotonic())
        if taken:
            return None
        call.add_flag("RL")
        after = b"%d" % max(1, math.ceil(taken.retry_after))
        return Refusal(429, TOO_MANY, detail=TOO_MANY, headers=((b"retry-after", after),))


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
