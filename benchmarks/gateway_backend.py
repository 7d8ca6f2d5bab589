"""``python -m benchmarks.gateway_backend PORT``: waits for ``GO N`` and a line end amid whatever else comes, and sends so many
MB: an upstream of connections that nobody reads, of TCP or of something that begins like TLS."""

from __future__ import annotations

import re
import socketserver
import sys

MEGABYTE = 1024 * 1024


class Sends(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        heard, piece = b"", bytes(MEGABYTE)
        while (asked := re.search(rb"GO (\d+)\n", heard)) is None:
            more = self.request.recv(65536)
            if not more:
                return
            heard += more
        for _ in range(int(asked[1])):
            self.request.sendall(piece)


class Threading(socketserver.ThreadingTCPServer):
    """Of several connections."""

    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    with Threading(("127.0.0.1", int(sys.argv[1])), Sends) as server:
        server.serve_forever()
