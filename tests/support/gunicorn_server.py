"""A real gunicorn, in a process of its own, around ``tests.support.wsgi_served``."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = "tests.support.wsgi_served:app"
LONG = 60.0
"""Seconds that a server may take on a busy machine."""


@contextlib.contextmanager
def gunicorn(*arguments: str, app: str = APP) -> Iterator[int]:
    """Serve on a port of 127.0.0.1, which is yielded once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--bind",
            f"fd://{fd}",
            "--log-level",
            "critical",
            "--workers",
            "1",
        ]
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        # as `python -m gunicorn`: where an application is started from must not matter
        server = subprocess.Popen(
            [*command, *arguments, app], pass_fds=(fd,), cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            yield listener.getsockname()[1]
        finally:
            server.terminate()
            try:
                server.wait(LONG)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(60)


def exchange(
    port: int, sent: bytes, context: ssl.SSLContext | None = None, name: str = "127.0.0.1"
) -> tuple[int, bytes]:
    """Send these bytes, and read until the server closes: status (0: none) and body of the first response."""
    with connected(port, context, name) as sock:
        sock.sendall(sent)
        got = b""
        with contextlib.suppress(ConnectionError):
            while piece := sock.recv(65536):
                got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head else 0, body


@contextlib.contextmanager
def connected(port: int, context: ssl.SSLContext | None = None, name: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), LONG) as plain:
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname=name) as secure:
                yield secure


def get(target: str, *headers: str, method: str = "GET", host: str = "shop.example") -> bytes:
    """A request, as bytes, on a connection that ends with it."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")
