"""meshlib_fastapi: what a FastAPI application and its handlers get of the mesh."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from meshlib_fastapi import Caller, Claims, MeshClient, MeshExtension, limit, requires, routed
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.websockets import WebSocketDisconnect

from meshlib.problems import MeshError
from meshlib.testing import as_caller
from tests.support.asgi import DENIED, Served
from tests.support.fake_clock import FakeClock
from tests.support.inbound_policies import authorization_policy, on_paths

OPS = "cluster.local/ns/default/sa/ops"
WEB = "cluster.local/ns/shop/sa/web"
TOKEN = {"iss": "https://idp", "sub": "ann", "groups": ["staff", "admins"], "scope": "read"}


@pytest.fixture
def served():
    made = Served(clock=FakeClock())
    yield made
    made.mesh.close()


@pytest.fixture
def app(served):
    made = FastAPI()
    MeshExtension(made, served.mesh)
    return made


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


class TestWhatHandlersAskFor:
    @pytest.fixture
    def client(self, app):
        @app.get("/whoami")
        async def whoami(caller: Caller, claims: Claims):
            return {
                "caller": caller,
                "namespace": caller.namespace,
                "account": caller.service_account,
                "domain": caller.trust_domain,
                "claims": dict(claims),
            }

        @app.get("/sync")
        def sync(caller: Caller) -> str:
            return caller

        return lambda **caller: TestClient(as_caller(app, **caller))

    def test_the_caller_with_its_identity(self, client):
        assert client(principal=OPS).get("/whoami").json() == {
            "caller": f"spiffe://{OPS}",
            "namespace": "default",
            "account": "ops",
            "domain": "cluster.local",
            "claims": {},
        }

    def test_a_caller_without_one_is_nobody(self, client, app):
        wanted = {"caller": "", "namespace": "", "account": "", "domain": "", "claims": {}}
        assert TestClient(app).get("/whoami").json() == wanted
        headers = {"x-forwarded-client-cert": f"URI=spiffe://{OPS}", "x-meshlib-principal": OPS}
        assert TestClient(app).get("/whoami", headers=headers).json() == wanted

    def test_the_claims_of_its_token(self, client):
        assert client(claims=TOKEN).get("/whoami").json()["claims"] == TOKEN

    def test_plain_functions_get_them_too(self, client):
        assert client(principal=OPS).get("/sync").json() == f"spiffe://{OPS}"

    def test_they_are_no_parameters_of_the_request(self, client, app):
        [operation] = [app.openapi()["paths"]["/whoami"]["get"]]
        assert "parameters" not in operation
        assert "requestBody" not in operation

    def test_the_client_of_the_mesh_is_one_an_application(self, app):
        seen = []

        @app.get("/")
        async def handler(client: MeshClient) -> bool:
            seen.append(client)
            return isinstance(client, httpx.AsyncClient)

        with TestClient(app) as client:
            assert client.get("/").json() is True
            client.get("/")
            assert seen[0] is seen[1]
            assert not seen[0].is_closed
        assert seen[0].is_closed

    def test_an_application_without_the_extension_is_told(self):
        app = FastAPI()

        @app.get("/")
        async def handler(caller: Caller) -> str:
            return caller

        @app.get("/client")
        async def other(client: MeshClient) -> str:
            return ""

        for path in ("/", "/client"):
            with pytest.raises(MeshError, match="MeshExtension"):
                TestClient(app).get(path)

    def test_a_mounted_application_has_the_mesh_of_the_one_around_it(self, app):
        sub = FastAPI()

        @sub.get("/whoami")
        async def whoami(caller: Caller, client: MeshClient) -> str:
            return caller

        app.mount("/sub", sub)
        assert TestClient(as_caller(app, principal=OPS)).get("/sub/whoami").json() == f"spiffe://{OPS}"


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


class TestLimit:
    def test_each_caller_has_its_own_and_is_told_when_to_come_again(self, app, served):
        @app.get("/", dependencies=[limit("2/minute")])
        async def handler() -> str:
            return ""

        ops, web = (TestClient(as_caller(app, principal=p)) for p in (OPS, WEB))
        assert [ops.get("/").status_code for _ in range(3)] == [200, 200, 429]
        refused = ops.get("/")
        assert (refused.json(), refused.headers["retry-after"]) == ({"detail": "local_rate_limited"}, "30")
        assert web.get("/").status_code == 200
        served.mesh._core.clock.advance(30.0)
        assert [ops.get("/").status_code for _ in range(2)] == [200, 429]
        assert ("429", "RL") in served.counted()

    @pytest.mark.parametrize(
        ("key", "alike", "other"),
        [
            ("caller", {"principal": OPS}, {"principal": WEB}),
            ("caller", {"claims": TOKEN}, {"claims": {**TOKEN, "sub": "bob"}}),
            ("caller", {"source_ip": "10.0.0.1"}, {"source_ip": "10.0.0.2"}),
            ("principal", {"principal": OPS}, {"principal": WEB}),
            ("request_principal", {"claims": TOKEN}, {"claims": {**TOKEN, "sub": "bob"}}),
            ("source_ip", {"source_ip": "10.0.0.1"}, {"source_ip": "10.0.0.2"}),
            ("remote_ip", {"source_ip": "10.0.0.1"}, {"source_ip": "10.0.0.2"}),
            (lambda request: request.principal[-3:], {"principal": OPS}, {"principal": WEB}),
        ],
    )
    def test_by_a_key(self, app, key, alike, other):
        @app.get("/", dependencies=[limit("1/hour", key=key)])
        async def handler() -> str:
            return ""

        def get(caller):
            return TestClient(as_caller(app, **caller)).get("/").status_code

        assert [get(alike), get(alike), get(other)] == [200, 429, 200]

    def test_x_forwarded_for_makes_nobody_another_caller(self, app):
        @app.get("/", dependencies=[limit("1/hour")])
        async def handler() -> str:
            return ""

        client = TestClient(app)
        statuses = [client.get("/", headers={"x-forwarded-for": f"10.0.0.{n}"}).status_code for n in range(3)]
        assert statuses == [200, 429, 429]

    def test_by_a_header_and_of_all(self, app):
        @app.get("/header", dependencies=[limit("1/hour", key="header:X-Tenant")])
        @app.get("/all", dependencies=[limit("1/hour", key="all")])
        async def handler() -> str:
            return ""

        client = TestClient(app)
        tenants = [client.get("/header", headers={"x-tenant": t}).status_code for t in ("a", "b", "a")]
        assert tenants == [200, 200, 429]
        assert [TestClient(as_caller(app, principal=p)).get("/all").status_code for p in (OPS, WEB)] == [200, 429]

    def test_routes_share_a_limit_that_is_the_same_object(self, app):
        shared = limit("1/hour")

        @app.get("/a", dependencies=[shared])
        @app.get("/b", dependencies=[shared])
        async def handler() -> str:
            return ""

        client = TestClient(app)
        assert [client.get(path).status_code for path in ("/a", "/b")] == [200, 429]

    @pytest.mark.parametrize("key", ["ip", "header:", ""])
    def test_what_is_no_key_is_told_where_it_is_written(self, key):
        with pytest.raises(ValueError, match="is not a valid key"):
            limit("1/second", key=key)
        with pytest.raises(ValueError, match="is not a valid rate"):
            limit("often")


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


def test_dependencies_are_overridden_as_fastapi_has_it(app):
    def other() -> str:
        return "other"

    @app.get("/")
    async def handler(value: Annotated[str, Depends(lambda: "x")], caller: Caller) -> str:
        return caller

    from meshlib_fastapi.dependencies import current_caller

    app.dependency_overrides[current_caller] = other
    assert TestClient(app).get("/").json() == "other"


async def test_the_application_of_one_process_serves_several_event_loops(app):
    @app.get("/")
    async def handler(client: MeshClient, caller: Caller) -> str:
        return "in"

    async def get():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
            return (await client.get("/")).status_code

    assert await get() == 200
    assert await asyncio.to_thread(lambda: asyncio.run(get())) == 200
