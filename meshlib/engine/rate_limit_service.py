"""Envoy's rate-limit service, asked through the mesh: in its deadline, by every runtime. What it does not say lets requests
through, where nothing else is configured, and is counted."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from meshlib.engine.effects import Ask
from meshlib.engine.grpc_unary import grpc_message, grpc_request
from meshlib.policy.rate_limit_service import METHOD, Verdict, request, verdict
from meshlib.policy.token_bucket import Taken

if TYPE_CHECKING:
    from meshlib.compiler.inbound_protection import RateLimit
    from meshlib.engine.custom import Asker
    from meshlib.engine.effects import Step
    from meshlib.engine.inbound_limits import Counting
    from meshlib.engine.plain_request import PlainRequest
    from meshlib.policy.rate_limit_actions import Descriptor
    from meshlib.policy.token_bucket import Rate

LONGEST_RESPONSE = 256 * 1024
ENTRY = {"": "generic_key", "remoteIp": "remote_address", "principal": "principal", "route": "route"}
"""The descriptor keys of limits by what they count by; of a header or claim it is its name."""


class RateLimitService:
    """One at ``host`` and ``port``, which must be one that speaks gRPC, under a ``domain``. ``why`` it did not say, the
    last time; "" when it did."""

    __slots__ = ("_ask", "_authority", "_domain", "_timeout", "name", "why")

    def __init__(self, ask: Asker, host: str, port: int, domain: str, timeout: float) -> None:
        self._ask = ask
        self._authority = f"{host}:{port}"
        self._domain = domain
        self._timeout = timeout
        self.name = f"{domain} at {host}:{port}"
        self.why = ""

    def should_limit(
        self, descriptors: Sequence[tuple[Descriptor, int]], rate: Rate | None = None
    ) -> Generator[Step[PlainRequest], None, Verdict | None]:
        """What it says of a request; None: nothing, in time or at all."""
        body = request(self._domain, descriptors, rate)
        question = grpc_request(self._authority, METHOD, body, self._timeout)
        try:
            exchange = self._ask(question, self._timeout)
        except Exception as error:  # noqa: BLE001 (nobody to ask: as one that does not respond)
            self.why = str(error)
            return None
        effect = Ask(exchange, LONGEST_RESPONSE)
        yield effect
        raw = grpc_message(effect.outcome)
        found = raw if isinstance(raw, str) else verdict(raw)
        if isinstance(found, str):
            self.why = found
            return None
        self.why = ""
        return found


class ServiceCounter:
    """Counts the limits of ResiliencePolicies with it."""

    __slots__ = ("service",)

    def __init__(self, service: RateLimitService) -> None:
        self.service = service

    def count(self, limit: RateLimit, key: str) -> Counting:
        """By one descriptor. The service is told the rate where its units can say it."""
        by = limit.key
        entry = (ENTRY.get(by.kind) or by.name, key if by.kind else limit.name)
        found = yield from self.service.should_limit([((entry,), 1)], limit.rate)
        if found is None:
            return None
        status = found.nearest
        interval = limit.rate.interval
        if status is None:
            return Taken(
                not found.over, 0.0 if found.over else float(limit.rate.burst), 1.0 if found.over else 0.0, limit.rate
            )
        return Taken(
            not found.over, float(status.remaining), status.reset / interval if found.over else 0.0, limit.rate
        )
