"""A rate-limit service that is asked over real connections, on threads and on asyncio: it counts for policies and for
EnvoyFilters; killed, slow or lying, requests are let through and counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.free_ports import free_port
from meshlib.engine.drivers import finish, run_async
from meshlib.engine.effects import Ended
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from tests.support.evil_server import EvilServer
from tests.support.inbound import envoy_filter
from tests.support.protection import Door, protection
from tests.support.rate_limit_server import HOST, OK, OVER, entry, serving
from tests.support.rate_limits import insert, route

GLOBAL_TYPE = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit"
LONG = "60s"
"""A deadline that a busy machine keeps."""


def policy(timeout: str = LONG, **limit: Any) -> dict[str, Any]:
    storage = {"rateLimitService": {"host": HOST, "port": 8081, "domain": "shop"}, "timeout": timeout}
    return protection(rateLimits=[{"requests": 5, "per": "1m", "key": "remoteIp", "storage": storage, **limit}])


def patches(timeout: str = LONG, **more: Any) -> dict[str, Any]:
    service = {
        "grpc_service": {"envoy_grpc": {"cluster_name": f"outbound|8081||{HOST}"}},
        "transport_api_version": "V3",
    }
    config = {"domain": "shop", "timeout": timeout, "rate_limit_service": service, **more}
    by_path = [{"actions": [{"request_headers": {"header_name": ":path", "descriptor_key": "PATH"}}]}]
    inserted = insert(config, name="envoy.filters.http.ratelimit", kind=GLOBAL_TYPE)
    return envoy_filter("limits", inserted, route(None, by_path))


@pytest.fixture(params=["threads", "asyncio"])
def ask(request: Any) -> Iterator[Any]:
    """How a request is served: what refused it."""
    if request.param == "threads":
        yield lambda door, path="/a", **view: door.ask(path, peer="10.0.0.1:5", **view)
        return

    async def served(door: Door, path: str = "/a", **view: Any) -> Refusal | None:
        call = door.server.call(InboundRequest("GET", path, peer="10.0.0.1:5", **view))
        exchange = door.server.exchange(call)
        refusal = (await run_async(exchange, door.server.awaited)).refusal
        finish(exchange, None if refusal is not None else Ended(200))
        return refusal

    with asyncio.Runner() as runner:
        yield lambda door, path="/a", **view: runner.run(served(door, path, **view))
        runner.run(asyncio.sleep(0.01))  # what the closed mesh has left to the loop


def over(_asked: Any) -> dict[str, Any]:
    status = {
        "code": "OVER_LIMIT",
        "currentLimit": {"requestsPerUnit": 5, "unit": "MINUTE"},
        "durationUntilReset": "12.5s",
    }
    return OVER | {"statuses": [status], "responseHeadersToAdd": [{"key": "x-why", "value": "shop"}]}


def test_a_policys_limit_is_counted_by_the_service_with_its_rate(ask):
    verdicts = [OK, over(None)]
    with serving(lambda _asked: verdicts.pop(0)) as (port, seen), Door(entry(port), policy()) as door:
        assert ask(door) is None
        refusal = ask(door)
        assert refusal is not None
        assert (refusal.status, refusal.flag) == (429, "RL")
        assert (b"retry-after", b"13") in refusal.headers
        (descriptor,) = seen[0].descriptors
        assert seen[0].domain == "shop"
        assert [(e.key, e.value) for e in descriptor.entries] == [("remote_address", "10.0.0.1")]
        assert (descriptor.limit.requests_per_unit, descriptor.limit.unit) == (5, 2)
        assert door.counts == {"rateLimits: refused": 1}


def test_envoys_filter_asks_with_the_descriptors_of_the_route_and_obeys(ask):
    verdicts = [OK | {"requestHeadersToAdd": [{"key": "x-tier", "value": "free"}]}, over(None)]
    told = {"enable_x_ratelimit_headers": "DRAFT_VERSION_03"}
    with serving(lambda _asked: verdicts.pop(0)) as (port, seen), Door(entry(port), patches(**told)) as door:
        assert ask(door) is None
        refusal = ask(door, query="q=1")
        assert refusal is not None
        assert (refusal.status, refusal.content, refusal.grpc, refusal.flag) == (429, b"", 14, "RL")
        assert refusal.headers == (
            (b"x-why", b"shop"),
            (b"x-ratelimit-limit", b"5, 5;w=60"),
            (b"x-ratelimit-remaining", b"0"),
            (b"x-ratelimit-reset", b"12"),
            (b"x-envoy-ratelimited", b"true"),
            (b"retry-after", b"13"),
        )
        assert [e.value for asked in seen for d in asked.descriptors for e in d.entries] == ["/a", "/a?q=1"]


def never(port: int) -> list[dict[str, Any]]:
    return [entry(port), patches("20ms")]


def test_a_service_that_is_killed_lets_through_and_is_counted(ask):
    with Door(entry(free_port()), patches("20ms"), policy("20ms")) as door:
        assert [ask(door) for _ in range(3)] == [None] * 3
        assert door.counts == {"rateLimits: failed open": 3, "ratelimit: failed open": 3}
        status = door.mesh.status()["protection"]
        assert status["services"][f"shop at {HOST}:8081"], "the operator reads why"


def test_a_service_that_is_slow_is_waited_for_no_longer_than_its_deadline(ask):
    over = threading.Event()
    with (
        serving(lambda _asked: over.wait(60) and OVER) as (port, _),
        Door(entry(port), patches("20ms")) as door,
    ):
        assert ask(door) is None, "before the service has responded"
        assert door.counts == {"ratelimit: failed open": 1}
        over.set()


@pytest.mark.parametrize(
    "said", [b"", b"\xff\xff\xff", b"\x08\x00", b"\x08\x09", b"\x12" + b"\x00" * 30, b"\0" * 300_000]
)
def test_a_service_that_lies_lets_through_and_is_counted(ask, said):
    with serving(lambda _asked: said) as (port, _), Door(entry(port), patches()) as door:
        assert ask(door) is None
        assert door.counts == {"ratelimit: failed open": 1}


def test_what_is_no_service_at_all_lets_through(ask):
    with EvilServer([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]) as server, Door(*never(server.port)) as door:
        assert ask(door) is None
        assert door.counts == {"ratelimit: failed open": 1}


def test_nobody_there_refuses_only_where_that_is_configured():
    with Door(entry(free_port()), patches("20ms", failure_mode_deny=True, status_on_error={"code": 503})) as door:
        call, _, refusal = door.begin("/a")
        assert refusal is not None
        assert (refusal.status, call.flags) == (503, "RLSE")
        assert door.counts == {"ratelimit: failed closed": 1}


def test_a_request_without_a_descriptor_asks_nobody():
    by_header = [{"actions": [{"request_headers": {"header_name": "x-gone", "descriptor_key": "k"}}]}]
    resource = patches()
    resource["spec"]["configPatches"][1] = route(None, by_header)
    with serving(lambda _asked: OVER) as (port, seen), Door(entry(port), resource) as door:
        assert door.ask() is None
        assert seen == []


def test_a_limit_in_shadow_asks_and_refuses_nothing():
    with serving(over) as (port, seen), Door(entry(port), policy(mode="shadow")) as door:
        assert door.ask() is None
        assert len(seen) == 1
        assert door.counts == {"rateLimits: would have refused": 1}
