"""The mesh as an httpx transport: a request goes in, and the module's own response or exception comes out."""

from __future__ import annotations

import asyncio

import httpx
import httpx2
import pytest

import meshlib
from meshlib.transport.httpx.transport import transports
from tests.support.resources import pod, service

NOBODY = "http://reviews:9080/"
OUTSIDE = "http://elsewhere.test/"

FLAGS = "UF,URX"


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def module(request):
    return request.param


@pytest.fixture(params=["threads", "asyncio"])
def runtime(request):
    return request.param


@pytest.fixture
def mesh():
    """One host, at whose only endpoint nobody listens."""
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1)]) as made:
        yield made


class Behind(httpx.BaseTransport, httpx.AsyncBaseTransport, httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Responds with 204; ``did`` is what was asked of it."""

    def __init__(self, module):
        self.module, self.did = module, []

    def handle_request(self, request):
        self.did.append(request.url.host)
        return self.module.Response(204)

    async def handle_async_request(self, request):
        return self.handle_request(request)

    def __enter__(self):
        self.did.append("entered")
        return self

    async def __aenter__(self):
        return self.__enter__()

    def close(self):
        self.did.append("closed")

    async def aclose(self):
        self.close()


def made(runtime, mesh, **more):
    return (mesh.http_transport if runtime == "threads" else mesh.async_http_transport)(**more)


def sent(transport, runtime, module, url):
    request = module.Request("GET", url)
    if runtime == "threads":
        with transport:
            return transport.handle_request(request)

    async def send():
        async with transport:
            return await transport.handle_async_request(request)

    return asyncio.run(send())


def test_the_classes_are_of_their_modules_kinds_and_made_once(module):
    found = transports(module)
    assert issubclass(found.sync, module.BaseTransport)
    assert issubclass(found.asynchronous, module.AsyncBaseTransport)
    assert transports(module) is found


def test_a_meshs_transport_is_one_to_every_module_that_the_program_uses(mesh):
    assert isinstance(mesh.http_transport(), httpx.BaseTransport)
    assert isinstance(mesh.http_transport(), httpx2.BaseTransport)
    assert isinstance(mesh.async_http_transport(), httpx.AsyncBaseTransport)
    assert isinstance(mesh.async_http_transport(), httpx2.AsyncBaseTransport)


def test_one_transport_serves_clients_of_both_modules_in_turn(runtime, mesh):
    transport = made(runtime, mesh, local_replies="respond")
    for module in (httpx, httpx2, httpx):
        response = sent(transport, runtime, module, NOBODY)
        assert isinstance(response, module.Response)
        assert response.status_code == 503


@pytest.mark.parametrize("inner_is_of", [httpx, httpx2], ids=["httpx inside", "httpx2 inside"])
def test_somebody_elses_transport_gets_requests_of_its_own_module_whoever_calls(runtime, mesh, module, inner_is_of):
    def handler(request):
        assert isinstance(request, inner_is_of.Request)
        if request.url.path == "/broken":
            raise inner_is_of.ReadError("broken inside")
        return inner_is_of.Response(200, json={"host": request.headers["host"], "url": str(request.url)})

    transport = made(runtime, mesh, inner=inner_is_of.MockTransport(handler))
    response = sent(transport, runtime, module, NOBODY + "a%20b?c=%C3%A9")
    assert isinstance(response, module.Response)
    assert response.extensions["mesh"].host == "reviews.default.svc.cluster.local"
    with pytest.raises(module.ReadError, match="broken inside") as raised:
        sent(transport, runtime, module, NOBODY + "broken")
    assert isinstance(raised.value, meshlib.errors.ConnectionReset)
    assert isinstance(raised.value.request, module.Request)


def test_one_that_tells_no_module_gets_what_its_callers_use(mesh, module):
    class Anybodys:
        def handle_request(self, request):
            assert isinstance(request, module.Request)
            return module.Response(204)

    transport = mesh.http_transport(inner=Anybodys())
    assert transport.handle_request(module.Request("GET", NOBODY)).status_code == 204


def test_what_is_no_module_of_clients_is_refused(mesh):
    for make in (mesh.http_transport, mesh.async_http_transport, mesh.client, mesh.async_client):
        with pytest.raises(TypeError, match="must be httpx or httpx2, not <module 'asyncio'"):
            make(module=asyncio)


def test_what_the_mesh_ends_is_an_exception_with_its_story(runtime, mesh, module):
    with pytest.raises(module.ConnectError, match="reviews") as raised:
        sent(made(runtime, mesh), runtime, module, NOBODY)
    assert raised.value.exchange.flags == FLAGS
    assert raised.value.request.url == NOBODY


def test_or_envoys_own_response_for_whoever_wants_that(runtime, mesh, module):
    response = sent(made(runtime, mesh, local_replies="respond"), runtime, module, NOBODY)
    assert isinstance(response, module.Response)
    assert response.status_code == 503
    assert response.read().startswith(b"upstream connect error")
    assert response.extensions["mesh"].flags == FLAGS
    assert response.extensions["mesh"].status == 503


def test_any_other_wish_is_refused(runtime, mesh, module):
    with pytest.raises(ValueError, match="'raise' or 'respond'"):
        made(runtime, mesh, local_replies="answer")


def test_a_url_that_leads_nowhere_is_what_it_is_to_httpx(runtime, mesh, module):
    with pytest.raises(module.UnsupportedProtocol):
        sent(made(runtime, mesh), runtime, module, "ftp://reviews/")


def test_a_closed_mesh_says_so(runtime, mesh, module):
    transport = made(runtime, mesh)
    mesh.close()
    with pytest.raises(meshlib.errors.MeshClosed, match="before mesh.close"):
        sent(transport, runtime, module, NOBODY)


def test_hosts_outside_go_the_other_way_and_that_one_is_entered_and_closed(runtime, mesh, module):
    own, other = Behind(module), Behind(module)
    transport = made(runtime, mesh, inner=own, module=module).with_other_way(other, "")
    assert sent(transport, runtime, module, OUTSIDE).status_code == 204
    assert (own.did, other.did) == ([], ["entered", "elsewhere.test", "closed"])


def test_hosts_of_the_mesh_do_not(runtime, mesh, module):
    other = Behind(module)
    transport = made(runtime, mesh).with_other_way(other, "")
    with pytest.raises(module.ConnectError):
        sent(transport, runtime, module, NOBODY)
    assert other.did == ["entered", "closed"]
