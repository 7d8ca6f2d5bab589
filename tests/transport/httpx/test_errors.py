"""What a caller of plain httpx catches, it catches of the mesh too: the same failures through both, class by class."""

from __future__ import annotations

import asyncio

import httpx
import httpx2
import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib import errors
from meshlib.engine.outcome import Failure
from meshlib.transport.httpx.errors import exception_class
from tests.support.evil_server import EvilServer
from tests.support.resources import destination_rule, pod, service

HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"


SITUATIONS = {
    "reset before the answer": (["reset"], {}),
    "reset in the middle of the head": ([b"HTTP/1.1 200 OK\r\nx", 0.05, "reset"], {}),
    "reset in the middle of the body": ([HALF, 0.05, "reset"], {}),
    "reset in the middle of the request": ([0.05, "reset"], {"content": bytes(30_000_000)}),
    "closed before the answer": (["close"], {}),
    "closed in the middle of the body": ([HALF, 0.05, "close"], {}),
    "no HTTP": ([b"nonsense\r\n\r\n"], {}),
    "no response in time": ([60.0], {"timeout": 0.1}),
    "no body in time": ([HALF, 60.0], {"timeout": 0.1}),
    "a body that nobody reads": ([60.0], {"content": bytes(30_000_000), "timeout": (5, 5, 0.2, 5)}),
    "nobody listens": (None, {}),
}


@pytest.fixture(scope="module")
def nobody() -> int:
    return free_port()


def _request(module, client, *args, **options) -> None:
    if isinstance(client, module.Client):
        with client:
            client.request(*args, **options)
        return

    async def call() -> None:
        async with client:
            await client.request(*args, **options)

    asyncio.run(call())


def caught(module, client, url: str, options) -> Exception:
    options = dict(options)
    if isinstance(options.get("timeout"), tuple):
        options["timeout"] = module.Timeout(options["timeout"])
    with pytest.raises(module.TransportError) as found:
        _request(module, client, "POST" if "content" in options else "GET", url, **options)
    return found.value


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("name", list(SITUATIONS))
def test_whatever_bare_httpx_raises_the_meshs_exception_is_too(module, runtime, name, nobody):
    plan, options = SITUATIONS[name]
    server = EvilServer(plan or [], read_body=False)
    port = server.port if plan else nobody
    resources = [service("reviews"), pod("reviews", "v1", port)]
    with server, meshlib.Mesh.from_resources(resources) as mesh:
        if runtime == "threads":
            clients = module.Client(trust_env=False), module.Client(transport=mesh.http_transport(module=module))
        else:
            transport = mesh.async_http_transport(module=module)
            clients = module.AsyncClient(trust_env=False), module.AsyncClient(transport=transport)
        bare = caught(module, clients[0], f"http://127.0.0.1:{port}/", options)
        ours = caught(module, clients[1], "http://reviews:9080/", options)
    assert isinstance(ours, errors.CallError)
    for cls in type(bare).__mro__:
        if cls.__module__.partition(".")[0] == module.__name__:
            assert isinstance(ours, cls), f"bare raises {type(bare).__name__}, the mesh {type(ours).__mro__}"


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
@pytest.mark.parametrize("plan", [["reset"], [HALF, 0.05, "reset"]], ids=["before", "within"])
def test_a_reset_is_a_network_error_and_still_the_meshs_upstream_reset(runtime, plan):
    with EvilServer(plan) as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        with meshlib.Mesh.from_resources(resources) as mesh:
            client = mesh.client() if runtime == "threads" else mesh.async_client()
            error = caught(httpx, client, "http://reviews:9080/", {})
    assert isinstance(error, errors.ConnectionReset)
    for kind in (errors.UpstreamReset, httpx.ReadError, httpx.NetworkError, httpx.RemoteProtocolError):
        assert isinstance(error, kind)
    assert error.exchange.flags == "UC"


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
@pytest.mark.parametrize("plan", [["close"], [HALF, 0.05, "close"]], ids=["before", "within"])
def test_an_end_of_the_connection_is_a_protocol_error_and_no_network_error(runtime, plan):
    with EvilServer(plan) as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        with meshlib.Mesh.from_resources(resources) as mesh:
            client = mesh.client() if runtime == "threads" else mesh.async_client()
            error = caught(httpx, client, "http://reviews:9080/", {})
    assert isinstance(error, httpx.RemoteProtocolError)
    assert not isinstance(error, httpx.NetworkError)


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_reset_of_an_http2_connection_is_a_network_error(runtime):
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with EvilServer([settings, 0.1, "reset"], read_body=False) as server:
        upgrade = destination_rule("reviews", connectionPool={"http": {"h2UpgradePolicy": "UPGRADE"}})
        with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port), upgrade]) as mesh:
            client = mesh.client() if runtime == "threads" else mesh.async_client()
            error = caught(httpx, client, "http://reviews:9080/", {})
    assert isinstance(error, (httpx.ReadError, httpx.ConnectError))
    assert isinstance(error, httpx.NetworkError)


@pytest.mark.parametrize("kind", ["ReadError", "WriteError", "CloseError"])
def test_a_network_error_of_an_inner_transport_stays_one(kind):
    def fail(request: httpx.Request) -> httpx.Response:
        raise getattr(httpx, kind)("broken", request=request)

    with meshlib.Mesh.from_resources([]) as mesh, mesh.client(transport=httpx.MockTransport(fail)) as client:
        with pytest.raises(httpx.NetworkError) as found:
            client.get("http://reviews.test/")
    assert isinstance(found.value, errors.UpstreamReset)


@pytest.mark.parametrize("failure", [failure for failure in Failure if failure is not Failure.REQUEST_BODY_FAILED])
@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["", "reset"])
def test_the_exceptions_of_httpx2_mirror_those_of_httpx(failure, error):
    theirs = exception_class(failure, httpx2, error)
    ours = exception_class(failure, httpx, error)
    assert issubclass(theirs, ours)
    for cls in ours.__mro__:
        if cls.__module__.partition(".")[0] == "httpx":
            assert issubclass(theirs, getattr(httpx2, cls.__name__))
