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
    """A dependency that limits how often each key may call: ``dependencies=[limit("10/second")]``, on a route, router or app.
    Routes that have the same ``limit`` object share it; it counts per process.

    ``rate`` is ``"10/second"``, ``"100/minute"`` or ``"5 per 2 hours"``: a token bucket that starts full. ``key`` is
    ``"caller"`` (the SPIFFE ID, else the token's issuer and subject, else the peer's address), ``"principal"``,
    ``"request_principal"``, ``"source_ip"`` (the peer's address), ``"remote_ip"`` (what the nearest proxy wrote into
    X-Forwarded-For; without such a proxy the caller chooses it), ``"header:NAME"``, ``"all"`` (one bucket for everyone), or a
    function that takes ``mesh.inbound()`` and returns the key. Callers without a key share one bucket. At most ``max_keys``
    keys are remembered.

    A caller over the limit gets 429 with Retry-After, as an ``HTTPException``. Raises ValueError for a rate or key that is not
    valid.
    """
    counted = RouteLimit(rate, key, max_keys)

    async def check(connection: HTTPConnection) -> None:
        refusal = counted.refusal(call_of(connection))
        if refusal is not None:
            raise as_exception(refusal)

    return params.Depends(check)
