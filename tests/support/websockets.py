"""A WebSocket server on loopback that says everything back, and the server's side of TLS."""

from __future__ import annotations

import ssl
import threading
from typing import Any, Self

import trustme
from websockets.sync.server import ServerConnection, serve


class EchoSocket:
    """``with EchoSocket("v1") as server: server.port``. Says ``hello from NAME`` first, at once; refuses paths that begin
    with ``/no`` (403). ``heads`` are the headers of each handshake."""

    def __init__(self, name: str = "echo", tls: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._server = serve(
            self._speak, "127.0.0.1", 0, ssl=tls, process_request=self._look, compression=None, max_size=2**24
        )
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def _look(self, connection: ServerConnection, request: Any) -> Any:
        self.paths.append(request.path)
        self.heads.append({name.lower(): value for name, value in request.headers.raw_items()})
        return connection.respond(403, "no\n") if request.path.startswith("/no") else None

    def _speak(self, connection: ServerConnection) -> None:
        connection.send(f"hello from {self.name}")
        for message in connection:
            connection.send(message)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join(60)


def server_side(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    """Of a server that is called localhost, and speaks these protocols (ALPN)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
