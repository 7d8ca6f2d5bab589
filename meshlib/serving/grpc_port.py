"""One port of a gRPC server: accepts, looks at the first byte, and joins the connection to the server's unix socket for TLS
or for plain text, by the mode that PeerAuthentications give the port at that moment.

gRPC core makes the handshakes (``transport/grpcio/server/credentials.py``) and the checks of each call judge who the peer
is; what this keeps for them is where the connection comes from (``transport/grpcio/server/spliced.py``).
"""

from __future__ import annotations

import collections
import functools
import logging
import os
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlib.problems import MeshError
from meshlib.serving.admission import BACKOFF, BATCH, PATIENCE, Waiting, accept_turn
from meshlib.serving.client_hello import HEADER, offers_tls13, record_length
from meshlib.serving.first_byte import Refusal, Verdict, verdict, why_reset
from meshlib.transport.grpcio.server import spliced
from meshlib.transport.grpcio.server.spliced import Spliced
from meshlib.transport.upstream.forked import close_copy
from meshlib.transport.upstream.splice import Splicer, reset

if TYPE_CHECKING:
    from meshlib.alarms import Alarm, Alarms
    from meshlib.identity.credentials import Credentials
    from meshlib.policy.mtls_mode import MtlsMode

log = logging.getLogger("meshlib.serving")

MOST = HEADER + (1 << 14)
"""Bytes of a record that are looked at; none is longer."""
TLS = b"\x16"
BACKLOG = 1024


def listen(address: str, reuse_port: bool) -> socket.socket:
    """A socket that listens at ``host:port``, as grpcio writes it; ``[::]`` is IPv4 too. Raises ``MeshError``."""
    host, colon, text = address.rpartition(":")
    if not colon or not text.isdecimal() or int(text) > 65535 or host.startswith(("unix", "ipv4:", "ipv6:", "vsock")):
        raise MeshError(
            f"{address!r} is not an address of a port: write host:port, such as 0.0.0.0:50051 or [::]:50051"
        )
    bare = host.removeprefix("[").removesuffix("]") or "::"
    try:
        found = socket.getaddrinfo(bare, int(text), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port and hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if bare == "::" else 1)
            sock.bind(where)
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise MeshError(f"nothing can listen at {address}: {error}") from error
    return sock


class GrpcPort:
    """``plain`` and ``tls``: the paths of the server's unix sockets; no ``tls``: there is no identity, and TLS is refused.
    ``port`` is the port of policies. ``tls13``: whether older TLS is refused. ``refused`` counts connections by why they were
    refused."""

    def __init__(
        self,
        listener: socket.socket,
        port: int,
        plain: str,
        tls: str,
        splicer: Splicer,
        alarms: Alarms,
        mode: Callable[[], MtlsMode | None],
        credentials: Callable[[], Credentials | None],
        tls13: Callable[[], bool] = lambda: False,
    ) -> None:
        self._listener = listener
        self.port = port
        self._plain, self._tls = plain, tls
        self._splicer = splicer
        self._alarms = alarms
        self.mode = mode
        self._credentials = credentials
        self._tls13 = tls13
        self._pid = os.getpid()
        self.accepting = True
        self.connections: set[Spliced] = set()
        self.refused: collections.Counter[str] = collections.Counter()
        self._waiting: Waiting[socket.socket, Alarm] = Waiting()
        self._told: set[str] = set()
        splicer.call(functools.partial(splicer.watch, listener, self._accept))

    # -- in the splicer's thread ------------------------------------------------------------------------------------

    def _accept(self, _mask: int) -> None:
        turn = accept_turn(self._listener)
        for sock in turn.connections:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._opened(sock)
            except OSError:  # it has gone already
                sock.close()
        if turn.no_room is not None and self.accepting:
            for sock in self._waiting.longest(BATCH):
                self._cut(sock, "no room")
            self._say("accept", "port %s cannot accept connections: %s; it is tried again", self.port, turn.no_room)
            self._splicer.unwatch(self._listener)
            self._alarms.after(BACKOFF, functools.partial(self._splicer.call, self._accept_again))

    def _accept_again(self) -> None:
        if self.accepting:
            self._splicer.watch(self._listener, self._accept)

    def _opened(self, sock: socket.socket) -> None:
        too_many = self._waiting.one_too_many()
        if too_many is not None:
            self._cut(too_many, "too many")
        silent = functools.partial(self._splicer.call, functools.partial(self._cut, sock, "silent"))
        self._waiting[sock] = self._alarms.after(PATIENCE, silent)
        self._splicer.watch(sock, functools.partial(self._first_byte, sock))

    def _cut(self, sock: socket.socket, why: str) -> None:
        """One that has not been heard of."""
        alarm = self._waiting.pop(sock, None)
        if alarm is not None:
            alarm.cancel()
            self._splicer.unwatch(sock)
            self._refuse(sock, why)

    def _first_byte(self, sock: socket.socket, _mask: int) -> None:
        try:
            first = sock.recv(MOST, socket.MSG_PEEK)
            if self._hello_to_come(sock, first):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        alarm = self._waiting.pop(sock, None)
        if alarm is not None:
            alarm.cancel()
        self._splicer.unwatch(sock)
        if not first:
            sock.close()
            return
        try:
            self._begin(sock, first)
        except BaseException:
            sock.close()
            raise

    def _hello_to_come(self, sock: socket.socket, start: bytes) -> bool:
        """Whether more is needed to decide: where older TLS is refused, the client's whole first record. The socket is then
        readable when that is there, or when no more comes. Raises OSError."""
        if start[:1] != TLS:
            return False
        waited_for, needed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT), min(record_length(start), MOST)
        if self._tls13() and waited_for <= len(start) < needed:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
            return True
        if waited_for != 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return False

    def _begin(self, sock: socket.socket, start: bytes) -> None:
        mode = self.mode()
        if mode is None:  # the mesh is closed
            self._refuse(sock, "closed")
            return
        credentials = self._credentials() if self._tls else None
        decided = verdict(start[0], mode, credentials is not None)
        if decided is Verdict.PLAIN:
            self._join(sock, self._plain, None)
        elif decided is Verdict.TLS and self._tls13() and not offers_tls13(start):
            self._refuse(sock, "old TLS")
        elif decided is Verdict.TLS:
            self._join(sock, self._tls, credentials)
        else:
            self._refuse(sock, why_reset(start[0]).value)

    def _join(self, sock: socket.socket, path: str, credentials: Credentials | None) -> None:
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        random = secrets.token_hex(16)
        name = f"\0meshlib-{random}" if spliced.ABSTRACT else f"{path}-{random[:16]}"
        try:
            connection = Spliced(spliced.address_of(sock), self.port, credentials, _nothing)
            inner.setblocking(False)
            inner.bind(name)
            spliced.keep(name, connection)
            inner.connect(path)
            if not spliced.ABSTRACT:
                os.unlink(name)
        except OSError as error:
            spliced.forget(name)
            inner.close()
            self._say("server", "port %s: the gRPC server does not accept connections (%s)", self.port, error)
            self._refuse(sock, "server")
            return
        self.connections.add(connection)
        splice = self._splicer.join(sock, inner, functools.partial(self._over, name, connection))
        connection.close = functools.partial(self._splicer.call, splice.end)

    def _over(self, name: str, connection: Spliced) -> None:
        spliced.forget(name)
        self.connections.discard(connection)

    def _refuse(self, sock: socket.socket, why: str) -> None:
        self.refused[why] += 1
        reset(sock)
        if why == "old TLS":
            self._say(
                why,
                "port %s refuses a client that does not offer TLS 1.3, which MeshConfig demands "
                "(meshMTLS.minProtocolVersion)",
                self.port,
            )
        if why == Refusal.NO_CERTIFICATE.value:
            self._say(
                why,
                "port %s refuses mTLS: there is no certificate to present (%s)",
                self.port,
                "it is said above why"
                if self._tls
                else "give the mesh an identity: Mesh(identity=meshlib.Identity...)",
            )

    def _say(self, what: str, text: str, *values: object) -> None:
        if what not in self._told:
            self._told.add(what)
            log.error(text, *values)

    def can_show(self) -> None:
        """There is a certificate: what was said of its absence may be said again."""
        self._told.discard("no certificate")

    # -- from any thread --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Accept nothing more; connections go on. Idempotent."""
        if not self.accepting:
            return
        self.accepting = False
        if self._pid != os.getpid():
            return
        self._splicer.call(self._stop)

    def _stop(self) -> None:
        self._splicer.unwatch(self._listener)
        self._listener.close()
        for sock, alarm in list(self._waiting.items()):
            alarm.cancel()
            self._splicer.unwatch(sock)
            reset(sock)
        self._waiting.clear()

    def close(self) -> None:
        """``stop``, and end all connections."""
        self.stop()
        for connection in list(self.connections):
            connection.close()

    def after_fork(self) -> None:
        """In a forked child: the port is its parent's."""
        self.accepting = False
        close_copy(self._listener)
        for sock in list(self._waiting):
            close_copy(sock)
        self._waiting.clear()
        self.connections.clear()

    def status(self) -> dict[str, object]:
        """For ``mesh.status()``."""
        mode = self.mode()
        return {
            "port": self.port,
            "mode": None if mode is None else mode.value,
            "accepting": self.accepting,
            "connections": len(self.connections),
            "refused": dict(self.refused),
        }


def _nothing() -> None:
    pass
