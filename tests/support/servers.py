"""Real HTTP servers on loopback for tests: small, threaded, scripted by the request."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any, Self


class EchoServer:
    """Answers with JSON about the request. ``behave`` may replace the answer: it gets the handler and returns True when
    it has answered itself. Counts what it saw in ``seen``."""

    def __init__(
        self,
        name: str = "echo",
        behave: Callable[[Any], bool] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.name = name
        self.behave = behave
        self.seen: list[dict[str, Any]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                if (self.headers.get("transfer-encoding") or "").lower() == "chunked":
                    body = self._chunked()
                else:
                    body = self.rfile.read(length)
                about = {
                    "server": outer.name,
                    "method": self.command,
                    "path": self.path,
                    "headers": {k.lower(): v for k, v in self.headers.items()},
                    "body": body.decode("latin-1"),
                }
                outer.seen.append(about)
                if outer.behave is not None and outer.behave(self):
                    return
                self.answer(200, json.dumps(about).encode())

            def _chunked(self) -> bytes:
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = handle_any

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients of these tests hang up on purpose."""

        self._server = Server((address, port), Handler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)


def failing(status: int) -> Callable[[Any], bool]:
    """Always this status."""

    def behave(handler: Any) -> bool:
        handler.answer(status)
        return True

    return behave
