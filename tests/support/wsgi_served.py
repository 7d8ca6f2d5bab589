"""An application behind ``MeshWSGIMiddleware``, as real servers load it. ``/secret`` is forbidden, in whatever spelling; its
responses tell how often it was served all the same, and what became of every call."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine import inbound_context
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.path_spellings import path_spellings
from meshlib.policy.refusal import Refusal

registry = CollectorRegistry()
mesh = meshlib.Mesh.from_resources([], registry=registry)
served = 0


def check(request: InboundRequest) -> Refusal | None:
    spellings = path_spellings(request.path, "BASE")
    if spellings.problem:
        return Refusal(400, "Bad Request")
    routed = () if request.routed is None else path_spellings(request.routed, "BASE").forbidden_at
    forbidden = "/secret" in (*spellings.forbidden_at, *routed) or request.header("x-role") == "eve"
    return Refusal(403, "RBAC: access denied") if forbidden else None


assert mesh._core.live is not None
mesh._core.live.inbound.default.checks = (check,)


def results() -> dict[str, float]:
    found: dict[str, float] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "istio_requests_total":
                key = f"{sample.labels['response_code']} {sample.labels['response_flags']}"
                found[key] = found.get(key, 0) + sample.value
    return found


def application(environ: dict[str, Any], start_response: Any) -> Any:
    global served
    path = environ["PATH_INFO"]
    if path == "/secret":
        served += 1
    request = mesh.inbound()
    if path == "/file":
        start_response("200 OK", [("Content-Length", "5")])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"12345"))
    if path == "/endless":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return endless()
    if path == "/raise":
        raise ValueError("as asked")
    told = {
        "served": served,
        "results": results(),
        "pid": os.getpid(),
        "path": path,
        "nobody": request is None,
        "body": environ["wsgi.input"].read().decode("latin-1"),
    }
    if request is not None:
        for name in ("principal", "peer", "source_ip", "local_ip", "port", "sni", "secure", "mutual", "version"):
            told[name] = getattr(request, name)
    body = json.dumps(told).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def endless() -> Iterator[bytes]:
    assert inbound_context.current.get() is not None
    while True:
        yield b"x" * 65536


app = meshlib.MeshWSGIMiddleware(application, mesh)
