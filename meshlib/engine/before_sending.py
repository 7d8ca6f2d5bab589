"""Before an attempt: what the rule responds by itself, the faults it injects, and what the caller asks for.

Called for the rules that have any of it; nearly all have not (``Rule.plain``).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.engine import replies
from meshlib.engine.actions import change_own_response, change_request, own_response
from meshlib.engine.effects import Deliver, Sleep
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.tally import REQUESTS
from meshlib.policy.fault import FaultPolicy, draw
from meshlib.policy.retry import ASKED, asked_timeouts, merge_request_headers

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Rule
    from meshlib.engine.call import Call
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.tally import Tally
    from meshlib.policy.endpoint import EndpointState
    from meshlib.policy.retry import RetryPolicy
    from meshlib.registry.lack import Lack


def made_here(call: Call, response: Outcome) -> Deliver:
    """Deliver a response (or a failure) that no server has had a part in."""
    if call.live.tells:
        call.record.answered = response, call.clock.monotonic(), True
    return Deliver(response, local=True)


def no_route(call: Call) -> Outcome:
    """No rule matches, or the host is outside a mesh that blocks what is."""
    if call.record.virtual_host is call.live.snapshot.blocked:
        return replies.blocked()
    call.record.add_flag("NR")
    return replies.no_route()


def no_cluster(call: Call, destination: Destination) -> Outcome:
    """The rule leads to a host, subset or port that does not exist."""
    call.record.add_flag("NC")
    return replies.no_cluster(_noted(call.record, destination.lack))


def caller_gave_up(call: Call) -> Outcome:
    """The caller's read timeout has passed: as if it had hung up on a sidecar."""
    call.record.add_flag("DC")
    return Outcome(Failure.TIMEOUT, f"the caller's read timeout of {call.timeouts.read or 0:g} s passed")


def before_sending(call: Call, rule: Rule, caller_deadline: float) -> Generator[Sleep, None, Outcome | None]:
    """The response to a request that is not sent; None: it is, changed as the rule says."""
    if rule.fault is not None:
        response = yield from _inject(call, rule.fault, caller_deadline)
        if response is not None:
            return response
    destination = call.record.destination
    if rule.cors is not None:
        allowed = rule.cors.preflight(call.request.method, call.request.header)
        if allowed is not None:
            return replies.preflight(allowed)
    if destination is None:
        return change_own_response(call, own_response(call, rule))
    if not destination.cluster:
        return change_own_response(call, no_cluster(call, destination))
    if rule.rewrite is not None or destination.request_ops or destination.authority:
        change_request(call, rule, destination)
    return None


def _inject(call: Call, fault: FaultPolicy, caller_deadline: float) -> Generator[Sleep, None, Outcome | None]:
    """Delay the call, then abort it: with the response of an abort, None without one."""
    record, clock = call.record, call.clock.monotonic
    delay, abort_status, grpc_status = draw(fault, call.rng)
    if delay:
        record.add_flag("DI")
        record.injected_delay = delay
        left = max(0.0, caller_deadline - clock())
        yield Sleep(min(delay, left))
        if delay >= left or clock() >= caller_deadline:  # loops may wake a little early: uvloop counts milliseconds
            return caller_gave_up(call)
    if not abort_status:
        return None
    record.add_flag("FI")
    return change_own_response(call, replies.fault_abort(abort_status, grpc_status), cors=False)


def as_asked(call: Call, retry: RetryPolicy, timeout: float | None) -> tuple[RetryPolicy, float | None]:
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


def no_endpoint(call: Call, tally: Tally, picked: EndpointState | None) -> Outcome:
    """None is usable (``picked`` None), or the cluster has as many requests under way as it may."""
    record = call.record
    if picked is not None:
        record.add_flag("UO")
        tally.overflows[REQUESTS] += 1
        return change_own_response(call, replies.overflow())
    record.add_flag("UH")
    tally.no_endpoint += 1
    cluster = None if record.destination is None else call.live.snapshot.clusters.get(record.destination.cluster)
    return change_own_response(
        call, replies.no_healthy_upstream(_noted(record, None if cluster is None else cluster.lack))
    )


def _noted(record: Exchange, lack: Lack | None) -> str:
    """Why there is no endpoint, as far as the configuration says it, which the record keeps."""
    if lack is None:
        return ""
    record.add_details({"lack": str(lack)})
    return record.lack


def no_place(call: Call, now: float, deadline: float, caller_deadline: float) -> Outcome:
    """The wait for a connection slot was too long, for the route, the caller or its pool timeout."""
    if now >= deadline:
        failure, detail = Failure.TIMEOUT, "the route's timeout passed while waiting for a connection slot"
    elif now >= caller_deadline:
        failure, detail = Failure.TIMEOUT, "the caller's read timeout passed while waiting for a connection slot"
    else:
        pool = call.timeouts.pool or 0
        failure, detail = Failure.POOL_TIMEOUT, f"no connection slot within the caller's pool timeout of {pool:g} s"
    call.record.add_flag(replies.FLAG_OF_FAILURE[failure])
    return Outcome(failure, detail)
