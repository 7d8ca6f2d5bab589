"""New sockets for blocking clients: to an address, to the first address of a name that answers, or to a path; TLS done."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.upstream.environment import check_sockets
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.network_stream import PooledStream
from meshlib.transport.upstream.problems import MESH_CLOSED, connect_problem, mesh_closed
from meshlib.transport.upstream.target import LONGEST_WAIT, Target, keep_alive
from meshlib.transport.upstream.threads_connection import shut_down
from meshlib.transport.upstream.tls import PeerNameMismatch, certificate_of, check_peer, handshake_of
from meshlib.transport.upstream.tls_socket import AnySocket, TlsSocket

if TYPE_CHECKING:
    from meshlib.transport.upstream.trace import Trace


class Dialler:
    """Makes sockets, from any thread, until it is closed. ``under_way``: those that are not ready yet."""

    def __init__(self, now: Callable[[], float], names: Names) -> None:
        self._now = now
        self._names = names
        self.under_way: set[AnySocket] = set()
        self.closed = False

    def dial(
        self, target: Target, protocols: Sequence[str], limit: float | None, trace: Trace | None = None
    ) -> AnySocket | Outcome:
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
            return Outcome(Failure.CONNECT_FAILED, connect_problem(target, error), error)

    def close(self) -> None:
        """Those under way fail at once, and so do later ones."""
        self.closed = True
        for sock in list(self.under_way):
            shut_down(sock)

    def _open(self, target: Target, protocols: Sequence[str], limit: float | None, trace: Trace | None) -> AnySocket:
        if limit is not None:
            if limit <= 0:
                raise TimeoutError
            limit = min(limit, LONGEST_WAIT)
        check_sockets()
        handshake = None if target.tls is None else handshake_of(target.tls, protocols)
        if trace is not None:
            trace.connecting(target, limit)
        try:
            if target.host.startswith("unix://"):
                sock = self._reach(socket.AF_UNIX, target.host.removeprefix("unix://"), limit)
            else:
                sock = self._reach_host(target, limit)
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
            if handshake is not None:
                if trace is not None:
                    trace.starting_tls(target, handshake.context, limit)
                tls = TlsSocket(sock, handshake, target.server_hostname or None, self._now)
                with self._interruptible(sock):
                    tls.do_handshake(limit)
                handshake.done(tls.ssl_object)
                check_peer(certificate_of(tls.ssl_object), target.subject_alt_names)
                if trace is not None:
                    trace.complete(PooledStream(tls))
                return tls
        except BaseException as error:
            self.under_way.discard(sock)
            sock.close()
            if trace is not None:
                trace.failed(error)
            raise
        return sock

    def _reach_host(self, target: Target, limit: float | None) -> socket.socket:
        """To the address, or to the first address of the name that answers."""
        if not target.is_name:
            target.admit(target.host)
            return self._reach_port(target.host, target.port, limit)
        by = None if limit is None else self._now() + limit
        failed: OSError | None = None
        for address in self._names.resolve(target.host, limit):
            left = None if by is None else by - self._now()
            if left is not None and left <= 0:
                raise TimeoutError
            try:
                target.admit(address)
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
            self.under_way.discard(sock)  # an interrupt may have come before that was done
            sock.close()
            raise
        return sock

    @contextlib.contextmanager
    def _interruptible(self, sock: socket.socket) -> Iterator[None]:
        """``close`` breaks off what is done to the socket in here."""
        self.under_way.add(sock)
        try:
            if self.closed:
                raise ConnectionAbortedError(MESH_CLOSED)
            yield
        finally:
            self.under_way.discard(sock)
