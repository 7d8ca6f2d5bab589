"""respx, pytest-httpx, pytest-httpx2 and vcrpy under a mesh, as users write them: they see the URL that the caller wrote."""

from __future__ import annotations

import asyncio
import importlib.metadata
import subprocess
import sys

import httpx
import httpx2
import pytest
import respx
import vcr

import meshlib
from meshlib.testing.mocks import through_mocks
from tests.support.resources import pod, service, to, virtual_service
from tests.support.servers import EchoServer

PLUGIN = "meshlib.testing.plugin"
URL = "http://reviews:9080/x?a=b"
ROUTE = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx"}})
RESOURCES = {
    "endpoints": [service("reviews"), pod("reviews", "v1", 1), ROUTE],
    "no endpoints": [service("reviews"), ROUTE],
    "no service": [ROUTE],
    "no resources": [],
}


@pytest.fixture(params=RESOURCES)
def mesh(request):
    with meshlib.Mesh.from_resources(RESOURCES[request.param]) as made:
        yield made


@pytest.fixture
def retried():
    """One whose calls are tried again: it has an endpoint."""
    with meshlib.Mesh.from_resources(RESOURCES["endpoints"]) as made:
        yield made


@pytest.fixture(params=[("threads", "client"), ("asyncio", "client"), ("asyncio", "transport")], ids=" ".join)
def get(request):
    """``get(mesh, module, url)``: by a mesh client, or by a client of one's own."""
    runtime, kind = request.param

    def get(mesh, module, url=URL):
        mine = kind == "transport"
        if runtime == "threads":
            made = module.Client(transport=mesh.http_transport()) if mine else mesh.client(module=module)
            with made as client:
                return client.get(url)

        async def go():
            made = (
                module.AsyncClient(transport=mesh.async_http_transport()) if mine else mesh.async_client(module=module)
            )
            async with made as client:
                return await client.get(url)

        return asyncio.run(go())

    return get


# -- respx ------------------------------------------------------------------------------------------------------------


def test_respx_as_a_router(mesh, get, mesh_mocks):
    with respx.mock(assert_all_called=True) as router:
        route = router.get(URL).respond(json={"mocked": True})
        response = get(mesh, httpx)
    assert response.json() == {"mocked": True}
    assert str(route.calls.last.request.url) == URL
    assert response.extensions["mesh"] is not None


@respx.mock
def test_respx_as_a_decorator(mesh, get, mesh_mocks):
    route = respx.get("http://reviews:9080/x", params={"a": "b"}).respond(204)
    assert get(mesh, httpx).status_code == 204
    assert route.called


def test_respx_as_its_fixture(mesh, get, mesh_mocks, respx_mock):
    respx_mock.get(URL).respond(text="hello")
    assert get(mesh, httpx).text == "hello"


@pytest.mark.respx(using="httpx")
def test_respx_in_the_place_of_httpxs_transports_needs_nothing(mesh, get, respx_mock):
    respx_mock.get(URL).respond(text="hello")
    assert get(mesh, httpx).text == "hello"


def test_the_meshs_retries_are_seen_by_the_mock(retried, get, mesh_mocks):
    with respx.mock as router:
        route = router.get(URL).mock(side_effect=[httpx.Response(503), httpx.Response(200, text="at last")])
        response = get(retried, httpx)
    assert response.text == "at last"
    assert [call.request.headers["x-envoy-attempt-count"] for call in route.calls] == ["1", "2"]
    assert len(response.extensions["mesh"].attempts) == 2


def test_what_a_mock_raises_is_the_meshs_exception(retried, get, mesh_mocks):
    with respx.mock as router:
        router.get(URL).mock(side_effect=httpx.ConnectError("mocked"))
        with pytest.raises(httpx.ConnectError, match="mocked") as raised:
            get(retried, httpx)
    assert isinstance(raised.value, meshlib.errors.ConnectFailed)


def test_what_respx_lets_through_reaches_the_endpoint(get):
    with EchoServer("v1") as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        with through_mocks(), meshlib.Mesh.from_resources(resources) as mesh, respx.mock as router:
            router.get(URL).pass_through()
            seen = get(mesh, httpx).json()
    assert (seen["server"], seen["path"], seen["headers"]["host"]) == ("v1", "/x?a=b", "reviews:9080")


# -- pytest-httpx -----------------------------------------------------------------------------------------------------


def test_pytest_httpx(mesh, get, mesh_mocks, httpx_mock):
    httpx_mock.add_response(url=URL, json={"mocked": True})
    assert get(mesh, httpx).json() == {"mocked": True}
    assert [str(request.url) for request in httpx_mock.get_requests()] == [URL]


def test_pytest_httpx2(mesh, get, mesh_mocks, httpx2_mock):
    httpx2_mock.get(URL).respond(json={"mocked": True})
    response = get(mesh, httpx2)
    assert response.json() == {"mocked": True}
    assert isinstance(response, httpx2.Response)


# -- vcrpy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_vcrpy_records_what_the_endpoint_says_under_the_callers_url_and_plays_it(get, module, tmp_path):
    cassette = str(tmp_path / "reviews.yaml")
    with EchoServer("v1") as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        with through_mocks(), meshlib.Mesh.from_resources(resources) as mesh, vcr.use_cassette(cassette):
            recorded = get(mesh, module)
    assert recorded.json()["server"] == "v1"
    assert f"uri: {URL}" in (tmp_path / "reviews.yaml").read_text()
    with through_mocks(), vcr.use_cassette(cassette, record_mode="none") as tape:
        for resources in RESOURCES.values():
            with meshlib.Mesh.from_resources(resources) as mesh:
                assert get(mesh, module).json() == recorded.json()
                tape.rewind()


# -- the way there and back -------------------------------------------------------------------------------------------


def test_a_policy_still_says_no(get, mesh_mocks):
    fault = virtual_service(
        "reviews", {"fault": {"abort": {"percentage": {"value": 100}, "httpStatus": 418}}, "route": [to("reviews")]}
    )
    with (
        meshlib.Mesh.from_resources([service("reviews"), fault]) as mesh,
        respx.mock(assert_all_called=False) as router,
    ):
        route = router.get(URL).respond(200)
        assert get(mesh, httpx).status_code == 418
    assert not route.called


def test_a_transport_of_ones_own_is_kept(mesh_mocks):
    mine = httpx.MockTransport(lambda request: httpx.Response(200, text=str(request.url)))
    with meshlib.Mesh.from_resources(RESOURCES["endpoints"]) as mesh, mesh.client(transport=mine) as client:
        assert client.get(URL).text == "http://127.0.0.1:1/x?a=b"


def test_afterwards_a_mesh_has_its_own_connections_again(get):
    with (
        EchoServer("v1") as server,
        meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port)]) as mesh,
    ):
        with pytest.raises(LookupError), through_mocks():
            raise LookupError("of a test")
        with respx.mock(assert_all_called=False) as router:
            route = router.get(URL).respond(418)
            assert get(mesh, httpx).json()["server"] == "v1"
        assert not route.called


def test_the_fixture_is_the_packages_own(tmp_path):
    (tmp_path / "test_users.py").write_text(
        "import httpx, meshlib, respx\n"
        "@respx.mock\n"
        "def test_it(mesh_mocks):\n"
        "    respx.get('http://reviews:9080/').respond(204)\n"
        "    with meshlib.Mesh.from_resources([]) as mesh, mesh.client() as client:\n"
        "        assert client.get('http://reviews:9080/').status_code == 204\n"
    )
    # a checkout that was installed before it had the entry point is told of the plugin
    known = any(found.value == PLUGIN for found in importlib.metadata.entry_points(group="pytest11"))
    flags = ["-q", "-p", "no:cacheprovider", *([] if known else ["-p", PLUGIN])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
