"""A proxy at work in a thread of its own, and a client that speaks bytes to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.proxy.process import ProxyProcess, ProxySettings
from meshlib.serving.serve import listen
from tests.support.eventually import turned


class Proxy:
    """``meshlib proxy`` for these resources, on a loop of its own."""

    def __init__(
        self,
        resources: list[dict[str, Any]],
        settings: ProxySettings = ProxySettings(drain=2),
        port: int = 0,
        loops: Callable[[], asyncio.AbstractEventLoop] | None = None,
        **mesh: Any,
    ) -> None:
        """``port``: where it listens, 0: anywhere. ``loops``: makes its event loop, None: as asyncio does."""
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources(resources, registry=self.registry, **{"https_rules": "istio", **mesh})
        self._sock = listen("127.0.0.1", port, "--outbound")
        self.port: int = self._sock.getsockname()[1]
        self._settings = settings
        self._up = threading.Event()
        self.process: ProxyProcess
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._runs, args=(loops,), daemon=True)

    def _runs(self, loops: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
        with asyncio.Runner(loop_factory=loops) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.process = ProxyProcess(self.mesh, self._sock, self._settings)
        await self.process.run(self._up.set)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def stop(self) -> None:
        """As SIGTERM does."""
        self.loop.call_soon_threadsafe(self.process.stop)

    def join(self) -> bool:
        """Wait until it has ended."""
        self._thread.join(20)
        return not self._thread.is_alive()

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.stop()
        ended = self.join()
        self.mesh.close()
        assert ended, "the proxy has not ended"

    def client(self) -> Client:
        """A connection to it."""
        return Client(self.port)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        turned(self.loop)
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


class Response:
    """What came back."""

    def __init__(self, status: int, reason: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    def header(self, name: str) -> str | None:
        """The value of a header, None when it is not there."""
        return next((value for key, value in self.headers if key == name), None)


class Client:
    """One connection, and bytes on it."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 20)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """These bytes."""
        self.sock.sendall(data)

    def get(self, path: str = "/", method: str = "GET", host: str = "reviews:9080", *lines: str) -> Response:
        """A request without a body, and its response."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *lines]
        self.send("\r\n".join([*head, "", ""]).encode())
        return self.response(method)

    def until(self, mark: bytes) -> bytes:
        """What comes up to and with ``mark``."""
        while mark not in self._rest:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionResetError(f"closed after {self._rest!r}")
            self._rest += more
        at = self._rest.index(mark) + len(mark)
        found, self._rest = self._rest[:at], self._rest[at:]
        return found

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._rest) < size:
            more = self.sock.recv(65536)
            if not more:
                raise ConnectionResetError(f"closed after {self._rest!r}")
            self._rest += more
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def head(self) -> Response:
        """The head of a response."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        _, status, reason = [*first.split(" ", 2), ""][:3]
        pairs = [line.partition(":") for line in lines]
        return Response(int(status), reason, [(name.lower(), value.strip()) for name, _, value in pairs], b"")

    def response(self, method: str = "GET") -> Response:
        """A whole response."""
        found = self.head()
        if method == "HEAD" or found.status in (204, 304):
            return found
        if found.header("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n"), 16):
                found.body += self.exactly(size + 2)[:-2]
            assert self.until(b"\r\n") == b"\r\n"
        else:
            found.body = self.exactly(int(found.header("content-length") or 0))
        return found

    def closed(self) -> bool:
        """Whether nothing more comes: the other side has closed."""
        if self._rest:
            return False
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
