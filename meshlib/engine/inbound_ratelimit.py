"""Envoy's filter ratelimit at work: a check of a server, which asks a rate-limit service."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from meshlib.engine.inbound_limits import RESOURCE_EXHAUSTED, untell
from meshlib.engine.inbound_local_ratelimit import hits
from meshlib.policy.rate_limit_actions import compile_actions
from meshlib.policy.rate_limit_headers import RATE_LIMITED, quotas, retry_after
from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from meshlib.compiler.inbound_ratelimit import RateLimitFilter
    from meshlib.engine.check import Asking, Check
    from meshlib.engine.inbound_admission import Tally
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.rate_limit_service import RateLimitService
    from meshlib.policy.rate_limit_service import Verdict

MECHANISM = "ratelimit"


def ratelimit_check(settings: RateLimitFilter, service: RateLimitService, rng: random.Random, tally: Tally) -> Check:
    """Asks for a share of the requests, those that have a descriptor."""
    return _RateLimit(settings, service, rng, tally).check


class _RateLimit:
    __slots__ = ("_describe", "_rng", "_service", "_settings", "_tally")

    def __init__(self, settings: RateLimitFilter, service: RateLimitService, rng: random.Random, tally: Tally) -> None:
        self._settings = settings
        self._service = service
        self._rng = rng
        self._tally = tally
        self._describe = compile_actions(settings.actions)

    def check(self, request: InboundRequest) -> Asking | None:
        if not hits(self._settings.enabled, self._rng):
            return None
        descriptors = self._describe(request)
        return self._asked(request, descriptors) if descriptors else None

    def _asked(self, request: InboundRequest, descriptors: list[tuple[tuple[tuple[str, str], ...], int]]) -> Asking:
        settings = self._settings
        found = yield from self._service.should_limit(descriptors)
        if found is None:
            if settings.deny:
                self._tally.note(MECHANISM, "failed closed", False)
                return Refusal(settings.error_status, "", None, "RLSE", "rate_limiter_error")
            self._tally.note(MECHANISM, "failed open", False)
            return None
        told = self._told(found)
        if not found.over:
            for name, value in found.for_application:
                request.put(name, value)
            if told:
                request.for_caller.extend(told)
            return None
        if not self._tally.note(MECHANISM, "refused", not hits(settings.enforced, self._rng)):
            if told:
                request.for_caller.extend(told)
            return None
        untell(request.for_caller)
        nearest = found.nearest
        wait = retry_after(nearest.reset if nearest is not None else 1.0)
        headers = (*told, *(RATE_LIMITED if settings.tells else ()), *settings.response_headers)
        if not any(name == b"retry-after" for name, _ in headers):
            headers = (*headers, wait)
        grpc_status = RESOURCE_EXHAUSTED if settings.resource_exhausted else None
        return Refusal(settings.status, found.body, grpc_status, "RL", "request_rate_limited", headers)

    def _told(self, found: Verdict) -> tuple[tuple[bytes, bytes], ...]:
        nearest = found.nearest
        if not self._settings.x_headers or nearest is None:
            return found.for_caller
        windows = [(status.requests, status.seconds, status.name) for status in found.statuses if status.seconds]
        return (*found.for_caller, *quotas(nearest.requests, nearest.remaining, math.floor(nearest.reset), windows))
