"""Calls to headless services: the pod that is called by its name answers, as with a sidecar's original destination.

Pods are servers on addresses of their own (127.0.0.x) and one common port: nothing stands before a headless service that could
translate ports."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import meshlib
from tests.mesh.test_http_client import Caller
from tests.support.grpc_echo import EchoServer as GrpcServer
from tests.support.grpc_runtimes import RUNTIMES as GRPC_RUNTIMES
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer, failing

PODS = ("db-0", "db-1", "db-2")


def address(name: str) -> str:
    return f"127.0.0.{2 + int(name[-1])}"


@contextlib.contextmanager
def listening(**behave: Any) -> Iterator[list[EchoServer]]:
    """The three pods, on one port."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(EchoServer("db-0", behave.get("db-0"), address("db-0")))
        rest = [EchoServer(name, behave.get(name), address(name), first.port) for name in PODS[1:]]
        yield [first, *(stack.enter_context(server) for server in rest)]


def database(port: int, *names: str, ready: bool = True, kind: str = "http") -> list[dict[str, Any]]:
    """The service, and its pods of these names; each is a version of its own."""
    pods = []
    for name in names:
        made = pod("db", name, port, address(name), name)
        made["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
        pods.append(made)
    return [service("db", port, clusterIP="None", ports=[{"name": kind, "port": port, "targetPort": port}]), *pods]


@pytest.fixture(params=["sync", "asyncio"])
def runtime(request):
    return request.param


def test_a_pod_that_is_called_by_its_name_answers_and_no_other(runtime):
    with listening() as servers, meshlib.Mesh.from_resources(database(servers[0].port, *PODS)) as mesh:
        caller = Caller(runtime, mesh, trust_env=False)
        for name in PODS:
            for rest in ("db", "db.default", "db.default.svc", "db.default.svc.cluster.local"):
                response = caller.get(f"http://{name}.{rest}:{servers[0].port}/")
                assert response.json()["server"] == name
                assert response.extensions["mesh"].host == "db.default.svc.cluster.local"


def test_the_services_own_name_is_any_ready_pod(runtime):
    with listening() as servers:
        port = servers[0].port
        resources = [*database(port, "db-0", "db-1"), *database(port, "db-2", ready=False)[1:]]
        with meshlib.Mesh.from_resources(resources, seed=1) as mesh:
            caller = Caller(runtime, mesh, trust_env=False)
            assert {caller.get(f"http://db:{port}/").json()["server"] for _ in range(20)} == {"db-0", "db-1"}


def test_no_subset_hash_or_balancer_sends_a_call_to_another_pod(runtime):
    """Istio makes these clusters ORIGINAL_DST: a DestinationRule has no choice to make."""
    with listening() as servers:
        port = servers[0].port
        rule = destination_rule("db", *PODS, loadBalancer={"consistentHash": {"useSourceIp": True}})
        with meshlib.Mesh.from_resources(
            [*database(port, *PODS), rule, virtual_service("db", {"route": [to("db", "db-2")]})]
        ) as mesh:
            response = Caller(runtime, mesh, trust_env=False).get(f"http://db-0.db.default.svc.cluster.local:{port}/")
            assert response.json()["server"] == "db-0"
            assert response.extensions["mesh"].subset == "db-2"


def test_limits_and_retries_of_the_service_count_for_a_pod_and_every_try_goes_to_it(runtime):
    with listening(**{"db-1": failing(503)}) as servers:
        port = servers[0].port
        retrying = {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}
        rules = virtual_service("db", {"route": [to("db")], "retries": retrying})
        with meshlib.Mesh.from_resources([*database(port, *PODS), rules]) as mesh:
            caller = Caller(runtime, mesh, trust_env=False)
            response = caller.get(f"http://db-1.db:{port}/")
            assert response.status_code == 503
            assert [a.endpoint for a in response.extensions["mesh"].attempts] == [f"127.0.0.3:{port}"] * 3
            assert [len(server.seen) for server in servers] == [0, 3, 0]


def test_a_name_that_the_registry_does_not_know_is_what_dns_says(runtime, monkeypatch):
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "db-9.db":
            raise socket.gaierror(socket.EAI_NONAME, "no such pod")
        return real(address("db-2") if host == "db-2.db" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with listening() as servers:
        port = servers[0].port
        with meshlib.Mesh.from_resources(database(port, "db-0", "db-1")) as mesh:
            caller = Caller(runtime, mesh, trust_env=False)
            assert caller.get(f"http://db-2.db:{port}/").json()["server"] == "db-2"
            with pytest.raises(httpx.ConnectError):
                caller.get(f"http://db-9.db:{port}/")
            assert [len(server.seen) for server in servers] == [0, 0, 1]


def test_a_pod_that_comes_is_known_by_its_name_and_one_that_goes_is_not(runtime):
    with listening() as servers:
        port = servers[0].port
        with meshlib.Mesh.from_resources(database(port, "db-0")) as mesh:
            mesh.apply(database(port, "db-0", "db-1"))
            caller = Caller(runtime, mesh, trust_env=False)
            assert caller.get(f"http://db-1.db:{port}/").json()["server"] == "db-1"
            mesh.apply(database(port, "db-1"))
            assert {caller.get(f"http://db:{port}/").json()["server"] for _ in range(5)} == {"db-1"}


def test_an_entry_without_resolution_dials_its_target_port(runtime):
    with EchoServer("target") as server:
        entry = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "any", "namespace": "default"},
            "spec": {
                "hosts": ["localhost"],
                "resolution": "NONE",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": server.port}],
            },
        }
        with meshlib.Mesh.from_resources([entry]) as mesh:
            assert Caller(runtime, mesh, trust_env=False).get("http://localhost/").json()["server"] == "target"


def test_explain_says_which_pods_a_name_is():
    with meshlib.Mesh.from_resources(database(5432, *PODS)) as mesh:
        assert "the address that the URL names: 127.0.0.3" in str(mesh.explain(url="http://db-1.db:5432/"))
        said = str(mesh.explain(url="http://db:5432/"))
        assert "the address that the URL names: one of 127.0.0.2, 127.0.0.3, 127.0.0.4" in said


@pytest.mark.parametrize("runtime_class", GRPC_RUNTIMES, ids=lambda w: w.name)
async def test_grpc_calls_the_pod_that_the_target_names(runtime_class):
    with GrpcServer("db-0", ip=address("db-0")) as first, GrpcServer("db-1", ip=address("db-1"), port=first.port):
        with meshlib.Mesh.from_resources(database(first.port, "db-0", "db-1", kind="grpc")) as mesh:
            for target, reached in (
                ("db-0.db", {"db-0"}),
                ("db-1.db.default.svc.cluster.local", {"db-1"}),
                ("db", {"db-0", "db-1"}),
            ):
                calls = runtime_class(mesh, f"{target}:{first.port}")
                assert {(await calls.unary("hello")).server for _ in range(20)} == reached
                await calls.close()
