"""Other transports below the mesh, applications and mocks among them; and httpx2."""

from __future__ import annotations

import asyncio
import json

import httpx
import httpx2
import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib import errors
from tests.support.http_caller import Caller, reviews
from tests.support.resources import to
from tests.support.servers import EchoServer


def test_inner_gets_the_endpoints_address_and_the_mesh_authority(runtime):
    seen = []

    def answer(request):
        seen.append((str(request.url), request.headers["host"], request.read()))
        return httpx.Response(200, json={"ok": True})

    with meshlib.Mesh.from_resources(reviews(1, 2)) as mesh:
        response = Caller(runtime, mesh, transport=httpx.MockTransport(answer)).request(
            "POST", "http://reviews:9080/a?b=c", content=b"body"
        )
    assert response.json() == {"ok": True}
    assert seen == [("http://127.0.0.1:1/a?b=c", "reviews:9080", b"body")]


def test_policies_count_for_inner_transports_too(runtime):
    answers = [503, httpx.ConnectError("refused"), 200]

    def answer(request):
        made = answers.pop(0)
        if isinstance(made, Exception):
            raise made
        return httpx.Response(made)

    rule = {"route": [to("reviews", "v1")], "retries": {"attempts": 3, "retryOn": "5xx"}}
    with meshlib.Mesh.from_resources(reviews(1, 2, rule)) as mesh:
        response = Caller(runtime, mesh, transport=httpx.MockTransport(answer)).get("http://reviews:9080/")
    assert response.status_code == 200
    assert [a.failure or a.status for a in response.extensions["mesh"].attempts] == [503, "connect_failed", 200]


def test_wsgi_and_asgi_applications_can_be_the_upstream():
    def wsgi(environ, start_response):
        start_response("200 OK", [("content-type", "text/plain")])
        return [environ["HTTP_HOST"].encode()]

    async def asgi(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": dict(scope["headers"])[b"host"]})

    with meshlib.Mesh.from_resources(reviews(1, 2)) as mesh:
        assert (
            Caller("sync", mesh, transport=httpx.WSGITransport(wsgi)).get("http://reviews:9080/").text == "reviews:9080"
        )
        assert (
            Caller("asyncio", mesh, transport=httpx.ASGITransport(asgi)).get("http://reviews:9080/").text
            == "reviews:9080"
        )


def test_respx_mocks_keep_working_through_inner():
    import respx

    with meshlib.Mesh.from_resources(reviews(1, 2)) as mesh, respx.mock:
        respx.get("http://127.0.0.1:1/x").respond(json={"mocked": True})
        with httpx.Client(transport=mesh.http_transport(inner=httpx.HTTPTransport())) as client:
            assert client.get("http://reviews:9080/x").json() == {"mocked": True}


HTTPX2 = pytest.mark.parametrize(
    "client_of_httpx2",
    [
        lambda mesh: httpx2.Client(transport=mesh.http_transport()),
        lambda mesh: mesh.client(module=httpx2),
    ],
    ids=["transport", "client"],
)


@HTTPX2
def test_httpx2_works_just_as_well(servers, client_of_httpx2):
    one, two = servers
    dead = free_port()
    with meshlib.Mesh.from_resources(reviews(one.port, dead)) as mesh:
        with client_of_httpx2(mesh) as client:
            response = client.get("http://reviews:9080/")
            assert isinstance(response, httpx2.Response)
            assert response.json()["server"] == "v1"
            mesh.apply(reviews(dead, dead))
            with pytest.raises(httpx2.ConnectError) as caught:
                client.get("http://reviews:9080/")
            assert isinstance(caught.value, errors.ConnectFailed)
            assert caught.value.exchange.flags == "UF,URX"
            assert caught.value.request.url == "http://reviews:9080/"


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_client_of_either_module_streams_uploads_and_redirects(module, runtime):
    with EchoServer("v1") as server, meshlib.Mesh.from_resources(reviews(server.port, server.port)) as mesh:
        if runtime == "threads":
            with mesh.client(module=module, headers={"x-mine": "1"}) as client:
                assert isinstance(client, module.Client)
                with client.stream("POST", "http://reviews:9080/up", content=iter([b"a", b"b"])) as response:
                    assert isinstance(response, module.Response)
                    body = b"".join(response.iter_bytes())
            assert response.elapsed.total_seconds() >= 0
        else:

            async def go():
                async def pieces():
                    yield b"a"
                    yield b"b"

                async with mesh.async_client(module=module, headers={"x-mine": "1"}) as client:
                    assert isinstance(client, module.AsyncClient)
                    async with client.stream("POST", "http://reviews:9080/up", content=pieces()) as response:
                        assert isinstance(response, module.Response)
                        return b"".join([piece async for piece in response.aiter_bytes()])

            body = asyncio.run(go())
    seen = json.loads(body)
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/up", "ab")
    assert seen["headers"]["x-mine"] == "1"


async def test_httpx2_works_just_as_well_on_asyncio(servers):
    one, two = servers
    async with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        async with httpx2.AsyncClient(transport=mesh.async_http_transport()) as client:
            assert (await client.get("http://reviews:9080/")).json()["server"] == "v1"
