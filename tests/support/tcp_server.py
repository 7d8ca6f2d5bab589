"""A TCP server on loopback: what a test says is done with each connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from tests.support.listening import stop_accepting


def echo(sock: socket.socket) -> None:
    """Say everything again; once the other side has ended, end."""
    while data := sock.recv(65536):
        sock.sendall(data)


class TcpServer:
    """``behave`` has each connection, in a thread of its own, which is closed afterwards."""

    def __init__(self, behave: Callable[[socket.socket], None] = echo) -> None:
        self._behave = behave
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        stop_accepting(self._sock, self._thread)
        for sock in self.accepted:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.accepted.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            self._behave(sock)
