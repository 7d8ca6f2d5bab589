"""A host without endpoints: files that are checked, ``explain`` and failing calls say the same, and name the remedy."""

from __future__ import annotations

import json

import grpc
import httpx
import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.main import main
from tests.support.grpc_echo import EchoServer as GrpcServer
from tests.support.grpc_echo import Message, stubs
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service
from tests.support.servers import EchoServer

TO_V1 = virtual_service("reviews", {"route": [to("reviews", "v1")]})
RULE = destination_rule("reviews", "v1", "v2")
REMEDY = 'endpoints={"reviews": "localhost:9080"}, or `meshlib local reviews=:9080`'
OF_V1 = 'endpoints={"reviews": {"v1": "localhost:8080"}}, or `meshlib local reviews=v1@:8080`'


def sentence(mesh: meshlib.Mesh, code: str = "no-endpoints") -> tuple[str, str]:
    """What the mesh says of it when it is made: what and why, and the remedy."""
    (problem,) = [p for p in mesh.problems if p.code == code]
    return problem.message, problem.hint.rpartition("; ")[2]


def failing(mesh: meshlib.Mesh, url: str) -> list[str]:
    """What each door says of a call."""
    target = url.removeprefix("http://").rstrip("/")
    said = []
    with mesh.client() as client:
        try:
            client.get(url).raise_for_status()
        except httpx.HTTPError as error:
            said.append(str(error))
    with mesh.grpc_channel(target) as channel, pytest.raises(grpc.RpcError) as caught:
        stubs.EchoStub(channel).Unary(Message())
    return [*said, caught.value.details()]


async def failing_on_asyncio(mesh: meshlib.Mesh, url: str) -> list[str]:
    said = []
    async with mesh.async_client() as client:
        try:
            (await client.get(url)).raise_for_status()
        except httpx.HTTPError as error:
            said.append(str(error))
    async with mesh.aio_grpc_channel(url.removeprefix("http://").rstrip("/")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.EchoStub(channel).Unary(Message())
    return [*said, caught.value.details()]


def validated(tmp_path, *resources) -> str:
    for number, resource in enumerate(resources):
        (tmp_path / f"{number}.json").write_text(json.dumps(resource))
    return CliRunner().invoke(main, ["validate", str(tmp_path)]).output


async def test_a_service(tmp_path):
    with meshlib.Mesh.from_resources([service("reviews")]) as mesh:
        message, remedy = sentence(mesh)
        assert message.startswith("service reviews has no endpoints: no EndpointSlice, Endpoints, Pod or WorkloadEntry")
        assert REMEDY in remedy
        said = f"{message}; {remedy}"
        assert said in str(mesh.explain(url="http://reviews:9080/"))
        for told in (*failing(mesh, "http://reviews:9080/"), *await failing_on_asyncio(mesh, "http://reviews:9080/")):
            assert said in told
    out = validated(tmp_path, service("reviews"))
    assert message in out
    assert remedy in out


async def test_the_first_hour_two_files_and_nothing_else(tmp_path):
    with meshlib.Mesh.from_resources([TO_V1, RULE]) as mesh:
        message, remedy = sentence(mesh, "unknown-destination")
        assert message.startswith("host reviews.default.svc.cluster.local is not in the registry: no Service")
        assert OF_V1 in remedy
        said = f"{message}; {remedy}"
        assert said in str(mesh.explain(url="http://reviews/"))
        for told in (*failing(mesh, "http://reviews/"), *await failing_on_asyncio(mesh, "http://reviews/")):
            assert said in told
    assert said in validated(tmp_path, TO_V1, RULE)


def test_the_remedy_works():
    with EchoServer("one") as one:
        given = {"reviews": {"v1": f"localhost:{one.port}"}}
        with meshlib.Mesh.from_resources([TO_V1, RULE], endpoints=given) as mesh, mesh.client() as client:
            assert client.get("http://reviews/").json()["server"] == "one"


def test_a_route_to_a_host_that_nothing_defines():
    rules = [virtual_service("shop", {"route": [to("reviews")]}, hosts=["shop.example"])]
    with meshlib.Mesh.from_resources(rules) as mesh:
        said = "; ".join(sentence(mesh, "unknown-destination"))
        assert said in str(mesh.explain(url="http://shop.example/"))
        told, by_grpc = failing(mesh, "http://shop.example/")
        assert said in told
        assert by_grpc.count(said) == 1


@pytest.mark.parametrize(
    ("resources", "given", "why"),
    [
        ([service("reviews"), pod("reviews", "v2", 1)], None, "the one endpoint does not have the labels version=v1"),
        (
            [service("reviews"), pod("reviews", "v2", 1), pod("reviews", "v2", 2)],
            None,
            "none of the 2 endpoints has the labels version=v1",
        ),
        (
            [],
            {"reviews": {"v2": "a:9080"}},
            "the one endpoint that endpoints= gives the host does not have the labels version=v1",
        ),
        (
            [],
            {"reviews": "a:9080"},
            "the one endpoint that endpoints= gives the host does not have the labels version=v1",
        ),
        ([service("reviews")], "dns", "the labels of pods, by which subsets are told apart, are not in DNS"),
        ([], "dns", "the labels of pods, by which subsets are told apart, are not in DNS"),
    ],
)
def test_a_subset(resources, given, why):
    with meshlib.Mesh.from_resources([TO_V1, RULE, *resources], endpoints=given) as mesh:
        told = str(mesh.explain(url="http://reviews:9080/"))
        assert "subset v1 of service reviews has no endpoints: " in told
        assert why in told
        said = next(line.strip() for line in told.splitlines() if why in line)
        port = 8080 if given == "dns" and not resources else 9080  # which nothing says
        assert f'endpoints={{"reviews": {{"v1": "localhost:{port}"}}}}, or `meshlib local reviews=v1@:{port}`' in said
        for each in failing(mesh, "http://reviews:9080/"):
            assert said in each


def test_of_local_endpoints_it_is_said_when_the_mesh_is_made_of_subsets_that_are_called():
    with meshlib.Mesh.from_resources([TO_V1, RULE], endpoints={"reviews": {"v2": "a:9080"}}) as mesh:
        message, _ = sentence(mesh)
        assert message in str(mesh.explain(url="http://reviews:9080/"))
        mesh.apply([virtual_service("reviews", {"route": [to("reviews", "v2")]}), RULE])
        assert mesh.problems == []


def test_a_service_entry_says_which_it_is():
    for spec, why in (
        ({}, "ServiceEntry/default/api lists none"),
        ({"workloadSelector": {"labels": {"app": "x"}}}, "ServiceEntry/default/api selects no Pod or WorkloadEntry"),
    ):
        with meshlib.Mesh.from_resources([service_entry("api", "api.example.com", **spec)]) as mesh:
            said = f"api.example.com has no endpoints: {why}; "
            assert said in str(mesh.explain(url="http://api.example.com/"))
            assert all(said in told for told in failing(mesh, "http://api.example.com/"))


def test_the_response_is_envoys_but_for_its_reason_phrase():
    with meshlib.Mesh.from_resources([service("reviews")]) as mesh, mesh.client() as client:
        response = client.get("http://reviews:9080/")
        assert (response.status_code, response.text) == (503, "no healthy upstream")
        assert response.reason_phrase == response.extensions["mesh"].lack
        assert response.extensions["mesh"].to_dict()["lack"] == response.reason_phrase


def test_nothing_is_said_where_there_are_endpoints_that_may_not_be_used():
    starting = pod("reviews", "v1", 1)
    starting["status"]["phase"] = "Pending"
    with meshlib.Mesh.from_resources([service("reviews"), starting]) as mesh, mesh.client() as client:
        response = client.get("http://reviews:9080/")
        assert (response.status_code, response.reason_phrase, response.extensions["mesh"].lack) == (503, "", "")


def test_what_goes_away_and_comes_back_is_said_as_it_is():
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1)]) as mesh:
        assert "has no endpoints" not in str(mesh.explain(url="http://reviews:9080/"))
        mesh.apply([service("reviews")])
        assert "service reviews has no endpoints" in str(mesh.explain(url="http://reviews:9080/"))
        mesh.apply([service("reviews"), pod("reviews", "v1", 1)])
        assert "has no endpoints" not in str(mesh.explain(url="http://reviews:9080/"))


def test_other_namespaces_are_named_in_full():
    other = meshlib.Workload("me", namespace="shop")
    with meshlib.Mesh.from_resources([service("reviews")], workload=other) as mesh:
        message, remedy = sentence(mesh)
        assert message.startswith("service reviews of namespace default has no endpoints")
        assert 'endpoints={"reviews.default.svc.cluster.local": "localhost:9080"}' in remedy


@pytest.fixture
def cluster_dns(monkeypatch):
    """The names of the cluster's Services lead to this machine."""
    import socket

    real = socket.getaddrinfo
    asked = []

    def getaddrinfo(host, *args, **kwargs):
        if str(host).endswith(".svc.cluster.local"):
            asked.append(host)
            host = "127.0.0.1"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_dns_a_service_is_called_at_its_name(cluster_dns):
    with EchoServer("one") as one:
        rules = [service("reviews", port=one.port), virtual_service("reviews", {"route": [to("reviews")]})]
        with meshlib.Mesh.from_resources(rules, endpoints="dns") as mesh, mesh.client() as client:
            response = client.get(f"http://reviews:{one.port}/")
            assert response.json()["server"] == "one"
            assert response.json()["headers"]["host"] == f"reviews:{one.port}"
            assert cluster_dns[0] == "reviews.default.svc.cluster.local"
            assert mesh.problems == []


async def test_dns_a_host_that_only_rules_name_is_called_on_the_port_of_the_url(cluster_dns):
    with EchoServer("one") as one:
        rules = [virtual_service("shop", {"route": [to("reviews")], "headers": {"request": {"set": {"x": "y"}}}})]
        async with meshlib.Mesh.from_resources(rules, endpoints="dns") as mesh, mesh.async_client() as client:
            response = await client.get(f"http://shop:{one.port}/")
            assert response.json()["headers"]["x"] == "y"
            assert response.extensions["mesh"].endpoint == f"reviews.default.svc.cluster.local:{one.port}"
            assert set(cluster_dns) == {"reviews.default.svc.cluster.local"}
            text = str(mesh.explain(url="http://shop:9080/"))
            assert "the name reviews.default.svc.cluster.local in DNS, on the port that the URL names" in text


def test_dns_a_subset_without_labels_is_everybody(cluster_dns):
    everybody = destination_rule("reviews")
    everybody["spec"]["subsets"] = [{"name": "all"}]
    rules = [everybody, virtual_service("reviews", {"route": [to("reviews", "all")]})]
    with EchoServer("one") as one, meshlib.Mesh.from_resources(rules, endpoints="dns") as mesh, mesh.client() as client:
        assert client.get(f"http://reviews:{one.port}/").json()["server"] == "one"


def test_dns_over_grpc(cluster_dns):
    with GrpcServer("one") as one:
        with meshlib.Mesh.from_resources([service("echo", port=one.port)], endpoints="dns") as mesh:
            mesh._core.names.resolve("echo.default.svc.cluster.local", 10)
            with mesh.grpc_channel(f"echo:{one.port}") as channel:
                assert stubs.EchoStub(channel).Unary(Message()).server == "one"


def test_dns_what_comes_later_is_taken(cluster_dns, monkeypatch, tmp_path):
    with EchoServer("one") as one, meshlib.Mesh.from_resources([], endpoints="dns") as mesh, mesh.client() as client:
        mesh.apply([virtual_service("reviews", {"route": [to("reviews")]})])
        assert client.get(f"http://reviews:{one.port}/").json()["server"] == "one"
        mesh.apply(
            [service("reviews"), pod("reviews", "v1", one.port), virtual_service("reviews", {"route": [to("reviews")]})]
        )
        assert client.get("http://reviews:9080/").extensions["mesh"].endpoint == f"127.0.0.1:{one.port}"
        mesh.apply([])
        assert "not in the registry" in str(mesh.explain(url="http://reviews/"))
    (tmp_path / "mesh.yaml").write_text(json.dumps(service("reviews")))
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    monkeypatch.setenv("MESHLIB_ENDPOINTS", "dns")
    with meshlib.Mesh.from_env() as mesh:
        assert mesh.problems == []
