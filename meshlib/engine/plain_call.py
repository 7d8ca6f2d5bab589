"""A plain call without its generator: what ``outbound`` does for a rule and clusters that ask for nothing but one attempt, step
for step. As soon as more is needed (a retry, a failure, a response in pieces), ``outbound`` goes on with the attempt.

    send = begun(call)              None: ``outbound`` has to begin; a ``Deliver``: that was all
    send.outcome = ...              the driver's
    if not ended(call, send):       nothing has been noted of the outcome
        exchange = outbound(call, brief=True, begun=send)
        assert next(exchange) is send

Who knows that the outcome is ``usual`` may say ``over`` in place of ``ended``, and ``noted`` where that is to be seen of the
call.

A driver that does not come to ``ended`` says ``given_up``; one that begins the same ``Call`` again says ``let_go`` before.
``tests/engine/test_plain_call.py`` holds both ways against each other.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from meshlib.engine.before_sending import made_here, no_endpoint
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.locked_cluster import COUNTS_UNLOCKED
from meshlib.engine.message import R
from meshlib.engine.plan import INFINITE, Plan
from meshlib.engine.tally import ABANDONED
from meshlib.policy.circuit_limits import UNLIMITED
from meshlib.policy.retry import BELOW_500, asks_for_retry

if TYPE_CHECKING:
    from meshlib.compiler.routes import Rule
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.live import Live
    from meshlib.engine.outcome import Outcome
    from meshlib.engine.plan import Way
    from meshlib.policy.endpoint import EndpointState
    from meshlib.policy.header_ops import Headers

NO_HEADERS: Headers = []


def begun(call: Call[R], spare: Send[R] | None = None) -> Send[R] | Deliver | None:
    """The first attempt of a plain call; or the response that is made here, as there is nobody to send it to: the call is over
    with that. None: it is not plain, and nothing has happened. ``spare``: the attempt of this ``call`` object
    when it was another call, which has ``ended``; it is used again."""
    record, live = call.record, call.live
    plan = live.plain.get(record.rule_object)
    if plan is None:
        if record.rule_object in live.plain:
            return None
        plan = _learn(live, record.rule_object)
        if plan is None:
            return None
    if call.request.has_envoy_headers:
        return None
    now, within, patience = call.clock.monotonic(), plan.within, call.timeouts.patience
    if patience < within:
        if now + patience <= now:
            return None
        within = patience
    record.started = now
    rng, way = call.rng, plan.only
    if way is None:  # as ``WeightedChoice.pick``, without its function (1,500 instructions)
        drawn = plan.drawn
        way = drawn[floor(rng.random() * plan.span)] if drawn is not None else plan.ways[plan.choice.pick(rng)]
    record.destination = way.destination
    cluster = way.cluster
    if cluster is None:
        cluster = _bound(live, way)
    state, draw = cluster.state, cluster.draw
    endpoint: EndpointState | None
    if draw is not None and now < state.next_tick and cluster.generation == state.generation:
        endpoint = draw(rng)  # as ``BoundCluster.pick``, without its function (1,200 instructions)
    else:
        endpoint = cluster.pick(rng, now)
    if endpoint is None or state.requests - state.ended >= cluster.max_requests:
        return made_here(call, no_endpoint(call, state.tally, endpoint))
    head = now + within - now if within < INFINITE else None  # rounded as in ``outbound``
    deadline = None if plan.timeout is None else now + plan.timeout
    if spare is None:
        send = Send(call, cluster, endpoint, head, deadline)
    else:
        send = spare
        send.cluster = cluster
        send.endpoint = endpoint
        send.timeout = head
        send.deadline = deadline
        del send.outcome
    if COUNTS_UNLOCKED:  # as ``cluster.begin``, without its function: nothing can come between these either
        state.requests += 1
        endpoint.active += 1
        send.under_way = True
    else:
        try:
            cluster.begin(send)
        except BaseException:  # an interrupt, of which ``given_up`` would not know
            cluster.end(send)
            raise
    record.endpoint = endpoint.key
    return send


def ended(call: Call[R], send: Send[R]) -> bool:
    """The attempt has its outcome, and with that the call is over. False: more is to be done about it."""
    outcome, record, endpoint = send.outcome, call.record, send.endpoint
    if not outcome.usual:
        status, headers, rule = outcome.status, outcome.headers, record.rule_object
        assert rule is not None
        if outcome.failure is not None or outcome.body is not None or outcome.grpc_status or status >= 500:
            return False
        retry = rule.retry
        if retry.retry_on.bits & BELOW_500 and asks_for_retry(retry, status, headers):
            return False
    now = call.clock.monotonic()
    call.outcome = outcome
    record.upstream_ms = (now - record.started) * 1000.0
    record.attempted = endpoint.key, outcome.status, outcome.grpc_status, now
    if call.live.tells:
        record.answered = outcome, now, False
    cluster = send.cluster
    if not endpoint.spotless:
        cluster.record_status(endpoint, outcome.status, now)
    if COUNTS_UNLOCKED and send.under_way:  # as ``cluster.end``
        cluster.state.ended += 1
        endpoint.active -= 1
        send.under_way = False
    else:
        cluster.end(send)
    return True


def over(send: Send[R], now: float) -> None:
    """The part of ``ended`` that is about its cluster, of a 200 that is ``usual``. What is about the call has to be ``noted``,
    unless nobody will look at it."""
    cluster, endpoint = send.cluster, send.endpoint
    if not endpoint.spotless:
        cluster.record_status(endpoint, 200, now)
    if COUNTS_UNLOCKED and send.under_way:  # as ``cluster.end``
        cluster.state.ended += 1
        endpoint.active -= 1
        send.under_way = False
    else:
        cluster.end(send)


def noted(call: Call[R], send: Send[R], now: float) -> None:
    """The other part."""
    outcome, record = send.outcome, call.record
    call.outcome = outcome
    record.upstream_ms = (now - record.started) * 1000.0
    record.attempted = send.endpoint.key, outcome.status, outcome.grpc_status, now
    if call.live.tells:
        record.answered = outcome, now, False


def let_go(call: Call[R], record: Exchange, outcome: Outcome) -> None:
    """The call, of this ``record`` and ``outcome``, is over and told: who begins it again is to find nothing of it. What may
    be long does not wait with it, nor does a configuration that is replaced; and the next one may come to an end before it has
    any of the rest."""
    call.request = outcome.whole = None  # type: ignore[assignment]
    outcome.headers = NO_HEADERS
    call.outcome = record.destination = record.attempted = record.upstream_ms = None
    record.peer_metadata = record.grpc_status = None
    if call.live.tells:  # for an access log, which has its line
        del record.answered
        outcome.stream = None
    call.live = record.virtual_host = record.rule_object = None  # type: ignore[assignment]
    record.endpoint = ""
    record.status = 0


def given_up(send: Send) -> None:
    """Nobody waits for the attempt any more."""
    if send.under_way and not hasattr(send, "outcome"):
        send.cluster.state.tally.results[ABANDONED] += 1
    send.cluster.end(send)


def _learn(live: Live, rule: Rule | None) -> Plan | None:
    plan = live.plain[rule] = Plan(rule) if rule is not None and is_plain(rule, live.snapshot) else None
    return plan


def _bound(live: Live, way: Way) -> BoundCluster:
    """Clusters are bound when calls go there first."""
    cluster = way.cluster = live.cluster(way.destination.cluster)
    return cluster


def is_plain(rule: Rule, snapshot: Snapshot) -> bool:
    """Whether nothing of the rule, of the clusters that it leads to and of the snapshot asks for more than an attempt."""
    if not rule.plain or snapshot.fallbacks:
        return False
    retry = rule.retry
    if rule.timeout is not None and rule.timeout <= 0.0:  # nobody can respond in time
        return False
    if 200 in retry.retry_on.codes or (retry.per_try_timeout is not None and retry.per_try_timeout <= 0.0):
        return False
    for destination in rule.destinations:
        cluster = snapshot.clusters.get(destination.cluster)
        if cluster is None or cluster.refusal or cluster.hash_policy is not None or cluster.host in snapshot.resilience:
            return False
        if cluster.resolution == "passthrough" or (cluster.limits.max_connections < UNLIMITED and not cluster.http2):
            return False
    return True
