"""The rest of a response's body, for blocking clients."""

from __future__ import annotations

from collections.abc import Iterator

from meshlib.engine.outcome import Failure
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.mutual import WORTHLESS
from meshlib.transport.upstream.problems import BODY_CUT, BODY_TOO_LATE, MESH_CLOSED, body_broke, body_silent
from meshlib.transport.upstream.target import smaller
from meshlib.transport.upstream.threads_connection import IO_ERRORS, RECEIVE, TIMED_OUT, Connection


class SyncBody:
    """Iterate to its end and the connection can be used again; ``close`` before and it is closed. Raises ``BodyFailed`` when
    it is cut."""

    __slots__ = ("_attempt", "_connection", "_lender", "_number")

    def __init__(self, connection: Connection, attempt: Attempt) -> None:
        self._lender = connection.lender
        self._connection: Connection | None = connection
        self._number = connection.requests
        self._attempt = attempt

    def __iter__(self) -> Iterator[bytes]:
        connection = self._connection
        if connection is None:
            return
        reader, lender = connection.reader, self._lender
        try:
            while True:
                data = reader.take()
                if data:
                    yield data
                if reader.complete:
                    break
                received = self._receive(connection)
                if received:
                    reader.feed(received)
                elif lender.closed:  # this end is our own doing, and not that of a body until the end
                    raise BodyFailed(Failure.CLOSED, MESH_CLOSED)
                elif connection.cut:
                    raise BodyFailed(Failure.RESET, WORTHLESS)
                elif not reader.feed_eof():
                    raise BodyFailed(Failure.RESET, BODY_CUT)
                if reader.error:
                    raise BodyFailed(Failure.PROTOCOL_ERROR, reader.error)
        except BodyFailed as error:
            self.close()
            if lender.closed:
                raise BodyFailed(Failure.CLOSED, MESH_CLOSED) from error
            if connection.cut:
                raise BodyFailed(Failure.RESET, WORTHLESS) from error
            raise
        except BaseException:
            self.close()
            raise
        # forgotten when it is given back, not before: an interrupt in between leaves it to ``close`` or ``__del__``
        lender.give_back(connection, lender.now())
        self._connection = None

    def _receive(self, connection: Connection) -> bytes:
        """What comes next, b"" at the end of the connection."""
        wait, deadline, now = self._attempt.caller.read, self._attempt.deadline, self._lender.now
        if deadline is not None:
            left = deadline - now()
            if left <= 0:
                raise BodyFailed(Failure.TIMEOUT, BODY_TOO_LATE)
            wait = smaller(wait, left)
        connection.set_timeout(wait)
        try:
            return connection.sock.recv(RECEIVE)
        except TIMED_OUT:
            if deadline is not None and now() >= deadline:
                raise BodyFailed(Failure.TIMEOUT, BODY_TOO_LATE) from None
            raise BodyFailed(Failure.TIMEOUT, body_silent(self._attempt.caller.read)) from None
        except IO_ERRORS as error:
            raise BodyFailed(Failure.RESET, body_broke(error), error) from error

    def abort(self) -> None:
        """Drop the response and its connection."""
        connection = self._connection
        if connection is None:
            return
        lender = self._lender
        if not lender.carries(connection, self._number):
            self._connection = None
            return
        if connection.reader.complete:
            lender.give_back(connection, lender.now())
        else:
            lender.discard(connection)
        self._connection = None

    close = abort

    def __del__(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._lender.carries(connection, self._number):
            self._lender.discard(connection)  # the garbage collector may run under a lock of the pool
