"""``limit``: how often a route may be called, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import params
from starlette.requests import HTTPConnection

from meshlib.engine.route_limit import RouteLimit
from meshlib.policy.token_bucket import MAX_KEYS
from meshlib_fastapi.dependencies import call_of
from meshlib_fastapi.routed import as_exception

if TYPE_CHECKING:
    from meshlib.engine.route_limit import Key


def limit(rate: str, *, key: str | Key = "caller", max_keys: int = MAX_KEYS) -> params.Depends:
    """A dependency that lets each key call only so often: ``dependencies=[limit("10/second")]``, of a route, router or app.
    Routes that have the same ``limit`` object share it; it counts in this process.

    ``rate``: ``"10/second"``, ``"100/minute"``, ``"5 per 2 hours"``: a token bucket, so many at once. ``key``: ``"caller"``
    (the SPIFFE ID, else issuer and subject of the token, else the peer's address), ``"principal"``, ``"request_principal"``,
    ``"source_ip"`` (the peer's address), ``"remote_ip"`` (what the nearest proxy wrote into X-Forwarded-For: without one,
    what the caller likes), ``"header:NAME"``, ``"all"`` (one bucket for all), or a function from ``mesh.inbound()`` to the
    key. Callers without that share one bucket. At most ``max_keys`` are remembered.

    Who calls too often gets 429 with Retry-After, as ``HTTPException``. Raises ValueError for a rate or key that is none.
    """
    counted = RouteLimit(rate, key, max_keys)

    async def check(connection: HTTPConnection) -> None:
        refusal = counted.refusal(call_of(connection))
        if refusal is not None:
            raise as_exception(refusal)

    return params.Depends(check)
