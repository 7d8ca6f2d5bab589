"""Envoy's local rate limit at work: a check of a server."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from meshlib.engine.inbound_limits import RESOURCE_EXHAUSTED, untell
from meshlib.policy.rate_limit_actions import compile_actions
from meshlib.policy.rate_limit_headers import RATE_LIMITED, plain_x_ratelimit, retry_after
from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.compiler.inbound_local_ratelimit import LocalRateLimitFilter
    from meshlib.engine.check import Check
    from meshlib.engine.inbound_admission import Tally
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.policy.local_rate_limit import LocalLimiter

MECHANISM = "local_ratelimit"


def local_ratelimit_check(
    settings: LocalRateLimitFilter, limiter: LocalLimiter, clock: Clock, rng: random.Random, tally: Tally
) -> Check:
    """Counts a share of the requests (``filter_enabled``), refuses a share of those that are too many (``filter_enforced``)."""
    describe = compile_actions(settings.actions)
    enabled, enforced = settings.enabled, settings.enforced
    grpc_status = RESOURCE_EXHAUSTED if settings.resource_exhausted else None

    def check(request: InboundRequest) -> Refusal | None:
        if not hits(enabled, rng):
            return None
        connection = request.peer if settings.per_connection else ""
        allowed, taken = limiter.take(describe(request), clock.monotonic(), connection)
        told: tuple[tuple[bytes, bytes], ...] = ()
        if settings.x_headers and taken is not None:
            told = plain_x_ratelimit(taken.limit, taken.remaining, math.ceil(taken.reset - 1e-6))
        if allowed:
            if told:
                request.for_caller.extend(told)
            return None
        shadow = not hits(enforced, rng)
        if not tally.note(MECHANISM, "refused", shadow):
            for name, value in settings.request_headers:
                request.put(name.decode("latin-1"), value)
            if told:
                request.for_caller.extend(told)
            return None
        untell(request.for_caller)
        wait = 1.0 if taken is None else taken.retry_after
        headers = (*settings.response_headers, *told, retry_after(wait), *RATE_LIMITED)
        return Refusal(settings.status, "local_rate_limited", grpc_status, "RL", "local_rate_limited", headers)

    return check


def hits(fraction: tuple[int, int], rng: random.Random) -> bool:
    """Whether a request is one of the share. Nothing is drawn where all are, or none."""
    numerator, denominator = fraction
    return numerator >= denominator or (numerator > 0 and rng.randrange(denominator) < numerator)
