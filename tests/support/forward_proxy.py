"""A forward proxy on loopback that remembers whom it was asked for."""

from __future__ import annotations

import select
import socket
import socketserver
import threading
from typing import Any, Self


class ForwardProxy:
    """Answers plain requests itself (``via proxy``) and leads every tunnel (CONNECT) to ``tunnels_to``, a port on loopback;
    without one it refuses tunnels with 403. ``asked`` holds the first line of every request."""

    def __init__(self, tunnels_to: int = 0) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                sock: socket.socket = self.request
                while True:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        piece = sock.recv(65536)
                        if not piece:
                            return
                        head += piece
                    line = head.split(b"\r\n", 1)[0].decode()
                    outer.asked.append(line)
                    if not line.startswith("CONNECT"):
                        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nvia proxy")
                        continue
                    if not tunnels_to:
                        sock.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                        return
                    sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                    with socket.create_connection(("127.0.0.1", tunnels_to)) as far:
                        _pump(sock, far)
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients of these tests hang up on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pump(one: socket.socket, other: socket.socket) -> None:
    while True:
        for sock in select.select([one, other], [], [])[0]:
            data = sock.recv(65536)
            if not data:
                return
            (other if sock is one else one).sendall(data)
