"""An OTLP collector over HTTP, in a process of its own, that takes whatever comes and keeps nothing."""

from __future__ import annotations

import socket
import sys
import threading

from benchmarks.proxy_body_backend import drain, length_of, read_head


def _serve(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(1 << 16))
    with connection:
        try:
            while True:
                head, rest = read_head(connection)
                drain(connection, length_of(head) - len(rest), buffer)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
                )
        except (ConnectionError, TimeoutError):
            return  # who sends spans let go of it


def main(port: int) -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
