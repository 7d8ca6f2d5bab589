"""What comes of an attempt: judged here, without effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine import replies
from meshlib.engine.before_sending import caller_gave_up
from meshlib.engine.outcome import LOCAL_ORIGIN, Failure, Outcome
from meshlib.engine.tally import ABANDONED
from meshlib.policy.retry import should_retry

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.guarded import GuardedCall
    from meshlib.engine.message import Request
    from meshlib.engine.taken import Taken
    from meshlib.policy.endpoint import EndpointState
    from meshlib.policy.retry import RetryPolicy

TOO_LONG = "the first 1 MiB of a body that comes from an iterator is kept to be sent again, and more had been sent"
SAFE_TO_RESEND = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


RESENDS = (0.0, 0.001, 0.004, 0.016, 0.064)
"""Seconds before each time that a request is sent again which its server says it has not worked on (GOAWAY over HTTP/2): one
that comes back may leave again."""


def resend_after(request: Request, outcome: Outcome, resent: int, left: float) -> float | None:
    """Seconds after which a request is sent again, and no retry counted, when a kept-alive connection was closed by its server
    just as we reused it: once, at once, where nothing was answered (RFC 9110 9.2.2); by ``RESENDS`` where the server said that
    it has not worked on it (RFC 9113 6.8). None: it is not, or there are not so many seconds ``left``."""
    if not outcome.stale or not request.replayable:
        return None
    if outcome.failure is not Failure.REFUSED:
        return 0.0 if not resent and request.method in SAFE_TO_RESEND else None
    return RESENDS[resent] if resent < len(RESENDS) and RESENDS[resent] < left else None


def judge_failure(
    cluster: BoundCluster,
    endpoint: EndpointState,
    retry: RetryPolicy,
    failure: Failure,
    now: float,
    out_of_time: bool,
) -> bool:
    """Hold a failure against its endpoint, if it is to blame; whether the route asks for a retry. ``out_of_time``: the route's
    own timeout has passed."""
    kind = LOCAL_ORIGIN.get(failure)
    if kind is not None:
        cluster.record_failure(endpoint, kind, now)
    else:
        cluster.state.tally.results[ABANDONED] += 1
    return should_retry(retry, failure=failure.name, status=0, global_timeout=out_of_time)


def may_be_retried(call: Call, taken: Taken, retry: RetryPolicy, attempt: int, now: float) -> bool:
    """Whether the retry that the route asks for may be: attempts, budgets and a body that can be sent again."""
    record = call.record
    record.keep_attempt()
    if attempt > retry.attempts:
        if retry.attempts:
            record.add_flag("URX")
        return False
    if not call.request.replayable:
        record.not_again(f"not retried: {TOO_LONG}")
        return False
    return taken.retry(now)


def no_time_for_retry(
    call: Call, timeout: float | None, now: float, deadline: float, caller_deadline: float
) -> Outcome:
    """The pause before the retry has taken what time there was."""
    if now >= deadline or deadline <= caller_deadline:
        call.record.add_flag("UT")
        return Outcome(Failure.TIMEOUT, f"the route's timeout of {timeout or 0:g} s passed")
    return caller_gave_up(call)


def judge_cut(
    call: Call,
    cluster: BoundCluster,
    endpoint: EndpointState,
    guarded: GuardedCall | None,
    failure: Failure,
    status: int,
) -> None:
    """The response, whose head had this ``status``, was cut short in its body."""
    call.record.add_flag(replies.FLAG_OF_FAILURE.get(failure, "UC"))
    kind = LOCAL_ORIGIN.get(failure)
    if kind is not None:
        if guarded is not None:
            guarded.success = False
        cluster.record_failure(endpoint, kind, call.clock.monotonic(), known=status >= 500)
