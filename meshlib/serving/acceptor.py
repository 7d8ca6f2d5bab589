"""Accepts the connections of one port on an event loop (asyncio, uvloop): TLS and plain text by the mode that its port has
at this moment, each connection with the certificate that is current when it is accepted.

It knows no HTTP: what serves connections is handed in (``Serves``). What a client says first is read by the transport that
serves it (``unheard.py``); where a judge has the word it is looked at, not taken. A client that
says nothing, or does not end its handshake, is cut off after ``patience``; so is the one that has waited longest, when more
than ``most_waiting`` wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from meshlib.policy.mtls_mode import MtlsMode
from meshlib.serving.admission import (
    BACKOFF,
    BATCH,
    MOST_WAITING,
    PATIENCE,
    Turn,
    Waiting,
    accept_turn,
    close_with_reset,
    has_ended,
    usable,
)
from meshlib.serving.first_byte import Refusal, Verdict, verdict, why_reset
from meshlib.serving.joined_writes import JoinedWrites, Soon
from meshlib.serving.tickets import Accepts, Tickets, acknowledge
from meshlib.serving.tls_peer import Chains, TlsPeer, peer_of, remember_sni
from meshlib.serving.unheard import Unheard
from meshlib.transport.upstream.loop_tls import LoopTls

if TYPE_CHECKING:
    from meshlib.alarms import Alarms, Cancellable
    from meshlib.clock import Clock
    from meshlib.identity.credentials import Credentials
    from meshlib.identity.identity import Identity
    from meshlib.serving.first_byte import Detection, Judge
    from meshlib.serving.tls_connections import TlsConnections

log = logging.getLogger("meshlib.serving")

LAST_PATIENCE = 0.3
"""The same for those that come as we stop."""
EARLY = 0.002
"""Seconds by which a timer of a loop may ring too early."""
NEVER = float("inf")
HTTP_1 = ("http/1.1",)


MOST_LOOKED_AT = 64 * 1024 + 1
"""Bytes of a connection before it is decided what becomes of it; a ClientHello that is longer is none (``hello_names.py``)."""


class Serves(Protocol):
    """What serves connections: protocols of asyncio. One that has ``shutdown()`` is asked to end by it, when what is under
    way has ended; the transport of any other is closed."""

    def plain(self) -> asyncio.Protocol:
        """For a plain text connection."""
        ...

    def secure(self, peer: TlsPeer) -> asyncio.Protocol:
        """For a TLS connection of this peer, whose handshake has ended."""
        ...


class Acceptor:
    """``mode``: that of the port, asked for each connection. ``identity`` None: no TLS. ``clock`` judges certificates,
    ``alarms`` ring for clients that take too long. ``connections`` keeps those over TLS, to be judged again. ``counts``:
    what became of connections. ``minimum``: the oldest TLS, asked for each connection."""

    def __init__(
        self,
        sock: socket.socket,
        serves: Serves,
        mode: Callable[[], MtlsMode],
        identity: Identity | None,
        clock: Clock,
        alarms: Alarms,
        connections: TlsConnections,
        *,
        alpn: Sequence[str] = HTTP_1,
        patience: float = PATIENCE,
        most_waiting: int = MOST_WAITING,
        batch: int = BATCH,
        minimum: Callable[[], ssl.TLSVersion] = lambda: ssl.TLSVersion.TLSv1_2,
        judge: Judge | None = None,
        detection: Detection | None = None,
        soon: Soon | None = None,
    ) -> None:
        """``judge``: who decides in place of ``mode``, for a port that stands before several. ``detection``: who does so for
        clients that say too little. ``soon``: who says when a turn of the loop ends, in which responses over TLS are joined;
        None: the loop."""
        self._sock = sock
        self._serves = serves
        self._mode = mode
        self._identity = identity
        self._clock = clock
        self._alarms = alarms
        self._connections = connections
        self._alpn = tuple(alpn)
        self._patience = patience
        self._batch = batch
        self._minimum = minimum
        self._judge = judge
        self._detection = detection
        self.soon = soon
        self._waiting: Waiting[Unheard, None] = Waiting(most_waiting)
        self._under_way: set[asyncio.Future[None]] = set()  # handshakes, and tasks that hand plain text on
        self._chains = Chains()
        self._tickets = Tickets()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._port: int | str = 0
        self._later: Cancellable | None = None
        self._alarm: Cancellable | None = None  # one for all who wait: rings when the first of them is too late
        self._rings = NEVER
        self.counts: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Connections that have not said their first byte, or not ended their handshake."""
        return len(self._waiting)

    def start(self) -> None:
        """Accept from now on, on the running loop."""
        self._sock.setblocking(False)
        name = self._sock.getsockname()
        self._port = name[1] if self._sock.family != socket.AF_UNIX else name  # for people, also once it is closed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more: what the kernel has accepted is still served, if its first byte and its handshake come within
        ``LAST_PATIENCE``. The listening socket is closed here; other processes may have it too."""
        if self._loop is None or self._sock.fileno() < 0:
            return
        # those who come while the last ones are taken in, too: what is left in the line is reset, and so is what is more than
        # may wait. To cut off others for it would not do: their descriptors are free in the next turn only
        while (room := self._waiting.most - len(self._waiting)) > 0:
            turn = self._accept_turn(min(room, self._batch))
            if not (turn.more or turn.connections):
                break
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        if self._later is not None:
            self._later.cancel()
        self._ring_at(NEVER)
        for waiting in self._waiting:
            self._wait_for(waiting, LAST_PATIENCE)

    async def settled(self) -> None:
        """When no handshake is under way any more, and all that clients have said so far has been heard."""
        while self._under_way or (self._judge is None and any(each.unread() for each in self._waiting)):
            await asyncio.gather(*self._under_way, return_exceptions=True)
            # what follows an end comes in the next turn, for which gather does not wait since Python 3.12
            await asyncio.sleep(0)

    def abort(self) -> None:
        """Cut off what has not been accepted wholly."""
        for waiting in list(self._waiting):
            self._cut(waiting, "stopped")

    # -- accepting ---------------------------------------------------------------------------------------------------

    def _accept(self) -> bool:
        """A batch; whether there may be more."""
        return self._accept_turn(self._batch).more

    def _accept_turn(self, most: int) -> Turn:
        turn = accept_turn(self._sock, most)
        if turn.gone:
            self.counts["gone"] += turn.gone
        for connection in turn.connections:
            self._begin(connection)
        if turn.no_room is not None:
            self._back_off(turn.no_room)
        return turn

    def _back_off(self, error: OSError) -> None:
        assert self._loop is not None
        self.counts["no_room"] += 1
        for waiting in self._waiting.longest(self._batch):
            self._cut(waiting, "no_room_cut")
        self._loop.remove_reader(self._sock.fileno())
        self._later = self._alarms.on_loop(self._loop, BACKOFF, self._again)
        self._say(
            "no_room",
            f"no connection can be accepted: {error.strerror}; connections wait in the kernel, and it is tried again each "
            "second. Allow this process more descriptors (ulimit -n), or run more of them",
        )

    def _again(self) -> None:
        if self._loop is not None and self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _begin(self, connection: socket.socket) -> None:
        assert self._loop is not None
        with contextlib.suppress(OSError):  # a unix socket
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.counts["accepted"] += 1
        too_many = self._waiting.one_too_many()
        if too_many is not None:
            self._cut(too_many, "cut")
        waiting = Unheard(connection, self._heard, self._silent)
        self._waiting[waiting] = None
        patience, detection = self._patience, self._detection
        if detection is not None and (seconds := detection.seconds()):
            patience += seconds  # which are for the handshake, then
            waiting.late = detection.alarms.on_loop(
                self._loop, seconds, functools.partial(self._too_late, waiting, detection)
            )
        self._wait_for(waiting, patience)
        if self._judge is None:
            try:
                waiting.listen(self._loop)
            except OSError:  # gone
                self._drop(waiting)
            return
        self._look(waiting, self._judge)

    def _wait_for(self, waiting: Unheard, seconds: float) -> None:
        waiting.until = until = self._alarms.now() + seconds
        if until < self._rings:
            self._ring_at(until)

    def _ring_at(self, until: float) -> None:
        assert self._loop is not None
        if self._alarm is not None:
            self._alarm.cancel()
        self._rings, self._alarm = until, None
        if until != NEVER:
            self._alarm = self._alarms.on_loop(self._loop, until - self._alarms.now(), self._cut_late)

    def _cut_late(self) -> None:
        """Those who were waited for long enough."""
        late = self._alarms.now() + EARLY
        for waiting in [each for each in self._waiting if each.until <= late]:
            self._cut(waiting, "timed_out")
        self._ring_at(min((each.until for each in self._waiting), default=NEVER))

    def _heard(self, waiting: Unheard, data: bytes) -> None:
        """What its client has said first, read by its transport."""
        credentials = usable(self._identity, self._clock.time())
        found = verdict(data[0], self._mode(), credentials is not None)
        if found is Verdict.TLS:
            assert credentials is not None
            self._secure(waiting, credentials, data)
        elif found is Verdict.PLAIN:
            self.counts["plain"] += 1
            self._over(waiting)
            waiting.pass_on(self._serves.plain(), data)
        else:
            self._refuse(waiting, why_reset(data[0]))

    def _silent(self, waiting: Unheard) -> None:
        """Its client has gone, and has said nothing."""
        if waiting in self._waiting:
            self.counts["gone"] += 1
            self._over(waiting)

    def _look(self, waiting: Unheard, judge: Judge) -> None:
        """As far as ``judge`` has to; what is looked at stays where it is."""
        assert self._loop is not None
        sock = waiting.sock
        try:
            first, over = sock.recv(MOST_LOOKED_AT, socket.MSG_PEEK), False
            over = len(first) == waiting.seen and (not first or has_ended(sock))
        except (BlockingIOError, InterruptedError):
            first, over = b"", False
        except OSError:
            first, over = b"", True
        credentials = usable(self._identity, self._clock.time())
        found = None if over and not first else judge(sock, first, credentials is not None)
        if found is None and not over:
            waiting.seen = len(first)
            with contextlib.suppress(OSError):  # not again until there is more
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(first) + 1)
            if not waiting.watched:
                waiting.watched = True
                self._loop.add_reader(sock.fileno(), self._look, waiting, judge)
            return
        self._unwatch(waiting)
        if found is None:
            self.counts["gone"] += 1
            self._drop(waiting)
            return
        self._act(waiting, found, first[0] if first else 0, credentials)

    def _too_late(self, waiting: Unheard, detection: Detection) -> None:
        """Its client has said too little for ``judge``, and is waited for no longer."""
        if waiting not in self._waiting or waiting.under_way is not None:
            return
        credentials = usable(self._identity, self._clock.time())
        first = b""
        with contextlib.suppress(OSError):  # nothing has come; one that has gone shows as it is served
            first = waiting.sock.recv(MOST_LOOKED_AT, socket.MSG_PEEK)
        self._unwatch(waiting)
        found = detection.verdict(waiting.sock, first, credentials is not None)
        self._act(waiting, found, first[0] if first else 0, credentials, detection.plain)

    def _act(
        self,
        waiting: Unheard,
        found: Verdict,
        first: int,
        credentials: Credentials | None,
        plain: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        assert self._loop is not None
        if waiting.seen:
            with contextlib.suppress(OSError):
                waiting.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        if found is Verdict.RESET:
            self._refuse(waiting, why_reset(first))
            return
        if found is Verdict.RESET_UNSAID:
            self.counts["reset"] += 1
            close_with_reset(waiting.sock)
            self._drop(waiting)
            return
        if found is Verdict.TLS:
            assert credentials is not None
            self._secure(waiting, credentials)
            return
        task = self._loop.create_task(self._plain(waiting, plain or self._serves.plain))
        waiting.under_way = task
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    # -- serving -----------------------------------------------------------------------------------------------------

    async def _plain(self, waiting: Unheard, made: Callable[[], asyncio.Protocol]) -> None:
        assert self._loop is not None
        try:
            await self._loop.connect_accepted_socket(made, waiting.sock)
            self.counts["plain"] += 1
            self._over(waiting)
        except OSError:
            self._drop(waiting)
        except asyncio.CancelledError:
            self._drop(waiting)

    def _secure(self, waiting: Unheard, credentials: Credentials, data: bytes | None = None) -> None:
        """Begin a handshake, with what a transport has read of it, if one has. Without a task: what connects is stepped to
        where it waits for its transport, and taken up again later (row "mTLS inbound, a full handshake a request")."""
        assert self._loop is not None
        loop = self._loop
        context = credentials.server_context(self._alpn, minimum=self._minimum())
        remember_sni(context)
        tickets = self._tickets.next()
        try:
            tls: LoopTls = waiting
            inner, wraps = _Greeter(self, credentials), Accepts(context, tickets)
            if data is None:
                waiting.connect(loop, tls := LoopTls(loop, inner, wraps, None))
            else:
                waiting.secure(loop, inner, wraps, data)
        except OSError:  # gone
            self._drop(waiting)
            return
        waiting.under_way = tls.handshake
        self._under_way.add(tls.handshake)
        tls.handshake.add_done_callback(functools.partial(self._shaken, waiting, tls, bool(tickets)))

    def _shaken(
        self,
        waiting: Unheard,
        tls: LoopTls,
        tickets: bool,
        handshake: asyncio.Future[None],
    ) -> None:
        """A handshake is over: it has ended, well or not, or was cut off."""
        self._under_way.discard(handshake)
        try:
            waiting.connected()  # the loop has connected it before it calls this, even where that was cut off at once
        except OSError:  # gone
            self._drop(waiting)
            return
        if handshake.cancelled() or waiting not in self._waiting:  # cut off, perhaps in the turn in which it ended
            tls.abort()
        elif (error := handshake.exception()) is None:
            self.counts["tls"] += 1
            if not tickets:
                acknowledge(waiting.sock)
        else:
            self.counts["handshake_failed"] += 1
            why = getattr(error, "reason", None) or type(error).__name__
            if words := getattr(error, "verify_message", ""):  # certificate has expired, and the like
                why = f"{why}: {words}"
            self._say(f"handshake {why}", f"a TLS handshake has failed: {why} ({waiting.peer})")
        self._over(waiting)

    def greeted(self, done: Any, transport: asyncio.Transport, credentials: Credentials) -> asyncio.Protocol | None:
        """What serves a connection whose handshake has ended; None: it is not served. ``done``: its ``ssl.SSLObject``."""
        peer = peer_of(done, credentials, self._chains)
        self._tickets.shaken(bool(done.session_reused))
        if peer is None:
            return None
        if self._connections.add(peer, transport):
            return self._serves.secure(peer)
        self.counts["refused_peer"] += 1
        return None

    # -- ending ------------------------------------------------------------------------------------------------------

    def _refuse(self, waiting: Unheard, why: Refusal) -> None:
        self.counts["reset"] += 1
        port = self._port
        if why is Refusal.NO_CERTIFICATE:
            self._say(
                "no certificate",
                f"a client has started TLS at port {port}, and we have no certificate to present "
                f"({self._why_none()}): its connection was reset",
            )
        else:
            self._say(
                "plain text",
                f"{waiting.peer} has sent plain text to port {port}, for which PeerAuthentication says STRICT: "
                "its connection was reset",
            )
        close_with_reset(waiting.sock)
        self._drop(waiting)

    def _why_none(self) -> str:
        if self._identity is None:
            return "give --cert, --key and --bundle, or Mesh(identity=...)"
        return self._identity.problem or "none has been received yet, or it has expired"

    def _cut(self, waiting: Unheard, why: str) -> None:
        """Break it off: silent, slow, or too many."""
        if waiting not in self._waiting:
            return
        self.counts[why] += 1
        self._unwatch(waiting)
        close_with_reset(waiting.sock)
        if waiting.under_way is None:
            self._drop(waiting)
        else:
            self._over(waiting)
            waiting.under_way.cancel()

    def _unwatch(self, waiting: Unheard) -> None:
        if waiting.late is not None:
            waiting.late.cancel()
            waiting.late = None
        if waiting.watched:
            assert self._loop is not None
            waiting.watched = False
            self._loop.remove_reader(waiting.sock.fileno())

    def _over(self, waiting: Unheard) -> None:
        self._waiting.pop(waiting, None)

    def _drop(self, waiting: Unheard) -> None:
        self._over(waiting)
        waiting.drop()

    def _say(self, what: str, sentence: str) -> None:
        """Once each; ``counts`` has how often."""
        if not self.counts[f"said {what}"] and len(self.counts) < 256:
            self.counts[f"said {what}"] = 1
            log.warning("%s (said once; further ones are only counted)", sentence)


class _Greeter(asyncio.Protocol):
    """Until the handshake has ended: makes what serves the peer then."""

    def __init__(self, acceptor: Acceptor, credentials: Credentials) -> None:
        self._acceptor = acceptor
        self._credentials = credentials

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secured = cast("asyncio.Transport", transport)  # uvloop's transports are not subclasses
        connected = JoinedWrites(secured, self._acceptor.soon or asyncio.get_running_loop())
        serving = None
        try:
            serving = self._acceptor.greeted(secured.get_extra_info("ssl_object"), connected, self._credentials)
        finally:
            if serving is None:
                connected.abort()
        if serving is not None:
            connected.set_protocol(serving)
            serving.connection_made(connected)
