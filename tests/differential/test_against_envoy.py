"""The same situations through meshlib and through a real Envoy: the same answer, byte for byte, and as many attempts."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import httpx
import pytest

import meshlib
from benchmarks.free_ports import free_port
from tests.differential.envoy_process import TYPES, cluster, envoy, require_envoy
from tests.support.evil_server import OK, EvilServer
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer

pytestmark = pytest.mark.differential

NO_RETRY = {"attempts": 0}


def facts(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """What must be equal: all but what only a proxy's own clock and name put there."""
    headers = {
        k: v for k, v in response.headers.items() if k not in ("date", "server", "x-envoy-upstream-service-time")
    }
    return response.status_code, response.content, headers


def mesh_answer(
    ports: list[int], rule: dict[str, Any], policy: dict[str, Any] | None = None, path: str = "/"
) -> httpx.Response:
    resources = [service("reviews"), *(pod("reviews", "v1", port, name=f"p{port}") for port in ports)]
    if policy:
        resources.append(destination_rule("reviews", **policy))
    resources.append(virtual_service("reviews", rule))
    with meshlib.Mesh.from_resources(resources) as mesh, mesh.client(local_replies="respond") as client:
        return client.get(f"http://reviews:9080{path}")


def envoy_answer(route: dict[str, Any], clusters: list[dict[str, Any]]) -> httpx.Response:
    with envoy([{"match": {"prefix": "/"}, **route}], clusters) as client:
        return client.get("/")


PLAIN = {"route": {"cluster": "c", "timeout": "0s"}}


@pytest.mark.parametrize(
    "plan",
    [["close"], ["reset"], [b"garbage\r\n\r\n"], [b"HTTP/1.1 200 OK\r\ncontent-le", "close"]],
    ids=["closed", "reset", "not HTTP", "cut in the head"],
)
def test_broken_upstreams(plan):
    require_envoy()
    with EvilServer(plan) as server:
        theirs = envoy_answer(PLAIN, [cluster("c", [server.port])])
        ours = mesh_answer([server.port], {"route": [to("reviews")], "retries": NO_RETRY})
    assert facts(ours) == facts(theirs)


def test_a_refused_connection():
    port = free_port()
    theirs = envoy_answer(PLAIN, [cluster("c", [port])])
    assert facts(mesh_answer([port], {"route": [to("reviews")], "retries": NO_RETRY})) == facts(theirs)


def test_a_route_timeout():
    require_envoy()
    with EvilServer([60.0, OK]) as server:
        theirs = envoy_answer({"route": {"cluster": "c", "timeout": "0.2s"}}, [cluster("c", [server.port])])
        ours = mesh_answer([server.port], {"route": [to("reviews")], "timeout": "200ms"})
    assert facts(ours) == facts(theirs)


def test_no_endpoint():
    theirs = envoy_answer(PLAIN, [cluster("c", [])])
    assert facts(mesh_answer([], {"route": [to("reviews")]})) == facts(theirs)


def test_no_route():
    with envoy([{"match": {"prefix": "/else"}, **PLAIN}], [cluster("c", [1])]) as client:
        theirs = client.get("/")
    rule = {"match": [{"uri": {"prefix": "/else"}}], "route": [to("reviews")]}
    assert facts(mesh_answer([1], rule)) == facts(theirs)


def test_a_cluster_that_does_not_exist():
    with envoy([{"match": {"prefix": "/"}, "route": {"cluster_header": "c"}}], [cluster("c", [1])]) as client:
        theirs = client.get("/", headers={"c": "nobody"})
    assert facts(mesh_answer([1], {"route": [to("reviews", "v9")]})) == facts(theirs)


def test_an_injected_abort():
    abort = {"http_status": 418, "percentage": {"numerator": 100}}
    fault = {"envoy.filters.http.fault": {"@type": f"{TYPES}.http.fault.v3.HTTPFault", "abort": abort}}
    theirs = envoy_answer({**PLAIN, "typed_per_filter_config": fault}, [cluster("c", [1])])
    rule = {"route": [to("reviews")], "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}}
    assert facts(mesh_answer([1], rule)) == facts(theirs)


CONDITIONS = ["5xx", "gateway-error", "reset", "connect-failure", "retriable-4xx", "418", "5xx,retriable-4xx,418"]
BEHAVIOURS = ["200", "404", "409", "418", "429", "500", "501", "502", "503", "504", "close"]


def envoy_retry(condition: str) -> dict[str, Any]:
    tokens = condition.split(",")
    codes = [int(t) for t in tokens if t.isdigit()]
    names = [t for t in tokens if not t.isdigit()] + (["retriable-status-codes"] if codes else [])
    return {
        "retry_on": ",".join(names),
        "num_retries": 2,
        "retriable_status_codes": codes,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
    }


def behave(handler: Any) -> bool:
    what = handler.path.rpartition("/")[2]
    if what == "close":
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(2)
        return True
    handler.answer(int(what), what.encode())
    return True


def test_every_retry_condition_meets_every_behaviour_with_as_many_attempts():
    """77 combinations: the answer and the number of attempts that the upstream saw are those of Envoy."""
    require_envoy()
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    paths = [f"/{n}/{what}" for n in range(len(CONDITIONS)) for what in BEHAVIOURS]
    with EchoServer(behave=behave) as server:
        routes = [
            {"match": {"prefix": f"/{n}/"}, "route": {"cluster": "c", "timeout": "0s", "retry_policy": envoy_retry(c)}}
            for n, c in enumerate(CONDITIONS)
        ]
        with envoy(routes, [cluster("c", [server.port])]) as client:
            for path in paths:
                theirs[path] = facts(client.get(path))[:2]
        attempts_there = Counter(seen["path"] for seen in server.seen)
        server.seen.clear()
        rules = [
            {
                "match": [{"uri": {"prefix": f"/{n}/"}}],
                "route": [to("reviews")],
                "retries": {"attempts": 2, "retryOn": c, "backoff": "1ms"},
            }
            for n, c in enumerate(CONDITIONS)
        ]
        resources = [service("reviews"), pod("reviews", "v1", server.port), virtual_service("reviews", *rules)]
        with meshlib.Mesh.from_resources(resources) as mesh, mesh.client(local_replies="respond") as client:
            for path in paths:
                # a connection of its own for each: what a kept-alive one adds is tested elsewhere and listed in parity.md
                mesh._core.upstream.close_idle()
                ours[path] = facts(client.get(f"http://reviews:9080{path}"))[:2]
        attempts_here = Counter(seen["path"] for seen in server.seen)
    assert ours == theirs
    assert attempts_here == attempts_there
    assert {1, 3} == set(attempts_here.values())
