"""An OTLP collector over HTTP, in a process of its own, that takes whatever comes and keeps nothing but how many spans have
come from whom: ``GET /`` tells them."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading

from benchmarks.proxy_body_backend import length_of, read_head
from benchmarks.proxy_processes import ENVOY, MESHLIB

ONE = b"guid:x-request-id"
"""An attribute that each span has, of either proxy, once."""
OURS = b"meshlib"
"""Our spans' scope."""


class Counts:
    """Spans that have come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans = {ENVOY: 0, MESHLIB: 0}

    def add(self, body: bytes) -> None:
        """Those of a request."""
        who = MESHLIB if OURS in body else ENVOY
        with self._lock:
            self._spans[who] += body.count(ONE)

    def told(self) -> bytes:
        """As JSON."""
        with self._lock:
            return json.dumps(self._spans).encode()


def _serve(connection: socket.socket, counts: Counts) -> None:
    with connection:
        try:
            while True:
                head, rest = read_head(connection)
                left = length_of(head) - len(rest)
                pieces = [rest]
                while left > 0:
                    piece = connection.recv(min(left, 1 << 18))
                    if not piece:
                        return
                    pieces.append(piece)
                    left -= len(piece)
                body = b""
                if head.startswith(b"GET"):
                    body = counts.told()
                else:
                    counts.add(b"".join(pieces))
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(body), body)
                )
        except (ConnectionError, TimeoutError):
            return  # who sends spans let go of it


def spans_at(port: int) -> dict[str, int]:
    """How many spans have come to the collector at this port, by whose they are."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/")
        found: dict[str, int] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


def main(port: int) -> None:
    """Serve until killed."""
    counts = Counts()
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, counts), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
