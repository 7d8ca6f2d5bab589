"""A WSGI application whose requests take as long as they say, by the clock of its mesh, for a server of its own process. It
responds with the problems of the mesh."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import meshlib
from tests.support.fake_clock import FakeClock
from tests.support.protection import protection

clock = FakeClock()
mesh = meshlib.Mesh.from_resources([protection(loadShedding={"maxQueueTime": "1s"})], clock=clock)


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """``?seconds=5`` of the mesh's clock."""
    for seconds in parse_qs(environ["QUERY_STRING"]).get("seconds", ()):
        clock.advance(float(seconds))
    body = json.dumps([f"{problem.code}: {problem.path}: {problem.message}" for problem in mesh.problems]).encode()
    start_response("200 OK", [("content-type", "application/json"), ("content-length", str(len(body)))])
    return [body]


app = meshlib.MeshWSGIMiddleware(application, mesh)
