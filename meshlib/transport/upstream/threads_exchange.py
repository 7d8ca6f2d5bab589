"""One exchange on an HTTP/1.1 connection, in the calling thread: the request is written, the head of its response read."""

from __future__ import annotations

import select
from functools import partial

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Framing, NoBody, Sized
from meshlib.transport.protocol.request_body import CONTINUE_SECONDS, SourceFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.environment import waiting_poll
from meshlib.transport.upstream.problems import CUT_HEAD, NOT_SENT_IN_TIME, broke, broke_at_first, no_head, not_written
from meshlib.transport.upstream.refused_certificates import refusal_in
from meshlib.transport.upstream.switched import SyncSwitched
from meshlib.transport.upstream.target import LONGEST_WAIT, smaller
from meshlib.transport.upstream.threads_body import SyncBody
from meshlib.transport.upstream.threads_connection import IO_ERRORS, RECEIVE, TIMED_OUT, Connection
from meshlib.transport.upstream.tls_socket import holds, is_unsent, ssl_object

SMALL_BODY = 65536  # a body up to this size goes out in one write with the head
NEAR_SECONDS = 160e-6
LOOKS = 100
"""A server that answered within ``NEAR_SECONDS`` last time is looked at up to ``LOOKS`` times (some 50 us, without the GIL)
before this thread goes to sleep: on loopback, falling asleep and waking up costs more than the response takes. Only while a
single call is under way, so that it never competes with work. Pays 20 % in the row "httpx.Client p50"."""


class _Early:
    """The server answered, or closed, before the request was written; ``error`` says how writing failed, if it did."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def exchange(
    attempt: Attempt, connection: Connection, head: bytes, framing: Framing, began: float, alone: bool
) -> Outcome:
    """Failures are values. A connection whose request failed is to be closed; one that the caller still reads from is in the
    hands of the outcome's ``body``; else it has been given back. ``began``: the lender's present; ``alone``: no other call is
    under way."""
    timeout = attempt.head_timeout
    head_by = None if timeout is None else began + timeout
    trace, body, limit = attempt.trace, framing.body, timeout
    problem: Outcome | _Early | None = None
    if not isinstance(framing, NoBody):
        limit = smaller(limit, attempt.caller.write)
        if type(body) is bytes and len(body) <= SMALL_BODY and not framing.expects_continue:
            head += framing.whole(body)
            body = None
    connection.set_timeout(limit)
    try:
        connection.sock.sendall(head)
    except IO_ERRORS as error:
        problem = _not_written(attempt, connection, head_by, error)
    else:
        if body is not None and not isinstance(framing, NoBody):
            problem = _write_body(attempt, connection, framing, head_by)
            limit = -1.0  # not what the socket's timeout is now
    if isinstance(problem, Outcome):
        return problem
    if trace is not None:
        trace.sent()
    reader = connection.reader
    if not reader.head_done:
        if alone and connection.near:
            poll = connection.poll.poll
            for _ in range(LOOKS):
                if poll(0):
                    break
        failed = _read_head(attempt, connection, head_by, limit == timeout, problem)
        if failed is not None:
            return failed
    lender = connection.lender
    now = lender.now()
    connection.near = now - began < NEAR_SECONDS and not connection.gevents
    outcome = Outcome()  # not by names, which cost a call as much as all the rest
    outcome.status = reader.status
    outcome.reason = reader.reason
    outcome.headers = reader.headers
    outcome.http_version = reader.http_version
    if trace is not None:
        trace.ended(outcome)
    if problem is not None:
        reader.poisoned = True
    if reader.switched is not None:
        outcome.body = outcome.stream = SyncSwitched(
            connection.sock, reader.switched, partial(lender.discard, connection)
        )
        return outcome
    outcome.stream = connection.stream
    # whoever holds a slot holds it until the caller has read, as in httpx
    if reader.complete and connection.slot is None:
        outcome.size = reader.response_size  # before its body is taken
        outcome.whole = reader.take()
        lender.give_back(connection, now)
    else:
        outcome.size = reader.head_size
        outcome.body = SyncBody(connection, attempt)
    return outcome


def _read_head(
    attempt: Attempt, connection: Connection, head_by: float | None, just_sent: bool, early: _Early | None
) -> Outcome | None:
    """Read until the head is whole. An Outcome when there will be none. ``just_sent``: the socket's timeout is what the attempt
    has, which has only begun."""
    sock, reader, now = connection.sock, connection.reader, connection.lender.now
    while True:
        try:
            if just_sent:
                just_sent = False
            elif head_by is None:
                connection.set_timeout(None)
            else:
                left = head_by - now()
                if left <= 0:
                    return no_head(attempt)
                connection.set_timeout(left)
            data = sock.recv(RECEIVE)
        except TIMED_OUT:
            return no_head(attempt)
        except IO_ERRORS as error:
            return _broke(connection, error)
        if not data:
            if reader.begun:
                return Outcome(Failure.PROTOCOL_ERROR, CUT_HEAD)
            return broke(None if early is None else early.error, connection.requests > 1)
        reader.feed(data)
        if reader.error:
            return Outcome(Failure.PROTOCOL_ERROR, reader.error)
        if reader.head_done:
            return None


def _broke(connection: Connection, error: BaseException) -> Outcome:
    """The connection ended before the head of the response was whole."""
    begun = connection.reader.begun
    if connection.requests == 1 and not begun:
        return broke_at_first(connection.target, ssl_object(connection.sock), error)
    return broke(error, connection.requests > 1 and not begun)


# -- the request ------------------------------------------------------------------------------------------------------


def _write_body(
    attempt: Attempt, connection: Connection, framing: Sized | Chunked, head_by: float | None
) -> Outcome | _Early | None:
    """Write a body that does not go out with the head. None: all of it; an Outcome: it could not be written."""
    try:
        if attempt.trace is not None:
            attempt.trace.complete()
            attempt.trace.step("send_request_body")
        if not _send_body(connection, framing, attempt.caller.write, head_by):
            return None
    except FalseFraming as error:
        return Outcome(Failure.INVALID_REQUEST, str(error), error)
    except SourceFailed as error:
        return Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause)
    except IO_ERRORS as error:
        return _not_written(attempt, connection, head_by, error)
    if connection.reader.error:
        return Outcome(Failure.PROTOCOL_ERROR, connection.reader.error)
    return _Early(None)


def _not_written(
    attempt: Attempt, connection: Connection, head_by: float | None, error: BaseException
) -> Outcome | _Early:
    """Writing the request failed."""
    reader = connection.reader
    if isinstance(error, TIMED_OUT):
        if head_by is not None and connection.lender.now() >= head_by:
            return Outcome(Failure.TIMEOUT, NOT_SENT_IN_TIME, error)
        return Outcome(Failure.WRITE_TIMEOUT, not_written(attempt.caller.write), error)
    # the server may have answered (and closed) before it had read everything: that response counts
    if not reader.head_done and (not (connection.poll.poll(0) or holds(connection.sock)) or refusal_in(error)):
        return _broke(connection, error)
    if reader.error:
        return Outcome(Failure.PROTOCOL_ERROR, reader.error)
    return _Early(error)


def _send_body(connection: Connection, framing: Sized | Chunked, write: float | None, head_by: float | None) -> bool:
    """Send the body piece by piece. True when the response began before its end: then the rest is not sent."""
    body = framing.body
    if framing.expects_continue and _refused_to_continue(connection, head_by):
        return True
    if isinstance(body, bytes):
        return _send_watching(connection, framing.whole(body), write, head_by)
    for chunk in body:
        if _send_watching(connection, framing.piece(chunk), write, head_by):
            return True
    end = framing.end()
    return bool(end) and _send_watching(connection, end, write, head_by)


def _send_watching(connection: Connection, data: bytes, write: float | None, head_by: float | None) -> bool:
    """Write all of ``data`` unless the server answers (or closes) meanwhile, which is what True says."""
    poll = waiting_poll(connection.raw)
    poll.register(connection.raw, select.POLLIN | select.POLLOUT)
    view = memoryview(data)
    now = connection.lender.now
    while view or is_unsent(connection.sock):
        wait = smaller(write, None if head_by is None else head_by - now())
        ready = poll.poll(None if wait is None else min(max(0.0, wait), LONGEST_WAIT) * 1000)
        if not ready:
            raise TimeoutError
        if (ready[0][1] & ~select.POLLOUT or holds(connection.sock)) and _has_answered(connection):
            return True
        if ready[0][1] & select.POLLOUT:
            view = view[connection.send_some(view) :]
    return False


def _refused_to_continue(connection: Connection, head_by: float | None) -> bool:
    """Wait for ``100 Continue``, for a second at most. True when a final response (or the end) came instead."""
    reader, now = connection.reader, connection.lender.now
    until = now() + CONTINUE_SECONDS
    poll = waiting_poll(connection.raw)
    poll.register(connection.raw, select.POLLIN)
    until = until if head_by is None else min(until, head_by)
    while not reader.continue_seen:
        left = until - now()
        if left <= 0 or not poll.poll(left * 1000):
            return False
        if _has_answered(connection):
            return True
    return False


def _has_answered(connection: Connection) -> bool:
    """Read what has come while a body is being sent. True when no more of it should be sent: the head of the response is
    whole (which an interim one, as 103, is not), or there will be none."""
    reader = connection.reader
    while (data := connection.receive_some()) is not None:
        if not data:
            return True
        reader.feed(data)
        if reader.head_done or reader.error:
            return True
    return False
