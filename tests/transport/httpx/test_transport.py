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


def made(runtime, mesh, module, **more):
    make = mesh.http_transport if runtime == "threads" else mesh.async_http_transport
    return make(module=module, **more)


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


def test_what_the_mesh_ends_is_an_exception_with_its_story(runtime, mesh, module):
    with pytest.raises(module.ConnectError, match="reviews") as raised:
        sent(made(runtime, mesh, module), runtime, module, NOBODY)
    assert raised.value.exchange.flags == FLAGS
    assert raised.value.request.url == NOBODY


def test_or_envoys_own_response_for_whoever_wants_that(runtime, mesh, module):
    response = sent(made(runtime, mesh, module, local_replies="respond"), runtime, module, NOBODY)
    assert isinstance(response, module.Response)
    assert response.status_code == 503
    assert response.read().startswith(b"upstream connect error")
    assert response.extensions["mesh"].flags == FLAGS
    assert response.extensions["mesh"].status == 503


def test_any_other_wish_is_refused(runtime, mesh, module):
    with pytest.raises(ValueError, match="'raise' or 'respond'"):
        made(runtime, mesh, module, local_replies="answer")


def test_a_url_that_leads_nowhere_is_what_it_is_to_httpx(runtime, mesh, module):
    with pytest.raises(module.UnsupportedProtocol):
        sent(made(runtime, mesh, module), runtime, module, "ftp://reviews/")


def test_a_closed_mesh_says_so(runtime, mesh, module):
    transport = made(runtime, mesh, module)
    mesh.close()
    with pytest.raises(meshlib.errors.MeshClosed, match="before mesh.close"):
        sent(transport, runtime, module, NOBODY)


def test_hosts_outside_go_the_other_way_and_that_one_is_entered_and_closed(runtime, mesh, module):
    own, other = Behind(module), Behind(module)
    transport = made(runtime, mesh, module, inner=own).with_other_way(other, "")
    assert sent(transport, runtime, module, OUTSIDE).status_code == 204
    assert (own.did, other.did) == ([], ["entered", "elsewhere.test", "closed"])


def test_hosts_of_the_mesh_do_not(runtime, mesh, module):
    other = Behind(module)
    transport = made(runtime, mesh, module).with_other_way(other, "")
    with pytest.raises(module.ConnectError):
        sent(transport, runtime, module, NOBODY)
    assert other.did == ["entered", "closed"]
