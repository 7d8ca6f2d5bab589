"""Limits that count by the route, asked once, when it is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.engine.drivers import run
from meshlib.engine.inbound import CHECK_FAILED
from meshlib.engine.routed_limits import limits_of_route
from meshlib.transport.core import shared_limits
from tests.support.protection import Door, protection

REDIS = {"redis": {"url": "redis://127.0.0.1:1"}, "timeout": "30s"}


def by_route(requests: int = 1, **more: Any) -> dict[str, Any]:
    return {"key": "route", "requests": requests, "per": "1m", **more}


@pytest.fixture
def told():
    def made(*limits: dict[str, Any]) -> Door:
        door = Door(protection(rateLimits=list(limits)))
        door.server.routes_told = True
        return door

    return made


def status_of(door: Door, template: str, path: str = "/", **view: Any) -> int:
    call, exchange, refusal = door.begin(path, **view)
    assert refusal is None
    refusal, others = limits_of_route(call, template)
    if others is not None:
        refusal = run(others, door.server.blocking).refusal
    exchange.close()
    assert limits_of_route(call, template) == (None, None), "once a request"
    assert call.refusal is refusal
    return 0 if refusal is None else refusal.status


def test_each_route_has_its_bucket_whatever_the_paths(told):
    with told(by_route()) as door:
        assert [status_of(door, "/items/{id}", f"/items/{n}") for n in range(3)] == [0, 429, 429]
        assert status_of(door, "/other") == 0
        assert door.mesh.problems == []
        assert door.counts == {"rateLimits: refused": 2}


def test_what_counts_by_the_route_does_not_count_before_it_is_known(told):
    with told(by_route(), {"requests": 3, "per": "1m"}) as door:
        assert door.statuses(4) == [0, 0, 0, 429], "the other limit alone"


def test_grpc_has_its_method_at_once(told):
    with told(by_route()) as door:
        assert door.statuses(2, "/shop.Cart/Add", protocol="grpc") == [0, 429]
        assert door.statuses(1, "/shop.Cart/Get", protocol="grpc") == [0]


def test_where_nobody_tells_the_route_all_requests_share_a_bucket_and_that_is_a_notice():
    with Door(protection(rateLimits=[{"requests": 9}, by_route(2)])) as door:
        assert door.statuses(1, "/shop.Cart/Add", protocol="grpc") == [0]
        assert door.mesh.problems == [], "gRPC tells"
        assert [door.statuses(1, f"/items/{n}")[0] for n in range(3)] == [0, 0, 429]
        (problem,) = door.mesh.problems
        assert (problem.code, problem.severity, problem.path) == (
            "route-unknown",
            "notice",
            "spec.inbound.rateLimits[1].key",
        )
        assert "share one bucket" in problem.message


def test_where_a_fleet_counts_is_asked_after_what_counts_here(told, monkeypatch):
    in_memory = shared_limits.counting
    monkeypatch.setattr(shared_limits, "counting", lambda _url, clock: in_memory("memory://", clock))
    with told(by_route(1, storage=REDIS), by_route(3)) as door:
        door.clock.now = 0.0
        assert [status_of(door, "/items/{id}") for _ in range(4)] == [0, 429, 429, 429]
        assert status_of(door, "/other") == 0
        assert door.counts == {"rateLimits: refused": 3}


def test_a_storage_that_is_away_lets_through_and_is_counted(told):
    with told(by_route(1, storage=REDIS)) as door:
        assert [status_of(door, "/items/{id}") for _ in range(3)] == [0, 0, 0]
        assert door.counts == {"rateLimits: failed open": 3}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_what_fails_refuses_and_is_counted(told, where):
    with told(by_route()) as door:
        call, exchange, _ = door.begin()

        def raises(*_of: object) -> None:
            raise RuntimeError("a bug")
            yield

        call.route_limits = SimpleNamespace(
            here=raises if where == "elsewhere" else lambda *_: next(raises()),
            elsewhere=raises,
            asks_others=True,
        )
        if where == "elsewhere":
            call.route_limits.here = lambda *_: None
        refusal, others = limits_of_route(call, "/")
        if others is not None:
            refusal = run(others, door.server.blocking).refusal
        assert refusal is CHECK_FAILED
        assert call.failures.count == 1
        exchange.close()


def test_in_shadow_it_is_counted_and_lets_through(told):
    with told(by_route(mode="shadow")) as door:
        assert [status_of(door, "/a"), status_of(door, "/a")] == [0, 0]
        assert door.counts == {"rateLimits: would have refused": 1}
