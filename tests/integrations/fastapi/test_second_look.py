"""meshlib_fastapi: a route judges the path as it reads it, before its endpoint."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from meshlib_fastapi import routed
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.websockets import WebSocketDisconnect

from meshlib.problems import MeshError
from tests.support.inbound_policies import authorization_policy, on_paths


def deny(*paths):
    return authorization_policy("deny", "DENY", on_paths(*paths))


class TestTheSecondLook:
    @pytest.fixture
    def called(self):
        return []

    @pytest.fixture
    def routes(self, app, called):
        """Every kind of route."""
        router, nested, sub, deep = APIRouter(prefix="/v1"), APIRouter(prefix="/deep"), FastAPI(), FastAPI()

        def endpoint(name):
            async def handler() -> str:
                called.append(name)
                return name

            return handler

        async def plain(_request):
            called.append("plain")
            return PlainTextResponse("plain")

        app.get("/items/{item:int}")(endpoint("item"))
        router.get("/items/{item:int}")(endpoint("router"))
        nested.get("/items/{item:int}")(endpoint("nested"))
        router.include_router(nested)
        app.include_router(router, prefix="/api")
        sub.get("/items/{item:int}")(endpoint("sub"))
        deep.get("/items/{item:int}")(endpoint("deeper"))
        sub.mount("/deep", deep)
        app.mount("/sub", sub)
        app.router.routes.append(Mount("/mount", routes=[Route("/items/{item:int}", plain)]))

        @app.websocket("/ws/{room:int}")
        async def ws(websocket: WebSocket) -> None:
            called.append("ws")
            await websocket.accept()
            await websocket.close()

        return app

    @pytest.mark.parametrize("prefix", ["", "/api/v1", "/api/v1/deep", "/sub", "/sub/deep", "/mount"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_the_path_as_the_route_reads_it_is_judged_before_the_endpoint_and_before_a_405(
        self, routes, served, called, prefix, method
    ):
        served.mesh.apply([deny(f"{prefix}/items/7")])
        client = TestClient(routes)
        assert client.request(method, f"{prefix}/items/8").status_code == (200 if method == "GET" else 405)
        called.clear()
        response = client.request(method, f"{prefix}/items/007")
        assert response.status_code == 403
        assert response.json() if prefix != "/mount" else True
        assert called == []
        assert served.counted()[-1] == ("403", "-")

    def test_a_websocket_too(self, routes, served, called):
        served.mesh.apply([deny("/ws/7")])
        with TestClient(routes).websocket_connect("/ws/8"):
            pass
        with pytest.raises(WebSocketDisconnect), TestClient(routes).websocket_connect("/ws/007"):
            pass
        assert called == ["ws"]

    def test_a_path_that_middleware_rewrites_is_judged_as_the_router_gets_it(self, app, served, called):
        class Rewrites:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                if scope["type"] == "http":
                    scope = {**scope, "path": scope["path"].removeprefix("/v2")}
                await self.app(scope, receive, send)

        @app.get("/admin")
        async def admin() -> str:
            called.append("admin")
            return "secret"

        app.add_middleware(Rewrites)
        served.mesh.apply([deny("/admin")])
        client = TestClient(app)
        assert client.get("/v2/admin").status_code == 403
        assert client.get("/v2/none").status_code == 404
        assert called == []

    def test_a_mounted_application_that_copies_its_scope_is_judged_too(self, app, served, called):
        class Copies:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                await self.app(dict(scope), receive, send)

        sub = FastAPI()
        sub.add_middleware(Copies)

        @sub.get("/items/{item:int}")
        async def item(item: int) -> str:
            called.append(item)
            return ""

        app.mount("/sub", sub)
        served.mesh.apply([deny("/sub/items/7")])
        assert TestClient(app).get("/sub/items/007").status_code == 403
        assert called == []

    def test_the_handlers_of_the_application_respond_to_a_refusal(self, routes, served):
        @routes.exception_handler(HTTPException)
        async def own(_request: Request, error: HTTPException) -> JSONResponse:
            return JSONResponse({"own": error.detail}, error.status_code)

        served.mesh.apply([deny("/items/7")])
        assert TestClient(routes).get("/items/007").json() == {"own": "RBAC: access denied"}

    def test_what_was_judged_at_the_door_is_not_judged_again(self, routes, served, monkeypatch):
        judged = []
        monkeypatch.setattr(routed, "judge_routed", lambda _call, path: judged.append(path))
        client = TestClient(routes)
        client.get("/items/7")
        client.get("/api/v1/items/7")
        client.get("/sub/deep/items/7")
        assert judged == []
        client.get("/items/007")
        assert judged == ["/items/7"]

    def test_an_allow_must_hold_there_too(self, routes, served):
        served.mesh.apply([authorization_policy("allow", "ALLOW", on_paths("/items/007", "/items/8"))])
        client = TestClient(routes)
        assert [client.get(f"/items/{item}").status_code for item in ("8", "007", "7")] == [200, 403, 403]

    def test_a_router_that_a_request_reaches_past_the_mesh_does_not_serve_it(self, routes):
        with pytest.raises(MeshError, match="not come through the mesh"):
            TestClient(routes.router).get("/items/7")

    def test_who_made_the_scope_sees_the_route_in_it(self, routes, served):
        seen = []

        async def outer(scope, receive, send):
            await routes(scope, receive, send)
            seen.append((scope.get("path_params"), "endpoint" in scope))

        TestClient(outer).get("/items/7")
        assert seen == [({"item": 7}, True)]
