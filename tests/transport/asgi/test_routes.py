"""The template of the route that Starlette's router has chosen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from meshlib.transport.asgi.routes import template_of


def told(app, path):
    """What the scope tells after the application has run."""
    seen = []

    async def around(scope, receive, send):
        await app(scope, receive, send)
        seen.append(template_of(scope))

    TestClient(around).get(path)
    return seen[-1]


async def endpoint(_request):
    return Response("")


STARLETTE = Starlette(
    routes=[
        Route("/items/{item:int}", endpoint),
        Mount("/sub", routes=[Route("/{name}/x", endpoint), Mount("/deep", routes=[Route("/y", endpoint)])]),
    ]
)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("/items/7", "/items/{item}"), ("/sub/a/x", "/sub/{name}/x"), ("/sub/deep/y", "/sub/deep/y"), ("/nothing", "")],
)
def test_starlette(path, wanted):
    assert told(STARLETTE, path) == wanted


def test_fastapi_with_routers_prefixes_and_mounts():
    app, sub, router = FastAPI(), FastAPI(), APIRouter(prefix="/v1")

    @router.get("/items/{item}")
    async def item(item: str) -> str:
        return item

    @sub.get("/things/{thing}")
    async def thing(thing: str) -> str:
        return thing

    app.include_router(router, prefix="/api")
    app.mount("/sub", sub)
    assert told(app, "/api/v1/items/7") == "/api/v1/items/{item}"
    assert told(app, "/sub/things/7") == "/sub/things/{thing}"


def test_other_routers_tell_nothing():
    assert template_of({}) == ""
    assert template_of({"route": SimpleNamespace(path=None)}) == ""
    assert template_of({"route": object()}) == ""
