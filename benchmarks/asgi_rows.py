"""What MeshASGIMiddleware costs: a FastAPI application that says hello, with no server, is 1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from operator import itemgetter
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks import inbound_resources
from benchmarks.measure import Row, Unit

HEADERS = [
    (b"host", b"hello.default:8000"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
]
BODY = {"type": "http.request", "body": b"", "more_body": False}


def hello() -> FastAPI:
    app = FastAPI()

    @app.get("/hello")
    async def say() -> dict[str, str]:
        return {"hello": "world"}

    return app


def scope(headers: list[tuple[bytes, bytes]], tls: dict[str, Any] | None) -> dict[str, Any]:
    """As uvicorn makes it, for each request anew."""
    made: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("10.0.0.2", 8000),
        "client": ("10.0.0.1", 4711),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/hello",
        "raw_path": b"/hello",
        "query_string": b"",
        "headers": headers,
        "state": {},
    }
    if tls is not None:
        made["extensions"] = {"tls": tls}
    return made


class Floor:
    """What no middleware of this kind can do without: it looks up what it knows of a head, is the current call and in the
    scope, and has ``receive`` and ``send`` of its own, which see the status. It records nothing."""

    _line = itemgetter("method", "raw_path", "path", "query_string", "root_path", "server")

    def __init__(self, app: Any) -> None:
        self._app = app
        self._known: dict[Any, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        key = self._line(scope), tuple(scope["headers"])
        if self._known.get(key) is None:
            self._known[key] = key
        call = FloorCall(receive, send)
        token = _current.set(call)
        scope["meshlib.call"] = call
        try:
            await self._app(scope, call.receive, call.send)
        finally:
            _current.reset(token)
            del scope["meshlib.call"]


class FloorCall:
    __slots__ = ("_receive", "_send", "status")

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send
        self.status = 0

    async def receive(self) -> Any:
        return await self._receive()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


_current: ContextVar[FloorCall | None] = ContextVar("floor", default=None)


async def _receive() -> dict[str, Any]:
    return BODY


async def _send(message: dict[str, Any]) -> None:
    pass


async def _round(app: Any, headers: list[tuple[bytes, bytes]], tls: dict[str, Any] | None, calls: int) -> float:
    clock = time.perf_counter
    began = clock()
    for _ in range(calls):
        await app(scope(headers, tls), _receive, _send)
    return (clock() - began) / calls


def asgi_cost(quick: bool) -> list[Row]:
    """Interleaved rounds, the best of each: only what the middleware adds is told. Many short ones: see ``measure.py``."""
    return asyncio.run(_asgi_cost(*((80, 20) if quick else (1000, 15))))


async def _asgi_cost(rounds: int, calls: int) -> list[Row]:
    unit = Unit()
    plain = meshlib.Mesh.from_resources([], registry=CollectorRegistry())
    policed = meshlib.Mesh.from_resources(inbound_resources.twenty_rules(), registry=CollectorRegistry())
    headers = [*HEADERS, (b"authorization", b"Bearer " + inbound_resources.token().encode())]
    tls = {"client_cert_chain": (inbound_resources.certificate(),)}
    cases: list[tuple[Any, list[tuple[bytes, bytes]], dict[str, Any] | None]] = [
        (hello(), HEADERS, None),
        (meshlib.MeshASGIMiddleware(hello(), plain), HEADERS, None),
        (hello(), headers, tls),
        (meshlib.MeshASGIMiddleware(hello(), policed), headers, tls),
        (Floor(hello()), HEADERS, None),
    ]
    await _must_serve(cases)
    best = [float("inf")] * len(cases)
    for _ in range(3):  # until what is learned of the first requests is known
        for app, sent, peer in cases:
            await _round(app, sent, peer, 100)
    for _ in range(rounds):
        unit.take(100)
        for n, (app, sent, peer) in enumerate(cases):
            best[n] = min(best[n], await _round(app, sent, peer, calls))
    for mesh in (plain, policed):
        mesh.close()
    floor = f"; one that records nothing {best[4] / best[0] - 1:.2f} x"
    rows = []
    for name, bare, meshed, target in (("telemetry only", 0, 1, 0.15), ("20 rules, cached JWT, metrics", 2, 3, 0.25)):
        added = best[meshed] - best[bare]
        rows.append(
            Row(
                f"ASGI: {name}, excess over FastAPI's hello",
                added / best[bare],
                "x",
                target,
                details=f"{added * 1e6:.1f} us over {best[bare] * 1e6:.1f} us{floor}",
                json=added * 1e6 / unit.us,
            )
        )
    return rows


async def _must_serve(cases: list[tuple[Any, Any, Any]]) -> None:
    """A refusal would be quick."""
    for app, headers, tls in cases:
        statuses: list[int] = []

        async def send(message: dict[str, Any], found: list[int] = statuses) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        await app(scope(headers, tls), _receive, send)
        assert statuses == [200], statuses


ASGI_ROWS: dict[str, Callable[[bool], list[Row]]] = {"asgi-cost": asgi_cost}
