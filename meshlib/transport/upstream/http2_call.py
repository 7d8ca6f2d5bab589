"""One attempt on an HTTP/2 stream, and the reading of its response: written once, as generators, for threads and asyncio.

A generator yields what it needs and is sent the result: ``FLUSH`` (write what the session has; None), ``NEXT`` (the next
piece of the caller's body; bytes, or None at its end, or ``SourceFailed`` thrown in), or a time on the driver's clock in
seconds or None: wait until the stream changes (True) or the time has come (False). The driver writes what the session has
to say before it waits, and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum
from typing import Final

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Framing, NoBody, Sized
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_stream import Stream, StreamFailure
from meshlib.transport.protocol.request_body import CONTINUE_SECONDS, SourceFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.problems import (
    BODY_TOO_LATE,
    NOT_SENT_IN_TIME,
    body_silent,
    certificate_refused,
    no_head,
    not_written,
)
from meshlib.transport.upstream.refused_certificates import refusal_in
from meshlib.transport.upstream.target import Target, smaller

HTTP2 = b"HTTP/2"


class Need(Enum):
    """What is needed besides waiting."""

    FLUSH = 1
    NEXT = 2


FLUSH: Final = Need.FLUSH
NEXT: Final = Need.NEXT
Step = Need | float | None
Sent = bool | bytes | None


def exchange(
    session: Http2Session,
    stream: Stream,
    framing: Framing,
    attempt: Attempt,
    head_by: float | None,
    now: Callable[[], float],
) -> Generator[Step, Sent, Outcome]:
    """The request's body and the response's head, on a stream that was just opened. The outcome's ``body`` is still to be
    set when ``whole`` is None. The stream is over when the outcome is a failure; when the attempt is abandoned (closed, or
    an exception), the driver cancels it. ``head_by``: when the head must be there, on the driver's clock."""
    problem = None
    if not isinstance(framing, NoBody) and framing.body:  # an empty one ended with the head
        problem = yield from _Upload(session, stream, framing, attempt, head_by, now).steps()
    while problem is None and not stream.head_done and stream.failed is None:
        if not (yield head_by):
            problem = no_head(attempt)
    if problem is not None and problem.failure is Failure.INVALID_REQUEST:
        session.cancel(stream)
        return problem
    if stream.failed is not None and not stream.head_done:
        return failed(stream.failed)
    if problem is not None:
        session.cancel(stream)
        return problem
    return response_of(stream)


def response_of(stream: Stream) -> Outcome:
    """The outcome of a stream whose head has come. When the response broke at once: what is not HTTP is none, as over
    HTTP/1.1; of a cut one the caller learns while reading."""
    if stream.failed is not None and stream.failed.failure is not Failure.RESET:
        return failed(stream.failed)
    outcome = Outcome()  # not by names, which cost a call as much as all the rest
    outcome.status = stream.status
    outcome.headers = stream.headers
    outcome.http_version = HTTP2
    outcome.trailers = stream.trailers
    if stream.complete:
        outcome.whole = stream.rest()
    return outcome


def failed(what: StreamFailure) -> Outcome:
    """The outcome of a stream (or connection) without a response."""
    return Outcome(what.failure, what.detail, what.error, stale=what.stale)


class _Upload:
    """The request's body."""

    __slots__ = ("_attempt", "_framing", "_head_by", "_now", "_session", "_stream")

    def __init__(
        self,
        session: Http2Session,
        stream: Stream,
        framing: Sized | Chunked,
        attempt: Attempt,
        head_by: float | None,
        now: Callable[[], float],
    ) -> None:
        self._session = session
        self._stream = stream
        self._framing = framing
        self._attempt = attempt
        self._head_by = head_by
        self._now = now

    def steps(self) -> Generator[Step, Sent, Outcome | None]:
        """Send until the body ends or the stream does. An Outcome when sending itself failed.

        A head that comes early does not stop it: on HTTP/2 a server may answer while it reads.
        """
        stream, framing = self._stream, self._framing
        body = framing.body
        if framing.expects_continue:
            patience = smaller(self._now() + CONTINUE_SECONDS, self._head_by)
            while not stream.continue_seen and not stream.head_done and not stream.settled:
                if not (yield patience):
                    break
        if isinstance(body, bytes):
            return (yield from self._piece(body, True))
        try:
            while not stream.settled:
                piece = yield NEXT
                if piece is None:
                    framing.finish()
                    self._session.end(stream)
                    return None
                assert not isinstance(piece, bool)
                framing.count(len(piece))
                problem = yield from self._piece(piece, False)
                if problem is not None:
                    return problem
        except FalseFraming as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        except SourceFailed as error:
            return Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause)
        return None

    def _piece(self, piece: bytes, end: bool) -> Generator[Step, Sent, Outcome | None]:
        stream, session, write = self._stream, self._session, self._attempt.caller.write
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
            if write_by is None and write is not None:
                write_by = self._now() + write
            head_by = self._attempt.deadline if stream.head_done else self._head_by
            if not (yield smaller(write_by, head_by)):
                if write_by is None or (head_by is not None and head_by <= write_by):
                    return Outcome(Failure.TIMEOUT, NOT_SENT_IN_TIME)
                return Outcome(Failure.WRITE_TIMEOUT, not_written(write))
        return None


def next_chunk(
    session: Http2Session, stream: Stream, attempt: Attempt, now: Callable[[], float]
) -> Generator[Step, Sent, bytes]:
    """Some bytes of the response's body, b"" at its end. Raises ``BodyFailed``, after which the body's owner cancels the
    stream."""
    read, deadline = attempt.caller.read, attempt.deadline
    read_by = None if read is None else now() + read
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
            late = deadline is not None and (read_by is None or deadline <= read_by)
            raise BodyFailed(Failure.TIMEOUT, BODY_TOO_LATE if late else body_silent(read))


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
    if broken is not None and (said := refusal_in(broken.error)):
        return Outcome(Failure.CONNECT_FAILED, certificate_refused(target, said), broken.error)
    if broken is None or broken.failure is Failure.RESET:
        detail = "" if broken is None else f": {broken.detail}"
        return Outcome(Failure.CONNECT_FAILED, f"no HTTP/2 with {target}{detail}", broken and broken.error)
    return failed(broken)


def copy_of(outcome: Outcome) -> Outcome:
    """One failure to connect for each of those that waited for it."""
    return Outcome(outcome.failure, outcome.detail, outcome.error)
