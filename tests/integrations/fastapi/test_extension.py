"""meshlib_fastapi: what the extension makes of an application."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from meshlib_fastapi import Caller, MeshClient, MeshExtension
from starlette.middleware.errors import ServerErrorMiddleware

from meshlib.problems import MeshError
from tests.support.asgi import DENIED


def test_whoever_wraps_the_stack_finds_what_starlette_begins_it_with(served):
    """OpenTelemetry's instrumentation leaves an application alone otherwise, and makes a stack of what is inside."""
    app = FastAPI()
    MeshExtension(app, served.mesh)
    app.get("/whoami")(lambda: "me")
    stack = app.build_middleware_stack()
    assert isinstance(stack, ServerErrorMiddleware)
    assert (stack.handler, stack.debug) == (None, False)
    app.build_middleware_stack = lambda: ServerErrorMiddleware(stack.app)
    assert TestClient(app).get("/whoami").json() == "me"


class TestTheExtension:
    def test_it_is_outside_of_middleware_that_is_added_later(self, app, served):
        served.denies()
        app.add_middleware(CORSMiddleware, allow_origins=["*"])
        response = TestClient(app).options("/", headers={"origin": "https://a", "access-control-request-method": "GET"})
        assert (response.status_code, response.text) == (403, DENIED.text)

    def test_a_response_of_the_error_middleware_is_the_applications(self, app, served):
        @app.get("/")
        async def broken() -> str:
            raise ValueError("oops")

        assert TestClient(app, raise_server_exceptions=False).get("/").status_code == 500
        assert served.counted() == [("500", "-")]

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_mesh_is_closed_when_the_application_has_shut_down_and_not_before(self, served, fails):
        open_at_shutdown = []

        @contextlib.asynccontextmanager
        async def lifespan(_app):
            yield
            open_at_shutdown.append(not served.mesh._core.closed)
            if fails:
                raise RuntimeError("at shutdown")

        app = FastAPI(lifespan=lifespan)
        MeshExtension(app, served.mesh)
        with contextlib.suppress(RuntimeError), TestClient(app):
            assert not served.mesh._core.closed
        assert open_at_shutdown == [True]
        assert served.mesh._core.closed

    def test_once_and_in_time(self, served, app):
        with pytest.raises(MeshError, match="already"):
            MeshExtension(app, served.mesh)
        late = FastAPI()
        TestClient(late).get("/")
        with pytest.raises(MeshError, match="begun to serve"):
            MeshExtension(late, served.mesh)
        for wrong in ({"metrics_path": "metrics"}, {"health_path": ""}):
            with pytest.raises(MeshError, match="does not begin with /"):
                MeshExtension(FastAPI(), served.mesh, **wrong)

    def test_metrics_and_health(self, served):
        app = FastAPI()
        MeshExtension(app, served.mesh, metrics_path="/metrics", health_path="/healthz")
        client = TestClient(app)
        client.get("/nothing")
        assert "istio_requests_total{" in client.get("/metrics").text
        asked = {"accept": "application/openmetrics-text; version=1.0.0"}
        assert client.get("/metrics", headers=asked).text.endswith("# EOF\n")
        assert "istio_request_bytes" not in client.get("/metrics?name[]=istio_requests_total").text
        assert client.get("/healthz").json() == {"status": "ok"}
        assert "/metrics" not in app.openapi()["paths"]
        served.denies()
        assert client.get("/metrics").status_code == 403, "policies apply to metrics"
        assert client.get("/healthz").status_code == 200, "probes have no identity"
        assert client.head("/healthz").status_code == 200
        assert client.post("/healthz").status_code == 403, "and nothing else gets past the policies"
        assert client.get("/healthz/").status_code == 403
        served.mesh.close()
        assert (client.get("/healthz").status_code, client.get("/healthz").json()) == (503, {"status": "closed"})

    def test_the_port_is_the_one_that_was_said(self, served):
        app, seen = FastAPI(), []
        MeshExtension(app, served.mesh, port=9080)
        served.checks(lambda request: seen.append(request.port))
        TestClient(app).get("/")
        assert seen == [9080]


def test_openapi_says_how_to_send_the_tokens_of_request_authentications(app, served):
    @app.get("/")
    async def handler() -> str:
        return ""

    client = TestClient(app)
    assert "securitySchemes" not in client.get("/openapi.json").json().get("components", {})
    jwks = '{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I", "alg": "HS256"}]}'
    authentication = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "users", "namespace": "default"},
        "spec": {
            "jwtRules": [
                {"issuer": "https://idp", "jwks": jwks, "audiences": ["shop"]},
                {
                    "issuer": "https://other",
                    "jwks": jwks,
                    "fromHeaders": [{"name": "x-token", "prefix": "Token "}],
                    "fromParams": ["token"],
                    "fromCookies": ["session"],
                },
            ]
        },
    }
    served.mesh.apply([authentication])
    document = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of https://idp for shop",
    }
    assert bearer in schemes.values()
    places = {(s["in"], s["name"]) for s in schemes.values() if s["type"] == "apiKey"}
    assert {("header", "x-token"), ("query", "token"), ("cookie", "session")} <= places
    assert {} in document["security"], "whether a token must be sent is an AuthorizationPolicy's to say"
    assert len(document["security"]) == 1 + len(schemes)
    served.mesh.apply([])
    assert "security" not in client.get("/openapi.json").json(), "the document follows the configuration"
    assert "jwks" not in str(document)


async def test_the_application_of_one_process_serves_several_event_loops(app):
    @app.get("/")
    async def handler(client: MeshClient, caller: Caller) -> str:
        return "in"

    async def get():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
            return (await client.get("/")).status_code

    assert await get() == 200
    assert await asyncio.to_thread(lambda: asyncio.run(get())) == 200
