"""TLS in front of a gRPC server: grpcio either demands a certificate of its clients or never asks for one, and a CA is called
both by those who have one and by those who want their first."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Callable

from meshlib.problems import MeshError
from meshlib.transport.grpcio.server.spliced import peer_named
from meshlib.transport.upstream.splice import Splicer

log = logging.getLogger("meshlib.ca")

PATIENCE = 10.0
"""Seconds that a handshake may take, of the network's time."""
AT_ONCE = 64
"""Handshakes under way; whoever comes then is closed at once."""


class TlsFront:
    """Accepts at ``address`` (host:port), makes the handshake and joins the connection to the unix socket ``inner``.
    ``context`` is asked for each connection: one that is made anew resumes no session."""

    def __init__(self, address: str, context: Callable[[], ssl.SSLContext], inner: str) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise MeshError(f"{address!r} is not an address: write it as 127.0.0.1:15012")
        try:
            bare = host.removeprefix("[").removesuffix("]")
            family, _, _, _, where = socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM)[0]
            self._listener = socket.create_server(where[:2], family=family, backlog=128)
        except OSError as error:
            raise MeshError(f"nothing can listen at {address}: {error.strerror or error}") from error
        self._context = context
        self._inner = inner
        self._splicer = Splicer("meshlib-ca-front")
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._leaves: dict[str, bytes | None] = {}
        self._closed = False

    @property
    def port(self) -> int:
        """Where it listens."""
        found: int = self._listener.getsockname()[1]
        return found

    def start(self) -> None:
        """Accept from now on."""
        threading.Thread(target=self._accept, name="meshlib-ca-accept", daemon=True).start()

    def leaf_of(self, peer: str) -> bytes | None:
        """The certificate (DER) that was verified of the peer that grpcio calls so; None: it has shown none. Raises
        ``KeyError`` for one that did not come through here."""
        return self._leaves[peer]

    def close(self) -> None:
        """Accept nothing more, end what is open."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._splicer.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if self._closed:
                    return
                log.warning("no connection can be accepted", exc_info=True)
                continue
            if not self._slots.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(sock,), name="meshlib-ca-handshake", daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                secure = self._context().wrap_socket(sock, server_side=True)
            except (OSError, ValueError, MeshError) as error:
                log.info("a handshake has failed: %s", error)
                sock.close()
                return
            self._join(secure)
        finally:
            self._slots.release()

    def _join(self, secure: ssl.SSLSocket) -> None:
        name = f"\0meshlib-ca-{os.getpid()}-{secrets.token_hex(16)}"
        peer = peer_named(name)
        inner = socket.socket(socket.AF_UNIX)
        try:
            self._leaves[peer] = secure.getpeercert(binary_form=True)
            inner.bind(name)
            inner.connect(self._inner)
            inner.setblocking(False)
            secure.setblocking(False)
        except OSError:
            self._leaves.pop(peer, None)
            inner.close()
            secure.close()
            return
        self._splicer.call(functools.partial(self._joined, secure, inner, peer))

    def _joined(self, secure: ssl.SSLSocket, inner: socket.socket, peer: str) -> None:
        def over() -> None:
            self._leaves.pop(peer, None)

        self._splicer.join(secure, inner, over)
