"""A raw TCP server that answers each request with exactly the bytes it is told to, and misbehaves in between."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Self

from tests.support.listening import stop_accepting

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Step = bytes | float | str | Callable[[socket.socket], None]


class EvilServer:
    """``plans[n]`` is played for the n-th request of all connections (the last one repeats). A plan is a list of steps:
    bytes to send, a float to wait (for as long, or until the server is stopped), "close", "reset", or a function of the
    socket."""

    def __init__(self, *plans: list[Step], tls: ssl.SSLContext | None = None, read_body: bool = True) -> None:
        self.plans = list(plans)
        self.tls = tls
        self.read_body = read_body
        self.requests: list[bytes] = []
        self.connections = 0
        self.played = 0  # plans that are over
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._sock.getsockname()[1]
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        stop_accepting(self._sock, self._threads[0])
        for conn in self._open:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
            conn.close()
        for thread in self._threads:
            thread.join(60)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            self._spawn(self._serve, conn)

    def _serve(self, conn: socket.socket) -> None:
        try:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                conn = self.tls.wrap_socket(conn, server_side=True)
            self._open.append(conn)
            while request := self._read(conn):
                with self._lock:
                    self.requests.append(request)
                    plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
                goes_on = self._play(conn, plan)
                with self._lock:
                    self.played += 1
                if not goes_on:
                    return
        except (OSError, ssl.SSLError):
            return
        finally:
            conn.close()

    def wait(self, plans: int) -> None:
        """Until so many plans are over: what they sent, or that they closed, has reached the client's kernel."""
        until = time.monotonic() + 30
        while self.played < plans:
            assert time.monotonic() < until, f"{self.played} of {plans} plans are over"
            time.sleep(0.002)

    def _read(self, conn: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            more = conn.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        if not self.read_body:
            return data
        lower = head.lower()
        chunked, length = b"transfer-encoding: chunked" in lower, 0
        if not chunked and b"content-length: " in lower and b"expect:" not in lower:
            length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n")):
            more = conn.recv(65536)
            if not more:
                return b""
            body += more
        return head + b"\r\n\r\n" + body

    def _play(self, conn: socket.socket, plan: list[Step]) -> bool:
        for step in plan:
            if isinstance(step, bytes):
                conn.sendall(step)
            elif isinstance(step, float):
                if self._stopped.wait(step):
                    return False
            elif step == "close":
                conn.close()
                return False
            elif step == "reset":
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                conn.close()
                return False
            elif callable(step):
                step(conn)
        return True


def bytewise(data: bytes) -> list[Step]:
    """Every byte in a packet of its own."""
    steps: list[Step] = []
    for i in range(len(data)):
        steps += [data[i : i + 1], 0.0005]
    return steps
