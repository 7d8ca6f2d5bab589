"""Mirroring: a copy of the request goes to another destination, and its answer is thrown away.

The copy runs beside the call (``Spawn``): it never delays it, never fails it, is tried once, and is told apart by the
``-shadow`` on its host, as in Envoy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.call import Call
from meshlib.engine.effects import Deliver, Exchange, Send, Spawn
from meshlib.engine.outcome import Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshlib.compiler.routes import Rule

MILLION = 1_000_000
PATIENCE = 60.0
"""Seconds a copy may take when its route has no timeout: nobody waits for it, so nobody would ever end it."""


def copies(call: Call, rule: Rule) -> Iterator[Spawn]:
    """The copies that are drawn for this call; each mirror draws on its own."""
    for mirror in rule.mirrors:
        if mirror.share < MILLION and call.rng.random() * MILLION >= mirror.share:
            continue
        if mirror.destination.cluster:  # a mirror to nowhere is ignored; the load has reported it
            # the request as it is now: the copy itself begins when the driver gets to it
            copy = Call(call.request.shadow(), call.live, call.clock, call.rng)
            copy.record = call.record
            yield Spawn(_copy(call, copy, rule, mirror.destination.cluster))


def _copy(call: Call, copy: Call, rule: Rule, cluster_key: str) -> Exchange:
    whole = call.timeouts.read if call.request.protocol == "grpc" else None  # gRPC's deadline is for all of a call
    cluster = call.live.cluster(cluster_key)
    now = call.clock.monotonic()
    endpoint = cluster.pick(copy, now, None)
    if endpoint is None or cluster.spec.refusal:
        yield Deliver(Outcome(Failure.CONNECT_FAILED, "the mirror has no usable endpoint"))
        return
    patience = min(rule.timeout or PATIENCE, PATIENCE if whole is None else whole)
    try:
        cluster.begin(endpoint, copy)
        outcome = yield Send(copy, cluster, endpoint, patience, now + patience)
        if outcome.failure is None:
            cluster.record_status(endpoint, outcome.judged, call.clock.monotonic())
        yield Deliver(outcome)
    finally:
        cluster.end(copy)
