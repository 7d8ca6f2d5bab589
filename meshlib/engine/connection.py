"""The exchange of a connection that is forwarded as it is: from the rule to the last byte, nobody reading what goes through.

As Envoy's TCP proxy under a sidecar: one attempt, no timeout but the cluster's own (connectTimeout), a connection of
maxConnections or none at all (nobody stands in line), and what outlier detection is told is whether there was a connection.
Rules of HTTP do not act, and of a ResiliencePolicy only the circuit breaker does, which is told the same as outlier detection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine import replies
from meshlib.engine.before_sending import made_here, no_cluster, no_endpoint, no_route
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.outcome import LOCAL_ORIGIN
from meshlib.engine.picks import Picks
from meshlib.engine.tally import ABANDONED, PENDING
from meshlib.policy.circuit_limits import Place
from meshlib.policy.retry import RetryPolicy

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.effects import Exchange
    from meshlib.engine.message import R

ONCE = RetryPolicy(attempts=0)
CONNECTED = 200
"""What outlier detection counts a connection as (Envoy's LocalOriginConnectSuccessFinal)."""


def connection(call: Call[R]) -> Exchange[R]:
    """``Send`` asks its driver for a connection to the endpoint: an ``Outcome`` without a failure is one. ``Deliver`` comes
    last, as of ``outbound``, and is told when the connection is over. ``call.record`` holds the route."""
    record, clock = call.record, call.clock.monotonic
    record.started = clock()
    rule = record.rule_object
    if rule is None or not rule.destinations:
        yield made_here(call, no_route(call))
        return
    destinations = rule.destinations
    destination = destinations[0 if len(destinations) == 1 else rule.choice.pick(call.rng)]
    record.destination = destination
    if not destination.cluster:
        yield made_here(call, no_cluster(call, destination))
        return
    cluster = call.live.bound.get(destination.cluster) or call.live.cluster(destination.cluster)
    if cluster.spec.refusal:
        yield made_here(call, replies.refused_to_connect(record, cluster.spec.refusal))
        return
    picks = Picks(call.request, rule, call.live.snapshot) if cluster.remembers_picks else None
    slots, place = cluster.state.slots, Place()
    sent: Send[R] | None = None
    guard = cluster.guard
    if guard is not None and not guard.admits_connection(call.clock.time()):
        record.add_flag("UO")
        yield made_here(call, replies.refused("circuitBreaker"))
        return
    try:
        endpoint = cluster.pick(call.rng, record.started, picks, (), ONCE)
        if endpoint is None:
            yield made_here(call, no_endpoint(call, cluster.state.tally, endpoint))
            return
        if slots is not None and not slots.try_acquire(place):
            record.add_flag("UO")
            cluster.state.tally.overflows[PENDING] += 1  # as calls are counted that find no connection
            yield made_here(call, replies.overflow())
            return
        sent = Send(call, cluster, endpoint, None, None)
        cluster.begin(sent)
        record.endpoint = endpoint.key
        yield sent
        made = _judge(call, cluster, sent)
        if guard is not None:
            guard.connected(made, call.clock.time())
            guard = None  # it has been told
        yield Deliver(sent.outcome)
    except BaseException:
        if sent is not None and sent.under_way and not hasattr(sent, "outcome"):
            cluster.state.tally.results[ABANDONED] += 1
        raise
    finally:
        if guard is not None:
            guard.connected(None, call.clock.time())
        if sent is not None:
            cluster.end(sent)
        if slots is not None:
            place.give_back(slots)


def _judge(call: Call[R], cluster: BoundCluster, sent: Send[R]) -> bool | None:
    """There is a connection, or none. None: that says nothing of the service."""
    record, endpoint, now = call.record, sent.endpoint, call.clock.monotonic()
    call.outcome = outcome = sent.outcome
    record.upstream_ms = (now - record.started) * 1000.0
    record.attempted = endpoint.key, outcome.status, outcome.failure, now
    if call.live.tells:
        record.answered = outcome, now, False
    if outcome.failure is None:
        if not endpoint.spotless:
            cluster.record_status(endpoint, CONNECTED, now)
        return True
    record.keep_attempt(outcome.detail)
    kind = LOCAL_ORIGIN.get(outcome.failure)
    if kind is not None:
        cluster.record_failure(endpoint, kind, now)
    else:
        cluster.state.tally.results[ABANDONED] += 1
    record.add_flag(replies.FLAG_OF_FAILURE[outcome.failure])
    return None if kind is None else False
