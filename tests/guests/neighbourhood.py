"""A mesh with one host, for libraries that people already use: two versions of a fake; a VirtualService takes the second.

Whoever reaches the first, or comes without the header that the rule adds, has passed the mesh by.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import prometheus_client

import meshlib
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer

HOST = "guest"
BASE = "http://guest:9080"
BY_THE_RULE = "x-by-the-rule"
EVENT_STREAM = "text/event-stream"


class Neighbourhood:
    """``mesh``, and ``fake``: the version that the rule takes. ``refuse``: how many requests it refuses first, with 503."""

    def __init__(self, mesh: meshlib.Mesh, fake: EchoServer, other: EchoServer) -> None:
        self.mesh = mesh
        self.fake = fake
        self._other = other
        self.refuse = 0
        self._lock = threading.Lock()

    def refuses(self) -> bool:
        with self._lock:
            self.refuse -= 1
            return self.refuse >= 0

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The requests that came, refused ones too."""
        return self.fake.seen

    def obeyed(self, attempts: int = 1) -> dict[str, Any]:
        """The last request, which took ``attempts``, came by the rule: at the version it names, with its header and the host
        as the caller wrote it."""
        assert self._other.seen == []
        assert self.seen, "nothing came"
        assert {request["headers"].get(BY_THE_RULE) for request in self.seen} == {"yes"}
        assert {request["headers"]["host"] for request in self.seen} == {"guest:9080"}
        last = self.seen[-1]
        assert last["headers"]["x-envoy-attempt-count"] == str(attempts)
        return last


Behave = Callable[[Any, dict[str, Any]], bool]


@contextlib.contextmanager
def neighbourhood(behave: Behave | None = None, retry_on: str = "5xx") -> Iterator[Neighbourhood]:
    """``behave(handler, request)`` answers a request and says whether it did."""
    held: list[Neighbourhood] = []

    def respond(handler: Any) -> bool:
        if held[0].refuses():
            handler.answer(503, b"busy")
            return True
        return behave is not None and behave(handler, held[0].seen[-1])

    with EchoServer("v2", respond) as fake, EchoServer("v1") as other:
        rule = {
            "route": [to(HOST, "v2")],
            "headers": {"request": {"set": {BY_THE_RULE: "yes"}}},
            "retries": {"attempts": 2, "retryOn": retry_on, "backoff": "1ms"},
            "timeout": "60s",
        }
        resources = [
            service(HOST),
            pod(HOST, "v1", other.port),
            pod(HOST, "v2", fake.port),
            destination_rule(HOST, "v1", "v2"),
            virtual_service(HOST, rule),
        ]
        with meshlib.Mesh.from_resources(resources, registry=prometheus_client.CollectorRegistry()) as mesh:
            held.append(Neighbourhood(mesh, fake, other))
            yield held[0]


def send_json(handler: Any, value: object, status: int = 200, **headers: str) -> bool:
    """As the response."""
    handler.answer(status, json.dumps(value).encode(), content_type="application/json", **headers)
    return True


def send_events(handler: Any, *events: str) -> bool:
    """Server-sent events, a chunk each."""
    handler.send_response(200)
    handler.send_header("content-type", EVENT_STREAM)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for event in events:
        piece = f"{event}\n\n".encode()
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        handler.wfile.flush()
    handler.wfile.write(b"0\r\n\r\n")
    return True
