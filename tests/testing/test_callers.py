"""``as_caller``: an application as somebody calls it, for each of the usual test clients."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import flask
import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

import meshlib
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import STAND_IN, introduce
from meshlib.testing import as_caller

PRINCIPAL = "spiffe://cluster.local/ns/shop/sa/cart"


def seen(carrier: Any) -> dict[str, Any]:
    """What a door makes of a scope or an environ."""
    request = InboundRequest("GET", "/")
    introduce(request, carrier.get(STAND_IN))
    return {"principal": request.principal, "source_ip": request.source_ip, "user": request.request_principal}


def fastapi_app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def who(request: Request) -> dict[str, Any]:
        return seen(request.scope)

    return app


def flask_app() -> flask.Flask:
    app = flask.Flask("shop")

    @app.get("/")
    def who() -> dict[str, Any]:
        return seen(flask.request.environ)

    @app.get("/session")
    def session() -> str:
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    app.secret_key = "x"
    return app


CALLER = {"principal": PRINCIPAL, "claims": {"iss": "i", "sub": "s"}, "source_ip": "10.0.0.7"}
SEEN = {"principal": PRINCIPAL, "source_ip": "10.0.0.7", "user": "i/s"}
NOBODY = {"principal": "", "source_ip": "", "user": ""}


def test_with_starlettes_test_client():
    app = fastapi_app()
    assert TestClient(as_caller(app, **CALLER)).get("/").json() == SEEN
    assert TestClient(app).get("/").json() == NOBODY


def test_the_lifespan_of_the_application_runs():
    ran = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for what in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{what}"
            ran.append(what)
            await send({"type": f"lifespan.{what}.complete"})

    with TestClient(as_caller(app)):
        assert ran == ["startup"]
    assert ran == ["startup", "shutdown"]


def test_with_httpxs_asgi_transport():
    async def ask(app: Any) -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return (await client.get("/")).json()

    app = fastapi_app()
    assert asyncio.run(ask(as_caller(app, **CALLER))) == SEEN
    assert asyncio.run(ask(app)) == NOBODY


def test_with_flasks_test_client():
    app = flask_app()
    assert as_caller(app, **CALLER).test_client().get("/").json == SEEN
    assert app.test_client().get("/").json == NOBODY


def test_flasks_test_client_keeps_its_cookies_and_its_own_class():
    class Own(flask.testing.FlaskClient):
        """A user's."""

    app = flask_app()
    app.test_client_class = Own
    with as_caller(app, **CALLER).test_client() as client:
        assert type(client) is Own
        assert [client.get("/session").text for _ in range(2)] == ["1", "2"]
        with client.session_transaction() as session:
            assert session["n"] == 2


def test_with_httpxs_wsgi_transport():
    app = flask_app()
    with httpx.Client(transport=httpx.WSGITransport(as_caller(app, **CALLER)), base_url="http://shop") as client:
        assert client.get("/").json() == SEEN


def test_several_callers_of_one_application_do_not_mix():
    app = fastapi_app()
    one = TestClient(as_caller(app, principal="cluster.local/ns/a/sa/a"))
    two = TestClient(as_caller(app, principal="cluster.local/ns/b/sa/b"))
    for _ in range(2):
        assert one.get("/").json()["principal"] == "spiffe://cluster.local/ns/a/sa/a"
        assert two.get("/").json()["principal"] == "spiffe://cluster.local/ns/b/sa/b"


def test_who_wraps_a_caller_again_is_the_caller():
    app = as_caller(as_caller(fastapi_app(), source_ip="10.0.0.1"), principal=PRINCIPAL)
    assert TestClient(app).get("/").json()["source_ip"] == "10.0.0.1", "the inner one is nearer"


def test_everything_else_is_the_applications_own():
    app = fastapi_app()
    wrapped = as_caller(app)
    assert wrapped.dependency_overrides is app.dependency_overrides
    assert wrapped.url_path_for("who") == "/"


def test_an_application_that_is_a_plain_function():
    async def asynchronous(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    def returns_one(scope: Any, receive: Any, send: Any) -> Any:
        return asynchronous(scope, receive, send)

    def blocking(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [seen(environ)["principal"].encode()]

    for app in (asynchronous, returns_one):
        assert inspect.iscoroutinefunction(type(as_caller(app)).__call__)
    assert as_caller(blocking, principal=PRINCIPAL)({}, lambda *_: None) == [PRINCIPAL.encode()]


@pytest.mark.parametrize(
    "principal", ["Shop", "cluster.local/ns/../sa/x", "spiffe://a/b?c", "https://a/b", "cluster.local/ns/a/sa/%61"]
)
def test_a_principal_that_no_certificate_could_have_is_an_error(principal):
    with pytest.raises(ValueError, match="is not a valid SPIFFE ID"):
        as_caller(fastapi_app(), principal=principal)


def test_an_address_that_is_none_is_an_error():
    with pytest.raises(ValueError, match=r"10\.0\.0"):
        as_caller(fastapi_app(), source_ip="10.0.0")


def test_the_middleware_of_a_flask_application_serves_that_caller():
    app = flask.Flask("shop")
    with meshlib.Mesh.from_resources([]) as mesh:

        @app.get("/")
        def who() -> dict[str, str]:
            request = mesh.inbound()
            assert request is not None
            return {"principal": request.principal, "source_ip": request.source_ip, "user": request.request_principal}

        app.wsgi_app = meshlib.MeshWSGIMiddleware(app.wsgi_app, mesh)  # type: ignore[method-assign]
        assert as_caller(app, **CALLER).test_client().get("/").json == SEEN
        headers = {"meshlib.testing.caller": PRINCIPAL, "x-forwarded-client-cert": f"URI={PRINCIPAL}"}
        assert app.test_client().get("/", headers=headers).json == {**NOBODY, "source_ip": "127.0.0.1"}


def test_the_middleware_of_a_fastapi_application_serves_that_caller():
    app = FastAPI()
    with meshlib.Mesh.from_resources([]) as mesh:

        @app.get("/")
        async def who() -> dict[str, str]:
            request = mesh.inbound()
            assert request is not None
            return {"principal": request.principal, "source_ip": request.source_ip, "user": request.request_principal}

        app.add_middleware(meshlib.MeshASGIMiddleware, mesh=mesh)
        assert TestClient(as_caller(app, **CALLER)).get("/").json() == SEEN
        headers = {"meshlib.testing.caller": PRINCIPAL, "x-forwarded-client-cert": f"URI={PRINCIPAL}"}
        assert TestClient(app).get("/", headers=headers).json() == NOBODY
