"""A plain call without its generator: what ``outbound`` does for a rule and clusters that ask for nothing but one attempt, step
for step. As soon as more is needed (a retry, a failure, a response in pieces), ``outbound`` goes on with the attempt.

    send = begun(call)              None: ``outbound`` has to begin; a ``Deliver``: that was all
    send.outcome = ...              the driver's
    if not ended(call, send):       nothing has been noted of the outcome
        exchange = outbound(call, brief=True, begun=send)
        assert next(exchange) is send

A driver that does not come to ``ended`` says ``given_up``. ``tests/engine/test_plain_call.py`` holds both against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.before_sending import made_here, no_endpoint
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.message import R
from meshlib.engine.tally import ABANDONED
from meshlib.policy.circuit_limits import UNLIMITED
from meshlib.policy.retry import asks_for_retry

if TYPE_CHECKING:
    from meshlib.compiler.routes import Rule
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.engine.call import Call
    from meshlib.engine.live import Live

INFINITE = float("inf")


def begun(call: Call[R]) -> Send[R] | Deliver | None:
    """The first attempt of a plain call; or the response that is made here, as there is nobody to send it to: the call is over
    with that. None: it is not plain, and nothing has happened."""
    record, live = call.record, call.live
    rule = record.rule_object
    if rule is None or call.request.has_envoy_headers:
        return None
    plain = live.plain.get(rule)
    if not plain and (plain is not None or not _learn(live, rule)):
        return None
    now, retry = call.clock.monotonic(), rule.retry
    limit = now + call.timeouts.patience
    until = None if rule.timeout is None else now + rule.timeout
    if until is not None and until < limit:
        limit = until
    if limit <= now:
        return None
    record.started = now
    destinations = rule.destinations
    destination = destinations[0 if len(destinations) == 1 else rule.choice.pick(call.rng)]
    record.destination = destination
    cluster = live.bound.get(destination.cluster) or live.cluster(destination.cluster)
    state = cluster.state
    endpoint = cluster.pick(call.rng, now, None, (), retry)
    if endpoint is None or state.requests - state.ended >= cluster.max_requests:
        return made_here(call, no_endpoint(call, state.tally, endpoint))
    if retry.per_try_timeout is not None:
        limit = min(limit, now + retry.per_try_timeout)
    send = Send(call, cluster, endpoint, None if limit == INFINITE else limit - now, until)
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
    status, rule, headers = outcome.status, record.rule_object, outcome.headers
    assert rule is not None
    if outcome.failure is not None or outcome.body is not None or outcome.grpc_status or status >= 500:
        return False
    retry = rule.retry
    # a 200 without headers, as most calls of gRPC have, asks for another attempt only where the rule lists it
    if (headers != [] or status != 200 or status in retry.retry_on.codes) and asks_for_retry(retry, status, headers):
        return False
    now = call.clock.monotonic()
    call.outcome = outcome
    record.upstream_ms = (now - record.started) * 1000.0
    record.attempted = endpoint.key, status, outcome.grpc_status, now
    if call.live.tells:
        record.answered = outcome, now, False
    if not endpoint.spotless:
        send.cluster.record_status(endpoint, status, now)
    send.cluster.end(send)
    return True


def given_up(send: Send) -> None:
    """Nobody waits for the attempt any more."""
    if send.under_way and not hasattr(send, "outcome"):
        send.cluster.state.tally.results[ABANDONED] += 1
    send.cluster.end(send)


def _learn(live: Live, rule: Rule) -> bool:
    plain = live.plain[rule] = is_plain(rule, live.snapshot)
    return plain


def is_plain(rule: Rule, snapshot: Snapshot) -> bool:
    """Whether nothing of the rule, of the clusters that it leads to and of the snapshot asks for more than an attempt."""
    if not rule.plain or snapshot.fallbacks:
        return False
    for destination in rule.destinations:
        cluster = snapshot.clusters.get(destination.cluster)
        if cluster is None or cluster.refusal or cluster.hash_policy is not None or cluster.host in snapshot.resilience:
            return False
        if cluster.resolution == "passthrough" or (cluster.limits.max_connections < UNLIMITED and not cluster.http2):
            return False
    return True
