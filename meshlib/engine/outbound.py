"""The outbound exchange: the whole life of a client's call, from the chosen rule to the last byte of the response.

Read from top to bottom: local responses -> cluster and deadlines -> admission -> pick -> send -> judge -> retry or deliver.
What is not an effect is a plain function of its own; what few calls need and has effects (a delay, a line to wait in, hedges) a
generator of its own. The happy path is inline, because each level of ``yield from`` costs at every resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine import replies
from meshlib.engine.actions import change_response
from meshlib.engine.before_sending import (
    as_asked,
    before_sending,
    caller_gave_up,
    made_here,
    no_endpoint,
    no_place,
    no_route,
)
from meshlib.engine.effects import Deliver, Send, Sleep
from meshlib.engine.guarded import GuardedCall
from meshlib.engine.message import R
from meshlib.engine.mirror import copies
from meshlib.engine.outcome import Failure
from meshlib.engine.picks import Picks
from meshlib.engine.taken import Taken
from meshlib.engine.tally import ABANDONED, STALE
from meshlib.engine.verdicts import (
    judge_cut,
    judge_failure,
    may_be_retried,
    no_time_for_retry,
    resend_after,
)
from meshlib.policy.retry import asks_for_retry, backoff

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Rule
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.effects import Exchange
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.endpoint import EndpointState

INFINITE = float("inf")


def outbound(call: Call[R], brief: bool = False, begun: Send[R] | None = None) -> Exchange[R]:
    """Drive with a driver of ``engine.drivers``. ``call.record`` holds the route and is filled with what happens. ``brief``: it
    may end without ``Deliver`` where all it asks for is one ``Send`` and the response of that comes whole, as nearly always;
    ``run_brief`` drives it (rows "policy cost of one call"). ``begun``: the attempt of ``plain_call.py`` it begins with."""
    record, clock = call.record, call.clock.monotonic
    rule = record.rule_object
    if begun is None:
        record.started = clock()
    started = now = record.started

    # -- what needs no server -----------------------------------------------------------------------------------------
    if rule is None:
        yield made_here(call, no_route(call))
        return
    destination = _chosen(call, rule) if begun is None else record.destination
    caller_deadline = started + call.timeouts.patience
    if caller_deadline <= started:
        yield made_here(call, caller_gave_up(call))
        return
    if not rule.plain:
        response = yield from before_sending(call, rule, caller_deadline)
        if response is not None:
            yield made_here(call, response)
            return
        now = clock()

    # -- where to, how often, how long --------------------------------------------------------------------------------
    assert destination is not None  # without one, ``before_sending`` has responded
    cluster = call.live.bound.get(destination.cluster) or call.live.cluster(destination.cluster)
    state, slots = cluster.state, cluster.state.slots
    retry, timeout = rule.retry, rule.timeout
    if call.request.has_envoy_headers:
        retry, timeout = as_asked(call, retry, timeout)
    deadline = INFINITE if timeout is None else now + timeout
    picks: Picks | None = None
    taken: Taken | None = None
    guarded: GuardedCall[R] | None = None
    if not cluster.plain:
        if cluster.spec.refusal:
            yield made_here(call, replies.refused_to_connect(record, cluster.spec.refusal))
            return
        if cluster.remembers_picks:
            picks = Picks(call.request, rule, call.live.snapshot)
        if cluster.guard is not None:
            guarded = GuardedCall(call, cluster, deadline, now)
            deadline = guarded.deadline
            taken = Taken(cluster, None, guarded)
    if slots is not None and begun is None and not call.request.multiplexed:
        taken = Taken(cluster, slots, guarded)
    limit = min(deadline, caller_deadline)
    until = None if deadline == INFINITE else deadline
    attempt = resent = 0
    tried: tuple[EndpointState, ...] = ()
    mirrors = rule.mirrors
    sent: Send[R] | None = None
    try:
        if guarded is not None:
            response = yield from guarded.admitted(now, limit)
            if response is not None:
                yield made_here(call, response)
                return
            now = clock()
        while True:
            # -- an endpoint, and a connection slot -------------------------------------------------------------------
            attempt += 1
            if begun is None:
                endpoint = cluster.pick(call.rng, now, picks, tried, retry)
                if endpoint is None or state.requests - state.ended >= cluster.max_requests:
                    yield made_here(call, no_endpoint(call, state.tally, endpoint))
                    return
            else:
                endpoint = begun.endpoint
            if taken is not None and taken.lacks_slot():
                response = yield from taken.slot(call, deadline, caller_deadline)
                if response is not None:
                    yield made_here(call, response)
                    return
                now = clock()
            if now >= limit:  # waiting for a place has taken all the time
                yield made_here(call, no_place(call, now, deadline, caller_deadline))
                return

            # -- the attempt ------------------------------------------------------------------------------------------
            if mirrors:
                mirrors = yield from copies(call, rule, mirrors, call.request.whole)
            head_by = limit if retry.per_try_timeout is None else min(limit, now + retry.per_try_timeout)
            if begun is None:
                sent = Send(call, cluster, endpoint, None if head_by == INFINITE else head_by - now, until, attempt)
                cluster.begin(sent)
                record.endpoint = endpoint.key
            else:
                sent, begun = begun, None
            if guarded is None:
                yield sent
            else:
                assert taken is not None
                sent = yield from guarded.attempt(sent, now, taken, picks, retry)
                taken.settle(sent)
                endpoint = sent.endpoint
            began, now = now, clock()

            # -- was it one? ------------------------------------------------------------------------------------------
            call.outcome = outcome = sent.outcome
            failure, status = outcome.failure, outcome.status
            record.upstream_ms = (now - began) * 1000.0
            record.attempted = endpoint.key, status, failure or outcome.grpc_status, now
            if call.live.tells:
                record.answered = outcome, now, False
            if failure is None:
                if outcome.grpc_status:
                    status = outcome.health_status
                if status >= 500 or not endpoint.spotless:
                    cluster.record_status(endpoint, status, now)
                if not asks_for_retry(retry, outcome.status, outcome.headers):
                    break
            else:
                record.keep_attempt(outcome.detail)
                again = resend_after(call.request, outcome, resent, limit - now)
                if again is not None:
                    # on a fresh connection, with the slot that the closed one had: it has stood in line already
                    resent, attempt, brief = resent + 1, attempt - 1, False
                    state.tally.results[STALE] += 1
                    cluster.end(sent)
                    if again:
                        yield Sleep(again)
                        now = clock()
                        if now >= limit:
                            yield made_here(call, no_time_for_retry(call, timeout, now, deadline, caller_deadline))
                            return
                    continue
                timed_out = failure is Failure.TIMEOUT
                if timed_out and head_by == caller_deadline < deadline:
                    # the caller's own patience, not the route's: as if it had hung up on a sidecar
                    state.tally.results[ABANDONED] += 1
                    yield made_here(call, caller_gave_up(call))
                    return
                if not judge_failure(cluster, endpoint, retry, failure, now, timed_out and head_by == deadline):
                    break

            # -- a retry is wanted: may it be? ------------------------------------------------------------------------
            if taken is None:
                taken = Taken(cluster, None, None)
            if not may_be_retried(call, taken, retry, attempt, now):
                break
            cluster.end(sent)
            taken.leave_slot()
            outcome.drop()
            tried = (*tried, endpoint)
            pause = backoff(retry, attempt, call.rng, call.wait)
            too_long = now + pause >= limit
            yield Sleep(min(pause, max(0.0, limit - now)))
            now = clock()
            if too_long or now >= limit:
                yield made_here(call, no_time_for_retry(call, timeout, now, deadline, caller_deadline))
                return

        # -- the response is final: hand it over and stay until its last byte -----------------------------------------
        if guarded is not None:
            guarded.conclude(failure, status)
        if failure is not None or not rule.plain or picks is not None:
            _finish_response(call, rule, outcome, picks)
            # a streamed body is known only now that it has been sent
            yield from copies(call, rule, mirrors, call.request.sent)
        elif brief and taken is None and outcome.body is None:
            return  # there is no last byte to stay for
        cut = yield Deliver(outcome, until)
        if cut is not None:
            judge_cut(call, cluster, endpoint, guarded, cut, status)
    except BaseException:
        _note_abandoned(cluster, sent)
        raise
    finally:
        try:
            if sent is not None:
                cluster.end(sent)
            if taken is not None:
                taken.give_back()
        except BaseException:  # an interrupt comes in here as well; what has been given back is not given back again
            _give_back(cluster, sent, taken)
            raise


def _chosen(call: Call, rule: Rule) -> Destination | None:
    """The destination of the call; None: the rule has none."""
    destinations = rule.destinations
    if not destinations:
        return None
    chosen = destinations[0 if len(destinations) == 1 else rule.choice.pick(call.rng)]
    call.record.destination = chosen
    return chosen


def _note_abandoned(cluster: BoundCluster, sent: Send | None) -> None:
    if sent is not None and sent.under_way and not hasattr(sent, "outcome"):
        cluster.state.tally.results[ABANDONED] += 1


def _give_back(cluster: BoundCluster, sent: Send | None, taken: Taken | None) -> None:
    if sent is not None:
        cluster.end(sent)
    if taken is not None:
        taken.give_back()


def _finish_response(call: Call, rule: Rule, outcome: Outcome, picks: Picks | None) -> None:
    """What is added to the final outcome before it is delivered."""
    record = call.record
    if outcome.failure is not None:
        flag = replies.FLAG_OF_FAILURE.get(outcome.failure, "")
        record.flags = ",".join(filter(None, (flag, record.flags)))
        return
    if rule.cors is not None or (record.destination is not None and record.destination.response_ops):
        change_response(call, outcome)
    if picks is not None and picks.set_cookie:
        outcome.headers = [*outcome.headers, (b"set-cookie", picks.set_cookie.encode("latin-1"))]
        outcome.usual = False
