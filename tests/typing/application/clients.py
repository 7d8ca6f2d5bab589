"""Calls over HTTP, blocking and on asyncio."""

from __future__ import annotations

import ssl
from typing import assert_type

import httpx

import meshlib


def made() -> meshlib.Mesh:
    workload = meshlib.Workload("web", namespace="shop", labels={"app": "web"})
    mesh = meshlib.Mesh.from_path("mesh/", workload=workload, seed=1, https_rules="mesh")
    assert_type(mesh, meshlib.Mesh)
    assert_type(meshlib.Mesh.from_env(), meshlib.Mesh)
    return meshlib.Mesh.from_resources([{"kind": "VirtualService"}], endpoints={"reviews": {"v1": "localhost:9081"}})


def call(mesh: meshlib.Mesh) -> str:
    client = mesh.client(
        base_url="http://reviews:9080",
        timeout=httpx.Timeout(5.0, connect=1.0),
        headers={"x-tenant": "acme"},
        auth=("user", "secret"),
        verify=ssl.create_default_context(),
        limits=httpx.Limits(max_connections=10),
        event_hooks={"request": [print]},
        mounts={"https://": httpx.HTTPTransport(retries=1)},
        follow_redirects=True,
        local_replies="respond",
    )
    assert_type(client, httpx.Client)
    with mesh, client:
        response = client.get("/reviews/0")
        assert_type(response, httpx.Response)
        exchange: meshlib.Exchange = response.extensions["mesh"]
        assert_type(exchange.resource, str)
        assert_type(exchange.rule, int | None)
        assert_type(exchange.upstream_ms, float | None)
        assert_type([attempt.endpoint for attempt in exchange.attempts], list[str])
        return exchange.subset


async def call_async(mesh: meshlib.Mesh) -> int:
    client = mesh.async_client(timeout=2.0, transport=httpx.ASGITransport(app=application))
    assert_type(client, httpx.AsyncClient)
    async with mesh, client:
        return (await client.get("http://reviews:9080/")).status_code


async def application(scope: object, receive: object, send: object) -> None:
    raise NotImplementedError


def own_clients(mesh: meshlib.Mesh) -> None:
    blocking = mesh.http_transport(local_replies="raise", verify=False)
    assert_type(blocking, httpx.BaseTransport)
    httpx.Client(transport=blocking, mounts={"all://": mesh.http_transport(httpx.MockTransport(answer))})
    awaited = mesh.async_http_transport(http2=True, cert=("cert.pem", "key.pem"))
    assert_type(awaited, httpx.AsyncBaseTransport)
    httpx.AsyncClient(transport=awaited)


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


def looked_at(mesh: meshlib.Mesh) -> None:
    before = mesh.explain(method="GET", url="http://reviews:9080/", headers={"end-user": "jason"})
    assert_type(before, meshlib.Exchange)
    assert_type(before.to_dict()["host"], str)
    inbound = mesh.explain_inbound(path="/admin", principal="cluster.local/ns/shop/sa/web")
    assert_type(inbound.allowed, bool)
    assert_type(inbound.to_dict()["policies"][0]["reason"], str)
    assert_type(mesh.problems[0].line, int)
    served = mesh.inbound()
    if served is not None:
        assert_type(served.path, str)
    with mesh.deadline(1.5):
        pass


def failures(client: httpx.Client) -> str:
    try:
        client.get("http://reviews:9080/")
    except meshlib.errors.NoHealthyUpstream as error:
        assert_type(error.exchange, meshlib.Exchange | None)
        assert_type(error.request, httpx.Request)
        return error.exchange.flags if error.exchange is not None else ""
    except (meshlib.errors.UpstreamTimeout, meshlib.errors.ConnectFailed) as error:
        plain: httpx.TransportError = error
        return str(plain)
    return ""
