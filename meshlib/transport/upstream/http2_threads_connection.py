"""One HTTP/2 connection, shared by threads.

There is no thread of our own. Of the threads that wait on a connection one waits in the kernel, for all of them: it reads
what comes, wakes those it is for, and passes the role on when it leaves. All else, reading and writing included, happens
under the connection's lock on a socket that never blocks (an OpenSSL connection must not be used by two threads at once).
A thread that leaves bytes unwritten tells the one in the kernel, through a pipe, to wait for room as well.

The lock survives Ctrl-C, which comes where a function begins and where a call into C ends: it is taken by ``with`` only, and
where it is given away in between, the ``finally`` that takes it back is entered before. It is an RLock because those know
whose they are.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TypeVar

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.http2_codec import Head
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.protocol.request_body import SourceFailed
from meshlib.transport.upstream.http2_call import FLUSH, NEXT, Sent, Step, greeting_problem
from meshlib.transport.upstream.http2_threads_waiter import Waiter
from meshlib.transport.upstream.http2_threads_wire import INTERRUPTED, Keeper, Wire
from meshlib.transport.upstream.target import LONGEST_WAIT, Target, worn_out
from meshlib.transport.upstream.tls_socket import AnySocket

T = TypeVar("T")


class Connection(Wire):
    """One HTTP/2 connection, used by any number of threads."""

    def __init__(self, sock: AnySocket, target: Target, owner: Keeper) -> None:
        super().__init__(sock, target, owner)
        self._waiting: dict[Waiter, None] = {}

    # -- beginning --------------------------------------------------------------------------------------------------

    def greet(self, until: float | None) -> Outcome | None:
        """Wait for the server's SETTINGS, which say how many streams it takes. An Outcome when they do not come."""
        waiter = Waiter()
        with self._lock:
            self._flush()
            while not self.session.ready and self.session.broken is None:
                left = None if until is None else max(0.0, until - self.now())
                if not self._read(waiter, left) and not self.session.ready and self.session.broken is None:
                    return Outcome(Failure.CONNECT_TIMEOUT, f"no HTTP/2 settings from {self.target} in time")
        return None if self.session.broken is None else greeting_problem(self.session, self.target)

    def open(self, head: Head, end: bool, head_request: bool) -> tuple[Stream, Waiter] | None:
        """A stream of this connection; None when it takes no more."""
        with self._lock:
            try:
                return self._opened(head, end, head_request)
            except BaseException:
                self._break(INTERRUPTED)
                raise

    def _opened(self, head: Head, end: bool, head_request: bool) -> tuple[Stream, Waiter] | None:
        self._forget_dropped()
        now = self.now()
        if self.closed or self.retiring:
            return None
        if self._reader is None:
            # nobody reads, be it idle or its callers slow: the server may have gone, or asked for a sign of life
            self._pump(to_the_end=True)
            self._flush()
        if not self.session.streams and now - self.idle_since >= self.target.idle_timeout:
            self.retiring = True
        if worn_out(self, now):
            self.retiring = True
        stream, waiter = None, Waiter()
        if not self.retiring:
            stream = self.session.open(head, end, head_request, waiter.wake)
        if stream is None:
            self._close_if_over()
            return None
        self.requests += 1
        return stream, waiter

    # -- one step after the other -----------------------------------------------------------------------------------

    def perform(
        self, steps: Generator[Step, Sent, T], stream: Stream, waiter: Waiter, source: Iterator[bytes] | None = None
    ) -> T:
        """Run ``exchange`` or ``next_chunk`` to its end, in this thread."""
        if self._pid != os.getpid():
            raise BodyFailed(Failure.RESET, "the connection belongs to the process that forked this one")
        try:
            with self._lock:
                return self._perform(steps, stream, waiter, source)
        finally:
            if self._dropped:
                self._tidy()

    def _perform(
        self, steps: Generator[Step, Sent, T], stream: Stream, waiter: Waiter, source: Iterator[bytes] | None
    ) -> T:
        waiter.outside = False
        try:
            step = next(steps)
            while True:
                self._flush()
                if step is NEXT:
                    piece, problem = self._next(waiter, source)
                    step = steps.send(piece) if problem is None else steps.throw(problem)
                elif step is FLUSH:
                    step = steps.send(None)
                else:
                    step = steps.send(self._wait(waiter, step))
        except StopIteration as over:
            made: T = over.value
            return made
        except BodyFailed:
            raise
        except BaseException as error:
            if waiter.outside:
                steps.close()
                self.session.cancel(stream)
            else:
                self._break(error if isinstance(error, Exception) else INTERRUPTED)  # nobody knows how far it was
            raise
        finally:
            waiter.outside = True
            try:
                self._flush()
                self._forget_dropped()
                self._close_if_over()
            except BaseException:
                self._break(INTERRUPTED)
                raise
            finally:
                try:
                    self._pass_on()
                except BaseException:
                    self._pass_on()  # interrupted: nobody else would
                    raise

    def _next(self, waiter: Waiter, source: Iterator[bytes] | None) -> tuple[bytes | None, SourceFailed | None]:
        assert source is not None
        piece, problem = None, None
        self._pass_on()
        waiter.outside = True
        try:
            self._lock.release()
            if self._dropped:
                self._tidy()
            piece = next(source, None)
        except SourceFailed as error:
            problem = error
        finally:
            self._lock.acquire()
        waiter.outside = False
        return piece, problem

    def _wait(self, waiter: Waiter, until: float | None) -> bool:
        """Until the stream changes (True) or the time has come. The lock is held before and after, not meanwhile."""
        while not waiter.changed:
            left = None if until is None else until - self.now()
            if left is not None and left <= 0:
                return False
            if self._reader is None:
                if not self._read(waiter, left) and not waiter.changed:
                    return False
            else:
                self._waiting[waiter] = None
                waiter.outside = True
                in_time = False
                try:
                    self._lock.release()
                    in_time = waiter.sleep(None if left is None else min(left, LONGEST_WAIT))
                finally:
                    try:
                        self._lock.acquire()
                    finally:
                        if not self._lock._is_owned():  # type: ignore[attr-defined]
                            self._lock.acquire()  # it was that which an interrupt ended
                        self._waiting.pop(waiter, None)
                waiter.outside = False
                if not in_time and not waiter.changed:
                    return False
        waiter.changed = False
        return True

    def _read(self, waiter: Waiter, left: float | None) -> bool:
        """Take the reader's role once: wait in the kernel and handle what came. False when nothing did in time."""
        if self.closed:
            return False
        self.socket.watch()
        ready: list[tuple[int, int]] = []
        waiter.outside = True
        try:
            self._reader = waiter
            self._lock.release()
            if self._dropped:
                self._tidy()
            ready = self.socket.wait(left)
        finally:
            try:
                self._lock.acquire()
            finally:
                self._reader = None
        waiter.outside = False
        if self.session.broken is not None:
            self._shut()
            return True
        if self.socket.is_ready(ready):
            self._pump()
        self._flush()
        return bool(ready)

    def _pass_on(self) -> None:
        """Somebody must wait in the kernel while others wait for what it reads."""
        if self._reader is None and self._waiting:
            next(iter(self._waiting)).rouse()
