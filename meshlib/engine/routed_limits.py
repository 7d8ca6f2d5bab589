"""Rate limits that count by the route (``key: route``), asked when a router has matched one: for integrations, between routing
and the endpoint. Each request counts once, whatever routers look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.effects import Serve
from meshlib.engine.inbound import CHECK_FAILED

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall, InboundExchange
    from meshlib.engine.inbound_limits import RateLimits
    from meshlib.policy.refusal import Refusal


def limits_of_route(call: InboundCall, template: str) -> tuple[Refusal | None, InboundExchange | None]:
    """What the limits in this process say of a request that has come to the route ``template``; and, where others count, what
    to drive up to the ``Serve`` that has their refusal. A refusal is noted on the call."""
    limits, call.route_limits = call.route_limits, None
    if limits is None:
        return None, None
    try:
        refusal = limits.here(call.request, template)
    except Exception as error:  # noqa: BLE001 (fails closed, as in the exchange)
        call.failures.note(error)
        refusal = CHECK_FAILED
    if refusal is not None:
        call.refuse(refusal)
        return refusal, None
    return None, _elsewhere(call, limits, template) if limits.asks_others else None


def _elsewhere(call: InboundCall, limits: RateLimits, template: str) -> InboundExchange:
    try:
        refusal = yield from limits.elsewhere(call.request, template)
    except Exception as error:  # noqa: BLE001 (likewise)
        call.failures.note(error)
        refusal = CHECK_FAILED
    if refusal is not None:
        call.refuse(refusal)
    yield Serve(refusal)
