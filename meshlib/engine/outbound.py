"""The outbound exchange: the whole life of a client's call, from the chosen rule to the last byte of the answer.

Read from top to bottom: no route -> fault -> cors -> admission -> pick -> send -> record -> retry or deliver. The happy path is
inline, because each level of ``yield from`` costs at every resume.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.engine import deadlines, replies
from meshlib.engine.actions import answer_of, change_answer, change_request
from meshlib.engine.effects import Acquire, Deliver, Exchange, Race, Send, Sleep
from meshlib.engine.explanation import Attempt
from meshlib.engine.hedges import Hedges
from meshlib.engine.mirror import copies
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import Place
from meshlib.policy.fault import draw
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.retry import ASKED, asked_timeouts, backoff, merge_request_headers, should_retry

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.guard import Guard
    from meshlib.policy.endpoint import EndpointState
    from meshlib.policy.retry import RetryPolicy

INFINITE = float("inf")

LOCAL_ORIGIN = {
    Failure.CONNECT_FAILED: "connect",
    Failure.CONNECT_TIMEOUT: "connect",
    Failure.RESET: "reset",
    Failure.REFUSED: "reset",
    Failure.PROTOCOL_ERROR: "reset",
    Failure.TIMEOUT: "timeout",
}
"""Failures that outlier detection holds against the endpoint; the others are the caller's or our own doing."""

SAFE_TO_RESEND = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


def outbound(call: Call) -> Exchange:
    """Drive with a driver of ``engine.drivers``. ``call.record`` holds the route and is filled with what happens."""
    record = call.record
    rule = record.rule_object
    clock = call.clock.monotonic
    started = record.started = clock()
    if rule is None:
        if record.virtual_host is call.live.snapshot.blocked:
            yield Deliver(replies.blocked(), local=True)
            return
        record.add_flag("NR")
        yield Deliver(replies.no_route(), local=True)
        return

    destinations = rule.destinations
    if destinations:
        record.destination = destinations[0 if len(destinations) == 1 else rule.choice.pick(call.rng)]
    timeouts = call.timeouts
    caller_deadline = INFINITE if timeouts.read is None else started + timeouts.read
    if caller_deadline <= started:
        record.add_flag("DC")
        yield Deliver(_caller_gave_up(timeouts.read), local=True)
        return

    if rule.fault is not None:
        delay, abort_status, grpc_status = draw(rule.fault, call.rng)
        if delay:
            record.add_flag("DI")
            record.injected_delay = delay
            left = max(0.0, caller_deadline - clock())
            yield Sleep(min(delay, left))
            if delay >= left or clock() >= caller_deadline:  # loops may wake a little early: uvloop counts milliseconds
                record.add_flag("DC")
                yield Deliver(_caller_gave_up(timeouts.read), local=True)
                return
        if abort_status:
            record.add_flag("FI")
            yield Deliver(change_answer(call, replies.fault_abort(abort_status, grpc_status), cors=False), local=True)
            return

    if rule.cors is not None:
        allowed = rule.cors.preflight(call.request.method, call.request.header)
        if allowed is not None:
            yield Deliver(replies.preflight(allowed), local=True)
            return
    destination = record.destination
    if destination is None:
        yield Deliver(change_answer(call, answer_of(call, rule)), local=True)
        return
    if not destination.cluster:
        record.add_flag("NC")
        yield Deliver(change_answer(call, replies.no_cluster()), local=True)
        return
    if rule.rewrite is not None or destination.request_ops or destination.authority:
        change_request(call, rule, destination)

    live = call.live
    cluster = live.bound.get(destination.cluster) or live.cluster(destination.cluster)
    if cluster.spec.refusal:
        record.add_flag("UF")
        yield Deliver(Outcome(Failure.CONNECT_FAILED, cluster.spec.refusal), local=True)
        return
    state = cluster.state
    limits = cluster.spec.limits
    slots = None if call.request.multiplexed else state.slots
    retry, timeout = rule.retry, rule.timeout
    if call.request.has_envoy_headers:
        retry, timeout = _as_asked(call, retry, timeout)
    now = clock() if record.injected_delay else started
    deadline = INFINITE if timeout is None else now + timeout
    guard = cluster.guard
    if guard is not None:  # what only a guarded call has
        deadline_header = ""
        crowd = status = 0
        in_bulkhead: Place | None = None
        success: bool | None = None
        if guard.settings.deadline is not None:
            deadline, deadline_header = _inherited(guard, deadline, now)
            if deadline <= now:
                record.add_flag("UT")
                passed = "the deadline of the request being served has passed"
                yield Deliver(Outcome(Failure.TIMEOUT, passed), local=True)
                return
    limit = deadline if deadline < caller_deadline else caller_deadline
    attempt = 0
    resent = False
    tried: list[EndpointState] | None = None
    place = None if slots is None else Place()
    to_mirror = rule.mirrors
    hedges: Hedges | None = None
    try:
        if guard is not None:
            refusal = guard.admit(now, call.clock.time(), call)
            if refusal:
                record.add_flag("UO")
                yield Deliver(change_answer(call, replies.refused(refusal)), local=True)
                return
            crowd = guard.active
            bulkhead = guard.bulkhead
            in_bulkhead = Place()
            if bulkhead is not None and not bulkhead.try_acquire(in_bulkhead):
                if not guard.settings.enforces("bulkhead"):
                    guard.note("bulkhead", "made wait")
                else:
                    granted = yield Acquire(bulkhead, None if limit == INFINITE else limit - now, in_bulkhead)
                    if granted:
                        in_bulkhead.slots = bulkhead  # the line has put it there; a runtime without a line only says so
                    now = clock()
                    guard.note("bulkhead", "made wait" if granted else "refused")
                    if not granted:
                        record.add_flag("UO")
                        yield Deliver(change_answer(call, replies.refused("bulkhead")), local=True)
                        return
        while True:
            attempt += 1
            endpoint = cluster.pick(call, now, tried)
            if endpoint is None:
                record.add_flag("UH")
                yield Deliver(change_answer(call, replies.no_healthy_upstream()), local=True)
                return
            if state.active >= limits.http2_max_requests:
                record.add_flag("UO")
                yield Deliver(change_answer(call, replies.overflow()), local=True)
                return
            if slots is not None and place is not None and place.slots is None and not slots.try_acquire(place):
                patience = min(limit - clock(), INFINITE if timeouts.pool is None else timeouts.pool)
                granted = yield Acquire(slots, None if patience == INFINITE else patience, place)
                now = clock()
                if granted is None:
                    record.add_flag("UO")
                    yield Deliver(change_answer(call, replies.overflow()), local=True)
                    return
                place.slots = slots if granted else None
                if not granted:
                    outcome = _no_slot(now, deadline, caller_deadline, timeouts.pool)
                    record.add_flag(replies.FLAG_OF_FAILURE[outcome.failure or Failure.OVERFLOW])
                    yield Deliver(outcome, local=True)
                    return

            if now >= limit:  # waiting for a place has taken all the time
                outcome = _no_slot(now, deadline, caller_deadline, timeouts.pool)
                record.add_flag(replies.FLAG_OF_FAILURE[outcome.failure or Failure.OVERFLOW])
                yield Deliver(outcome, local=True)
                return

            if to_mirror and call.request.replayable and call.request.whole:
                to_mirror = ()
                for copy in copies(call, rule):
                    yield copy
            cluster.begin(endpoint, call)
            record.endpoint = endpoint.key
            per_try = retry.per_try_timeout
            head_by = limit if per_try is None else min(limit, now + per_try)
            attempted = Send(
                call,
                cluster,
                endpoint,
                None if head_by == INFINITE else head_by - now,
                None if deadline == INFINITE else deadline,
                attempt,
            )
            if guard is None:
                outcome = yield attempted
            else:
                guard.picked(endpoint, cluster.usable)
                if deadline_header and deadline != INFINITE:
                    call.request.set_deadline(deadline_header, deadline - now)
                wait = guard.hedge_wait(call.request.method, now)
                if wait is None or not (call.request.replayable and call.request.whole):
                    outcome = yield attempted
                elif not guard.settings.enforces("hedging"):
                    outcome = yield attempted
                    if clock() - now > wait:
                        guard.note("hedging", "hedged")
                else:
                    hedges = Hedges(attempted, call, cluster, guard, slots, place)
                    attempted, outcome = yield Race(attempted, wait, hedges)
                    place = hedges.take(attempted)
                    hedges.taken(attempted)
                    endpoint = attempted.endpoint
                    record.endpoint = endpoint.key
                if outcome.failure is None:
                    guard.observe(endpoint, clock() - now, clock())
            sent, now = now, clock()
            elapsed = (now - sent) * 1000.0
            record.upstream_ms = elapsed
            failure = outcome.failure
            status = 0
            if failure is None:
                status = outcome.status
                said = GRPC_NAMES[outcome.grpc_status].lower() if outcome.grpc_status else ""
                record.attempts.append(Attempt(endpoint.key, status, said, elapsed))
                retried = False
                if status != 200 or outcome.headers or retry.retry_on.codes:  # else there is nothing to look at
                    retried = should_retry(retry, failure=None, status=status, headers=outcome.headers)
                if said:
                    status = outcome.judged
                cluster.record_status(endpoint, status, now)
                if not retried:
                    break
            else:
                record.attempts.append(Attempt(endpoint.key, 0, failure.name.lower(), elapsed))
                if outcome.stale and not resent and call.request.method in SAFE_TO_RESEND and call.request.replayable:
                    # A kept-alive connection that the server closed as we reused it: nothing was answered, and the
                    # request may be sent again (RFC 9110 9.2.2). Once, on a fresh connection, and with the slot that the
                    # closed one had: the call has stood in line already.
                    resent = True
                    attempt -= 1
                    cluster.end(call)
                    continue
                if failure is Failure.CLOSED:
                    break
                if failure is Failure.TIMEOUT and head_by == caller_deadline < deadline:
                    # the caller's own patience, not the route's: as if it had hung up on a sidecar
                    record.add_flag("DC")
                    yield Deliver(_caller_gave_up(timeouts.read), local=True)
                    return
                kind = LOCAL_ORIGIN.get(failure)
                if kind is not None:
                    cluster.record_failure(endpoint, kind, now)
                if not should_retry(
                    retry,
                    failure=failure.name,
                    status=0,
                    global_timeout=failure is Failure.TIMEOUT and head_by == deadline,
                ):
                    break

            # -- a retry is wanted: may it be? ------------------------------------------------------------------------
            if attempt > retry.attempts:
                if retry.attempts:
                    record.add_flag("URX")
                break
            if not call.request.replayable:
                break
            if call.retrying:
                cluster.end_retry(call)
            if guard is not None and not guard.may_retry(now):
                break
            if not cluster.begin_retry(call):
                break
            cluster.end(call)
            if place is not None and slots is not None:
                place.give_back(slots)
            if outcome.body is not None:
                outcome.body.abort()
            if retry.ignore_previous_hosts or retry.remote_localities:
                if tried is None:
                    tried = []
                tried.append(endpoint)
            pause = backoff(retry, attempt, call.rng, call.wait)
            too_long = now + pause >= limit
            if too_long:
                pause = max(0.0, limit - now)
            yield Sleep(pause)
            now = clock()
            if too_long or now >= limit:
                if now >= deadline or deadline <= caller_deadline:
                    record.add_flag("UT")
                    outcome = Outcome(Failure.TIMEOUT, f"the route's timeout of {timeout or 0:g} s passed")
                else:
                    record.add_flag("DC")
                    outcome = _caller_gave_up(timeouts.read)
                yield Deliver(outcome, local=True)
                return

        # -- the answer is final: hand it over and stay until its last byte -----------------------------------------
        if guard is not None:
            success = status < 500 if outcome.failure is None else False if outcome.failure in LOCAL_ORIGIN else None
        if outcome.failure is not None:
            record.flags = ",".join(filter(None, (replies.FLAG_OF_FAILURE.get(outcome.failure, ""), record.flags)))
        elif destination.response_ops or rule.cors is not None:
            change_answer(call, outcome)
        if call.set_cookie and outcome.failure is None:
            outcome.headers = [*outcome.headers, (b"set-cookie", call.set_cookie.encode("latin-1"))]
        if (
            to_mirror and call.request.replayable and call.request.sent
        ):  # a streamed body: known only now that it has been sent
            for copy in copies(call, rule):
                yield copy
        cut = yield Deliver(outcome, None if deadline == INFINITE else deadline)
        if cut is not None:
            record.add_flag(replies.FLAG_OF_FAILURE.get(cut, "UC"))
            kind = LOCAL_ORIGIN.get(cut)
            if kind is not None:
                success = False
                cluster.record_failure(endpoint, kind, clock())
    finally:
        tries = 2  # an interrupt may come in here as well; what has been given back is not given back again
        while tries:
            try:
                if hedges is not None:
                    hedges.close()
                if call.held is not None:
                    cluster.end(call)
                if place is not None and slots is not None:
                    place.give_back(slots)
                if call.retrying:
                    cluster.end_retry(call)
                if guard is not None:
                    if in_bulkhead is not None and bulkhead is not None:
                        in_bulkhead.give_back(bulkhead)
                    if call.entered:
                        guard.leave(call, success, call.clock.time(), clock() - started, crowd, status)
                break
            except BaseException as error:  # noqa: BLE001 (raised again when all is given back)
                tries -= 1
                interrupt = error
        if tries < 2:
            raise interrupt


def _as_asked(call: Call, retry: RetryPolicy, timeout: float | None) -> tuple[RetryPolicy, float | None]:
    """The rule's retries and timeout with what the caller's x-envoy-* headers say of them. The headers stay here."""
    header = call.request.header
    merged = merge_request_headers(retry, header)
    whole, per_try = asked_timeouts(header)
    if whole is not None:
        timeout = whole or None  # 0: none
    if per_try is not None:
        merged = replace(merged, per_try_timeout=per_try or None)
    if any(header(name) is not None for name in ASKED):
        call.request.headers = [pair for pair in call.request.headers if pair[0].lower().decode("latin-1") not in ASKED]
    return merged, timeout


def _inherited(guard: Guard, deadline: float, now: float) -> tuple[float, str]:
    """The earlier of the route's deadline and that of the request being served, and the header that tells of it."""
    header, propagate = guard.settings.deadline or ("", False)
    around = deadlines.current.get()
    if around is not None and around < deadline:
        if not guard.note("deadline", "shortened" if around > now else "refused"):
            return deadline, ""
        deadline = around
    return deadline, header if propagate and guard.settings.enforces("deadline") else ""


def _caller_gave_up(seconds: float | None) -> Outcome:
    return Outcome(Failure.TIMEOUT, f"the caller's read timeout of {seconds or 0:g} s passed")


def _no_slot(now: float, deadline: float, caller_deadline: float, pool: float | None) -> Outcome:
    if now >= deadline:
        return Outcome(Failure.TIMEOUT, "the route's timeout passed while waiting for a connection slot")
    if now >= caller_deadline:
        return Outcome(Failure.TIMEOUT, "the caller's read timeout passed while waiting for a connection slot")
    return Outcome(Failure.POOL_TIMEOUT, f"no connection slot within the caller's pool timeout of {pool or 0:g} s")
