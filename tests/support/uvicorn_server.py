"""uvicorn on loopback, in a thread of its own, and a client that says exactly the bytes it is given."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Self

import uvicorn

SECONDS = 20.0
"""Far more than anything takes."""


class Uvicorn:
    """``with Uvicorn(app, http="h11") as server: server.port``; options are uvicorn's."""

    def __init__(self, app: Any, **options: Any) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, **{"lifespan": "off", **options}))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    def __enter__(self) -> Self:
        self._socket.listen()  # who connects before it accepts waits
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS)
        self._socket.close()
        assert not self._thread.is_alive()

    def say(self, data: bytes, until: bytes | None = None) -> bytes:
        """All that comes back for these bytes; up to ``until``, None: until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(data)
            came = b""
            while until is None or until not in came:
                part = connection.recv(65536)
                if not part:
                    break
                came += part
            return came
