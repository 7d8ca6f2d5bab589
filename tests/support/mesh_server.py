"""``meshlib serve`` without its command: a server in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from typing import Any, Self

from meshlib.mesh import Mesh
from meshlib.serving.http_server import HttpServer, HttpSettings
from meshlib.transport.asgi.middleware import MeshASGIMiddleware

SECONDS = 20.0
"""Far more than anything takes."""


class MeshServer:
    """``with MeshServer(app, mesh, http="h11", loop="asyncio") as server: server.port``."""

    def __init__(self, app: Any, mesh: Mesh, *, health_port: bool = False, **settings: Any) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.health_sock = socket.create_server(("127.0.0.1", 0)) if health_port else None
        self.port: int = self.sock.getsockname()[1]
        self.health_port: int = self.health_sock.getsockname()[1] if self.health_sock is not None else 0
        self._ready = threading.Event()
        self.server = HttpServer(
            MeshASGIMiddleware(app, mesh),
            mesh._core,
            self.sock,
            HttpSettings(**{"access_log": False, **settings}),
            health_sock=self.health_sock,
            ready=self._ready.set,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self.server.run()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(SECONDS)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def begin_to_stop(self) -> None:
        self.server.should_exit = True

    def stop(self) -> None:
        self.begin_to_stop()
        self._thread.join(SECONDS)
        alive = self._thread.is_alive()
        self.server.force_exit = True
        assert not alive, "it does not stop"

    @property
    def stopped(self) -> bool:
        return not self._thread.is_alive()


async def tells(scope: Any, receive: Any, send: Any) -> None:
    """An application that responds with what it is told of the connection; ``/slow`` waits for its body to end."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    tls = scope.get("extensions", {}).get("tls")
    told = {
        "tls": tls and {**tls, "client_cert_chain": list(tls["client_cert_chain"])},
        "client": scope["client"],
        "scheme": scope["scheme"],
        "version": scope["http_version"],
        "path": scope["path"],
    }
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": json.dumps(told)})
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    if scope["path"] == "/sleep":
        await asyncio.sleep(0.5)
    body = json.dumps({**told, "length": length}).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
