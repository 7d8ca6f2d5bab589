"""meshlib_fastapi: rate limits of a ResiliencePolicy that count by the route."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from meshlib_fastapi import MeshExtension
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

from meshlib.transport.core import shared_limits
from tests.support.asgi import Served
from tests.support.fake_clock import FakeClock
from tests.support.protection import REVIEWS, protection

LIMIT = {"key": "route", "requests": 1, "per": "1m"}
REDIS = {"redis": {"url": "redis://127.0.0.1:1"}, "timeout": "30s"}


@pytest.fixture(params=["here", "in Redis"])
def served(request, monkeypatch):
    in_memory = shared_limits.counting
    monkeypatch.setattr(shared_limits, "counting", lambda _url, clock: in_memory("memory://", clock))
    limit: dict[str, Any] = LIMIT if request.param == "here" else {**LIMIT, "storage": REDIS}
    made = Served(protection(rateLimits=[limit]), workload=REVIEWS, clock=FakeClock())
    yield made
    made.mesh.close()


@pytest.fixture
def called():
    return []


@pytest.fixture
def app(served, called, tmp_path):
    app, sub, deep = FastAPI(), FastAPI(), FastAPI()
    MeshExtension(app, served.mesh)

    def endpoint(name):
        async def handler() -> str:
            called.append(name)
            return name

        return handler

    async def plain(_request):
        called.append("plain")
        return PlainTextResponse("plain")

    app.get("/items/{item}")(endpoint("item"))
    for version in ("v1", "v2"):
        router, nested = APIRouter(prefix="/same"), APIRouter(prefix="/nested")
        router.get("/{item}")(endpoint(version))
        nested.get("/{item}")(endpoint(f"{version} nested"))
        router.include_router(nested)
        app.include_router(router, prefix=f"/{version}")
    sub.get("/items/{item}")(endpoint("sub"))
    deep.get("/items/{item}")(endpoint("deep"))
    sub.mount("/deep", deep)
    app.mount("/sub", sub)
    app.mount("/star", Starlette(routes=[Mount("/deep", routes=[Route("/items/{item}", plain)])]))
    (tmp_path / "a.txt").write_text("a")
    app.mount("/static", StaticFiles(directory=tmp_path))

    @app.websocket("/ws/{room}")
    async def ws(websocket: WebSocket, room: str) -> None:
        called.append("ws")
        await websocket.accept()
        await websocket.close()

    return app


ROUTES = (
    "/items",
    "/v1/same",
    "/v2/same",
    "/v1/same/nested",
    "/v2/same/nested",
    "/sub/items",
    "/sub/deep/items",
    "/star/deep/items",
)


def test_each_route_has_a_bucket_of_its_own(app, called):
    client = TestClient(app)
    for route in ROUTES:
        assert client.get(f"{route}/1").status_code == 200, route
    assert len(called) == len(ROUTES)
    for route in ROUTES:
        response = client.get(f"{route}/2")
        assert (response.status_code, "retry-after" in response.headers) == (429, True), route
    assert len(called) == len(ROUTES), "no endpoint was called"


def test_what_a_mount_serves_itself_counts_by_the_mount(app):
    client = TestClient(app)
    assert [client.get("/static/a.txt").status_code, client.get("/static/b.txt").status_code] == [200, 429]


def test_a_wrong_method_counts_too_and_what_no_route_matches_does_not(app):
    client = TestClient(app)
    assert [client.post("/items/1").status_code, client.post("/items/2").status_code] == [405, 429]
    assert [client.get("/nowhere").status_code for _ in range(3)] == [404] * 3


def test_a_web_socket_is_closed(app, called):
    client = TestClient(app)
    with client.websocket_connect("/ws/1"):
        pass
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws/2"):
        pass
    assert called == ["ws"]


def test_a_refusal_goes_to_the_applications_own_handlers_and_is_counted(app, served):
    app.exception_handler(429)(lambda _request, error: JSONResponse({"slow": "down"}, 429, error.headers))
    client = TestClient(app)
    client.get("/items/1")
    assert client.get("/items/2").json() == {"slow": "down"}
    assert sorted(served.counted()) == [("200", "-"), ("429", "RL")]
    assert served.mesh.problems == []


def test_the_body_is_still_there_for_the_endpoint(app):
    @app.post("/echo")
    async def echo(body: dict[str, int]) -> dict[str, int]:
        return body

    assert TestClient(app).post("/echo", json={"a": 1}).json() == {"a": 1}
