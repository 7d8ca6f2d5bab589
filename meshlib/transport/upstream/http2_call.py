"""One attempt on an HTTP/2 stream, and the reading of its answer: written once, as generators, for threads and asyncio.

A generator yields what it needs and is sent the result: ``FLUSH`` (write what the session has; None), ``NEXT`` (the next
piece of the caller's body; bytes, or None at its end, or ``SourceFailed`` thrown in), or a time on the driver's clock in
seconds or None: wait until the stream changes (True) or the time has come (False). The driver writes what the session has
to say after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import Any, Final

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Framing, NoBody, Sized
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.protocol.request_body import CONTINUE_SECONDS, SourceFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.target import Target, smaller

HTTP2 = b"HTTP/2"


class Need(Enum):
    """What is needed besides waiting."""

    FLUSH = 1
    NEXT = 2


FLUSH: Final = Need.FLUSH
NEXT: Final = Need.NEXT
Step = Need | float | None


def exchange(
    session: Http2Session,
    stream: Stream,
    framing: Framing,
    attempt: Attempt,
    head_by: float | None,
    deadline: float | None,
    now: Callable[[], float],
) -> Generator[Step, Any, Outcome]:
    """The request's body and the answer's head, on a stream that was just opened. The outcome's ``body`` is still to be
    set when ``whole`` is None. The stream is over when the outcome is a failure; when the attempt is abandoned (closed, or
    an exception), the driver cancels it. ``head_by``: when the head must be there,
    ``deadline``: when all must be over; both on the driver's clock."""
    problem = None
    if not isinstance(framing, NoBody) and framing.body:  # an empty one ended with the head
        problem = yield from _send_body(session, stream, framing, attempt, head_by, deadline, now)
    while problem is None and not stream.head_done and stream.failed is None:
        if not (yield head_by):
            problem = Outcome(Failure.TIMEOUT, f"no answer within {attempt.head_timeout or 0:.3g} s")
    if problem is not None and problem.failure is Failure.INVALID_REQUEST:
        session.cancel(stream)
        return problem
    if stream.failed is not None and not stream.head_done:
        return failed(stream.failed)
    if problem is not None:
        session.cancel(stream)
        return problem
    # the head came and the answer broke at once: what is not HTTP is no answer, as over HTTP/1.1; of a cut answer
    # the caller learns while reading
    if stream.failed is not None and stream.failed.failure is not Failure.RESET:
        return failed(stream.failed)
    outcome = Outcome(status=stream.status, headers=stream.headers, http_version=HTTP2, trailers=stream.trailers)
    if stream.complete:
        outcome.whole = session.take(stream)
    return outcome


def failed(what: StreamFailure) -> Outcome:
    """The outcome of a stream (or connection) without an answer."""
    return Outcome(what.failure, what.detail, what.error, stale=what.stale)


def _send_body(
    session: Http2Session,
    stream: Stream,
    framing: Sized | Chunked,
    attempt: Attempt,
    head_by: float | None,
    deadline: float | None,
    now: Callable[[], float],
) -> Generator[Step, Any, Outcome | None]:
    """Send until the body ends or the stream does. An Outcome when sending itself failed.

    A head that comes early does not stop it: on HTTP/2 a server may answer while it reads.
    """
    body = framing.body
    if framing.expects_continue:
        patience = smaller(now() + CONTINUE_SECONDS, head_by)
        while not stream.continue_seen and not stream.head_done and not stream.settled:
            if not (yield patience):
                break
    if isinstance(body, bytes):
        return (yield from _send(session, stream, body, True, attempt, head_by, deadline, now))
    try:
        while not stream.settled:
            piece = yield NEXT
            if piece is None:
                framing.finish()
                session.end(stream)
                return None
            framing.count(len(piece))
            problem = yield from _send(session, stream, piece, False, attempt, head_by, deadline, now)
            if problem is not None:
                return problem
    except FalseFraming as error:
        return Outcome(Failure.INVALID_REQUEST, str(error), error)
    except SourceFailed as error:
        return Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause)
    return None


def _send(
    session: Http2Session,
    stream: Stream,
    piece: bytes,
    end: bool,
    attempt: Attempt,
    head_by: float | None,
    deadline: float | None,
    now: Callable[[], float],
) -> Generator[Step, Any, Outcome | None]:
    left = memoryview(piece)
    write_by: float | None = None
    while not stream.settled:
        sent = session.send(stream, left, end)
        left = left[sent:]
        if not left:
            break
        if sent:
            write_by = None
            yield FLUSH
            continue
        if write_by is None and attempt.caller.write is not None:
            write_by = now() + attempt.caller.write
        answer_by = deadline if stream.head_done else head_by
        if not (yield smaller(write_by, answer_by)):
            if write_by is None or (answer_by is not None and answer_by <= write_by):
                return Outcome(Failure.TIMEOUT, "no answer in time: the request could not be sent")
            return Outcome(Failure.WRITE_TIMEOUT, f"the request could not be written within {attempt.caller.write} s")
    return None


def next_chunk(
    session: Http2Session,
    stream: Stream,
    attempt: Attempt,
    deadline: float | None,
    now: Callable[[], float],
) -> Generator[Step, Any, bytes]:
    """Some bytes of the answer's body, b"" at its end. Raises ``BodyFailed``, after which the body's owner cancels the
    stream. ``deadline`` is on the driver's clock."""
    read_by = None if attempt.caller.read is None else now() + attempt.caller.read
    until = smaller(read_by, deadline)
    while True:
        data = session.take(stream)
        if data:
            return data
        if stream.failed is not None:
            raise BodyFailed(stream.failed.failure, stream.failed.detail, stream.failed.error)
        if stream.complete:
            return b""
        if not (yield until):
            if deadline is not None and (read_by is None or deadline <= read_by):
                raise BodyFailed(Failure.TIMEOUT, "the route's timeout passed in the middle of the answer")
            raise BodyFailed(
                Failure.TIMEOUT,
                f"the caller's read timeout of {attempt.caller.read} s passed in the middle of the answer",
            )


def too_late(attempt: Attempt, limit: float | None) -> Outcome:
    """No connection within ``limit`` seconds, the strictest of the limits on connecting."""
    target = attempt.target
    if limit is not None and limit == attempt.head_timeout:
        return Outcome(Failure.TIMEOUT, f"no connection to {target} within the {limit:.3g} s left")
    return Outcome(Failure.CONNECT_TIMEOUT, f"no connection to {target} within {limit or 0:g} s")


def no_streams(session: Http2Session, target: Target) -> Outcome:
    """A new connection that takes not even one stream."""
    if session.broken is not None:
        return greeting_problem(session, target)
    if session.going_away:
        return Outcome(Failure.CONNECT_FAILED, f"{target} closes each HTTP/2 connection as it is made")
    return Outcome(Failure.REFUSED, f"{target} allows no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0)")


def greeting_problem(session: Http2Session, target: Target) -> Outcome:
    """The connection broke before the server's SETTINGS: not a byte of a request was sent."""
    broken = session.broken
    if broken is None or broken.failure is Failure.RESET:
        detail = "" if broken is None else f": {broken.detail}"
        return Outcome(Failure.CONNECT_FAILED, f"no HTTP/2 with {target}{detail}", broken and broken.error)
    return failed(broken)


def copy_of(outcome: Outcome) -> Outcome:
    """One failure to connect for each of those that waited for it."""
    return Outcome(outcome.failure, outcome.detail, outcome.error)
