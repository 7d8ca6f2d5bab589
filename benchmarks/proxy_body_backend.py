"""A backend of long bodies, in a process of its own: ``GET /files/300`` is 300 MB of zeros, a POST is read to its end."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading

MEGABYTE = 1 << 20
LARGEST = 1000 * MEGABYTE


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Up to the empty line, and what was read after it. ConnectionError: the other end closed it first."""
    found = b""
    while b"\r\n\r\n" not in found:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("closed within a head")
        found += piece
    head, _, rest = found.partition(b"\r\n\r\n")
    return head, rest


def length_of(head: bytes) -> int:
    """Its content-length; 0 where it has none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def drain(connection: socket.socket, length: int, buffer: memoryview) -> None:
    """Read so many bytes. ConnectionError: fewer came."""
    while length > 0:
        read = connection.recv_into(buffer[: min(length, len(buffer))])
        if not read:
            raise ConnectionError(f"closed with {length} bytes to come")
        length -= read


def _serve(connection: socket.socket, zeros: int) -> None:
    buffer = memoryview(bytearray(MEGABYTE))
    with connection:
        try:
            while True:
                head, rest = read_head(connection)
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                if method == "POST":
                    drain(connection, length_of(head) - len(rest), buffer)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    continue
                name = target.rpartition("/")[2]
                length = int(name) * MEGABYTE if name.isdigit() else 0
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length)
                sent = 0
                while sent < length:
                    sent += os.sendfile(connection.fileno(), zeros, sent, length - sent)
        except (ConnectionError, TimeoutError):
            return  # the proxy let go of it


def main(port: int) -> None:
    """Serve until killed."""
    with tempfile.TemporaryFile() as opened, socket.create_server(("0.0.0.0", port), backlog=512) as listener:
        opened.truncate(LARGEST)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, opened.fileno()), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
