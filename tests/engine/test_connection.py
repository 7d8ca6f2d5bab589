"""The exchange of a connection: one attempt, what it holds while it lasts, and what outlier detection hears of it."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.engine.call import Call
from meshlib.engine.connection import connection
from meshlib.engine.drivers import finish
from meshlib.engine.effects import Deliver, Send
from meshlib.engine.live import Live
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.route import route_connection
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.mesh_config import mesh_config
from tests.support.resources import destination_rule, service_entry
from tests.support.scripted import Bench, FakeRequest

CLUSTER = "outbound|5432||db.test"


class Connections(Bench):
    """Connections through a mesh, one by one."""

    def __init__(self, *more: dict[str, Any], endpoints: int = 1) -> None:
        entry = service_entry(
            "db",
            "db.test",
            ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}],
            endpoints=[{"address": f"10.0.0.{n + 1}"} for n in range(endpoints)],
        )
        super().__init__(entry, *more)

    def apply(self, *resources: dict[str, Any]) -> None:
        result = load_objects(resources)
        assert not result.errors, result.errors
        snapshot = compile_snapshot(result.resources, Workload(), https_rules="istio")
        self.live = Live(snapshot, self.clock.now, self.live)

    def asked(self, authority: str = "db.test:5432") -> tuple[Call, Any]:
        assert self.live is not None
        call = Call(FakeRequest("CONNECT", "http", authority, "", {}), self.live, self.clock, self.rng)
        call.record = route_connection(self.live.snapshot, authority)
        return call, connection(call)

    def made(self, outcome: Outcome, authority: str = "db.test:5432") -> tuple[Call, Any, Outcome]:
        """One whose attempt comes to ``outcome``, and what is delivered."""
        call, exchange = self.asked(authority)
        effect = next(exchange)
        if type(effect) is Send:
            effect.outcome = outcome
            effect = next(exchange)
        assert type(effect) is Deliver
        return call, exchange, effect.outcome


def policy(**traffic: Any) -> dict[str, Any]:
    rule = destination_rule("db.test", **traffic)
    rule["metadata"]["name"] = "db"
    return rule


GOOD = Outcome(status=200)


def test_a_connection_counts_among_its_endpoints_requests_until_it_is_over():
    b = Connections()
    call, exchange, delivered = b.made(GOOD)
    state = b.state(CLUSTER)
    assert (delivered.status, call.record.endpoint, call.record.flags) == (200, "10.0.0.1:5432", "")
    assert state.active == 1
    finish(exchange)
    assert state.active == 0


def test_one_more_than_max_connections_is_turned_away_at_once_and_a_place_comes_back():
    b = Connections(policy(connectionPool={"tcp": {"maxConnections": 1}}))
    _, first, _ = b.made(GOOD)
    call, second, refused = b.made(GOOD)
    assert (refused.status, call.record.flags, call.record.endpoint) == (503, "UO", "")
    finish(second)
    finish(first)
    assert b.made(GOOD)[2].status == 200


@pytest.mark.parametrize("failure", [Failure.CONNECT_FAILED, Failure.CONNECT_TIMEOUT])
def test_a_failed_connection_is_not_tried_again_and_held_against_its_endpoint(failure):
    detection = {"consecutive5xxErrors": 1, "maxEjectionPercent": 100}
    b = Connections(policy(outlierDetection=detection))
    call, exchange, delivered = b.made(Outcome(failure))
    assert (delivered.failure, call.record.flags) == (failure, "UF")
    finish(exchange)
    call, _, delivered = b.made(GOOD)
    assert (delivered.status, call.record.flags) == (503, "UH")


def test_a_failed_connection_is_kept_as_an_attempt_with_why_it_failed():
    b = Connections()
    call, _, _ = b.made(Outcome(Failure.CONNECT_FAILED, "nobody listens there"))
    assert [(each.endpoint, each.failure, each.detail) for each in call.record.attempts] == [
        ("10.0.0.1:5432", "connect_failed", "nobody listens there")
    ]


def test_a_connection_that_is_made_ends_a_row_of_failures():
    b = Connections(policy(outlierDetection={"consecutive5xxErrors": 2, "maxEjectionPercent": 100}))
    for outcome in (Outcome(Failure.CONNECT_FAILED), GOOD, Outcome(Failure.CONNECT_FAILED)):
        finish(b.made(outcome)[1])
    assert b.made(GOOD)[2].status == 200


def resilience(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {"host": "db.test", **spec},
    }


BREAKER = {"failureThreshold": 2, "resetTimeout": "30s"}


def test_the_circuit_breaker_of_a_resilience_policy_opens_for_failed_connections_and_closes_for_one_that_is_made():
    b = Connections(resilience(circuitBreaker=BREAKER))
    for _ in range(2):
        finish(b.made(Outcome(Failure.CONNECT_FAILED))[1])
    call, exchange, refused = b.made(GOOD)
    assert (refused.status, call.record.flags, call.record.endpoint) == (503, "UO", "")
    finish(exchange)
    b.clock.advance(31)
    call, exchange, made = b.made(GOOD)
    assert (made.status, call.record.flags) == (200, "")
    assert b.made(GOOD)[2].status == 200


def test_in_shadow_it_only_counts():
    b = Connections(resilience(circuitBreaker={**BREAKER, "mode": "shadow"}))
    for _ in range(3):
        finish(b.made(Outcome(Failure.CONNECT_FAILED))[1])
    assert b.made(GOOD)[2].status == 200
    assert b.live.guards["db.test"].counts["circuitBreaker", "would have refused"] == 2


def test_a_trial_that_nobody_waits_for_any_more_is_none():
    b = Connections(resilience(circuitBreaker=BREAKER))
    for _ in range(2):
        finish(b.made(Outcome(Failure.CONNECT_FAILED))[1])
    b.clock.advance(31)
    _, exchange = b.asked()
    assert type(next(exchange)) is Send
    exchange.close()
    assert b.made(GOOD)[2].status == 200


def test_what_else_a_resilience_policy_says_is_of_calls():
    b = Connections(resilience(bulkhead={"maxConcurrent": 1}, adaptiveConcurrency={}))
    made = [b.made(GOOD) for _ in range(5)]
    assert [outcome.status for _, _, outcome in made] == [200] * 5


def test_one_that_nobody_waits_for_any_more_gives_everything_back():
    b = Connections(policy(connectionPool={"tcp": {"maxConnections": 1}}))
    _, exchange = b.asked()
    next(exchange)
    exchange.close()
    state = b.state(CLUSTER)
    assert (state.active, state.slots.in_use, state.tally.results["abandoned"]) == (0, 0, 1)


def test_a_host_outside_the_mesh_is_dialled_as_it_is_named():
    b = Connections()
    call, exchange = b.asked("elsewhere.test:25")
    send = next(exchange)
    assert (send.endpoint.endpoint.address, send.endpoint.endpoint.port) == ("elsewhere.test", 25)
    exchange.close()
    assert call.record.virtual_host is b.live.snapshot.passthrough


def test_a_host_outside_is_502_where_only_the_registry_is_allowed():
    b = Connections(mesh_config(outboundTrafficPolicy={"mode": "REGISTRY_ONLY"}))
    assert b.made(GOOD, "elsewhere.test:25")[2].status == 502
