"""The HTTP/1.1 connections of blocking clients: one request at a time per connection, any number of threads.

Idle connections are kept per target, last used first. A connection is used again only if nothing at all arrived while it
was idle and its last response ended cleanly. After ``fork`` the child forgets (and closes its copies of) what it inherited.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from meshlib.clock import Clock
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import Framing, framing_of
from meshlib.transport.protocol.request_head import InvalidHead, asks_for_websocket, encode_head
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits
from meshlib.transport.upstream.forked import close_copy, this_process
from meshlib.transport.upstream.mutual import WORTHLESS, MutualTls
from meshlib.transport.upstream.mutual_connections import Judge, any_mutual, let_go
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.problems import mesh_closed, no_connection, no_http2_package, no_slot, no_upgrade
from meshlib.transport.upstream.target import Target, worn_out, worn_out_or_superseded
from meshlib.transport.upstream.threads_connection import Connection, MutualConnection, connection_on, shut_down
from meshlib.transport.upstream.threads_dial import Dialler
from meshlib.transport.upstream.threads_exchange import exchange
from meshlib.transport.upstream.tls import HTTP1_ONLY
from meshlib.transport.upstream.tls_socket import AnySocket

if TYPE_CHECKING:
    from meshlib.transport.upstream.http2_threads import SyncHttp2
    from meshlib.transport.upstream.trace import Trace

SWEEP_SECONDS = 1.0  # between looks at all idle connections


class SyncUpstream:
    """The connections of blocking clients. ``send`` may be called from any thread."""

    def __init__(self, clock: Clock, names: Names) -> None:
        self.now = clock.monotonic
        self.closed = False
        self._dialler = Dialler(clock.monotonic, names)
        self._idle: dict[Target, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._lock = Lock()
        self._pid = this_process.pid
        self._swept = 0.0
        self._http2: SyncHttp2 | None = None

    # -- one attempt ------------------------------------------------------------------------------------------------

    def send(self, attempt: Attempt) -> Outcome:
        """Failures are values; only what interrupts the thread (KeyboardInterrupt) is raised."""
        if self.closed:
            return mesh_closed()
        target = attempt.target
        connection: Connection | None = None
        try:
            framing = framing_of(attempt.headers, attempt.body)
            if target.http2:
                found = self._over_http2(attempt, framing)
                if isinstance(found, Outcome):
                    return found
                connection = found
            head = encode_head(attempt.method, attempt.request_target, framing.headers)
        except InvalidHead as error:
            if connection is not None:
                connection.close()
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        began = self.now()
        if connection is None:
            made = self._take(target, began) if target.limits is None else self._within_limits(attempt, target.limits)
            if made is None:
                made = self._connect(attempt, began)
            if isinstance(made, Outcome):
                return made
            connection = made
        connection.requests = number = connection.requests + 1
        if number == 1 or target.limits is not None:  # making it, or waiting for it, took its time
            began = self.now()
        reader = connection.reader
        reader.begin(attempt.method == b"HEAD")
        reader.request_headers = attempt.headers
        if attempt.watch is not None:
            attempt.watch(connection.breaker())
        try:
            self._busy.add(connection)
            if self.closed:  # looked at after the connection can be found by ``close``
                self.discard(connection)
                return mesh_closed()
            if attempt.trace is not None:
                attempt.trace.version = "http11"
                attempt.trace.send_headers(attempt.method, attempt.request_target, framing.headers, target)
            outcome = exchange(attempt, connection, head, framing, began, len(self._busy) == 1)
            if outcome.failure is not None:
                self.discard(connection)
        except BaseException:
            if self.carries(connection, number):
                self.discard(connection)
            raise
        if outcome.failure is not None:
            if attempt.trace is not None:
                attempt.trace.ended(outcome)
            if self.closed:
                return mesh_closed(outcome.error)
            if connection.cut:
                return Outcome(Failure.RESET, WORTHLESS, outcome.error)
        return outcome

    def _over_http2(self, attempt: Attempt, framing: Framing) -> Outcome | Connection | None:
        """One attempt over HTTP/2. When the server speaks HTTP/1.1 only, or HTTP/1.1 it has to be: the new connection to do it
        on, or None if that was known before."""
        target = attempt.target
        if asks_for_websocket(attempt.headers):
            return no_upgrade(target) if target.tls is None else None
        if self._pid != this_process.pid:
            self.after_fork()
        http2 = self._http2
        if http2 is None:
            try:
                from meshlib.transport.upstream.http2_threads import SyncHttp2

                with self._lock:
                    http2 = self._http2 = self._http2 or SyncHttp2(self, self.now)
            except ImportError as error:
                return no_http2_package(target, error)
        found = http2.send(attempt, framing)
        if found is None or isinstance(found, Outcome):
            return found
        connection = connection_on(found, target, self)
        if target.limits is not None:
            connection.slot = target.limits.slots  # it was taken for this socket
        return connection

    # -- connections to lend ----------------------------------------------------------------------------------------

    def _take(self, target: Target, now: float) -> Connection | None:
        if self._pid != this_process.pid:
            self.after_fork()
        idle = self._idle.get(target)
        while idle:
            try:
                connection = idle.pop()
            except IndexError:
                return None
            fresh_enough = now - connection.idle_since < target.idle_timeout
            if fresh_enough and not (target.wears and worn_out_or_superseded(connection, now)) and connection.quiet():
                return connection
            connection.close()
        return None

    def _within_limits(self, attempt: Attempt, limits: ClientLimits) -> Connection | Outcome:
        """A connection, kept or new, as the client's limits allow; it holds a slot."""
        refused = self.admit(limits, attempt)
        if refused is not None:
            return refused
        slots, connection = limits.slots, None
        try:
            connection = self._take(attempt.target, self.now())
            if connection is None:
                self.make_room(limits)
                made = self._connect(attempt, self.now())
                if isinstance(made, Outcome):
                    return made
                connection = made
            connection.slot = slots
        finally:
            if connection is None and slots is not None:
                slots.release()
        return connection

    def admit(self, limits: ClientLimits, attempt: Attempt) -> Outcome | None:
        """Wait until the client's limits allow one more connection in use. None: they do, and its slot is the caller's."""
        slots = limits.slots
        if slots is None or slots.try_acquire():
            return None
        if self._http2 is not None and self._http2.retire_idle(limits) and slots.try_acquire():
            return None
        before = self.now()
        if not limits.acquire(Acquire(slots, attempt.slot_limit)):
            return no_slot(attempt)
        if attempt.head_timeout is not None:
            attempt.head_timeout = max(0.0, attempt.head_timeout - (self.now() - before))
        return None

    def make_room(self, limits: ClientLimits) -> None:
        """Close idle connections of a client whose time is up, and the oldest ones if a new one would be one too many."""
        now = self.now()
        with limits.lock:
            kept = self._idle_of(limits)
            excess = limits.excess(len(kept))
            for number, connection in enumerate(sorted(kept, key=lambda one: one.idle_since)):
                if number < excess or now - connection.idle_since >= connection.target.idle_timeout:
                    self._drop_one(connection)

    def idle_of(self, limits: ClientLimits) -> int:
        """How many idle connections of a client are kept."""
        return len(self._idle_of(limits))

    def _idle_of(self, limits: ClientLimits) -> list[Connection]:
        return [one for target, idle in list(self._idle.items()) if target.limits is limits for one in list(idle)]

    def _drop_one(self, connection: Connection) -> None:
        """Close an idle connection, unless somebody has just taken it."""
        with contextlib.suppress(KeyError, ValueError):
            self._idle[connection.target].remove(connection)
            connection.close()

    def _connect(self, attempt: Attempt, now: float) -> Connection | Outcome:
        if now - self._swept >= SWEEP_SECONDS:
            self._sweep(now)
        limit = attempt.connect_limit
        try:
            sock = self.dial(attempt.target, HTTP1_ONLY, limit, attempt.trace)
        except TimeoutError as error:
            return no_connection(attempt, limit, error)
        return sock if isinstance(sock, Outcome) else connection_on(sock, attempt.target, self)

    def dial(
        self, target: Target, protocols: Sequence[str], limit: float | None, trace: Trace | None = None
    ) -> AnySocket | Outcome:
        """See ``Dialler.dial``."""
        return self._dialler.dial(target, protocols, limit, trace)

    def _sweep(self, now: float) -> None:
        """Close what is idle for too long, and what its server has closed. There is no thread for that: it is done when a
        connection is made, once in a while."""
        self._swept = now
        for idle in list(self._idle.values()):
            for _ in range(len(idle)):
                try:
                    connection = idle.popleft()
                except IndexError:
                    break
                if now - connection.idle_since < connection.target.idle_timeout and connection.quiet():
                    idle.append(connection)
                else:
                    connection.close()
        if self.closed:
            self.close_idle()

    # -- connections that come back (see ``threads_connection.Lender``) ------------------------------------------------

    def give_back(self, connection: Connection, now: float) -> None:
        """The response is over: keep the connection if it is good for another."""
        self._busy.discard(connection)
        target = connection.target
        if (
            self.closed
            or not connection.reader.reusable
            or (target.wears and (connection.leaving or (target.wears_by_rule and worn_out(connection, now))))
        ):
            connection.close()
            return
        connection.idle_since = now
        if target.limits is not None:
            self._give_back_within(target.limits, connection)
            return
        idle = self._idle.get(target)
        if idle is None:
            with self._lock:
                idle = self._idle.setdefault(target, deque())
        idle.append(connection)
        if target.retired:  # looked at after ``drop_idle`` can find the connection
            self.drop_idle(target)
            with contextlib.suppress(ValueError):  # it has been dropped together with the others
                idle.remove(connection)
                connection.close()
            return
        while idle and now - idle[0].idle_since >= target.idle_timeout:
            try:
                idle.popleft().close()
            except IndexError:
                break
        if self.closed:
            self.close_idle()

    def _give_back_within(self, limits: ClientLimits, connection: Connection) -> None:
        """Keep it if the client's limits allow."""
        with limits.lock:
            over_http2 = 0 if self._http2 is None else self._http2.idle_of(limits)
            keep = not limits.too_many(len(self._idle_of(limits)) + over_http2 + 1)
            if keep:
                with self._lock:
                    self._idle.setdefault(connection.target, deque()).append(connection)
        if keep:
            connection.give_slot_back()
            if connection.target.retired:
                self.drop_idle(connection.target)
            if self.closed:
                self.close_idle()
        else:
            connection.close()

    def discard(self, connection: Connection) -> None:
        """Close a connection in use."""
        connection.close()
        self._busy.discard(connection)

    def carries(self, connection: Connection, number: int) -> bool:
        """Whether a connection is still in use for its request ``number``."""
        return connection.requests == number and connection in self._busy

    # -- the whole of them --------------------------------------------------------------------------------------------

    def drop_idle(self, target: Target) -> None:
        """Close the idle connections of a retired target."""
        idle = self._idle.pop(target, None)
        while idle:
            try:
                idle.pop().close()
            except IndexError:  # another thread has taken the last one
                break
        if self._http2 is not None:
            self._http2.drop_target(target)

    def connections(self) -> Iterator[tuple[Target, bool]]:
        """Where each connection leads, and whether a call is on it. From any thread."""
        for target, idle in list(self._idle.items()):
            yield from [(target, False)] * len(idle)
        for connection in list(self._busy):
            yield connection.target, True
        if self._http2 is not None:
            yield from self._http2.connections()

    def has_mutual(self) -> bool:
        """Whether there are connections over mTLS of the mesh."""
        return any_mutual(self._mutual()) or (self._http2 is not None and self._http2.has_mutual())

    def _mutual(self) -> list[Connection]:
        idle = [list(idle) for target, idle in list(self._idle.items()) if isinstance(target.tls, MutualTls)]
        return [*itertools.chain.from_iterable(idle), *list(self._busy)]

    def let_go(self, standing: Judge) -> None:
        """Close connections over mTLS whose certificates are not to be used any more: idle ones now, others with their call,
        which is cut when it must be."""
        let_go(self._mutual(), standing, self._drain, self._cut)
        if self._http2 is not None:
            self._http2.let_go(standing)

    def _drain(self, connection: Connection) -> None:
        connection.leave()  # before it is looked for: who gives it back meanwhile either sees that, or has put it here
        self._drop_one(connection)  # if it is idle

    def _cut(self, connection: Connection) -> None:
        if connection in self._busy and isinstance(connection, MutualConnection):
            connection.cut = True
            shut_down(connection.sock)  # its own thread closes it

    def idle_connections(self) -> int:
        """How many connections wait for use."""
        over_http2 = 0 if self._http2 is None else self._http2.idle_connections()
        return sum(len(idle) for idle in list(self._idle.values())) + over_http2

    def after_fork(self) -> None:
        """In a forked child: the parent goes on using its connections, so close only this process's copies, before anything
        here can write to them or read from them."""
        self._lock = Lock()
        self._pid = this_process.pid
        inherited = [connection.sock for idle in self._idle.values() for connection in idle]
        inherited += [connection.sock for connection in self._busy]
        inherited += self._dialler.under_way
        self._idle, self._busy, self._dialler.under_way = {}, set(), set()
        for sock in inherited:
            close_copy(sock)
        if self._http2 is not None:
            self._http2.forget_inherited()

    def close(self) -> None:
        """Close every idle connection; calls under way fail at once."""
        self.closed = True
        self._dialler.closed = True
        self.close_idle()
        for connection in list(self._busy):
            shut_down(connection.sock)  # its own thread closes it
        self._dialler.close()
        if self._http2 is not None:
            self._http2.close()

    def close_idle(self) -> None:
        """Close the connections that wait for use."""
        if self._pid != this_process.pid:
            self.after_fork()
        if self._http2 is not None:
            self._http2.close_idle()
        while self._idle:
            try:
                _, idle = self._idle.popitem()
            except KeyError:
                return
            while idle:
                idle.pop().close()
