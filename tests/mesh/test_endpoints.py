"""``endpoints=``: from a VirtualService, a DestinationRule and two local servers to routed calls, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.main import main
from meshlib.errors import ConfigError
from tests.sources.test_watcher import wait_for
from tests.support.grpc_echo import echo_servers
from tests.support.grpc_runtimes import Asyncio, Futures, Threads
from tests.support.resources import destination_rule, pod, service, service_entry, to, virtual_service
from tests.support.servers import EchoServer

SPLIT = virtual_service("reviews", {"route": [to("reviews", "v1", 50), to("reviews", "v2", 50)]})
RULE = destination_rule("reviews", "v1", "v2")
TO_V2 = virtual_service("reviews", {"route": [to("reviews", "v2")]})


def local(*hosts: dict[str, Any], name: str = "local") -> dict[str, Any]:
    head = {"apiVersion": "meshlib.dev/v1", "kind": "LocalEndpoints", "metadata": {"name": name}}
    return {**head, "spec": {"hosts": list(hosts)}}


def servers_of(mesh: meshlib.Mesh, url: str, calls: int = 24) -> set[str]:
    with mesh.client() as client:
        return set(Counter(client.get(url).json()["server"] for _ in range(calls)))


def endpoints(mesh: meshlib.Mesh, url: str = "http://reviews:9080/") -> list[tuple[str, dict[str, str]]]:
    found = mesh.explain(url=url).to_dict()["destinations"]
    return [(e["address"], e["labels"]) for target in found for e in target["endpoints"]]


@pytest.mark.parametrize(
    "url", ["http://reviews/", "http://reviews:9080/", "http://reviews.default.svc.cluster.local:9080/"]
)
@pytest.mark.parametrize("more", [[], [service("reviews")], [service("reviews"), pod("reviews", "v1", 1)]])
def test_two_local_servers_are_the_two_subsets(url, more):
    with EchoServer("one") as one, EchoServer("two") as two:
        given = {"reviews": {"v1": f"localhost:{one.port}", "v2": [f"127.0.0.1:{two.port}"]}}
        with meshlib.Mesh.from_resources([SPLIT, RULE, *more], endpoints=given, seed=1) as mesh:
            assert servers_of(mesh, url) == {"one", "two"}
            mesh.apply([TO_V2, RULE, *more])
            assert servers_of(mesh, url) == {"two"}
            assert mesh.problems == []


async def test_the_same_on_asyncio():
    with EchoServer("one") as one, EchoServer("two") as two:
        given = {"reviews": {"v1": f":{one.port}", "v2": f":{two.port}"}}
        async with meshlib.Mesh.from_resources([TO_V2, RULE], endpoints=given) as mesh, mesh.async_client() as client:
            assert (await client.get("http://reviews:9080/")).json()["server"] == "two"


@pytest.mark.parametrize("runtime_class", [Threads, Futures, Asyncio])
async def test_the_same_over_grpc(runtime_class):
    with echo_servers(None, None) as (a, b):
        given = {"reviews": {"v1": a.address, "v2": f"localhost:{b.port}"}}
        with meshlib.Mesh.from_resources([TO_V2, RULE], endpoints=given) as mesh:
            runtime = runtime_class(mesh, target="reviews:9080")
            assert {await runtime.server() for _ in range(6)} == {"b"}
            await asyncio.to_thread(mesh.apply, [SPLIT, RULE])
            assert {await runtime.server() for _ in range(60)} == {"a", "b"}
            await runtime.close()


def test_explain_says_who_gives_them(tmp_path):
    given = {"host": "reviews", "addresses": ["10.0.0.1:1"]}
    with meshlib.Mesh.from_resources([local(given)]) as mesh:
        assert "as LocalEndpoints/default/local says, which takes precedence over discovery" in str(
            mesh.explain(url="http://reviews/")
        )
    with meshlib.Mesh(endpoints={"reviews": "10.0.0.1:1"}) as mesh:
        assert "as endpoints= says, which takes precedence over discovery" in str(mesh.explain(url="http://reviews/"))


@pytest.mark.parametrize("watched", ["mesh", "mesh/*.yaml", "mesh/local-endpoints.yaml"])
def test_a_file_of_local_endpoints_is_followed_like_any_other(tmp_path, monkeypatch, watched):
    """Whoever writes it (here the command), the next calls go to its addresses."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mesh" / "local-endpoints.yaml"
    file.parent.mkdir()
    with EchoServer("one") as one, EchoServer("two") as two:
        assert CliRunner().invoke(main, ["local", f"reviews=:{one.port}", f"ratings=:{one.port}"]).exit_code == 0
        with meshlib.Mesh.from_path(watched) as mesh:
            assert servers_of(mesh, "http://reviews/", 1) == {"one"}
            assert CliRunner().invoke(main, ["local", f"reviews=:{two.port}", f"details=:{two.port}"]).exit_code == 0
            wait_for(lambda: servers_of(mesh, "http://reviews/", 1) == {"two"})
            assert servers_of(mesh, "http://details/", 1) == {"two"}
            assert "not in the registry" in str(mesh.explain(url="http://ratings/"))


def test_no_resource_is_needed_at_all():
    with EchoServer("one") as one, meshlib.Mesh(endpoints={"reviews": f"localhost:{one.port}"}) as mesh:
        for url in ("http://reviews/", "http://reviews:9080/", f"http://reviews:{one.port}/"):
            assert servers_of(mesh, url, 1) == {"one"}


def test_ipv6_and_a_unix_socket(tmp_path):
    import http.server
    import socketserver
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"server": "socket"}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "socket"

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    path = str(tmp_path / "s")
    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        with meshlib.Mesh(endpoints={"reviews": f"unix://{path}"}) as mesh:
            assert servers_of(mesh, "http://reviews/", 1) == {"socket"}
        server.shutdown()
        thread.join(60)
    with meshlib.Mesh(endpoints={"reviews": "[::1]:9081"}) as mesh:
        assert endpoints(mesh) == [("[::1]:9081", {})]


def test_every_way_to_make_a_mesh_takes_them(tmp_path, monkeypatch):
    (tmp_path / "mesh.yaml").write_text(json.dumps(TO_V2) + "\n---\n" + json.dumps(RULE))
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    monkeypatch.setenv("MESHLIB_NAMESPACE", "default")
    given = {"reviews": {"v2": "10.0.0.1:9082"}}
    for mesh in (
        meshlib.Mesh.from_path(tmp_path, watch=False, endpoints=given),
        meshlib.Mesh.from_env(endpoints=given),
        meshlib.Mesh.from_resources([TO_V2, RULE], endpoints=given),
        meshlib.Mesh.from_yaml((tmp_path / "mesh.yaml").read_text(), endpoints=given),
    ):
        with mesh:
            assert endpoints(mesh) == [("10.0.0.1:9082", {"version": "v2"})]
    with meshlib.Mesh(endpoints={"reviews": "10.0.0.1:9082"}) as mesh:
        assert endpoints(mesh) == [("10.0.0.1:9082", {})]


def test_the_environment_says_them_as_the_command_does(tmp_path, monkeypatch):
    (tmp_path / "mesh.yaml").write_text(json.dumps(TO_V2) + "\n---\n" + json.dumps(RULE))
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    monkeypatch.setenv("MESHLIB_ENDPOINTS", "reviews=v2@10.0.0.1:9082  ratings=10.0.0.1:1")
    with meshlib.Mesh.from_env() as mesh:
        assert endpoints(mesh) == [("10.0.0.1:9082", {"version": "v2"})]
        assert endpoints(mesh, "http://ratings/") == [("10.0.0.1:1", {})]
    with meshlib.Mesh.from_env(endpoints={"ratings": "10.0.0.1:2"}) as mesh:
        assert endpoints(mesh, "http://ratings/") == [("10.0.0.1:2", {})]
    monkeypatch.setenv("MESHLIB_ENDPOINTS", "reviews")
    with pytest.raises(ConfigError, match="MESHLIB_ENDPOINTS: error: reviews: is not HOST=ADDRESS"):
        meshlib.Mesh.from_env()


def test_labels_are_those_that_the_destination_rule_gives_and_follow_it():
    given = {"reviews": {"v1": "10.0.0.1:9081", "v2": "10.0.0.2:9082"}}
    plain = virtual_service("reviews", {"route": [to("reviews")]})
    relabelled = {**RULE, "spec": {**RULE["spec"], "subsets": [{"name": "v1", "labels": {"track": "stable"}}]}}
    with meshlib.Mesh.from_resources([plain, RULE], endpoints=given) as mesh:
        assert endpoints(mesh) == [("10.0.0.1:9081", {"version": "v1"}), ("10.0.0.2:9082", {"version": "v2"})]
        mesh.apply([plain, relabelled])
        assert endpoints(mesh) == [("10.0.0.1:9081", {"track": "stable"}), ("10.0.0.2:9082", {})]
        (problem,) = mesh.problems
        assert "no DestinationRule has the subset v2 of reviews.default.svc.cluster.local" in problem.message


def test_a_subset_that_no_destination_rule_has_is_an_error_that_names_those_there_are():
    with pytest.raises(ConfigError) as caught:
        meshlib.Mesh.from_resources([SPLIT, RULE], endpoints={"reviews": {"v3": ":1"}})
    (problem,) = caught.value.problems
    assert (problem.file, problem.path, problem.code) == ("endpoints=", "['reviews']['v3']", "unknown-subset")
    assert "DestinationRule/default/reviews has v1, v2" in problem.message
    with pytest.raises(ConfigError, match="it has no DestinationRule"):
        meshlib.Mesh(endpoints={"reviews": {"v1": ":1"}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reviews": ""}, r"\['reviews'\]: the address is empty"),
        ({"reviews": "localhost"}, "has no port, and no Service or ServiceEntry says which port"),
        ({"ratings.default": ":1"}, r"\['ratings.default'\]: ratings.default is not the name of a Service"),
        ({"ratings:81": ":1"}, r"\['ratings:81'\]: ratings.default.svc.cluster.local has no port 81 \(it has 9080\)"),
        (7, "addresses by host are expected, found 7"),
    ],
)
def test_what_cannot_be_is_an_error_of_whoever_makes_the_mesh(given, message):
    with pytest.raises(ConfigError, match=message):
        meshlib.Mesh.from_resources([SPLIT, RULE, service("ratings")], endpoints=given)


def test_hosts_are_those_of_the_workloads_namespace():
    given = {"reviews": "10.0.0.1:1", "reviews.other.svc.cluster.local": "10.0.0.2:1"}
    with meshlib.Mesh(workload=meshlib.Workload("me", namespace="prod"), endpoints=given) as mesh:
        assert endpoints(mesh, "http://reviews:1/") == [("10.0.0.1:1", {})]
        assert endpoints(mesh, "http://reviews.prod:1/") == [("10.0.0.1:1", {})]
        assert endpoints(mesh, "http://reviews.other:1/") == [("10.0.0.2:1", {})]


def test_rules_that_name_the_port_of_a_service_that_nobody_defines():
    limits = {
        "portLevelSettings": [{"port": {"number": 9080}, "connectionPool": {"tcp": {"maxConnections": 7}}}],
    }
    rule = destination_rule("reviews", "v1", **limits)
    rules = [virtual_service("reviews", {"route": [to("reviews", "v1", port=9080)]}), rule]
    with meshlib.Mesh.from_resources(rules, endpoints={"reviews": {"v1": "10.0.0.1:9081"}}) as mesh:
        found = mesh.explain(url="http://reviews/").to_dict()["destinations"][0]
        assert (found["port"], [e["address"] for e in found["endpoints"]]) == (9080, ["10.0.0.1:9081"])
        assert "7 connections" in found["limits"]


def test_the_host_of_a_service_entry():
    entry = service_entry("api", "api.example.com", resolution="DNS", location="MESH_EXTERNAL")
    with EchoServer("fake") as fake:
        with meshlib.Mesh.from_resources([entry], endpoints={"api.example.com": f":{fake.port}"}) as mesh:
            assert servers_of(mesh, "http://api.example.com/", 1) == {"fake"}
            assert fake.seen[0]["headers"]["host"] == "api.example.com"


def test_the_resource_is_the_same_and_follows_its_file(tmp_path):
    file = tmp_path / "mesh.yaml"

    def write(*addresses: str) -> None:
        entry = {"host": "reviews", "subset": "v2", "addresses": list(addresses)}
        file.write_text("\n---\n".join(json.dumps(r) for r in (TO_V2, RULE, local(entry))))
        os.utime(file)

    write("10.0.0.1:1")
    with meshlib.Mesh.from_path(file, watch=False) as mesh:
        assert endpoints(mesh) == [("10.0.0.1:1", {"version": "v2"})]
        write("10.0.0.1:1", "10.0.0.2:2")
        mesh.reload()
        assert [address for address, _ in endpoints(mesh)] == ["10.0.0.1:1", "10.0.0.2:2"]
        file.write_text("\n---\n".join(json.dumps(r) for r in (TO_V2, RULE)))
        mesh.reload(accept_removals=True)
        assert "not in the registry" in str(mesh.explain(url="http://reviews/"))


def test_the_argument_goes_before_files_and_stays_when_they_change():
    with meshlib.Mesh.from_resources([RULE], endpoints={"reviews": "10.0.0.1:1"}) as mesh:
        mesh.apply([RULE, local({"host": "reviews", "addresses": ["10.0.0.2:2"]})])
        assert endpoints(mesh) == [("10.0.0.1:1", {})]
        assert [p.code for p in mesh.problems] == ["host-claimed-twice"]


def test_one_server_for_two_subsets_counts_once_for_the_whole_host():
    plain = virtual_service("reviews", {"route": [to("reviews")]})
    given = {"reviews": {"v1": "10.0.0.1:1", "v2": "10.0.0.1:1"}}
    with meshlib.Mesh.from_resources([plain, RULE], endpoints=given) as mesh:
        assert [address for address, _ in endpoints(mesh)] == ["10.0.0.1:1"]
    with meshlib.Mesh.from_resources([TO_V2, RULE], endpoints=given) as mesh:
        assert endpoints(mesh) == [("10.0.0.1:1", {"version": "v2"})]


def test_other_addresses_reach_the_ports_that_only_rules_name():
    rules = [virtual_service("reviews", {"route": [to("reviews", port=9080)]})]
    with meshlib.Mesh.from_resources([*rules, local({"host": "reviews", "addresses": ["10.0.0.1:1"]})]) as mesh:
        assert endpoints(mesh) == [("10.0.0.1:1", {})]
        mesh.apply([*rules, local({"host": "reviews", "addresses": ["10.0.0.2:1"]})])
        assert endpoints(mesh) == [("10.0.0.2:1", {})]
