"""A call to a wrong port, in the wrong namespace, or over TLS to plain text: explain, and its error, say what is wrong."""

from __future__ import annotations

import asyncio
import socket

import grpc
import httpx
import pytest

import meshlib
from meshlib.errors import ConnectFailed
from tests.support.resources import destination_rule, pod, service, virtual_service
from tests.support.servers import EchoServer

PLAIN = (
    "port 80 of kitchen takes plain text (its protocol is http), not TLS: "
    "write http://kitchen:80, or declare the port https"
)
ELSEWHERE = (
    "checkout exists in shop-prod; did you forget -n shop-prod? (this workload is in default: "
    "Workload(namespace='shop-prod'), or write checkout.shop-prod)"
)


@pytest.fixture(autouse=True)
def no_names(monkeypatch):
    """No server of names is asked: none has these."""
    real = socket.getaddrinfo

    def lookup(host, *args, **kwargs):
        if host in ("kitchen", "checkout"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def mesh_of(*more: dict, port: int = 1, **options) -> meshlib.Mesh:
    there = [
        service("kitchen", port=80),
        pod("kitchen", "v1", port),
        service("checkout", port=80, namespace="shop-prod"),
    ]
    return meshlib.Mesh.from_resources([*there, *more], **options)


def failure(mesh: meshlib.Mesh, url: str, runtime: str) -> str:
    async def call_async() -> None:
        async with mesh.async_client() as client:
            await client.get(url)

    def call() -> None:
        with mesh.client() as client:
            client.get(url)

    with pytest.raises(ConnectFailed) as caught:
        asyncio.run(call_async()) if runtime == "async" else call()
    return str(caught.value)


def test_explain_names_the_ports_that_a_host_has():
    with mesh_of(
        service("two", port=80, ports=[{"name": "http", "port": 80}, {"name": "http-2", "port": 8080}])
    ) as mesh:
        assert "note: kitchen has port 80, not 81: passed through" in str(mesh.explain(url="http://kitchen:81/"))
        assert "note: two has ports 80, 8080, not 81: " in str(mesh.explain(url="http://two:81/"))
        assert "has port" not in str(mesh.explain(url="http://kitchen:80/"))
        assert "kitchen has port 80, not 81" in str(mesh.explain(url="grpc://kitchen:81/a.B/C"))


@pytest.mark.parametrize("runtime", ["sync", "async"])
def test_a_call_to_another_port_fails_with_the_ports_that_there_are(runtime):
    with mesh_of() as mesh:
        said = failure(mesh, "http://kitchen:81/x?token=hidden", runtime)
        assert "the name kitchen was not found: Name or service not known; kitchen has port 80, not 81; " in said
        assert "hidden" not in said


def test_explain_says_in_which_namespace_a_short_name_is():
    with mesh_of() as mesh:
        assert f"note: {ELSEWHERE}: passed through" in str(mesh.explain(url="http://checkout/"))
        assert "did you forget" not in str(mesh.explain(url="http://checkout.shop-prod/"))
        assert "did you forget" not in str(mesh.explain(url="http://nobody/"))
    with mesh_of(workload=meshlib.Workload("w", namespace="shop-prod")) as mesh:
        assert mesh.explain(url="http://checkout/").host == "checkout.shop-prod.svc.cluster.local"


def test_several_namespaces_are_named_up_to_three():
    there = [service("shared", port=80, namespace=f"team-{n}") for n in range(5)]
    with mesh_of(*there) as mesh:
        said = str(mesh.explain(url="http://shared/"))
        assert "shared exists in team-0, team-1, team-2 and 2 more; did you forget -n team-0? " in said


@pytest.mark.parametrize("runtime", ["sync", "async"])
def test_a_call_from_the_wrong_namespace_fails_with_where_the_host_is(runtime):
    with mesh_of() as mesh:
        assert ELSEWHERE in failure(mesh, "http://checkout/", runtime)


def test_a_blocked_call_is_explained_in_the_same_words():
    sidecar = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "egress": [{"hosts": ["*/*"]}]},
    }
    with mesh_of(sidecar) as mesh:
        assert "502 (kitchen has port 80, not 81, and outbound traffic is REGISTRY_ONLY)" in str(
            mesh.explain(url="http://kitchen:81/")
        )


ONLY_IN_FULL = (
    "the rules of VirtualService/default/checkout are, as in Istio, for requests to exactly "
    "checkout.default.svc.cluster.local on port 80 until a Service or ServiceEntry defines it"
)


def test_rules_for_a_host_that_no_service_has_are_for_its_full_name_alone():
    rules = virtual_service("checkout", {"directResponse": {"status": 299, "body": {"string": "closed"}}})
    with meshlib.Mesh.from_resources([rules]) as mesh:
        assert f"the host is not in the registry; {ONLY_IN_FULL}: passed through" in str(
            mesh.explain(url="http://checkout/")
        )
        with mesh.client() as client:
            assert client.get("http://checkout.default.svc.cluster.local/").status_code == 299
        assert ONLY_IN_FULL in failure(mesh, "http://checkout/", "sync")
        assert "for requests to exactly" not in str(mesh.explain(url="http://nobody/"))
    with meshlib.Mesh.from_resources([rules, service("checkout", port=80)]) as mesh, mesh.client() as client:
        assert client.get("http://checkout/").status_code == 299


def test_explain_says_that_https_leads_to_a_port_of_plain_text():
    with mesh_of() as mesh:
        assert f"url: {PLAIN}" in str(mesh.explain(url="https://kitchen:80/"))
        assert f"url: {PLAIN}" in str(mesh.explain(url="https://kitchen/"))
        assert "url:" not in str(mesh.explain(url="http://kitchen:80/"))
    for more in (destination_rule("kitchen", tls={"mode": "SIMPLE"}),):
        with mesh_of(more) as mesh:
            assert "url:" not in str(mesh.explain(url="https://kitchen:80/"))


@pytest.mark.parametrize("runtime", ["sync", "async"])
def test_https_to_a_port_of_plain_text_fails_with_that_sentence(runtime):
    with EchoServer() as server, mesh_of(port=server.port) as mesh:
        said = failure(mesh, "https://kitchen:80/", runtime)
        assert said.startswith(f"GET https://kitchen:80/: {PLAIN}; last endpoint 127.0.0.1:{server.port}; ")
        assert "WRONG_VERSION" not in said


@pytest.mark.parametrize("runtime", ["sync", "async"])
def test_an_endpoint_that_should_speak_tls_and_does_not_is_told_in_words(runtime):
    with EchoServer() as server:
        with mesh_of(destination_rule("kitchen", tls={"mode": "SIMPLE"}), port=server.port) as mesh:
            said = failure(mesh, "http://kitchen:80/", runtime)
            assert f"127.0.0.1:{server.port} does not speak TLS: it responds in plain text" in said
            assert "WRONG_VERSION" not in said
            assert "takes plain text (its protocol" not in said, "it is the DestinationRule that asks for TLS"


def test_a_port_that_nobody_listens_on_is_no_matter_of_plain_text():
    with mesh_of(port=1) as mesh:
        said = failure(mesh, "https://kitchen:80/", "sync")
        assert "Connection refused" in said
        assert PLAIN not in said


def test_grpc_says_the_same():
    with EchoServer() as server, mesh_of(port=server.port) as mesh:
        channel = mesh.grpc_channel("kitchen:80", credentials=grpc.ssl_channel_credentials())
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/a.B/C")(b"", timeout=20)
        assert f"({PLAIN}; " in caught.value.details()
        assert "WRONG_VERSION" not in caught.value.details()


def test_other_failures_say_nothing_of_addresses():
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone")

    with mesh_of() as mesh:
        client = httpx.Client(transport=mesh.http_transport(inner=httpx.MockTransport(broken)))
        with pytest.raises(httpx.ReadError) as caught:
            client.post("http://kitchen:81/")
        assert "has port" not in str(caught.value)
