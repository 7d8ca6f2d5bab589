"""The port at which a cluster asks how a proxy is: ``/healthz/ready`` (Istio's 15021) and ``/stats/prometheus`` (its 15020).

Unlike the admin endpoint it may be reached from other machines, as a kubelet has to, so it has these two pages and no more. A
thread of its own serves it: a probe is answered also while the event loop has much to do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from meshlib.admin.page import Page, text
from meshlib.admin.request import AdminRequest
from meshlib.admin.server import AdminServer

READY, METRICS = "/healthz/ready", "/stats/prometheus"
PATHS = frozenset([READY, METRICS])


class HealthPort:
    """Serves ``sock``, which listens. ``pages``: the proxy's, of which these paths are shown."""

    def __init__(self, sock: socket.socket, pages: Callable[[AdminRequest], Page]) -> None:
        self._sock = sock
        self._pages = pages
        self._server = AdminServer(sock, self._respond, any_host=True)

    def start(self) -> None:
        """Respond from now on."""
        self._server.start()

    def close(self) -> None:
        """Idempotent."""
        self._server.close()
        self._sock.close()

    def abandon(self) -> None:
        """In a forked child: the parent goes on serving."""
        self._server.abandon()
        self._sock.close()

    def _respond(self, request: AdminRequest) -> Page:
        if request.path not in PATHS:
            return text(f"{READY} and {METRICS} are here, and nothing else\n", 404)
        return self._pages(request)
