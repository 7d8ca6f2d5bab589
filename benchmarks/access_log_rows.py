"""What an access log to a file adds to a call, in ``json.loads`` of a small document: calls of a client, and requests to an
ASGI application, each with and without the log, in turn. CPU of the whole process, the thread that writes included."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row, Unit

TARGET = 2.0


def access_log(quick: bool) -> list[Row]:
    """See above. Both formats of Istio."""
    rounds, calls = (40, 50) if quick else (200, 100)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "access.log"
        made = {
            "off": _client(None, None),
            "text": _client(path, "text"),
            "JSON": _client(path, "json"),
        }
        served = {
            "off": _application(None, None),
            "text": _application(path, "text"),
            "JSON": _application(path, "json"),
        }
        return [*_rows("a call", made, rounds, calls), *_rows("a request served", served, rounds, calls)]


def _rows(what: str, ways: dict[str, Callable[[int], None]], rounds: int, calls: int) -> list[Row]:
    unit = Unit()
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way(200)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.process_time()
                way(calls)
                best[name] = min(best[name], (time.process_time() - began) / calls * 1e6)
            unit.take(200)
    finally:
        gc.enable()
    return [
        Row(
            f"access log to a file ({name}) adds to {what}",
            (best[name] - best["off"]) / unit.us,
            "x",
            TARGET,
            details=f"{best[name]:.2f} us against {best['off']:.2f} us; json.loads {unit.us:.2f} us",
            extra={"us": best[name], "off_us": best["off"], "unit_us": unit.us},
        )
        for name in ("text", "JSON")
    ]


def _client(path: Path | None, form: str | None) -> Callable[[int], None]:
    """Calls through ``mesh.client()`` whose upstream is a mock, so that the mesh's own work is what is measured."""

    def respond(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"{}")

    mesh = _mesh(path, form)
    client = httpx.Client(transport=mesh.http_transport(httpx.MockTransport(respond)))
    request = client.build_request("GET", "http://reviews:9080/reviews/1", headers={"x-request-id": "4711"})

    def run(calls: int) -> None:
        send = client.send
        for _ in range(calls):
            send(request)
        _written(mesh)

    return run


def _application(path: Path | None, form: str | None) -> Callable[[int], None]:
    mesh = _mesh(path, form)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    body = {"type": "http.response.body", "body": b"{}"}
    asked = {"type": "http.request", "body": b"", "more_body": False}

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start)
        await send(body)

    async def receive() -> dict[str, Any]:
        return asked

    async def send(_message: Any) -> None:
        return

    middleware = meshlib.MeshASGIMiddleware(app, mesh)
    headers = [(b"host", b"reviews:9080"), (b"user-agent", b"bench/1"), (b"accept", b"*/*"), (b"x-request-id", b"4711")]

    async def serve(calls: int) -> None:
        for _ in range(calls):
            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": "/reviews/1", "raw_path": b"/reviews/1", "query_string": b"", "root_path": "", "headers": headers,
                "client": ("127.0.0.1", 4711), "server": ("127.0.0.1", 9080),
            }  # fmt: skip
            await middleware(scope, receive, send)

    loop = asyncio.new_event_loop()

    def run(calls: int) -> None:
        loop.run_until_complete(serve(calls))
        _written(mesh)

    return run


def _mesh(path: Path | None, form: str | None) -> meshlib.Mesh:
    return meshlib.Mesh.from_resources(
        synthetic.reviews(9080), registry=CollectorRegistry(), access_log=path, access_log_format=form
    )


def _written(mesh: meshlib.Mesh) -> None:
    """What has been put is written: its CPU is part of the round."""
    mesh.flush_access_logs(10.0)
