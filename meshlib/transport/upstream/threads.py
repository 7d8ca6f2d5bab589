"""Blocking upstream connections: one attempt at a time per connection, any number of threads.

Idle connections are kept per target, last used first. A connection is used again only if nothing at all arrived while it
was idle and its last answer ended cleanly. After ``fork`` the child forgets (and closes its copies of) what it inherited.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from meshlib.clock import Clock
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.framing import FalseFraming, Framing, NoBody, framing_of
from meshlib.transport.protocol.http1 import BodyFailed, ResponseReader
from meshlib.transport.protocol.request_body import CONTINUE_SECONDS, SourceFailed
from meshlib.transport.protocol.request_head import InvalidHead, asks_for_websocket, encode_head
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.client_limits import ClientLimits, no_slot
from meshlib.transport.upstream.environment import check_sockets, instant_poll, is_gevents, waiting_poll
from meshlib.transport.upstream.forked import close_copy
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.network_stream import PooledStream
from meshlib.transport.upstream.problems import (
    CUT_HEAD,
    MESH_CLOSED,
    connect_problem,
    mesh_closed,
    no_http2_package,
    no_upgrade,
)
from meshlib.transport.upstream.switched import SyncSwitched
from meshlib.transport.upstream.target import LONGEST_WAIT, Target, keep_alive, smaller, worn_out
from meshlib.transport.upstream.tls import (
    HTTP1_ONLY,
    Offering,
    PeerNameMismatch,
    certificate_of,
    check_peer,
    context_of,
)

if TYPE_CHECKING:
    from meshlib.policy.circuit_limits import Slots
    from meshlib.transport.upstream.http2_threads import SyncHttp2
    from meshlib.transport.upstream.trace import Trace

RECEIVE = 65536
SMALL_BODY = 65536  # a body up to this size goes out in one write with the head
SWEEP_SECONDS = 1.0  # between looks at all idle connections
NEAR_SECONDS = 150e-6
LOOKS = 100
"""An upstream that answered within ``NEAR_SECONDS`` last time is looked at up to ``LOOKS`` times (some 50 us, without the
GIL) before this thread goes to sleep: on loopback, falling asleep and waking up costs more than the answer takes. Only
while a single call is under way, so that it never competes with work. Pays 20 % in the row "httpx.Client p50"."""

AT_ONCE = -1.0  # no patience that anybody has
SHORTEST_WAIT = 0.001  # 0 would mean for ever to the kernel, and not at all to Python

IO_ERRORS = (OSError, ssl.SSLError)
TIMED_OUT = (TimeoutError, BlockingIOError)
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
TLS_RECORD = 16384
_TIMEVAL = struct.Struct("@ll")


class _Connection:
    __slots__ = (
        "_patience",
        "gevents",
        "idle_since",
        "near",
        "opened",
        "poll",
        "reader",
        "requests",
        "slot",
        "sock",
        "stream",
        "target",
        "timed",
        "tls",
    )

    def __init__(self, sock: socket.socket, target: Target, now: float) -> None:
        self.sock = sock
        self.tls = target.tls is not None
        if not self.tls:
            sock.settimeout(None)
        self._patience: float | None = None
        self.near = False
        self.target = target
        self.reader = ResponseReader()
        self.gevents = is_gevents(sock)
        self.timed = self.tls or self.gevents  # by Python, and not by the kernel
        self.poll = instant_poll(sock)
        self.poll.register(sock, select.POLLIN)
        self.requests = 0
        self.opened = now
        self.idle_since = now
        self.slot: Slots | None = None  # that the client's limits gave it, while it is in use
        self.stream = PooledStream(sock, self.reader)

    def quiet(self) -> bool:
        """Nothing has arrived: neither the end of the connection nor bytes that nobody asked for."""
        return not self.poll.poll(0)

    def patience(self, seconds: float | None) -> None:
        """How long the next ``sendall`` and ``recv`` may block: they raise TimeoutError or BlockingIOError after it.

        Plain sockets stay in blocking mode and leave the clock to the kernel (SO_RCVTIMEO, SO_SNDTIMEO), which is set
        only when it changes: Python's own timeouts cost an ioctl and a poll a call, about a tenth of a request.
        """
        if seconds == self._patience:
            return
        self._patience = seconds
        if self.timed:
            self.sock.settimeout(None if seconds is None else min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT))
            return
        whole = 0.0 if seconds is None else max(seconds, SHORTEST_WAIT)
        packed = _TIMEVAL.pack(int(whole), int(whole % 1 * 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, packed)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, packed)

    def _without_waiting(self) -> None:
        """For sockets that Python times: ``patience`` would wait ``SHORTEST_WAIT`` and raise TimeoutError."""
        if self._patience != AT_ONCE:
            self._patience = AT_ONCE
            self.sock.settimeout(0.0)

    def send_some(self, data: memoryview) -> int:
        """Write what the socket takes without waiting: perhaps nothing."""
        try:
            if not self.timed:
                return self.sock.send(data, socket.MSG_DONTWAIT)
            self._without_waiting()
            return self.sock.send(data[:TLS_RECORD] if self.tls else data)
        except NOT_NOW:
            return 0

    def receive_some(self) -> bytes | None:
        """What has arrived, b"" at the end of the connection, None when there is nothing (TLS: nothing of the answer; a
        session ticket makes the socket readable, too)."""
        try:
            if not self.timed:
                return self.sock.recv(RECEIVE, socket.MSG_DONTWAIT)
            self._without_waiting()
            return self.sock.recv(RECEIVE)
        except NOT_NOW:
            return None

    def breaker(self) -> Callable[[], None]:
        """What breaks off the request under way, from another thread; without effect once the next one has begun."""
        number = self.requests

        def break_off() -> None:
            if self.requests == number:
                _wake(self.sock)

        return break_off

    def give_slot_back(self) -> None:
        """The connection is in use no longer."""
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.release()

    def close(self) -> None:
        self.sock.close()
        if self.slot is not None:
            self.give_slot_back()

    def __del__(self) -> None:
        # only an interrupt loses a connection; what it has goes back then, too
        with contextlib.suppress(AttributeError):  # it came before there was all of it
            self.close()


def _wake(sock: socket.socket) -> None:
    """Let a thread that is connecting, writing or reading fail at once."""
    with contextlib.suppress(OSError):
        # not SSLSocket's own, which takes the encryption away first, under the feet of the thread that writes
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class SyncUpstream:
    """The connections of blocking clients. ``send`` may be called from any thread."""

    def __init__(self, clock: Clock, names: Names) -> None:
        self._clock = clock
        self._names = names
        self._idle: dict[Target, deque[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._dialling: set[socket.socket] = set()
        self._lock = Lock()
        self._pid = os.getpid()
        self.closed = False
        self._swept = 0.0
        self._http2: SyncHttp2 | None = None

    def send(self, attempt: Attempt) -> Outcome:
        """One attempt. Failures are values; only what interrupts the thread (KeyboardInterrupt) is raised."""
        connection: _Connection | None = None
        if self.closed:
            return mesh_closed()
        try:
            headers, target = attempt.headers, attempt.target
            framing = framing_of(headers, attempt.body)
            if target.http2 and asks_for_websocket(headers):
                if target.tls is None:
                    return no_upgrade(target)
            elif target.http2:
                answer = self._send_http2(attempt, framing)
                if isinstance(answer, Outcome):
                    return answer
                if answer is not None:
                    connection = _Connection(answer, target, self._clock.monotonic())
                    if target.limits is not None:
                        connection.slot = target.limits.slots  # it was taken for this socket
            head = encode_head(attempt.method, attempt.request_target, framing.headers)
        except InvalidHead as error:
            if connection is not None:
                connection.close()
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        now = self._clock.monotonic
        if connection is None:
            if target.limits is not None:
                limited = self._within_limits(attempt, target.limits)
                if isinstance(limited, Outcome):
                    return limited
                connection = limited
            else:
                connection = self._take(target, now())
        reused = connection is not None and connection.requests > 0
        if connection is None:
            made = self._connect(attempt, now())
            if isinstance(made, Outcome):
                return made
            connection = made
        connection.requests += 1
        reader = connection.reader
        reader.begin(attempt.method == b"HEAD")
        reader.request_headers = headers
        if attempt.watch is not None:
            attempt.watch(connection.breaker())
        trace, number = attempt.trace, connection.requests
        try:
            self._busy.add(connection)
            if self.closed:  # looked at after the connection can be found by ``close``
                self._discard(connection)
                return mesh_closed()
            if trace is not None:
                trace.version = "http11"
                trace.send_headers(attempt, framing.headers)
            outcome = self._exchange(attempt, connection, head, framing, reused)
            if outcome.failure is not None:
                self._discard(connection)
        except BaseException:
            if self.carries(connection, number):
                self._discard(connection)
            raise
        if outcome.failure is not None:
            if trace is not None:
                trace.ended(outcome)
            if self.closed:
                return mesh_closed(outcome.error)
        return outcome

    # -- one exchange -----------------------------------------------------------------------------------------------

    def _exchange(
        self,
        attempt: Attempt,
        connection: _Connection,
        head: bytes,
        framing: Framing,
        reused: bool,
    ) -> Outcome:
        sock, reader, body = connection.sock, connection.reader, framing.body
        now = self._clock.monotonic
        timeout, write = attempt.head_timeout, attempt.caller.write
        head_by = None if timeout is None else now() + timeout
        early = False
        broke: BaseException | None = None
        trace = attempt.trace
        try:
            connection.patience(smaller(timeout, write) if body is not None else timeout)
            if framing.body is None:
                sock.sendall(head)
            elif type(body) is bytes and len(body) <= SMALL_BODY and not framing.expects_continue:
                sock.sendall(head + framing.whole(body))
            else:
                sock.sendall(head)
                if trace is not None:
                    trace.complete()
                    trace.step("send_request_body")
                early = self._send_body(connection, framing, write, head_by)
        except FalseFraming as error:
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        except SourceFailed as error:
            return Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause)
        except TIMED_OUT as error:
            if head_by is not None and now() >= head_by:
                return Outcome(Failure.TIMEOUT, "no answer in time: the request could not be sent", error)
            return Outcome(Failure.WRITE_TIMEOUT, f"the request could not be written within {write} s", error)
        except IO_ERRORS as error:
            # the server may have answered (and closed) before it had read everything: that answer counts
            early, broke = True, error
            if not reader.head_done and not connection.poll.poll(0):
                return _reset(error, reused and not reader.begun)
        if reader.error:
            return Outcome(Failure.PROTOCOL_ERROR, reader.error)
        if trace is not None:
            trace.sent()

        first = body is None  # the request was just written: the time left is all of it
        written = now()
        if connection.near and len(self._busy) == 1:
            poll = connection.poll.poll
            for _ in range(LOOKS):
                if poll(0):
                    break
        while not reader.head_done:
            try:
                if first:
                    first = False
                elif head_by is None:
                    connection.patience(None)
                else:
                    left = head_by - now()
                    if left <= 0:
                        return _no_head(attempt)
                    connection.patience(left)
                data = sock.recv(RECEIVE)
            except TIMED_OUT:
                return _no_head(attempt)
            except IO_ERRORS as error:
                return _reset(error, reused and not reader.begun)
            if not data:
                if reader.begun:
                    return Outcome(Failure.PROTOCOL_ERROR, CUT_HEAD)
                return _reset(broke, reused)
            reader.feed(data)
            if reader.error:
                return Outcome(Failure.PROTOCOL_ERROR, reader.error)

        connection.near = now() - written < NEAR_SECONDS and not connection.gevents
        outcome = Outcome(
            status=reader.status, reason=reader.reason, headers=reader.headers, http_version=reader.http_version
        )
        if trace is not None:
            trace.ended(outcome)
        if early:
            reader.poisoned = True
        if reader.switched is not None:
            outcome.body = outcome.stream = SyncSwitched(self, connection, reader.switched)
            return outcome
        outcome.stream = connection.stream
        if (
            reader.complete and connection.slot is None
        ):  # whoever holds a slot holds it until the caller has read, as in httpx
            outcome.whole = reader.take()
            self._release(connection)
        else:
            outcome.body = SyncBody(self, connection, attempt)
        return outcome

    def _send_body(
        self,
        connection: _Connection,
        framing: Framing,
        write: float | None,
        head_by: float | None,
    ) -> bool:
        """Send the body piece by piece. True when the answer began before its end: then the rest is not sent."""
        body = framing.body
        assert not isinstance(framing, NoBody) and body is not None  # noqa: PT018
        if framing.expects_continue and self._refused_to_continue(connection, head_by):
            return True
        if isinstance(body, bytes):
            return self._send_watching(connection, framing.whole(body), write, head_by)
        for chunk in body:
            if self._send_watching(connection, framing.piece(chunk), write, head_by):
                return True
        end = framing.end()
        return bool(end) and self._send_watching(connection, end, write, head_by)

    def _send_watching(self, connection: _Connection, data: bytes, write: float | None, head_by: float | None) -> bool:
        """Write all of ``data`` unless the server answers (or closes) meanwhile, which is what True says."""
        poll = waiting_poll(connection.sock)
        poll.register(connection.sock, select.POLLIN | select.POLLOUT)
        view = memoryview(data)
        now = self._clock.monotonic
        while view:
            wait = smaller(write, None if head_by is None else head_by - now())
            ready = poll.poll(None if wait is None else min(max(0.0, wait), LONGEST_WAIT) * 1000)
            if not ready:
                raise TimeoutError
            if ready[0][1] & ~select.POLLOUT and self._answered(connection):
                return True
            if ready[0][1] & select.POLLOUT:
                view = view[connection.send_some(view) :]
        return False

    def _refused_to_continue(self, connection: _Connection, head_by: float | None) -> bool:
        """Wait for ``100 Continue``, for a second at most. True when a final answer (or the end) came instead."""
        reader = connection.reader
        until = self._clock.monotonic() + CONTINUE_SECONDS
        poll = waiting_poll(connection.sock)
        poll.register(connection.sock, select.POLLIN)
        until = until if head_by is None else min(until, head_by)
        while not reader.continue_seen:
            left = until - self._clock.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return False
            if self._answered(connection):
                return True
        return False

    def _answered(self, connection: _Connection) -> bool:
        """Read what has come while a body is being sent. True when no more of it should be sent: the head of the answer is
        whole (which an interim one, as 103, is not), or there will be none."""
        reader = connection.reader
        while (data := connection.receive_some()) is not None:
            if not data:
                return True
            reader.feed(data)
            if reader.head_done or reader.error:
                return True
        return False

    # -- connections ------------------------------------------------------------------------------------------------

    def _take(self, target: Target, now: float) -> _Connection | None:
        if self._pid != os.getpid():
            self.after_fork()
        idle = self._idle.get(target)
        while idle:
            try:
                connection = idle.pop()
            except IndexError:
                return None
            fresh_enough = now - connection.idle_since < target.idle_timeout
            if fresh_enough and not worn_out(connection, now) and connection.quiet():
                return connection
            connection.close()
        return None

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

    def _within_limits(self, attempt: Attempt, limits: ClientLimits) -> _Connection | Outcome:
        """A connection, kept or new, as the client's limits allow; it holds a slot."""
        refused = self.admit(limits, attempt)
        if refused is not None:
            return refused
        slots, connection = limits.slots, None
        try:
            connection = self._take(attempt.target, self._clock.monotonic())
            if connection is None:
                self.make_room(limits)
                made = self._connect(attempt, self._clock.monotonic())
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
        before = self._clock.monotonic()
        if not limits.acquire(Acquire(slots, attempt.slot_limit)):
            return no_slot(attempt)
        if attempt.head_timeout is not None:
            attempt.head_timeout = max(0.0, attempt.head_timeout - (self._clock.monotonic() - before))
        return None

    def make_room(self, limits: ClientLimits) -> None:
        """Close idle connections of a client whose time is up, and the oldest ones if a new one would be one too many."""
        now = self._clock.monotonic()
        with limits.lock:
            kept = self._idle_of(limits)
            excess = limits.excess(len(kept))
            for number, connection in enumerate(sorted(kept, key=lambda one: one.idle_since)):
                if number < excess or now - connection.idle_since >= connection.target.idle_timeout:
                    self._drop_one(connection)

    def _idle_of(self, limits: ClientLimits) -> list[_Connection]:
        return [one for target, idle in list(self._idle.items()) if target.limits is limits for one in list(idle)]

    def _drop_one(self, connection: _Connection) -> None:
        """Close an idle connection, unless somebody has just taken it."""
        with contextlib.suppress(KeyError, ValueError):
            self._idle[connection.target].remove(connection)
            connection.close()

    def _connect(self, attempt: Attempt, now: float) -> _Connection | Outcome:
        if now - self._swept >= SWEEP_SECONDS:
            self._sweep(now)
        target, limit = attempt.target, attempt.connect_limit
        try:
            sock = self.dial(target, HTTP1_ONLY, limit, attempt.trace)
        except TimeoutError as error:
            if limit == attempt.head_timeout:
                return Outcome(Failure.TIMEOUT, f"no connection to {target} within the {limit:.3g} s left", error)
            return Outcome(Failure.CONNECT_TIMEOUT, f"no connection to {target} within {limit:g} s", error)
        return sock if isinstance(sock, Outcome) else _Connection(sock, target, now)

    def dial(
        self, target: Target, protocols: Sequence[str], limit: float | None, trace: Trace | None = None
    ) -> socket.socket | Outcome:
        """A new socket, TLS done and ``protocols`` offered in it. An Outcome when there is none; raises TimeoutError when
        ``limit`` seconds passed."""
        try:
            return self._open(target, protocols, limit, trace)
        except TimeoutError:
            if self.closed:
                return mesh_closed()
            raise
        except (OSError, PeerNameMismatch) as error:
            if self.closed:
                return mesh_closed(error)
            if isinstance(error, socket.gaierror):
                return Outcome(Failure.CONNECT_FAILED, f"the name {target.host} was not found: {error.strerror}", error)
            return Outcome(Failure.CONNECT_FAILED, connect_problem(target, error), error)

    def _open(
        self, target: Target, protocols: Sequence[str], limit: float | None, trace: Trace | None
    ) -> socket.socket:
        if limit is not None:
            if limit <= 0:
                raise TimeoutError
            limit = min(limit, LONGEST_WAIT)
        check_sockets()
        context = None if target.tls is None else context_of(target.tls)
        if trace is not None:
            trace.connecting(target, limit)
        try:
            if target.host.startswith("unix://"):
                sock = self._reach(socket.AF_UNIX, target.host.removeprefix("unix://"), limit)
            else:
                sock = self._dial(target, limit)
        except BaseException as error:
            if trace is not None:
                trace.failed(error)
            raise
        try:
            if trace is not None:
                trace.complete(PooledStream(sock))
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if target.keepalive is not None:
                    keep_alive(sock, target.keepalive)
            if context is not None:
                if trace is not None:
                    trace.starting_tls(target, context, limit)
                tls = Offering(context, protocols).wrap_socket(sock, target.server_hostname or None)
                sock = tls
                with self._interruptible(tls):
                    tls.do_handshake()
                check_peer(certificate_of(tls), target.subject_alt_names)
                if trace is not None:
                    trace.complete(PooledStream(sock))
        except BaseException as error:
            self._dialling.discard(sock)
            sock.close()
            if trace is not None:
                trace.failed(error)
            raise
        return sock

    def _dial(self, target: Target, limit: float | None) -> socket.socket:
        """To the address, or to the first address of the name that answers."""
        if not target.is_name:
            return self._reach_port(target.host, target.port, limit)
        by = None if limit is None else self._clock.monotonic() + limit
        failed: OSError | None = None
        for address in self._names.resolve(target.host, limit):
            left = None if by is None else by - self._clock.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            try:
                return self._reach_port(address, target.port, left)
            except OSError as error:
                failed = error
        raise failed or OSError(f"the name {target.host} has no address")

    def _reach_port(self, address: str, port: int, limit: float | None) -> socket.socket:
        return self._reach(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, port), limit)

    def _reach(self, family: int, address: str | tuple[str, int], limit: float | None) -> socket.socket:
        """A connected socket. Raises OSError, TimeoutError after ``limit`` seconds."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(limit)
            with self._interruptible(sock):
                sock.connect(address)
        except BaseException:
            self._dialling.discard(sock)  # an interrupt may have come before that was done
            sock.close()
            raise
        return sock

    @contextlib.contextmanager
    def _interruptible(self, sock: socket.socket) -> Iterator[None]:
        """``close`` breaks off what is done to the socket in here."""
        self._dialling.add(sock)
        try:
            if self.closed:
                raise ConnectionAbortedError(MESH_CLOSED)
            yield
        finally:
            self._dialling.discard(sock)

    def _send_http2(self, attempt: Attempt, framing: Framing) -> Outcome | socket.socket | None:
        """A socket, or None, when the server speaks HTTP/1.1 only."""
        if self._pid != os.getpid():
            self.after_fork()
        http2 = self._http2
        if http2 is None:
            try:
                from meshlib.transport.upstream.http2_threads import SyncHttp2

                with self._lock:
                    http2 = self._http2 = self._http2 or SyncHttp2(self, self._clock.monotonic)
            except ImportError as error:
                return no_http2_package(attempt.target, error)
        return http2.send(attempt, framing)

    def _release(self, connection: _Connection) -> None:
        """The answer is over: keep the connection if it is good for another."""
        self._busy.discard(connection)
        now = self._clock.monotonic()
        if self.closed or not connection.reader.reusable or worn_out(connection, now):
            connection.close()
            return
        connection.idle_since = now
        limits = connection.target.limits
        if limits is not None:
            self._release_within(limits, connection)
            return
        idle = self._idle.get(connection.target)
        if idle is None:
            with self._lock:
                idle = self._idle.setdefault(connection.target, deque())
        idle.append(connection)
        if connection.target.retired:  # looked at after ``drop_idle`` can find the connection
            self.drop_idle(connection.target)
            with contextlib.suppress(ValueError):  # it has been dropped together with the others
                idle.remove(connection)
                connection.close()
            return
        while idle and now - idle[0].idle_since >= connection.target.idle_timeout:
            try:
                idle.popleft().close()
            except IndexError:
                break
        if self.closed:
            self.close_idle()

    def _release_within(self, limits: ClientLimits, connection: _Connection) -> None:
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

    def _discard(self, connection: _Connection) -> None:
        """Close a connection in use."""
        connection.close()
        self._busy.discard(connection)

    def carries(self, connection: _Connection, number: int) -> bool:
        """Whether a connection is still in use for its request ``number``: before an interrupt it may have been kept, and
        have gone to another call."""
        return connection.requests == number and connection in self._busy

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

    def idle_connections(self) -> int:
        """How many connections wait for use."""
        over_http2 = 0 if self._http2 is None else self._http2.idle_connections()
        return sum(len(idle) for idle in list(self._idle.values())) + over_http2

    def after_fork(self) -> None:
        """In a forked child: the parent goes on using its connections, so close only this process's copies, before anything
        here can write to them or read from them."""
        self._lock = Lock()
        self._pid = os.getpid()
        inherited = [connection.sock for idle in self._idle.values() for connection in idle]
        inherited += [connection.sock for connection in self._busy]
        inherited += self._dialling
        self._idle, self._busy, self._dialling = {}, set(), set()
        for sock in inherited:
            close_copy(sock)
        if self._http2 is not None:
            self._http2.forget_inherited()

    def close(self) -> None:
        """Close every idle connection; calls under way fail at once."""
        self.closed = True
        self.close_idle()
        for connection in list(self._busy):
            _wake(connection.sock)  # its own thread closes it
        for sock in list(self._dialling):
            _wake(sock)
        if self._http2 is not None:
            self._http2.close()

    def close_idle(self) -> None:
        """Close the connections that wait for use."""
        if self._pid != os.getpid():
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


class SyncBody:
    """The rest of an answer's body. Iterate to its end and the connection can be used again; ``close`` before and it is
    closed. Raises ``BodyFailed`` when it is cut."""

    __slots__ = ("_attempt", "_connection", "_number", "_upstream")

    def __init__(self, upstream: SyncUpstream, connection: _Connection, attempt: Attempt) -> None:
        self._upstream = upstream
        self._connection: _Connection | None = connection
        self._number = connection.requests
        self._attempt = attempt

    def __iter__(self) -> Iterator[bytes]:
        connection = self._connection
        if connection is None:
            return
        reader, sock = connection.reader, connection.sock
        read, deadline = self._attempt.caller.read, self._attempt.deadline
        now = self._upstream._clock.monotonic
        try:
            while True:
                data = reader.take()
                if data:
                    yield data
                if reader.complete:
                    break
                wait = read
                if deadline is not None:
                    left = deadline - now()
                    if left <= 0:
                        raise BodyFailed(Failure.TIMEOUT, "the route's timeout passed in the middle of the answer")
                    wait = smaller(wait, left)
                connection.patience(wait)
                try:
                    received = sock.recv(RECEIVE)
                except TIMED_OUT:
                    if deadline is not None and now() >= deadline:
                        raise BodyFailed(
                            Failure.TIMEOUT, "the route's timeout passed in the middle of the answer"
                        ) from None
                    raise BodyFailed(
                        Failure.TIMEOUT,
                        f"the caller's read timeout of {read} s passed in the middle of the answer",
                    ) from None
                except IO_ERRORS as error:
                    raise BodyFailed(
                        Failure.RESET, f"the connection broke in the middle of the answer: {error}", error
                    ) from error
                if received:
                    reader.feed(received)
                elif self._upstream.closed:  # this end is our own doing, and not that of a body until the end
                    raise BodyFailed(Failure.CLOSED, MESH_CLOSED)
                elif not reader.feed_eof():
                    raise BodyFailed(Failure.RESET, "the server closed the connection in the middle of the answer")
                if reader.error:
                    raise BodyFailed(Failure.PROTOCOL_ERROR, reader.error)
        except BodyFailed as error:
            self.close()
            if self._upstream.closed:
                raise BodyFailed(Failure.CLOSED, MESH_CLOSED) from error
            raise
        except BaseException:
            self.close()
            raise
        # forgotten when it is given back, not before: an interrupt in between leaves it to ``close`` or ``__del__``
        self._upstream._release(connection)
        self._connection = None

    def abort(self) -> None:
        """Drop the answer and its connection."""
        connection = self._connection
        if connection is None:
            return
        if not self._upstream.carries(connection, self._number):
            self._connection = None
            return
        if connection.reader.complete:
            self._upstream._release(connection)
        else:
            self._upstream._discard(connection)
        self._connection = None

    close = abort

    def __del__(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._upstream.carries(connection, self._number):
            self._upstream._discard(connection)  # the garbage collector may run under a lock of the pool


def _reset(error: BaseException | None, stale: bool) -> Outcome:
    detail = "the server closed the connection without an answer" if error is None else f"the connection broke: {error}"
    return Outcome(Failure.RESET, detail, error, stale=stale)


def _no_head(attempt: Attempt) -> Outcome:
    return Outcome(Failure.TIMEOUT, f"no answer within {attempt.head_timeout or 0:.3g} s")
