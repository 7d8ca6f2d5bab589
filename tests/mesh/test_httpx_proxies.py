"""proxy=, mounts= and the proxies of the environment: for hosts outside the registry as in httpx, never for the mesh's."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpx
import pytest
import trustme

import meshlib
from meshlib import errors
from tests.support.forward_proxy import ForwardProxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

OUTSIDE = "http://outside.test/page"
MESH_HOST = "http://reviews:9080/"
REGISTRY_ONLY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Sidecar",
    "metadata": {"name": "default", "namespace": "default"},
    "spec": {"egress": [{"hosts": ["*/*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
}


def service_entry(host: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "partner", "namespace": "default"},
        "spec": {
            "hosts": [host],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": port}],
            "resolution": "STATIC",
            "endpoints": [{"address": "127.0.0.1"}],
        },
    }


@pytest.fixture(params=["threads", "asyncio"])
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def proxy():
    with ForwardProxy() as running:
        yield running


@pytest.fixture
def reviews():
    with EchoServer("reviews") as running:
        yield running


@pytest.fixture
def mesh(reviews):
    resources = [service("reviews"), pod("reviews", "v1", reviews.port)]
    with meshlib.Mesh.from_resources(resources) as running:
        yield running


def get(runtime: str, mesh: meshlib.Mesh, url: str, **options: Any) -> httpx.Response:
    if runtime == "threads":
        with mesh.client(**options) as client:
            return client.get(url)

    async def go() -> httpx.Response:
        async with mesh.async_client(**options) as client:
            return await client.get(url)

    return asyncio.run(go())


def mock(runtime: str, text: str) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(200, text=f"{text} {request.url}"))


def test_a_host_outside_the_registry_is_called_through_the_proxy(runtime, mesh, proxy):
    response = get(runtime, mesh, OUTSIDE, proxy=proxy.url)
    assert response.text == "via proxy"
    assert proxy.asked == [f"GET {OUTSIDE} HTTP/1.1"]
    assert response.extensions["mesh"].host == "PassthroughCluster"


def test_a_host_of_the_mesh_is_never_called_through_the_proxy(runtime, mesh, proxy):
    assert get(runtime, mesh, MESH_HOST, proxy=proxy.url).json()["server"] == "reviews"
    assert proxy.asked == []


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_gets_hosts_outside_and_never_hosts_of_the_mesh(
    runtime, mesh, proxy, environment, name
):
    environment.setenv(name, proxy.url)
    assert get(runtime, mesh, OUTSIDE).text == "via proxy"
    assert get(runtime, mesh, MESH_HOST).json()["server"] == "reviews"
    assert len(proxy.asked) == 1


def test_no_proxy_is_obeyed(runtime, mesh, reviews, proxy, environment):
    environment.setenv("HTTP_PROXY", proxy.url)
    environment.setenv("NO_PROXY", "127.0.0.1")
    assert get(runtime, mesh, f"http://127.0.0.1:{reviews.port}/").json()["server"] == "reviews"
    assert proxy.asked == []


def test_trust_env_false_ignores_the_environment(runtime, mesh, reviews, proxy, environment):
    environment.setenv("HTTP_PROXY", proxy.url)
    response = get(runtime, mesh, f"http://127.0.0.1:{reviews.port}/", trust_env=False)
    assert response.json()["server"] == "reviews"
    assert proxy.asked == []


def test_a_transport_of_the_caller_turns_the_environment_off_as_in_httpx(runtime, mesh, proxy, environment):
    environment.setenv("HTTP_PROXY", proxy.url)
    assert get(runtime, mesh, OUTSIDE, transport=mock(runtime, "inner")).text.startswith("inner")
    assert proxy.asked == []


def test_registry_only_blocks_what_a_proxy_would_have_reached(runtime, reviews, proxy):
    with meshlib.Mesh.from_resources([REGISTRY_ONLY, service("reviews"), pod("reviews", "v1", reviews.port)]) as mesh:
        assert get(runtime, mesh, OUTSIDE, proxy=proxy.url).status_code == 502
        assert get(runtime, mesh, MESH_HOST, proxy=proxy.url).status_code == 200
    assert proxy.asked == []


def test_a_host_of_a_service_entry_is_a_host_of_the_mesh(runtime, reviews, proxy):
    with meshlib.Mesh.from_resources([service_entry("api.partner.test", reviews.port)]) as mesh:
        assert get(runtime, mesh, "http://api.partner.test/", proxy=proxy.url).json()["server"] == "reviews"
    assert proxy.asked == []


def test_a_host_that_a_reload_brings_into_the_mesh_leaves_the_proxy(mesh, reviews, proxy):
    with mesh.client(proxy=proxy.url) as client:
        assert client.get("http://api.partner.test/").text == "via proxy"
        mesh.apply([service_entry("api.partner.test", reviews.port)])
        assert client.get("http://api.partner.test/").json()["server"] == "reviews"


def test_https_goes_through_a_tunnel_and_is_verified_as_the_caller_says(runtime, mesh):
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("outside.test").configure_cert(server_side)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with EchoServer("far") as far:
        far._server.socket = server_side.wrap_socket(far._server.socket, server_side=True)
        with ForwardProxy(tunnels_to=far.port) as proxy:
            response = get(runtime, mesh, "https://outside.test/", proxy=proxy.url, verify=trusting)
            assert response.json()["server"] == "far"
            assert proxy.asked == ["CONNECT outside.test:443 HTTP/1.1"]
            with pytest.raises(httpx.ConnectError):
                get(runtime, mesh, "https://outside.test/", proxy=proxy.url)


def test_a_proxy_that_refuses_is_the_proxy_error_of_httpx(runtime, mesh, proxy):
    with pytest.raises(httpx.ProxyError, match="403") as raised:
        get(runtime, mesh, "https://outside.test/", proxy=proxy.url)
    assert isinstance(raised.value, errors.CallError)
    assert raised.value.exchange.host == "PassthroughCluster"


def test_mounts_choose_transports_for_hosts_outside_by_the_patterns_of_httpx(runtime, mesh):
    mounts = {
        "all://": mock(runtime, "all"),
        "http://*.example.test": mock(runtime, "wildcard"),
        "http://x:81": mock(runtime, "x"),
    }
    assert get(runtime, mesh, "http://other.test/", mounts=mounts).text == "all http://other.test/"
    assert get(runtime, mesh, "http://a.example.test/", mounts=mounts).text == "wildcard http://a.example.test/"
    assert get(runtime, mesh, "http://x:81/", mounts=mounts).text == "x http://x:81/"
    assert get(runtime, mesh, MESH_HOST, mounts=mounts).json()["server"] == "reviews"


def test_a_mount_of_none_takes_a_host_from_the_proxy(runtime, mesh, reviews, proxy):
    mounts = {"all://127.0.0.1": None}
    response = get(runtime, mesh, f"http://127.0.0.1:{reviews.port}/", proxy=proxy.url, mounts=mounts)
    assert response.json()["server"] == "reviews"
    assert get(runtime, mesh, OUTSIDE, proxy=proxy.url, mounts=mounts).text == "via proxy"


def test_a_mount_that_names_a_host_of_the_mesh_does_not_act_and_says_so_once(runtime, mesh, caplog):
    mounts = {"http://reviews": mock(runtime, "mounted"), "all://": mock(runtime, "all")}
    with caplog.at_level("WARNING", "meshlib"):
        for _ in range(2):
            assert get(runtime, mesh, MESH_HOST, mounts=mounts).json()["server"] == "reviews"
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2, "once a client"
    assert "http://reviews" in said[0]
    assert "transport=" in said[0]


def test_transports_of_the_caller_are_entered_and_closed_as_httpx_does(runtime, mesh):
    did: list[str] = []

    class Mine(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def __init__(self, name: str) -> None:
            self.name = name

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200)

        def close(self) -> None:
            did.append(f"{self.name} close")

        async def aclose(self) -> None:
            did.append(f"{self.name} close")

        def __enter__(self) -> Mine:
            did.append(f"{self.name} enter")
            return self

        def __exit__(self, *exc: object) -> None:
            did.append(f"{self.name} exit")
            self.close()

        async def __aenter__(self) -> Mine:
            did.append(f"{self.name} enter")
            return self

        async def __aexit__(self, *exc: object) -> None:
            did.append(f"{self.name} exit")
            await self.aclose()

    get(runtime, mesh, OUTSIDE, transport=Mine("inner"), mounts={"http://other.test": Mine("mounted")})
    assert did == [
        "inner enter",
        "mounted enter",
        "inner exit",
        "inner close",
        "mounted exit",
        "mounted close",
    ]
