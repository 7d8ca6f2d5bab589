"""meshlib_fastapi: requires(), for routes, routers, applications and WebSockets."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from meshlib_fastapi import MeshExtension, limit, requires
from starlette.websockets import WebSocketDisconnect

from meshlib.testing import as_caller
from tests.support.callers import OPS, TOKEN, WEB


class TestRequires:
    def status(self, app, requirement, **caller):
        @app.get("/route", dependencies=[requirement])
        async def handler() -> str:
            return "in"

        return TestClient(as_caller(app, **caller)).get("/route")

    @pytest.mark.parametrize(
        ("wanted", "caller", "status"),
        [
            ({"principal": OPS}, OPS, 200),
            ({"principal": f"spiffe://{OPS}"}, OPS, 200),
            ({"principal": [WEB, OPS]}, OPS, 200),
            ({"principal": OPS}, WEB, 403),
            ({"principal": OPS}, None, 403),
            ({"principal": "cluster.local/ns/default/*"}, OPS, 200),
            ({"principal": "*/sa/ops"}, OPS, 200),
            ({"principal": "*/sa/op"}, OPS, 403),
            ({"principal": "*"}, OPS, 200),
            ({"principal": "*"}, None, 403),
            ({}, OPS, 200),
            ({}, None, 403),
            ({"namespace": "default"}, OPS, 200),
            ({"namespace": "default"}, WEB, 403),
            ({"namespace": "*"}, "cluster.local/workload/x", 403),
            ({"principal": OPS, "namespace": "shop"}, OPS, 403),
        ],
    )
    def test_by_identity(self, app, wanted, caller, status):
        response = self.status(app, requires(**wanted), principal=caller)
        assert response.status_code == status
        if status == 403:
            assert response.json() == {"detail": "RBAC: access denied"}

    @pytest.mark.parametrize(
        ("wanted", "claims", "status"),
        [
            ({"request_principal": "https://idp/ann"}, TOKEN, 200),
            ({"request_principal": "https://idp/*"}, TOKEN, 200),
            ({"request_principal": "*"}, TOKEN, 200),
            ({"request_principal": "https://idp/bob"}, TOKEN, 403),
            ({"request_principal": "*"}, None, 401),
            ({"claims": {"groups": "admins"}}, TOKEN, 200),
            ({"claims": {"groups": ["other", "staff"]}}, TOKEN, 200),
            ({"claims": {"groups": "admin"}}, TOKEN, 403),
            ({"claims": {"scope": "read", "groups": "other"}}, TOKEN, 403),
            ({"claims": {"missing": "*"}}, TOKEN, 403),
            ({"claims": {"groups": "admins"}}, None, 401),
            ({"claims": {"number": "1"}}, {"number": 1}, 403),
        ],
    )
    def test_by_token(self, app, wanted, claims, status):
        response = self.status(app, requires(**wanted), claims=claims)
        assert response.status_code == status
        if status == 401:
            assert response.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("pattern", ["", "a*b", "**", 7])
    def test_what_is_no_pattern_is_told_where_it_is_written(self, pattern):
        with pytest.raises(ValueError, match="principal: .* is not a valid pattern"):
            requires(principal=[pattern])

    def test_the_handlers_of_the_application_respond(self, app):
        @app.exception_handler(HTTPException)
        async def own(_request: Request, error: HTTPException) -> JSONResponse:
            return JSONResponse({"own": error.status_code}, error.status_code)

        assert self.status(app, requires()).json() == {"own": 403}

    def test_of_a_router_an_application_and_a_websocket(self, served):
        app = FastAPI(dependencies=[requires(principal=OPS)])
        MeshExtension(app, served.mesh)
        router = APIRouter(prefix="/in", dependencies=[requires(namespace="shop")])

        @app.get("/")
        async def home() -> str:
            return ""

        @router.get("/")
        async def inner() -> str:
            return ""

        @app.websocket("/ws")
        async def ws(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.close()

        app.include_router(router)
        ops, nobody = TestClient(as_caller(app, principal=OPS)), TestClient(app)
        assert (ops.get("/").status_code, nobody.get("/").status_code) == (200, 403)
        assert ops.get("/in/").status_code == 403
        with ops.websocket_connect("/ws"):
            pass
        with pytest.raises(WebSocketDisconnect), nobody.websocket_connect("/ws"):
            pass

    def test_its_place_among_decorators_and_dependencies_does_not_matter(self, app):
        @app.get("/a", dependencies=[limit("1/hour"), requires()])
        async def a() -> str:
            return ""

        @app.get("/b")
        async def b(_allowed: Annotated[None, requires()], _few: Annotated[None, limit("1/hour")]) -> str:
            return ""

        assert TestClient(app).get("/a").status_code == 403
        assert TestClient(app).get("/b").status_code == 403
