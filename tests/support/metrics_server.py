"""A registry where Prometheus can scrape it, rendered by ``telemetry/exposition.py``."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from meshlib.telemetry.exposition import exposition


@contextlib.contextmanager
def metrics_server(registry: CollectorRegistry) -> Iterator[str]:
    """``host:port`` that serves /metrics."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, pieces = exposition(registry, self.headers.get("accept", ""))
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.end_headers()
            for piece in pieces:
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
