"""Where a call goes when its URL and its Host header name different hosts: the table of README, in every runtime."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from concurrent import futures
from typing import Any

import grpc
import httpx
import httpx2
import pytest
import trustme

import meshlib
from tests.mesh.test_http_client import Caller
from tests.support.evil_server import OK, EvilServer
from tests.support.grpc_echo import EchoServer as GrpcServer
from tests.support.grpc_runtimes import RUNTIMES as GRPC_RUNTIMES
from tests.support.grpc_runtimes import entry
from tests.support.resources import destination_rule, virtual_service
from tests.support.servers import EchoServer

REGISTRY_ONLY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Sidecar",
    "metadata": {"name": "default", "namespace": "default"},
    "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
}


def http_entry(host: str, port: int, endpoint: int, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": host.replace("*", "any"), "namespace": "default"},
        "spec": {
            "hosts": [host],
            "resolution": "STATIC",
            "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": endpoint}}],
            **spec,
        },
    }


def tagging(host: str) -> dict[str, Any]:
    """A VirtualService that marks what its rule touched."""
    route = {"route": [{"destination": {"host": host}}], "headers": {"request": {"set": {"x-rule-of": host}}}}
    return virtual_service(host.replace(".", "-"), route, hosts=[host])


@pytest.fixture(scope="module")
def servers():
    """``a.test`` and ``b.test`` are hosts of the mesh whose endpoints are elsewhere; ``outside`` listens on the very
    port that URLs name, so it is reached by whoever dials what a URL says."""
    with EchoServer("a.test") as a, EchoServer("b.test") as b, EchoServer("outside") as outside:
        yield a, b, outside


@pytest.fixture(params=["sync", "asyncio"])
def runtime(request):
    return request.param


def resources(servers, *more: dict[str, Any]) -> list[dict[str, Any]]:
    a, b, outside = servers
    return [
        http_entry("a.test", outside.port, a.port),
        http_entry("b.test", outside.port, b.port),
        tagging("a.test"),
        tagging("b.test"),
        *more,
    ]


@pytest.fixture(autouse=True)
def a_test_is_this_machine(monkeypatch):
    """So that dialling what a URL says leads somewhere."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "a.test" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# URL's host, Host header ({} is the port of the URL), who is called, whose rule acts
TABLE = [
    ("a.test", None, "a.test", "a.test"),
    ("a.test", "a.test:{}", "a.test", "a.test"),
    ("a.test", "A.Test:{}", "a.test", "a.test"),
    ("a.test", "a.test", "a.test", "a.test"),
    ("a.test", "a.test.:{}", "a.test", "a.test"),
    ("a.test", "", "a.test", "a.test"),
    ("a.test", "b.test", "b.test", "b.test"),
    ("a.test", "b.test:{}", "b.test", "b.test"),
    ("a.test", "B.TEST", "b.test", "b.test"),
    ("a.test", "b.test:1", "b.test", "b.test"),  # the port of Host is ignored, as at a sidecar
    ("a.test", " b.test ", "b.test", "b.test"),
    ("a.test", "unknown.test", "outside", None),
    ("a.test", "unknown.test:{}", "outside", None),
    ("a.test", "169.254.169.254", "outside", None),
    ("a.test", "[::1]:22", "outside", None),
    ("a.test", "unix:///tmp/s", "outside", None),
    ("a.test", "a.test@b.test", "outside", None),
    ("a.test", "a b", "outside", None),
    ("127.0.0.1", None, "outside", None),
    ("127.0.0.1", "a.test:{}", "outside", None),
    ("127.0.0.1", "b.test", "outside", None),
    ("127.0.0.1", "b.test:{}", "outside", None),
    ("127.0.0.1", "unknown.test:1", "outside", None),
    ("127.0.0.1", "10.9.8.7:22", "outside", None),
]


@pytest.mark.parametrize(("url_host", "host", "reached", "rule"), TABLE)
def test_the_url_is_dialled_and_host_chooses_only_among_hosts_of_the_mesh(
    runtime, servers, url_host, host, reached, rule
):
    port = servers[2].port
    headers = {} if host is None else {"Host": host.format(port)}
    with meshlib.Mesh.from_resources(resources(servers)) as mesh:
        url = f"http://{url_host}:{port}/x"
        response = Caller(runtime, mesh, trust_env=False).get(url, headers=headers)
        seen = response.json()
        assert seen["server"] == reached
        assert seen["headers"].get("x-rule-of") == rule
        assert seen["headers"]["host"].strip() == (f"{url_host}:{port}" if host is None else host.format(port).strip())
        explained = mesh.explain(url=url, headers=headers)
        assert explained.resource == response.extensions["mesh"].resource
        assert explained.resource == ("" if rule is None else f"VirtualService/default/{rule.replace('.', '-')}")


@pytest.mark.parametrize(("url_host", "host", "reached", "rule"), TABLE)
def test_an_inner_transport_is_given_the_same_address(servers, url_host, host, reached, rule):
    port = servers[2].port
    ports = {"a.test": servers[0].port, "b.test": servers[1].port, "outside": port}
    got = []

    def handler(request: httpx.Request) -> httpx.Response:
        got.append((request.url.host, request.url.port, request.headers["host"]))
        return httpx.Response(200)

    headers = {} if host is None else {"Host": host.format(port)}
    with meshlib.Mesh.from_resources(resources(servers)) as mesh:
        client = mesh.client(transport=httpx.MockTransport(handler))
        client.get(f"http://{url_host}:{port}/x", headers=headers)
    address = url_host if reached == "outside" else "127.0.0.1"
    assert got == [(address, ports[reached], f"{url_host}:{port}" if host is None else host.format(port))]


@pytest.mark.parametrize(("url_host", "host", "reached", "rule"), TABLE)
def test_under_registry_only_whatever_is_unknown_is_blocked(runtime, servers, url_host, host, reached, rule):
    port = servers[2].port
    with meshlib.Mesh.from_resources(resources(servers, REGISTRY_ONLY)) as mesh:
        headers = {} if host is None else {"Host": host.format(port)}
        response = Caller(runtime, mesh, trust_env=False).get(f"http://{url_host}:{port}/x", headers=headers)
        if reached == "outside":
            assert response.status_code == 502
        else:
            assert response.json()["server"] == reached


def test_without_a_host_header_the_urls_host_is_written(runtime, servers):
    outside = servers[2]
    with meshlib.Mesh.from_resources(resources(servers)) as mesh:
        for host, reached in (("a.test", "a.test"), ("127.0.0.1", "outside")):
            request = httpx.Request("GET", f"http://{host}:{outside.port}/x")
            del request.headers["host"]
            if runtime == "sync":
                with mesh.client(trust_env=False) as client:
                    response = client.send(request)
            else:
                response = asyncio.run(_send(mesh, request))
            assert response.json()["server"] == reached
            assert response.json()["headers"]["host"] == f"{host}:{outside.port}"


async def _send(mesh: meshlib.Mesh, request: httpx.Request) -> httpx.Response:
    async with mesh.async_client(trust_env=False) as client:
        return await client.send(request)


def test_explain_says_what_a_host_header_does(servers):
    port = servers[2].port

    def said(mesh: meshlib.Mesh, url_host: str, host: str) -> str:
        return str(mesh.explain(url=f"http://{url_host}:{port}/", headers={"Host": host}))

    with meshlib.Mesh.from_resources(resources(servers)) as mesh:
        assert f"Host b.test decides, not the URL's a.test:{port}" in said(mesh, "a.test", "b.test")
        assert f"Host x.test is not a host of the mesh on port {port}" in said(mesh, "a.test", "x.test")
        assert "which the URL names, is outside the mesh" in said(mesh, "127.0.0.1", "b.test")
        assert "host:" not in said(mesh, "a.test", f"a.test:{port}")
    with meshlib.Mesh.from_resources(resources(servers, REGISTRY_ONLY)) as mesh:
        assert "the call is blocked" in said(mesh, "a.test", "x.test")


def test_a_host_that_is_in_the_mesh_on_another_port_only_is_unknown(runtime, servers):
    a, b, outside = servers
    both = [http_entry("a.test", outside.port, a.port), http_entry("b.test", outside.port + 1, b.port)]
    with meshlib.Mesh.from_resources(both) as mesh:
        caller = Caller(runtime, mesh, trust_env=False)
        for host in ("b.test", f"b.test:{outside.port + 1}"):
            response = caller.get(f"http://a.test:{outside.port}/", headers={"Host": host})
            assert response.json()["server"] == "outside"


def test_names_that_a_wildcard_takes_are_dialled_by_the_url(runtime, servers):
    """resolution NONE has no endpoints: the address is the one that the URL names, not the one in Host."""
    outside = servers[2]
    wild = http_entry("*.test", outside.port, 1, resolution="NONE")
    del wild["spec"]["endpoints"]
    home = http_entry("a.test", outside.port, servers[0].port)
    with meshlib.Mesh.from_resources([wild, home]) as mesh:
        response = Caller(runtime, mesh, trust_env=False).get(
            f"http://a.test:{outside.port}/", headers={"Host": "any.test"}
        )
        assert response.json()["server"] == "outside"


# -- TLS ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("in_mesh", [False, True], ids=["outside", "in the mesh"])
def test_tls_verifies_the_urls_host_whatever_host_says(runtime, authority, trusting, in_mesh):
    for name, trusted in (("a.test", True), ("evil.test", False)):
        with EvilServer([OK], tls=context_for(authority, name)) as server:
            known = [http_entry("a.test", server.port, server.port)] if in_mesh else []
            with meshlib.Mesh.from_resources(known) as mesh:
                caller = Caller(runtime, mesh, verify=trusting, trust_env=False)
                url = f"https://a.test:{server.port}/"
                if trusted:
                    assert caller.get(url, headers={"Host": "evil.test"}).status_code == 200
                else:
                    with pytest.raises(httpx.ConnectError, match="certificate"):
                        caller.get(url, headers={"Host": "evil.test"})


def test_tls_of_a_destination_rule_verifies_the_host_that_was_chosen(runtime, authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with EvilServer([OK], tls=context_for(authority, "b.test")) as server:
        rule = destination_rule("b.test", tls={"mode": "SIMPLE", "caCertificates": str(tmp_path / "ca.pem")})
        entries = [http_entry("a.test", 80, 1), http_entry("b.test", 80, server.port), rule]
        with meshlib.Mesh.from_resources(entries) as mesh:
            caller = Caller(runtime, mesh, trust_env=False)
            assert caller.get("http://a.test/", headers={"Host": "b.test"}).status_code == 200


# -- gRPC: the channel's target is the URL, grpc.default_authority is Host -------------------------------------------------


@pytest.mark.parametrize("runtime_class", GRPC_RUNTIMES, ids=lambda w: w.name)
@pytest.mark.parametrize(
    ("dialled", "told", "reached"),
    [
        ("127.0.0.1", None, "a.test"),
        ("127.0.0.1", "b.test", "b.test"),
        ("127.0.0.1", "b.test:1", "b.test"),
        ("127.0.0.1", "unknown.test", "outside"),
        ("localhost", None, "outside"),
        ("localhost", "b.test", "outside"),
        ("localhost", "10.9.8.7:22", "outside"),
    ],
)
async def test_grpc_dials_the_target_and_its_authority_chooses_only_among_hosts_of_the_mesh(
    runtime_class, dialled, told, reached
):
    with GrpcServer("a.test") as a, GrpcServer("b.test") as b, GrpcServer("outside") as outside:
        ports = [{"number": outside.port, "name": "grpc", "protocol": "GRPC"}]
        known = [
            entry(("127.0.0.1", a.port, "a"), host="a.test", ports=ports, addresses=["127.0.0.1"]),
            entry(("127.0.0.1", b.port, "b"), host="b.test", ports=ports),
        ]
        with meshlib.Mesh.from_resources(known) as mesh:
            options = [] if told is None else [("grpc.default_authority", told)]
            target = f"{dialled}:{outside.port}"
            runtime = runtime_class(mesh, target, options=options)
            response = await runtime.unary("hello")
            assert response.server == reached
            await runtime.close()
            headers = {} if told is None else {":authority": told}
            explained = mesh.explain(url=f"grpc://{target}/pkg.S/M", headers=headers)
            assert explained.host == (reached if reached != "outside" else "PassthroughCluster")


def test_the_authority_of_a_secure_channel_is_what_its_certificate_must_name_as_in_grpcio_itself(authority):
    issued = authority.issue_cert("named.test")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    secure = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
    port = server.add_secure_port("127.0.0.1:0", secure)
    server.start()
    trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with meshlib.Mesh.from_resources([]) as mesh:
        for make in (grpc.secure_channel, mesh.grpc_channel):
            for told, trusted in (("named.test", True), ("other.test", False)):
                options = [("grpc.default_authority", told)]
                with make(f"127.0.0.1:{port}", trust, options) as channel, pytest.raises(grpc.RpcError) as ended:
                    channel.unary_unary("/x/Y")(b"", timeout=20)
                code = grpc.StatusCode.UNIMPLEMENTED if trusted else grpc.StatusCode.UNAVAILABLE
                assert ended.value.code() is code
    server.stop(None).wait(60)


# -- URLs that lead nowhere -----------------------------------------------------------------------------------------------

BAD = [
    "invalid://example.test",
    "httpss://bank.test/x",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1/",
    "grpc://127.0.0.1/",
    "file:///etc/passwd",
    "unix:///tmp/x",
    "://example.test",
    "example.test/x",
    "http://",
    "http:///x",
    "https:///x",
    "http://:80/",
]


class NothingIsDialled:
    """Fails a test that opens a connection."""

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise AssertionError(f"dialled {args}")


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_is_not_http_is_refused_in_bare_httpxs_words(runtime, url, monkeypatch):
    with pytest.raises(httpx.UnsupportedProtocol) as bare, httpx.Client(trust_env=False) as client:
        client.get(url)
    monkeypatch.setattr("socket.create_connection", NothingIsDialled())
    with meshlib.Mesh.from_resources([]) as mesh:
        with pytest.raises(httpx.UnsupportedProtocol) as refused:
            Caller(runtime, mesh, trust_env=False).get(url)
        assert str(refused.value) == str(bare.value)
        assert isinstance(refused.value, meshlib.errors.CallError)
        assert str(refused.value.request.url) == str(bare.value.request.url)
        with pytest.raises(meshlib.errors.MeshError, match="full URL"):
            mesh.explain(url=url.replace("grpc", "ftp"))


def test_httpx2_is_refused_with_its_own_exception():
    with meshlib.Mesh.from_resources([]) as mesh:
        client = httpx2.Client(transport=mesh.http_transport(module=httpx2))
        with pytest.raises(httpx2.UnsupportedProtocol):
            client.get("ftp://127.0.0.1/")


def test_a_redirect_to_another_scheme_is_refused(runtime):
    redirect = b"HTTP/1.1 302 Found\r\nlocation: ftp://127.0.0.1/x\r\ncontent-length: 0\r\n\r\n"
    with EvilServer([redirect]) as server, meshlib.Mesh.from_resources([]) as mesh:
        with pytest.raises(httpx.UnsupportedProtocol):
            Caller(runtime, mesh, trust_env=False, follow_redirects=True).get(f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize("port", [65536, 99999, 10**20, -1])
def test_an_impossible_port_is_a_connect_error_and_not_another_port(runtime, port):
    with meshlib.Mesh.from_resources([]) as mesh, pytest.raises(httpx.ConnectError, match="is not a port"):
        Caller(runtime, mesh, trust_env=False).get(f"http://127.0.0.1:{port}/")


def test_a_websocket_url_is_http_until_it_is_upgraded(runtime, servers):
    a, _, outside = servers
    with meshlib.Mesh.from_resources([http_entry("a.test", outside.port, a.port)]) as mesh:
        response = Caller(runtime, mesh, trust_env=False).get(f"ws://a.test:{outside.port}/")
        assert json.loads(response.content)["server"] == "a.test"
